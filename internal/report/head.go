// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/record"
)

// covered is a source that knows when the tracers ran.
type covered interface{ Coverage() record.Coverage }

// surroundings are what incidents have in common: the machines that they happened on.
type surroundings struct {
	tiers            []events.Tier // in the order of their first incident
	leastRAM, topRAM uint64        // 0: not known
}

func (s *surroundings) add(inc *events.Incident) {
	if inc.Tier != "" && !slices.Contains(s.tiers, inc.Tier) && len(s.tiers) < 8 {
		s.tiers = append(s.tiers, inc.Tier)
	}

	for _, n := range []*events.NodeState{inc.NodeAtKill, inc.NodeState} {
		if n == nil || n.TotalBytes == nil || *n.TotalBytes == 0 {
			continue
		}

		s.topRAM = max(s.topRAM, *n.TotalBytes)
		if s.leastRAM == 0 || *n.TotalBytes < s.leastRAM {
			s.leastRAM = *n.TotalBytes
		}
	}
}

// headFacts are about the whole of the report: which machines, and whether all of the time was seen.
func headFacts(s *Summary, around *surroundings, src Source, lost bool, o *Options) []fact {
	var c record.Coverage

	span := ""

	if source, ok := src.(covered); ok {
		c = source.Coverage()
		span = recorded(&c, o)
	}

	victims := ""
	if s.Victims != s.Incidents {
		victims = fmt.Sprint(s.Victims)
	}

	losses := ""

	switch {
	case lost:
		losses = "see the notes"
	case len(c.Runs) > 0:
		losses = "none"
	}

	return facts("incidents", incidentSpan(s, o), "victims", victims, "kernel", kernels(&c), "RAM", around.ram(),
		"attach mode", around.tierNames(&c), "recorded", span, "gaps", gaps(&c, o), "losses", losses)
}

func incidentSpan(s *Summary, o *Options) string {
	if s.Incidents < 2 { // the card has it
		return ""
	}

	return between(s.First, s.Last, o)
}

// between is a span of time, with the date of its end where that is another day.
func between(from, to time.Time, o *Options) string {
	first := phrase.When(from, time.DateTime, o.location())
	if from.Equal(to) {
		return first
	}

	layout := time.TimeOnly
	if !sameDay(from, to, o.location()) {
		layout = time.DateTime
	}

	return first + " – " + phrase.When(to, layout, o.location())
}

func (s *surroundings) ram() string {
	switch {
	case s.topRAM == 0:
		return ""
	case phrase.Size(s.leastRAM) == phrase.Size(s.topRAM):
		return phrase.Size(s.topRAM)
	}

	return phrase.Size(s.leastRAM) + " – " + phrase.Size(s.topRAM)
}

func (s *surroundings) tierNames(c *record.Coverage) string {
	tiers := slices.Clone(s.tiers)
	for _, r := range c.Runs {
		if r.Tier != "" && !slices.Contains(tiers, r.Tier) && len(tiers) < 8 {
			tiers = append(tiers, r.Tier)
		}
	}

	return names(tiers, func(t events.Tier) string { return phrase.Spaced(string(t)) })
}

func kernels(c *record.Coverage) string {
	var all []string

	for _, r := range c.Runs {
		if r.KernelRelease != "" && !slices.Contains(all, r.KernelRelease) {
			all = append(all, r.KernelRelease)
		}
	}

	return names(all, func(s string) string { return s })
}

// names lists some, and counts the others.
func names[T any](all []T, name func(T) string) string {
	const most = 3

	var words []string
	for _, v := range all[:min(len(all), most)] {
		words = append(words, safe(name(v)))
	}

	if more := len(all) - most; more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}

	return strings.Join(words, ", ")
}

// recorded is the time that the recording covers, and how it starts and ends.
func recorded(c *record.Coverage, o *Options) string {
	if len(c.Runs) == 0 {
		return "not known: the input has incidents alone"
	}

	first := c.Runs[0]
	last := slices.MaxFunc(c.Runs, func(a, b record.Run) int { return a.End.Compare(b.End) })
	text := between(first.Begin, last.End, o)

	if !first.Started {
		text += "; what was before is gone"
	}

	if !last.Ended {
		text += "; no end: still running, or killed"
	}

	return text
}

// gaps are the times in which no tracer ran, on any one node.
func gaps(c *record.Coverage, o *Options) string {
	if len(c.Runs) == 0 {
		return ""
	}

	type gap struct {
		from, to time.Time
		unclear  bool // the tracer may have run on after its last line
	}

	var all []gap

	before := map[string]record.Run{}

	for _, r := range c.Runs {
		last, ok := before[r.Node]
		before[r.Node] = r

		if !ok || !r.Begin.After(last.End) || outside(last.End, r.Begin, o) {
			continue
		}

		all = append(all, gap{last.End, r.Begin, !last.Ended})
	}

	omitted := ""
	if c.Omitted > 0 {
		omitted = fmt.Sprintf("; %d more runs were not compared", c.Omitted)
	}

	if len(all) == 0 {
		return "none" + omitted
	}

	total, unclear := time.Duration(0), 0

	for _, g := range all {
		total += g.to.Sub(g.from)

		if g.unclear {
			unclear++
		}
	}

	longest := slices.MaxFunc(all, func(a, b gap) int { return cmp.Compare(a.to.Sub(a.from), b.to.Sub(b.from)) })
	text := between(longest.from, longest.to, o) + " (" + long(longest.to.Sub(longest.from)) + ")"

	if len(all) > 1 {
		text = fmt.Sprintf("%d, %s in all, the longest %s", len(all), long(total), text)
	}

	switch {
	case unclear == 1 && len(all) == 1:
		text += "; the tracer was killed, and may have run for a part of it"
	case unclear > 0:
		text += fmt.Sprintf("; before %d of them the tracer was killed, and may have run for a part", unclear)
	}

	return text + omitted
}

// outside reports whether a time is not part of the report.
func outside(from, to time.Time, o *Options) bool {
	return !o.Since.IsZero() && to.Before(o.Since) || !o.Until.IsZero() && from.After(o.Until)
}

// long is a duration that may be days.
func long(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	}

	return phrase.Duration(uint64(d))
}
