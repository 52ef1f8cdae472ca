// SPDX-License-Identifier: Apache-2.0

// Package oom holds what the kernel's OOM code and its reports have in common for
// every source of incidents: the live trace, kernel logs and a host's /proc. It
// computes the badness of a process, names gfp flags, classifies allocations, and
// fills in the parts of an incident that follow from its scope alone. All functions
// are pure.
package oom

import (
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// ScoreAdjMin is the oom_score_adj of a process that the OOM killer never chooses
// (include/uapi/linux/oom.h: OOM_SCORE_ADJ_MIN).
const ScoreAdjMin = -1000

// Badness returns the points by which the kernel ranks a process, in pages
// (mm/oom_kill.c: oom_badness, since 4.17). pages is the sum of its RSS, swap entries
// and page tables; totalPages is what the OOM invocation's scope may use at most
// (oom_control.totalpages). Like the kernel, it divides before it multiplies: the
// adjustment is a multiple of totalPages/1000.
//
// Kernels before 5.9 raise the result to at least 1, and none ranks a process with
// ScoreAdjMin; both are left to the caller.
func Badness(pages uint64, scoreAdj int, totalPages uint64) int64 {
	return int64(pages) + int64(scoreAdj)*int64(totalPages/1000)
}

// NoLimit is the limit of a counter that has none.
const NoLimit = ^uint64(0)

// V1LimitFile returns the name of the cgroup v1 limit that was hit, given how much was
// left below each: memory.memsw.limit_in_bytes counts memory and swap together, and is
// never lower than memory.limit_in_bytes. Where both have as little left, the former
// fails: the kernel charges memory and swap first (mm/memcontrol.c: try_charge_memcg;
// try_charge before 5.13).
func V1LimitFile(memoryRoom, memswRoom uint64) string {
	if memswRoom <= memoryRoom && memswRoom != NoLimit {
		return "memory.memsw.limit_in_bytes"
	}

	return "memory.limit_in_bytes"
}

// V1Limiter completes the limiter of a cgroup of version 1. Its usage and limit are those of
// memory.limit_in_bytes, and its swap those of memory and swap together. which is the file of
// the limit that was hit, "" if it is unknown: the usage and the limit become those of that file.
func V1Limiter(l *events.Limiter, which string) {
	l.Which, l.MemswUsageBytes, l.MemswLimitBytes = which, l.SwapUsageBytes, l.SwapLimitBytes

	if l.CountsSwap() {
		l.UsageBytes, l.LimitBytes = l.MemswUsageBytes, l.MemswLimitBytes
	}
}

// NodeLimiter returns the limiter of an OOM in which the whole host ran out of memory:
// its RAM and swap, in bytes, nil if unknown. What is missing is added to unknown.
func NodeLimiter(ramBytes, swapBytes *uint64, unknown *Unknowns) *events.Limiter {
	unknown.Unless("limiter.limit_bytes", ramBytes != nil)
	unknown.Unless("limiter.swap_limit_bytes", swapBytes != nil)
	unknown.Add("limiter.usage_bytes", "limiter.swap_usage_bytes")

	return &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: ramBytes, SwapLimitBytes: swapBytes}
}

// NUMALimiter returns the limiter of an OOM on the NUMA nodes that a cpuset or a memory
// policy allowed, nil if unknown. What is missing is added to unknown.
func NUMALimiter(nodes []int, unknown *Unknowns) *events.Limiter {
	unknown.Add("limiter.limit_bytes", "limiter.usage_bytes")
	unknown.Unless("limiter.nodes", nodes != nil)

	return &events.Limiter{Level: events.LevelNode, Which: "numa_nodes", Nodes: nodes}
}

// Killer returns the killer of an OOM kill by the kernel: the path that a kill of this
// scope takes through mm/oom_kill.c. group is the cgroup whose memory.oom.group made it
// a group kill, nil if none did, and level its level.
func Killer(scope events.Scope, group *events.Cgroup, level events.Level) *events.Killer {
	k := &events.Killer{Kind: events.KillerKernel, Path: events.PathGlobal}

	switch scope {
	case events.ScopeMemcg:
		k.Path = events.PathMemcg
	case events.ScopeSysrq:
		k.Path = events.PathSysrq
	case events.ScopeUnknown:
		k.Path = events.PathUnknown
	}

	if group != nil {
		k.Path, k.GroupCgroup, k.GroupLevel = events.PathGroup, group, level
	}

	return k
}

// Unknowns collects the keys of an incident that could not be read, each once, in the
// order in which they were added. The zero value is empty.
type Unknowns struct{ Names []string }

// Add adds names that are not in the list yet.
func (u *Unknowns) Add(names ...string) {
	for _, name := range names {
		if !slices.Contains(u.Names, name) {
			u.Names = append(u.Names, name)
		}
	}
}

// Unless adds name unless known is true.
func (u *Unknowns) Unless(name string, known bool) {
	if !known {
		u.Add(name)
	}
}

// Set adds name unless known is true, and removes it if it is, from Names itself.
func (u *Unknowns) Set(name string, known bool) {
	if known {
		u.Names = slices.DeleteFunc(u.Names, func(n string) bool { return n == name })
	} else {
		u.Add(name)
	}
}

// Has reports whether name is in the list.
func (u *Unknowns) Has(name string) bool { return slices.Contains(u.Names, name) }

// maxNodes bounds a list of NUMA nodes; a kernel can have as many (MAX_NUMNODES).
const maxNodes = 1 << 10

// NodeList reads a list of NUMA nodes in the form of the kernel's logs and files, such as
// "0-1,3". It returns nil if s is not one.
func NodeList(s string) []int {
	var nodes []int

	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}

		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)

		if err1 != nil || err2 != nil || first < 0 || last < first || last >= maxNodes || len(nodes)+last-first >= maxNodes {
			return nil
		}

		for node := first; node <= last; node++ {
			nodes = append(nodes, node)
		}
	}

	return nodes
}
