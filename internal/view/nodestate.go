// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// nodeState is the memory of the machine, at the kill and after it.
func (b block) nodeState() []group {
	var groups []group

	atKill, after := b.inc.NodeAtKill, b.inc.NodeState
	if atKill != nil {
		groups = append(groups, list(b.nodeMemory(atKill, "at the kill")...))
		groups = append(groups, b.zones(atKill)...)
		groups = append(groups, b.allocationSites(atKill))
	}

	if after == nil {
		return groups
	}

	when := ""
	if after.AfterNS != nil {
		when = phrase.Duration(*after.AfterNS) + " after the kill"
	}

	groups = append(groups, list(b.nodeMemory(after, when)...))
	groups = append(groups, list(phrase.NonEmpty(psi("some", after.PSISome), psi("full", after.PSIFull))...))
	groups = append(groups, b.zones(after)...)

	if len(after.Slabs) > 0 {
		g := list("slab caches " + slab(after.Slabs[0]))
		for _, s := range after.Slabs[1:] {
			g.items = append(g.items, slab(s))
		}

		groups = append(groups, g)
	}

	return append(groups, b.allocationSites(after))
}

// nodeMemory splits the node's memory, with the instant of the numbers.
func (b block) nodeMemory(n *events.NodeState, when string) []string {
	free := "free " + phrase.Ratio(n.FreeBytes, n.TotalBytes, "?")
	if when != "" {
		free += ", " + when
	}

	var items []string
	if n.FreeBytes != nil || n.TotalBytes != nil || when != "" {
		items = append(items, free)
	}

	items = append(items, b.sizes(
		part{"available", n.AvailableBytes}, part{"anon", n.AnonBytes}, part{"file", n.FileBytes}, part{"shmem", n.ShmemBytes},
		part{"dirty", oom.Sum(n.DirtyBytes, n.WritebackBytes)}, part{"slab", oom.Sum(n.SlabReclaimable, n.SlabUnreclaimable)},
		part{"kernel stacks", n.KernelStackBytes}, part{"page tables", n.PagetablesBytes}, part{"unevictable", n.UnevictableBytes},
		part{"anon in huge pages", n.AnonTHPBytes}, part{"hugetlb", n.HugetlbBytes},
		part{"GPU", oom.Sum(n.GPUActiveBytes, n.GPUReclaimBytes)}, part{"zsmalloc", n.ZspagesBytes})...)
	items = append(items, b.unaccounted(n)...)

	if n.SwapTotalBytes != nil {
		items = append(items, "swap free "+phrase.Ratio(n.SwapFreeBytes, n.SwapTotalBytes, "?"))
	}

	return items
}

// unaccounted is what no counter has.
func (b block) unaccounted(n *events.NodeState) []string {
	if n.Ledger == nil || n.TotalBytes == nil {
		return nil
	}

	most := ""
	if len(n.Ledger.Missing) > 0 {
		most = "at most "
	}

	return []string{"in no counter " + most + phrase.Size(n.Ledger.UnaccountedBytes)}
}

func (b block) zones(n *events.NodeState) []group {
	var groups []group

	for i := range n.Zones {
		groups = append(groups, zoneLine(&n.Zones[i]))
	}

	return groups
}

// allocationSites has the places in the kernel's source that hold the most memory.
func (b block) allocationSites(n *events.NodeState) group {
	if len(n.AllocationSites) == 0 {
		return list()
	}

	g := list()

	for i, s := range n.AllocationSites {
		text := phrase.Join(" ", s.Location, s.Function, s.Module) + " " + phrase.Size(s.Bytes)
		if i == 0 {
			text = "allocation sites " + text
		}

		g.items = append(g.items, text)
	}

	return g
}

// chargeParts splits the parts of the limiter's charge further.
func (b block) chargeParts() group {
	m := b.inc.Memory
	if m == nil {
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

func psi(name string, p *events.PSI) string {
	if p == nil {
		return ""
	}

	return fmt.Sprintf("PSI %s %.1f/%.1f/%.1f %% (10/60/300 s)", name, p.Avg10, p.Avg60, p.Avg300)
}

func zoneLine(z *events.Zone) group {
	items := []string{phrase.Zone(z.Node, z.Zone) + " free " + phrase.Ratio(z.FreeBytes, z.ManagedBytes, "?")}
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
