// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// maxKeys bounds the names that a tally counts one by one.
	maxKeys = 4096
	// maxKeyRunes is how much of a name is compared.
	maxKeyRunes = 160
	// maxBuckets bounds the spans of time that are counted one by one, those without an incident
	// included.
	maxBuckets = 60
)

// Summary counts incidents by workload, by cause and by time. Its size is bounded,
// however many incidents it counts.
type Summary struct {
	Incidents, Victims uint64
	First, Last        time.Time
	Nodes              tally
	Workloads          tally
	Causes             tally
	Times              histogram
}

func (s *Summary) add(inc *events.Incident) {
	s.Incidents++

	s.Victims += uint64(len(inc.Victims))
	if s.First.IsZero() || inc.Time.Before(s.First) {
		s.First = inc.Time
	}

	if inc.Time.After(s.Last) {
		s.Last = inc.Time
	}

	victims := uint64(len(inc.Victims))
	s.Nodes.add(inc.Node, victims, inc.Time)
	s.Workloads.add(workload(inc), victims, inc.Time)
	s.Causes.add(cause(inc), victims, inc.Time)
	s.Times.add(inc.Time)
}

// workload is the name of the workload that was hit: the first victim's, else the
// limiter's.
func workload(inc *events.Incident) string {
	w, c := answer.Subject(inc)

	if w != nil && w.Pod != "" && (w.Innermost() == events.LevelContainer || w.Innermost() == events.LevelPod) {
		return phrase.Join(" ", phrase.QualifiedPod(w), w.Container)
	}

	path := ""
	if c != nil {
		path = c.Path
	}

	return cmp.Or(phrase.Place(w, nil), path, "unknown")
}

// cause is the best supported one, else what ran out.
func cause(inc *events.Incident) string {
	if len(inc.Causes) > 0 && inc.Causes[0].ID != "" {
		return phrase.Spaced(inc.Causes[0].ID)
	}

	what := phrase.Shortage(inc.Scope, inc.Limiter)
	if inc.Scope == events.ScopeMemcg && inc.Limiter != nil && inc.Limiter.Level != "" {
		what = "limit of a " + string(inc.Limiter.Level)
	}

	return cmp.Or(what, "unknown") + " (no cause found)"
}

// count is the row of one name in a tally.
type count struct {
	Name               string
	Incidents, Victims uint64
	Last               time.Time
}

// tally counts by name. When it is full, the names with the lowest counts are merged into
// one. A merged name that comes again has a count that is too low: merged reports that.
type tally struct {
	counts map[string]*count
	other  count  // of the merged names
	merged uint64 // how often a name was merged
}

func (t *tally) add(name string, victims uint64, at time.Time) {
	name = phrase.ClipEnds(name, maxKeyRunes)

	c := t.counts[name]
	if c == nil {
		if t.counts == nil {
			t.counts = map[string]*count{}
		}

		if len(t.counts) >= maxKeys {
			t.mergeRarest()
		}
		c = &count{Name: name}
		t.counts[name] = c
	}

	c.add(1, victims, at)
}

func (c *count) add(incidents, victims uint64, at time.Time) {
	c.Incidents += incidents

	c.Victims += victims
	if at.After(c.Last) {
		c.Last = at
	}
}

// mergeRarest stops counting the lower half one by one.
func (t *tally) mergeRarest() {
	for _, c := range t.sorted()[maxKeys/2:] {
		t.other.add(c.Incidents, c.Victims, c.Last)
		t.merged++
		delete(t.counts, c.Name)
	}
}

func (t *tally) sorted() []*count {
	return slices.SortedFunc(maps.Values(t.counts), func(a, b *count) int {
		return cmp.Or(cmp.Compare(b.Incidents, a.Incidents), b.Last.Compare(a.Last), strings.Compare(a.Name, b.Name))
	})
}

// top returns the n names with the most incidents, and all others together.
func (t *tally) top(n int) (most []*count, other count, others uint64) {
	most = t.sorted()
	other, others = t.other, t.merged

	if len(most) > n {
		for _, c := range most[n:] {
			other.add(c.Incidents, c.Victims, c.Last)
		}
		others += uint64(len(most) - n)
		most = most[:n]
	}

	return most, other, others
}

// several reports whether there is more than one name.
func (t *tally) several() bool { return len(t.counts) > 1 || t.merged > 0 }

// histogram counts by spans of time. They are seconds at first, and get wider when the time from
// the first to the last has too many.
type histogram struct {
	step   int // index of steps
	counts map[int64]uint64
}

const day = 24 * time.Hour

var steps = []time.Duration{
	time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 7 * day, 28 * day, 364 * day, 36400 * day,
}

// Step is the current span.
func (h *histogram) Step() time.Duration { return steps[h.step] }

func (h *histogram) bucket(unix int64) int64 {
	step := int64(h.Step() / time.Second)

	at := unix / step
	if unix%step < 0 {
		at--
	}

	return at * step
}

func (h *histogram) add(at time.Time) {
	if h.counts == nil {
		h.counts = map[int64]uint64{}
	}

	h.counts[h.bucket(at.Unix())]++
	for h.buckets() > maxBuckets && h.step < len(steps)-1 {
		h.step++

		wider := map[int64]uint64{}
		for at, n := range h.counts {
			wider[h.bucket(at)] += n
		}
		h.counts = wider
	}
}

// buckets is the number of spans from the first to the last that has an incident.
func (h *histogram) buckets() int64 {
	var first, last int64

	any := false

	for at := range h.counts {
		if !any || at < first {
			first = at
		}

		if !any || at > last {
			last = at
		}

		any = true
	}

	return (last-first)/int64(h.Step()/time.Second) + 1
}

// Span is a span of time and how many incidents it had.
type Span struct {
	Begin time.Time
	Count uint64
}

// spans are those with incidents, oldest first.
func (h *histogram) spans() []Span {
	var all []Span
	for _, at := range slices.Sorted(maps.Keys(h.counts)) {
		all = append(all, Span{time.Unix(at, 0), h.counts[at]})
	}

	return all
}
