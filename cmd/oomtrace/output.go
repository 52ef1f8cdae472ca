// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/view"
)

// output shows lines in the format and under the filter of the flags.
type output struct {
	sink.Sink
	filter *sink.Filter // nil: everything is shown
	table  *view.Table  // nil: another format
	stderr io.Writer
}

// newOutput shows lines on stdout. Raw, if it is not nil, takes the place of -o json.
func newOutput(f *traceFlags, raw sink.Sink, stdout, stderr io.Writer) *output {
	out := &output{stderr: stderr}
	loc := f.location()

	width, color := terminal(stdout)
	if f.wide {
		width = 0
	}
	text := func(w io.Writer, color bool) sink.Sink {
		return view.NewText(w, view.TextOptions{Width: width, Color: color, Location: loc})
	}

	switch f.output {
	case "json":
		if out.Sink = raw; raw == nil {
			out.Sink = view.NewJSON(stdout)
		}
	case "table":
		out.table = view.NewTable(stdout, view.TableOptions{Width: width, Location: loc})
		out.Sink = aboutTheTraceTo(text(stderr, false), out.table)
	case "bcc":
		var load func() string
		if raw == nil { // the load of today has nothing to do with a recording
			load = loadavg
		}
		out.Sink = aboutTheTraceTo(text(stderr, false), view.NewBCC(stdout, load, loc))
	default:
		out.Sink = text(stdout, color)
	}

	if f.filter.active() {
		out.filter = sink.NewFilter(f.filter.match(), out.Sink)
		out.Sink = out.filter
	}

	return out
}

// aboutTheTraceTo diverts lost records and status from a format that has no line for
// them.
func aboutTheTraceTo(aside, next sink.Sink) sink.Sink {
	return sink.Func(func(l events.Line) error {
		switch l.(type) {
		case *events.Lost, *events.Status:
			return aside.Write(l)
		}

		return next.Write(l)
	})
}

// close ends the output, and reports what the filter could not decide.
func (o *output) close() error {
	if o.filter != nil && o.filter.Undecided() > 0 {
		fmt.Fprintf(o.stderr, "oomtrace: incidents that are not shown, though they may match, for their pods never got a name: %d\n", o.filter.Undecided())
	}

	if o.table != nil {
		if err := o.table.Close(); err != nil {
			return fmt.Errorf("finishing the output: %w", err)
		}
	}

	return nil
}

func (f *traceFlags) location() *time.Location {
	if f.utc {
		return time.UTC
	}

	return time.Local
}

// terminal gives the width for w: a terminal's own, at most what stays readable.
// What is no terminal gets the width of an email, not unlimited lines: those are
// asked for by --wide.
func terminal(w io.Writer) (width int, color bool) {
	const columns = 80

	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return columns, false
	}

	if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
		width = columns
	} else {
		width = columns
	}

	return width, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func loadavg() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}

	return string(text)
}
