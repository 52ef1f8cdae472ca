// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path/filepath"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Charge returns the memory that a cgroup and its descendants are charged for, by kind
// (memory.stat). It is nil where that cannot be read. The kernel sums up the counters
// of all CPUs for it. cgroup v1 does not split kernel memory.
func (r Reader) Charge(path string) *events.Memory {
	if r.Layout.MemoryMount == "" {
		return nil
	}
	dir := r.Layout.dir(path)

	text, err := readSmall(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return nil
	}

	if r.Layout.MemoryVersion == 1 {
		m := chargeV1(text)
		m.SockBytes = readNumber(filepath.Join(dir, "memory.kmem.tcp.usage_in_bytes"))

		return m
	}

	return chargeV2(text)
}

func stat(text []byte, name string) *uint64 {
	n, ok := field(text, name)
	if !ok {
		return nil
	}

	return &n
}

// chargeV2 parses the names of mm/memcontrol.c: memory_stats. Each kernel has some of
// them.
func chargeV2(text []byte) *events.Memory {
	m := &events.Memory{
		AnonBytes: stat(text, "anon"), FileBytes: stat(text, "file"), ShmemBytes: stat(text, "shmem"),
		SlabBytes: stat(text, "slab"), KernelStackBytes: stat(text, "kernel_stack"),
		PagetablesBytes: stat(text, "pagetables"), SockBytes: stat(text, "sock"),
		FileDirtyBytes: stat(text, "file_dirty"), FileWritebackBytes: stat(text, "file_writeback"),
		ActiveFileBytes: stat(text, "active_file"), InactiveFileBytes: stat(text, "inactive_file"),
		UnevictableBytes: stat(text, "unevictable"), AnonTHPBytes: stat(text, "anon_thp"),
		SlabReclaimableBytes: stat(text, "slab_reclaimable"), SlabUnreclaimableBytes: stat(text, "slab_unreclaimable"),
		PercpuBytes: stat(text, "percpu"),
	}
	if huge := stat(text, "hugetlb"); huge != nil && *huge > 0 {
		m.HugetlbBytes = huge
	}

	if m.SlabBytes == nil && m.SlabReclaimableBytes != nil && m.SlabUnreclaimableBytes != nil {
		sum := *m.SlabReclaimableBytes + *m.SlabUnreclaimableBytes
		m.SlabBytes = &sum
	}

	return m
}

// chargeV1 parses the sums over the subtree (mm/memcontrol-v1.c: memcg1_stat_format).
func chargeV1(text []byte) *events.Memory {
	return &events.Memory{
		AnonBytes: stat(text, "total_rss"), FileBytes: stat(text, "total_cache"), ShmemBytes: stat(text, "total_shmem"),
		FileDirtyBytes: stat(text, "total_dirty"), FileWritebackBytes: stat(text, "total_writeback"),
		ActiveFileBytes: stat(text, "total_active_file"), InactiveFileBytes: stat(text, "total_inactive_file"),
		UnevictableBytes: stat(text, "total_unevictable"), AnonTHPBytes: stat(text, "total_rss_huge"),
	}
}

// Split is a cgroup's charge, with that of its descendants, in few parts.
type Split struct {
	AnonBytes, ShmemBytes uint64
	FileBytes             uint64 // includes ShmemBytes
	// KernelBytes is kernel memory with sockets, nil if the kernel does not count it for the cgroup.
	KernelBytes *uint64
}

// ReadSplit reads the split of a cgroup by its path in the hierarchy, nil where that cannot be
// read. It takes longer than a sample: the kernel sums up the counters of all CPUs.
func ReadSplit(l Layout, path string) *Split {
	m := Reader{Layout: l}.Charge(path)
	if m == nil || m.AnonBytes == nil || m.FileBytes == nil || m.ShmemBytes == nil {
		return nil
	}

	s := &Split{AnonBytes: *m.AnonBytes, ShmemBytes: *m.ShmemBytes, FileBytes: *m.FileBytes}
	parts := []*uint64{m.SlabBytes, m.KernelStackBytes, m.PagetablesBytes, m.PercpuBytes, m.SockBytes}

	if l.MemoryVersion == 1 {
		parts = []*uint64{readNumber(filepath.Join(l.dir(path), "memory.kmem.usage_in_bytes")), m.SockBytes}
	}

	for _, part := range parts {
		if part != nil {
			s.KernelBytes = new(*part + value(s.KernelBytes))
		}
	}

	return s
}

// Events reads memory.events: of a cgroup with its descendants, or of its own limits
// alone (memory.events.local, since 5.2). cgroup v1 counts only the cgroup's own, in
// memory.failcnt and memory.oom_control. It is nil where the counts cannot be read.
func (r Reader) Events(path string, local bool) *events.CgroupEvents {
	dir := r.Layout.dir(path)
	switch {
	case r.Layout.MemoryMount == "" || r.Layout.MemoryVersion == 1 && !local:
		return nil
	case r.Layout.MemoryVersion == 1:
		e := &events.CgroupEvents{Max: readNumber(filepath.Join(dir, "memory.failcnt"))}
		if text, err := readSmall(filepath.Join(dir, "memory.oom_control")); err == nil {
			e.OOMKill = stat(text, "oom_kill")
		}

		return e
	}

	name := "memory.events"
	if local {
		name += ".local"
	}

	text, err := readSmall(filepath.Join(dir, name))
	if err != nil {
		return nil
	}

	return &events.CgroupEvents{
		Low: stat(text, "low"), High: stat(text, "high"), Max: stat(text, "max"),
		OOM: stat(text, "oom"), OOMKill: stat(text, "oom_kill"), OOMGroupKill: stat(text, "oom_group_kill"),
		SockThrottled: stat(text, "sock_throttled"),
	}
}

// Scanned returns how many bytes were scanned for reclaim in a cgroup and its descendants
// since it was created, and how many of them for writes to memory.reclaim
// (pgscan_proactive of memory.stat; 6.18 has it, 6.12 does not). They are nil where the kernel does not
// count them, as in cgroup v1.
func (r Reader) Scanned(path string) (all, proactive *uint64) {
	if r.Layout.MemoryMount == "" || r.Layout.MemoryVersion == 1 {
		return nil, nil
	}

	text, err := readSmall(filepath.Join(r.Layout.dir(path), "memory.stat"))
	if err != nil {
		return nil, nil
	}
	bytes := func(name string) *uint64 {
		pages := stat(text, name)
		if pages == nil || *pages > 1<<44 {
			return nil
		}

		return new(*pages * uint64(PageSize()))
	}

	return bytes("pgscan"), bytes("pgscan_proactive")
}

// PSI reads for which share of the time tasks of a cgroup were stalled on memory. It is
// nil where there is no memory.pressure, as in cgroup v1.
func (r Reader) PSI(path string) (some, full *events.PSI) {
	if r.Layout.MemoryMount == "" {
		return nil, nil
	}

	return readPSI(filepath.Join(r.Layout.dir(path), "memory.pressure"))
}
