// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Panel is a chart of the minute before the kill. The page draws it with a library;
// without JavaScript the same picture is shown as SVG.
type Panel struct {
	Title  string    `json:"title"`
	Unit   string    `json:"unit"` // bytes, ns, percent, count
	Height int       `json:"height"`
	Wide   bool      `json:"-"`     // drawn across the page
	Begin  float64   `json:"begin"` // seconds before the kill, negative
	Marker string    `json:"marker"`
	Times  []float64 `json:"times"` // marks of the axis, in seconds, up to the kill
	X      []Value   `json:"x"`
	Max    float64   `json:"max"`
	Ticks  []Tick    `json:"ticks"`
	Series []Series  `json:"series"`
	// Beyond names limits that are not drawn, with the reason.
	Beyond []string `json:"-"`
}

// Value is a number; nil where none is known.
type Value = *float64

// Tick is a mark on an axis.
type Tick struct {
	At    float64 `json:"at"`
	Label string  `json:"label"`
}

// Series is one line, area, row of bars, or limit of a panel.
type Series struct {
	Label  string  `json:"label"`
	Kind   string  `json:"kind"` // area, line, bars, limit
	Colour int     `json:"colour"`
	Y      []Value `json:"y"`
	// Level is the height of a limit.
	Level float64 `json:"level,omitempty"`
	// Text is the limit, the last value or the highest one.
	Text string `json:"text,omitempty"`
}

// panels are the charts for which an incident has numbers.
func panels(inc *events.Incident) []Panel {
	b := inc.Before
	if b == nil || len(b.Timeline) == 0 || b.WindowNS == 0 {
		return nil
	}
	rows := slices.SortedFunc(slices.Values(b.Timeline), func(x, y events.StallSecond) int {
		return cmp.Compare(y.BeforeNS, x.BeforeNS)
	})
	window := min(b.WindowNS, maxWindowNS)

	rows = slices.DeleteFunc(rows, func(r events.StallSecond) bool { return r.BeforeNS > window })
	if len(rows) > maxTimeline {
		rows = rows[len(rows)-maxTimeline:]
	}
	all := []Panel{usage(inc, rows), stalled(rows), waiting(rows), reclaimed(rows), hits(rows)}

	all = slices.DeleteFunc(all, func(p Panel) bool { return len(p.Series) == 0 })
	for i := range all {
		p := &all[i]
		p.Wide = i == 0 && (p.Unit == "bytes" || len(all)%2 == 1)
		p.Begin, p.Marker = -float64(window)/1e9, marker(inc)
		p.times()
		p.scale()
		p.summarize()
	}

	return all
}

// Bounds for hostile input: the flight recorder keeps less.
const (
	maxTimeline = 600
	maxWindowNS = uint64(600e9)
)

func marker(inc *events.Incident) string {
	switch {
	case inc.Outcome != events.OutcomeKilled:
		return "OOM"
	case inc.Scope == events.ScopeUser:
		return "SIGKILL"
	}

	return "kill"
}

// usage is the limiter's usage with the limits of its ancestry.
func usage(inc *events.Incident, rows []events.StallSecond) Panel {
	whose := "the limiter"
	if l := inc.Limiter; l != nil && l.Level != "" {
		whose = "the " + string(l.Level)
	}
	p := Panel{Title: "Memory of " + whose, Unit: "bytes", Height: 220}
	s := Series{Label: "used", Kind: "area", Colour: 1}
	var most float64

	for _, r := range rows {
		if r.UsageBytes == nil {
			continue
		}
		v := float64(*r.UsageBytes)
		most = max(most, v)

		p.X, s.Y = append(p.X, new(-float64(r.BeforeNS)/1e9)), append(s.Y, new(v))
	}

	if len(p.X) == 0 {
		return p
	}
	p.Series = append(p.Series, s)
	reach := most

	limit := limitOf(inc, rows)
	if limit > 0 {
		reach = max(reach, limit)
	}

	p.limits(inc, limit, reach*1.5)

	return p
}

