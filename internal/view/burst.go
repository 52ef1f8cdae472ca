// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// burstAlone is how many incidents of one limit within burstWithin are shown one by one.
	burstAlone  = 3
	burstWithin = 10 * time.Second
	// burstEvery is how often a folded burst is shown again while it goes on; on a terminal, in the
	// place of what was shown before.
	burstEvery         = 10 * time.Second
	burstEveryTerminal = 500 * time.Millisecond
	// burstNames bounds the names of victims that are counted one by one.
	burstNames = 32
	// maxBursts bounds the limits and names that are remembered.
	maxBursts = 256
	// maxCounted bounds the incidents whose updates are left out.
	maxCounted = 4096
)

// burst is what became of one limit in the same way again and again, each time within burstWithin of
// the one before.
type burst struct {
	first, last time.Time // of its incidents
	place       string    // where its victims ran
	incidents   int
	victims     map[string]int // by name
	others      int            // victims of further names
	latest      *events.Incident

	shown time.Time // when it was shown folded last, by the time of its latest incident
}

// bursts folds the incidents of a limit that come faster than they can be read. The zero value
// is ready.
type bursts struct {
	of    map[foldKey]*burst
	stale []*burst // those with news that were not shown
	// headlines are the times of the last headlines, by name of the victim: the limit is not
	// known yet.
	headlines map[string][]time.Time
	// counted are the incidents that are shown by their count alone, until they are final.
	counted map[string]bool
}

// foldKey is what incidents are folded by: those that ended in another way are not counted as the
// same, whatever the limit.
type foldKey struct {
	scope   events.Scope
	outcome events.Outcome
	place   string
}

func foldKeyOf(inc *events.Incident) foldKey {
	k := foldKey{scope: inc.Scope, outcome: inc.Outcome}

	switch l := inc.Limiter; {
	case inc.Scope != events.ScopeUser && l != nil && l.Cgroup != nil:
		k.place = cgroupKey(l.Cgroup)
	case inc.Scope == events.ScopeUser || inc.Scope == events.ScopeMemcg: // no limiter is known
		k.place = answer.Where(inc)
		if len(inc.Victims) > 0 && inc.Victims[0].Cgroup != nil {
			k.place = cgroupKey(inc.Victims[0].Cgroup)
		}
	}

	return k
}

func cgroupKey(c *events.Cgroup) string { return cmp.Or(c.Path, fmt.Sprint(c.ID)) }

// add counts an incident, and returns its burst, which is folded if it is one of too many to be
// shown alone.
func (b *bursts) add(inc *events.Incident) *burst {
	if b.of == nil || len(b.of) >= maxBursts {
		b.of = make(map[foldKey]*burst)
	}

	key, place := foldKeyOf(inc), answer.Where(inc)

	one := b.of[key]
	if one == nil || apartBy(inc.Time, one.last) > burstWithin {
		one = &burst{first: inc.Time, place: place, victims: make(map[string]int)}
		b.of[key] = one
	}

	one.incidents++

	if place != one.place {
		one.place = "several places"
	}

	one.last, one.latest = later(one.last, inc.Time), inc

	for i := range inc.Victims {
		name := inc.Victims[i].Comm
		if _, known := one.victims[name]; !known && len(one.victims) >= burstNames {
			one.others++
			continue
		}

		one.victims[name]++
	}

	if !one.folded() {
		return one
	}

	if !slices.Contains(b.stale, one) {
		b.stale = append(b.stale, one)
	}

	if b.counted == nil || len(b.counted) >= maxCounted {
		b.counted = make(map[string]bool)
	}

	b.counted[inc.ID] = true

	return one
}

func (b *burst) folded() bool { return b.incidents > burstAlone }

// apartBy is the time between two instants, whichever is the later one: clocks are set back.
func apartBy(a, b time.Time) time.Duration { return a.Sub(b).Abs() }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}

	return b
}

// announces reports whether the headline of a victim is one of too many.
func (b *bursts) announces(h *events.Headline) bool {
	if b.headlines == nil || len(b.headlines) >= maxBursts {
		b.headlines = make(map[string][]time.Time)
	}

	recent := slices.DeleteFunc(b.headlines[h.Comm], func(t time.Time) bool { return apartBy(h.Time, t) > burstWithin })
	many := len(recent) >= burstAlone

	if many { // keep the newest
		recent = recent[1:]
	}

	b.headlines[h.Comm] = append(recent, h.Time)

	return many
}

// fold shows a burst, if it is time for that; with all, whatever the time.
func (s *Text) fold(b *burst, all bool) error {
	every := burstEvery
	if s.opts.Terminal {
		every = burstEveryTerminal
	}

	if !all && !b.shown.IsZero() && b.last.Sub(b.shown) < every {
		return s.out.err
	}

	b.shown = b.last
	s.bursts.stale = slices.DeleteFunc(s.bursts.stale, func(other *burst) bool { return other == b })

	p := s.page()

	if s.opts.Terminal && s.folded == b { // nothing was printed since
		fmt.Fprintf(&p.buf, "\x1b[%dA\x1b[J", s.foldedLines)
	}

	inc := b.latest
	at := s.clock(p, inc.Time)
	start := p.buf.Len() // a date stays where it is

	p.head(at, fmt.Sprintf("%s ×%d", phrase.Outcome(inc.Scope, inc.Outcome), b.incidents), outcomeStyle(inc),
		apart("since "+phrase.When(b.first, time.TimeOnly, s.loc), b.place, s.shortID(inc.ID)))

	for _, sec := range b.sections(&s.opts) {
		p.section(sec)
	}

	lines := bytes.Count(p.buf.Bytes()[start:], []byte("\n"))
	if err := s.write(p); err != nil {
		return err
	}

	s.at, s.folded, s.foldedLines = "", b, lines

	return nil
}

// sections are the latest incident in a sentence, what to do, and who was killed.
func (b *burst) sections(opts *TextOptions) []section {
	var all sections

	latest := newStory(b.latest, opts)
	all.addBare("summary", styled(prose(answer.Summary(b.latest)), styleStrong))
	all.addBare("advice", latest.advice())

	names := slices.SortedFunc(maps.Keys(b.victims), func(x, y string) int {
		return cmp.Or(cmp.Compare(b.victims[y], b.victims[x]), cmp.Compare(x, y))
	})

	killed := group{sep: " · "}
	for _, name := range names[:min(len(names), storyHolders)] {
		killed.items = append(killed.items, fmt.Sprintf("%s ×%d", phrase.ClipName(name), b.victims[name]))
	}

	rest := b.others
	for _, name := range names[min(len(names), storyHolders):] {
		rest += b.victims[name]
	}

	if rest > 0 {
		killed.items = append(killed.items, fmt.Sprintf("%d others", rest))
	}

	each := fmt.Sprintf("the first %d are shown above", burstAlone)
	if !opts.Unkept {
		each += "; all of them: " + opts.command("list")
	}

	all.add("killed", killed, list(each))

	return all
}

// foldOverdue shows what is left of bursts that have gone on or ended before now.
func (s *Text) foldOverdue(now time.Time, all bool) error {
	for i := 0; i < len(s.bursts.stale); {
		b := s.bursts.stale[i]
		if !all && apartBy(now, b.last) < burstWithin {
			i++
			continue
		}

		if err := s.fold(b, true); err != nil { // which takes it off the list
			return err
		}
	}

	return s.out.err
}
