// SPDX-License-Identifier: Apache-2.0

package report

import (
	"io"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/perfetto"
)

// Perfetto writes the selected incidents as a trace for the Perfetto UI and its trace processor. Of a
// LineSource it has the stalls, early warnings and losses of the period as well, unless one incident is
// selected by its id. It streams.
func Perfetto(w io.Writer, src Source, o Options) (Result, error) {
	trace := perfetto.NewWriter(w)

	if lines, ok := src.(LineSource); ok && o.ID == "" {
		src = withLines{lines, func(line events.Line) error {
			if !o.selectsLine(line) {
				return nil
			}

			return trace.Line(line)
		}}
	}

	warnings, err := o.each(src, trace.Incident)
	if err != nil {
		return Result{}, err
	}

	written, err := trace.Close()

	return Result{Incidents: written.Incidents + written.Unplaced, Warnings: append(warnings, written.Warnings()...)}, err
}

// withLines is a source whose other lines go to a function.
type withLines struct {
	LineSource
	other func(events.Line) error
}

func (s withLines) Incidents(do func(*events.Incident) error) error { return s.Walk(do, s.other) }

// selectsLine reports whether a line that is not about an incident is of the period, and matches.
func (o *Options) selectsLine(line events.Line) bool {
	var at time.Time

	switch l := line.(type) {
	case *events.StallLine:
		at = l.Time
	case *events.PressureLine:
		at = l.Time
	case *events.Lost:
		at = l.Time
	default:
		return false
	}

	return (o.Since.IsZero() || !at.Before(o.Since)) && (o.Until.IsZero() || !at.After(o.Until)) &&
		(o.MatchLine == nil || o.MatchLine(line))
}
