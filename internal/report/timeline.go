// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// charts are those of the time before the kill, over one axis. The page draws them with a library;
// without JavaScript, and on paper, the same pictures are SVG.
type charts struct {
	Begin  float64   `json:"begin"` // seconds before the kill, negative
	End    float64   `json:"end"`   // of the axis: room for the parts of the charge
	Marker string    `json:"marker"`
	Times  []float64 `json:"times"` // marks of the axis
	X      []float64 `json:"x"`     // the seconds of all values
	Panels []panel   `json:"panels"`
}

// panel is one chart.
type panel struct {
	Title  string   `json:"-"`
	Help   string   `json:"-"` // what the values are
	Unit   string   `json:"unit"`
	Height int      `json:"height"`
	Wide   bool     `json:"-"` // drawn across the page
	Max    float64  `json:"max"`
	Ticks  []tick   `json:"ticks"`
	Series []series `json:"series"`
	// Parts is what the last value consists of, as far as it is known for that instant alone.
	Parts []panelPart `json:"parts,omitempty"`
	// Beyond names limits that are not drawn, with the reason.
	Beyond []string `json:"-"`
}

// The units of values.
const (
	unitKiB     = "KiB"
	unitMillis  = "ms"
	unitPercent = "%"
	unitCount   = ""
)

// value is a number; nil where none is known.
type value = *float64

// tick is a mark on an axis.
type tick struct {
	At    float64
	Label string
}

// MarshalJSON writes a pair, which is shorter.
func (t tick) MarshalJSON() ([]byte, error) { return json.Marshal([2]any{t.At, t.Label}) }

// The kinds of series. Areas and bars of a panel are stacked, the first at the bottom.
const (
	kindArea  = "area"
	kindLine  = "line"
	kindBars  = "bars"
	kindLimit = "limit"
)

// series is one area, line, row of bars, or limit of a panel.
type series struct {
	Label  string  `json:"-"` // in the caption, as Text is
	Kind   string  `json:"kind"`
	Colour string  `json:"colour"`
	Y      []value `json:"y,omitempty"`
	// Level is the height of a limit.
	Level float64 `json:"level,omitempty"`
	// Text is the limit, the last value or the highest one.
	Text string `json:"-"`
}

// panelPart is a part of a charge.
type panelPart struct {
	Colour string  `json:"colour"`
	Value  float64 `json:"value"`
}

// Bounds for hostile input: the flight recorder keeps less.
const (
	maxTimeline = 600
	maxWindowNS = uint64(600e9)
)

// newCharts returns nil if an incident has no numbers by second.
func newCharts(inc *events.Incident) *charts {
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

	if len(rows) == 0 {
		return nil
	}

	c := &charts{Marker: marker(inc)}
	for _, r := range rows {
		c.X = append(c.X, -math.Round(float64(r.BeforeNS)/1e7)/100)
	}

	for _, p := range []panel{usage(inc, rows), stalled(rows), waiting(rows), reclaimed(rows), hits(rows)} {
		if len(p.Series) == 0 {
			continue
		}

		p.Wide = len(c.Panels) == 0 && p.Unit == unitKiB
		p.scale()
		p.summarize()
		c.Panels = append(c.Panels, p)
	}

	if len(c.Panels) == 0 {
		return nil
	}

	c.axis()

	return c
}

// axis starts where the data does: a second before the first value, which is of that second.
func (c *charts) axis() {
	const least = 5

	c.Begin = min(math.Floor(c.X[0])-1, -least)
	c.End = -c.Begin * 0.05

	step := 1.0
	for _, s := range []float64{2, 5, 10, 20, 30, 60, 120} {
		if -c.Begin/step > 7 {
			step = s
		}
	}

	for at := -step * math.Floor(-c.Begin/step); at < 0; at += step {
		c.Times = append(c.Times, at)
	}

	c.Times = append(c.Times, 0)
}

