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
	if i < 0 || !oom.AddsUp(&charge[i].Memory, limiter.Memory.Usage*b.cfg.PageSize) {
		return nil
	}

	m := charge[i].Memory
	for _, part := range oom.MemoryParts(&m) {
		unknown.Unless(part.Name, *part.Value != nil)
	}

	return &m
}
