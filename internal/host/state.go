// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"strconv"
	"strings"

	"path/filepath"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Bounds of the lists of a state.
const (
	maxSlabs   = 10
	maxCgroups = 10
)

// State reads the memory of the whole machine. Fields of a source that cannot be read
// are absent; slab caches need root.
//
// It reads no process and no page. Its cost grows with the cgroups of the first two
// levels (some 20 µs each) and with slab caches: the kernel counts their partial slabs
// (mm/slub.c: get_slabinfo; before 6.10 each of them, with the list of a NUMA node
// locked). /proc/zoneinfo grows with zones and CPUs.
func (r Reader) State() *events.NodeState {
	s := r.Meminfo()
	r.hugetlb(s)
	s.PSISome, s.PSIFull = readPSI(r.in("proc/pressure/memory"))
	s.Zones = r.zones()
	s.Slabs = r.slabs(maxSlabs)
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
	// File pages on the LRU lists. Cached includes shmem and locked pages.
	if active, inactive := kib("Active(file):"), kib("Inactive(file):"); active != nil && inactive != nil {
		sum := *active + *inactive
		s.FileBytes = &sum
	}
	s.DirtyBytes, s.WritebackBytes = kib("Dirty:"), kib("Writeback:")
	s.SlabReclaimable, s.SlabUnreclaimable = kib("SReclaimable:"), kib("SUnreclaim:")
	s.KernelStackBytes, s.PagetablesBytes = kib("KernelStack:"), kib("PageTables:")
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

// hugetlb adds up the free pages of all sizes: /proc/meminfo has those of the default
// size only.
func (r Reader) hugetlb(s *events.NodeState) {
	files, _ := filepath.Glob(r.in("sys/kernel/mm/hugepages/hugepages-*kB/free_hugepages"))
	if len(files) == 0 {
		return
	}
	var sum uint64

	for _, file := range files {
		name := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "hugepages-")
		kib, err := strconv.ParseUint(strings.TrimSuffix(name, "kB"), 10, 32)

		free := readNumber(file)
		if err != nil || free == nil || *free > 1<<32 {
			return
		}
		sum += *free * kib * 1024
	}
	s.HugetlbFreeBytes = &sum
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
