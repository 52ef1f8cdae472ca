// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Line is a line of a recording, of which only what all lines have is decoded.
type Line struct {
	// Raw is the line as it was written, without the newline. It is valid until the
	// next one is read.
	Raw []byte
	events.Envelope
	ID string // of an incident and its updates
}

var errNoKind = errors.New("no kind")

// parse looks at what all lines have. Keys and kinds that are not known are fine.
func parse(raw []byte) (Line, error) {
	var head struct {
		events.Envelope
		ID json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return Line{}, err
	}

	if head.Kind == "" {
		return Line{}, errNoKind
	}

	l := Line{Raw: raw, Envelope: head.Envelope}
	if len(head.ID) > 0 {
		// The id of a kind that is not known may be anything.
		if err := json.Unmarshal(head.ID, &l.ID); err != nil && l.IsIncident() {
			return Line{}, err
		}
	}

	return l, nil
}

// IsIncident tells incidents and their updates from other lines.
func (l *Line) IsIncident() bool {
	return l.Kind == events.KindIncident || l.Kind == events.KindIncidentUpdate
}

// Decode returns the line, nothing of which points to Raw; nil for an unknown kind.
// Unknown keys are left out. An update has its Change only: see [ledger.Ledger.Take].
func (l *Line) Decode() (events.Line, error) { return events.Decode(l.Kind, l.Raw) }

// key names an incident for ever: its id is unique in a boot only.
type key struct{ bootID, id string }

func (l *Line) key() key { return key{l.BootID, l.ID} }

// Selection picks lines. The zero value takes all.
type Selection struct {
	// Since and Until bound the time of a line, both included; zero is no bound. An
	// update belongs to its incident, whenever it came.
	Since, Until time.Time
	// ID takes the incident of this id alone, and its updates.
	ID string
}

// selectedMost is for how many incidents updates are let through. The trace itself
// gives updates only of its last 1024.
const selectedMost = 4096

// selector applies a selection to lines in their order.
type selector struct {
	Selection
	taken map[key]bool
	order []key // of taken, the oldest first
}

func (s *selector) takes(l *Line) bool {
	if s.Selection == (Selection{}) {
		return true
	}

	if l.Kind == events.KindIncidentUpdate {
		return s.taken[l.key()]
	}

	if !s.Since.IsZero() && l.Time.Before(s.Since) || !s.Until.IsZero() && l.Time.After(s.Until) {
		return false
	}

	if l.Kind != events.KindIncident {
		return s.ID == ""
	}

	if s.ID != "" && l.ID != s.ID {
		return false
	}

	if k := l.key(); !s.taken[k] {
		if s.taken == nil {
			s.taken = make(map[key]bool)
		}

		s.taken[k] = true
		if s.order = append(s.order, k); len(s.order) > selectedMost {
			delete(s.taken, s.order[0])
			s.order = s.order[1:]
		}
	}

	return true
}
