// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// Role is the reason why a victim was killed.
type Role string

// The roles.
const (
	RoleChosen   Role = "chosen"    // chosen by badness
	RoleGroup    Role = "group"     // memory.oom.group of its cgroup or of an ancestor
	RoleSharedMM Role = "shared_mm" // it shares the memory of the victim (CLONE_VM)
	RoleChild    Role = "child"     // sacrificed for its parent, which had been chosen (kernels before 5.1)
	RoleUnknown  Role = "unknown"   // the evidence was lost
)

// ChosenBy is what the kernel chose a victim by, where it did not compare badness.
type ChosenBy string

// What a victim can be chosen by.
const (
	ChosenByAllocation ChosenBy = "allocating_task" // its own allocation failed, and vm.oom_kill_allocating_task is set
	ChosenByOrigin     ChosenBy = "oom_origin"      // it was in swapoff or unmerging KSM pages: such a process goes first
)

// Process is a task and the process that it belongs to.
type Process struct {
	// PID is the process id (TGID); absent if it is not known.
	PID int `json:"pid,omitempty"`
	// TID is the id of the thread; absent if it is not known.
	TID int `json:"tid,omitempty"`
	// Comm is the name of the process (of its leader thread); absent if it is not known.
	Comm string `json:"comm,omitempty"`
	// Thread is the name of the thread, where it differs.
	Thread string `json:"thread,omitempty"`
	// IsKernel is true for a kernel thread.
	IsKernel bool `json:"is_kernel,omitempty"`
	// Cgroup is its cgroup in the hierarchy of the memory controller.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Workload is what runs in that cgroup.
	Workload *Workload `json:"workload,omitempty"`
}

// Victim is a process that the OOM path sent SIGKILL. Its sizes are those at the signal.
type Victim struct {
	Process
	// Role is why it died; absent in scope user.
	Role Role `json:"role,omitempty"`
	// AnonRSSBytes is its resident anonymous memory.
	AnonRSSBytes *uint64 `json:"anon_rss_bytes,omitempty"`
	// FileRSSBytes is its resident file pages.
	FileRSSBytes *uint64 `json:"file_rss_bytes,omitempty"`
	// ShmemRSSBytes is its resident shared memory, tmpfs included.
	ShmemRSSBytes *uint64 `json:"shmem_rss_bytes,omitempty"`
	// SwapBytes is its memory in swap.
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
	// PgtablesBytes is the memory of its page tables.
	PgtablesBytes *uint64 `json:"pgtables_bytes,omitempty"`
	// TotalVMBytes is the size of its address space.
	TotalVMBytes *uint64 `json:"total_vm_bytes,omitempty"`
	// OOMScoreAdj is its oom_score_adj.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Points is the badness, in pages, by which the kernel chose it; unknown where it compared none.
	Points *int64 `json:"points,omitempty"`
	// ChosenBy is what the kernel chose it by instead of points; absent otherwise.
	ChosenBy ChosenBy `json:"chosen_by,omitempty"`
	// UID is its real user id.
	UID *uint32 `json:"uid,omitempty"`
	// Program is what it ran; absent if that could not be read while it lived.
	Program *Program `json:"program,omitempty"`
	// StartTime is when it was started.
	StartTime *time.Time `json:"start_time,omitempty"`
	// IsContainerInit is true for PID 1 of a PID namespace.
	IsContainerInit *bool `json:"is_container_init,omitempty"`
	// ExitAfterNS is the time from SIGKILL to the exit of its last thread.
	ExitAfterNS *uint64 `json:"exit_after_ns,omitempty"`
	// ReleasedAfterNS is the time from SIGKILL to the memory being given back (end of exit_mmap).
	ReleasedAfterNS *uint64 `json:"released_after_ns,omitempty"`
	// ReapedAfterNS is the time from SIGKILL until the kernel's oom_reaper had taken the memory
	// that the victim shares with nobody, without waiting for its exit; absent if it did not.
	ReapedAfterNS *uint64 `json:"reaped_after_ns,omitempty"`
}

// Chosen is the process that the kernel chose, where it is not among the victims: a child was killed
// in its place, or the log ends before the kill.
type Chosen struct {
	Process
	// OOMScoreAdj is its oom_score_adj.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// UID is its real user id.
	UID *uint32 `json:"uid,omitempty"`
}

// Candidate is a process that could have been killed.
type Candidate struct {
	Process
	// AnonRSSBytes is its resident anonymous memory.
	AnonRSSBytes *uint64 `json:"anon_rss_bytes,omitempty"`
	// FileRSSBytes is its resident file pages.
	FileRSSBytes *uint64 `json:"file_rss_bytes,omitempty"`
	// ShmemRSSBytes is its resident shared memory.
	ShmemRSSBytes *uint64 `json:"shmem_rss_bytes,omitempty"`
	// RSSBytes is the sum of these, where only the sum is known.
	RSSBytes *uint64 `json:"rss_bytes,omitempty"`
	// SwapBytes is its memory in swap.
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
	// PgtablesBytes is the memory of its page tables.
	PgtablesBytes *uint64 `json:"pgtables_bytes,omitempty"`
	// OOMScoreAdj is its oom_score_adj.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Points is its badness in pages, as the kernel computes it (mm/oom_kill.c: oom_badness).
	Points *int64 `json:"points,omitempty"`
	// Victim is true if it was killed.
	Victim bool `json:"victim,omitempty"`
	// Unkillable is true for oom_score_adj -1000.
	Unkillable bool `json:"unkillable,omitempty"`
}
