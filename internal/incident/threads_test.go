// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// reclaim is what a thread last reclaimed for.
type reclaim struct {
	kind    kernel.Reclaim
	limiter int
	ns      uint64
}

// reclaims returns a reclaim that happens now, for the limit of the memcg with that index.
func (m *host) reclaims(limiter int) reclaim {
	m.now += 1000
	return reclaim{kernel.ReclaimMemcg, limiter, m.now}
}

// reclaimsNode returns a reclaim that happens now, from the node.
func (m *host) reclaimsNode() reclaim {
	m.now += 1000
	return reclaim{kernel.ReclaimGlobal, -1, m.now}
}

// noReclaim is of a thread that has not reclaimed.
var noReclaim = reclaim{limiter: kernel.LimiterUnknown}

// choosesAtMark is the record of a choice that is only seen at its mark.
func (m *host) choosesAtMark(trigger, victim kernel.Task, c []kernel.Memcg, last reclaim) kernel.VictimChosen {
	return kernel.VictimChosen{
		Meta: m.meta(trigger), Ancestry: c, Victim: victim,
		LimiterIndex: last.limiter, LastReclaim: last.kind, ReclaimNS: last.ns,
	}
}

// marked is a kill of which only tracepoints are seen.
func (m *host) marked(trigger, victim kernel.Task, c []kernel.Memcg, last reclaim) {
	m.kill(trigger, victim, true, false)
	m.record(m.choosesAtMark(trigger, victim, c, last))
	m.mark(trigger, victim)
}

func worker(comm string) kernel.Task {
	return kernel.Task{TGID: 60, TID: 60, Comm: comm, LeaderComm: comm, Kthread: true}
}

