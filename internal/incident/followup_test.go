// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestVictimThatIsStillDyingIsNotedWithTheNextKill(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a, b := proc(10, "a"), proc(11, "b")
	c := leafToRoot(1000, kernel.NoLimit)

	for _, victim := range []kernel.Task{a, b} {
		m.oomKills(b, victim, c)
	}

	m.gone(10)
	m.gone(11)
	m.settle()

	if len(m.all) != 2 || len(m.all[0].Notes) != 0 || len(m.all[1].Notes) != 1 || !strings.HasPrefix(m.all[1].Notes[0], "a[10], killed ") {
		t.Errorf("got notes %q and %q, want none and one on a[10]", m.all[0].Notes, m.all[1].Notes)
	}
}

func TestExitThatIsReadBeforeItsKillCounts(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")
	c := leafToRoot(1000, kernel.NoLimit)

	m.record(kernel.Exit{Meta: kernel.Meta{BootNS: m.now + 5*ms}, TGID: 10})
	m.oomKills(a, a, c)
	m.settle()

	if v := m.one().Victims[0]; v.ExitAfterNS == nil || *v.ExitAfterNS > 5*ms {
		t.Errorf("got exit after %v, want less than 5 ms", v.ExitAfterNS)
	}
}

func TestMemoryIsBoundedInAStormOfKills(t *testing.T) {
	testenv.Slow(t, "5000 kills")

	m := newHost(t, events.TierFentry)

	for i := range uint32(5000) {
		a := proc(1000+i, "a")
		c := leafToRoot(1000, kernel.NoLimit)
		m.oomKills(a, a, c)
		m.record(kernel.Exit{Meta: m.meta(a), TGID: 1000 + i})
	}

	if got := len(m.c.followUp.recent); got > maxRecent {
		t.Errorf("got %d remembered incidents, want at most %d", got, maxRecent)
	}

	if got := len(m.c.followUp.dying); got > maxRecent {
		t.Errorf("got %d remembered victims, want at most %d", got, maxRecent)
	}

	if len(m.all) != 5000 {
		t.Errorf("got %d incidents, want 5000", len(m.all))
	}
}

// A burst may last longer than an incident is remembered without news. Its first incidents
// get their audit all the same.
func TestALongBurstIsAuditedWhole(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(1, "a")
	c := leafToRoot(1000, kernel.NoLimit)
	const kills = maxRecent - 24

	for i := range uint32(kills) {
		victim := proc(1000+i, "a")
		m.oomKills(a, victim, c)
		m.gone(1000 + i)
		m.idle(auditAfterNS * 9 / 10)
	}

	m.settle()

	for i, inc := range m.all {
		if inc.Audit == nil {
			t.Fatalf("got no audit of incident %d of %d, want one", i, len(m.all))
		}
	}

	for _, r := range m.c.followUp.recent {
		if r.auditAwaited {
			t.Fatal("got an incident that still waits for its audit, want none")
		}
	}
}