func marker(inc *events.Incident) string {
	switch {
	case inc.Outcome != events.OutcomeKilled:
		return "OOM"
	case inc.Scope == events.ScopeUser:
		return "SIGKILL"
	}

	return "kill"
}

// usage is the limiter's usage with the limits of its ancestry. Seconds whose parts were not read
// have the sum alone.
func usage(inc *events.Incident, rows []events.StallSecond) panel {
	whose := "the limiter"
	if l := inc.Limiter; l != nil && l.Level != "" {
		whose = "the " + string(l.Level)
	}

	p := panel{Title: "Memory of " + whose, Unit: unitKiB, Height: 220}

	p.add("anonymous", kindArea, "anon", rows, func(r *events.StallSecond) value { return kib(r.AnonBytes) })
	p.add("page cache", kindArea, "file", rows, func(r *events.StallSecond) value { return kib(cacheOf(r)) })
	p.add("shmem, tmpfs", kindArea, "shmem", rows, func(r *events.StallSecond) value { return kib(r.ShmemBytes) })
	p.add("kernel", kindArea, "kernel", rows, func(r *events.StallSecond) value { return kib(r.KernelBytes) })

	rest := "used"
	if len(p.Series) > 0 {
		rest = "not in these"
	}

	p.add(rest, kindArea, "used", rows, func(r *events.StallSecond) value { return kib(restOf(r)) })

	if len(p.Series) == 0 {
		return panel{}
	}

	reach := p.highest()

	limit := limitOf(inc, rows)
	if limit > 0 {
		reach = max(reach, limit)
	}

	if s := chargeSplit(inc); s != nil {
		p.Help = "the column at its end: what it consisted of at the kill"

		for _, part := range s.Parts {
			p.Parts = append(p.Parts, panelPart{part.Colour, float64(part.Bytes / 1024)})
		}
	}

	p.limits(inc, limit, reach*1.5)

	return p
}

// cacheOf is the page cache without shared memory.
func cacheOf(r *events.StallSecond) *uint64 {
	if r.FileBytes == nil || r.ShmemBytes == nil {
		return r.FileBytes
	}

	return new(*r.FileBytes - min(*r.FileBytes, *r.ShmemBytes))
}

// restOf is the usage that is in no other part. The parts are read a little later than the sum, and
// may be more than it.
func restOf(r *events.StallSecond) *uint64 {
	if r.UsageBytes == nil {
		return nil
	}

	rest := *r.UsageBytes

	for _, part := range []*uint64{r.AnonBytes, r.FileBytes, r.KernelBytes} {
		if part != nil {
			rest -= min(rest, *part)
		}
	}

	return &rest
}

func kib(bytes *uint64) value {
	if bytes == nil {
		return nil
	}

	return new(float64(*bytes / 1024))
}

// add adds a series with a value for each row, unless none is above zero.
func (p *panel) add(label, kind, colour string, rows []events.StallSecond, of func(*events.StallSecond) value) bool {
	s := series{Label: label, Kind: kind, Colour: colour}
	any := false

	for i := range rows {
		y := of(&rows[i])
		any = any || y != nil && *y > 0
		s.Y = append(s.Y, y)
	}

	if any {
		p.Series = append(p.Series, s)
	}

	return any
}

// highest is the highest of the values; of those that are stacked, their sum.
func (p *panel) highest() float64 {
	most := 0.0

	var sums []float64

	for _, s := range p.Series {
		most = max(most, s.Level)
		sums = append(sums, make([]float64, max(0, len(s.Y)-len(sums)))...)

		for i, y := range s.Y {
			switch {
			case y == nil:
			case s.Kind == kindLine:
				most = max(most, *y)
			default:
				sums[i] += *y
				most = max(most, sums[i])
			}
		}
	}

	return most
}