func limitOf(inc *events.Incident, rows []events.StallSecond) float64 {
	if l := inc.Limiter; l != nil && l.LimitBytes != nil {
		return float64(*l.LimitBytes)
	}

	for _, r := range slices.Backward(rows) {
		if r.LimitBytes != nil {
			return float64(*r.LimitBytes)
		}
	}

	return 0
}

// limits draws the limits up to reach, and names the others below the chart.
func (p *Panel) limits(inc *events.Incident, own, reach float64) {
	colours := []int{3, 2, 5, 6, 7}

	add := func(label string, bytes uint64) {
		if float64(bytes) > reach || len(p.Series) > len(colours) {
			p.Beyond = append(p.Beyond, fmt.Sprintf("%s %s (above the chart)", label, phrase.Size(bytes)))
			return
		}
		p.Series = append(p.Series, Series{
			Label: label, Kind: "limit", Colour: colours[len(p.Series)-1], Level: float64(bytes), Text: phrase.Size(bytes),
		})
	}
	if own > 0 {
		label := "limit"
		if l := inc.Limiter; l != nil {
			label = strings.TrimSpace(string(l.Level) + " " + l.Which)
			if l.Which == string(l.Level) {
				label = string(l.Level) + " total"
			}
		}

		add(label, uint64(own))
	}

	limiter := limiterCgroup(inc)
	for i := range inc.Ladder {
		r := &inc.Ladder[i]

		name := phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)
		if r.Below {
			// It limits a part of the usage: a line would look as if it had been passed.
			if r.MaxBytes != nil {
				p.Beyond = append(p.Beyond, fmt.Sprintf("%s limit %s (descendant)", name, phrase.Size(*r.MaxBytes)))
			}

			continue
		}

		if r.HighBytes != nil {
			add(name+" memory.high", *r.HighBytes)
		}

		if r.MaxBytes != nil && !(own > 0 && limiter.Is(&r.Cgroup)) {
			add(name+" limit", *r.MaxBytes)
		}
	}
}

// stalled is the time that all tasks together lost: more than a second in a second is
// usual.
func stalled(rows []events.StallSecond) Panel {
	p := Panel{Title: "Time stalled per second, all tasks", Unit: "ns", Height: 130}
	p.bars("stalled", 3, rows, func(r events.StallSecond) uint64 { return r.TotalNS })
	p.bars("throttled by memory.high", 1, rows, func(r events.StallSecond) uint64 { return r.HighNS })

	return p
}

func reclaimed(rows []events.StallSecond) Panel {
	p := Panel{Title: "Reclaimed per second", Unit: "bytes", Height: 110}
	p.bars("reclaimed", 4, rows, func(r events.StallSecond) uint64 { return r.ReclaimedBytes })

	return p
}

// bars adds a series of bars in the middle of their seconds, unless all are zero. Seconds
// without a row are zero: nothing stalled in them.
func (p *Panel) bars(label string, colour int, rows []events.StallSecond, of func(events.StallSecond) uint64) {
	s := Series{Label: label, Kind: "bars", Colour: colour}
	any := false

	for _, r := range rows {
		s.Y = append(s.Y, new(float64(of(r))))
		any = any || of(r) > 0
	}

	if !any {
		return
	}

	p.Series = append(p.Series, s)
	if p.X == nil {
		for _, r := range rows {
			p.X = append(p.X, new(-float64(r.BeforeNS)/1e9-0.5))
		}
	}
}

// waiting is the share of time in which tasks were stalled for memory, from the growth of
// the kernel's PSI totals.
func waiting(rows []events.StallSecond) Panel {
	p := Panel{Title: "Tasks stalled for memory (PSI)", Unit: "percent", Height: 130}
	some := Series{Label: "some", Kind: "line", Colour: 2}
	full := Series{Label: "full", Kind: "line", Colour: 5}
	drawn := false

	for i := 1; i < len(rows); i++ {
		x := new(-float64(rows[i].BeforeNS) / 1e9)
		s := share(rows[i-1], rows[i], func(r events.StallSecond) *uint64 { return r.PSISomeNS })

		f := share(rows[i-1], rows[i], func(r events.StallSecond) *uint64 { return r.PSIFullNS })
		if s == nil && f == nil {
			continue
		}
		drawn = true

		p.X, some.Y, full.Y = append(p.X, x), append(some.Y, s), append(full.Y, f)
	}

	if drawn {
		p.Series = []Series{some, full}
	}

	return p
}

