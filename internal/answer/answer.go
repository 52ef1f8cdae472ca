// SPDX-License-Identifier: Apache-2.0

// Package answer puts an incident into few words: the summary, which every view starts with;
// the four answers that it is made of; and the columns of a listing. All are pure functions of
// the incident, so they read the same live, in a replay and in a report.
//
// Nothing here is sanitized: names of processes, pods and cgroups are passed on as they are.
package answer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Answers are those to the four questions, each a clause; an answer that is not known is empty.
type Answers struct {
	Limited   string // whose limit was hit
	Triggered string // whose allocation triggered it
	Died      string // who died
	Killed    string // who sent the signal
}

// Of returns the four answers about an incident.
func Of(inc *events.Incident) Answers {
	return Answers{limited(inc), triggered(inc), died(inc), killed(inc)}
}

// Summary is an incident in one sentence: whose limit was hit, what triggered it if not the victim,
// who was killed by whom, and why, once causes are known. An incident that comes with a summary
// keeps it.
func Summary(inc *events.Incident) string {
	return cmp.Or(inc.Summary, Summarize(inc))
}

// Summarize makes the summary of an incident as it is now, whatever summary it has.
func Summarize(inc *events.Incident) string {
	var clauses []string

	switch {
	case inc.Scope == events.ScopeUser && inc.Follows != nil:
		clauses = []string{Outcome(inc), "it " + phrase.Following(inc.Follows)}
	case inc.Scope == events.ScopeUser: // the killer matters most
		clauses = []string{Outcome(inc), limited(inc)}
	case inc.Scope == events.ScopeSysrq || triggerDied(inc) && len(inc.Victims) == 1:
		clauses = []string{limited(inc), Outcome(inc)}
	default:
		clauses = []string{limited(inc), triggered(inc), Outcome(inc)}
	}

	sentence := strings.Join(phrase.NonEmpty(clauses...), "; ")
	if why := Why(inc); why != "" {
		sentence += ": " + why
	}

	return phrase.Capitalize(sentence) + "."
}

// Why is the first cause in a few words, with its confidence unless that is certain. It is empty
// if no cause is known, or only possible ones.
func Why(inc *events.Incident) string {
	if len(inc.Causes) == 0 || inc.Causes[0].Brief == "" {
		return ""
	}

	switch c := &inc.Causes[0]; c.Confidence {
	case events.ConfidenceCertain:
		return c.Brief
	case events.ConfidenceLikely:
		return "likely " + c.Brief
	}

	return ""
}

// triggerDied reports whether the task whose allocation failed was killed.
func triggerDied(inc *events.Incident) bool {
	t := inc.Trigger

	return t != nil && t.PID != 0 && slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == t.PID })
}

// Outcome is a clause about what the kernel, or the killer, did.
func Outcome(inc *events.Incident) string {
	switch inc.Outcome {
	case events.OutcomeNoKillable:
		return "no process was killable"
	case events.OutcomeWaiting:
		return "an earlier victim was still exiting, and nothing else was killed"
	case events.OutcomeAlreadyExiting:
		if p := inc.Exiting; p != nil {
			return phrase.Task(p.Comm, p.PID) + " was already exiting, and nothing was killed"
		}

		return "the chosen process was already exiting, and nothing was killed"
	case events.OutcomeOOMKillDisabled:
		return "the OOM killer of this cgroup is disabled, so nothing was killed and " + waited(inc.Wait)
	case events.OutcomeSuspending:
		return "the OOM killer was turned off for suspend or hibernation, and nothing was killed"
	case events.OutcomeSkipped:
		return "the kernel skipped the selection of a victim"
	case "":
		if c := inc.Chosen; c != nil {
			return phrase.Task(c.Comm, c.PID) + inside(inc, &c.Process) + " was chosen, but whether it died is unknown"
		}

		return "whether a process was killed is unknown"
	case events.OutcomePanic:
		if inc.Passes != nil && inc.Passes.NoKillable > 0 {
			return "no process was killable, and the kernel panicked"
		}

		return "the kernel panicked instead of killing (vm.panic_on_oom)"
	}

	text := cmp.Or(killed(inc), "an unknown sender") + " killed " + cmp.Or(died(inc), "an unknown process")

	if c := inc.Chosen; c != nil && slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.Role == events.RoleChild }) {
		text += " in place of its parent " + phrase.Task(c.Comm, c.PID) + ", which the kernel had chosen"
	}

	return text + manner(inc.Killer)
}

// waited is how tasks waited for memory, and until when.
func waited(w *events.OOMWait) string {
	if w == nil {
		return "its tasks wait for memory"
	}

	tasks, one := "its tasks", false
	if n := len(w.Tasks) + w.TasksLeftOut; n > 0 {
		tasks, one = phrase.Plural(n, "task"), n == 1
	}

	switch {
	case w.EndedAfterNS != nil && w.End != "":
		return tasks + " waited " + phrase.Duration(*w.EndedAfterNS) + " for memory, until " + phrase.WaitEnd(w.End)
	case w.EndedAfterNS != nil:
		return tasks + " waited " + phrase.Duration(*w.EndedAfterNS) + " for memory"
	case one:
		return tasks + " waits for memory"
	}

	return tasks + " wait for memory"
}

