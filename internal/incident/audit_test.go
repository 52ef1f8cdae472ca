// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// killSharingGroup is a group kill of two processes that share memory. __oom_kill_process
// sends SIGKILL to a member and then to all that share its memory, whether they had one
// already, and counts only the first (mm/oom_kill.c).
func (m *host) killSharingGroup(a, b kernel.Task, c []kernel.Memcg) {
	m.invocation++
	m.chooses(a, a, c, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false) // the chosen one, and who shares its memory
	m.mark(a, a)
	m.kill(a, b, false, true)
	m.kill(a, a, true, true) // the chosen one among the members
	m.kill(a, b, false, true)
	m.kill(a, b, true, true) // the other member
	m.mark(a, b)
	m.kill(a, a, false, true)
	m.returns(a, events.OutcomeKilled, c[0])
}

func TestAuditOfAGroupThatSharesMemory(t *testing.T) {
	m := newHost(t, events.TierFentry)
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMGroup = true
	m.killSharingGroup(proc(10, "sh"), proc(11, "sh"), c)
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen group" {
		t.Errorf("got roles %s, want chosen group", roles(inc))
	}

	if a := inc.Audit; a == nil || !a.Explained || a.KernelKills != 3 || a.WindowKills != 3 {
		t.Errorf("got audit %+v, want 3 kills, explained", a)
	}

	if len(m.findings) != 0 {
		t.Errorf("got findings %q, want none", m.findings)
	}
}

// Who shares the memory of a member and is none itself dies for that alone: outside of the
// group, or exempt.
func TestSharersOfAGroupThatAreNoMembers(t *testing.T) {
	a, outside, exempt := proc(10, "sh"), proc(11, "sh"), proc(12, "sh")
	outside.Cgroup.ID = 77

	m := newHost(t, events.TierFentry)
	c := leafToRoot(1000, kernel.NoLimit)
	c[0].OOMGroup = true
	m.invocation++
	m.chooses(a, a, c, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false)
	m.mark(a, a)
	m.kill(a, outside, false, true)
	m.record(kernel.Kill{Meta: m.meta(a), Target: exempt, FromKernel: true, SharesMM: true, OOMScoreAdj: -1000})
	m.returns(a, events.OutcomeKilled, c[0])
	m.settle()

	inc := m.one()
	if got, want := roles(inc), "chosen shared_mm shared_mm"; got != want {
		t.Errorf("got roles %s, want %s", got, want)
	}

	if a := inc.Audit; a == nil || !a.Explained || a.KernelKills != 1 {
		t.Errorf("got audit %+v, want one kill, explained", a)
	}
}

// What may have been counted hides neither a kill that was not seen nor one that did not
// happen.
func TestAuditOfAGroupThatSharesMemoryShowsWhatWasMissed(t *testing.T) {
	for name, test := range map[string]struct {
		counted uint64
		want    string
	}{
		"too many": {6, "the kernel counted 6 OOM kills, 1 to 5 were observed"},
		"too few":  {0, "the kernel counted 0 OOM kills, 1 to 5 were observed"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, events.TierFentry)
			c := leafToRoot(1000, kernel.NoLimit)
			c[0].OOMGroup = true
			m.killSharingGroup(proc(10, "sh"), proc(11, "sh"), c)
			m.kills = test.counted
			m.settle()

			if a := m.one().Audit; a == nil || a.Explained {
				t.Errorf("got audit %+v, want one that is not explained", a)
			}

			if len(m.findings) != 1 || m.findings[0] != test.want {
				t.Errorf("got findings %q, want %q", m.findings, test.want)
			}
		})
	}
}

// With memory_localevents, memory.events of an ancestor does not have the kill
// (include/linux/memcontrol.h: memcg_memory_event).
func TestAuditWithLocalEvents(t *testing.T) {
	for name, test := range map[string]struct {
		local     bool
		limiter   int
		grows     bool // oom_kill of the limiter
		compared  bool
		explained bool
	}{
		"an ancestor's limit":                      {true, 1, false, false, true},
		"the own limit":                            {true, 0, true, true, true},
		"the own limit, without its kill":          {true, 0, false, true, false},
		"not mounted so, an ancestor's limit":      {false, 1, true, true, true},
		"not mounted so, an ancestor without kill": {false, 1, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, events.TierFentry, func(c *Config) { c.LocalEvents = test.local })
			a, c := proc(10, "a"), leafToRoot(1000, 1000)
			m.invocation++
			m.chooses(a, a, c, test.limiter, kernel.ConstraintMemcg)
			m.kill(a, a, true, false)

			if !test.grows {
				m.limiterKills = 0
			}

			m.returns(a, events.OutcomeKilled, c[test.limiter])
			m.settle()

			got := m.one().Audit
			if got.Explained != test.explained || (got.MemcgDelta != nil) != test.compared {
				t.Errorf("got audit %+v, want explained %t, memory.events compared %t", got, test.explained, test.compared)
			}
		})
	}
}
