// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// counter is a value over time of a limiter.
type counter struct {
	name  string
	rank  int
	unit  uint64 // 0: unitName
	named string
	axis  string // counters of one axis are drawn to one scale
}

func (c counter) track() trackOf {
	d := message{}
	if c.unit != 0 {
		d = d.uint(counterUnit, c.unit)
	} else {
		d = d.text(counterUnitName, c.named)
	}

	if c.axis != "" {
		d = d.text(counterShareAxisKey, c.axis)
	}

	return trackOf{name: c.name, rank: c.rank, counter: d}
}

// The counters of a level: each is known at one point in time.
var (
	usage = counter{name: "memory used", rank: rankUsage, unit: unitBytes, axis: "memory"}
	limit = counter{name: "memory limit", rank: rankLimit, unit: unitBytes, axis: "memory"}
)

// rates are the counters of a second, or of the time between two rows.
var rates = []struct {
	counter
	of func(row, earlier *events.StallSecond) (span, bool)
}{
	{counter{name: "stalled per second, all tasks", rank: rankStalled, unit: unitTimeNS, axis: "stalled"},
		ofSecond(func(r *events.StallSecond) uint64 { return r.TotalNS })},
	{counter{name: "of that by memory.high", rank: rankHigh, unit: unitTimeNS, axis: "stalled"},
		ofSecond(func(r *events.StallSecond) uint64 { return r.HighNS })},
	{counter{name: "stalls per second", rank: rankCount, unit: unitCount},
		ofSecond(func(r *events.StallSecond) uint64 { return r.Count })},
	{counter{name: "reclaimed per second", rank: rankReclaimed, unit: unitBytes},
		ofSecond(func(r *events.StallSecond) uint64 { return r.ReclaimedBytes })},
	{counter{name: "PSI some", rank: rankPSISome, named: "%", axis: "PSI"},
		share(func(r *events.StallSecond) *uint64 { return r.PSISomeNS })},
	{counter{name: "PSI full", rank: rankPSIFull, named: "%", axis: "PSI"},
		share(func(r *events.StallSecond) *uint64 { return r.PSIFullNS })},
	{counter{name: "limit reached per second", rank: rankMaxEvents, unit: unitCount},
		perSecond(func(r *events.StallSecond) *uint64 { return r.MaxEvents })},
	{counter{name: "memory.high reached per second", rank: rankHighEvents, unit: unitCount},
		perSecond(func(r *events.StallSecond) *uint64 { return r.HighEvents })},
}

// span is a value that holds for a time up to a row.
type span struct {
	value float64
	ns    uint64
}

// ofSecond is what a row has of its second. Nothing stalled in seconds without a row.
func ofSecond(of func(*events.StallSecond) uint64) func(row, _ *events.StallSecond) (span, bool) {
	return func(row, _ *events.StallSecond) (span, bool) { return span{float64(of(row)), second}, true }
}

// perSecond is how fast a total grew from one row to the next. It is not known where one of them lacks it.
func perSecond(of func(*events.StallSecond) *uint64) func(row, earlier *events.StallSecond) (span, bool) {
	return func(row, earlier *events.StallSecond) (span, bool) {
		if earlier == nil || earlier.BeforeNS <= row.BeforeNS {
			return span{}, false
		}

		from, to, ns := of(earlier), of(row), earlier.BeforeNS-row.BeforeNS
		if from == nil || to == nil || *to < *from {
			return span{}, false
		}

		return span{float64(*to-*from) / float64(ns) * float64(second), ns}, true
	}
}

// share is the growth of a total of nanoseconds, in percent. Rows are not read at exact seconds, so it may
// exceed 100 a little, and is cut there.
func share(of func(*events.StallSecond) *uint64) func(row, earlier *events.StallSecond) (span, bool) {
	return func(row, earlier *events.StallSecond) (span, bool) {
		s, ok := perSecond(of)(row, earlier)
		s.value = min(100, s.value/float64(second)*100)

		return s, ok
	}
}

// counters writes the timeline of an incident, as far as an earlier one of the same owner has not, and
// the usage and the limit at the kill.
func (w *Writer) counters(o *track, inc *events.Incident, at uint64) {
	if b := inc.Before; b != nil {
		rows := slices.SortedFunc(slices.Values(b.Timeline), func(x, y events.StallSecond) int {
			return cmp.Compare(y.BeforeNS, x.BeforeNS)
		})

		for i := range rows {
			w.levels(o, since(at, rows[i].BeforeNS), rows[i].UsageBytes, rows[i].LimitBytes)
		}

		for _, r := range rates {
			values := rate{Writer: w, owner: o, counter: r.counter}

			for i := range rows {
				var earlier *events.StallSecond
				if i > 0 {
					earlier = &rows[i-1]
				}

				if s, ok := r.of(&rows[i], earlier); ok {
					values.add(since(at, rows[i].BeforeNS), s)
				}
			}

			values.close()
		}
	}

	if l := inc.Limiter; l != nil {
		w.levels(o, at, l.UsageBytes, l.LimitBytes)
	}

	o.rowsUntil = max(o.rowsUntil, at)
}

// levels writes usage and limit at a point in time.
func (w *Writer) levels(o *track, at uint64, usageBytes, limitBytes *uint64) {
	if at <= o.rowsUntil {
		return
	}

	if usageBytes != nil {
		w.value(o, usage, at, float64(*usageBytes))
	}

	if limitBytes != nil {
		w.value(o, limit, at, float64(*limitBytes))
	}
}

// value writes a value of a counter.
func (w *Writer) value(o *track, c counter, at uint64, v float64) {
	fields := message{}.uint(eventTrack, w.track(o, c.track()).uuid).uint(eventType, typeCounter)
	w.event(at, fields.double(eventDoubleValue, v))
}

// rate writes a counter of spans. It is 0 between them, where nothing happened or nothing is known, and
// not written at all if it is always 0.
type rate struct {
	*Writer
	owner   *track
	counter counter
	end     uint64 // of the span before; 0: none
	open    bool   // its value is not 0
}

const (
	second = uint64(1e9)
	// adjoining is the gap up to which one span follows the other: rows are not read at exact seconds.
	adjoining = uint64(2e8)
)

// add writes a span that ends at a time, as far as an earlier incident has not.
func (r *rate) add(end uint64, s span) {
	begin := max(since(end, s.ns), r.owner.rowsUntil)

	if r.end != 0 && begin < r.end+adjoining {
		begin = r.end
	} else {
		r.close()
	}

	if begin >= end {
		return
	}

	if s.value != 0 || r.open {
		r.value(r.owner, r.counter, begin, s.value)
	}

	r.end, r.open = end, s.value != 0
}

// close ends the last span.
func (r *rate) close() {
	if r.open {
		r.value(r.owner, r.counter, r.end, 0)
	}

	r.open = false
}
