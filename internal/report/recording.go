// SPDX-License-Identifier: Apache-2.0

package report

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
)

// Recording is the source of the incidents and lines that a reader selects. It knows when the tracers
// ran: see Coverage of the reader.
func Recording(r *record.Reader) LineSource { return recording{r} }

type recording struct{ *record.Reader }

func (r recording) Incidents(do func(*events.Incident) error) error {
	return record.Incidents(r.Reader, do)
}

func (r recording) Walk(do func(*events.Incident) error, other func(events.Line) error) error {
	return record.Walk(r.Reader, do, other)
}

func (r recording) Warnings() []string { return r.Stats().Warnings() }