// limitOf is the limit that was hit, in KiB; 0: not known.
func limitOf(inc *events.Incident, rows []events.StallSecond) float64 {
	if l := inc.Limiter; l != nil && l.LimitBytes != nil {
		return *kib(l.LimitBytes)
	}

	for _, r := range slices.Backward(rows) {
		if r.LimitBytes != nil {
			return *kib(r.LimitBytes)
		}
	}

	return 0
}

// maxLimits is how many limits a chart has; the others are named.
const maxLimits = 4

// limits draws the limits up to reach, and names the others below the chart.
func (p *panel) limits(inc *events.Incident, own, reach float64) {
	drawn := 0

	add := func(label, colour string, level float64) {
		text := phrase.Size(uint64(level) * 1024)
		if level > reach || drawn == maxLimits {
			p.Beyond = append(p.Beyond, fmt.Sprintf("%s %s (above the chart)", label, text))
			return
		}

		drawn++

		p.Series = append(p.Series, series{Label: label, Kind: kindLimit, Colour: colour, Level: level, Text: text})
	}

	if own > 0 {
		label := "limit"
		if l := inc.Limiter; l != nil {
			label = strings.TrimSpace(string(l.Level) + " " + l.Which)
			if l.Which == string(l.Level) {
				label = string(l.Level) + " total"
			}
		}

		add(label, "limit", own)
	}

	limiter := inc.LimiterCgroup()
	for i := range inc.Ladder[:min(len(inc.Ladder), maxRows)] {
		r := &inc.Ladder[i]

		name := phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)
		if r.Below {
			// It limits a part of the usage: a line would look as if it had been passed.
			if r.MaxBytes != nil {
				p.Beyond = append(p.Beyond, fmt.Sprintf("%s limit %s (of a part)", name, phrase.Size(*r.MaxBytes)))
			}

			continue
		}

		if r.HighBytes != nil {
			add(name+" memory.high", "high", *kib(r.HighBytes))
		}

		if r.MaxBytes != nil && !(own > 0 && limiter.Is(&r.Cgroup)) {
			add(name+" limit", "above", *kib(r.MaxBytes))
		}
	}
}

// stalled is the time that all tasks together lost: more than a second in a second is
// usual.
func stalled(rows []events.StallSecond) panel {
	p := panel{Title: "Time stalled per second", Help: "of all tasks together", Unit: unitMillis, Height: 130}
	high := func(r *events.StallSecond) uint64 { return min(r.HighNS, r.TotalNS) }
	p.add("throttled by memory.high", kindBars, "throttle", rows, func(r *events.StallSecond) value { return millis(high(r)) })
	p.add("other stalls", kindBars, "stall", rows, func(r *events.StallSecond) value { return millis(r.TotalNS - high(r)) })

	return p
}

// millis has as many digits as are shown.
func millis(ns uint64) value {
	ms := float64(ns) / 1e6
	if ms < 1 {
		return new(math.Round(ms*1e3) / 1e3)
	}

	return new(round(ms))
}

func reclaimed(rows []events.StallSecond) panel {
	p := panel{Title: "Reclaimed per second", Unit: unitKiB, Height: 110}
	p.add("reclaimed", kindBars, "reclaim", rows, func(r *events.StallSecond) value { return kib(&r.ReclaimedBytes) })

	return p
}

// waiting is the share of time in which tasks were stalled for memory, from the growth of
// the kernel's PSI totals.
func waiting(rows []events.StallSecond) panel {
	p := panel{Title: "Tasks stalled for memory (PSI)", Unit: unitPercent, Height: 130}

	some := growth(rows, func(r *events.StallSecond) *uint64 { return r.PSISomeNS }, percentOfTime)
	full := growth(rows, func(r *events.StallSecond) *uint64 { return r.PSIFullNS }, percentOfTime)
	known := func(y value) bool { return y != nil }

	if slices.ContainsFunc(some, known) {
		p.Series = append(p.Series, series{Label: "some", Kind: kindLine, Colour: "some", Y: some})
	}

	if slices.ContainsFunc(full, known) {
		p.Series = append(p.Series, series{Label: "all", Kind: kindLine, Colour: "full", Y: full})
	}

	return p
}