func TestLateVictimsUpdateTheirIncident(t *testing.T) {
	t.Run("of an invocation", func(t *testing.T) {
		m := newHost(t, events.TierFentry)
		a, b := proc(10, "a"), proc(11, "b")
		c := leafToRoot(1000, kernel.NoLimit)
		c[0].OOMGroup = true
		m.invocation = 1
		m.chooses(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.settle() // it is reported: the return of out_of_memory is late
		m.kill(a, b, true, false)
		m.kill(a, a, true, false)
		m.returns(a, events.OutcomeKilled, c[0])
		m.settle()

		inc := m.one()
		if roles(inc) != "chosen group" || inc.Victims[1].AnonRSSBytes == nil {
			t.Errorf("got roles %s, memory %v, want chosen group with memory", roles(inc), inc.Victims[1].AnonRSSBytes)
		}

		if _, victims := m.c.Totals(); victims != 2 {
			t.Errorf("got %d victims in total, want 2", victims)
		}
	})
	t.Run("of a group, tracepoints only", func(t *testing.T) {
		m := newHost(t, events.TierTracepoint)
		m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
		a, b := proc(10, "a"), proc(11, "b")
		c := leafToRoot(1000, kernel.NoLimit)
		c[0].OOMGroup = true
		reclaim := m.reclaims(0)
		m.marked(a, a, c, reclaim)
		m.idle(150 * ms)
		m.marked(a, b, c, reclaim)
		m.idle(150 * ms)
		m.kill(a, a, true, false)
		m.settle()

		inc := m.one()
		if roles(inc) != "chosen group" || !inc.Audit.Explained || *inc.Audit.VMStatDelta != 3 {
			t.Errorf("got roles %s, audit %+v, want chosen group and 3 kills, explained", roles(inc), inc.Audit)
		}
	})
}

func TestVictimThatDoesNotExitIsNoted(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")
	c := leafToRoot(1000, kernel.NoLimit)
	m.oomKills(a, a, c)

	for range 80 {
		m.idle(100 * ms)
	}

	inc := m.one()
	if len(inc.Notes) != 1 || !strings.Contains(inc.Notes[0], "a[10] had not exited 5s after") ||
		!slices.Contains(inc.Unknown, "victims.exit_after_ns") {
		t.Errorf("got notes %q, unknown %q, want a note on a[10] and an unknown exit", inc.Notes, inc.Unknown)
	}
}

// TestLateExitIsKnown: what came after the note is no longer named as unknown. The release
// is never seen with tracepoints.
func TestLateExitIsKnown(t *testing.T) {
	for tier, want := range map[events.Tier][]string{
		events.TierFentry: nil, events.TierTracepoint: {"victims.released_after_ns"},
	} {
		m := newHost(t, tier)
		a := proc(10, "a")
		c := leafToRoot(1000, kernel.NoLimit)

		if tier == events.TierTracepoint {
			m.marked(a, a, c, m.reclaims(0))
			m.kill(a, a, true, false)
		} else {
			m.oomKills(a, a, c)
		}

		for range 80 {
			m.idle(100 * ms)
		}

		if tier != events.TierTracepoint {
			m.record(kernel.Released{Meta: kernel.Meta{BootNS: m.now + ms}, TGID: 10})
		}

		m.gone(10)
		m.settle()

		inc := m.one()

		ends := slices.DeleteFunc(slices.Clone(inc.Unknown), func(name string) bool { return !strings.HasSuffix(name, "_after_ns") })
		if inc.Victims[0].ExitAfterNS == nil || !slices.Equal(ends, want) || len(inc.Notes) != 1 {
			t.Errorf("%s: got exit %v, unknown %q, notes %q, want an exit, unknown %q, one note",
				tier, inc.Victims[0].ExitAfterNS, ends, inc.Notes, want)
		}
	}
}

func TestNoteOnAVictimThatDoesNotExitStays(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a, b := proc(10, "a"), proc(11, "b")
	c := leafToRoot(1000, kernel.NoLimit)

	for _, victim := range []kernel.Task{a, b} {
		m.oomKills(b, victim, c)
	}

	for range 80 {
		m.idle(100 * ms)
	}

	m.gone(10)
	m.settle()

	if len(m.all) != 2 || len(m.all[1].Notes) != 2 ||
		!strings.HasPrefix(m.all[1].Notes[0], "b[11] had not exited") || !strings.HasPrefix(m.all[1].Notes[1], "a[10], killed ") {
		t.Errorf("got notes %q and %q, want on the second one on b[11], then one on a[10]", m.all[0].Notes, m.all[1].Notes)
	}
}

func TestMissedExitIsUnknownWithoutANote(t *testing.T) {
	for _, test := range []struct {
		name     string
		released bool
		gone     func(int) bool
		unknown  []string
	}{
		{"its memory was released", true, nil, []string{"victims.exit_after_ns"}},
		{"its pid is gone", false, func(pid int) bool { return pid == 10 }, []string{"victims.exit_after_ns", "victims.released_after_ns"}},
	} {
		m := newHost(t, events.TierFentry, func(cfg *Config) { cfg.Gone = test.gone })
		a := proc(10, "a")
		c := leafToRoot(1000, kernel.NoLimit)
		m.oomKills(a, a, c)

		if test.released {
			m.record(kernel.Released{Meta: kernel.Meta{BootNS: m.now + ms}, TGID: 10})
		}

		for range 80 {
			m.idle(100 * ms)
		}
		inc := m.one()

		ends := slices.DeleteFunc(slices.Clone(inc.Unknown), func(u string) bool { return !strings.HasSuffix(u, "_after_ns") })
		if len(inc.Notes) != 0 || !slices.Equal(ends, test.unknown) {
			t.Errorf("%s: got notes %q, unknown %q, want none and %q", test.name, inc.Notes, inc.Unknown, test.unknown)
		}
	}
}

// TestExitOfAnEarlierProcessIsNotTheVictims: an exit before the kill belongs to an earlier
// process with the same pid.
func TestExitOfAnEarlierProcessIsNotTheVictims(t *testing.T) {
	m := newHost(t, events.TierFentry)
	a := proc(10, "a")

	m.gone(10)
	m.now += 1000 * ms
	c := leafToRoot(1000, kernel.NoLimit)
	m.oomKills(a, a, c)
	m.settle()

	if v := m.one().Victims[0]; v.ExitAfterNS != nil || v.ReleasedAfterNS != nil {
		t.Errorf("got exit %v and release %v, want none", v.ExitAfterNS, v.ReleasedAfterNS)
	}
}

// The oom_reaper takes the memory of a victim that does not exit, on every tier. It names the
// thread that was marked.
func TestReaperTakesMemoryOfAStuckVictim(t *testing.T) {
	for _, tier := range []events.Tier{events.TierFentry, events.TierTracepoint} {
		t.Run(string(tier), func(t *testing.T) {
			m := newHost(t, tier)
			a := proc(10, "a")
			a.TID = 12

			m.reportedKill(tier, a)
			m.now += 2000 * ms
			m.record(kernel.Reaped{Meta: kernel.Meta{BootNS: m.now}, PID: 12, Skipped: true})
			m.now += 100 * ms
			m.record(kernel.Reaped{Meta: kernel.Meta{BootNS: m.now}, PID: 12})

			for range 60 {
				m.idle(100 * ms)
			}

			inc := m.one()
			if v := inc.Victims[0]; v.ReapedAfterNS == nil || *v.ReapedAfterNS < 2100*ms || v.ExitAfterNS != nil {
				t.Errorf("got reaped %v, exit %v, want 2.1 s and none", v.ReapedAfterNS, v.ExitAfterNS)
			}

			if !slices.ContainsFunc(inc.Notes, func(n string) bool { return strings.Contains(n, "a[10] had not exited") }) {
				t.Errorf("got notes %q, want one that it has not exited", inc.Notes)
			}
		})
	}
}

func TestReaperThatGivesUpIsNoted(t *testing.T) {
	for _, test := range []struct {
		name     string
		attempts int
		exits    bool
		want     bool
	}{
		{"each attempt found the lock taken", 10, false, true},
		{"it may try again", 9, false, false},
		{"it exited meanwhile", 10, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newHost(t, events.TierFentry)
			a := proc(10, "a")
			m.reportedKill(events.TierFentry, a)

			if test.exits {
				m.gone(10)
			}

			for range test.attempts {
				m.now += 100 * ms
				m.record(kernel.Reaped{Meta: kernel.Meta{BootNS: m.now}, PID: 10, Skipped: true})
			}

			m.settle()

			notes := strings.Join(m.one().Notes, "; ")
			if got := strings.Contains(notes, "oom_reaper gave up on a[10]"); got != test.want {
				t.Errorf("got notes %q, want one on the oom_reaper: %v", notes, test.want)
			}
		})
	}
}

// reportedKill is a kill that was reported.
func (m *host) reportedKill(tier events.Tier, victim kernel.Task) {
	c := leafToRoot(1000, kernel.NoLimit)

	if tier == events.TierTracepoint {
		m.kill(victim, victim, true, false)
		m.mark(victim, victim)
	} else {
		m.oomKills(victim, victim, c)
	}

	for range 3 {
		m.idle(100 * ms)
	}
}

// Whoever of those with the same memory the kernel side names: it is the memory of all.
func TestSharedMemoryIsReleasedForAll(t *testing.T) {
	for _, released := range []uint32{10, 11} {
		m := newHost(t, events.TierFentry)
		a, b := proc(10, "a"), proc(11, "b")
		c := leafToRoot(1000, kernel.NoLimit)

		m.invocation = 1
		m.chooses(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.kill(a, b, false, true)
		m.returns(a, events.OutcomeKilled, c[0])
		m.record(kernel.Released{Meta: kernel.Meta{BootNS: m.now + ms}, TGID: released})
		m.settle()

		for _, v := range m.one().Victims {
			if v.ReleasedAfterNS == nil {
				t.Errorf("released as %d: got no release of %d, want one", released, v.PID)
			}
		}
	}
}
