// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/view"
)

// formatFlags choose the format of the output.
type formatFlags struct {
	output    string
	wide, utc bool
}

// add adds the flags of a command with these formats; the first is the default.
func (f *formatFlags) add(flags *pflag.FlagSet, outputs ...string) {
	flags.VarP(newChoice(&f.output, outputs...), "output", "o", "output format")
	flags.BoolVarP(&f.wide, "wide", "w", false,
		"show everything: full IDs and paths, all victims, zeros, lines of any length")
	flags.BoolVar(&f.utc, "utc", false, "show times in UTC (JSON always does)")
}

func (f *formatFlags) location() *time.Location {
	if f.utc {
		return time.UTC
	}

	return time.Local
}

// textOptions returns the layout of text on w.
func (f *formatFlags) textOptions(w io.Writer) view.TextOptions {
	width, color := terminal(w)
	if f.wide {
		width = 0
	}

	return view.TextOptions{Width: width, Color: color, Location: f.location()}
}

// output writes lines in the format of the flags, if they match the filter.
type output struct {
	sink.Sink
	filter *sink.Filter // nil without a filter
	table  *view.Table  // nil in other formats
	stderr io.Writer
}

// newOutput returns the output on stdout. A recording passes raw, which is used in place
// of the encoder of -o json.
func newOutput(f *traceFlags, raw sink.Sink, stdout, stderr io.Writer) *output {
	out := &output{stderr: stderr}
	layout := f.textOptions(stdout)
	plain := layout
	plain.Color = false

	switch f.output {
	case "json":
		if out.Sink = raw; raw == nil {
			out.Sink = view.NewJSON(stdout)
		}
	case "table":
		out.table = view.NewTable(stdout, view.TableOptions{Width: layout.Width, Location: layout.Location})
		out.Sink = divertStatus(view.NewText(stderr, plain), out.table)
	case "bcc":
		var load func() string
		if raw == nil { // the current load does not belong to a recording
			load = loadavg
		}
		out.Sink = divertStatus(view.NewText(stderr, plain), view.NewBCC(stdout, load, layout.Location))
	default:
		out.Sink = view.NewText(stdout, layout)
	}

	if f.filter.active() {
		out.filter = sink.NewFilter(f.filter.match(), out.Sink)
		out.Sink = out.filter
	}

	return out
}

// divertStatus keeps status lines and lost records from a format that has no line for
// them.
func divertStatus(aside, next sink.Sink) sink.Sink {
	return sink.Func(func(l events.Line) error {
		switch l.(type) {
		case *events.Lost, *events.Status:
			return aside.Write(l)
		}

		return next.Write(l)
	})
}

// close finishes the output, and reports incidents that the filter could not decide on.
func (o *output) close() error {
	if o.filter != nil && o.filter.Undecided() > 0 {
		warnings(o.stderr)(phrase.Plural(o.filter.Undecided(), "incident") +
			" not shown: the pod names could not be resolved, so the filter could not be applied")
	}

	if o.table != nil {
		if err := o.table.Close(); err != nil {
			return fmt.Errorf("finish the output: %w", err)
		}
	}

	return nil
}

// terminal returns the width of w, and whether to use color. What is not a terminal is 80
// columns wide, the width of an email; --wide lifts the limit.
func terminal(w io.Writer) (width int, color bool) {
	const columns = 80

	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return columns, false
	}

	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		width = columns
	}

	return width, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// warnings returns a function that prints each warning as a line.
func warnings(stderr io.Writer) func(string) {
	return func(text string) { fmt.Fprintln(stderr, "oomtrace:", phrase.Sanitize(oneLine(text))) }
}

func loadavg() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}

	return string(text)
}
