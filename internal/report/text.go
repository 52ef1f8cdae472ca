// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/olekukonko/tablewriter/tw"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/view"
)

// textRows is how many names a table of the summary has in text.
const textRows = 15

// fewIncidents is how many are shown at length; more are listed.
const fewIncidents = 5

// Text writes each incident at length, or a list if there are many, and a summary at the end if
// there are several. Full and a Width of 0 show all at length.
func Text(w io.Writer, src Source, o Options) (Result, error) {
	t := text{
		w: w, o: &o,
		blocks: view.NewText(w, view.TextOptions{
			Width: o.Width, Full: o.Full, Dates: o.Dates, Source: o.ShowSource, Color: o.Color, ASCII: o.ASCII, Location: o.location(),
		}),
		list: view.NewTable(w, view.TableOptions{Width: o.TableWidth, Dates: o.Dates, ASCII: o.ASCII, Location: o.location()}),
	}

	warnings, err := o.each(src, t.incident)
	if err == nil {
		err = t.end(warnings)
	}

	return Result{t.summary.Incidents, t.detailed, warnings}, err
}

type text struct {
	w       io.Writer
	o       *Options
	blocks  sink.Sink
	list    *view.Table
	summary Summary

	first    []*events.Incident // until it is known whether there are many
	detailed int                // shown at length
}

func (t *text) write(s string) error {
	if t.o.ASCII {
		s = phrase.ASCII(s)
	}

	if _, err := io.WriteString(t.w, s); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}

	return nil
}

func (t *text) incident(inc *events.Incident) error {
	t.summary.add(inc)

	switch {
	case t.o.SummaryOnly:
		return nil
	case t.o.Full || t.o.Width == 0:
		return t.block(inc)
	case t.summary.Incidents <= fewIncidents:
		t.first = append(t.first, inc)
		return nil
	}

	for _, early := range t.first {
		if err := t.list.Write(early); err != nil {
			return err
		}
	}

	t.first = nil

	return t.list.Write(inc)
}

// block writes an incident at length, with a blank line between two.
func (t *text) block(inc *events.Incident) error {
	if t.detailed > 0 {
		if err := t.write("\n"); err != nil {
			return err
		}
	}

	t.detailed++

	return t.blocks.Write(inc)
}

// shown writes the incidents that turned out to be few.
func (t *text) shown() error {
	for _, inc := range t.first {
		if err := t.block(inc); err != nil {
			return err
		}
	}

	if t.detailed > 0 || t.o.SummaryOnly || t.summary.Incidents == 0 {
		return nil
	}

	return t.list.Close()
}

func (t *text) end(warnings []string) error {
	if err := t.shown(); err != nil {
		return err
	}

	var out strings.Builder

	if t.summary.Incidents > 1 || t.o.SummaryOnly {
		if !t.o.SummaryOnly {
			out.WriteByte('\n')
		}

		if err := t.summary.text(&out, t.o); err != nil {
			return err
		}
	}

	if t.summary.Incidents == 0 {
		out.WriteString("no incidents\n")
	}

	for _, r := range warnings {
		out.WriteString(view.Paragraph("note: "+r, t.o.Width))
	}

	return t.write(out.String())
}

func (s *Summary) text(w *strings.Builder, o *Options) error {
	if s.Incidents == 0 {
		return nil
	}
	format := func(at time.Time) string { return phrase.When(at, time.DateTime, o.location()) }
	w.WriteString(view.Paragraph(fmt.Sprintf("Summary: %s, %s, %s", phrase.Plural(s.Incidents, "incident"),
		phrase.Plural(s.Victims, "victim"), period(format(s.First), format(s.Last))), o.Width))

	for _, t := range []struct {
		title string
		tally *tally
		skip  bool
	}{{"NODE", &s.Nodes, len(s.Nodes.counts) < 2}, {"WORKLOAD", &s.Workloads, false}, {"CAUSE", &s.Causes, false}} {
		if t.skip {
			continue
		}

		w.WriteByte('\n')

		if err := t.tally.text(w, t.title, o); err != nil {
			return err
		}
	}

	w.WriteByte('\n')

	return s.Times.text(w, o)
}

