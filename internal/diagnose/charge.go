// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// charge is the memory that ran out, by kind: the limiter's charge, or the node's memory.
// Unknown parts are nil.
type charge struct {
	whole  uint64
	of     string // the whole in words
	short  string // the whole in a brief
	node   bool
	source string

	anon, cache, shmem                     *uint64 // cache is file without shmem
	slabReclaimable, slabUnreclaimable     *uint64
	kernelStacks, pagetables, sock, perCPU *uint64
	dirty, active, inactive                *uint64 // parts of cache; dirty includes writeback
	unevictable, thp                       *uint64
	hugetlb                                *uint64 // of a cgroup
	// Of the node: buffers of GPU drivers, huge pages in use, zram and zswap, and what no counter has.
	gpu, hugePages, compressed, unaccounted *uint64
}

// newCharge returns nil where nothing is known, or the scope has no whole that could be
// split: a cpuset's nodes, a kill from user space.
func newCharge(f *facts, m *events.Memory, n *events.NodeState) *charge {
	switch {
	case f.is(events.ScopeMemcg) && m != nil:
		c := memcgCharge(withPagetables(m, f))

		c.whole, c.of, c.short, c.source = value(f.limiter.LimitBytes), f.limit(), f.whole(), f.memorySource()
		if f.limiter.LimitBytes == nil {
			c.whole, c.short = value(f.limiter.UsageBytes), "the usage"
		}

		return c
	case f.is(events.ScopeGlobal) && n != nil:
		c := nodeCharge(n)

		c.whole, c.of, c.short, c.source = value(n.TotalBytes), "the node's memory", f.whole(), f.ledgerSource()
		if c.whole == 0 {
			c.whole = value(f.limiter.LimitBytes)
		}

		return c
	}

	return nil
}

// withPagetables replaces the page tables of a charge by those of the victim if only they make
// it add up to the usage: 6.18 counts those of the cgroup late, and its own report has 0.
func withPagetables(m *events.Memory, f *facts) *events.Memory {
	if f.limiter.UsageBytes == nil || f.victim == nil || f.victim.PgtablesBytes == nil || oom.AddsUp(m, *f.limiter.UsageBytes) {
		return m
	}

	with := *m

	with.PagetablesBytes = f.victim.PgtablesBytes
	if !oom.AddsUp(&with, *f.limiter.UsageBytes) {
		return m
	}

	return &with
}

func memcgCharge(m *events.Memory) *charge {
	c := &charge{
		anon: m.AnonBytes, shmem: m.ShmemBytes, cache: cacheOf(m.FileBytes, m.ShmemBytes),
		slabReclaimable: m.SlabReclaimableBytes, slabUnreclaimable: m.SlabUnreclaimableBytes,
		kernelStacks: m.KernelStackBytes, pagetables: m.PagetablesBytes, sock: m.SockBytes, perCPU: m.PercpuBytes,
		dirty:  dirtyCache(m.FileDirtyBytes, m.FileWritebackBytes, cacheOf(m.FileBytes, m.ShmemBytes)),
		active: m.ActiveFileBytes, inactive: m.InactiveFileBytes,
		unevictable: m.UnevictableBytes, thp: m.AnonTHPBytes,
		hugetlb: m.HugetlbBytes,
	}
	// Where the kernel does not split slab, all of it counts as reclaimable: the weaker
	// claim.
	if c.slabReclaimable == nil && c.slabUnreclaimable == nil {
		c.slabReclaimable = m.SlabBytes
	}

	return c
}

func nodeCharge(n *events.NodeState) *charge {
	c := &charge{
		node: true,
		anon: n.AnonBytes, shmem: n.ShmemBytes, cache: cacheOf(n.FileBytes, n.ShmemBytes),
		slabReclaimable: n.SlabReclaimable, slabUnreclaimable: n.SlabUnreclaimable,
		kernelStacks: n.KernelStackBytes, pagetables: n.PagetablesBytes,
		dirty:       dirtyCache(n.DirtyBytes, n.WritebackBytes, cacheOf(n.FileBytes, n.ShmemBytes)),
		unevictable: n.UnevictableBytes, thp: n.AnonTHPBytes,
		gpu: oom.Sum(n.GPUActiveBytes, n.GPUReclaimBytes), compressed: oom.CompressedSwap(n),
	}

	if n.HugetlbBytes != nil && n.HugetlbFreeBytes != nil {
		c.hugePages = new(less(*n.HugetlbBytes, *n.HugetlbFreeBytes))
	}

	if n.Ledger != nil {
		c.unaccounted = &n.Ledger.UnaccountedBytes
	}

	return c
}

// dirtyCache is the page cache that is dirty or under writeback. Writeback also counts anonymous
// memory on its way to swap (NR_WRITEBACK), which no page cache is: so it is no more than there is.
func dirtyCache(dirty, writeback, cache *uint64) *uint64 {
	all := oom.Sum(dirty, writeback)
	if all == nil || cache == nil {
		return all
	}

	return new(min(*all, *cache))
}

// cacheOf is file without shmem, which the kernel counts as file (NR_FILE_PAGES).
func cacheOf(file, shmem *uint64) *uint64 {
	if file == nil {
		return nil
	}

	return new(less(*file, value(shmem)))
}

// share is the part's share of the whole; 0 if either is not known.
func (c *charge) share(part *uint64) float64 {
	if c == nil || part == nil {
		return 0
	}

	return share(*part, c.whole)
}

// brief is the part's share of the whole, for a brief: "60 % of the limit".
func (c *charge) brief(part *uint64) string { return phrase.ShareOf(*part, c.whole, c.short) }

// largest reports whether no known part is larger.
func (c *charge) largest(part *uint64) bool {
	for _, other := range []*uint64{
		c.anon, c.cache, c.shmem, c.slabReclaimable, c.slabUnreclaimable, c.kernelStacks, c.pagetables, c.sock, c.perCPU,
		c.gpu, c.hugetlb, c.hugePages, c.compressed, c.unaccounted,
	} {
		if other != nil && *other > *part {
			return false
		}
	}

	return true
}

func (c *charge) item(what string, part *uint64) events.Evidence {
	return item(what, phrase.Part(*part, c.whole), c.source)
}

// items leaves out unknown parts.
func (c *charge) items(parts ...part) []events.Evidence {
	var list []events.Evidence

	for _, p := range parts {
		if p.bytes != nil {
			list = append(list, c.item(p.what, p.bytes))
		}
	}

	return list
}

type part struct {
	what  string
	bytes *uint64
}
