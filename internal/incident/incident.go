// SPDX-License-Identifier: Apache-2.0

// Package incident turns the kernel's records into incidents: one for each OOM
// invocation, with all its victims, in whatever order the records arrive.
//
// Correlator dispatches each record to the state machine that needs it:
//
//	invocations  OOM invocations whose entry and return are hooked
//	threads      OOM kills of which only tracepoints are seen
//	noVictims    OOM invocations that killed nobody
//	waits        tasks that wait for memory because the OOM killer is disabled
//	userKills    SIGKILLs that the OOM killer did not send
//
// The first two collect the records of one invocation in a pendingOOM. When it is
// complete, or nothing has come in for long enough, its facts are built into an incident
// (build.go, pure functions). What the machines share is the reporter, which emits the
// incident and hands it to followUp (exits, released memory, late victims) and to audit
// (does the kernel's own count of kills agree?).
//
// The package does no I/O and reads no clock: records, the time and the functions in
// Config come in, incidents and updates go out. A Correlator belongs to one goroutine.
package incident

import (
	"fmt"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// Cgroups maps cgroups to their paths, including removed ones. *resolve.Tree is one.
type Cgroups interface {
	Place(events.CgroupKey) (place resolve.Place, path string, ok bool)
	LearnAncestry(ancestry []kernel.Memcg, cut bool)
}

// Config describes the host to a Correlator.
type Config struct {
	Tier     events.Tier // how the kernel's OOM path is hooked
	PageSize uint64      // bytes
	CgroupV1 bool        // of the hierarchy with the memory controller
	// LocalEvents is whether memory.events of a cgroup has no events of its descendants
	// (mount option memory_localevents).
	LocalEvents bool
	BootID      string
	Node        string
	RAMBytes    uint64 // 0: unknown
	SwapBytes   uint64 // valid if RAMBytes is
	Cgroups     Cgroups
	// WallClock converts CLOCK_BOOTTIME to wall time.
	WallClock func(bootNS uint64) time.Time
	// Symbol returns the name of the kernel function that a return address of a stack is in;
	// nil if addresses are hidden.
	Symbol func(address uint64) (name string, ok bool)
	// MemoryNodes are the NUMA nodes with memory (N_MEMORY); empty: unknown. With
	// tracepoints only, they show whether a cpuset or a memory policy restricted an
	// allocation.
	MemoryNodes []int
	// Gone reports whether no process has that pid any more. It is called seconds after
	// a kill, for victims whose exit was not seen. It may be nil.
	Gone func(pid int) bool
	// ProcessesHidden is whether /proc is that of another PID namespace: nobody reads candidates.
	ProcessesHidden bool
	// UserKills selects the SIGKILLs from user space that become incidents. Killers
	// identifies their senders; if it is nil, only the kernel's record is used.
	UserKills UserKills
	Killers   Killers
	// KernelKills reads oom_kill of /proc/vmstat; nil: no audit.
	KernelKills func() (uint64, error)
}

// UserKills selects SIGKILLs from user space.
type UserKills uint8

// The choices. A service is a systemd service, or a scope outside of login sessions.
const (
	UserKillsOfWorkloads UserKills = iota // of containers, pods and services
	UserKillsAll
	UserKillsNone
)

// Killers identifies the senders of SIGKILLs. Neither method may block.
type Killers interface {
	// Saw is called as the record arrives, while the sender may still exist.
	Saw(k kernel.Kill, from, to events.Process)
	// Killer is called about a second later.
	Killer(k kernel.Kill, from, to events.Process) *events.Killer
}

// incidentID returns the id of an incident: its boot, and CLOCK_BOOTTIME of its first
// record.
func (c *Config) incidentID(bootNS uint64) string {
	return fmt.Sprintf("%.8s-%d", c.BootID, bootNS)
}

// hooked reports whether the entry and return of out_of_memory are hooked, so that
// records carry the number of their invocation.
func (c *Config) hooked() bool { return c.Tier != events.TierTracepoint }

func milliseconds(ns uint64) string {
	return time.Duration(ns).Round(100 * time.Microsecond).String()
}
