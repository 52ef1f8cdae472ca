// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Case is one way to run out of memory, or to seem to: what the guest does, and what each
// tier must report of it, beyond what holds for all cases.
type Case struct {
	Name     string
	CgroupV1 bool          // it runs on cgroup v1, too
	LowZone  bool          // it runs where most of the memory is movable, and nowhere else
	Arch     string        // where alone it runs; empty: everywhere
	On       []string      // the series of kernels that it runs on; none: all
	Quiet    time.Duration // how long the tracers must be silent before the case ends; 0: the usual

	// Do runs in the guest. It stops by must.OK.
	Do func(*Guest)
	// Want compares one tier's account, on the host.
	Want func(*Check)
	// FirstCause returns the ids of causes, one of which must come first in an incident;
	// nil: any.
	FirstCause func(*Check, *events.Incident) []string
	// LogCause means that the kernel's log alone has that cause first as well.
	LogCause bool

	// AnyTrigger means that whatever allocates first triggers the kill, and may make the kernel
	// kill once more, or be sent away for want of __GFP_FS: it has no golden files.
	AnyTrigger bool
	// AnyPage means that the page that hits the limit is of a file or of memory.
	AnyPage bool

	NotOOM      bool // who dies is not killed by the OOM killer
	UserKills   bool // it has incidents of scope user
	VictimsOnly bool // it tests something else; only victims and counters are compared
	// Burst: more is killed than the rate limit of the kernel's log lets through.
	Burst bool
	// FreeLimit: its limit depends on the free memory.
	FreeLimit bool
	// SharedMemory: members of a group share memory, and may die for that alone.
	SharedMemory bool
	// Unknown are keys that may be unknown here.
	Unknown []string
	// NoReclaim reports whether the tier cannot see the reclaim before a kill.
	NoReclaim func(*Check) bool
	// Unlogged are the incidents of the case that the kernel's log does not report.
	Unlogged []Unlogged
}

// Unlogged is how many incidents of a kind the kernel's log does not report, and why. Of
// all others there are as many as reports.
type Unlogged struct {
	Kind  string // scope user, or the outcome
	Count int
	Why   string
}

const killsByUser = string(events.ScopeUser)

// Cases in the order in which they run: what hurts a machine comes last.
var Cases = []Case{
	memcgLeaf, parentLimit, nestedGuest, nestedNode, oomGroup, multithread, threads, fullChild, groupAllocates,
	groupShares, zombieLeader, sharedMM, orphanShares, tmpfs, hugePages, swapMax, swapOff, limitLowered, limitNonblock,
	memoryMin, noKillable, oomDisabled, alreadyExiting, exitingThread, twoAtOnce, hostileNames, userKill, kernelKills,
	pidnsInit, oomInit, memoryHigh, stalledKill, highOrder, sysrqF, sysrqAfterLimit, cpuset, mempolicy, allocatingTask,
	global, minTTL, hugePagesSetAside, hugePagesInUse, nodePageTables, nodeSlab, fragmented, compressedSwap, lowZone, pageTables,
	dirtyCache, slab, hostDaemon, burst, recordKilled,
}

// runsOn reports whether a case is done on a kernel. Those that fill a node to see what is
// named as its cause, and those that test something else than a verdict, take minutes beside
// noise, and do not depend on it.
func (c *Case) runsOn(k Kernel) bool {
	if k.Noise && (c.LogCause && c.AnyTrigger || c.VictimsOnly) {
		return false
	}

	return c.LowZone == k.LowZone && (c.CgroupV1 || !k.CgroupV1) && (c.Arch == "" || c.Arch == k.Arch) &&
		(len(c.On) == 0 || slices.ContainsFunc(c.On, k.is))
}

func cause(ids ...string) func(*Check, *events.Incident) []string {
	return func(*Check, *events.Incident) []string { return ids }
}
