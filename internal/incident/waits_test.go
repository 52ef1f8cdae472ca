// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// waiting is a reading in which tasks wait at the limit of a cgroup.
func (m *host) waiting(id uint64, tasks ...kernel.Task) kernel.OOMWait {
	cgroup := events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: 4, ID: id}, Path: "/db"}
	limit := new(uint64(20 << 20))

	return kernel.OOMWait{
		Meta: kernel.Meta{BootNS: m.now},
		Limiter: &events.Limiter{
			Level: events.LevelCgroup, Which: "memory.limit_in_bytes", LimitBytes: limit, UsageBytes: limit, Cgroup: &cgroup,
			OOMKillDisable: new(true), UnderOOM: new(true),
		},
		Ladder:  []events.Rung{{Cgroup: cgroup, Level: events.LevelCgroup, MaxBytes: limit, UsageBytes: limit}},
		Unknown: []string{"ladder.swap_max_bytes"},
		Memory:  &events.Memory{AnonBytes: limit},
		Tasks:   tasks,
	}
}

func TestTasksThatWaitAreAnIncidentUntilTheyDoNot(t *testing.T) {
	m := newHost(t, events.TierTracepoint, func(c *Config) { c.CgroupV1 = true })
	hog, late := proc(10, "hog"), proc(11, "late")

	began := m.now
	m.record(m.waiting(7, hog))

	inc := m.one()
	if inc.Scope != events.ScopeMemcg || inc.Outcome != events.OutcomeOOMKillDisabled || inc.Tier != events.TierTracepoint {
		t.Errorf("got scope %s, outcome %s, tier %s, want memcg, oom_kill_disabled, tracepoint", inc.Scope, inc.Outcome, inc.Tier)
	}

	if inc.Limiter.Cgroup.Path != "/db" || !*inc.Limiter.OOMKillDisable || len(inc.Ladder) != 1 || *inc.Memory.AnonBytes != 20<<20 {
		t.Errorf("got limiter %+v, ladder %+v, memory %+v, want those of /db", inc.Limiter, inc.Ladder, inc.Memory)
	}

	since := time.Unix(0, int64(began))
	if !inc.Time.Equal(since) || inc.Wait.Since == nil || !inc.Wait.Since.Equal(since) || inc.Wait.End != "" {
		t.Errorf("got time %v, wait %+v, want both since %v", inc.Time, inc.Wait, since)
	}

	if inc.Trigger == nil || inc.Trigger.PID != 10 || inc.Victims != nil || inc.Killer != nil || inc.Passes != nil || inc.Audit != nil {
		t.Errorf("got %+v, want hog[10] as trigger, and nothing of a kill", inc)
	}

	if !slices.Equal(inc.Unknown, []string{"ladder.swap_max_bytes"}) {
		t.Errorf("got unknown %v, want what the files lack", inc.Unknown)
	}

	m.idle(10e9)

	joined := m.waiting(7, hog, late)
	joined.TasksLeftOut = 3
	m.record(joined)

	if w := m.one().Wait; len(w.Tasks) != 2 || w.Tasks[1].Comm != "late" || w.TasksLeftOut != 3 || w.End != "" || w.EndedAfterNS != nil {
		t.Errorf("got wait %+v, want late[11] as well, and 3 left out", w)
	}

	m.idle(3600e9) // longer than other incidents are remembered

	end := m.waiting(7, hog, late)
	end.End = events.WaitEndKillerEnabled
	m.record(end)

	w := m.one().Wait
	if w.End != events.WaitEndKillerEnabled || *w.EndedAfterNS != m.now-began || len(w.Tasks) != 2 || w.Since == nil {
		t.Errorf("got wait %+v, want its end after %d ns, and the tasks that waited", w, m.now-began)
	}

	m.record(end) // once more

	m.idle(1e9)
	m.record(m.waiting(7, late))
	m.record(m.waiting(8, hog))

	if len(m.all) != 3 || m.all[1].Wait.Tasks[0].PID != 11 {
		t.Errorf("got %d incidents, want 3: the first, another wait of the same cgroup, one of another cgroup", len(m.all))
	}

	if incidents, victims := m.c.Totals(); incidents != 3 || victims != 0 {
		t.Errorf("got %d incidents and %d victims in total, want 3 and 0", incidents, victims)
	}
}

func TestAWaitFromBeforeTheTraceDoesNotKnowItsStart(t *testing.T) {
	m := newHost(t, events.TierFentry, func(c *Config) { c.CgroupV1 = true })

	r := m.waiting(7)
	r.Earlier, r.Memory, r.Unknown = true, nil, nil
	m.record(r)

	inc := m.one()
	if inc.Wait.Since != nil || inc.Trigger != nil || inc.Wait.Tasks == nil {
		t.Errorf("got wait %+v, trigger %+v, want neither a start nor a task", inc.Wait, inc.Trigger)
	}

	if want := []string{"memory", "trigger", "wait.since", "wait.tasks"}; !slices.Equal(inc.Unknown, want) {
		t.Errorf("got unknown %v, want %v", inc.Unknown, want)
	}
}

func TestTwoWaitsOfOneReadingHaveTheirOwnIDs(t *testing.T) {
	m := newHost(t, events.TierTracepoint)
	m.record(m.waiting(7, proc(10, "a")))
	m.record(m.waiting(8, proc(11, "b")))

	if len(m.all) != 2 || m.all[0].ID == m.all[1].ID {
		t.Errorf("got %d incidents with ids %s and %s, want two with ids of their own", len(m.all), m.all[0].ID, m.all[1].ID)
	}
}
