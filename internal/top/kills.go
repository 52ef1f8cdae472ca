// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"fmt"
	"slices"
	"time"

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
			k.set(l.After)
		}
	case *events.Lost:
		k.lost += l.Count
	}
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
	if i := slices.IndexFunc(k.list, func(at kill) bool { return at.id == id }); i >= 0 {
		return &k.list[i]
	}

	if len(k.list) == keptKills {
		k.list = k.list[:keptKills-1]
		k.leftOut++
	}
	k.list = slices.Insert(k.list, 0, kill{id: id})

	return &k.list[0]
}

func (k *kill) time() time.Time {
	if k.incident != nil {
		return k.incident.Time
	}

	return k.headline.Time
}

// victim is who died, with the number of others.
func (k *kill) victim() string {
	switch inc := k.incident; {
	case inc == nil:
		return phrase.Task(k.headline.Comm, k.headline.PID)
	case len(inc.Victims) == 0:
		return "(" + phrase.Spaced(string(inc.Outcome)) + ")"
	case len(inc.Victims) == 1:
		return phrase.Victim(&inc.Victims[0], inc.Killer)
	default:
		return fmt.Sprintf("%s +%d", phrase.Victim(&inc.Victims[0], inc.Killer), len(inc.Victims)-1)
	}
}

// where is the workload of the victim, else of the limiter.
func (k *kill) where() string {
	inc := k.incident

	switch {
	case inc == nil:
		return ""
	case len(inc.Victims) > 0 && inc.Victims[0].Cgroup != nil:
		v := &inc.Victims[0]
		return place(v.Workload, v.Cgroup)
	case inc.Limiter != nil && inc.Limiter.Cgroup != nil:
		return place(inc.Limiter.Workload, inc.Limiter.Cgroup)
	}

	return "?"
}

// place is the innermost workload of a process, else its cgroup.
func place(w *events.Workload, c *events.Cgroup) string {
	return phrase.RowName(cmp.Or(w.Innermost(), events.LevelCgroup), w, c.Path)
}

// limit is whose limit was hit, and the limit.
func (k *kill) limit() string {
	inc := k.incident

	switch {
	case inc == nil:
		return phrase.Spaced(string(k.headline.Scope))
	case inc.Scope == events.ScopeUser:
		return "no OOM"
	case inc.Limiter == nil:
		return phrase.Spaced(string(inc.Scope))
	case inc.Limiter.Level == events.LevelNode || inc.Limiter.LimitBytes == nil:
		return levelName(inc.Limiter.Level)
	}

	return levelName(inc.Limiter.Level) + " " + phrase.ShortSize(inc.Limiter.LimitBytes)
}

// why is the rule of the first cause.
func (k *kill) why() string {
	switch inc := k.incident; {
	case inc == nil:
		return "…"
	case len(inc.Causes) > 0:
		return phrase.Spaced(inc.Causes[0].ID)
	case inc.Scope == events.ScopeUser:
		return phrase.KilledBy(inc.Killer)
	}

	return "-"
}
