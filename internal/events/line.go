// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// Line is one line of a trace: an *Incident, *Update, *StallLine, *PressureLine, *Lost
// or *Status, as published; or a *Headline, which is shown to people only. What takes
// a line may keep it, and must not change it.
type Line interface{ line() }

// Headline is all that is known of an OOM kill at its first victim. It precedes the
// incident with the same id and is no line of the contract.
type Headline struct {
	Time  time.Time
	ID    string // of the incident that follows
	Scope Scope  // empty: not known yet
	PID   int    // of the victim
	Comm  string
}

// HeadlineOf returns the headline of an incident, and false for one without: a
// headline announces an OOM kill that has a victim.
func HeadlineOf(inc *Incident) (*Headline, bool) {
	if inc.Outcome != OutcomeKilled || inc.Scope == ScopeUser || len(inc.Victims) == 0 {
		return nil, false
	}

	v := &inc.Victims[0]

	return &Headline{Time: inc.Time, ID: inc.ID, Scope: inc.Scope, PID: v.PID, Comm: v.Comm}, true
}

// Update reports a change of an incident.
type Update struct {
	// Change is the published line: the envelope of the update, the id of the
	// incident, and the keys that are new or changed.
	Change *Incident
	// Before and After are the whole incident without and with the change. Both are
	// nil if the incident is not known: its line was lost, or too many came since.
	Before, After *Incident
}

func (*Incident) line()     {}
func (*Update) line()       {}
func (*StallLine) line()    {}
func (*PressureLine) line() {}
func (*Lost) line()         {}
func (*Status) line()       {}
func (*Headline) line()     {}

// Kinds are the kinds of lines that a trace prints, each with a constructor of its
// type. It is the one list of them: decoding and the schema are made from it.
func Kinds() []LineKind {
	return []LineKind{
		{KindIncident, func() Line { return new(Incident) }},
		{KindIncidentUpdate, func() Line { return &Update{Change: new(Incident)} }},
		{KindStall, func() Line { return new(StallLine) }},
		{KindPressure, func() Line { return new(PressureLine) }},
		{KindLost, func() Line { return new(Lost) }},
		{KindStatus, func() Line { return new(Status) }},
	}
}

// LineKind is one kind of line.
type LineKind struct {
	Kind string // value of "kind"
	New  func() Line
}

// NewLine returns an empty line of a kind, nil for an unknown kind.
func NewLine(kind string) Line {
	for _, k := range Kinds() {
		if k.Kind == kind {
			return k.New()
		}
	}

	return nil
}

// Published returns what is marshaled of a line: the change of an update, else the
// line itself. It is nil for a headline, which the contract does not have.
func Published(l Line) any {
	switch l := l.(type) {
	case *Update:
		return l.Change
	case *Headline:
		return nil
	}

	return l
}
