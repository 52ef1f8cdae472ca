// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// out_of_memory determines the constraint before it looks for a victim, and a node on which
// nothing can be killed panics (mm/oom_kill.c). So an invocation without a constraint that
// chose nothing found the OOM killer turned off for suspend.
func TestAnInvocationWithoutASearchIsOfASuspendingNode(t *testing.T) {
	a, c := proc(10, "a"), leafToRoot(1000, kernel.NoLimit)

	for name, test := range map[string]struct {
		limiter    kernel.Memcg
		constraint kernel.Constraint
		order      int32
		want       events.Outcome
	}{
		"node":                              {kernel.Memcg{}, kernel.ConstraintNone, 0, events.OutcomeSuspending},
		"cgroup":                            {c[0], kernel.ConstraintMemcg, 0, events.OutcomeNoKillable},
		"a cgroup, while the node suspends": {c[0], kernel.ConstraintNone, 0, events.OutcomeSuspending},
		"sysrq-f":                           {kernel.Memcg{}, kernel.ConstraintNone, -1, events.OutcomeNoKillable},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, events.TierFentry)
			m.oomKills(a, a, c) // of a cgroup, just before
			m.invocation = 0

			for _, count := range []uint64{1, 40} {
				meta := m.meta(a)
				m.record(kernel.OOMReturn{
					Meta: meta, Outcome: events.OutcomeNoKillable, Count: count, FirstNS: meta.BootNS, LastNS: meta.BootNS,
					Limiter: test.limiter.Key, LimiterMemcg: test.limiter, Constraint: test.constraint,
					Order: test.order, AllocKnown: count == 1,
				})
			}

			m.settle()

			if test.want == events.OutcomeNoKillable && test.limiter.Key.ID != 0 {
				if inc := m.one(); inc.Passes.NoKillable != 40 { // it belongs to the kill
					t.Errorf("got passes %+v, want 40 without a killable process", inc.Passes)
				}

				return
			}

			if len(m.all) != 2 {
				t.Fatalf("got %d incidents, want the kill and one more", len(m.all))
			}

			inc := m.all[1]

			passes := inc.Passes.NoKillable
			if test.want == events.OutcomeSuspending {
				passes = inc.Passes.Suspending
			}

			if inc.Outcome != test.want || passes != 40 {
				t.Errorf("got outcome %s, passes %+v, want %s 40 times", inc.Outcome, inc.Passes, test.want)
			}
		})
	}
}
