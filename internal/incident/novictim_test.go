// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

func TestInvocationsWithoutAVictim(t *testing.T) {
	a := proc(10, "a")
	c := leafToRoot(1000, kernel.NoLimit)
	// firstNS 0 is the time of the record.
	sendSince := func(m *host, firstNS uint64, outcome events.Outcome, count uint64) {
		meta := m.meta(a)
		m.record(kernel.OOMReturn{
			Meta: meta, Outcome: outcome, Count: count, FirstNS: cmp.Or(firstNS, meta.BootNS), LastNS: meta.BootNS,
			Limiter: c[0].Key, LimiterMemcg: c[0], Constraint: kernel.ConstraintMemcg, AllocKnown: true,
		})
	}
	send := func(m *host, outcome events.Outcome, count uint64) { sendSince(m, 0, outcome, count) }
	killed := func(m *host) {
		m.oomKills(a, a, c)
		m.invocation = 0
	}

	t.Run("no killable task", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		send(m, events.OutcomeNoKillable, 1)

		if inc := m.one(); inc.Outcome != events.OutcomeNoKillable || inc.Limiter.Cgroup.ID != 100 {
			t.Errorf("got %+v, want no_killable_task of 100", inc)
		}

		send(m, events.OutcomeNoKillable, 500)
		send(m, events.OutcomeNoKillable, 2000)
		m.settle()

		if inc := m.one(); inc.Passes.NoKillable != 2000 {
			t.Errorf("got passes %+v, want NoKillable 2000", inc.Passes)
		}
	})
	t.Run("a count is read before an older one", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		send(m, events.OutcomeNoKillable, 1)
		older := m.meta(a)

		read := m.meta(a)
		for _, r := range []kernel.OOMReturn{
			{Meta: read, Count: 173, LastNS: read.BootNS},
			{Meta: older, Count: 71, LastNS: older.BootNS, LimiterMemcg: c[0], AllocKnown: true},
		} {
			r.Outcome, r.Limiter, r.Constraint, r.FirstNS = events.OutcomeNoKillable, c[0].Key, kernel.ConstraintMemcg, older.BootNS
			m.record(r)
		}

		m.settle()

		if inc := m.one(); inc.Passes.NoKillable != 173 {
			t.Errorf("got passes %+v, want NoKillable 173", inc.Passes)
		}
	})
	later := func(m *host, ns uint64) {
		for range ns / (500 * ms) {
			m.idle(500 * ms)
		}
	}

	t.Run("a second run, an hour later", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		send(m, events.OutcomeNoKillable, 1)
		first := m.now
		later(m, 3600e9)

		for _, count := range []uint64{2, 500, 900} {
			sendSince(m, first, events.OutcomeNoKillable, count)
			later(m, 1e9)
		}

		m.settle()

		if len(m.all) != 2 || m.all[1].Passes.NoKillable != 899 {
			t.Fatalf("got %d incidents, the last with %+v, want 2, the last with 899", len(m.all), m.all[len(m.all)-1].Passes)
		}

		if apart := m.all[1].Time.Sub(m.all[0].Time); apart < time.Hour {
			t.Errorf("got the second incident %v after the first, want an hour or more", apart)
		}
	})
	t.Run("a run of two minutes", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		for i := range uint64(120) {
			send(m, events.OutcomeNoKillable, 100*(i+1))
			later(m, 1e9)
		}

		m.settle()

		if inc := m.one(); inc.Passes.NoKillable != 12000 {
			t.Errorf("got passes %+v, want NoKillable 12000", inc.Passes)
		}
	})
	t.Run("long after a kill, of an older repeat count", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		send(m, events.OutcomeNoKillable, 1)
		old := m.now
		later(m, 20e9)
		killed(m)
		later(m, 30e9)
		sendSince(m, old, events.OutcomeNoKillable, 81)
		m.settle()

		if len(m.all) != 3 || m.all[2].Outcome != events.OutcomeNoKillable {
			t.Errorf("got %d incidents, want 3, the last without a killable task", len(m.all))
		}
	})
	t.Run("waiting for the victim", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		killed(m)
		send(m, events.OutcomeWaiting, 1)
		send(m, events.OutcomeWaiting, 300)
		m.settle()

		if inc := m.one(); inc.Passes.Waiting != 300 || inc.Passes.Killed != 1 {
			t.Errorf("got passes %+v, want Waiting 300 and Killed 1", inc.Passes)
		}
	})
	t.Run("once more after the kill", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		killed(m)
		send(m, events.OutcomeNoKillable, 1)
		m.settle()

		if inc := m.one(); inc.Passes.NoKillable != 1 {
			t.Errorf("got passes %+v, want NoKillable 1", inc.Passes)
		}
	})
	t.Run("beyond the bound after the kill", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		killed(m)
		send(m, events.OutcomeNoKillable, 1)
		send(m, events.OutcomeNoKillable, 400)
		m.settle()

		if len(m.all) != 2 || m.all[1].Outcome != events.OutcomeNoKillable {
			t.Errorf("got %d incidents, want 2, the last without a killable task", len(m.all))
		}
	})
}

