// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// keptKills is how many incidents can be opened.
const keptKills = 200

// kill is an incident, or the headline of one that is not complete yet.
type kill struct {
	id       string
	headline *events.Headline
	incident *events.Incident // nil: not yet
}

// kills are the newest incidents, newest first.
type kills struct {
	list    []kill
	killed  uint64 // processes, by the OOM killer
	signals uint64 // incidents of SIGKILLs that it did not send
	other   uint64 // incidents without a kill
	leftOut uint64 // incidents that are no longer in the list
	lost    uint64 // records of the trace
}

// add takes a line of the trace.
func (k *kills) add(l events.Line) {
	switch l := l.(type) {
	case *events.Headline:
		k.at(l.ID).headline = l
	case *events.Incident:
		k.set(l)
	case *events.Update:
		if l.After != nil {
			k.update(l)
		}
	case *events.Lost:
		k.lost += l.Count
	}
}

// update takes a change of an incident. One whose own line was dropped comes into the list by it; one
// that had to leave the list stays out, and its victims are not counted again.
func (k *kills) update(u *events.Update) {
	if k.find(u.After.ID) < 0 && len(k.list) == keptKills && u.After.Time.Before(k.list[keptKills-1].time()) {
		k.count(u.Before, u.After)
		return
	}

	k.set(u.After)
}

func (k *kills) set(inc *events.Incident) {
	at := k.at(inc.ID)
	k.count(at.incident, inc)
	at.incident = inc
}

// count counts what is new of an incident: a group may have further victims.
func (k *kills) count(before, after *events.Incident) {
	switch {
	case after.Scope == events.ScopeUser || after.Outcome != events.OutcomeKilled:
		if before == nil && after.Scope == events.ScopeUser {
			k.signals++
		} else if before == nil {
			k.other++
		}
	case before == nil:
		k.killed += uint64(len(after.Victims))
	default:
		k.killed += uint64(max(len(after.Victims)-len(before.Victims), 0))
	}
}

// at returns the entry of an incident, a new one if there is none.
func (k *kills) at(id string) *kill {
	if i := k.find(id); i >= 0 {
		return &k.list[i]
	}

	if len(k.list) == keptKills {
		k.list = k.list[:keptKills-1]
		k.leftOut++
	}
	k.list = slices.Insert(k.list, 0, kill{id: id})

	return &k.list[0]
}

// find returns the place of an incident in the list, -1 if it is not there.
func (k *kills) find(id string) int {
	return slices.IndexFunc(k.list, func(at kill) bool { return at.id == id })
}

func (k *kill) time() time.Time {
	if k.incident != nil {
		return k.incident.Time
	}

	return k.headline.Time
}

// columns are the cells of the list right of the time: those of a listing, and of a headline what it
// has. The last one has so many columns.
func (k *kill) columns(last int) []string {
	if h := k.headline; k.incident == nil {
		return []string{phrase.Task(h.Comm, h.PID), "", phrase.Spaced(string(h.Scope)), "…"}
	}

	inc := k.incident

	return []string{answer.Killed(inc), cmp.Or(answer.Where(inc), "?"), answer.Limit(inc), answer.Reason(inc, last)}
}
