// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Out takes what a Correlator finds. An incident belongs to Out once it was passed.
type Out interface {
	// Headline comes at the first victim, without waiting for anything. The incident has
	// an id, a time, a scope and that victim.
	Headline(*events.Incident) error
	// Incident comes once for each id.
	Incident(*events.Incident) error
	// Update has the id, and the keys that are new or changed. Its envelope is empty: the
	// receiver sets it as it reports the update.
	Update(*events.Incident) error
	// Finding is a result of the audit that belongs to no incident.
	Finding(at time.Time, text string) error
}

// emitter is the only user of Out. It counts what it emits.
type emitter struct {
	out                Out
	incidents, victims uint64
}

func (e *emitter) headline(inc *events.Incident) error { return e.out.Headline(inc) }

// incident emits an incident with that many victims, which may be more than it lists.
func (e *emitter) incident(inc *events.Incident, victims int) error {
	e.incidents++
	e.victims += uint64(victims)

	return e.out.Incident(inc)
}

func (e *emitter) update(change *events.Incident) error { return e.out.Update(change) }

func (e *emitter) finding(at time.Time, text string) error { return e.out.Finding(at, text) }
