// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// stallWord is a kind of stall in words.
func stallWord(what string) string {
	switch events.StallKind(what) {
	case events.StallMemoryHigh:
		return "memory.high"
	case events.StallAfterKill:
		return "reclaim after the kill"
	}

	return spaced(what)
}

// before has a line for each kind of stall, and the last minute as a row of bars.
func (b block) before() []group {
	p := b.inc.Before
	if p == nil {
		return nil
	}

	seconds := fmt.Sprintf("last %d s", p.WindowNS/1e9)
	if len(p.Stalls) == 0 {
		return []group{list(appendSet([]string{"no stalls in the " + seconds}, b.unseen()...)...)}
	}
	var groups []group

	for _, s := range p.Stalls {
		items := []string{fmt.Sprintf("%s %s in %s", stallWord(s.What), duration(s.TotalNS), plural(s.Count, "time"))}

		items = append(items, "longest "+duration(s.MaxNS))
		if s.Fruitless > 0 {
			items = append(items, fmt.Sprintf("%d freed nothing", s.Fruitless))
		}

		if s.ReclaimedBytes > 0 || b.wide {
			items = append(items, size(s.ReclaimedBytes)+" reclaimed")
		}

		groups = append(groups, list(items...))
	}

	if bars := sparkline(p); bars != "" {
		groups = append(groups, list(seconds+" |"+bars+"|"))
	}

	groups = append(groups, b.node()...)
	if unseen := b.unseen(); len(unseen) > 0 {
		groups = append(groups, list(unseen...))
	}

	return groups
}

// node has what concerns the node more than one cgroup: kswapd, why the allocator
// gave up, and services that stood still.
func (b block) node() []group {
	p := b.inc.Before

	var groups []group
	for _, k := range p.Kswapd {
		groups = append(groups, list(fmt.Sprintf("kswapd of node %d awake %s", k.Node, duration(k.AwakeNS)), plural(k.Wakeups, "wakeup")))
	}

	if g := p.GaveUp; g != nil && g.Reclaim != nil {
		r := g.Reclaim
		groups = append(groups, list(
			fmt.Sprintf("gave up at zone %s of node %d: %s free or reclaimable", Sanitize(r.Zone), r.Node, size(r.AvailableBytes)),
			"min watermark "+size(r.MinWatermarkBytes), plural(uint64(r.NoProgressLoops), "round")+" gained nothing",
		))
	}

	if g := p.GaveUp; g != nil && g.Compact != nil {
		c := g.Compact
		groups = append(groups, list(
			fmt.Sprintf("compaction for order %d: %s", c.Order, spaced(c.Result)),
			fmt.Sprintf("%d of %d retries", c.Retries, c.MaxRetries),
		))
	}

	if len(p.Guardians) > 0 {
		var items []string
		for _, g := range p.Guardians {
			items = append(items, fmt.Sprintf("%s stood still for %s", Sanitize(g.Unit), duration(g.TotalNS)))
		}

		groups = append(groups, list(items...))
	}

	return groups
}

func (b block) unseen() []string {
	var words []string
	for _, what := range b.inc.Before.Unseen {
		words = append(words, stallWord(what)+" cannot be seen here")
	}

	return words
}

// bars is the number of columns of a sparkline: one for two seconds.
const bars = 30

// sparkline shows the time stalled, the newest at the right.
func sparkline(p *events.Before) string {
	var sums [bars]uint64

	width := p.WindowNS / bars
	if width == 0 {
		return ""
	}
	var most uint64

	for _, s := range p.Timeline {
		i := bars - 1 - min(int(s.BeforeNS/width), bars-1)
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
		steps := []rune("▁▂▃▄▅▆▇█")
		line.WriteRune(steps[min(sum*uint64(len(steps))/most, uint64(len(steps)-1))])
	}

	return line.String()
}
