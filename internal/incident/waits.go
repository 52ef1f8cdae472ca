// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// waits reports tasks that wait for memory at the limit of a cgroup whose OOM killer is
// disabled: an incident that lasts, with updates until it has ended. The sender of the
// records bounds how many are open.
type waits struct {
	cfg    *Config
	report *reporter
	open   map[events.CgroupKey]*openWait
	idNS   uint64 // of the last id: several cgroups may be found by one reading
}

// openWait is the incident of tasks that still wait.
type openWait struct {
	id      string
	firstNS uint64
	wait    events.OOMWait // as reported first
}

func newWaits(cfg *Config, report *reporter) waits {
	return waits{cfg: cfg, report: report, open: make(map[events.CgroupKey]*openWait)}
}

// seen takes in a reading of the tasks that wait for a limiter.
func (w *waits) seen(r kernel.OOMWait) error {
	limiter := r.Limiter.Cgroup.CgroupKey

	open := w.open[limiter]
	if open == nil {
		if r.End != "" {
			return nil
		}

		return w.begin(limiter, &r)
	}

	wait := open.wait
	wait.Tasks, wait.TasksLeftOut, wait.TasksUnread = w.tasks(&r), r.TasksLeftOut, r.TasksUnread

	if r.End != "" {
		delete(w.open, limiter)

		wait.End, wait.EndedAfterNS = r.End, new(r.BootNS-min(open.firstNS, r.BootNS))
	}

	return w.report.out.Update(&events.Incident{ID: open.id, Wait: &wait})
}

// begin reports the incident. Its trigger is the first of the tasks: the charge of each of
// them failed.
func (w *waits) begin(limiter events.CgroupKey, r *kernel.OOMWait) error {
	w.idNS = max(r.BootNS, w.idNS+1)
	build := w.report.build
	inc := &events.Incident{
		Envelope: build.envelope(events.KindIncident, r.BootNS), ID: w.cfg.incidentID(w.idNS),
		Scope: events.ScopeMemcg, Outcome: events.OutcomeOOMKillDisabled, Tier: w.cfg.Tier,
		Limiter: r.Limiter, Ladder: r.Ladder, Memory: r.Memory, Unknown: slices.Clone(r.Unknown),
	}
	open := &openWait{id: inc.ID, firstNS: r.BootNS}
	open.wait = events.OOMWait{Tasks: w.tasks(r), TasksLeftOut: r.TasksLeftOut, TasksUnread: r.TasksUnread}

	if r.Earlier {
		inc.Unknown = append(inc.Unknown, "wait.since")
	} else {
		open.wait.Since = new(inc.Time)
	}

	if len(open.wait.Tasks) > 0 {
		inc.Trigger = new(open.wait.Tasks[0])
	} else {
		inc.Unknown = append(inc.Unknown, "trigger", "wait.tasks")
	}

	if inc.Memory == nil {
		inc.Unknown = append(inc.Unknown, "memory")
	}

	slices.Sort(inc.Unknown)

	inc.Wait = new(open.wait)
	w.open[limiter] = open

	return w.report.emit(inc, 0)
}

func (w *waits) tasks(r *kernel.OOMWait) []events.Process {
	tasks := make([]events.Process, len(r.Tasks)) // an empty list, not null: the key is always there
	for i, t := range r.Tasks {
		tasks[i] = w.report.build.process(t)
	}

	return tasks
}
