// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

func TestKillAtTheLimitOfTheLeaf(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")
	m.invocation = 7
	c := leafToRoot(1000, kernel.NoLimit)
	m.chooses(a, a, c, 0, kernel.ConstraintMemcg)

	if len(m.headline) != 0 {
		t.Error("got a headline before the kill, want none: the victim may already be exiting")
	}

	m.kill(a, a, true, false)

	if len(m.headline) != 1 {
		t.Errorf("got %d headlines at the first victim, want 1", len(m.headline))
	}

	m.mark(a, a)
	m.returns(a, events.OutcomeKilled, c[0])

	if len(m.all) != 1 {
		t.Fatalf("got %d incidents at the return of out_of_memory, want 1", len(m.all))
	}

	m.gone(10)
	m.settle()

	inc := m.one()
	if inc.Scope != events.ScopeMemcg || inc.Outcome != events.OutcomeKilled || inc.ID != m.headline[0] {
		t.Errorf("got scope %s, outcome %s, id %s, want memcg, killed, %s", inc.Scope, inc.Outcome, inc.ID, m.headline[0])
	}

	if l := inc.Limiter; l.Cgroup.ID != 100 || *l.LimitBytes != 1000*page || l.Which != "memory.max" || l.Cgroup.Path != "/parent/leaf" {
		t.Errorf("got limiter %+v, %+v, want memory.max of /parent/leaf", l, l.Cgroup)
	}

	if len(inc.Ladder) != 2 || inc.Ladder[1].MaxBytes != nil || inc.Ladder[0].Below {
		t.Errorf("got ladder %+v, want the limiter and a parent without a limit", inc.Ladder)
	}

	v := inc.Victims[0]
	if v.PID != 10 || v.Role != events.RoleChosen || *v.Points != 900 || *v.AnonRSSBytes != 900*page {
		t.Errorf("got victim %+v, want 10, chosen with 900 points and 900 pages", v)
	}

	if v.ExitAfterNS == nil || v.ReleasedAfterNS == nil || *v.ReleasedAfterNS-*v.ExitAfterNS != ms {
		t.Errorf("got exit %v and release %v, want 1 ms between them", v.ExitAfterNS, v.ReleasedAfterNS)
	}

	if a := inc.Audit; a == nil || !a.Explained || *a.MemcgDelta != 1 || a.Text != "1 victim; oom_kill +1" {
		t.Errorf("got audit %+v, want one kill, explained", a)
	}

	if len(m.findings) != 0 {
		t.Errorf("got findings %q, want none", m.findings)
	}
}

func TestGroupKillAtTheLimitOfAParent(t *testing.T) {
	m := newHost(t, events.TierKprobe)
	a, b := proc(10, "a"), proc(11, "b")
	m.invocation = 1
	c := leafToRoot(kernel.NoLimit, 1000)
	c[1].OOMGroup = true
	m.chooses(b, a, c, 1, kernel.ConstraintMemcg)
	m.kill(b, a, true, false)
	m.mark(b, a)
	m.kill(b, b, true, false) // the members, the chosen one among them again
	m.mark(b, b)
	m.kill(b, a, true, false)
	m.returns(b, events.OutcomeKilled, c[1])
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen group" {
		t.Errorf("got roles %s, want chosen group", roles(inc))
	}

	if inc.Limiter.Cgroup.ID != 50 || !inc.Ladder[0].Below || inc.Ladder[1].Below {
		t.Errorf("got limiter %+v, ladder %+v, want limiter 50 with the leaf below it", inc.Limiter.Cgroup, inc.Ladder)
	}

	if inc.Killer.Path != "group" || inc.Killer.GroupCgroup.ID != 50 {
		t.Errorf("got killer %+v, want a group kill of 50", inc.Killer)
	}

	if a := inc.Audit; *a.VMStatDelta != 3 || a.KernelKills != 3 || !strings.Contains(a.Text, "twice") {
		t.Errorf("got audit %+v, want 3 kills, one of them repeated", a)
	}

	if inc.Trigger.PID != 11 {
		t.Errorf("got trigger %+v, want 11", inc.Trigger)
	}
}

