// SPDX-License-Identifier: Apache-2.0

package events

// NodeState is the state of the node's memory.
type NodeState struct {
	// AfterNS is the time from the kill to its reading; absent: the kernel logged it at the kill.
	AfterNS *uint64 `json:"after_ns,omitempty"`
	// TotalBytes is MemTotal.
	TotalBytes *uint64 `json:"total_bytes,omitempty"`
	// FreeBytes is MemFree.
	FreeBytes *uint64 `json:"free_bytes,omitempty"`
	// AvailableBytes is MemAvailable.
	AvailableBytes *uint64 `json:"available_bytes,omitempty"`
	// AnonBytes is anonymous memory.
	AnonBytes *uint64 `json:"anon_bytes,omitempty"`
	// FileBytes is page cache, with shared memory and without the swap cache.
	FileBytes *uint64 `json:"file_bytes,omitempty"`
	// ShmemBytes is shared memory and tmpfs.
	ShmemBytes *uint64 `json:"shmem_bytes,omitempty"`
	// ActiveFileBytes is page cache on the active list, without shared memory.
	ActiveFileBytes *uint64 `json:"active_file_bytes,omitempty"`
	// InactiveFileBytes is page cache on the inactive list, without shared memory.
	InactiveFileBytes *uint64 `json:"inactive_file_bytes,omitempty"`
	// SwapCacheBytes is memory whose copy in swap is kept as well; some of it is part of anon_bytes.
	SwapCacheBytes *uint64 `json:"swap_cache_bytes,omitempty"`
	// LRUBytes is all memory on the LRU lists: anonymous memory, page cache and swap cache, each page
	// once.
	LRUBytes *uint64 `json:"lru_bytes,omitempty"`
	// DirtyBytes is dirty page cache.
	DirtyBytes *uint64 `json:"dirty_bytes,omitempty"`
	// WritebackBytes is page cache under writeback.
	WritebackBytes *uint64 `json:"writeback_bytes,omitempty"`
	// SlabReclaimable is slab that can be reclaimed.
	SlabReclaimable *uint64 `json:"slab_reclaimable_bytes,omitempty"`
	// SlabUnreclaimable is slab that cannot be reclaimed.
	SlabUnreclaimable *uint64 `json:"slab_unreclaimable_bytes,omitempty"`
	// KernelStackBytes is kernel stacks.
	KernelStackBytes *uint64 `json:"kernel_stack_bytes,omitempty"`
	// PagetablesBytes is page tables.
	PagetablesBytes *uint64 `json:"pagetables_bytes,omitempty"`
	// SecPagetablesBytes is page tables of virtual machines and of the IOMMU.
	SecPagetablesBytes *uint64 `json:"sec_pagetables_bytes,omitempty"`
	// PercpuBytes is per-CPU memory of the kernel.
	PercpuBytes *uint64 `json:"percpu_bytes,omitempty"`
	// VmallocBytes is memory of vmalloc; kernel stacks are usually part of it.
	VmallocBytes *uint64 `json:"vmalloc_bytes,omitempty"`
	// MiscReclaimableBytes is reclaimable memory of drivers that is not slab.
	MiscReclaimableBytes *uint64 `json:"kernel_misc_reclaimable_bytes,omitempty"`
	// FreePCPBytes is free memory on the lists of the CPUs, which free_bytes lacks.
	FreePCPBytes *uint64 `json:"free_pcp_bytes,omitempty"`
	// FreeCMABytes is the part of free_bytes that only movable pages may use.
	FreeCMABytes *uint64 `json:"free_cma_bytes,omitempty"`
	// NetworkBytes is the memory of TCP and UDP sockets; a part of it is slab.
	NetworkBytes *uint64 `json:"network_bytes,omitempty"`
	// BalloonBytes is memory that a balloon has given back to the host of this VM. Some drivers take
	// it off total_bytes.
	BalloonBytes *uint64 `json:"balloon_bytes,omitempty"`
	// ZFSCacheBytes is data and metadata in the cache of ZFS (ARC).
	ZFSCacheBytes *uint64 `json:"zfs_cache_bytes,omitempty"`
	// ZspagesBytes is the memory of zsmalloc: the pools of zram, and usually of zswap.
	ZspagesBytes *uint64 `json:"zspages_bytes,omitempty"`
	// ZswapBytes is the pool of zswap.
	ZswapBytes *uint64 `json:"zswap_bytes,omitempty"`
	// ZRAM is the sum of all zram devices; absent: none, or not known.
	ZRAM *ZRAM `json:"zram,omitempty"`
	// UnevictableBytes is locked memory.
	UnevictableBytes *uint64 `json:"unevictable_bytes,omitempty"`
	// AnonTHPBytes is anonymous memory in transparent huge pages.
	AnonTHPBytes *uint64 `json:"anon_thp_bytes,omitempty"`
	// GPUActiveBytes is memory that GPU drivers use for their buffers (GPUActive of 7.x).
	GPUActiveBytes *uint64 `json:"gpu_active_bytes,omitempty"`
	// GPUReclaimBytes is memory that GPU drivers keep for their next buffers (GPUReclaim).
	GPUReclaimBytes *uint64 `json:"gpu_reclaim_bytes,omitempty"`
	// HugetlbBytes is memory reserved for hugetlb.
	HugetlbBytes *uint64 `json:"hugetlb_bytes,omitempty"`
	// HugetlbFreeBytes is the free part of hugetlb.
	HugetlbFreeBytes *uint64 `json:"hugetlb_free_bytes,omitempty"`
	// HugePages are the huge pages of hugetlb by size, the largest size first.
	HugePages []HugePages `json:"huge_pages,omitempty"`
	// SwapTotalBytes is the size of swap.
	SwapTotalBytes *uint64 `json:"swap_total_bytes,omitempty"`
	// SwapFreeBytes is free swap.
	SwapFreeBytes *uint64 `json:"swap_free_bytes,omitempty"`
	// PSISome is the share of time in which some tasks stalled for memory.
	PSISome *PSI `json:"psi_some,omitempty"`
	// PSIFull is the share of time in which all tasks stalled for memory.
	PSIFull *PSI `json:"psi_full,omitempty"`
	// Zones are the zones of all NUMA nodes.
	Zones []Zone `json:"zones,omitempty"`
	// Slabs are the largest slab caches, the largest first.
	Slabs []SlabCache `json:"slabs,omitempty"`
	// Ledger adds up what is known of total_bytes, each page once; absent where it does not add up.
	Ledger *NodeLedger `json:"ledger,omitempty"`
	// AllocationSites are the places in the kernel's source that hold the most memory, the largest first
	// (CONFIG_MEM_ALLOC_PROFILING). Those of a kernel log are rounded to three digits.
	AllocationSites []AllocationSite `json:"allocation_sites,omitempty"`
	// TransparentHuge is the mode of transparent huge pages: always, madvise, never.
	TransparentHuge string `json:"transparent_hugepage,omitempty"`
	// KillAllocatingTask is vm.oom_kill_allocating_task: the kernel does not compare processes.
	KillAllocatingTask *bool `json:"oom_kill_allocating_task,omitempty"`
	// MinTTLNS is the age up to which MGLRU keeps pages (/sys/kernel/mm/lru_gen/min_ttl_ms); 0: it
	// keeps none. The kernel kills rather than reclaim younger ones.
	MinTTLNS *uint64 `json:"min_ttl_ns,omitempty"`
	// Cgroups are the largest cgroups of the first two levels of the tree, the largest first.
	Cgroups []Share `json:"cgroups,omitempty"`
}

