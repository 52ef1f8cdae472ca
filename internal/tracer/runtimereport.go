// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/exitstatus"
)

// RuntimeReports asks the container runtime how a container ended. *exitstatus.Checker
// implements it; none of its methods may wait.
type RuntimeReports interface {
	Check(exitstatus.Check)
	Reports() []exitstatus.Report
	Dropped() uint64
}

// runtimeReport is the enricher that compares the runtime's report with the kernel's. The
// runtime reports up to ten seconds after the kill, so causes do not wait for it.
type runtimeReport struct {
	reports RuntimeReports
	current func(id string) *events.Incident
}

func (r *runtimeReport) start(inc *events.Incident) bool {
	for _, c := range checks(inc) {
		r.reports.Check(c)
	}

	return false
}

func (r *runtimeReport) findings(uint64, bool) []finding {
	// A key of a change replaces the whole key, so each report of an incident repeats those
	// before it.
	changes := make(map[string]*events.Incident)
	var found []finding

	for _, report := range r.reports.Reports() {
		change := changes[report.Incident]
		if change == nil {
			change = &events.Incident{ID: report.Incident}
			if inc := r.current(report.Incident); inc != nil {
				change.Reported = slices.Clone(inc.Reported)
			}
			changes[report.Incident] = change
			found = append(found, finding{change: change})
		}
		change.Reported = append(change.Reported, report.Reported)
	}

	return found
}

func (r *runtimeReport) dropped() (string, uint64) { return events.LostNameLookup, r.reports.Dropped() }

// checks returns the checks of an incident: one for each container in which a process was
// killed.
func checks(inc *events.Incident) []exitstatus.Check {
	if inc.Outcome != events.OutcomeKilled {
		return nil
	}

	var all []exitstatus.Check

	for _, v := range inc.Victims {
		ref, ok := resolve.RefOf(v.Workload)
		if !ok || ref.ContainerID == "" || v.IsContainerInit == nil {
			continue
		}

		i := slices.IndexFunc(all, func(c exitstatus.Check) bool { return c.ContainerID == ref.ContainerID })
		if i < 0 {
			i = len(all)
			all = append(all, exitstatus.Check{Incident: inc.ID, Ref: ref, Container: v.Workload.Container, Kernel: kernelSide(inc)})
		}

		if *v.IsContainerInit {
			all[i].Kernel.Init = true
		} else {
			all[i].Kernel.Child = true
		}
	}

	return all
}

func kernelSide(inc *events.Incident) exitstatus.Kernel {
	k := exitstatus.Kernel{Scope: inc.Scope}
	if inc.Limiter != nil {
		k.Level = inc.Limiter.Level
	}

	if inc.Killer != nil {
		k.Group = inc.Killer.Path == events.PathGroup

		k.By = inc.Killer.Path
		if inc.Killer.Comm != "" {
			k.By = fmt.Sprintf("%s[%d]", inc.Killer.Comm, inc.Killer.PID)
		}
	}

	return k
}
