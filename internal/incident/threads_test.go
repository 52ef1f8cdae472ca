// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

func (m *host) marked(trigger, victim kernel.Task, c []kernel.Memcg, reclaim kernel.Reclaim) {
	m.kill(trigger, victim, true, false)
	m.record(kernel.VictimChosen{
		Meta: m.meta(trigger), Ancestry: c, LimiterIndex: kernel.LimiterUnknown, Victim: victim,
		LastReclaim: reclaim,
	})
	m.mark(trigger, victim)
}

func TestTracepointsConcludeTheLimiter(t *testing.T) {
	seeds := func(cfg *Config) {
		cfg.OOMLocal = map[events.CgroupKey]uint64{{ID: 100}: 4, {ID: 50}: 2, {ID: 1}: 0}
	}
	a := proc(10, "a")

	counted := func(leaf, parent uint64) []kernel.Memcg {
		c := leafToRoot(1000, 1000)
		c[0].OOMLocal, c[1].OOMLocal = leaf, parent

		return c
	}
	for _, test := range []struct {
		name    string
		counts  []kernel.Memcg
		reclaim kernel.Reclaim
		kthread bool
		scope   events.Scope
		limiter uint64
		unsure  string
	}{
		{"the leaf's count grew", counted(5, 2), kernel.ReclaimMemcg, false, events.ScopeMemcg, 100, ""},
		{"the parent's count grew", counted(4, 3), kernel.ReclaimMemcg, false, events.ScopeMemcg, 50, ""},
		{"both counts grew", counted(5, 3), kernel.ReclaimMemcg, false, events.ScopeMemcg, 100, "limiter"},
		{"node", counted(4, 2), kernel.ReclaimGlobal, false, events.ScopeGlobal, 0, "constraint"},
		{"node, although a limit was also hit", counted(5, 2), kernel.ReclaimGlobal, false, events.ScopeGlobal, 0, "constraint"},
		{"sysrq", counted(4, 2), kernel.ReclaimNone, true, events.ScopeSysrq, 0, ""},
		{"no evidence", counted(4, 2), kernel.ReclaimNone, false, events.ScopeUnknown, 0, "scope"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newHost(t, events.TierTracepoint, seeds)

			trigger := a
			if test.kthread {
				trigger = kernel.Task{TGID: 5, TID: 5, Comm: "kworker/0:1", LeaderComm: "kworker/0:1", Kthread: true}
			}

			m.marked(trigger, a, test.counts, test.reclaim)
			m.settle()
			inc := m.one()

			var limiter uint64
			if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
				limiter = inc.Limiter.Cgroup.ID
			}

			if inc.Scope != test.scope || limiter != test.limiter {
				t.Errorf("got scope %s, limiter %d, want %s, %d", inc.Scope, limiter, test.scope, test.limiter)
			}

			if test.unsure != "" && !slices.Contains(inc.Unknown, test.unsure) {
				t.Errorf("got unknown %q, want %s in it", inc.Unknown, test.unsure)
			}

			for _, name := range []string{"allocation.gfp", "victims.points", "memory"} {
				if !slices.Contains(inc.Unknown, name) {
					t.Errorf("got unknown %q, want %s in it", inc.Unknown, name)
				}
			}

			if inc.Audit == nil || !inc.Audit.Explained {
				t.Errorf("got audit %+v, want it explained", inc.Audit)
			}
		})
	}
}

func TestTracepointsJoinAGroupKill(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
	a, b, other := proc(10, "a"), proc(11, "b"), proc(12, "c")
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMLocal, c[0].OOMGroup = 1, true
	other.Cgroup.ID = 77 // outside of the group

	m.marked(a, a, c, kernel.ReclaimMemcg)
	m.marked(a, b, c, kernel.ReclaimMemcg)
	m.kill(a, a, true, false)     // the chosen one again, without a mark
	m.kill(a, other, false, true) // shares the memory of b
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen group shared_mm" || inc.Audit.KernelKills != 3 || !inc.Audit.Explained {
		t.Errorf("got roles %s, audit %+v, want chosen group shared_mm and 3 kills, explained", roles(inc), inc.Audit)
	}
}

func TestTracepointsSeparateKillsOfOneThread(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})

	a, b, c := proc(10, "a"), proc(11, "b"), proc(12, "c")
	for i, victim := range []kernel.Task{a, b} {
		ch := leafToRoot(1000, kernel.NoLimit)
		ch[0].OOMLocal = uint64(i + 1)
		m.marked(c, victim, ch, kernel.ReclaimMemcg)
	}

	m.settle()

	if len(m.all) != 2 {
		t.Errorf("got %d incidents, want 2: the limit was hit twice", len(m.all))
	}
}

func TestMarkWithoutAKillIsAlreadyExiting(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")
	m.mark(a, a)
	m.settle()

	if inc := m.one(); inc.Outcome != events.OutcomeAlreadyExiting || len(inc.Victims) != 0 {
		t.Errorf("got %+v, want already_exiting without a victim", inc)
	}

	// The init of a pid namespace kills without marks.
	m.kill(a, proc(11, "b"), false, false)
	m.settle()
	m.one()
}

// TestIdleWaitsForRecordsThatWereNotRead: records are read seconds after they were made,
// and Idle is called in between.
func TestIdleWaitsForRecordsThatWereNotRead(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
	a := proc(10, "a")
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMLocal = 1

	m.kill(a, a, true, false)

	for ahead := uint64(1); ahead <= 5; ahead++ {
		if _, err := m.c.Idle(m.now+ahead*1000*ms, false); err != nil {
			t.Fatal(err)
		}
	}

	m.record(kernel.VictimChosen{
		Meta: m.meta(a), Ancestry: c, Victim: a,
		LimiterIndex: kernel.LimiterUnknown, LastReclaim: kernel.ReclaimMemcg,
	})
	m.mark(a, a)
	m.now += 6000 * ms
	m.settle()

	if inc := m.one(); inc.Outcome != events.OutcomeKilled || !inc.Audit.Explained {
		t.Errorf("got %+v, want one kill, explained", inc)
	}
}

func TestTracepointsReportPendingKillsInTheOrderOfTime(t *testing.T) {
	m := newHost(t, events.TierTracepoint)

	for i := range uint32(20) {
		trigger, victim := proc(1000-i, "t"), proc(10+i, "a")
		c := leafToRoot(1000, kernel.NoLimit)
		c[0].OOMLocal = uint64(i + 1)
		m.marked(trigger, victim, c, kernel.ReclaimMemcg)
	}

	m.settle()

	for i, inc := range m.all {
		if got, want := inc.Victims[0].PID, 10+i; got != want {
			t.Errorf("incident %d: got victim %d, want %d", i, got, want)
		}
	}

	if len(m.all) != 20 {
		t.Errorf("got %d incidents, want 20", len(m.all))
	}
}