// NodeLedger splits the memory of the node among what holds it. The entries, and what no counter has, make up
// total_bytes.
type NodeLedger struct {
	// Entries are the holders of memory, the largest first.
	Entries []LedgerEntry `json:"entries"`
	// UnaccountedBytes is memory that is in no entry: of a balloon, a GPU or another driver, or in one of
	// the counters that are missing.
	UnaccountedBytes uint64 `json:"unaccounted_bytes"`
	// Missing are counters that are not known here: unaccounted_bytes is an upper bound then.
	Missing []string `json:"missing,omitempty"`
}

// UnaccountedShare and UnaccountedBytes are what some nodes have in no counter without anything being
// wrong: rings and firmware of network cards, and 1.6 % for the page structures of memory that was
// plugged in later (64 bytes a page). It was 0.05 to 3 % on machines without such, and up to 8 % on VMs
// of half a GiB, whose counters of CPUs and of vmalloc weigh more.
const (
	UnaccountedShare = 0.05
	UnaccountedBytes = 256 << 20
)

// Notable reports whether more is in no counter than is usual.
func (l *NodeLedger) Notable(totalBytes uint64) bool {
	return l != nil && l.UnaccountedBytes >= UnaccountedBytes && float64(l.UnaccountedBytes) >= UnaccountedShare*float64(totalBytes)
}

// LedgerEntry is a holder of the node's memory.
type LedgerEntry struct {
	// Name is the holder, such as free, anonymous, slab, page tables or vmalloc.
	Name string `json:"name"`
	// Bytes is its memory.
	Bytes uint64 `json:"bytes"`
}

// HugePages are the huge pages of one size.
type HugePages struct {
	// SizeBytes is the size of one.
	SizeBytes uint64 `json:"size_bytes"`
	// Total is the number of huge pages, in use or not.
	Total uint64 `json:"total"`
	// Free is the number of those that are not in use.
	Free uint64 `json:"free"`
}

