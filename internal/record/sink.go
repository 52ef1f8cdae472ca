// SPDX-License-Identifier: Apache-2.0

package record

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// NewSink returns a sink that appends each published line to a recording. An incident is
// on disk when its Write returns; other lines follow within a second. A line that cannot
// be recorded does not fail Write: see [Writer.Append].
func NewSink(w *Writer) sink.Sink {
	return sink.Func(func(l events.Line) error {
		if events.Published(l) == nil {
			return nil
		}

		line, err := events.Marshal(l)
		if err != nil {
			return err
		}
		_, durable := l.(*events.Incident)
		w.Append(line, durable)

		return nil
	})
}
