// SPDX-License-Identifier: Apache-2.0

package events

import "time"

// OOMWait describes tasks that sleep until memory is freed, because the OOM killer is disabled for
// their limiter: memory.oom_control of cgroup v1 has oom_kill_disable 1.
type OOMWait struct {
	// Since is when they were first seen to wait, up to a second late; absent and named in unknown
	// if they waited before the trace started.
	Since *time.Time `json:"since,omitempty"`
	// Tasks are the threads that wait, at most ten.
	Tasks []Process `json:"tasks"`
	// TasksLeftOut is the number of waiting threads that are not listed.
	TasksLeftOut int `json:"tasks_left_out,omitempty"`
	// TasksUnread is the number of threads of the cgroup that were not examined.
	TasksUnread int `json:"tasks_unread,omitempty"`
	// EndedAfterNS is the time from the incident until no task was seen to wait any more; absent: they
	// still wait.
	EndedAfterNS *uint64 `json:"ended_after_ns,omitempty"`
	// End is what ended it, as far as the files show.
	End WaitEnd `json:"end,omitempty"`
}

// WaitEnd is what ended an OOMWait.
type WaitEnd string

// The ends.
const (
	WaitEndKillerEnabled WaitEnd = "killer_enabled" // oom_kill_disable was set to 0: the kernel may kill now
	WaitEndLimitRaised   WaitEnd = "limit_raised"   // the limit is higher
	WaitEndTaskExited    WaitEnd = "task_exited"    // a listed process has exited, killed or not
	WaitEndMemoryFreed   WaitEnd = "memory_freed"   // none of the other ends: something else gave memory back
	WaitEndCgroupRemoved WaitEnd = "cgroup_removed" // the cgroup is gone
)
