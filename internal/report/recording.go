// SPDX-License-Identifier: Apache-2.0

package report

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
)

// Recording is the source of the incidents that a reader selects.
func Recording(r *record.Reader) Source { return recording{r} }

type recording struct{ *record.Reader }

func (r recording) Incidents(do func(*events.Incident) error) error {
	return record.Incidents(r.Reader, do)
}

func (r recording) Warnings() []string { return r.Stats().Warnings() }
