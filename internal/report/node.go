// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// nodePage is the part of the document about the state of the machine.
type nodePage struct {
	Short  string // in the line of the folded part
	Open   bool   // it may have to do with the kill
	When   string // of the values; and of those that are later
	Memory []fact
	Tables []dataTable
	Zones  *dataTable
	PSI    []fact
}

// shortOf is the share of memory below which a node is short of it: 10 %.
const shortOf = 10

// newNodePage has the values at the kill, with those that were read later beside them.
func newNodePage(inc *events.Incident) *nodePage {
	first, later := inc.NodeAtKill, inc.NodeState
	if first == nil {
		first, later = later, nil
	}

	if first == nil {
		return nil
	}

	p := &nodePage{When: "at the kill"}
	if first.AfterNS != nil {
		p.When = "read " + phrase.Duration(*first.AfterNS) + " after the kill"
	}

	if later != nil && later.AfterNS != nil {
		p.When += "; in grey: " + phrase.Duration(*later.AfterNS) + " after it"
	}

	switch inc.Scope {
	case events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy:
		p.Open = true
	}

	if first.AvailableBytes != nil && first.TotalBytes != nil {
		p.Short = phrase.Size(*first.AvailableBytes) + " of " + phrase.Size(*first.TotalBytes) + " available"
		p.Open = p.Open || *first.AvailableBytes < *first.TotalBytes/shortOf
	} else if first.FreeBytes != nil && first.TotalBytes != nil {
		p.Short = phrase.Size(*first.FreeBytes) + " of " + phrase.Size(*first.TotalBytes) + " free"
	}

	p.Memory = nodeMemory(first, later)

	for _, n := range []*events.NodeState{first, later} {
		if n == nil {
			continue
		}

		p.PSI = append(p.PSI, facts("PSI some", psi(n.PSISome), "PSI full", psi(n.PSIFull))...)

		if zones := zoneTable(n.Zones); len(zones.Rows) > 0 && p.Zones == nil {
			p.Zones = &zones
		}

		for _, t := range []dataTable{
			shareTable("Largest cgroups", n.Cgroups, 0, nil), slabTable(n.Slabs), siteTable(n.AllocationSites), hugeTable(n.HugePages),
		} {
			if len(t.Rows) > 0 && !p.has(t.Title) {
				p.Tables = append(p.Tables, t)
			}
		}
	}

	return p
}

func (p *nodePage) has(title string) bool {
	for i := range p.Tables {
		if p.Tables[i].Title == title {
			return true
		}
	}

	return false
}

// nodeMemory leaves out what is zero, but for what a reader would look for.
func nodeMemory(first, later *events.NodeState) []fact {
	var all []fact

	for _, v := range []struct {
		name string
		of   func(*events.NodeState) *uint64
		zero bool
	}{
		{"total", func(n *events.NodeState) *uint64 { return n.TotalBytes }, true},
		{"free", func(n *events.NodeState) *uint64 { return n.FreeBytes }, true},
		{"available", func(n *events.NodeState) *uint64 { return n.AvailableBytes }, true},
		{"anonymous", func(n *events.NodeState) *uint64 { return n.AnonBytes }, true},
		{"file", func(n *events.NodeState) *uint64 { return n.FileBytes }, true},
		{"shmem", func(n *events.NodeState) *uint64 { return n.ShmemBytes }, true},
		{"slab, reclaimable", func(n *events.NodeState) *uint64 { return n.SlabReclaimable }, true},
		{"slab, unreclaimable", func(n *events.NodeState) *uint64 { return n.SlabUnreclaimable }, true},
		{"page tables", func(n *events.NodeState) *uint64 { return n.PagetablesBytes }, false},
		{"page tables of VMs", func(n *events.NodeState) *uint64 { return n.SecPagetablesBytes }, false},
		{"kernel stacks", func(n *events.NodeState) *uint64 { return n.KernelStackBytes }, false},
		{"per CPU", func(n *events.NodeState) *uint64 { return n.PercpuBytes }, false},
		{"vmalloc", func(n *events.NodeState) *uint64 { return n.VmallocBytes }, false},
		{"dirty", func(n *events.NodeState) *uint64 { return n.DirtyBytes }, false},
		{"writeback", func(n *events.NodeState) *uint64 { return n.WritebackBytes }, false},
		{"unevictable", func(n *events.NodeState) *uint64 { return n.UnevictableBytes }, false},
		{"anonymous huge pages", func(n *events.NodeState) *uint64 { return n.AnonTHPBytes }, false},
		{"hugetlb", func(n *events.NodeState) *uint64 { return n.HugetlbBytes }, false},
		{"hugetlb free", func(n *events.NodeState) *uint64 { return n.HugetlbFreeBytes }, false},
		{"GPU", func(n *events.NodeState) *uint64 { return n.GPUActiveBytes }, false},
		{"GPU, reclaimable", func(n *events.NodeState) *uint64 { return n.GPUReclaimBytes }, false},
		{"zsmalloc", func(n *events.NodeState) *uint64 { return n.ZspagesBytes }, false},
		{"zswap", func(n *events.NodeState) *uint64 { return n.ZswapBytes }, false},
		{"sockets", func(n *events.NodeState) *uint64 { return n.NetworkBytes }, false},
		{"ZFS cache", func(n *events.NodeState) *uint64 { return n.ZFSCacheBytes }, false},
		{"balloon", func(n *events.NodeState) *uint64 { return n.BalloonBytes }, false},
		{"swap", func(n *events.NodeState) *uint64 { return n.SwapTotalBytes }, true},
		{"swap free", func(n *events.NodeState) *uint64 { return n.SwapFreeBytes }, false},
		{"in no counter", inNoCounter, false},
	} {
		a, b := v.of(first), (*uint64)(nil)
		if later != nil {
			b = v.of(later)
		}

		if (a == nil || *a == 0 && !v.zero) && (b == nil || *b == 0 && !v.zero) {
			continue
		}

		f := fact{Name: v.name, Value: size(a), Later: size(b)}
		if a == nil {
			f.Value = "–"
		}

		if f.Value == f.Later {
			f.Later = ""
		}

		all = append(all, f)
	}

	return append(all, facts("transparent huge pages", first.TransparentHuge)...)
}

