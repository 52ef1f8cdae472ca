// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// TableOptions configures a Table. The zero value has all columns, each as wide as it gets, with
// dates, and local time.
type TableOptions struct {
	// Width is the columns that no row goes beyond, at least 60, with Dates 71; what does not fit ends with "…".
	// 0 has no limit: fields are padded, and never cut.
	Width int
	// Dates has the date in each row. Without it, a row has it in place of the time where the day
	// changes, and so has the first one unless it is today.
	Dates    bool
	ASCII    bool           // letters and signs alone, for terminals without UTF-8
	Location *time.Location // nil: local time
}

// NewTable writes one row for each incident: its short id, when, who was killed, where, at which
// limit and why. Rows are written at once, in columns of fixed width, since later rows are not
// known yet. Updates, status and lost records have none; a [sink.Whole] in front of it has the
// reason in the row.
func NewTable(w io.Writer, opts TableOptions) *Table {
	t := &Table{out: output{w: w, what: "table"}, opts: opts, loc: zone(opts.Location)}
	t.columns = t.layOut()

	return t
}

// Table is a sink.Sink. Close writes the header of a table without rows.
type Table struct {
	out     output
	opts    TableOptions
	loc     *time.Location
	columns []column
	table   *tablewriter.Table
	row     bytes.Buffer // the table writes in pieces, the sink row by row
	day     day          // of the last row
}

type column struct {
	title string
	width int
	text  func(*events.Incident) string
}

// layOut gives the columns with the place and the reason what the others leave, and in a narrow table takes what lacks
// from those that have most.
func (t *Table) layOut() []column {
	const (
		minWidth = 60
		gaps     = 5 // one blank between two columns
	)

	at := len(time.TimeOnly)
	if t.opts.Dates || t.opts.Width == 0 {
		at = len(time.DateTime)
	}

	columns := []column{
		{"ID", 8, func(inc *events.Incident) string { return events.ShortID(inc.ID) }},
		{"TIME", at, t.at},
		{"KILLED", 15, answer.Killed},
		{"WHERE", 16, answer.Where},
		{"LIMIT", 14, answer.Limit},
		{"WHY", 14, t.why},
	}

	if t.opts.Width == 0 {
		columns[2].width, columns[3].width, columns[4].width = 24, 40, 24
		columns[5].width = 60

		return columns
	}

	free := max(t.opts.Width, minWidth+at-len(time.TimeOnly)) - gaps
	for _, c := range columns {
		free -= c.width
	}

	// What is free goes to where and why first; a narrow table takes it from there, but leaves each
	// column some of its text.
	for _, c := range []struct{ column, least int }{{5, 8}, {3, 8}, {4, 8}, {2, 10}} {
		taken := min(max(-free, 0), columns[c.column].width-c.least)
		columns[c.column].width -= taken
		free += taken
	}

	limit := min(free, 3)
	columns[4].width += limit
	free -= limit

	columns[5].width += free - free/3
	columns[3].width += free / 3

	return columns
}

// at is the time of a row, or its date where the day changes.
func (t *Table) at(inc *events.Incident) string {
	if t.opts.Dates || t.opts.Width == 0 {
		return phrase.When(inc.Time, time.DateTime, t.loc)
	}

	return phrase.When(inc.Time, time.TimeOnly, t.loc)
}

// why is the cause, or who sent the signal.
func (t *Table) why(inc *events.Incident) string {
	columns := 0
	if t.opts.Width > 0 {
		columns = t.columns[len(t.columns)-1].width
	}

	return answer.Reason(inc, columns)
}

// Write appends the row of an incident. A status line writes the header early, as a
// sign that the trace is running; other lines have no row.
func (t *Table) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Incident:
		return t.incident(l)
	case *events.Status:
		if t.out.err == nil {
			return t.start()
		}
	}

	return t.out.err
}

