// SPDX-License-Identifier: Apache-2.0

// Package sink defines what takes the lines of a trace, and combines such sinks: a new
// output is one Sink, joined by Tee.
package sink

import "github.com/oomtrace/oomtrace/internal/events"

// Sink takes lines in the order in which they are reported, from one goroutine. It may
// keep a line and must not change it. An error ends the trace.
type Sink interface {
	Write(events.Line) error
}

// Func is a function as a Sink.
type Func func(events.Line) error

// Write calls the function.
func (f Func) Write(l events.Line) error { return f(l) }

// Discard takes all lines and does nothing.
var Discard Sink = Func(func(events.Line) error { return nil })

// Tee hands each line to all sinks, in their order. The first error keeps the line
// from those that follow: what must be on disk before it is shown goes first.
func Tee(sinks ...Sink) Sink {
	return Func(func(l events.Line) error {
		for _, s := range sinks {
			if err := s.Write(l); err != nil {
				return err
			}
		}

		return nil
	})
}
