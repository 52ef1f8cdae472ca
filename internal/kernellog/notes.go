// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// remarks tell what is unusual, above all what is missing.
func (r *report) remarks(inc *events.Incident) {
	var missing []string
	lacks := func(part string, is bool) {
		if is {
			missing = append(missing, part)
		}
	}
	memcg := inc.Scope == events.ScopeMemcg

	alone := r.header == nil && !r.limits.any() && r.memInfo == nil && r.summary == nil && r.chosen == nil
	if alone && len(r.kills)+len(r.exiting) > 0 {
		inc.Log.Truncated = true

		r.note("the log has the kill and no report of it: the kernel limits the rate of its reports, or lines were lost")
	} else {
		lacks("its beginning", r.header == nil)
		lacks("the task that triggered it", r.header != nil && r.task == nil)
		lacks("the stack", r.header != nil && r.task != nil && !r.traced)
		lacks("usage and limits of the cgroup", memcg && r.limits.memory == nil)
		lacks("the cgroup's statistics", memcg && len(r.stats) == 0)
		lacks("the node's memory", !memcg && inc.Scope != events.ScopeUnknown && (r.memInfo == nil || r.memInfo.ram == nil))
		lacks("the choice", len(r.kills) > 0 && r.summary == nil && r.chosen == nil)
		lacks("its end", inc.Outcome == "")
		lacks(fmt.Sprintf("%d lines", r.holes), r.holes > 0)
	}

	if len(missing) > 0 {
		inc.Log.Truncated = true

		r.note("the log lacks of this report: " + strings.Join(missing, ", "))
	}

	if r.suppressed > 0 {
		r.note(fmt.Sprintf("the kernel left out %d reports or lines before this one (rate limit)", r.suppressed))
	}

	if r.panicked != "" {
		r.note("the kernel panicked: " + r.panicked)
	}

	if len(r.kills) > 0 {
		for _, k := range r.exiting {
			r.note(fmt.Sprintf("%s[%d] was exiting already, and was not killed", k.comm, k.pid))
		}
	} else if len(r.exiting) > 0 {
		r.note(fmt.Sprintf("the chosen task, %s[%d], was exiting already", r.exiting[0].comm, r.exiting[0].pid))
	}

	if r.killsCut > 0 {
		r.note(fmt.Sprintf("%d more victims are in the log", r.killsCut))
	}

	if rest := len(r.tasks) + r.tasksCut - len(inc.Candidates); rest > 0 {
		r.note(fmt.Sprintf("%d more processes are in the log's table, smaller ones or such that were not read", rest))
	}

	if len(r.stats) > 1 && inc.Memory != nil {
		r.note(fmt.Sprintf("the charge is the sum of %d cgroups' lines", len(r.stats)))
	}
	inc.Notes = r.notes
}