// hits is how often the limit was reached.
func hits(rows []events.StallSecond) panel {
	p := panel{Title: "Limit reached", Help: "memory.events max, since the previous value", Unit: unitCount, Height: 110}
	times := growth(rows, func(r *events.StallSecond) *uint64 { return r.MaxEvents }, func(n, _ uint64) float64 { return float64(n) })

	if slices.ContainsFunc(times, func(y value) bool { return y != nil && *y > 0 }) {
		p.Series = []series{{Label: "times", Kind: kindBars, Colour: "hits", Y: times}}
	}

	return p
}

// growth is what came to a total since the row before; nil where it is not known, or is not a growth:
// the total was of another cgroup then.
func growth(rows []events.StallSecond, of func(*events.StallSecond) *uint64, in func(growth, ns uint64) float64) []value {
	all := make([]value, len(rows))

	for i := 1; i < len(rows); i++ {
		a, b := of(&rows[i-1]), of(&rows[i])
		if a == nil || b == nil || *b < *a || rows[i-1].BeforeNS <= rows[i].BeforeNS {
			continue
		}

		all[i] = new(in(*b-*a, rows[i-1].BeforeNS-rows[i].BeforeNS))
	}

	return all
}

// percentOfTime may exceed 100 a little, since rows are not read at exact seconds, and is cut there.
func percentOfTime(growth, ns uint64) float64 {
	return round(min(100, float64(growth)/float64(ns)*100))
}

// scale sets the end of the value axis and its marks.
func (p *panel) scale() {
	most := p.highest()
	if most == 0 {
		most = 1
	}

	step := 25.0

	switch p.Unit {
	case unitKiB:
		step = 1
		for most/step > 4 {
			step *= 2
		}
	case unitMillis, unitCount:
		step = 1
		if p.Unit == unitMillis {
			step = 1e-3
		}

		for i := 0; most/step > 4; i++ { // 1, 2, 5, 10
			step *= []float64{2, 2.5, 2}[i%3]
		}
	case unitPercent:
		most = 100
	}

	p.Max = math.Round(most*1.06*1e4) / 1e4
	for at := 0.0; at <= p.Max; at += step {
		p.Ticks = append(p.Ticks, tick{at, p.label(at)})
	}
}

// summarize sets the text of each series but limits.
func (p *panel) summarize() {
	for i := range p.Series {
		s := &p.Series[i]
		most, last := 0.0, 0.0

		for _, y := range s.Y {
			if y != nil {
				most, last = max(most, *y), *y
			}
		}

		switch s.Kind {
		case kindArea:
			s.Text = p.exact(last) + " at the end"
		case kindLine, kindBars:
			s.Text = "at most " + p.exact(most)
		}
	}
}

func (p *panel) exact(v float64) string {
	switch p.Unit {
	case unitKiB:
		return phrase.Size(uint64(v) * 1024)
	case unitMillis:
		return phrase.Duration(uint64(v * 1e6))
	case unitPercent:
		return fmt.Sprintf("%.1f %%", v)
	}

	return fmt.Sprint(uint64(v))
}

func (p *panel) label(v float64) string {
	switch {
	case v == 0:
		return "0"
	case p.Unit == unitKiB:
		return strings.Replace(phrase.Size(uint64(v)*1024), ".0 ", " ", 1)
	case p.Unit == unitMillis && v >= 1e3:
		return fmt.Sprintf("%.3g s", v/1e3)
	case p.Unit == unitMillis && v >= 1:
		return fmt.Sprintf("%.3g ms", v)
	case p.Unit == unitMillis:
		return fmt.Sprintf("%.3g µs", v*1e3)
	case p.Unit == unitPercent:
		return fmt.Sprintf("%g %%", v)
	}

	return fmt.Sprintf("%g", v)
}
