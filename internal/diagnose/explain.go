// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"reflect"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// openIncidents bounds how many incidents an Explainer holds whole. Evidence
// comes within seconds of the kill; in those, hundreds may die.
const openIncidents = 256

// Explainer follows the lines of a trace and gives causes when asked, as the
// evidence of an incident comes in pieces. The zero value is ready. It is not safe
// for concurrent use.
type Explainer struct {
	journal Journal
	open    map[string]*events.Incident // with updates merged
	order   []string                    // their ids, oldest first
	dropped uint64
}

// Take takes in an incident, or an update of one. It keeps a copy of the top
// level; what the line points to must not be changed any more. An update of an
// incident that is held no longer is ignored.
func (e *Explainer) Take(line *events.Incident) {
	inc := e.open[line.ID]
	switch {
	case line.Kind == events.KindIncidentUpdate && inc == nil:
		return
	case line.Kind == events.KindIncidentUpdate:
		events.Merge(inc, line)
	default:
		if e.open == nil {
			e.open = map[string]*events.Incident{}
		}

		if inc == nil {
			e.order = append(e.order, line.ID)
		}
		kept := *line
		inc = &kept

		e.open[line.ID] = inc
		if len(e.order) > openIncidents {
			if old := e.open[e.order[0]]; old.Causes == nil && Explicable(old) {
				e.dropped++
			}

			delete(e.open, e.order[0])
			e.order = slices.Delete(e.order, 0, 1)
		}
	}

	e.journal.Add(inc)
}

// Explain gives the causes of an incident as far as its evidence is there by now.
// They are nil if they are the same as before, or the incident is not known: then
// there is nothing to tell.
func (e *Explainer) Explain(id string) []events.Cause {
	inc := e.open[id]
	if inc == nil {
		return nil
	}

	causes := Diagnose(inc, e.journal.Before(inc))
	if len(causes) == 0 || reflect.DeepEqual(causes, inc.Causes) {
		return nil
	}
	inc.Causes = causes

	return causes
}

// Dropped counts the incidents that came so fast that they were held no longer when
// their causes could have been asked for.
func (e *Explainer) Dropped() uint64 { return e.dropped }

// Explicable tells of outcomes that have a cause worth looking for; others end by
// themselves.
func Explicable(inc *events.Incident) bool {
	return inc.Outcome == events.OutcomeKilled || inc.Outcome == events.OutcomeNoKillable
}
