// SPDX-License-Identifier: Apache-2.0

// Package view shows finished lines: to people as text, as a table or in the
// words of bcc's oomkill, to machines as JSON.
//
// No sink is safe for concurrent use. An error of the writer is returned as it
// comes (wrapped, so errors.Is finds EPIPE or ENOSPC); after it a sink writes
// nothing any more and returns the same error, since a line torn in the middle
// cannot be continued.
//
// What the kernel, a process name or a path says is hostile. Nothing of it
// reaches a terminal but by Sanitize, or as an escape of JSON.
package view

import (
	"fmt"
	"io"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Sink takes finished lines, which the caller changes no more: a sink may keep
// them. It changes nothing itself, and never asks back.
type Sink interface {
	// Headline comes at the first victim, before anything else is known. Only
	// the text sink shows it.
	Headline(Headline) error
	// Incident comes exactly once for each id.
	Incident(*events.Incident) error
	// Update holds what was learnt later: only new or changed keys.
	Update(*events.Incident) error
	Stall(*events.StallLine) error
	Pressure(*events.PressureLine) error
	Lost(*events.Lost) error
	Status(*events.Status) error
	// Close flushes what is held back. It does not close the writer.
	Close() error
}

// Headline is all that is known at the first victim.
type Headline struct {
	Time  time.Time
	ID    string       // of the incident that will follow
	Scope events.Scope // empty: not known yet
	PID   int          // of the victim
	Comm  string
}

// output hands whole lines to a writer, each by one Write, until one fails.
type output struct {
	w    io.Writer
	what string
	err  error
}

func (o *output) write(lines []byte) error {
	if o.err != nil || len(lines) == 0 {
		return o.err
	}

	n, err := o.w.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}

	if err != nil {
		o.err = fmt.Errorf("write %s: %w", o.what, err)
	}

	return o.err
}

// zone is the location to show times in.
func zone(l *time.Location) *time.Location {
	if l == nil {
		return time.Local
	}

	return l
}
