// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// ledgerSlack is the share of the memory by which counters may overlap: they are not read at one
// instant, and each CPU keeps a part of them to itself (mm/vmstat.c: vm_stat_diff).
const ledgerSlack = 0.01

// Names of entries of a ledger that have other uses.
const (
	LedgerHugePages  = "huge pages"
	LedgerPagetables = "page tables"
	LedgerCompressed = "zram and zswap"
)

// holder is an entry of a ledger; bytes is nil if its counter is not known.
type holder struct {
	name  string
	bytes *uint64
	// optional holders are not missed where the kernel has no counter: it may not have them at all.
	optional bool
}

// NodeLedger adds up the counters of a node, each page once. It returns nil if a counter without which
// nothing adds up is missing, or if they contradict each other. It changes nothing.
//
// Sources are fs/proc/meminfo.c and mm/show_mem.c: meminfo_proc_show, show_free_areas (6.12).
func NodeLedger(n *events.NodeState) *events.NodeLedger {
	slab := SumOfAll(n.SlabReclaimable, n.SlabUnreclaimable)
	if n.TotalBytes == nil || n.FreeBytes == nil || n.AnonBytes == nil || n.FileBytes == nil || slab == nil {
		return nil
	}

	ledger, sum, most := &events.NodeLedger{}, uint64(0), *n.TotalBytes+uint64(ledgerSlack*float64(*n.TotalBytes))

	for _, h := range holders(n, slab) {
		switch {
		case h.bytes == nil && !h.optional:
			ledger.Missing = append(ledger.Missing, h.name)
		case h.bytes != nil && *h.bytes > 0:
			if *h.bytes > most-sum { // also where the sum has no room in 64 bits
				return nil
			}

			ledger.Entries = append(ledger.Entries, events.LedgerEntry{Name: h.name, Bytes: *h.bytes})
			sum += *h.bytes
		}
	}

	ledger.UnaccountedBytes = less(*n.TotalBytes, sum)

	slices.SortStableFunc(ledger.Entries, func(a, b events.LedgerEntry) int { return cmp.Compare(b.Bytes, a.Bytes) })

	return ledger
}

// holders are the parts of a node's memory that have a counter. None contains another one, but for
// what little of the network's buffers is slab: what is in no counter is rather too small.
func holders(n *events.NodeState, slab *uint64) []holder {
	return []holder{
		{name: "free", bytes: n.FreeBytes},
		{name: "free on the lists of CPUs", bytes: n.FreePCPBytes, optional: true},
		{name: "anonymous", bytes: n.AnonBytes},
		{name: "page cache and tmpfs", bytes: n.FileBytes}, // shmem is part of it (NR_FILE_PAGES)
		{name: "swap cache", bytes: unmappedSwapCache(n), optional: true},
		{name: "slab", bytes: slab},
		{name: LedgerPagetables, bytes: n.PagetablesBytes},
		{name: "page tables of VMs and IOMMU", bytes: n.SecPagetablesBytes, optional: true},
		{name: "kernel stacks", bytes: n.KernelStackBytes},
		{name: "vmalloc", bytes: withoutStacks(n)},
		{name: "per-CPU memory", bytes: n.PercpuBytes},
		{name: "reclaimable memory of drivers", bytes: n.MiscReclaimableBytes, optional: true},
		{name: LedgerHugePages, bytes: n.HugetlbBytes},
		{name: LedgerCompressed, bytes: CompressedSwap(n)},
		{name: "network buffers", bytes: n.NetworkBytes},
		{name: "GPU", bytes: Sum(n.GPUActiveBytes, n.GPUReclaimBytes), optional: true},
		{name: "cache of ZFS", bytes: n.ZFSCacheBytes, optional: true},
	}
}

// unmappedSwapCache is the part of the swap cache that is not anonymous memory of a process: what
// the LRU lists have beside that and the page cache.
func unmappedSwapCache(n *events.NodeState) *uint64 {
	if n.SwapCacheBytes == nil || n.LRUBytes == nil {
		return nil
	}

	return new(min(*n.SwapCacheBytes, less(*n.LRUBytes, *n.AnonBytes+*n.FileBytes)))
}

// withoutStacks is vmalloc without kernel stacks, which have a counter of their own and are in
// vmalloc where the kernel guards them (CONFIG_VMAP_STACK, the default of x86-64 and arm64).
func withoutStacks(n *events.NodeState) *uint64 {
	if n.VmallocBytes == nil {
		return nil
	}

	var stacks uint64
	if n.KernelStackBytes != nil {
		stacks = *n.KernelStackBytes
	}

	return new(less(*n.VmallocBytes, stacks))
}

// CompressedSwap is the memory of zram and zswap; nil if it is not known. Both use zsmalloc as a
// rule, so the largest of the counters has the others.
func CompressedSwap(n *events.NodeState) *uint64 {
	var most *uint64

	counters := []*uint64{n.ZspagesBytes, n.ZswapBytes}
	if n.ZRAM != nil {
		counters = append(counters, &n.ZRAM.UsedBytes)
	}

	for _, bytes := range counters {
		if bytes != nil && (most == nil || *bytes > *most) {
			most = bytes
		}
	}

	return most
}

// less is a-b, or 0.
func less(a, b uint64) uint64 { return a - min(a, b) }