func (t *Table) incident(inc *events.Incident) error {
	if t.out.err != nil {
		return t.out.err
	}

	if err := t.start(); err != nil {
		return err
	}

	if err := t.dayOf(inc); err != nil {
		return err
	}

	row := make([]string, len(t.columns))
	for i, c := range t.columns {
		row[i] = phrase.Sanitize(cmp.Or(c.text(inc), "?"))
		if t.opts.Width > 0 && i > 0 { // people copy the ID
			row[i] = phrase.Clip(row[i], c.width)
		}
	}

	if t.opts.Width == 0 {
		return t.whole(row)
	}

	if err := t.table.Append(row); err != nil {
		return fmt.Errorf("lay out a row: %w", err)
	}

	return t.flush()
}

// whole writes a row whose cells may be wider than their columns: a table that streams has fixed
// ones, and would cut them.
func (t *Table) whole(row []string) error {
	var line strings.Builder

	for i, cell := range row {
		line.WriteString(cell + strings.Repeat(" ", max(t.columns[i].width-phrase.Width(cell), 0)+1))
	}

	t.row.WriteString(line.String() + "\n")

	return t.flush()
}

// dayOf writes a line with the date where rows have none, and the day changes.
func (t *Table) dayOf(inc *events.Incident) error {
	if t.opts.Dates || t.opts.Width == 0 {
		return nil
	}

	day, changes := t.day.next(inc.Time, t.loc)
	if !changes {
		return nil
	}

	return t.out.write([]byte(day + "\n"))
}

// start writes the header before the first row.
func (t *Table) start() error {
	if t.table != nil {
		return nil
	}

	widths, titles, aligns := tw.NewMapper[int, int](), []string{}, []tw.Align{}
	for i, c := range t.columns {
		widths.Set(i, c.width+1) // the gap to the next column
		titles, aligns = append(titles, c.title), append(aligns, tw.AlignLeft)
	}

	t.table = tablewriter.NewTable(&t.row, append(borderless(aligns, " "),
		tablewriter.WithStreaming(tw.StreamConfig{Enable: true}), tablewriter.WithColumnWidths(widths))...)
	if err := t.table.Start(); err != nil {
		return fmt.Errorf("start the table: %w", err)
	}

	t.table.Header(titles)

	return t.flush()
}

// Columns lays rows out, the first of them the header, each as wide as its widest cell. Cells must be
// sanitized.
func Columns(rows [][]string, aligns []tw.Align) (string, error) {
	var out strings.Builder

	t := tablewriter.NewTable(&out, borderless(aligns, "  ")...)
	t.Header(rows[0])

	if err := t.Bulk(rows[1:]); err != nil {
		return "", fmt.Errorf("lay out the rows: %w", err)
	}

	if err := t.Render(); err != nil {
		return "", fmt.Errorf("lay out the table: %w", err)
	}

	return trimmed(out.String()), nil
}

// trimmed is text without the blanks at the ends of its lines.
func trimmed(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}

	return lines.String()
}

// borderless sets up a table without lines, whose cells are cut already.
func borderless(aligns []tw.Align, gap string) []tablewriter.Option {
	cells := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{PerColumn: aligns},
		Padding:    tw.CellPadding{Global: tw.Padding{Right: gap, Overwrite: true}},
	}

	return []tablewriter.Option{
		tablewriter.WithHeaderConfig(cells),
		tablewriter.WithRowConfig(cells),
		tablewriter.WithTrimSpace(tw.Off),
		tablewriter.WithEastAsian(tw.Off), // count columns as width does
		tablewriter.WithRendition(tw.Rendition{
			Borders:  tw.BorderNone,
			Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
		}),
	}
}

// flush hands the laid out lines on, without the blanks at their ends.
func (t *Table) flush() error {
	lines := trimmed(t.row.String())
	t.row.Reset()

	if t.opts.ASCII {
		lines = phrase.ASCII(lines)
	}

	return t.out.write([]byte(lines))
}

// Close ends the table, and does not close the writer. An empty table still has its
// header.
func (t *Table) Close() error {
	if t.out.err != nil {
		return t.out.err
	}

	if err := t.start(); err != nil {
		return err
	}

	if err := t.table.Close(); err != nil {
		return fmt.Errorf("end the table: %w", err)
	}

	return t.flush()
}
