// SPDX-License-Identifier: Apache-2.0

package view

import (
	"maps"
	"slices"
	"strconv"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// nodeMemory has the memory of the machine, its parts, and swap with huge pages.
func (v inspection) nodeMemory() []group {
	s := v.event.NodeState

	return []group{
		list(v.sizes(part{"total", s.TotalBytes}, part{"available", s.AvailableBytes}, part{"free", s.FreeBytes})...),
		list(v.sizes(
			part{"anon", s.AnonBytes}, part{"file", s.FileBytes}, part{"shmem", s.ShmemBytes}, part{"dirty", s.DirtyBytes},
			part{"writeback", s.WritebackBytes}, part{"unevictable", s.UnevictableBytes})...),
		list(v.sizes(
			part{"slab reclaimable", s.SlabReclaimable}, part{"unreclaimable", s.SlabUnreclaimable},
			part{"kernel stacks", s.KernelStackBytes}, part{"page tables", s.PagetablesBytes})...),
		list(v.swapAndHugePages()...),
		list(v.otherHolders()...),
	}
}

func (v inspection) swapAndHugePages() []string {
	s := v.event.NodeState
	var items []string

	switch {
	case s.SwapTotalBytes == nil:
	case *s.SwapTotalBytes == 0:
		items = append(items, "no swap")
	default:
		items = append(items, v.sizes(part{"swap", s.SwapTotalBytes}, part{"free", s.SwapFreeBytes})...)
	}

	if s.TransparentHuge != "" {
		items = append(items, "transparent huge pages "+s.TransparentHuge)
		items = append(items, v.sizes(part{"in use", s.AnonTHPBytes})...)
	}

	if s.HugetlbBytes != nil && *s.HugetlbBytes > 0 {
		items = append(items, v.sizes(part{"hugetlb", s.HugetlbBytes}, part{"free", s.HugetlbFreeBytes})...)
	}

	return append(items, v.sizes(part{"GPU", s.GPUActiveBytes}, part{"GPU, reclaimable", s.GPUReclaimBytes})...)
}

// otherHolders has what is in no process and in no cgroup, and what no counter has.
func (v inspection) otherHolders() []string {
	s := v.event.NodeState

	items := v.sizes(part{"vmalloc", s.VmallocBytes}, part{"per CPU", s.PercpuBytes}, part{"zsmalloc", s.ZspagesBytes},
		part{"sockets", s.NetworkBytes}, part{"ZFS", s.ZFSCacheBytes}, part{"balloon", s.BalloonBytes})
	if s.Ledger != nil {
		items = append(items, "in no counter "+phrase.Size(s.Ledger.UnaccountedBytes))
	}

	return items
}

// zones has the watermarks beside the free memory, and sums for each NUMA node where
// there are several. A narrow block has only zones below a watermark.
func (v inspection) zones() []group {
	zones := v.event.NodeState.Zones
	if !v.wide {
		zones = slices.DeleteFunc(slices.Clone(zones), func(z events.Zone) bool { return watermark(&z) == "" })
	}

	if len(zones) == 0 {
		return nil
	}
	g := grid{{"NUMA", "zone", "free", "min", "low", "high", "managed", ""}}
	type sum struct{ free, managed uint64 }
	nodes := map[int]sum{}

	for i := range zones {
		z := &zones[i]

		g = append(g, []string{
			strconv.Itoa(z.Node), z.Zone, phrase.ShortSize(z.FreeBytes), phrase.ShortSize(z.MinBytes), phrase.ShortSize(z.LowBytes),
			phrase.ShortSize(z.HighBytes), phrase.ShortSize(z.ManagedBytes), watermark(z),
		})
		if z.FreeBytes != nil && z.ManagedBytes != nil {
			n := nodes[z.Node]
			nodes[z.Node] = sum{n.free + *z.FreeBytes, n.managed + *z.ManagedBytes}
		}
	}

	if len(nodes) > 1 && v.wide {
		for _, id := range slices.Sorted(maps.Keys(nodes)) {
			n := nodes[id]
			g = append(g, []string{strconv.Itoa(id), "all", phrase.ShortSize(&n.free), "", "", "", phrase.ShortSize(&n.managed), ""})
		}
	}

	return g.groups(2)
}

// watermark is the mark that a zone is below.
func watermark(z *events.Zone) string {
	for _, mark := range []struct {
		bytes *uint64
		text  string
	}{{z.MinBytes, "BELOW MIN"}, {z.LowBytes, "below low"}} {
		if z.FreeBytes != nil && mark.bytes != nil && *z.FreeBytes < *mark.bytes {
			return mark.text
		}
	}

	return ""
}

// freeBlocks counts free blocks by order: where the columns at the right are zero, a
// large allocation fails.
func (v inspection) freeBlocks() []group {
	if !v.wide {
		return nil
	}
	var g grid

	for _, z := range v.event.NodeState.Zones {
		if len(z.FreeBlocks) == 0 {
			continue
		}

		if g == nil {
			head := []string{"NUMA", "zone", "order 0"}
			for order := 1; order < len(z.FreeBlocks); order++ {
				head = append(head, strconv.Itoa(order))
			}

			g = append(g, head)
		}

		row := []string{strconv.Itoa(z.Node), z.Zone}
		for _, n := range z.FreeBlocks {
			row = append(row, shortCount(n))
		}

		g = append(g, row)
	}

	return g.groups(2)
}

// shortCount is a number in at most 4 columns.
func shortCount(n uint64) string {
	for _, unit := range []string{"", "k", "M", "G"} {
		if n < 1000 {
			return strconv.FormatUint(n, 10) + unit
		}
		n /= 1000
	}

	return "many"
}

func (v inspection) slabs() group {
	if !v.wide {
		return list()
	}
	var items []string

	for _, s := range v.event.NodeState.Slabs {
		items = append(items, slab(s))
	}

	return list(items...)
}