func TestProcessesThatShareMemoryAreVictimsButNotCounted(t *testing.T) {
	for _, shares := range []bool{true, false} { // false: its leader has exited
		m := newHost(t, events.TierFentry)
		a, b := proc(10, "a"), proc(11, "b")
		m.invocation = 1
		c := leafToRoot(1000, kernel.NoLimit)
		m.chooses(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.mark(a, a)
		m.kill(a, b, false, shares)
		m.returns(a, events.OutcomeKilled, c[0])
		m.settle()

		if inc := m.one(); roles(inc) != "chosen shared_mm" {
			t.Errorf("sharing seen %v: got roles %s, want chosen shared_mm", shares, roles(inc))
		}
	}
}

func TestOtherSIGKILLsAreNoIncident(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a, b := proc(10, "a"), proc(11, "b")
	m.kill(a, b, false, false)                        // by the init of an ending pid namespace
	m.record(kernel.Kill{Meta: m.meta(a), Target: b}) // by a user
	m.record(kernel.Exit{Meta: m.meta(b), TGID: 11})  // its exit
	m.record(kernel.CgroupChange{Meta: m.meta(a), Op: "mkdir", Key: events.CgroupKey{ID: 5}, Path: "/x"})
	m.settle()

	if len(m.all) != 0 || len(m.headline) != 0 || len(m.findings) != 0 {
		t.Errorf("got incidents %v, findings %q, want none", m.all, m.findings)
	}
}

func TestChosenProcessThatIsAlreadyExitingIsNoVictim(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")
	m.invocation = 3
	c := leafToRoot(1000, kernel.NoLimit)
	m.chooses(a, a, c, 0, kernel.ConstraintMemcg)
	m.mark(a, a)
	m.returns(a, events.OutcomeAlreadyExiting, c[0])
	m.settle()

	inc := m.one()
	if inc.Outcome != events.OutcomeAlreadyExiting || len(inc.Victims) != 0 || len(m.headline) != 0 {
		t.Errorf("got %+v, want already_exiting without a victim or a headline", inc)
	}

	if inc.Exiting == nil || inc.Exiting.PID != 10 {
		t.Errorf("got exiting %+v, want process 10", inc.Exiting)
	}
}

func TestInvocationsInARowAreSeparateIncidents(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a, b := proc(10, "a"), proc(20, "b")
	b.Cgroup.ID = 200
	ca, cb := leafToRoot(1000, kernel.NoLimit), leafToRoot(1000, kernel.NoLimit)
	cb[0].Key.ID = 200
	m.invocation = 1
	m.chooses(a, a, ca, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false)
	m.returns(a, events.OutcomeKilled, ca[0])
	m.invocation = 2
	m.chooses(b, b, cb, 0, kernel.ConstraintMemcg)
	m.kill(b, b, true, false)
	m.returns(b, events.OutcomeKilled, cb[0])
	m.settle()

	if len(m.all) != 2 || m.all[0].Victims[0].PID != 10 || m.all[1].Victims[0].PID != 20 {
		t.Fatalf("got %d incidents, want one of 10 and one of 20", len(m.all))
	}

	for _, inc := range m.all {
		if !inc.Audit.Explained || *inc.Audit.VMStatDelta != 2 || inc.Audit.Incidents != 2 {
			t.Errorf("got audit %+v, want 2 kills over 2 incidents, explained", inc.Audit)
		}
	}
}

func TestLostRecordsCostOnlyTheirOwnFields(t *testing.T) {
	t.Run("the choice", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		a := proc(10, "a")
		m.invocation = 1
		c := leafToRoot(1000, kernel.NoLimit)

		m.kill(a, a, true, false)
		m.returns(a, events.OutcomeKilled, c[0])
		m.settle()

		inc := m.one()
		if inc.Limiter.Cgroup.ID != 100 || inc.Scope != events.ScopeMemcg || inc.Killer.Path != "unknown" ||
			!slices.Contains(inc.Unknown, "ladder") {
			t.Errorf("got %+v, want the limiter of the return, an unknown killer path and an unknown ladder", inc)
		}
	})
	t.Run("the return", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		a := proc(10, "a")
		m.invocation = 1
		m.chooses(a, a, leafToRoot(1000, kernel.NoLimit), 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.settle()
		m.one()
	})
	t.Run("the kill", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		a := proc(10, "a")
		m.invocation = 1
		m.kills++
		m.limiterKills++
		m.chooses(a, a, leafToRoot(1000, kernel.NoLimit), 0, kernel.ConstraintMemcg)
		m.returns(a, events.OutcomeKilled, leafToRoot(1000, kernel.NoLimit)[0])

		for range 200 {
			m.idle(100 * ms)
		}

		inc := m.one()
		if inc.Victims[0].PID != 10 || roles(inc) != "chosen" || inc.Limiter.Cgroup.ID != 100 || !inc.Audit.Explained {
			t.Errorf("got victims %+v, limiter %+v, audit %+v, want 10, limiter 100, explained", inc.Victims, inc.Limiter, inc.Audit)
		}

		if inc.Victims[0].OOMScoreAdj != nil || !slices.Contains(inc.Unknown, "victims.oom_score_adj") || len(m.headline) != 1 {
			t.Errorf("got oom_score_adj %v, unknown %q, %d headlines, want it unknown, and one headline",
				inc.Victims[0].OOMScoreAdj, inc.Unknown, len(m.headline))
		}
	})
	t.Run("the kill and the return", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		a := proc(10, "a")
		m.invocation = 1
		m.kills++
		m.chooses(a, a, leafToRoot(1000, kernel.NoLimit), 0, kernel.ConstraintMemcg)
		m.record(kernel.Mark{Meta: m.meta(a), PID: 10, Task: a, Killed: true})
		m.settle()

		if inc := m.one(); roles(inc) != "chosen" || inc.Limiter.Cgroup.ID != 100 || !inc.Audit.Explained {
			t.Errorf("got roles %s, limiter %+v, audit %+v, want chosen, limiter 100, explained", roles(inc), inc.Limiter, inc.Audit)
		}
	})
	t.Run("the choice and the kill", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		c := leafToRoot(1000, kernel.NoLimit)
		m.invocation, m.victim = 1, 10
		m.kills++
		m.returns(proc(9, "trigger"), events.OutcomeKilled, c[0])
		m.settle()

		if inc := m.one(); inc.Victims[0].PID != 10 || inc.Limiter.Cgroup.ID != 100 || !inc.Audit.Explained {
			t.Errorf("got victims %+v, limiter %+v, audit %+v, want 10, limiter 100, explained", inc.Victims, inc.Limiter, inc.Audit)
		}
	})
	t.Run("all but the kill, and the return comes late", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		a := proc(10, "a")
		m.invocation, m.victim = 1, 10
		m.kill(a, a, true, false)
		m.settle() // it is reported without its return
		m.returns(a, events.OutcomeKilled, leafToRoot(1000, kernel.NoLimit)[0])
		m.settle()
		m.one()
	})
}

