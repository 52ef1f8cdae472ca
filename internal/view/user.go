// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// headWords are the outcome of an incident, and its colour. A kill by a user is not
// for want of memory.
func headWords(inc *events.Incident) (words, style string) {
	if inc.Scope == events.ScopeUser {
		return "KILLED", styleWarn
	}

	return verdict(inc.Outcome)
}

// byWhom is the headline of a kill by a user: who, instead of what ran out.
func byWhom(k *events.Killer) string {
	switch {
	case k == nil:
		return "by a process that is not known"
	case k.Path == "pidns":
		return "by the kernel, as the container's init ended"
	case k.Kind == "kernel":
		return "by the kernel, not for memory"
	}

	text := "by " + task(k.Comm, k.PID)
	if k.Reason != "" {
		text += ", " + reasonWords(k.Reason)
	}

	return text
}

// reasonWords is why a user killed.
func reasonWords(reason string) string {
	switch reason {
	case "unit_stop":
		return "stop of the unit"
	case "timeout":
		return "the stop took too long"
	case "asked":
		return "asked for"
	}

	return spaced(reason) // eviction, delete, probe, preemption, memory_pressure
}

// userPath is the way of a kill by a user.
func userPath(path string) string {
	switch path {
	case "runtime":
		return "container runtime"
	case "self":
		return "from inside"
	case "pidns":
		return "end of the pid namespace"
	case "cgroup_kill":
		return "cgroup.kill"
	case "cron":
		return "cron job"
	}

	return spaced(path) // systemd, systemd-oomd, earlyoom, human, other
}

// userKiller has who sent a SIGKILL, on whose behalf, and what says so.
func (b block) userKiller() []group {
	k := b.inc.Killer
	if k == nil || b.inc.Scope != events.ScopeUser {
		return nil
	}

	items := []string{task(k.Comm, k.PID), userPath(k.Path)}
	if k.Reason != "" {
		items = append(items, reasonWords(k.Reason))
	}

	if k.UID != nil && (b.wide || *k.UID != 0) {
		items = append(items, fmt.Sprintf("uid %d", *k.UID))
	}

	if k.TermBeforeNS != nil {
		items = append(items, "SIGTERM "+duration(*k.TermBeforeNS)+" before")
	}

	groups := []group{list(items...)}
	if k.Exe != "" && b.wide {
		groups = append(groups, list(k.Exe))
	}

	if len(k.Ancestry) > 0 {
		groups = append(groups, b.ancestry(k.Ancestry))
	}

	if k.Cgroup != nil && k.Cgroup.Path != "" {
		groups = append(groups, list("in "+b.path(k.Cgroup, b.max-3)[0]))
	}

	return append(groups, loginWords(k.Login))
}

// narrowAncestors is how many parents a narrow block shows.
const narrowAncestors = 5

func (b block) ancestry(all []events.Ancestor) group {
	g := group{sep: " < "}

	for i, a := range all {
		if !b.wide && i == narrowAncestors && len(all) > i+1 {
			g.items = append(g.items, fmt.Sprintf("%d more", len(all)-i))
			break
		}

		g.items = append(g.items, task(a.Comm, a.PID))
	}
	g.items[0] = "below " + g.items[0]

	return g
}

func loginWords(l *events.Login) group {
	if l == nil {
		return list()
	}
	var items []string
	add := func(word, value string) {
		if value != "" {
			items = append(items, word+" "+value)
		}
	}
	add("login", l.User)
	add("sudo by", l.SudoUser)
	add("session", l.Session)
	add("on", l.TTY)

	return list(items...)
}

// userEvidence is what the killer's path and reason rest on.
func (b block) userEvidence() []group {
	if b.inc.Killer == nil || b.inc.Scope != events.ScopeUser {
		return nil
	}
	var groups []group

	for _, e := range b.inc.Killer.Evidence {
		text := strings.TrimSpace(spaced(e.What) + ": " + e.Value)
		if b.wide && e.Source != "" {
			text += " (" + e.Source + ")"
		}

		groups = append(groups, prose(text))
	}

	return groups
}