// ZRAM is the sum of all zram devices.
type ZRAM struct {
	// DataBytes is the data that is stored in them.
	DataBytes uint64 `json:"data_bytes"`
	// UsedBytes is the memory that this takes.
	UsedBytes uint64 `json:"used_bytes"`
	// PeakBytes is the most that it has taken since the devices were set up; absent: not known (before 4.2).
	PeakBytes *uint64 `json:"peak_bytes,omitempty"`
	// HugeBytes is data that could not be compressed; absent: not known (before 5.0).
	HugeBytes *uint64 `json:"huge_bytes,omitempty"`
}

// AllocationSite is a place in the kernel's source that allocates memory.
type AllocationSite struct {
	// Bytes is the memory that it holds.
	Bytes uint64 `json:"bytes"`
	// Count is the number of its allocations.
	Count uint64 `json:"count"`
	// Location is the file and the line.
	Location string `json:"location"`
	// Module is the kernel module; absent: the kernel itself.
	Module string `json:"module,omitempty"`
	// Function is the function.
	Function string `json:"function,omitempty"`
}

// PSI is the share of time in which tasks stalled for memory, in percent.
type PSI struct {
	// Avg10 is the average over 10 s.
	Avg10 float64 `json:"avg10"`
	// Avg60 is the average over 60 s.
	Avg60 float64 `json:"avg60"`
	// Avg300 is the average over 300 s.
	Avg300 float64 `json:"avg300"`
}

// Zone is one zone of one NUMA node.
type Zone struct {
	// Node is the NUMA node.
	Node int `json:"node"`
	// Zone is the name of the zone.
	Zone string `json:"zone"`
	// FreeBytes is free memory.
	FreeBytes *uint64 `json:"free_bytes,omitempty"`
	// MinBytes is the min watermark.
	MinBytes *uint64 `json:"min_bytes,omitempty"`
	// LowBytes is the low watermark.
	LowBytes *uint64 `json:"low_bytes,omitempty"`
	// HighBytes is the high watermark.
	HighBytes *uint64 `json:"high_bytes,omitempty"`
	// ManagedBytes is the memory of the zone that the allocator manages.
	ManagedBytes *uint64 `json:"managed_bytes,omitempty"`
	// FreeCMABytes is the part of the free memory that only movable pages may use.
	FreeCMABytes *uint64 `json:"free_cma_bytes,omitempty"`
	// ReserveBytes is the memory that must stay free, beside a watermark, of an allocation that may also
	// use higher zones (lowmem_reserve), for each zone type from the lowest on.
	ReserveBytes []uint64 `json:"reserve_bytes,omitempty"`
	// FreeBlocks counts free blocks by order: the fourth number is of blocks of 8 pages.
	FreeBlocks []uint64 `json:"free_blocks,omitempty"`
}

// BelowMin reports whether the free memory is below the min watermark: only allocations that
// may use the reserves get a page of it.
func (z *Zone) BelowMin() bool {
	return z.FreeBytes != nil && z.MinBytes != nil && *z.FreeBytes < *z.MinBytes
}

// SlabCache is a cache of the kernel's slab allocator.
type SlabCache struct {
	// Name is the name of the cache.
	Name string `json:"name"`
	// Bytes is its size.
	Bytes uint64 `json:"bytes"`
}

// Eviction is the view of the kubelet: the distance to an eviction, and whether the kernel was faster
// than an eviction.
type Eviction struct {
	// AvailableBytes is memory.available as the kubelet computes it: capacity less the working set.
	AvailableBytes *uint64 `json:"available_bytes,omitempty"`
	// MemAvailableBytes is MemAvailable of /proc/meminfo.
	MemAvailableBytes *uint64 `json:"mem_available_bytes,omitempty"`
	// HardBytes is the hard threshold of memory.available.
	HardBytes *uint64 `json:"hard_bytes,omitempty"`
	// SoftBytes is the soft threshold of memory.available.
	SoftBytes *uint64 `json:"soft_bytes,omitempty"`
	// Signals are all thresholds as they are configured.
	Signals map[string]string `json:"signals,omitempty"`
	// HardSinceNS is the time since it fell below the hard threshold; absent: it was above.
	HardSinceNS *uint64 `json:"hard_since_ns,omitempty"`
	// SoftSinceNS is the time since it fell below the soft threshold; absent: it was above.
	SoftSinceNS *uint64 `json:"soft_since_ns,omitempty"`
	// Text is a sentence for users.
	Text string `json:"text,omitempty"`
	// Source is the source of the thresholds.
	Source string `json:"source,omitempty"`
	// Log are lines of the kubelet's log about it.
	Log []string `json:"log,omitempty"`
}
