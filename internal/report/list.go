// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"time"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// htmlRows is how many names a table of the summary has in HTML.
	htmlRows = 25
	// groupFrom is how many incidents of one workload and cause are folded.
	groupFrom = 3
)

// summaryPage is the part of the document about all incidents.
type summaryPage struct {
	List   []listPart
	Tables []tallyTable
	Times  *timeChart
	Folded string
	Count  int // of rows
}

// listPart is either some rows, or the repeats of one incident under a head.
type listPart struct {
	Group *groupRow
	Rows  []listRow
}

// groupRow stands for its rows while they are folded.
type groupRow struct {
	first                           time.Time
	Count                           int
	When                            listTime
	Last, Killed, Where, Limit, Why string
}

// listRow is an incident in the list. W and C number its workload and its cause in the tables; -1:
// they are among the others.
type listRow struct {
	*row
	When listTime
	W, C int
	Full bool // it is shown in detail
}

type tallyTable struct {
	Title, Key string // the key of the filter, w or c; empty: none
	Victims    bool   // whether any row has another number of victims than of incidents
	Rows       []tallyRow
}

type tallyRow struct {
	Name, Last         string
	Incidents, Victims uint64
	Fill               float64
	Index              int // -1: no filter
	Colour             string
}

func newSummaryPage(s *Summary, entries []*entry, unlisted uint64, o *Options) *summaryPage {
	p := &summaryPage{Count: len(entries)}
	last := "01-02 15:04:05"

	if sameDay(s.First, s.Last, o.location()) {
		last = time.TimeOnly
	}

	index := map[string]map[string]int{}

	for _, t := range []struct {
		title, key string
		tally      *tally
		skip       bool
	}{{"By workload", "w", &s.Workloads, false}, {"By cause", "c", &s.Causes, false}, {"By node", "", &s.Nodes, !s.Nodes.several()}} {
		if t.tally.merged > 0 {
			p.Folded = mergedWarning
		}

		if t.skip {
			continue
		}

		rows, numbers := tallyRows(t.tally, last, o)
		table := tallyTable{Title: t.title, Key: t.key, Rows: rows}
		index[t.key] = numbers

		for i := range rows {
			table.Victims = table.Victims || rows[i].Victims != rows[i].Incidents
			if t.key == "w" {
				rows[i].Colour = layerColour(rows[i].Index)
			}
		}

		p.Tables = append(p.Tables, table)
	}

	number := func(key, name string) int {
		if i, ok := index[key][phrase.ClipEnds(name, maxKeyRunes)]; ok {
			return i
		}

		return -1
	}

	rows := make([]listRow, len(entries))
	for i, e := range entries {
		rows[i] = listRow{row: &e.row, W: number("w", e.Workload), C: number("c", e.Cause), Full: e.json != nil}
	}

	p.List = fold(rows, o)
	p.Times = newTimeChart(&s.Times, rows, p.Tables[0].Rows, unlisted > 0, o)

	return p
}

func sameDay(a, b time.Time, loc *time.Location) bool {
	return a.In(loc).Format(time.DateOnly) == b.In(loc).Format(time.DateOnly)
}

// fold puts repeats in the place of the first of them.
func fold(rows []listRow, o *Options) []listPart {
	type kind struct{ workload, cause string }

	count := map[kind]int{}
	for _, r := range rows {
		count[kind{r.Workload, r.Cause}]++
	}

	var parts []listPart

	outer := clocks{location: o.location()}
	inner := map[kind]*clocks{}
	place := map[kind]int{}

	for _, r := range rows {
		k := kind{r.Workload, r.Cause}

		switch at, folded := place[k]; {
		case count[k] < groupFrom:
			r.When = outer.next(r.Time)

			if len(parts) == 0 || parts[len(parts)-1].Group != nil {
				parts = append(parts, listPart{})
			}

			last := &parts[len(parts)-1]
			last.Rows = append(last.Rows, r)
		case !folded:
			head := &groupRow{
				first: r.Time, Count: count[k], When: outer.next(r.Time), Killed: r.Killed, Where: r.Where, Limit: r.Limit, Why: r.Why,
			}
			inner[k] = &clocks{location: o.location(), last: outer.last}
			r.When = inner[k].next(r.Time)
			place[k] = len(parts)
			parts = append(parts, listPart{Group: head, Rows: []listRow{r}})
		default:
			part := &parts[at]
			r.When = inner[k].next(r.Time)
			part.Rows = append(part.Rows, r)
			part.Group.add(r, o)
		}
	}

	return parts
}

