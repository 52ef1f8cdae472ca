// SPDX-License-Identifier: Apache-2.0

package sink

import "github.com/oomtrace/oomtrace/internal/events"

// Match selects lines. A nil function selects all lines of its type.
type Match struct {
	Incident func(*events.Incident) bool
	Stall    func(*events.StallLine) bool
	Pressure func(*events.PressureLine) bool
	// Undecided reports whether an incident that does not match may match once the names of
	// its workloads are resolved; nil: names do not matter.
	Undecided func(*events.Incident) bool
}

// Filter forwards the lines that match, and those about the trace itself: lost records and
// status. It keeps no incidents: an incident was forwarded before if it matched before its
// latest change.
//
// An incident that matches only since an update, as with late names, is forwarded as a whole
// at that time. Headlines are dropped: whether their incidents will match is unknown.
type Filter struct {
	match Match
	next  Sink
	shown uint64
	// counts are the incidents that are in each state now.
	counts [states]uint64
}

// state is what became of an incident.
type state int

const (
	matches   state = iota
	undecided       // it does not match, and has no names yet
	hidden
	states
)

// NewFilter returns a Filter in front of next.
func NewFilter(match Match, next Sink) *Filter { return &Filter{match: match, next: next} }

// Undecided returns the number of incidents that were dropped though they might match: the
// names of their workloads were not resolved.
func (f *Filter) Undecided() uint64 { return f.counts[undecided] }

// Hidden returns the number of incidents that do not match, apart from those that are
// undecided.
func (f *Filter) Hidden() uint64 { return f.counts[hidden] }

// Write forwards or drops a line.
func (f *Filter) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Headline:
		return nil
	case *events.Explained:
		if f.state(l.Incident) != matches {
			return nil
		}
	case *events.Final:
		if f.state(&l.Incident) != matches {
			return nil
		}
	case *events.Incident:
		return f.incident(l)
	case *events.Update:
		return f.update(l)
	case *events.StallLine:
		if f.match.Stall != nil && !f.match.Stall(l) {
			return nil
		}
	case *events.PressureLine:
		if f.match.Pressure != nil && !f.match.Pressure(l) {
			return nil
		}
	case *events.Status:
		return f.status(l)
	}

	return f.next.Write(l)
}

func (f *Filter) incident(inc *events.Incident) error {
	is := f.state(inc)
	f.counts[is]++

	if is != matches {
		return nil
	}

	f.shown++

	return f.next.Write(inc)
}

func (f *Filter) update(u *events.Update) error {
	if u.After == nil {
		return nil // the incident is unknown
	}

	was := f.state(u.Before)
	if was == matches {
		return f.next.Write(u)
	}

	is := f.state(u.After)
	f.counts[was]--
	f.counts[is]++

	if is != matches {
		return nil
	}

	f.shown++

	return f.next.Write(u.After)
}

// status adds the number of forwarded incidents to the totals. A recording may have several
// traces, which are counted separately.
func (f *Filter) status(s *events.Status) error {
	switch s.Phase {
	case events.PhaseStart:
		f.shown = 0
	case events.PhaseEnd:
		end, shown := *s, f.shown
		end.Shown = &shown
		s = &end
	}

	return f.next.Write(s)
}

func (f *Filter) state(inc *events.Incident) state {
	switch {
	case f.match.Incident == nil || f.match.Incident(inc):
		return matches
	case f.match.Undecided != nil && f.match.Undecided(inc):
		return undecided
	}

	return hidden
}
