// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// ancestorRow is a cgroup of the ancestry, with its usage as a bar.
type ancestorRow struct {
	events.Rung
	Name    string
	Limiter bool
	Limited bool
	Fill    float64 // percent of its own limit
	High    float64 // where memory.high is on it; 0: none
}

func ancestry(inc *events.Incident) []ancestorRow {
	ancestors, _ := head(inc.Ladder)
	var rows []ancestorRow

	for i := range ancestors {
		r := ancestors[i]

		row := ancestorRow{Rung: r, Name: ancestorName(&r), Limiter: limiterCgroup(inc).Is(&r.Cgroup), Limited: r.MaxBytes != nil}
		if r.MaxBytes != nil && *r.MaxBytes > 0 && r.UsageBytes != nil {
			row.Fill = percent(*r.UsageBytes, *r.MaxBytes)
			if r.HighBytes != nil {
				row.High = percent(*r.HighBytes, *r.MaxBytes)
			}
		}

		rows = append(rows, row)
	}

	return rows
}

// ancestorName is the name beside the level; empty if it would only repeat that.
func ancestorName(r *events.Rung) string {
	name := phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)
	switch r.Level {
	case events.LevelContainer:
		name = phrase.Container(r.Workload)
	case events.LevelPod:
		name = phrase.QualifiedPod(r.Workload)
	}

	if name == string(r.Level) {
		return ""
	}

	return name
}

// sharer names a cgroup that shares the limit. A plain one is not the workload that it is
// part of.
func sharer(s *events.Share, known *events.Workload) string {
	name := phrase.Ancestor(s.Level, s.Workload, s.Cgroup.Path)
	if s.Level == events.LevelCgroup {
		return name
	}

	return cmp.Or(phrase.Place(s.Workload, known), name)
}

// percent is a share in percent with one decimal, at most 100.
func percent(part, of uint64) float64 {
	if of == 0 {
		return 0
	}

	return round(min(100, float64(part)/float64(of)*100))
}

// split has the parts of the charge.
type split struct {
	Parts []splitPart
	Total uint64
	Inner []fact // parts of parts
}

type splitPart struct {
	Name    string
	Bytes   uint64
	Begin   float64 // percent of the bar
	Percent float64
	Colour  int
}

// chargeSplit shows file without shmem, which the kernel counts as file (NR_FILE_PAGES):
// only the rest is page cache. It is nil where nothing is known.
func chargeSplit(inc *events.Incident) *split {
	m := inc.Memory
	if m == nil {
		return nil
	}
	s := &split{}
	add := func(name string, bytes *uint64, colour int) {
		if bytes != nil && *bytes > 0 {
			s.Parts = append(s.Parts, splitPart{Name: name, Bytes: *bytes, Colour: colour})
			s.Total += *bytes
		}
	}

	cache := m.FileBytes
	if cache != nil && m.ShmemBytes != nil {
		rest := *cache - min(*cache, *m.ShmemBytes)
		cache = &rest
	}

	add("anonymous", m.AnonBytes, 1)
	add("page cache", cache, 4)
	add("shmem, tmpfs", m.ShmemBytes, 2)
	add("slab", m.SlabBytes, 5)
	add("kernel stacks", m.KernelStackBytes, 7)
	add("page tables", m.PagetablesBytes, 6)
	add("sockets", m.SockBytes, 3)

	if l := inc.Limiter; l != nil && l.UsageBytes != nil && *l.UsageBytes > s.Total && s.Total > 0 {
		rest := *l.UsageBytes - s.Total
		add("other", &rest, 8)
	}

	if s.Total == 0 {
		return nil
	}
	var begin uint64

	for i := range s.Parts {
		p := &s.Parts[i]
		p.Begin, p.Percent = percent(begin, s.Total), percent(p.Bytes, s.Total)
		begin += p.Bytes
	}
	s.Inner = facts("dirty", size(m.FileDirtyBytes), "under writeback", size(m.FileWritebackBytes), "active file", size(m.ActiveFileBytes),
		"inactive file", size(m.InactiveFileBytes), "unevictable", size(m.UnevictableBytes), "anonymous huge pages", size(m.AnonTHPBytes),
		"reclaimable slab", size(m.SlabReclaimableBytes), "unreclaimable slab", size(m.SlabUnreclaimableBytes),
		"per-CPU", size(m.PercpuBytes))

	return s
}

