// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// TableOptions configures a Table. The zero value has all columns and
// local time.
type TableOptions struct {
	// Width below wideTable, and above 0, leaves out the columns that fit into
	// 80 columns least: scope, used, role and trigger; below namesTable those
	// with the names of Kubernetes each by itself.
	Width    int
	Location *time.Location // nil: local time
}

// NewTable writes one row for each victim, at once, in columns of fixed width:
// later rows are not known yet. What does not fit ends (paths: begins) with
// "…". An OOM that killed nobody has one row. Updates, status and lost records
// have none.
func NewTable(w io.Writer, opts TableOptions) *Table {
	t := &Table{out: output{w: w, what: "table"}, loc: zone(opts.Location)}
	for _, c := range columns() {
		if opts.Width == 0 || opts.Width >= c.from {
			t.columns = append(t.columns, c)
		}
	}

	return t
}

// The columns of a terminal that it takes to show more than the least, and all.
const (
	wideTable  = 135
	namesTable = wideTable + 64
)

// Table is a sink.Sink. Close writes the header of a table without rows.
type Table struct {
	out     output
	loc     *time.Location
	columns []column
	table   *tablewriter.Table
	row     bytes.Buffer // the table writes in pieces, the sink row by row
}

// cell is what a column shows a part of. v is nil where nobody was killed.
type cell struct {
	inc *events.Incident
	v   *events.Victim
	loc *time.Location
}

type column struct {
	title string
	width int
	from  int // shown from this width on
	align tw.Align
	text  func(cell) string
}

func columns() []column {
	return []column{
		{"TIME", 8, 0, tw.AlignLeft, func(c cell) string { return phrase.When(c.inc.Time, time.TimeOnly, c.loc) }},
		{"SCOPE", 9, wideTable, tw.AlignLeft, func(c cell) string { return string(c.inc.Scope) }},
		{"LEVEL", 9, 0, tw.AlignLeft, cell.level},
		{"LIMIT", 8, 0, tw.AlignRight, func(c cell) string { return c.counter(c.limiter().LimitBytes) }},
		{"USED", 8, wideTable, tw.AlignRight, func(c cell) string { return c.counter(c.limiter().UsageBytes) }},

		{"VICTIM", 15, 0, tw.AlignLeft, cell.victim},
		{"PID", 7, 0, tw.AlignRight, cell.pid},
		{"ROLE", 9, wideTable, tw.AlignLeft, cell.role},
		{"ANON", 8, 0, tw.AlignRight, cell.anon},
		{"TRIGGER", 15, wideTable, tw.AlignLeft, cell.trigger},

		{"POD/CONTAINER", 19, 0, tw.AlignLeft, cell.place},
		{"K8S.NAMESPACE", 15, namesTable, tw.AlignLeft,
			func(c cell) string { return c.name(func(w *events.Workload) string { return w.Namespace }) }},
		{"K8S.PODNAME", 28, namesTable, tw.AlignLeft,
			func(c cell) string { return c.name(func(w *events.Workload) string { return w.Pod }) }},
		{"K8S.CONTAINERNAME", 18, namesTable, tw.AlignLeft,
			func(c cell) string { return c.name(func(w *events.Workload) string { return w.Container }) }},
	}
}

func (c cell) limiter() events.Limiter {
	if c.inc.Limiter == nil {
		return events.Limiter{}
	}

	return *c.inc.Limiter
}

// level is "-" where nothing limited: memory was not short.
func (c cell) level() string {
	if (c.inc.Scope == events.ScopeSysrq || c.inc.Scope == events.ScopeUser) && c.inc.Limiter == nil {
		return "-"
	}

	return string(c.limiter().Level)
}

// counter shows a value of the limiter; a node has no such counters.
func (c cell) counter(bytes *uint64) string {
	if bytes == nil && (c.level() == "-" || c.limiter().Level == events.LevelNode) {
		return "-"
	}

	return phrase.ShortSize(bytes)
}

func (c cell) victim() string {
	switch {
	case c.v != nil:
		return c.v.Comm
	case c.inc.Outcome == events.OutcomeKilled:
		return ""
	case c.inc.Outcome == events.OutcomeNoKillable:
		return "(none killable)"
	case c.inc.Outcome == events.OutcomeWaiting:
		return "(still exiting)"
	case c.inc.Outcome == events.OutcomeAlreadyExiting:
		if c.inc.Exiting != nil {
			return "(" + c.inc.Exiting.Comm + ")"
		}

		return "(was exiting)"
	case c.inc.Outcome == events.OutcomeOOMKillDisabled:
		return "(tasks wait)"
	case c.inc.Outcome == events.OutcomeSuspending:
		return "(suspending)"
	}

	return "(" + phrase.Spaced(string(c.inc.Outcome)) + ")"
}