// manner is how a kill was more than a signal to one process, and why it was sent.
func manner(k *events.Killer) string {
	text := ""

	switch {
	case k == nil:
		return ""
	case k.Path == events.PathGroup || k.GroupCgroup != nil:
		text = " as one group"
	case k.Kind == events.KillerKernel && k.Path == events.PathPIDNS:
		text = " when PID 1 of its PID namespace exited"
	}

	if k.Reason != "" {
		text += " (" + phrase.KillReason(k.Reason) + ")"
	}

	return text
}

// limited is whose limit was hit.
func limited(inc *events.Incident) string {
	switch inc.Scope {
	case events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy:
		return shortOfMemory(inc)
	case events.ScopeSysrq:
		return "memory was not short: sysrq-f requested a kill"
	case events.ScopeUser:
		return "no limit was hit"
	}

	l := inc.Limiter

	switch {
	case l == nil && strings.HasPrefix(string(inc.Scope), "CONSTRAINT_"):
		return "no limit was hit: the kernel's constraint is " + string(inc.Scope)
	case l == nil && inc.Scope == events.ScopeMemcg:
		return "a cgroup reached its limit (which one is unknown)"
	case l == nil:
		return "the limit that was hit is unknown"
	}

	text := phrase.LimitOwner(l) + " reached its " + limitName(l)

	if l.LimitBytes != nil {
		text += " of " + phrase.Size(*l.LimitBytes)
	}

	return text
}

// limitName is a limit in plain words: the file is named in the block.
func limitName(l *events.Limiter) string {
	switch l.Which {
	case "", "memory.max", "memory.limit_in_bytes":
		return "limit"
	case "memory.memsw.limit_in_bytes":
		return "memory+swap limit"
	}

	return l.Which
}

// shortOfMemory is what was short, of the node or of some of its NUMA nodes. They were not out of
// memory where a cause shows that it was free, and not to be had for this allocation.
func shortOfMemory(inc *events.Incident) string {
	what, verb := "the node", "was"

	if inc.Scope != events.ScopeGlobal {
		what = strings.TrimSuffix(phrase.Shortage(inc.Scope, inc.Limiter), " out of memory")
		if inc.Limiter == nil || len(inc.Limiter.Nodes) != 1 {
			verb = "were"
		}
	}

	switch {
	case freeElsewhere(inc):
		return what + " had no memory that this allocation may use"
	case inc.NodeState == nil && slices.Contains(inc.Unknown, "constraint"):
		return "the node or a part of it was out of memory, or sysrq-f requested a kill (the log does not show which)"
	}

	return what + " " + verb + " out of memory"
}

// freeElsewhere reports whether the first cause is that memory was free which the allocation may not
// use.
func freeElsewhere(inc *events.Incident) bool {
	return len(inc.Causes) > 0 && slices.Contains([]string{"low_zone", "movable_only", "cma_free"}, inc.Causes[0].ID)
}

// triggered is whose allocation failed, and what it was for.
func triggered(inc *events.Incident) string {
	p := inc.Trigger
	if p == nil || inc.Scope == events.ScopeUser {
		return ""
	}

	text := phrase.Task(p.Comm, p.PID)
	if p.IsKernel {
		text = "kernel thread " + text
	}
	text += inside(inc, p)

	a := inc.Allocation
	switch {
	case a != nil && a.Class == "limit_lowered":
		return text + " lowered the limit below current usage"
	case a != nil && a.Class != "" && a.Class != "other":
		return text + " requested more memory (" + phrase.Class(a.Class) + ")"
	}

	return text + " requested more memory"
}

// died is the first victim, and how many died with it.
func died(inc *events.Incident) string {
	if len(inc.Victims) == 0 {
		return ""
	}
	v := &inc.Victims[0]

	if v.Comm == "" && v.PID == 0 {
		return phrase.Victim(v, inc.Killer)
	}

	text := phrase.Task(v.Comm, v.PID) + inside(inc, &v.Process)
	if n := len(inc.Victims) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}

	return text
}

// killed is who sent the SIGKILL.
func killed(inc *events.Incident) string {
	k := inc.Killer
	switch {
	case k == nil:
		return ""
	case k.Kind == events.KillerUser, inc.Scope == events.ScopeUser && k.Path != events.PathPIDNS:
		return phrase.UserKiller(k)
	}

	return "the kernel"
}

// inside is where a process ran, unless that is the limiter's cgroup, which the sentence
// names first.
func inside(inc *events.Incident, p *events.Process) string {
	if p.Cgroup.Is(inc.LimiterCgroup()) {
		return ""
	}

	if place := phrase.Place(p.Workload, inc.LimiterWorkload()); place != "" {
		return " in " + place
	}

	return ""
}