// TestTracepointsKnowTheLimiter: the thread's last reclaim shows it, whatever else in the
// ancestry is full, and however long the kernel's report took.
func TestTracepointsKnowTheLimiter(t *testing.T) {
	a := proc(10, "a")

	for _, test := range []struct {
		name     string
		trigger  kernel.Task
		last     func(*host) reclaim
		nodes    []int // that the allocation may use
		policy   bool
		hardwall bool
		scope    events.Scope
		limiter  uint64
		unsure   []string
	}{
		{name: "leaf", last: func(m *host) reclaim { return m.reclaims(0) }, scope: events.ScopeMemcg, limiter: 100},
		{name: "parent, the leaf is full, too", last: func(m *host) reclaim { return m.reclaims(1) }, scope: events.ScopeMemcg, limiter: 50},
		{
			name: "parent, a minute of report ago", scope: events.ScopeMemcg, limiter: 50,
			last: func(m *host) reclaim {
				last := m.reclaims(1)
				m.idle(60e9)

				return last
			},
		},
		{
			name: "a memcg outside of the ancestry", scope: events.ScopeMemcg, unsure: []string{"limiter"},
			last: func(m *host) reclaim { return m.reclaims(kernel.LimiterUnknown) },
		},
		{name: "node", last: (*host).reclaimsNode, nodes: []int{0, 1}, scope: events.ScopeGlobal},
		{name: "cpuset", last: (*host).reclaimsNode, nodes: []int{1}, hardwall: true, scope: events.ScopeCpuset},
		{name: "memory of the kernel, which may leave its cpuset", last: (*host).reclaimsNode, nodes: []int{1}, scope: events.ScopeGlobal},
		{name: "memory policy", last: (*host).reclaimsNode, nodes: []int{0}, policy: true, scope: events.ScopeMempolicy},
		{
			name: "memory policy of all nodes", last: (*host).reclaimsNode, nodes: []int{0, 1}, policy: true, scope: events.ScopeGlobal,
			unsure: []string{"constraint"},
		},
		{name: "nodes that were not read", last: (*host).reclaimsNode, scope: events.ScopeGlobal, unsure: []string{"constraint"}},
		{name: "sysrq", trigger: worker("kworker/0:1"), scope: events.ScopeSysrq},
		{
			name: "sysrq, by a worker that reclaimed before", trigger: worker("kworker/0:1"), scope: events.ScopeSysrq,
			last: func(m *host) reclaim {
				last := m.reclaims(0)
				m.idle(3600e9)

				return last
			},
		},
		{
			name: "a worker that charges for others", trigger: worker("kworker/0:1"), scope: events.ScopeMemcg, limiter: 100,
			last: func(m *host) reclaim { return m.reclaims(0) },
		},
		{name: "kswapd", trigger: worker("kswapd0"), scope: events.ScopeGlobal},
		{
			name: "kswapd that charged before", trigger: worker("kswapd0"), scope: events.ScopeGlobal,
			last: func(m *host) reclaim { return m.reclaims(0) },
		},
		{name: "no evidence", scope: events.ScopeUnknown, unsure: []string{"scope", "limiter"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newHost(t, events.TierTracepoint, func(cfg *Config) { cfg.MemoryNodes = []int{0, 1} })

			trigger, last := a, noReclaim
			if test.trigger.Kthread {
				trigger = test.trigger
			}

			if test.last != nil {
				last = test.last(m)
			}

			m.kill(trigger, a, true, false)

			chosen := m.choosesAtMark(trigger, a, leafToRoot(1000, 1000), last)
			chosen.Nodes, chosen.NodesKnown, chosen.PolicyNodes = test.nodes, test.nodes != nil, test.policy
			chosen.Hardwall = test.hardwall
			m.record(chosen)
			m.mark(trigger, a)
			m.settle()

			inc := m.one()

			var limiter uint64
			if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
				limiter = inc.Limiter.Cgroup.ID
			}

			if inc.Scope != test.scope || limiter != test.limiter {
				t.Errorf("got scope %s, limiter %d, want %s, %d", inc.Scope, limiter, test.scope, test.limiter)
			}

			for _, name := range []string{"scope", "limiter", "constraint"} {
				if got, want := slices.Contains(inc.Unknown, name), slices.Contains(test.unsure, name); got != want {
					t.Errorf("got unknown %q, want %s in it: %v", inc.Unknown, name, want)
				}
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

// TestStackShowsSysrq: a worker that reclaimed a moment ago runs moom_callback.
func TestStackShowsSysrq(t *testing.T) {
	m := newHost(t, events.TierTracepoint, func(cfg *Config) {
		cfg.Symbol = func(address uint64) (string, bool) { return "moom_callback", address == 7 }
	})
	a, trigger := proc(10, "a"), worker("kworker/0:1")
	m.kill(trigger, a, true, false)

	chosen := m.choosesAtMark(trigger, a, leafToRoot(1000, 1000), m.reclaims(0))
	chosen.Stack = []uint64{5, 7}
	m.record(chosen)
	m.mark(trigger, a)
	m.settle()

	if inc := m.one(); inc.Scope != events.ScopeSysrq || inc.Limiter.Level != events.LevelNode {
		t.Errorf("got scope %s, limiter %+v, want sysrq and the node", inc.Scope, inc.Limiter)
	}
}

// TestTracepointsJoinAGroupKill: whatever other tasks of the cgroup do meanwhile, the
// thread that kills does not reclaim between two members.
func TestTracepointsJoinAGroupKill(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a, b, other := proc(10, "a"), proc(11, "b"), proc(12, "c")
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMGroup = true
	other.Cgroup.ID = 77 // outside of the group
	last := m.reclaims(0)
	m.marked(a, a, c, last)
	m.mark(b, b) // b fails to allocate, and is exiting already
	m.marked(a, b, c, last)
	m.kill(a, a, true, false)     // the chosen one again, without a mark
	m.kill(a, other, false, true) // shares the memory of b
	m.settle()

	inc := m.all[len(m.all)-1]
	if roles(inc) != "chosen group shared_mm" || inc.Audit.KernelKills != 3 || !inc.Audit.Explained {
		t.Errorf("got roles %s, audit %+v, want chosen group shared_mm and 3 kills, explained", roles(inc), inc.Audit)
	}
}

// TestAMemberIsCountedAsOftenAsItIsKilled: one whose first thread has exited is killed and
// marked once more, by another thread (kernel/cgroup/cgroup.c: css_task_iter_advance).
func TestAMemberIsCountedAsOftenAsItIsKilled(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a, b := proc(10, "a"), proc(11, "b")
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMGroup = true
	last := m.reclaims(0)
	m.marked(a, a, c, last)
	m.marked(a, b, c, last)

	b.TID = 12
	m.kill(a, b, true, false)
	m.record(m.choosesAtMark(a, b, c, last))
	m.record(kernel.Mark{Meta: m.meta(a), PID: b.TID, Task: b, Killed: true})
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen group" || inc.Audit.KernelKills != 3 || !inc.Audit.Explained {
		t.Errorf("got roles %s, audit %+v, want chosen group and 3 kills, explained", roles(inc), inc.Audit)
	}
}

// TestLostChoiceOfAMemberDoesNotSplitAGroup: only the first choice came in.
func TestLostChoiceOfAMemberDoesNotSplitAGroup(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a, b := proc(10, "a"), proc(11, "b")
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMGroup = true
	m.marked(a, a, c, m.reclaims(0))
	m.kill(a, b, true, false)
	m.mark(a, b)
	m.settle()

	if inc := m.one(); roles(inc) != "chosen group" {
		t.Errorf("got roles %s, want chosen group", roles(inc))
	}
}

// TestTracepointsSeparateKillsOfOneThread: it reclaimed in between, or the groups differ.
func TestTracepointsSeparateKillsOfOneThread(t *testing.T) {
	for name, again := range map[string]func(*host, reclaim, []kernel.Memcg) reclaim{
		"it reclaimed again": func(m *host, _ reclaim, _ []kernel.Memcg) reclaim { return m.reclaims(0) },
		"another group": func(_ *host, last reclaim, c []kernel.Memcg) reclaim {
			c[0].Key.ID = 101
			return last
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, events.TierTracepoint)
			trigger := proc(12, "c")
			first, second := leafToRoot(1000, kernel.NoLimit), leafToRoot(1000, kernel.NoLimit)
			first[0].OOMGroup, second[0].OOMGroup = true, true
			last := m.reclaims(0)
			m.marked(trigger, proc(10, "a"), first, last)
			m.marked(trigger, proc(11, "b"), second, again(m, last, second))
			m.settle()

			if len(m.all) != 2 {
				t.Errorf("got %d incidents, want 2: a limit was hit twice", len(m.all))
			}
		})
	}
}

// TestThreadsOfAVictimAreNoIncident: each that fails to allocate while it dies marks itself,
// before the kill is reported and after.
func TestThreadsOfAVictimAreNoIncident(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	trigger, victim := proc(9, "trigger"), proc(10, "app")
	m.marked(trigger, victim, leafToRoot(1000, kernel.NoLimit), m.reclaims(0))

	for i := range uint32(20) {
		thread := victim
		thread.TID, thread.Comm = 1000+i, "worker"
		m.mark(thread, thread)
		m.idle(5 * ms)
	}

	m.settle()

	if inc := m.one(); inc.Passes.AlreadyExiting != 20 || inc.Passes.Killed != 1 || len(inc.Victims) != 1 {
		t.Errorf("got passes %+v, %d victims, want 1 killed, 20 already exiting, 1 victim", inc.Passes, len(inc.Victims))
	}
}

// TestThreadsOfAnExitingProcessAreOneIncident: a user killed the process, and its threads
// fail to allocate.
func TestThreadsOfAnExitingProcessAreOneIncident(t *testing.T) {
	m := newHost(t, events.TierTracepoint)

	for i := range uint32(200) {
		thread := proc(10, "app")
		thread.TID, thread.Comm = 1000+i, "worker"

		if i == 0 {
			m.record(m.choosesAtMark(thread, thread, leafToRoot(1000, kernel.NoLimit), m.reclaims(0)))
		}

		m.mark(thread, thread)
	}

	m.settle()

	inc := m.one()
	if inc.Outcome != events.OutcomeAlreadyExiting || inc.Passes.AlreadyExiting != 200 {
		t.Errorf("got outcome %s, passes %+v, want 200 already exiting", inc.Outcome, inc.Passes)
	}

	if inc.Exiting == nil || inc.Exiting.PID != 10 || inc.Limiter == nil || inc.Limiter.Cgroup.ID != 100 {
		t.Errorf("got exiting %+v, limiter %+v, want process 10 and limiter 100", inc.Exiting, inc.Limiter)
	}
}

// TestLooseSIGKILLAfterAMarkSharesItsMemory: the leader of the target has exited, and the
// kernel side does not see whose memory its threads have.
func TestLooseSIGKILLAfterAMarkSharesItsMemory(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a, b := proc(10, "a"), proc(11, "b")
	m.marked(a, a, leafToRoot(1000, kernel.NoLimit), m.reclaims(0))
	m.kill(a, b, false, false)
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen shared_mm" || !inc.Audit.Explained {
		t.Errorf("got roles %s, audit %+v, want chosen shared_mm, explained", roles(inc), inc.Audit)
	}
}

