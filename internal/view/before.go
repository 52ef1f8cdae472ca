// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// before has a line for each kind of stall, and the last minute as a sparkline.
func (b block) before() []group {
	p := b.inc.Before
	if p == nil {
		return nil
	}

	seconds := fmt.Sprintf("last %d s", p.WindowNS/1e9)
	if len(p.Stalls) == 0 {
		return []group{list(append([]string{"no stalls in the " + seconds}, b.unseen()...)...)}
	}
	var groups []group

	for _, s := range p.Stalls {
		items := []string{fmt.Sprintf("%s %s in %s", phrase.Stall(s.What), phrase.Duration(s.TotalNS), phrase.Plural(s.Count, "stall"))}

		items = append(items, "longest "+phrase.Duration(s.MaxNS))
		if s.Fruitless > 0 {
			items = append(items, fmt.Sprintf("%d without progress", s.Fruitless))
		}

		groups = append(groups, list(append(items, phrase.Size(s.ReclaimedBytes)+" reclaimed")...))
	}

	if bars := sparkline(p); bars != "" {
		groups = append(groups, list(seconds+" |"+bars+"|"))
	}

	groups = append(groups, b.nodeBefore()...)
	if unseen := b.unseen(); len(unseen) > 0 {
		groups = append(groups, list(unseen...))
	}

	return groups
}

// nodeBefore is about the node rather than one cgroup: kswapd, why the allocator gave up,
// and stalls of critical services.
func (b block) nodeBefore() []group {
	p := b.inc.Before

	var groups []group

	for _, k := range p.Kswapd {
		awake := fmt.Sprintf("kswapd of NUMA node %d awake %s", k.Node, phrase.Duration(k.AwakeNS))
		groups = append(groups, list(awake, phrase.Plural(k.Wakeups, "wakeup")))
	}

	if g := p.GaveUp; g != nil && g.Reclaim != nil {
		r := g.Reclaim
		groups = append(groups, list(
			fmt.Sprintf("allocator gave up in %s: %s free or reclaimable",
				phrase.Zone(int(r.Node), phrase.Sanitize(r.Zone)), phrase.Size(r.AvailableBytes)),
			"min watermark "+phrase.Size(r.MinWatermarkBytes), phrase.Plural(uint64(r.NoProgressLoops), "round")+" without progress",
		))
	}

	if g := p.GaveUp; g != nil && g.Compact != nil {
		c := g.Compact
		groups = append(groups, list(
			fmt.Sprintf("compaction for order %d: %s", c.Order, phrase.Spaced(c.Result)),
			fmt.Sprintf("%d of %d retries", c.Retries, c.MaxRetries),
		))
	}

	if len(p.Guardians) > 0 {
		var items []string
		for _, g := range p.Guardians {
			items = append(items, fmt.Sprintf("%s stalled for %s", phrase.Sanitize(g.Unit), phrase.Duration(g.TotalNS)))
		}

		groups = append(groups, list(items...))
	}

	return groups
}

// unseen are the kinds of stalls that the attach mode cannot see.
func (b block) unseen() []string {
	var words []string
	for _, what := range b.inc.Before.Unseen {
		words = append(words, phrase.Stall(what)+" not traced")
	}

	return words
}

// bars is the number of columns of a sparkline: one for two seconds of a minute.
const bars = 30

// sparkline shows the time stalled, the newest at the right. It is empty where nothing
// stalled.
func sparkline(p *events.Before) string {
	var sums [bars]uint64

	step := p.WindowNS / bars
	if step == 0 {
		return ""
	}
	var most uint64

	for _, s := range p.Timeline {
		i := bars - 1 - min(int(s.BeforeNS/step), bars-1)
		sums[i] += s.TotalNS
		most = max(most, sums[i])
	}

	if most == 0 {
		return ""
	}
	var line strings.Builder

	for _, sum := range sums {
		if sum == 0 {
			line.WriteRune('·')
			continue
		}
		heights := []rune("▁▂▃▄▅▆▇█")
		line.WriteRune(heights[min(sum*uint64(len(heights))/most, uint64(len(heights)-1))])
	}

	return line.String()
}
