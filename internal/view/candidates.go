// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// shares are the cgroups below the limiter with what each of them used.
func (b block) shares() group {
	all, read := answer.Shares(b.inc)
	g := group{sep: " · "}

	for i := range all {
		s := &all[i]
		g.items = append(g.items, phrase.Sharer(s)+" "+phrase.Ratio(s.UsageBytes, s.MaxBytes, b.limit(nil, "shares.max_bytes")))
	}

	if n := b.inc.SharesLeftOut; n > 0 {
		g.items = append(g.items, fmt.Sprintf("and %d more", n))
	}

	if read != "" && len(all) > 0 {
		g.items = append(g.items, read)
	}

	return g
}

// candidates are the processes that could have been killed, the likeliest first.
func (b block) candidates() []group {
	all := b.inc.Candidates
	var groups []group
	known := b.home()

	for i := range all {
		c := &all[i]

		groups = append(groups, list(b.candidate(c, known)...))
		if c.Cgroup != nil {
			known = c.Cgroup
		}
	}

	if n := b.inc.CandidatesLeftOut; n > 0 {
		groups = append(groups, list("and "+phrase.Plural(n, "more process")))
	}

	if after := b.inc.CandidatesAfterNS; after != nil && len(all) > 0 {
		groups = append(groups, list("the others as of "+phrase.Duration(*after)+" after the kill"))
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
	items = append(items, b.sizes(part{"page tables", c.PgtablesBytes})...)

	if c.OOMScoreAdj != nil {
		items = append(items, fmt.Sprintf("adj %d", *c.OOMScoreAdj))
	}

	if c.Points != nil {
		items = append(items, fmt.Sprintf("badness %d pages", *c.Points))
	}

	if c.Unkillable {
		items = append(items, "not killable")
	}

	return items
}
