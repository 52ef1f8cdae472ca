// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// What a narrow block shows of lists that may be long. The rest is counted.
const (
	narrowShares     = 4
	narrowCandidates = 5
)

// shown is how many of a list a block shows: never all but one.
func (b block) shown(length, most int) int {
	if b.wide || length <= most+1 {
		return length
	}

	return most
}

// more counts what is left out.
func more(count int, thing string) group {
	if count <= 0 {
		return list()
	}

	return list("and "+phrase.Plural(count, "more "+thing), "-o json lists all")
}

// shares are the cgroups below the limiter with what each of them used.
func (b block) shares() group {
	all := b.inc.Shares
	shown := b.shown(len(all), narrowShares)
	g := group{sep: " · "}

	for i := range all[:shown] {
		s := &all[i]

		name := phrase.Sharer(s)
		if !b.wide {
			name = phrase.Clip(phrase.Sanitize(name), 32)
		}

		g.items = append(g.items, name+" "+phrase.Ratio(s.UsageBytes, s.MaxBytes, b.limit(nil, "shares.max_bytes")))
	}

	if shown < len(all) {
		g.items = append(g.items, fmt.Sprintf("and %d more", len(all)-shown))
	}

	if after := b.inc.SharesAfterNS; after != nil && len(all) > 0 {
		g.items = append(g.items, phrase.Duration(*after)+" after the kill")
	}

	return g
}

// candidates are the processes that could have been killed, the likeliest first.
func (b block) candidates() []group {
	all := b.inc.Candidates
	shown := b.shown(len(all), narrowCandidates)
	var groups []group
	known := b.home()

	for i := range all[:shown] {
		c := &all[i]

		groups = append(groups, list(b.candidate(c, known)...))
		if c.Cgroup != nil {
			known = c.Cgroup
		}
	}

	groups = append(groups, more(len(all)-shown, "candidate"))
	if after := b.inc.CandidatesAfterNS; after != nil && len(all) > 0 && b.wide {
		groups = append(groups, list("those that live on, "+phrase.Duration(*after)+" after the kill"))
	}

	return groups
}

func (b block) candidate(c *events.Candidate, known *events.Cgroup) []string {
	name := b.thread(&c.Process)
	if c.Victim {
		name += " killed"
	}
	items := phrase.NonEmpty(name, b.place(&c.Process, known))

	items = append(items, b.sizes(part{"rss", c.RSSBytes}, part{"anon", c.AnonRSSBytes}, part{"file", c.FileRSSBytes},
		part{"shmem", c.ShmemRSSBytes}, part{"swap", c.SwapBytes})...)
	if b.wide {
		items = append(items, b.sizes(part{"page tables", c.PgtablesBytes})...)
	}

	if c.OOMScoreAdj != nil {
		items = append(items, fmt.Sprintf("adj %d", *c.OOMScoreAdj))
	}

	if b.wide && c.Points != nil {
		items = append(items, fmt.Sprintf("badness %d pages", *c.Points))
	}

	if c.Unkillable {
		items = append(items, "not killable")
	}

	return items
}