// A count that is read from the map has no details, and an incident may start with it:
// the kernel side evicts counts from its map, and sends at most one record a second.
func TestACountWithoutDetailsNamesItsLimiter(t *testing.T) {
	a, c := proc(10, "a"), leafToRoot(1000, kernel.NoLimit)

	for _, test := range []struct {
		name    string
		limiter events.CgroupKey
		want    string // path
	}{
		{"a cgroup", c[0].Key, "/parent/leaf"},
		{"the node", events.CgroupKey{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newHost(t, events.TierFentry)
			m.tree.Learn(c[0].Key, "/parent/leaf")

			r := kernel.OOMReturn{Meta: m.meta(a), Outcome: events.OutcomeWaiting, Limiter: test.limiter, Count: 1, AllocKnown: true}
			if test.limiter.ID != 0 {
				r.LimiterMemcg, r.Constraint = c[0], kernel.ConstraintMemcg
			} else {
				r.Constraint = kernel.ConstraintNone
			}
			r.FirstNS, r.LastNS = r.BootNS, r.BootNS
			m.record(r)
			m.idle(11e9)

			read := kernel.OOMReturn{Meta: kernel.Meta{BootNS: m.now}, Outcome: r.Outcome, Limiter: r.Limiter, Constraint: r.Constraint}
			read.Count, read.FirstNS, read.LastNS = 2, m.now, m.now
			m.record(read)
			m.settle()

			if len(m.all) != 2 {
				t.Fatalf("got %d incidents, want 2", len(m.all))
			}

			inc := m.all[1]
			if test.limiter.ID == 0 {
				if inc.Scope != events.ScopeGlobal || inc.Limiter == nil || inc.Limiter.Cgroup != nil {
					t.Errorf("got scope %s, limiter %+v, want the node", inc.Scope, inc.Limiter)
				}

				return
			}

			l := inc.Limiter
			if inc.Scope != events.ScopeMemcg || l == nil || l.Cgroup == nil || l.Cgroup.CgroupKey != test.limiter {
				t.Fatalf("got scope %s, limiter %+v, want cgroup %+v", inc.Scope, inc.Limiter, test.limiter)
			}

			if inc.Limiter.Cgroup.Path != test.want || inc.Limiter.LimitBytes != nil {
				t.Errorf("got limiter %+v, want path %s without counters", inc.Limiter, test.want)
			}

			for _, key := range []string{"limiter.limit_bytes", "limiter.usage_bytes", "limiter.swap_limit_bytes", "trigger"} {
				if !slices.Contains(inc.Unknown, key) {
					t.Errorf("got unknown %v, want %s among them", inc.Unknown, key)
				}
			}
		})
	}
}
