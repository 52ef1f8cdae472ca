// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"cmp"
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Killed is who was killed, for a column: "java[4711] +2". Where nothing was killed, it is what
// happened instead, in brackets.
func Killed(inc *events.Incident) string {
	if len(inc.Victims) > 0 {
		first := phrase.Victim(&inc.Victims[0], inc.Killer)
		if n := len(inc.Victims) - 1; n > 0 {
			first += fmt.Sprintf(" +%d", n)
		}

		return first
	}

	switch inc.Outcome {
	case events.OutcomeKilled:
		return "?"
	case events.OutcomeNoKillable:
		return "(none killable)"
	case events.OutcomeWaiting:
		return "(still exiting)"
	case events.OutcomeAlreadyExiting:
		if inc.Exiting != nil {
			return "(" + phrase.Task(inc.Exiting.Comm, inc.Exiting.PID) + " exiting)"
		}

		return "(was exiting)"
	case events.OutcomeOOMKillDisabled:
		return "(tasks wait)"
	case "":
		return "(unknown)"
	}

	return "(" + phrase.Spaced(string(inc.Outcome)) + ")"
}

// Where is where the victim ran, or else what the limiter is, for a column: "shop/cart-0/app",
// "web.service", the last names of a path. It is empty where nothing is known.
func Where(inc *events.Incident) string {
	w, cg := limiterWorkload(inc), limiterCgroup(inc)
	if len(inc.Victims) > 0 && (inc.Victims[0].Workload != nil || inc.Victims[0].Cgroup != nil) {
		w, cg = inc.Victims[0].Workload, inc.Victims[0].Cgroup
	}

	return phrase.Address(w, cg)
}

// Limit is the limit that was hit, for a column: "64.0Mi pod", "node". It is "-" where no memory
// was short.
func Limit(inc *events.Incident) string {
	l := inc.Limiter

	switch {
	case inc.Scope == events.ScopeUser, inc.Scope == events.ScopeSysrq && l == nil:
		return "-"
	case l == nil && inc.Scope == events.ScopeGlobal:
		return string(events.LevelNode)
	case l == nil:
		return "?"
	}

	level := cmp.Or(string(l.Level), "?")
	if l.LimitBytes == nil {
		return level
	}

	return phrase.ShortSize(l.LimitBytes) + " " + level
}
