// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// Line is one line of a trace: an *Incident, *Update, *Final, *StallLine, *PressureLine, *Lost
// or *Status, as published; or a *Headline or *Explained, which are for outputs to human readers
// only. A consumer may keep a line and must not change it.
type Line interface{ line() }

// Headline reports an OOM kill at its first victim. It precedes the incident with the same
// id and is not published.
type Headline struct {
	Time  time.Time
	ID    string // of the incident that follows
	Scope Scope  // empty: still unknown
	PID   int    // of the victim
	Comm  string
}

// HeadlineOf returns the headline of an incident. It returns false for an incident that has
// none: one without a victim of an OOM kill.
func HeadlineOf(inc *Incident) (*Headline, bool) {
	if inc.Outcome != OutcomeKilled || inc.Scope == ScopeUser || len(inc.Victims) == 0 {
		return nil, false
	}

	v := &inc.Victims[0]

	return &Headline{Time: inc.Time, ID: inc.ID, Scope: inc.Scope, PID: v.PID, Comm: v.Comm}, true
}

// Explained reports that the causes of an incident have been worked out, from the evidence that
// they waited for. It is not published.
type Explained struct {
	Incident *Incident // with all updates so far
}

// Final is an incident with all its updates, once nothing more is expected of it. It comes once
// for each incident, and what is learnt later, if anything, is one more Update.
type Final struct{ Incident }

// FinalOf returns the final line of an incident.
func FinalOf(inc *Incident) *Final {
	f := &Final{*inc}
	f.Kind = KindIncidentFinal

	return f
}

// Update reports a change of an incident.
type Update struct {
	// Change is the published line: the envelope of the update, the id of the incident, and
	// the keys that are new or changed.
	Change *Incident
	// Before and After are the whole incident without and with the change. Both are
	// nil if the incident is unknown: its line was lost, or is too many incidents ago.
	Before, After *Incident
}

func (*Incident) line()     {}
func (*Update) line()       {}
func (*StallLine) line()    {}
func (*PressureLine) line() {}
func (*Lost) line()         {}
func (*Status) line()       {}
func (*Headline) line()     {}
func (*Explained) line()    {}
func (*Final) line()        {}

// Kinds lists the kinds of lines that a trace prints. Decoding and the schema are derived
// from it.
func Kinds() []LineKind {
	return []LineKind{
		{KindIncident, func() Line { return new(Incident) }},
		{KindIncidentUpdate, func() Line { return &Update{Change: new(Incident)} }},
		{KindIncidentFinal, func() Line { return new(Final) }},
		{KindStall, func() Line { return new(StallLine) }},
		{KindPressure, func() Line { return new(PressureLine) }},
		{KindLost, func() Line { return new(Lost) }},
		{KindStatus, func() Line { return new(Status) }},
	}
}

// LineKind is one kind of line.
type LineKind struct {
	Kind string      // value of "kind"
	New  func() Line // returns an empty line
}

// NewLine returns an empty line of a kind, or nil for an unknown kind.
func NewLine(kind string) Line {
	for _, k := range Kinds() {
		if k.Kind == kind {
			return k.New()
		}
	}

	return nil
}

// Published returns what Marshal encodes: the change of an update, else the line itself. It
// returns nil for a line that is not published.
func Published(l Line) any {
	switch l := l.(type) {
	case *Update:
		return l.Change
	case *Final:
		return &l.Incident
	case *Headline, *Explained:
		return nil
	}

	return l
}
