// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// card answers one of the four questions.
type card struct {
	Question, Answer string
	Facts            []fact
}

type fact struct{ Name, Value string }

// facts makes facts of names and values, and leaves out empty values.
func facts(pairs ...string) []fact {
	var all []fact

	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			all = append(all, fact{pairs[i], pairs[i+1]})
		}
	}

	return all
}

func cards(inc *events.Incident, o *Options) []card {
	a := answersOf(inc)

	return []card{
		{"Whose limit was hit", cmp.Or(phrase.Capitalize(a.limited), "unknown"), limiterFacts(inc)},
		{"What triggered it", cmp.Or(phrase.Capitalize(a.triggered), noTrigger(inc)), triggerFacts(inc)},
		{"Which process died", cmp.Or(a.died, "None"), victimFacts(inc, o)},
		{"Who sent the signal", killerAnswer(inc, a), killerFacts(inc)},
	}
}

func noTrigger(inc *events.Incident) string {
	if inc.Scope == events.ScopeUser {
		return "None: no allocation failed"
	}

	return "unknown"
}

func killerAnswer(inc *events.Incident, a answers) string {
	switch {
	case inc.Outcome != events.OutcomeKilled:
		return phrase.Capitalize(outcome(inc, a))
	case a.killed == "":
		return "unknown"
	}

	return phrase.Capitalize(strings.TrimSuffix(a.killed, ","))
}

func limiterFacts(inc *events.Incident) []fact {
	l := inc.Limiter
	if l == nil {
		return nil
	}

	swap := "swap used"
	if l.V1() {
		swap = "memory+swap used" // cgroup v1 counts them together
	}
	w := identity(l.Workload)

	return facts("used", size(l.UsageBytes), "limit", size(l.LimitBytes), swap, usedOf(l.SwapUsageBytes, l.SwapLimitBytes),
		"within", phrase.Within(l.Workload), "QoS", w.QoS, "pod UID", phrase.ShortID(w.PodUID),
		"container ID", phrase.ShortID(w.ContainerID), "cgroup", path(l.Cgroup))
}

// usedOf is the usage, and the limit if there is one.
func usedOf(usage, limit *uint64) string {
	switch {
	case usage == nil:
		return ""
	case limit == nil:
		return phrase.Size(*usage)
	}

	return phrase.Size(*usage) + " of " + phrase.Size(*limit)
}

func triggerFacts(inc *events.Incident) []fact {
	var all []fact

	if p := inc.Trigger; p != nil {
		thread := ""
		if p.Thread != "" && p.TID != p.PID {
			thread = phrase.Task(p.Thread, p.TID)
		}
		all = facts("thread", thread, "container ID", phrase.ShortID(identity(p.Workload).ContainerID), "cgroup", path(p.Cgroup))
	}

	if w := inc.Wait; w != nil {
		tasks := ""
		if n := len(w.Tasks) + w.TasksLeftOut; n > 0 {
			tasks = phrase.Plural(n, "task")
		}
		all = append(all, facts("waiting for memory", tasks, "ended after", span(w.EndedAfterNS), "end", phrase.WaitEnd(w.End))...)
	}

	if a := inc.Allocation; a != nil && inc.Scope != events.ScopeUser {
		order := ""
		if a.Order != nil && *a.Order >= 0 && *a.Order < 32 {
			order = fmt.Sprintf("order %d (%s)", *a.Order, phrase.Plural(1<<*a.Order, "page"))
		}
		all = append(all, facts("allocation", order, "for", phrase.Class(a.Class), "flags", strings.Join(a.GFPFlags, " | "))...)
	}

	return all
}

func victimFacts(inc *events.Incident, o *Options) []fact {
	if len(inc.Victims) == 0 {
		return nil
	}
	v := &inc.Victims[0]
	w := identity(v.Workload)
	var memory, init, adj, started string

	if v.AnonRSSBytes != nil {
		memory = phrase.Size(*v.AnonRSSBytes) + " anonymous"
	}

	if v.IsContainerInit != nil && *v.IsContainerInit {
		init = "yes, so the container ended"
	}

	if v.OOMScoreAdj != nil {
		adj = fmt.Sprint(*v.OOMScoreAdj)
	}

	if v.StartTime != nil {
		started = phrase.When(*v.StartTime, time.DateTime, o.location())
	}

	return facts("container ID", phrase.ShortID(w.ContainerID), "image", w.Image, "memory", memory, "container init", init,
		"oom_score_adj", adj, "started", started, "exited after", span(v.ExitAfterNS), "memory reaped after", span(v.ReapedAfterNS),
		"memory freed after", span(v.ReleasedAfterNS))
}

func killerFacts(inc *events.Incident) []fact {
	k := inc.Killer
	if k == nil {
		return nil
	}
	var way, group, login, term, reported string

	if k.Path != "" && k.Kind != events.KillerUser {
		way = phrase.KillPath(k.Path, inc.Scope)
		if k.BPFProgram != nil {
			way = phrase.Join(" ", way, phrase.ClipName(k.BPFProgram.Name))
		}
	}

	if k.GroupCgroup != nil || k.GroupLevel != "" {
		group = strings.TrimSpace("memory.oom.group=1 at " + string(k.GroupLevel))
	}

	var parents []string
	for _, a := range k.Ancestry {
		parents = append(parents, phrase.Task(a.Comm, a.PID))
	}

	if l := k.Login; l != nil {
		login = phrase.Join(", ", l.User, l.SudoUser, l.TTY, l.Session)
	}

	if k.TermBeforeNS != nil {
		term = phrase.Duration(*k.TermBeforeNS) + " earlier"
	}

	if len(inc.Reported) > 0 {
		reported = inc.Reported[0].Reason
	}

	follows := ""
	if inc.Follows != nil {
		follows = phrase.Capitalize(phrase.Following(inc.Follows))
	}

	return facts("path", way, "group", group, "reason", phrase.KillReason(k.Reason), "SIGTERM", term, "before it", follows,
		"program", k.Exe, "parents", strings.Join(parents, " ← "), "login", login, "cgroup", path(k.Cgroup), "runtime report", reported)
}

// identity is the workload, or an empty one.
func identity(w *events.Workload) events.Workload {
	if w == nil {
		return events.Workload{}
	}

	return *w
}

func path(c *events.Cgroup) string {
	if c == nil {
		return ""
	}

	return phrase.ShortPath(c.Path, 64)
}
