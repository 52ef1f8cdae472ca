// SPDX-License-Identifier: Apache-2.0

package view

import (
	"io"

	"github.com/oomtrace/oomtrace/internal/events"
)

// NewJSON writes each line as one JSON object, by one Write, exactly as the
// contract has it (events.Marshal). Headlines are not lines of the contract.
func NewJSON(w io.Writer) Sink { return &jsonSink{output{w: w, what: "JSON"}} }

type jsonSink struct{ out output }

func (s *jsonSink) line(v any) error {
	line, err := events.Marshal(v)
	if err != nil {
		return err
	}

	return s.out.write(line)
}

func (s *jsonSink) Headline(Headline) error               { return s.out.err }
func (s *jsonSink) Incident(inc *events.Incident) error   { return s.line(inc) }
func (s *jsonSink) Update(inc *events.Incident) error     { return s.line(inc) }
func (s *jsonSink) Stall(l *events.StallLine) error       { return s.line(l) }
func (s *jsonSink) Pressure(l *events.PressureLine) error { return s.line(l) }
func (s *jsonSink) Lost(l *events.Lost) error             { return s.line(l) }
func (s *jsonSink) Status(st *events.Status) error        { return s.line(st) }
func (s *jsonSink) Close() error                          { return s.out.err }
