// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// flood delivers a record every millisecond, for that long. The ring is never empty: Idle has
// the time of the newest record.
func (m *host) flood(milliseconds int, r func(kernel.Meta) kernel.Record) {
	m.t.Helper()

	for range milliseconds {
		m.now += ms
		m.record(r(kernel.Meta{BootNS: m.now}))

		if _, err := m.c.Idle(m.now, false); err != nil {
			m.t.Fatal(err)
		}
	}
}

func renames(m kernel.Meta) kernel.Record {
	return kernel.CgroupChange{Meta: m, Op: "rename", Key: events.CgroupKey{ID: 7}, Path: "/x"}
}

func TestAFloodHoldsBackNoOOMKill(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")

	m.kill(a, a, true, false)
	m.mark(a, a)
	m.flood(30, renames) // quietNS is 20 ms

	if inc := m.one(); inc.Outcome != events.OutcomeKilled {
		t.Errorf("got %+v, want a kill", inc)
	}
}

func TestAFloodHoldsBackNoUserKill(t *testing.T) {
	m := newUserHost(t, events.TierFentry)

	m.user(in(1, 900, "kill"), in(200, 10, "app"))
	m.flood(1010, renames)

	if inc := m.one(); inc.Scope != events.ScopeUser {
		t.Errorf("got %+v, want scope user", inc)
	}
}

// SIGKILLs to one workload that never end do not hold back its first.
func TestUserKillsThatNeverEndAreReported(t *testing.T) {
	m := newUserHost(t, events.TierFentry)
	pid := uint32(10)

	m.flood(1210, func(meta kernel.Meta) kernel.Record {
		meta.Current = in(1, 900, "kill")
		pid++

		return kernel.Kill{Meta: meta, Target: in(200, pid, "app"), Sender: &kernel.Sender{}}
	})

	if inc := m.one(); inc.Scope != events.ScopeUser || len(inc.Victims) < 1000 {
		t.Errorf("got %+v, want the SIGKILLs of a second", inc)
	}
}

// The kernel counts kills whose records still wait in a ring.
func TestAFloodIsNotAudited(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	a := proc(10, "a")

	m.kill(a, a, true, false)
	m.mark(a, a)
	m.kills++
	m.flood(2000, renames)

	if inc := m.one(); inc.Audit != nil || len(m.findings) != 0 {
		t.Errorf("got audit %+v and findings %q in a flood, want none", inc.Audit, m.findings)
	}

	m.kill(a, proc(11, "b"), false, false)
	m.mark(a, proc(11, "b"))
	m.settle()

	for _, inc := range m.all {
		if inc.Audit == nil || !inc.Audit.Explained {
			t.Errorf("got audit %+v once all was read, want it explained", inc.Audit)
		}
	}
}