// TestSharersMayComeLate: the kernel writes the line of the kill to its log before it kills
// them, and a console at 9600 baud takes more than 100 ms for it.
func TestSharersMayComeLate(t *testing.T) {
	for _, leaderExited := range []bool{false, true} {
		m := newHost(t, events.TierTracepoint)
		a, b := proc(10, "a"), proc(11, "b")
		m.marked(a, a, leafToRoot(1000, kernel.NoLimit), m.reclaims(0))

		for range 3 {
			m.idle(50 * ms)
		}

		if inc := m.one(); roles(inc) != "chosen" {
			t.Fatalf("got roles %s at first, want chosen", roles(inc))
		}

		m.kill(a, b, false, !leaderExited)
		m.settle()

		if inc := m.one(); roles(inc) != "chosen shared_mm" {
			t.Errorf("leader exited %v: got roles %s, want chosen shared_mm", leaderExited, roles(inc))
		}
	}
}

// TestAKillOfTheTriggerItselfIsNotShared: a BPF program or RLIMIT_CPU kills in the context of
// its target, perhaps right after that has triggered an OOM kill.
func TestAKillOfTheTriggerItselfIsNotShared(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")
	m.marked(a, proc(11, "b"), leafToRoot(1000, kernel.NoLimit), m.reclaims(0))
	m.kill(a, a, false, false)
	m.settle()

	if inc := m.one(); roles(inc) != "chosen" {
		t.Errorf("got roles %s, want chosen", roles(inc))
	}
}

