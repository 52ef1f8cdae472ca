// SPDX-License-Identifier: Apache-2.0

package oom

import "github.com/oomtrace/oomtrace/internal/events"

// MemoryPart is a part of a charge that some kernels do not count, or count together with
// another part.
type MemoryPart struct {
	Name  string // its key, as unknown has it
	Value **uint64
}

// MemoryParts returns these parts of a charge. Anonymous memory, file and shmem, which every
// kernel counts, are not among them.
func MemoryParts(m *events.Memory) []MemoryPart {
	return []MemoryPart{
		{"memory.slab_bytes", &m.SlabBytes}, {"memory.kernel_stack_bytes", &m.KernelStackBytes},
		{"memory.pagetables_bytes", &m.PagetablesBytes}, {"memory.sock_bytes", &m.SockBytes},
		{"memory.file_dirty_bytes", &m.FileDirtyBytes}, {"memory.file_writeback_bytes", &m.FileWritebackBytes},
		{"memory.active_file_bytes", &m.ActiveFileBytes}, {"memory.inactive_file_bytes", &m.InactiveFileBytes},
		{"memory.unevictable_bytes", &m.UnevictableBytes}, {"memory.anon_thp_bytes", &m.AnonTHPBytes},
		{"memory.slab_reclaimable_bytes", &m.SlabReclaimableBytes}, {"memory.slab_unreclaimable_bytes", &m.SlabUnreclaimableBytes},
		{"memory.percpu_bytes", &m.PercpuBytes},
	}
}

// AddsUp reports whether the parts of a charge make up the usage, which is exact. It allows
// for kernel memory that is in no part, and for what each CPU has in its batch even after a
// flush.
func AddsUp(m *events.Memory, usageBytes uint64) bool {
	if m.AnonBytes == nil || m.FileBytes == nil || m.ShmemBytes == nil {
		return false
	}

	var sum uint64

	for _, part := range []*uint64{
		m.AnonBytes, m.FileBytes, m.SlabBytes, m.KernelStackBytes, m.PagetablesBytes, m.SockBytes, m.PercpuBytes,
		m.HugetlbBytes,
	} {
		if part != nil {
			sum += *part
		}
	}

	slack := usageBytes/10 + 1<<20

	return sum+slack >= usageBytes && sum <= usageBytes+slack
}
