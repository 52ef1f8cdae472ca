// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// userKiller is who sent a SIGKILL that no OOM explains, and on whose behalf.
func (b block) userKiller() []group {
	k := b.inc.Killer
	if k == nil || b.inc.Scope != events.ScopeUser {
		return nil
	}

	var items []string
	if k.Kind != events.KillerKernel || k.Comm != "" || k.PID != 0 { // else no process sent it
		items = append(items, phrase.Task(k.Comm, k.PID))
	}

	items = append(items, phrase.KillPath(k.Path, b.inc.Scope))
	if p := k.BPFProgram; p != nil {
		items = append(items, strings.TrimSpace(fmt.Sprintf("%s (id %d)", p.Name, p.ID)))
	}

	if k.Reason != "" {
		items = append(items, phrase.KillReason(k.Reason))
	}

	if k.UID != nil {
		items = append(items, fmt.Sprintf("uid %d", *k.UID))
	}

	if k.TermBeforeNS != nil {
		items = append(items, "SIGTERM "+phrase.Duration(*k.TermBeforeNS)+" earlier")
	}

	groups := []group{list(items...)}
	if k.Exe != "" {
		groups = append(groups, list(k.Exe))
	}

	if len(k.Ancestry) > 0 {
		groups = append(groups, b.parents(k.Ancestry))
	}

	if k.Cgroup != nil && k.Cgroup.Path != "" {
		groups = append(groups, list("in "+b.path(k.Cgroup)[0]))
	}

	return append(groups, login(k.Login))
}

func (b block) parents(all []events.Ancestor) group {
	g := group{sep: " < "}

	for _, a := range all {
		g.items = append(g.items, phrase.Task(a.Comm, a.PID))
	}
	g.items[0] = "child of " + g.items[0]

	return g
}

func login(l *events.Login) group {
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
		text := strings.TrimSpace(phrase.Spaced(e.What) + ": " + e.Value)
		if e.Source != "" {
			text += " (" + e.Source + ")"
		}

		groups = append(groups, prose(text))
	}

	return groups
}