func (c cell) pid() string {
	switch {
	case c.v == nil:
		return "-"
	case c.v.PID == 0:
		return ""
	}

	return strconv.Itoa(c.v.PID)
}

func (c cell) role() string {
	if c.v == nil || c.v.Role == "" && c.inc.Scope == events.ScopeUser {
		return "-"
	}

	return string(c.v.Role)
}

func (c cell) anon() string {
	if c.v == nil {
		return "-"
	}

	return phrase.ShortSize(c.v.AnonRSSBytes)
}

func (c cell) trigger() string {
	switch {
	case c.inc.Trigger != nil:
		return c.inc.Trigger.Comm
	case c.inc.Scope == events.ScopeUser:
		return "-" // nothing was asked for
	}

	return ""
}

// place is where the victim was, else what the limiter is: names if they are
// known, else ids, else the end of the path.
func (c cell) place() string {
	w, cg := c.where()
	if w != nil {
		pod, container := cmp.Or(w.Pod, phrase.ShortID(w.PodUID)), cmp.Or(w.Container, phrase.ShortID(w.ContainerID))
		if s := strings.Trim(pod+"/"+container, "/"); s != "" {
			return s
		}
	}

	if level := w.Innermost(); level == events.LevelGuest || level == events.LevelJob {
		return phrase.Clip(phrase.Sanitize(phrase.Short(w)), 19)
	}

	if cg == nil || cg.Path == "" {
		return ""
	}

	return phrase.ClipStart(phrase.ShortIDs(phrase.Sanitize(cg.Path)), 19)
}

func (c cell) where() (*events.Workload, *events.Cgroup) {
	if c.v != nil && (c.v.Workload != nil || c.v.Cgroup != nil) {
		return c.v.Workload, c.v.Cgroup
	}

	return c.limiter().Workload, c.limiter().Cgroup
}

// name is one of the names of Kubernetes; "-" for what is no pod.
func (c cell) name(of func(*events.Workload) string) string {
	w, _ := c.where()
	if w == nil || w.PodUID == "" && w.Pod == "" {
		return "-"
	}

	return of(w)
}

// Write appends the rows of an incident. A status line writes the header early, as a
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
	if len(inc.Victims) == 0 {
		return t.append(cell{inc, nil, t.loc})
	}

	for i := range inc.Victims {
		if err := t.append(cell{inc, &inc.Victims[i], t.loc}); err != nil {
			return err
		}
	}

	return nil
}

func (t *Table) append(c cell) error {
	if t.out.err != nil {
		return t.out.err
	}

	if err := t.start(); err != nil {
		return err
	}

	row := make([]string, len(t.columns))
	for i, col := range t.columns {
		row[i] = phrase.Clip(phrase.Sanitize(cmp.Or(col.text(c), "?")), col.width)
	}

	if err := t.table.Append(row); err != nil {
		return fmt.Errorf("lay out a row: %w", err)
	}

	return t.flush()
}

// start writes the header before the first row.
func (t *Table) start() error {
	if t.table != nil {
		return nil
	}

	widths, titles, aligns := tw.NewMapper[int, int](), []string{}, []tw.Align{}
	for i, c := range t.columns {
		widths.Set(i, c.width+1) // the gap to the next column
		titles, aligns = append(titles, c.title), append(aligns, c.align)
	}

	t.table = tablewriter.NewTable(&t.row, streaming(widths, aligns)...)
	if err := t.table.Start(); err != nil {
		return fmt.Errorf("start the table: %w", err)
	}

	t.table.Header(titles)

	return t.flush()
}

// streaming sets up a table without lines, whose cells are cut already.
func streaming(widths tw.Mapper[int, int], aligns []tw.Align) []tablewriter.Option {
	cells := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{PerColumn: aligns},
		Padding:    tw.CellPadding{Global: tw.Padding{Right: " ", Overwrite: true}},
	}

	return []tablewriter.Option{
		tablewriter.WithStreaming(tw.StreamConfig{Enable: true}),
		tablewriter.WithColumnWidths(widths),
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
	var lines strings.Builder
	for line := range strings.Lines(t.row.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}

	t.row.Reset()

	return t.out.write([]byte(lines.String()))
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
