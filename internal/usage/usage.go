// SPDX-License-Identifier: Apache-2.0

// Package usage reads how much memory every cgroup of the node uses, once per interval and
// at little cost: descriptors of the files that are read each time stay open, limits and
// the tree are read rarely, and what the kernel has to sum up, such as memory.stat, is read
// only of the cgroups that somebody looks at. Where even that is too much, cgroups far from
// a limit are read in turn, and a snapshot states how many were.
package usage

import (
	"math"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Value is a reading. The zero value is not known.
type Value[T any] struct {
	V     T
	Known bool
}

// Known returns a value that is known.
func Known[T any](v T) Value[T] { return Value[T]{v, true} }

// NoLimit is the value of a limit that is not set.
const NoLimit = math.MaxUint64

// Snapshot is the node at one instant. It shares nothing with the sampler and does not
// change.
type Snapshot struct {
	Time time.Time
	Node Node
	// Cgroups has all cgroups but the root, each after its parent.
	Cgroups []Cgroup
	// Read is how many of them were read for this snapshot; the others have the values of
	// an earlier one. LeftOut counts cgroups beyond the bound, which are not in the list.
	Read, LeftOut int
	// Version is that of the memory controller, 1 or 2: version 1 has neither memory.high
	// nor pressure.
	Version int
	// Traced is whether stalls are traced, TracedHigh whether those for memory.high are, which
	// version 1 does not have: without it their shares are not known.
	Traced, TracedHigh bool
}

// Node is the memory of the machine.
type Node struct {
	TotalBytes, AvailableBytes    Value[uint64]
	SwapTotalBytes, SwapFreeBytes Value[uint64]
	// PSISome is the share of the last ten seconds in which some task stalled for memory.
	PSISome Value[float64]
}

// Cgroup is a cgroup with its descendants, as the kernel charges them. Shares are of the
// time; a share of stalls is above 1 where several tasks stalled at once.
type Cgroup struct {
	Path     string // in the hierarchy
	ID       uint64
	Parent   int // index in Snapshot.Cgroups, -1: the root
	Level    events.Level
	Workload *events.Workload // nil: it is none

	UsedBytes  Value[uint64]
	LimitBytes Value[uint64] // its own, or NoLimit
	// Limiter is the index of the cgroup, itself or an ancestor, with the least room below
	// its limit, -1 if none has a limit. HeadroomBytes is that room.
	Limiter       int
	HeadroomBytes uint64

	// Growth is in bytes per second, over some ten seconds. ToLimit is the time until the
	// limiter reaches its limit at its own growth; it is not known while that does not grow.
	Growth  Value[float64]
	ToLimit Value[time.Duration]

	// Stalled is the time in which tasks stalled for memory, High that in which they were
	// throttled by memory.high, both over some three seconds.
	Stalled, High Value[float64]
	// PSISome is the share of the time in which some task stalled, Refaults the pages per
	// second that were needed again after they were reclaimed. Both are known only of
	// cgroups that the reader of the snapshots looks at.
	PSISome  Value[float64]
	Refaults Value[float64]
}
