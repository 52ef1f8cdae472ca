// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// addNotes adds to the incident what is unusual about the report, above all what is
// missing from it.
func (r *report) addNotes(inc *events.Incident) {
	if r.isKillAlone() {
		inc.Log.Truncated = true

		r.note("the log has the kill but not its report: the kernel limited the rate of its reports, or lines were lost")
	} else if parts := r.lacks(inc); len(parts) > 0 {
		inc.Log.Truncated = true

		r.note("missing from this report: " + strings.Join(parts, ", "))
	}

	if r.suppressed > 0 {
		r.note(fmt.Sprintf("the kernel suppressed %d reports or lines before this one (rate limit)", r.suppressed))
	}

	if r.panicked != "" {
		r.note("the kernel panicked: " + r.panicked)
	}

	r.noteExiting()

	if r.killsCut > 0 {
		r.note(fmt.Sprintf("%d more victims are in the log", r.killsCut))
	}

	if rest := len(r.tasks) + r.tasksCut - len(inc.Candidates); rest > 0 {
		r.note("the log's task table has " + more(rest) + ", smaller or not read")
	}

	if len(r.stats) > 1 && inc.Memory != nil {
		r.note(fmt.Sprintf("memory is the sum of the lines of %d cgroups", len(r.stats)))
	}
	inc.Notes = r.notes
}

// isKillAlone reports whether the log only has the kill and nothing of its report.
func (r *report) isKillAlone() bool {
	reported := r.header != nil || r.limits.any() || r.memInfo != nil || r.summary != nil || r.chosen != nil
	return !reported && len(r.kills)+len(r.exiting) > 0
}

// lacks returns the parts of the report that the log lacks, in the order of the report.
func (r *report) lacks(inc *events.Incident) []string {
	memcg := inc.Scope == events.ScopeMemcg
	node := !memcg && inc.Scope != events.ScopeUnknown && !r.ofProgram()

	var list []string

	for _, part := range []struct {
		name    string
		missing bool
	}{
		{"its start", r.header == nil},
		{"the process id of the trigger", r.header != nil && r.task == nil},
		{r.stack.lack(), r.header != nil && r.task != nil && !r.stack.whole},
		{"usage and limits of the cgroup", memcg && r.limits.memory == nil},
		{"the cgroup's statistics", memcg && len(r.stats) == 0},
		{"the node's memory", node && (r.memInfo == nil || r.memInfo.ram == nil)},
		{"the selection of the victim", len(r.kills) > 0 && r.summary == nil && r.chosen == nil},
		{"its end", inc.Outcome == ""},
		{fmt.Sprintf("%d lines", r.missing), r.missing > 0},
	} {
		if part.missing {
			list = append(list, part.name)
		}
	}

	return list
}

// more counts further processes.
func more(n int) string {
	if n == 1 {
		return "1 more process"
	}

	return fmt.Sprintf("%d more processes", n)
}

// noteExiting notes the processes that the kernel did not kill because they were exiting.
func (r *report) noteExiting() {
	if len(r.kills) == 0 && len(r.exiting) > 0 {
		r.note(fmt.Sprintf("the chosen task, %s[%d], was already exiting", r.exiting[0].comm, r.exiting[0].pid))
		return
	}

	for _, k := range r.exiting {
		r.note(fmt.Sprintf("%s[%d] was already exiting and was not killed", k.comm, k.pid))
	}
}
