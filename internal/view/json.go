// SPDX-License-Identifier: Apache-2.0

package view

import (
	"io"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// NewJSON writes each published line as one JSON object (events.Marshal), by one
// Write.
func NewJSON(w io.Writer) sink.Sink {
	out := output{w: w, what: "JSON"}

	return sink.Func(func(l events.Line) error {
		if events.Published(l) == nil || out.err != nil {
			return out.err
		}

		line, err := events.Marshal(l)
		if err != nil {
			return err
		}

		return out.write(line)
	})
}
