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
	return phrase.Address(Subject(inc))
}

// Subject is what an incident is listed under: workload and cgroup of the first victim, or else of
// the limiter. Both may be nil.
func Subject(inc *events.Incident) (*events.Workload, *events.Cgroup) {
	if len(inc.Victims) > 0 && (inc.Victims[0].Workload != nil || inc.Victims[0].Cgroup != nil) {
		return inc.Victims[0].Workload, inc.Victims[0].Cgroup
	}

	return inc.LimiterWorkload(), inc.LimiterCgroup()
}

// Reason is why something was killed, for a column of so many columns, 0 for any: who sent a SIGKILL
// that the OOM killer did not send, or else the first cause in a few words; where these do not fit, and
// of a recording without them, its rule, as in "ancestor limit". It is "-" where neither is known.
func Reason(inc *events.Incident, columns int) string {
	switch why := Why(inc); {
	case inc.Scope == events.ScopeUser:
		return phrase.KilledBy(inc.Killer)
	case why != "" && (columns == 0 || phrase.Fits(why, columns)):
		return why
	case why != "", len(inc.Causes) > 0 && inc.Causes[0].Brief == "":
		return cmp.Or(phrase.Spaced(inc.Causes[0].ID), "-")
	}

	return "-"
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