// TestTracedProcessesAreNoVictims: a task that exits kills those that it traces
// (PTRACE_O_EXITKILL), perhaps right after it killed for want of memory.
func TestTracedProcessesAreNoVictims(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")
	m.marked(a, proc(11, "b"), leafToRoot(1000, kernel.NoLimit), m.reclaims(0))

	a.Exiting = true
	m.record(kernel.Kill{Meta: m.meta(a), Target: proc(12, "traced"), FromKernel: true, Sender: &kernel.Sender{}})
	m.settle()

	if inc := m.one(); roles(inc) != "chosen" {
		t.Errorf("got roles %s, want chosen", roles(inc))
	}
}

// TestKilledBeforeItFailsToAllocateIsNoOOMKill: RLIMIT_CPU is enforced by the thread itself,
// which then fails to allocate, as it exits, and marks itself.
func TestKilledBeforeItFailsToAllocateIsNoOOMKill(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")
	m.kill(a, a, false, false)
	m.record(m.choosesAtMark(a, a, leafToRoot(1000, kernel.NoLimit), m.reclaims(0)))
	m.mark(a, a)
	m.settle()

	if inc := m.one(); inc.Outcome != events.OutcomeAlreadyExiting || len(inc.Victims) != 0 {
		t.Errorf("got outcome %s, victims %+v, want already_exiting without a victim", inc.Outcome, inc.Victims)
	}
}

// TestKillWhoseRecordWasLostIsAKill: its mark shows that the thread had just sent SIGKILL.
func TestKillWhoseRecordWasLostIsAKill(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")
	m.kills++
	m.record(m.choosesAtMark(a, a, leafToRoot(1000, kernel.NoLimit), m.reclaims(0)))
	m.record(kernel.Mark{Meta: m.meta(a), PID: 10, Task: a, Killed: true})
	m.settle()

	inc := m.one()
	if inc.Outcome != events.OutcomeKilled || roles(inc) != "chosen" || inc.Limiter.Cgroup.ID != 100 || !inc.Audit.Explained {
		t.Errorf("got outcome %s, roles %s, limiter %+v, want a kill at limiter 100", inc.Outcome, roles(inc), inc.Limiter)
	}

	if inc.Victims[0].UID != nil || !slices.Contains(inc.Unknown, "victims.uid") || len(inc.Notes) != 1 {
		t.Errorf("got uid %v, unknown %q, notes %q, want an unknown uid and a note", inc.Victims[0].UID, inc.Unknown, inc.Notes)
	}
}

// TestSIGKILLThatIsReadLateIsOfTheSameKill: its mark was read first, and the victim marks itself as
// it exits.
func TestSIGKILLThatIsReadLateIsOfTheSameKill(t *testing.T) {
	for name, later := range map[string]uint64{"soon": quietNS, "when the thread is forgotten": 2 * unmarkedNS} {
		m := newHost(t, events.TierTracepoint)
		a := proc(10, "a")
		m.kills++
		last := m.reclaims(0)
		sent := m.meta(a)

		m.record(m.choosesAtMark(a, a, leafToRoot(1000, kernel.NoLimit), last))
		m.record(kernel.Mark{Meta: m.meta(a), PID: 10, Task: a, Killed: true})
		m.idle(later)
		m.idle(later)

		m.record(kernel.Kill{Meta: sent, Target: a, FromKernel: true, Group: true, MemoryKnown: true, AnonPages: 900})
		m.mark(a, a)
		m.settle()

		if inc := m.one(); inc.Outcome != events.OutcomeKilled || inc.Audit.KernelKills != 1 || !inc.Audit.Explained {
			t.Errorf("%s: got outcome %s, audit %+v, want one kill, explained", name, inc.Outcome, inc.Audit)
		}
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
// and Idle is called in between, with the time until which they were read.
func TestIdleWaitsForRecordsThatWereNotRead(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")
	last := m.reclaims(0)
	m.kill(a, a, true, false)

	for range 5 {
		if _, err := m.c.Idle(m.now, false); err != nil {
			t.Fatal(err)
		}
	}

	m.record(m.choosesAtMark(a, a, leafToRoot(1000, kernel.NoLimit), last))
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
		m.marked(trigger, victim, leafToRoot(1000, kernel.NoLimit), m.reclaims(0))
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