// share is the growth of a total between two rows, in percent of the time between them.
// Rows are not read at exact seconds, so it may exceed 100 a little, and is cut there.
func share(from, to events.StallSecond, of func(events.StallSecond) *uint64) Value {
	a, b := of(from), of(to)
	if a == nil || b == nil || *b < *a || from.BeforeNS <= to.BeforeNS {
		return nil
	}

	return new(min(100, float64(*b-*a)/float64(from.BeforeNS-to.BeforeNS)*100))
}

// hits is how often the limit was reached.
func hits(rows []events.StallSecond) Panel {
	p := Panel{Title: "Limit reached (memory.events max) since the previous sample", Unit: "count", Height: 110}
	s := Series{Label: "times", Kind: "bars", Colour: 6}
	any := false

	for i := 1; i < len(rows); i++ {
		a, b := rows[i-1].MaxEvents, rows[i].MaxEvents
		if a == nil || b == nil || *b < *a {
			continue
		}
		any = any || *b > *a

		p.X, s.Y = append(p.X, new(-float64(rows[i].BeforeNS)/1e9-0.5)), append(s.Y, new(float64(*b-*a)))
	}

	if any {
		p.Series = []Series{s}
	}

	return p
}

// times marks each sixth of the window: ten seconds of a minute.
func (p *Panel) times() {
	step := -p.Begin / 6
	for at := range 6 {
		p.Times = append(p.Times, p.Begin+float64(at)*step)
	}

	p.Times = append(p.Times, 0)
}

// scale sets the end of the value axis and its marks.
func (p *Panel) scale() {
	most := 0.0
	for _, s := range p.Series {
		most = max(most, s.Level)
		for _, y := range s.Y {
			if y != nil {
				most = max(most, *y)
			}
		}
	}

	if most == 0 {
		most = 1
	}
	step := 25.0

	switch p.Unit {
	case "bytes":
		step = 1
		for most/step > 4 {
			step *= 2
		}
	case "ns", "count":
		step = 1
		for i := 0; most/step > 4; i++ {
			step *= []float64{2, 2.5, 2}[i%3]
		}
	case "percent":
		most = 100
	}

	p.Max = most * 1.06
	for at := 0.0; at <= p.Max; at += step {
		p.Ticks = append(p.Ticks, Tick{at, p.label(at)})
	}
}

// summarize sets the text of each series but limits.
func (p *Panel) summarize() {
	for i := range p.Series {
		s := &p.Series[i]
		most, last := 0.0, 0.0

		for _, y := range s.Y {
			if y != nil {
				most, last = max(most, *y), *y
			}
		}

		switch s.Kind {
		case "area":
			s.Text = p.exact(last) + " at the end"
		case "line", "bars":
			s.Text = "at most " + p.exact(most)
		}
	}
}

func (p *Panel) exact(v float64) string {
	switch p.Unit {
	case "bytes":
		return phrase.Size(uint64(v))
	case "ns":
		return phrase.Duration(uint64(v))
	case "percent":
		return fmt.Sprintf("%.1f %%", v)
	}

	return fmt.Sprint(uint64(v))
}

func (p *Panel) label(v float64) string {
	switch {
	case v == 0:
		return "0"
	case p.Unit == "bytes":
		return strings.Replace(phrase.Size(uint64(v)), ".0 ", " ", 1)
	case p.Unit == "ns" && v >= 1e9:
		return fmt.Sprintf("%g s", v/1e9)
	case p.Unit == "ns" && v >= 1e6:
		return fmt.Sprintf("%g ms", v/1e6)
	case p.Unit == "ns":
		return fmt.Sprintf("%g µs", v/1e3)
	case p.Unit == "percent":
		return fmt.Sprintf("%g %%", v)
	}

	return fmt.Sprintf("%g", v)
}
