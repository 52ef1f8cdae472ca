// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// Bounds of the lists of a state.
const (
	maxSlabs   = 10
	maxSites   = 10
	maxCgroups = 10
)

// State reads the memory of the whole machine. Fields of a source that cannot be read
// are absent; slab caches need root.
//
// It reads no process and no page. Its cost grows with the cgroups of the first two
// levels (some 20 µs each) and with slab caches: the kernel counts their partial slabs
// (mm/slub.c: get_slabinfo; before 6.10 each of them, with the list of a NUMA node
// locked). /proc/zoneinfo grows with zones and CPUs, and /proc/allocinfo, which few kernels
// have, with the places in the kernel's source that allocate (some thousands).
func (r Reader) State() *events.NodeState {
	s := r.Meminfo()
	r.hugetlb(s)
	r.holders(s)
	s.PSISome, s.PSIFull = readPSI(r.in("proc/pressure/memory"))
	s.Zones, s.FreePCPBytes = r.zones()
	s.Slabs = r.slabs(maxSlabs)
	s.AllocationSites = r.allocationSites(maxSites)
	s.Ledger = oom.NodeLedger(s)
	s.TransparentHuge = r.transparentHuge()

	if n := readNumber(r.in("proc/sys/vm/oom_kill_allocating_task")); n != nil {
		s.KillAllocatingTask = new(*n != 0)
	}

	if ms := readNumber(r.in("sys/kernel/mm/lru_gen/min_ttl_ms")); ms != nil && *ms <= 1<<32 {
		s.MinTTLNS = new(*ms * 1e6)
	}

	s.Cgroups = r.topCgroups()

	return s
}

// Meminfo reads the fields of a state that are in /proc/meminfo (fs/proc/meminfo.c). It
// costs some 50 µs.
func (r Reader) Meminfo() *events.NodeState {
	s := &events.NodeState{}

	text, err := readSmall(r.in("proc/meminfo"))
	if err != nil {
		return s
	}
	kib := func(name string) *uint64 {
		n, ok := field(text, name)
		if !ok || n > 1<<53 {
			return nil
		}
		n *= 1024

		return &n
	}
	s.TotalBytes, s.FreeBytes, s.AvailableBytes = kib("MemTotal:"), kib("MemFree:"), kib("MemAvailable:")
	s.AnonBytes, s.ShmemBytes = kib("AnonPages:"), kib("Shmem:")
	// Cached is NR_FILE_PAGES without the swap cache and without the page cache of block devices.
	s.FileBytes, s.SwapCacheBytes = oom.SumOfAll(kib("Cached:"), kib("Buffers:")), kib("SwapCached:")
	s.ActiveFileBytes, s.InactiveFileBytes = kib("Active(file):"), kib("Inactive(file):")
	s.LRUBytes = oom.SumOfAll(kib("Active:"), kib("Inactive:"), kib("Unevictable:"))
	s.DirtyBytes, s.WritebackBytes = kib("Dirty:"), kib("Writeback:")
	s.SlabReclaimable, s.SlabUnreclaimable = kib("SReclaimable:"), kib("SUnreclaim:")
	s.KernelStackBytes, s.PagetablesBytes = kib("KernelStack:"), kib("PageTables:")
	s.SecPagetablesBytes, s.PercpuBytes = kib("SecPageTables:"), kib("Percpu:") // of 6.0 and 4.20
	s.VmallocBytes = vmalloc(kib("VmallocUsed:"), kib("VmallocChunk:"))

	if all := kib("KReclaimable:"); all != nil && s.SlabReclaimable != nil { // of 4.20
		s.MiscReclaimableBytes = new(*all - min(*all, *s.SlabReclaimable))
	}
	s.FreeCMABytes, s.ZswapBytes, s.BalloonBytes = kib("CmaFree:"), kib("Zswap:"), kib("Balloon:") // of 5.19 and 6.16
	s.UnevictableBytes, s.AnonTHPBytes = kib("Unevictable:"), kib("AnonHugePages:")
	s.SwapTotalBytes, s.SwapFreeBytes = kib("SwapTotal:"), kib("SwapFree:")

	s.GPUActiveBytes, s.GPUReclaimBytes = kib("GPUActive:"), kib("GPUReclaim:") // of 7.x

	s.HugetlbBytes = kib("Hugetlb:") // of all sizes; since 4.19
	if pageBytes := kib("Hugepagesize:"); pageBytes != nil {
		of := func(name string) *uint64 {
			n, ok := field(text, name)
			if !ok || n > 1<<40 {
				return nil
			}
			n *= *pageBytes

			return &n
		}
		if s.HugetlbBytes == nil {
			s.HugetlbBytes = of("HugePages_Total:")
		}
		s.HugetlbFreeBytes = of("HugePages_Free:")
	}

	return s
}

// vmalloc returns the memory of vmalloc where VmallocUsed is that: before 4.4 it is address space,
// which VmallocChunk shows, and up to 5.2 it is always 0 (fs/proc/meminfo.c).
func vmalloc(used, chunk *uint64) *uint64 {
	if value(used) == 0 || value(chunk) != 0 {
		return nil
	}

	return used
}

// readPSI parses a file like "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func readPSI(path string) (some, full *events.PSI) {
	text, err := readSmall(path)
	if err != nil {
		return nil, nil
	}

	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 4 {
			continue
		}
		var p events.PSI
		known := 0

		for _, field := range fields[1:] {
			name, number, _ := strings.Cut(field, "=")

			percent, err := strconv.ParseFloat(number, 64)
			if err != nil || !(percent >= 0 && percent <= 100) {
				continue
			}

			switch name {
			case "avg10":
				p.Avg10 = percent
			case "avg60":
				p.Avg60 = percent
			case "avg300":
				p.Avg300 = percent
			default:
				continue
			}

			known++
		}

		switch {
		case known != 3:
		case fields[0] == "some":
			some = &p
		case fields[0] == "full":
			full = &p
		}
	}

	return some, full
}

// transparentHuge returns the setting in brackets: always [madvise] never.
func (r Reader) transparentHuge() string {
	text, err := readSmall(r.in("sys/kernel/mm/transparent_hugepage/enabled"))
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(text, []byte("["))

	setting, _, ok := bytes.Cut(rest, []byte("]"))
	if !ok || len(setting) > 32 {
		return ""
	}

	return string(setting)
}

// topCgroups returns the largest of the first two levels, where kubepods is next to the
// services of the machine.
func (r Reader) topCgroups() []events.Share {
	base := r.Layout.MountRoot
	if base == "" {
		base = "/"
	}

	all := r.children(base)
	for _, top := range all[:len(all):len(all)] {
		all = append(all, r.children(top.Cgroup.Path)...)
	}
	kept, _ := largest(all, maxCgroups)

	return kept
}
