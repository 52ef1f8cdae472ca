// SPDX-License-Identifier: Apache-2.0

package record

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/ledger"
)

// OpenIncidents bounds how many incidents of a recording wait for updates, and the bytes
// of their lines; decoded they take about twice that. A trace updates fewer incidents, see
// incident.MaxOpen.
var OpenIncidents = ledger.Limits{Incidents: 2048, Bytes: 32 << 20}

// Incidents calls do once for each incident that r selects, with all its updates merged,
// in the order of the incidents' own lines. It stops at the first error of do.
//
// An incident waits for updates until those that came after it exceed OpenIncidents. An
// update that comes later, or whose incident is not in the recording, is counted in
// Stats.Late.
func Incidents(r *Reader, do func(*events.Incident) error) error { return Walk(r, do, nil) }

// Walk is Incidents, and calls other, unless it is nil, with each line that is not about an
// incident, as it is read: before incidents that still wait for updates.
func Walk(r *Reader, do func(*events.Incident) error, other func(events.Line) error) error {
	open := ledger.New(OpenIncidents, do)

	for l, err := range r.Lines() {
		if err != nil {
			return err
		}

		r.coverage.add(l)

		if l.Kind == events.KindLost {
			r.stats.addLost(l)
		}

		if !l.IsIncident() && (other == nil || l.Kind == events.KindIncidentFinal) {
			continue
		}

		line, err := l.Decode()
		if err != nil {
			r.stats.Damaged++
			continue
		}

		switch {
		case l.IsIncident():
			_, err = open.Take(line, len(l.Raw))
		case line != nil: // a kind that is known
			err = other(line)
		}

		if err != nil {
			return err
		}
	}

	r.stats.Late += int(open.Late())
	r.coverage.finish()

	return open.Close()
}
