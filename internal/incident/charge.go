// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// memory returns the charge split of the limiter, nil if it is not known or not fresh:
// the kernel flushes its counters for its report, which its log's rate limit may have
// suppressed (mm/oom_kill.c: dump_header).
func (b *builder) memory(charge []kernel.MemcgCharge, limiter *kernel.Memcg, unknown *oom.Unknowns) *events.Memory {
	if limiter == nil {
		return nil
	}

	i := slices.IndexFunc(charge, func(c kernel.MemcgCharge) bool { return c.Key == limiter.Key })
	if i < 0 || !fresh(charge[i].Memory, limiter.Memory.Usage*b.cfg.PageSize) {
		return nil
	}

	m := charge[i].Memory
	for _, part := range []struct {
		name  string
		value *uint64
	}{
		{"memory.slab_bytes", m.SlabBytes}, {"memory.kernel_stack_bytes", m.KernelStackBytes},
		{"memory.pagetables_bytes", m.PagetablesBytes}, {"memory.sock_bytes", m.SockBytes},
		{"memory.file_dirty_bytes", m.FileDirtyBytes}, {"memory.file_writeback_bytes", m.FileWritebackBytes},
		{"memory.active_file_bytes", m.ActiveFileBytes}, {"memory.inactive_file_bytes", m.InactiveFileBytes},
		{"memory.unevictable_bytes", m.UnevictableBytes}, {"memory.anon_thp_bytes", m.AnonTHPBytes},
		{"memory.slab_reclaimable_bytes", m.SlabReclaimableBytes}, {"memory.slab_unreclaimable_bytes", m.SlabUnreclaimableBytes},
		{"memory.percpu_bytes", m.PercpuBytes},
	} {
		unknown.Unless(part.name, part.value != nil)
	}

	return &m
}

// fresh compares the sum of the parts with the usage, which is exact. It allows for kernel
// memory that is in no part, and for what each CPU has in its batch even after a flush.
func fresh(m events.Memory, usageBytes uint64) bool {
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