func TestSysrqIsItsOwnScope(t *testing.T) {
	m := newHost(t, events.TierFentry)
	k := kernel.Task{TGID: 5, TID: 5, Comm: "kworker/0:1", LeaderComm: "kworker/0:1", Kthread: true}
	a := proc(10, "a")
	m.invocation = 1
	m.record(kernel.VictimChosen{
		Meta: m.meta(k), Constraint: kernel.ConstraintNone, LimiterIndex: -1, Victim: a,
		Ancestry: leafToRoot(kernel.NoLimit, kernel.NoLimit), AllocKnown: true, Order: -1, Sysrq: true,
	})
	m.kill(k, a, true, false)
	m.returns(k, events.OutcomeKilled, kernel.Memcg{})

	inc := m.one()
	if inc.Scope != events.ScopeSysrq || inc.Killer.Path != "sysrq" || !inc.Trigger.IsKernel || inc.Limiter.Level != events.LevelNode {
		t.Errorf("got %+v, want scope and killer sysrq, triggered by the kernel", inc)
	}
}

func TestConstraintOfAFutureKernelIsKept(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")
	m.invocation = 1
	m.chooses(a, a, leafToRoot(1000, kernel.NoLimit), -1, "constraint_4")
	m.kill(a, a, true, false)
	m.returns(a, events.OutcomeKilled, kernel.Memcg{})

	if inc := m.one(); inc.Scope != "constraint_4" || !slices.Contains(inc.Unknown, "limiter") {
		t.Errorf("got scope %s, unknown %q, want constraint_4 and an unknown limiter", inc.Scope, inc.Unknown)
	}
}

// TestSlowConsoleDoesNotSplitAnInvocation: the kernel writes its report between the
// choice and the kill, which takes seconds on a serial console.
func TestSlowConsoleDoesNotSplitAnInvocation(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")
	c := leafToRoot(1000, kernel.NoLimit)
	m.invocation = 1
	m.chooses(a, a, c, 0, kernel.ConstraintMemcg)

	for range 750 { // 8000 processes at 115200 baud
		m.idle(100 * ms)
	}

	m.kill(a, a, true, false)
	m.returns(a, events.OutcomeKilled, c[0])
	m.settle()

	if inc := m.one(); len(inc.Ladder) == 0 || inc.Victims[0].Points == nil {
		t.Errorf("got %+v, want the ladder and the points of the choice", inc)
	}
}
