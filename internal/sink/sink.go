// SPDX-License-Identifier: Apache-2.0

// Package sink defines the interface of outputs, fan-out and filter. A new output is one
// Sink, joined by Tee.
package sink

import "github.com/oomtrace/oomtrace/internal/events"

// Sink receives lines in the order in which they are reported, from one goroutine. It may
// keep a line and must not change it. An error ends the trace.
type Sink interface {
	Write(events.Line) error
}

// Closer is a Sink that has something left to write at its end.
type Closer interface {
	Sink
	Close() error
}

// Func is a Sink that calls a function.
type Func func(events.Line) error

// Write calls f.
func (f Func) Write(l events.Line) error { return f(l) }

// Discard drops all lines.
var Discard Sink = Func(func(events.Line) error { return nil })

// Tee returns a sink that writes each line to all sinks, in their order. After an error, the
// sinks that follow do not get the line; so a sink whose lines must be on disk before
// they are shown goes first.
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
