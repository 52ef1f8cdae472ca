// SPDX-License-Identifier: Apache-2.0

// Package alert warns early: of cgroups that stand still over memory.high, of
// reclaim that gains nothing any more, and of the node's guardians (kubelet,
// runtimes, sshd, systemd) standing in reclaim, which turns a node NotReady without
// any kill. A warning comes once, and again only after it was quiet for a while.
package alert

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
)

// Limits are when a warning is due.
type Limits struct {
	WindowNS uint64 // how far back is looked
	// HighPercent of the window that tasks of a cgroup slept or reclaimed over
	// memory.high. Tasks add up: two can make 200.
	HighPercent uint64
	// Reclaims of a cgroup for a limit in the window, and how many percent of them
	// gained nothing.
	Reclaims         uint64
	FruitlessPercent uint64
	// GuardianPercent of the window that a guardian stood still.
	GuardianPercent uint64
	// QuietNS is how long a warning must not have been due before it comes again.
	QuietNS uint64
}

// DefaultLimits are wide enough for a busy node: page cache at its limit reclaims
// all the time, and gains.
var DefaultLimits = Limits{
	WindowNS: 10e9, HighPercent: 50, Reclaims: 100, FruitlessPercent: 80, GuardianPercent: 10, QuietNS: 60e9,
}

// DefaultGuardians are the units whose stalls the whole node feels.
var DefaultGuardians = []string{
	"kubelet.service", "containerd.service", "crio.service", "docker.service", "k3s.service", "k3s-agent.service", "rke2-agent.service",
	"rke2-server.service", "ssh.service", "sshd.service", "init.scope", "systemd-journald.service", "systemd-networkd.service",
	"NetworkManager.service", "cilium.service", "calico-node.service",
}

// The kinds of warnings.
const (
	MemoryHigh = "memory_high_throttling" // a cgroup stands still over memory.high
	Fruitless  = "reclaim_gains_nothing"  // a kill is near
	Guardian   = "guardian_stalled"
)

// Warning is one that is due.
type Warning struct {
	What             string
	Cgroup           events.CgroupKey
	StalledNS        uint64 // in the window, of all tasks
	Count, Fruitless uint64
}

// Watch decides what is due. It belongs to one goroutine.
type Watch struct {
	limits Limits
	// guardian names the guardian that a cgroup is, empty for none.
	guardian func(events.CgroupKey) string
	due      map[dueKey]uint64 // when it was due last
}

type dueKey struct {
	what   string
	cgroup events.CgroupKey
}

// New returns a watch. guardian names the service of a cgroup that the node depends
// on, empty for any other.
func New(limits Limits, guardian func(events.CgroupKey) string) *Watch {
	return &Watch{limits: limits, guardian: guardian, due: make(map[dueKey]uint64)}
}

// Check looks at the last window before nowNS.
func (w *Watch) Check(nowNS uint64, past *flight.Recorder) []Warning {
	var warnings []Warning

	for cgroup, sums := range past.Recent(nowNS, w.limits.WindowNS) {
		var high, reclaim flight.Sum

		stalled := Stalled(sums)
		for _, s := range sums {
			switch s.What {
			case events.StallMemoryHigh:
				high = s
			case events.StallMemcgReclaim:
				reclaim = s
			}
		}

		add := func(what string, w Warning) {
			w.What, w.Cgroup = what, cgroup
			warnings = append(warnings, w)
		}
		if high.TotalNS*100 >= w.limits.HighPercent*w.limits.WindowNS {
			add(MemoryHigh, Warning{StalledNS: high.TotalNS, Count: high.Count})
		}

		if reclaim.Count >= w.limits.Reclaims && reclaim.Fruitless*100 >= w.limits.FruitlessPercent*reclaim.Count {
			add(Fruitless, Warning{StalledNS: reclaim.TotalNS, Count: reclaim.Count, Fruitless: reclaim.Fruitless})
		}

		if stalled*100 >= w.limits.GuardianPercent*w.limits.WindowNS && w.guardian(cgroup) != "" {
			add(Guardian, Warning{StalledNS: stalled})
		}
	}

	slices.SortFunc(warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(b.StalledNS, a.StalledNS), cmp.Compare(a.Cgroup.ID, b.Cgroup.ID), cmp.Compare(a.What, b.What))
	})

	return w.fresh(nowNS, warnings)
}

// Stalled is the time that tasks stood still, in nanoseconds, without what the dead
// stood after their kill. A sleep for memory.high may hold reclaim within it, and
// throttling is within reclaim or compaction (mm/vmscan.c: reclaim_throttle).
func Stalled(sums []flight.Sum) uint64 {
	var reclaim, high uint64

	for _, s := range sums {
		switch s.What {
		case events.StallAfterKill, events.StallThrottle:
		case events.StallMemoryHigh:
			high += s.TotalNS
		default:
			reclaim += s.TotalNS
		}
	}

	return max(reclaim, high)
}

// fresh leaves out what was due a moment ago.
func (w *Watch) fresh(nowNS uint64, warnings []Warning) []Warning {
	var fresh []Warning

	for _, x := range warnings {
		key := dueKey{x.What, x.Cgroup}
		last, known := w.due[key]

		w.due[key] = nowNS
		if !known || nowNS-last > w.limits.QuietNS {
			fresh = append(fresh, x)
		}
	}

	for key, last := range w.due {
		if nowNS-last > w.limits.QuietNS {
			delete(w.due, key)
		}
	}

	return fresh
}
