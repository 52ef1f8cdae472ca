// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"github.com/oomtrace/oomtrace/internal/events"
)

// charge is what ran out, split: a cgroup's charge, or the node's memory. What
// is not known is nil.
type charge struct {
	whole  uint64
	of     string // whose it is, in words
	node   bool
	source string

	anon, cache, shmem                    *uint64 // cache is file without shmem
	slabReclaimable, slabFixed            *uint64
	kernelStacks, pagetables, sock, perCP *uint64
	dirty, active, inactive               *uint64 // parts of cache; dirty with writeback
	unevictable, thp                      *uint64
}

// newCharge is nil where the scope has no whole that could be split: a cpuset's
// nodes, a kill from user space.
func newCharge(f *facts) *charge {
	l := f.limiter()
	switch {
	case f.is(events.ScopeMemcg) && f.inc.Memory != nil:
		c := memcgCharge(f.inc.Memory)

		c.whole, c.of, c.source = value(l.LimitBytes), f.whose(), f.source("memory.stat counters at the kill")
		if l.LimitBytes == nil {
			c.whole = value(l.UsageBytes)
		}

		return c
	case f.is(events.ScopeGlobal) && f.inc.NodeState != nil:
		c := nodeCharge(f.inc.NodeState)

		c.whole, c.of, c.source = value(f.inc.NodeState.TotalBytes), "the node's memory", f.nodeSource("/proc/meminfo")
		if c.whole == 0 {
			c.whole = value(l.LimitBytes)
		}

		return c
	}

	return nil
}

func memcgCharge(m *events.Memory) *charge {
	c := &charge{
		anon: m.AnonBytes, shmem: m.ShmemBytes, cache: cacheOf(m.FileBytes, m.ShmemBytes),
		slabReclaimable: m.SlabReclaimableBytes, slabFixed: m.SlabUnreclaimableBytes,
		kernelStacks: m.KernelStackBytes, pagetables: m.PagetablesBytes, sock: m.SockBytes, perCP: m.PercpuBytes,
		dirty: sum(m.FileDirtyBytes, m.FileWritebackBytes), active: m.ActiveFileBytes, inactive: m.InactiveFileBytes,
		unevictable: m.UnevictableBytes, thp: m.AnonTHPBytes,
	}
	// Where the kernel does not split slab, all of it is held to be reclaimable: the
	// weaker claim.
	if c.slabReclaimable == nil && c.slabFixed == nil {
		c.slabReclaimable = m.SlabBytes
	}

	return c
}

func nodeCharge(n *events.NodeState) *charge {
	return &charge{
		node: true,
		anon: n.AnonBytes, shmem: n.ShmemBytes, cache: cacheOf(n.FileBytes, n.ShmemBytes),
		slabReclaimable: n.SlabReclaimable, slabFixed: n.SlabUnreclaimable,
		kernelStacks: n.KernelStackBytes, pagetables: n.PagetablesBytes,
		dirty: sum(n.DirtyBytes, n.WritebackBytes), unevictable: n.UnevictableBytes, thp: n.AnonTHPBytes,
	}
}

// cacheOf: the kernel counts shmem as file (NR_FILE_PAGES).
func cacheOf(file, shmem *uint64) *uint64 {
	if file == nil {
		return nil
	}
	cache := less(*file, value(shmem))

	return &cache
}

// sum adds what is known; nil if nothing is.
func sum(parts ...*uint64) *uint64 {
	var total uint64
	known := false

	for _, p := range parts {
		if p != nil {
			total, known = total+*p, true
		}
	}

	if !known {
		return nil
	}

	return &total
}

// share is the part's of the whole; 0 if either is not known.
func (c *charge) share(part *uint64) float64 {
	if c == nil || part == nil {
		return 0
	}

	return share(*part, c.whole)
}

// largest reports whether no part that is known is larger.
func (c *charge) largest(part *uint64) bool {
	for _, other := range []*uint64{
		c.anon, c.cache, c.shmem, c.slabReclaimable, c.slabFixed, c.kernelStacks, c.pagetables, c.sock, c.perCP,
	} {
		if other != nil && *other > *part {
			return false
		}
	}

	return true
}

func (c *charge) item(what string, part *uint64) events.Evidence {
	return item(what, of(*part, c.whole), c.source)
}

// items leaves out what is not known.
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