// inNoCounter is nil where the counters do not add up.
func inNoCounter(n *events.NodeState) *uint64 {
	if n.Ledger == nil {
		return nil
	}

	return &n.Ledger.UnaccountedBytes
}

func psi(p *events.PSI) string {
	if p == nil {
		return ""
	}

	return fmt.Sprintf("%.1f / %.1f / %.1f %% (10, 60, 300 s)", p.Avg10, p.Avg60, p.Avg300)
}

// orders is how many orders of free blocks are shown: MAX_PAGE_ORDER is 10 with pages of 4 KiB
// (include/linux/mmzone.h).
const orders = 16

func zoneTable(zones []events.Zone) dataTable {
	type zone = events.Zone

	columns := []column[zone]{
		{head{"Zone", false}, func(z *zone) cell {
			c := cell{Text: phrase.Zone(z.Node, z.Zone)}
			if z.BelowMin() {
				c.Tag = "below min"
			}

			return c
		}},
		numberColumn("Free", func(z *zone) string { return size(z.FreeBytes) }),
		numberColumn("min", func(z *zone) string { return size(z.MinBytes) }),
		numberColumn("low", func(z *zone) string { return size(z.LowBytes) }),
		numberColumn("high", func(z *zone) string { return size(z.HighBytes) }),
		numberColumn("Managed", func(z *zone) string { return size(z.ManagedBytes) }),
	}

	for order := range orders {
		columns = append(columns, numberColumn(fmt.Sprint(order), func(z *zone) string {
			if order >= len(z.FreeBlocks) {
				return ""
			}

			return fmt.Sprint(z.FreeBlocks[order])
		}))
	}

	t := newTable("Zones, watermarks, free blocks by order", "zones", 0, zones, columns...)
	t.Class = "zones"

	return t
}

func slabTable(slabs []events.SlabCache) dataTable {
	most := uint64(1)
	for _, s := range slabs {
		most = max(most, s.Bytes)
	}

	return newTable("Largest slab caches", "caches", 0, slabs,
		textColumn("Cache", func(s *events.SlabCache) string { return s.Name }),
		column[events.SlabCache]{head{"", false}, func(s *events.SlabCache) cell { return cell{Bar: max(1, percent(s.Bytes, most))} }},
		numberColumn("Size", func(s *events.SlabCache) string { return size(&s.Bytes) }))
}

func siteTable(sites []events.AllocationSite) dataTable {
	return newTable("Allocation sites in the kernel", "sites", 0, sites,
		textColumn("Site", func(s *events.AllocationSite) string { return phrase.Join(" ", s.Location, s.Function, s.Module) }),
		numberColumn("Allocations", func(s *events.AllocationSite) string { return fmt.Sprint(s.Count) }),
		numberColumn("Size", func(s *events.AllocationSite) string { return size(&s.Bytes) }))
}

func hugeTable(pages []events.HugePages) dataTable {
	return newTable("Huge pages", "sizes", 0, pages,
		textColumn("Size", func(p *events.HugePages) string { return phrase.Size(p.SizeBytes) }),
		numberColumn("Total", func(p *events.HugePages) string { return fmt.Sprint(p.Total) }),
		numberColumn("Free", func(p *events.HugePages) string { return fmt.Sprint(p.Free) }))
}
