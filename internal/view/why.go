// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// narrowRows is how many rows of a list a narrow block shows.
const narrowRows = 5

// shown cuts a list to what a narrow block has room for.
func shown[T any](b block, list []T) []T {
	if b.wide || len(list) <= narrowRows+1 { // never "and 1 more"
		return list
	}
	return list[:narrowRows]
}

// more counts what shown has left out.
func more[T any](b block, all []T) group {
	if left := len(all) - len(shown(b, all)); left > 0 {
		return list(fmt.Sprintf("and %d more", left), "-o json lists all")
	}
	return list()
}

// causes are why it came to the kill, each with what it rests on and what can be
// done.
func (b block) causes() []group {
	var groups []group
	for _, c := range b.inc.Causes {
		text := c.Text
		if c.Confidence != "" {
			text += " (" + c.Confidence + ")"
		}
		groups = append(groups, prose(text))
		for _, e := range c.Evidence {
			groups = append(groups, prose("· "+fact(e)))
		}
		for _, a := range c.Advice {
			groups = append(groups, prose(join("→", a.Layer+":", a.Text)))
		}
	}
	return groups
}

// fact is a piece of evidence in words.
func fact(e events.Evidence) string {
	s := e.What
	if e.Value != "" {
		s += ": " + e.Value
	}
	if e.Source != "" {
		s += " (" + e.Source + ")"
	}
	return s
}

func (b block) reported() []group {
	var groups []group
	for _, r := range b.inc.Reported {
		text := r.Text
		if text == "" {
			text = join(or(r.Container, shortID(r.ContainerID)), r.State, r.Reason)
		}
		if !r.Agrees {
			text += " (not what the kernel did)"
		}
		groups = append(groups, prose(text))
	}
	return groups
}

func (b block) eviction() []group {
	e := b.inc.Eviction
	if e == nil {
		return nil
	}
	var items []string
	if e.AvailableBytes != nil {
		items = append(items, "memory.available "+size(*e.AvailableBytes))
	}
	for _, t := range []struct {
		word  string
		bytes *uint64
		since *uint64
	}{{"hard", e.HardBytes, e.HardSinceNS}, {"soft", e.SoftBytes, e.SoftSinceNS}} {
		if t.bytes == nil {
			continue
		}
		item := t.word + " threshold " + size(*t.bytes)
		if t.since != nil {
			item += " undercut for " + duration(*t.since)
		}
		items = append(items, item)
	}
	return []group{list(items...), prose(e.Text)}
}

func (b block) shares() []group {
	var groups []group
	for _, s := range shown(b, b.inc.Shares) {
		groups = append(groups, list(b.shareName(s)+" "+ratio(s.UsageBytes, s.MaxBytes, "max")))
	}
	return append(groups, more(b, b.inc.Shares))
}

func (b block) shareName(s events.Share) string {
	return or(owner(s.Workload, b.wide), or(rungName(s.Level, s.Workload, s.Cgroup.Path), fmt.Sprintf("cgroup %d", s.Cgroup.ID)))
}

// candidates are those that could have died.
func (b block) candidates() []group {
	var groups []group
	for i := range shown(b, b.inc.Candidates) {
		c := &b.inc.Candidates[i]
		items := []string{b.thread(&c.Process)}
		if c.Victim {
			items[0] += " victim"
		}
		if c.Points != nil {
			items = append(items, fmt.Sprintf("badness %d pages", *c.Points))
		}
		items = append(items, b.sizes(
			part{"rss", c.RSSBytes}, part{"anon", c.AnonRSSBytes}, part{"file", c.FileRSSBytes}, part{"shmem", c.ShmemRSSBytes},
			part{"swap", c.SwapBytes})...)
		if c.OOMScoreAdj != nil {
			items = append(items, fmt.Sprintf("adj %d", *c.OOMScoreAdj))
		}
		if c.Unkillable {
			items = append(items, "not killable")
		}
		groups = append(groups, list(items...))
	}
	return append(groups, more(b, b.inc.Candidates))
}

// machine is the memory of the whole node.
func (b block) machine() []group {
	n := b.inc.NodeState
	if n == nil {
		return nil
	}
	memory := b.sizes(part{"free", n.FreeBytes}, part{"available", n.AvailableBytes}, part{"anon", n.AnonBytes}, part{"file", n.FileBytes},
		part{"shmem", n.ShmemBytes}, part{"slab reclaimable", n.SlabReclaimable}, part{"unreclaimable", n.SlabUnreclaimable},
		part{"page tables", n.PagetablesBytes}, part{"kernel stacks", n.KernelStackBytes})
	if n.TotalBytes != nil {
		memory = append([]string{size(*n.TotalBytes)}, memory...)
	}
	if n.SwapTotalBytes != nil {
		memory = append(memory, "swap free "+ratio(n.SwapFreeBytes, n.SwapTotalBytes, "?"))
	}
	if n.AfterNS != nil && b.wide {
		memory = append(memory, "read "+duration(*n.AfterNS)+" after the kill")
	}
	groups := []group{list(memory...)}
	for _, p := range []struct {
		word string
		psi  *events.PSI
	}{{"some", n.PSISome}, {"full", n.PSIFull}} {
		if p.psi != nil {
			groups = append(groups, list(fmt.Sprintf("PSI %s %.1f %% of 10 s, %.1f %% of 60 s, %.1f %% of 300 s", p.word, p.psi.Avg10, p.psi.Avg60, p.psi.Avg300)))
		}
	}
	for _, z := range n.Zones {
		items := []string{fmt.Sprintf("node %d %s free %s", z.Node, z.Zone, maybe(z.FreeBytes))}
		items = append(items, b.sizes(part{"min", z.MinBytes}, part{"low", z.LowBytes}, part{"high", z.HighBytes})...)
		if len(z.FreeBlocks) > 0 && b.wide {
			items = append(items, "blocks by order "+strings.Trim(fmt.Sprint(z.FreeBlocks), "[]"))
		}
		groups = append(groups, list(items...))
	}
	if len(n.Slabs) > 0 {
		var items []string
		for _, s := range shown(b, n.Slabs) {
			items = append(items, s.Name+" "+size(s.Bytes))
		}
		items[0] = "slab " + items[0]
		groups = append(groups, list(items...))
	}
	for _, s := range shown(b, n.Cgroups) {
		groups = append(groups, list(b.shareName(s)+" "+ratio(s.UsageBytes, s.MaxBytes, "max")))
	}
	return groups
}
