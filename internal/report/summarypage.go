// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"time"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// htmlRows is how many names a table of the summary has in HTML.
const htmlRows = 25

// summaryPage is the part of the document about all incidents.
type summaryPage struct {
	Incidents, Victims string
	From, To           string
	Tables             []tallyTable
	Times              *timeChart
	Index              func(yield func(indexRow) bool)
	Folded             string
}

type tallyTable struct {
	Title string
	Rows  []tallyRow
}

type tallyRow struct {
	Name, Last         string
	Incidents, Victims uint64
	Fill               float64
}

// indexRow links to an incident.
type indexRow struct {
	Anchor, At, Outcome, Sentence string
	Alarm                         bool
}

func newSummaryPage(s *Summary, selected *selection, o *Options) *summaryPage {
	p := &summaryPage{
		Incidents: phrase.Plural(s.Incidents, "incident"), Victims: phrase.Plural(s.Victims, "victim"),
		From: phrase.When(s.First, time.DateTime, o.location()), To: phrase.When(s.Last, time.DateTime+" MST", o.location()),
		Times: newTimeChart(&s.Times, o),
	}
	for _, t := range []struct {
		title string
		tally *tally
		skip  bool
	}{{"By workload", &s.Workloads, false}, {"By cause", &s.Causes, false}, {"By node", &s.Nodes, len(s.Nodes.counts) < 2}} {
		if t.tally.merged > 0 {
			p.Folded = mergedWarning
		}

		if !t.skip {
			p.Tables = append(p.Tables, tallyTable{t.title, tallyRows(t.tally, o)})
		}
	}
	p.Index = func(yield func(indexRow) bool) {
		seq := 0
		for inc := range selected.each() {
			seq++

			sanitize(inc)

			row := indexRow{
				anchor(seq), phrase.When(inc.Time, time.DateTime, o.location()), outcomeWord(inc), sentence(inc), importance(inc) > 0,
			}
			if !yield(row) {
				return
			}
		}
	}

	return p
}

func tallyRows(t *tally, o *Options) []tallyRow {
	most, other, others := t.top(htmlRows)
	var rows []tallyRow

	add := func(name string, c *count) {
		last := phrase.When(c.Last, time.DateTime, o.location())
		rows = append(rows, tallyRow{Name: name, Last: last, Incidents: c.Incidents, Victims: c.Victims})
	}
	for _, c := range most {
		add(limitText(phrase.Sanitize(c.Name)), c)
	}

	if others > 0 {
		add(fmt.Sprintf("%d others", others), &other)
	}

	top := uint64(1)
	for _, r := range rows {
		top = max(top, r.Incidents)
	}

	for i := range rows {
		rows[i].Fill = percent(rows[i].Incidents, top)
	}

	return rows
}

// timeChart has a bar for each span of time. Positions are percentages of the picture.
type timeChart struct {
	Step     string
	Bars     []timeBar
	Most     uint64
	From, To string
}

type timeBar struct {
	X, Y, W, H float64
	Label      string
}

// leastSlots keeps the bars of a short period narrow.
const leastSlots = 24

func newTimeChart(h *histogram, o *Options) *timeChart {
	spans := h.spans()
	if len(spans) == 0 {
		return nil
	}
	format := func(at time.Time) string { return phrase.When(at, "2006-01-02 15:04", o.location()) }
	first, step := spans[0].Begin, h.Step()
	end := spans[len(spans)-1].Begin.Add(step)
	slots := max(end.Sub(first)/step, leastSlots)

	c := &timeChart{Step: stepWord(step), From: format(first), To: format(first.Add(slots * step))}
	for _, s := range spans {
		c.Most = max(c.Most, s.Count)
	}
	slot := 100 / float64(slots)

	for _, s := range spans {
		height := max(2, percent(s.Count, c.Most))
		c.Bars = append(c.Bars, timeBar{
			X: round(float64(s.Begin.Sub(first)/step) * slot), Y: 100 - height, W: max(0.3, round(slot*0.8)), H: height,
			Label: format(s.Begin) + ": " + phrase.Plural(s.Count, "incident"),
		})
	}

	return c
}