// shareRow is a cgroup beside others, with a bar relative to the largest.
type shareRow struct {
	events.Share
	Name string
	Fill float64
}

func shareRows(shares []events.Share, known *events.Workload) (rows []shareRow, more int) {
	shares, more = head(shares)
	most := uint64(1)

	for _, s := range shares {
		if s.UsageBytes != nil {
			most = max(most, *s.UsageBytes)
		}
	}

	for _, s := range shares {
		row := shareRow{Share: s, Name: sharer(&s, known)}
		if s.UsageBytes != nil {
			row.Fill = percent(*s.UsageBytes, most)
		}

		rows = append(rows, row)
	}

	return rows, more
}

// nodePage is the part of the document about the state of the machine.
type nodePage struct {
	*events.NodeState
	Memory  []fact
	Zones   []zoneRow
	Orders  []int
	Cgroups []shareRow
	Slabs   []slabRow
}

type zoneRow struct {
	events.Zone
	Low bool // below its min watermark
}

type slabRow struct {
	events.SlabCache
	Fill float64
}

// inNoCounter is empty where the counters do not add up.
func inNoCounter(l *events.NodeLedger) string {
	if l == nil {
		return ""
	}

	return size(&l.UnaccountedBytes)
}

func newNodePage(n *events.NodeState) *nodePage {
	if n == nil {
		return nil
	}
	p := &nodePage{NodeState: n}
	p.Memory = facts("total", size(n.TotalBytes), "free", size(n.FreeBytes), "available", size(n.AvailableBytes),
		"anonymous", size(n.AnonBytes),
		"file", size(n.FileBytes), "shmem", size(n.ShmemBytes), "slab, reclaimable", size(n.SlabReclaimable),
		"slab, unreclaimable", size(n.SlabUnreclaimable), "page tables", size(n.PagetablesBytes), "kernel stacks", size(n.KernelStackBytes),
		"dirty", size(n.DirtyBytes), "writeback", size(n.WritebackBytes), "unevictable", size(n.UnevictableBytes),
		"anonymous huge pages", size(n.AnonTHPBytes), "hugetlb", size(n.HugetlbBytes), "hugetlb free", size(n.HugetlbFreeBytes),
		"swap", size(n.SwapTotalBytes), "swap free", size(n.SwapFreeBytes), "transparent huge pages", n.TransparentHuge,
		"GPU", size(n.GPUActiveBytes), "GPU, reclaimable", size(n.GPUReclaimBytes),
		"per CPU", size(n.PercpuBytes), "vmalloc", size(n.VmallocBytes), "zsmalloc", size(n.ZspagesBytes),
		"sockets", size(n.NetworkBytes), "ZFS", size(n.ZFSCacheBytes), "balloon", size(n.BalloonBytes),
		"in no counter", inNoCounter(n.Ledger))
	orders := 0

	zones, _ := head(n.Zones)
	for i := range zones {
		z := zones[i]
		if len(z.FreeBlocks) > 16 {
			z.FreeBlocks = z.FreeBlocks[:16] // MAX_PAGE_ORDER is 10 with pages of 4 KiB (include/linux/mmzone.h)
		}
		orders = max(orders, len(z.FreeBlocks))
		p.Zones = append(p.Zones, zoneRow{z, z.BelowMin()})
	}

	for i := range orders {
		p.Orders = append(p.Orders, i)
	}
	p.Cgroups, _ = shareRows(n.Cgroups, nil)
	slabs, _ := head(n.Slabs)

	most := uint64(1)
	for _, s := range slabs {
		most = max(most, s.Bytes)
	}

	for _, s := range slabs {
		p.Slabs = append(p.Slabs, slabRow{s, percent(s.Bytes, most)})
	}

	return p
}
