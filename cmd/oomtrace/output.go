// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/view"
)

// formatFlags choose the format of the output.
type formatFlags struct {
	output    string
	wide, utc bool
	color     string
}

// colorModes are the values of --color; the first is the default.
var colorModes = []string{"auto", "always", "never"}

// add adds the flags of a command with these formats; the first is the default.
func (f *formatFlags) add(flags *pflag.FlagSet, outputs ...string) {
	flags.VarP(newChoice(&f.output, outputs...), "output", "o", "output format")
	flags.BoolVarP(&f.wide, "wide", "w", false,
		"show everything: full IDs and paths, all victims, zeros, lines of any length")
	flags.BoolVar(&f.utc, "utc", false, "show times in UTC (JSON always does)")
	flags.Var(newChoice(&f.color, colorModes...), "color", "color text; auto: on a terminal, unless NO_COLOR is set")
}

func (f *formatFlags) location() *time.Location {
	if f.utc {
		return time.UTC
	}

	return time.Local
}

// textOptions returns the layout of text on w. Where it is no terminal, text has dates, and is as
// wide as COLUMNS, or an email.
func (f *formatFlags) textOptions(w io.Writer) view.TextOptions {
	width, isTerminal := terminal(w)
	if f.wide {
		width = 0
	}

	return view.TextOptions{
		Width: width, Dates: !isTerminal, Terminal: isTerminal, Color: f.colors(isTerminal), ASCII: !utf8Locale(), Location: f.location(),
	}
}

// tableWidth is the columns of a table: no limit in a pipe, since rows that are cut are of no use
// there, unless COLUMNS has one.
func tableWidth(layout view.TextOptions) int {
	if !layout.Terminal && os.Getenv("COLUMNS") == "" {
		return 0
	}

	return layout.Width
}

// colors reports whether to use colour: https://no-color.org, and CLICOLOR_FORCE as ls of BSD.
func (f *formatFlags) colors(isTerminal bool) bool {
	switch {
	case f.color == "always":
		return true
	case f.color == "never" || os.Getenv("NO_COLOR") != "":
		return false
	case os.Getenv("CLICOLOR_FORCE") != "" && os.Getenv("CLICOLOR_FORCE") != "0":
		return true
	}

	return isTerminal && os.Getenv("TERM") != "dumb"
}

// utf8Locale reports whether the locale has more than ASCII. Without one it is C.
func utf8Locale() bool {
	locale := strings.ToLower(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG")))

	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

// output writes lines in the format of the flags, if they match the filter.
type output struct {
	sink.Sink
	filter *sink.Filter // nil without a filter
	flags  string       // of the filter
	text   *view.Text   // nil in other formats, and so are stalls
	stalls *view.StallFold
	// closers have something left to write at the end, in this order.
	closers []sink.Closer
	stderr  io.Writer
}

// newOutput returns the output on stdout. A recording passes raw, which is used in place
// of the encoder of -o json.
func newOutput(f *traceFlags, raw sink.Sink, stdout, stderr io.Writer) *output {
	out := &output{stderr: stderr}
	layout := f.textOptions(stdout)
	plain := layout
	plain.Color, plain.Terminal = false, false

	holdBack := sink.NewWhole
	if raw != nil { // lines of the past come at once, and keep their order
		holdBack = sink.NewWholeInOrder
	}

	switch f.output {
	case "json":
		if out.Sink = raw; raw == nil {
			out.Sink = view.NewJSON(stdout)
		}
	case "table":
		table := view.NewTable(stdout, view.TableOptions{
			Width: tableWidth(layout), Dates: layout.Dates, ASCII: layout.ASCII, Location: layout.Location,
		})
		whole := holdBack(table)
		out.Sink, out.closers = divertStatus(view.NewText(stderr, plain), whole), []sink.Closer{whole, table}
	case "bcc":
		var load func() string
		if raw == nil { // the current load does not belong to a recording
			load = loadavg
		}
		out.Sink = divertStatus(view.NewText(stderr, plain), view.NewBCC(stdout, load, layout.Location))
	default:
		layout.Fold, layout.Source, layout.Unkept = !f.wide, f.recording, raw == nil && !f.record.keeps()
		out.text = view.NewText(stdout, layout)
		out.stalls = view.NewStallFold(out.text)
		whole := holdBack(out.stalls)
		out.Sink, out.closers = whole, []sink.Closer{whole, out.stalls, out.text}
	}

	if f.filter.active() {
		out.filter, out.flags = sink.NewFilter(f.filter.match(), out.Sink), f.filter.String()
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

// Idle writes what was held back for long enough. A live trace calls it between records.
func (o *output) Idle() error {
	if o.text == nil {
		return nil
	}

	now := time.Now()
	if err := o.stalls.Flush(now); err != nil {
		return err
	}

	return o.text.Flush(now)
}

// close finishes the output, and reports how many incidents the filter hides, and how many it could
// not decide on.
func (o *output) close() error {
	if o.filter != nil && o.filter.Hidden() > 0 {
		warnings(o.stderr)(report.Hidden(o.filter.Hidden(), o.flags))
	}

	if o.filter != nil && o.filter.Undecided() > 0 {
		warnings(o.stderr)(phrase.Plural(o.filter.Undecided(), "incident") +
			" not shown: the pod names could not be resolved, so the filter could not be applied")
	}

	for _, c := range o.closers {
		if err := c.Close(); err != nil {
			return err
		}
	}

	return nil
}

// closing closes an output after what wrote to it has ended with an error or nil, and returns the
// first error: what was held back is printed even if no more can be read.
func closing(o *output, err error) error {
	if cerr := o.close(); err == nil {
		return cerr
	}

	return err
}

// terminal returns the width of w, and whether it is a terminal. What is none is as wide as COLUMNS,
// or 80 columns, the width of an email; --wide lifts the limit.
func terminal(w io.Writer) (width int, isTerminal bool) {
	width = 80
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		width = columns
	}

	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return width, false
	}

	if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
		width = columns
	}

	return width, true
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
