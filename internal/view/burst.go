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

// burst is what was killed at one limit, each kill within burstWithin of the one before.
type burst struct {
	first, last time.Time // of its incidents
	incidents   int
	victims     map[string]int // by name
	others      int            // victims of further names
	latest      *events.Incident

	shown time.Time // when it was shown folded last, by the time of its latest incident
}

// bursts folds the incidents of a limit that come faster than they can be read. The zero value
// is ready.
type bursts struct {
	of    map[string]*burst
	stale []*burst // those with news that were not shown
	// headlines are the times of the last headlines, by name of the victim: the limit is not
	// known yet.
	headlines map[string][]time.Time
	// counted are the incidents that are shown by their count alone, until they are final.
	counted map[string]bool
}

// limitKey is what incidents are folded by.
func limitKey(inc *events.Incident) string {
	switch l := inc.Limiter; {
	case inc.Scope == events.ScopeUser:
		return "user " + answer.Where(inc)
	case l != nil && l.Cgroup != nil:
		return cmp.Or(l.Cgroup.Path, fmt.Sprint(l.Cgroup.ID))
	}

	return string(inc.Scope)
}

// add counts an incident, and returns its burst, which is folded if it is one of too many to be
// shown alone.
func (b *bursts) add(inc *events.Incident) *burst {
	if b.of == nil || len(b.of) >= maxBursts {
		b.of = make(map[string]*burst)
	}

	key := limitKey(inc)

	one := b.of[key]
	if one == nil || inc.Time.Sub(one.last) > burstWithin {
		one = &burst{first: inc.Time, victims: make(map[string]int)}
		b.of[key] = one
	}

	one.incidents++
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

	recent := slices.DeleteFunc(b.headlines[h.Comm], func(t time.Time) bool { return h.Time.Sub(t) > burstWithin })
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

	start := p.buf.Len()
	inc := b.latest

	p.head(s.clock(p, inc.Time), fmt.Sprintf("%s ×%d", phrase.Outcome(inc.Scope, inc.Outcome), b.incidents), outcomeStyle(inc),
		apart("since "+phrase.When(b.first, time.TimeOnly, s.loc), answer.Where(inc), s.shortID(inc.ID)))

	for _, sec := range b.sections(s.opts.Width) {
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
func (b *burst) sections(width int) []section {
	var all sections

	latest := newStory(b.latest, width)
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

	all.add("killed", killed, list(fmt.Sprintf("the first %d are shown above; all of them: oomtrace list", burstAlone)))

	return all
}

// foldOverdue shows what is left of bursts that have gone on or ended before now.
func (s *Text) foldOverdue(now time.Time, all bool) error {
	for i := 0; i < len(s.bursts.stale); {
		b := s.bursts.stale[i]
		if !all && now.Sub(b.last) < burstWithin {
			i++
			continue
		}

		if err := s.fold(b, true); err != nil { // which takes it off the list
			return err
		}
	}

	return s.out.err
}
