// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
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

// TableOptions says how the table is shown. The zero value has all columns and
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
// "…". An OOM that killed nobody has a row that says so. Updates, status and
// lost records have no row.
func NewTable(w io.Writer, opts TableOptions) Sink {
	s := &tableSink{out: output{w: w, what: "table"}, loc: zone(opts.Location)}
	for _, c := range columns() {
		if opts.Width == 0 || opts.Width >= c.from {
			s.columns = append(s.columns, c)
		}
	}

	return s
}

// The columns of a terminal that it takes to show more than the least, and all.
const (
	wideTable  = 135
	namesTable = wideTable + 64
)

type tableSink struct {
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
		{"K8S.NAMESPACE", 15, namesTable, tw.AlignLeft, func(c cell) string { return c.name(func(w *events.Workload) string { return w.Namespace }) }},
		{"K8S.PODNAME", 28, namesTable, tw.AlignLeft, func(c cell) string { return c.name(func(w *events.Workload) string { return w.Pod }) }},
		{"K8S.CONTAINERNAME", 18, namesTable, tw.AlignLeft, func(c cell) string { return c.name(func(w *events.Workload) string { return w.Container }) }},
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
		return "(still dying)"
	case c.inc.Outcome == events.OutcomeAlreadyExiting:
		return "(was exiting)"
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
		pod, container := or(w.Pod, phrase.ShortID(w.PodUID)), or(w.Container, phrase.ShortID(w.ContainerID))
		if s := strings.Trim(pod+"/"+container, "/"); s != "" {
			return s
		}
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

func or(s, otherwise string) string {
	if s != "" {
		return s
	}

	return otherwise
}

func (s *tableSink) Incident(inc *events.Incident) error {
	if len(inc.Victims) == 0 {
		return s.append(cell{inc, nil, s.loc})
	}

	for i := range inc.Victims {
		if err := s.append(cell{inc, &inc.Victims[i], s.loc}); err != nil {
			return err
		}
	}

	return nil
}

func (s *tableSink) append(c cell) error {
	if s.out.err != nil {
		return s.out.err
	}

	if err := s.start(); err != nil {
		return err
	}

	row := make([]string, len(s.columns))
	for i, col := range s.columns {
		row[i] = phrase.Clip(phrase.Sanitize(or(col.text(c), "?")), col.width)
	}

	if err := s.table.Append(row); err != nil {
		return fmt.Errorf("lay out a row: %w", err)
	}

	return s.flush()
}

// start writes the header before the first row.
func (s *tableSink) start() error {
	if s.table != nil {
		return nil
	}

	widths, titles, aligns := tw.NewMapper[int, int](), []string{}, []tw.Align{}
	for i, c := range s.columns {
		widths.Set(i, c.width+1) // the gap to the next column
		titles, aligns = append(titles, c.title), append(aligns, c.align)
	}

	s.table = tablewriter.NewTable(&s.row, streaming(widths, aligns)...)
	if err := s.table.Start(); err != nil {
		return fmt.Errorf("start the table: %w", err)
	}

	s.table.Header(titles)

	return s.flush()
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
func (s *tableSink) flush() error {
	var lines strings.Builder
	for line := range strings.Lines(s.row.String()) {
		lines.WriteString(strings.TrimRight(line, " \n") + "\n")
	}

	s.row.Reset()

	return s.out.write([]byte(lines.String()))
}

func (s *tableSink) Headline(Headline) error             { return s.out.err }
func (s *tableSink) Update(*events.Incident) error       { return s.out.err }
func (s *tableSink) Stall(*events.StallLine) error       { return s.out.err }
func (s *tableSink) Pressure(*events.PressureLine) error { return s.out.err }
func (s *tableSink) Lost(*events.Lost) error             { return s.out.err }

// Status shows the header early, as a sign that the table is alive.
func (s *tableSink) Status(*events.Status) error {
	if s.out.err != nil {
		return s.out.err
	}

	return s.start()
}

// Close ends the table; an empty one still shows its header.
func (s *tableSink) Close() error {
	if s.out.err != nil {
		return s.out.err
	}

	if err := s.start(); err != nil {
		return err
	}

	if err := s.table.Close(); err != nil {
		return fmt.Errorf("end the table: %w", err)
	}

	return s.flush()
}