func (t *tally) text(w *strings.Builder, title string, o *Options) error {
	most, other, others := t.top(textRows)
	rows := [][]string{{title, "INCIDENTS", "VICTIMS", "LAST"}}
	const rest = 44 // columns of the other cells

	columns := 0
	if o.Width > 0 {
		columns = max(o.Width-rest, 20)
	}

	row := func(name string, c *count) {
		name = phrase.Sanitize(name)
		switch {
		case columns == 0:
		case strings.HasPrefix(name, "/"):
			name = phrase.ShortPath(name, columns)
		default:
			name = phrase.ClipMiddle(name, columns)
		}

		rows = append(rows, []string{name, fmt.Sprint(c.Incidents), fmt.Sprint(c.Victims),
			phrase.When(c.Last, time.DateTime, o.location())})
	}
	for _, c := range most {
		row(c.Name, c)
	}

	if others > 0 {
		row(fmt.Sprintf("(%d others)", others), &other)
	}

	if err := table(w, rows, []tw.Align{tw.AlignLeft, tw.AlignRight, tw.AlignRight, tw.AlignLeft}); err != nil {
		return err
	}

	if t.merged > 0 {
		w.WriteString(view.Paragraph(mergedWarning, o.Width))
	}

	return nil
}

const mergedWarning = "Too many names to count each: the rarest were added to the others, so a count may be too low."

func (h *histogram) text(w *strings.Builder, o *Options) error {
	spans := h.spans()

	most := uint64(1)
	for _, s := range spans {
		most = max(most, s.Count)
	}
	rows := [][]string{{strings.ToUpper(stepWord(h.Step())), "INCIDENTS", ""}}

	layout := "2006-01-02 15:04"
	if h.Step() < time.Minute {
		layout = time.DateTime
	}

	for _, s := range spans {
		bar := phrase.Bar(float64(s.Count)/float64(most), 30)
		rows = append(rows, []string{phrase.When(s.Begin, layout, o.location()), fmt.Sprint(s.Count), bar})
	}

	return table(w, rows, []tw.Align{tw.AlignLeft, tw.AlignRight, tw.AlignLeft})
}

// stepWord names a span of time.
func stepWord(d time.Duration) string {
	if d == day {
		return "day (UTC)"
	}

	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{day, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		if n := int(d / unit.d); n == 1 {
			return unit.name
		} else if n > 1 {
			return phrase.Plural(n, unit.name)
		}
	}

	return phrase.Plural(int(d/time.Second), "second")
}

// table writes rows, the first of them the header.
func table(w *strings.Builder, rows [][]string, aligns []tw.Align) error {
	text, err := view.Columns(rows, aligns)
	w.WriteString(text)

	return err
}

// JSON writes each incident as one line, merged with its updates.
func JSON(w io.Writer, src Source, o Options) (Result, error) {
	var r Result
	warnings, err := o.each(src, func(inc *events.Incident) error {
		r.Incidents++
		r.Detailed++

		line, err := events.Marshal(inc)
		if err != nil {
			return err
		}

		if _, err := w.Write(line); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}

		return nil
	})
	r.Warnings = warnings

	return r, err
}

// period is the time from one instant to another, which may look the same.
func period(first, last string) string {
	if first == last {
		return first
	}

	return "from " + first + " to " + last
}

// List writes one row for each incident.
func List(w io.Writer, src Source, o Options) (Result, error) {
	table := view.NewTable(w, view.TableOptions{Width: o.TableWidth, Dates: o.Dates, ASCII: o.ASCII, Location: o.location()})

	var r Result

	warnings, err := o.each(src, func(inc *events.Incident) error {
		r.Incidents++
		return table.Write(inc)
	})
	if err == nil {
		err = table.Close()
	}

	r.Warnings = warnings

	return r, err
}
