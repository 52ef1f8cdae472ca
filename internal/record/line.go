// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Line is a line of a recording. Only the keys that all lines have are decoded.
type Line struct {
	// Raw is the line as written, without its newline. It is valid until the next line
	// is read.
	Raw []byte
	events.Envelope
	ID string // of an incident and its updates
}

var errNoKind = errors.New("no kind")

// parse decodes the keys that all lines have. Unknown keys and kinds are accepted.
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
		// In an unknown kind, id may have any type.
		if err := json.Unmarshal(head.ID, &l.ID); err != nil && l.IsIncident() {
			return Line{}, err
		}
	}

	return l, nil
}

// Looks reports whether text, the start of a file, looks like a recording: a line is one of
// the contract, or the last one is the start of such a line.
func Looks(text []byte) bool {
	for raw := range bytes.Lines(text) {
		raw = bytes.TrimSpace(raw)
		if l, err := parse(raw); err == nil && l.V > 0 || bytes.HasPrefix(raw, []byte(`{"v":1,"kind":"`)) {
			return true
		}
	}

	return false
}

// IsIncident reports whether the line is an incident or an update of one.
func (l *Line) IsIncident() bool {
	return l.Kind == events.KindIncident || l.Kind == events.KindIncidentUpdate
}

// Decode returns the decoded line, which does not refer to Raw; nil for an unknown kind.
// Unknown keys are dropped. An update has its Change only: see [ledger.Ledger.Take].
func (l *Line) Decode() (events.Line, error) { return events.Decode(l.Kind, l.Raw) }

// key identifies an incident: its id is unique within one boot.
type key struct{ bootID, id string }

func (l *Line) key() key { return key{l.BootID, l.ID} }

// Selection selects lines. The zero value selects all.
type Selection struct {
	// Since and Until bound the time of a line, both included; zero is no bound. Updates
	// and the final line are selected with their incident, whatever their own time.
	Since, Until time.Time
	// ID selects only the incident with this id or short id, its updates and its final line. FindID
	// returns the id for a prefix.
	ID string
}

// maxSelected bounds for how many incidents updates are still selected. A trace
// updates fewer incidents: see incident.MaxOpen.
const maxSelected = 4096

// selector applies a Selection to lines in the order of the recording.
type selector struct {
	Selection
	incidents map[key]bool // selected ones
	order     []key        // of incidents, oldest first
}

func (s *selector) selects(l *Line) bool {
	if s.Selection == (Selection{}) {
		return true
	}

	if l.Kind == events.KindIncidentUpdate || l.Kind == events.KindIncidentFinal {
		return s.incidents[l.key()]
	}

	if !s.Since.IsZero() && l.Time.Before(s.Since) || !s.Until.IsZero() && l.Time.After(s.Until) {
		return false
	}

	if l.Kind != events.KindIncident {
		return s.ID == ""
	}

	if s.ID != "" && l.ID != s.ID && events.ShortID(l.ID) != s.ID {
		return false
	}

	s.remember(l.key())

	return true
}

func (s *selector) remember(k key) {
	if s.incidents[k] {
		return
	}

	if s.incidents == nil {
		s.incidents = make(map[key]bool)
	}

	s.incidents[k] = true
	if s.order = append(s.order, k); len(s.order) > maxSelected {
		delete(s.incidents, s.order[0])
		s.order = s.order[1:]
	}
}
