// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// nodeState is the memory of the machine. A narrow block leaves it out where a cgroup's
// limit was hit, and leaves out zones above their watermark.
func (b block) nodeState() []group {
	n := b.inc.NodeState
	if n == nil || !b.wide && b.inc.Scope == events.ScopeMemcg {
		return nil
	}

	free := "free " + phrase.Ratio(n.FreeBytes, n.TotalBytes, "?")
	if n.AfterNS != nil {
		free += ", " + phrase.Duration(*n.AfterNS) + " after the kill"
	}

	items := append([]string{free}, b.sizes(
		part{"available", n.AvailableBytes}, part{"anon", n.AnonBytes}, part{"file", n.FileBytes}, part{"shmem", n.ShmemBytes},
		part{"dirty", sum(n.DirtyBytes, n.WritebackBytes)}, part{"slab", sum(n.SlabReclaimable, n.SlabUnreclaimable)},
		part{"kernel stacks", n.KernelStackBytes}, part{"page tables", n.PagetablesBytes}, part{"unevictable", n.UnevictableBytes},
		part{"anon in huge pages", n.AnonTHPBytes}, part{"hugetlb", n.HugetlbBytes},
		part{"GPU", sum(n.GPUActiveBytes, n.GPUReclaimBytes)})...)
	if n.SwapTotalBytes != nil {
		items = append(items, "swap free "+phrase.Ratio(n.SwapFreeBytes, n.SwapTotalBytes, "?"))
	}

	groups := []group{list(items...), list(phrase.NonEmpty(psi("some", n.PSISome), psi("full", n.PSIFull))...)}
	for i := range n.Zones {
		if z := &n.Zones[i]; b.wide || z.BelowMin() {
			groups = append(groups, zoneLine(z))
		}
	}

	if len(n.Slabs) > 0 {
		shown := b.shown(len(n.Slabs), narrowShares)

		g := list("slab caches " + slab(n.Slabs[0]))
		for _, s := range n.Slabs[1:shown] {
			g.items = append(g.items, slab(s))
		}

		if rest := len(n.Slabs) - shown; rest > 0 {
			g.items = append(g.items, fmt.Sprintf("and %d more", rest))
		}

		groups = append(groups, g)
	}

	return groups
}

// chargeParts splits the parts of the limiter's charge further. The causes rest on it, so
// a narrow block does not repeat it.
func (b block) chargeParts() group {
	m := b.inc.Memory
	if m == nil || !b.wide {
		return list()
	}

	items := b.sizes(
		part{"dirty", m.FileDirtyBytes}, part{"in writeback", m.FileWritebackBytes}, part{"active file", m.ActiveFileBytes},
		part{"inactive file", m.InactiveFileBytes}, part{"unevictable", m.UnevictableBytes}, part{"anon in huge pages", m.AnonTHPBytes},
		part{"slab reclaimable", m.SlabReclaimableBytes}, part{"slab unreclaimable", m.SlabUnreclaimableBytes},
		part{"per CPU", m.PercpuBytes})
	if len(items) > 0 {
		items[0] = "including " + items[0]
	}

	return list(items...)
}

func slab(s events.SlabCache) string { return s.Name + " " + phrase.Size(s.Bytes) }

// sum adds what is known; nil if nothing is.
func sum(a, b *uint64) *uint64 {
	if a == nil || b == nil {
		if a == nil {
			return b
		}

		return a
	}

	return new(*a + *b)
}

func psi(name string, p *events.PSI) string {
	if p == nil {
		return ""
	}

	return fmt.Sprintf("PSI %s %.1f/%.1f/%.1f %% (10/60/300 s)", name, p.Avg10, p.Avg60, p.Avg300)
}

func zoneLine(z *events.Zone) group {
	items := []string{fmt.Sprintf("zone %s of NUMA node %d free %s", z.Zone, z.Node, phrase.Ratio(z.FreeBytes, z.ManagedBytes, "?"))}
	for _, p := range []part{{"min", z.MinBytes}, {"low", z.LowBytes}, {"high", z.HighBytes}} {
		if p.bytes != nil {
			items = append(items, p.name+" "+phrase.Size(*p.bytes))
		}
	}

	if len(z.FreeBlocks) > 0 {
		blocks := "free blocks by order"
		for _, count := range z.FreeBlocks {
			blocks += fmt.Sprintf(" %d", count)
		}

		items = append(items, blocks)
	}

	return list(items...)
}