// add takes the next repeat: the head names what all have in common, and the last time.
func (g *groupRow) add(r listRow, o *Options) {
	layout := time.TimeOnly
	if !sameDay(g.first, r.Time, o.location()) {
		layout = "01-02 15:04:05"
	}

	g.Last = phrase.When(r.Time, layout, o.location())

	const several = "several"

	common := func(all *string, one, otherwise string) {
		if *all != one {
			*all = otherwise
		}
	}
	common(&g.Where, r.Where, several)
	common(&g.Limit, r.Limit, several)
	common(&g.Why, r.Why, safe(r.Cause)) // briefs have numbers
	common(&g.Killed, r.Killed, cmp.Or(commonName(g.Killed, r.Killed), several))
}

// commonName is what two names of processes have in common: without the ids where these differ.
func commonName(a, b string) string {
	if a == b {
		return a
	}

	name := func(s string) string {
		for i := range s {
			if s[i] == '[' && i > 0 {
				return s[:i]
			}
		}

		return s
	}

	if name(a) == name(b) {
		return name(a)
	}

	return ""
}

func tallyRows(t *tally, lastLayout string, o *Options) (rows []tallyRow, index map[string]int) {
	most, other, others := t.top(htmlRows)
	index = map[string]int{}

	add := func(name string, c *count, i int) {
		last := phrase.When(c.Last, lastLayout, o.location())
		rows = append(rows, tallyRow{Name: name, Last: last, Incidents: c.Incidents, Victims: c.Victims, Index: i})
	}

	for i, c := range most {
		add(safe(c.Name), c, i)
		index[c.Name] = i
	}

	if others > 0 {
		add(fmt.Sprintf("%d others", others), &other, -1)
	}

	top := uint64(1)
	for _, r := range rows {
		top = max(top, r.Incidents)
	}

	for i := range rows {
		rows[i].Fill = percent(rows[i].Incidents, top)
	}

	return rows, index
}

// layers is how many workloads have a colour of their own in the time chart.
const layers = 5

// layerColour is the colour of a workload, by its number in the table.
func layerColour(index int) string {
	if index < 0 || index >= layers {
		return "w-other"
	}

	return fmt.Sprintf("w%d", index)
}

// timeChart has a bar for each span of time, stacked by workload. Positions are percentages of the
// picture.
type timeChart struct {
	Step     string
	Bars     []timeBar
	Most     uint64
	From, To string
	Key      []tallyRow
	Others   bool // whether a bar has a part that is of no workload in the key
}

type timeBar struct {
	X, W  float64
	Label string
	Parts []timePart
}

type timePart struct {
	Y, H   float64
	Colour string
}

func newTimeChart(h *histogram, rows []listRow, workloads []tallyRow, incomplete bool, o *Options) *timeChart {
	spans := h.spans()
	if len(spans) < 2 { // one bar shows nothing that the list does not
		return nil
	}

	layout := "2006-01-02 15:04:05"
	if h.Step() >= time.Minute {
		layout = "2006-01-02 15:04"
	}

	format := func(at time.Time) string { return phrase.When(at, layout, o.location()) }
	first, step := spans[0].Begin, h.Step()
	slots := spans[len(spans)-1].Begin.Sub(first)/step + 1
	slot := 100 / float64(slots)

	c := &timeChart{Step: stepWord(step), From: format(first), To: format(first.Add(slots * step)), Others: incomplete}
	for _, s := range spans {
		c.Most = max(c.Most, s.Count)
	}

	by := map[int64][layers]uint64{}

	for _, r := range rows {
		if r.W < 0 || r.W >= layers {
			c.Others = true
			continue
		}

		at := h.bucket(r.Time.Unix())
		counts := by[at]
		counts[r.W]++
		by[at] = counts
	}

	for i := range min(layers, len(workloads)) {
		if workloads[i].Index >= 0 {
			c.Key = append(c.Key, workloads[i])
		}
	}

	for _, s := range spans {
		bar := timeBar{X: round(float64(s.Begin.Sub(first)/step) * slot), W: max(0.3, round(slot*0.82))}
		bar.Label = format(s.Begin) + ": " + phrase.Plural(s.Count, "incident")
		rest, top := s.Count, 100.0

		part := func(n uint64, colour string) {
			if n == 0 {
				return
			}

			height := max(2, percent(n, c.Most))
			top = max(0, top-height)
			bar.Parts = append(bar.Parts, timePart{Y: round(top), H: height, Colour: colour})
		}
		for i, n := range by[s.Begin.Unix()] {
			part(n, layerColour(i))

			rest -= min(rest, n)
		}

		part(rest, layerColour(-1))

		c.Bars = append(c.Bars, bar)
	}

	return c
}
