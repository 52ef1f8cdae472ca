// SPDX-License-Identifier: Apache-2.0

package events

import "strings"

// Limiter is the owner of the limit that was hit.
type Limiter struct {
	// Level is the level of the limiter in the cgroup tree of the node.
	Level Level `json:"level,omitempty"`
	// Which is the file of the limit: memory.max, memory.limit_in_bytes, memory.memsw.limit_in_bytes;
	// or node; or numa_nodes.
	Which string `json:"which,omitempty"`
	// LimitBytes is the limit that was hit: that of the file in which.
	LimitBytes *uint64 `json:"limit_bytes,omitempty"`
	// UsageBytes is the usage under that limit.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// SwapLimitBytes is the limit of swap. In cgroup v1 it repeats memsw_limit_bytes.
	SwapLimitBytes *uint64 `json:"swap_limit_bytes,omitempty"`
	// SwapUsageBytes is the swap in use. In cgroup v1 it repeats memsw_usage_bytes.
	SwapUsageBytes *uint64 `json:"swap_usage_bytes,omitempty"`
	// MemswUsageBytes is the memory and swap in use together, of cgroup v1.
	MemswUsageBytes *uint64 `json:"memsw_usage_bytes,omitempty"`
	// MemswLimitBytes is the limit of memory and swap together, of cgroup v1.
	MemswLimitBytes *uint64 `json:"memsw_limit_bytes,omitempty"`
	// OOMKillDisable is true if the OOM killer is disabled for it (memory.oom_control of cgroup v1): at
	// its limit tasks wait, and nothing is killed. Read for inspections and for tasks that wait.
	OOMKillDisable *bool `json:"oom_kill_disable,omitempty"`
	// UnderOOM is true if tasks wait at its limit, or at that of an ancestor (memory.oom_control). Read
	// with oom_kill_disable.
	UnderOOM *bool `json:"under_oom,omitempty"`
	// ProtectedMinBytes is how much of the usage below it memory.min protects from reclaim for this
	// limit; absent: none. The limiter's own memory.min protects nothing from it.
	ProtectedMinBytes *uint64 `json:"protected_min_bytes,omitempty"`
	// ProtectedLowBytes is the same for memory.low, which yields once nothing else can be reclaimed.
	ProtectedLowBytes *uint64 `json:"protected_low_bytes,omitempty"`
	// Nodes are the allowed NUMA nodes, for scope cpuset and mempolicy.
	Nodes []int `json:"nodes,omitempty"`
	// Cgroup is the cgroup of the limiter; absent if it is the node.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
}

// V1 reports whether the limit is of cgroup v1, which counts swap together with memory, and
// has neither memory.high nor memory.oom.group. A kernel log has no hierarchies, but the
// file of the limit.
func (l *Limiter) V1() bool {
	return l != nil && (l.Cgroup != nil && l.Cgroup.Hierarchy != 0 ||
		strings.HasPrefix(l.Which, "memory.limit_in_bytes") || strings.HasPrefix(l.Which, "memory.memsw."))
}

// CountsSwap reports whether the limit that was hit is that of memory and swap together, of
// cgroup v1.
func (l *Limiter) CountsSwap() bool { return strings.HasPrefix(l.Which, "memory.memsw.") }

// LimitChange is a limit of the limiter's cgroup that was lowered before the kill.
type LimitChange struct {
	// File is the file that was written: memory.max, memory.high, memory.limit_in_bytes,
	// memory.memsw.limit_in_bytes.
	File string `json:"file"`
	// BeforeNS is how long before the kill that was, at most a minute.
	BeforeNS uint64 `json:"before_ns"`
	// OldBytes is the limit before; absent if there was none.
	OldBytes *uint64 `json:"old_bytes,omitempty"`
	// NewBytes is the limit since.
	NewBytes uint64 `json:"new_bytes"`
	// UsageBytes is the usage at the write.
	UsageBytes uint64 `json:"usage_bytes"`
	// Writer is the process that wrote.
	Writer Process `json:"writer"`
}

// Allocation describes the allocation that failed.
type Allocation struct {
	// Order is the order: 2^order pages; -1 for sysrq-f.
	Order *int `json:"order,omitempty"`
	// GFP is the gfp flags, as a number.
	GFP *uint32 `json:"gfp,omitempty"`
	// GFPFlags are the gfp flags by name.
	GFPFlags []string `json:"gfp_flags,omitempty"`
	// TotalPages is the most that can be used: the limit plus swap, or RAM plus swap. It is neither
	// the size of the victim nor the usage; oomkill of bcc prints it.
	TotalPages *uint64 `json:"total_pages,omitempty"`
	// Class is the use of the memory: anon_fault, page_cache, tmpfs, slab, sock, pagetable,
	// limit_lowered, kswapd, sysrq, other.
	Class string `json:"class,omitempty"`
}

// Memory is the charge of the limiter by kind. The file part includes shmem.
type Memory struct {
	// AnonBytes is anonymous memory.
	AnonBytes *uint64 `json:"anon_bytes,omitempty"`
	// FileBytes is page cache, with shared memory.
	FileBytes *uint64 `json:"file_bytes,omitempty"`
	// ShmemBytes is shared memory and tmpfs.
	ShmemBytes *uint64 `json:"shmem_bytes,omitempty"`
	// SlabBytes is slab.
	SlabBytes *uint64 `json:"slab_bytes,omitempty"`
	// KernelStackBytes is kernel stacks.
	KernelStackBytes *uint64 `json:"kernel_stack_bytes,omitempty"`
	// PagetablesBytes is page tables.
	PagetablesBytes *uint64 `json:"pagetables_bytes,omitempty"`
	// SockBytes is socket buffers.
	SockBytes *uint64 `json:"sock_bytes,omitempty"`
	// FileDirtyBytes is the part of file that is dirty.
	FileDirtyBytes *uint64 `json:"file_dirty_bytes,omitempty"`
	// FileWritebackBytes is the part of file under writeback.
	FileWritebackBytes *uint64 `json:"file_writeback_bytes,omitempty"`
	// ActiveFileBytes is the part of file on the active list.
	ActiveFileBytes *uint64 `json:"active_file_bytes,omitempty"`
	// InactiveFileBytes is the part of file on the inactive list.
	InactiveFileBytes *uint64 `json:"inactive_file_bytes,omitempty"`
	// UnevictableBytes is the part of anon and file that is locked.
	UnevictableBytes *uint64 `json:"unevictable_bytes,omitempty"`
	// AnonTHPBytes is the part of anon in transparent huge pages.
	AnonTHPBytes *uint64 `json:"anon_thp_bytes,omitempty"`
	// SlabReclaimableBytes is the part of slab that can be reclaimed.
	SlabReclaimableBytes *uint64 `json:"slab_reclaimable_bytes,omitempty"`
	// SlabUnreclaimableBytes is the part of slab that cannot be reclaimed.
	SlabUnreclaimableBytes *uint64 `json:"slab_unreclaimable_bytes,omitempty"`
	// PercpuBytes is per-CPU memory.
	PercpuBytes *uint64 `json:"percpu_bytes,omitempty"`
	// HugetlbBytes is huge pages of hugetlb, which only count with the mount option
	// memory_hugetlb_accounting; absent: none, or the kernel does not show it.
	HugetlbBytes *uint64 `json:"hugetlb_bytes,omitempty"`
}
