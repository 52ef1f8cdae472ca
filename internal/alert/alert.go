// SPDX-License-Identifier: Apache-2.0

// Package alert detects memory pressure before it kills: cgroups that are throttled
// over memory.high, reclaim without progress, and services that the node depends on
// (kubelet, runtimes, sshd, systemd) stalled in reclaim, which makes a node NotReady
// without any kill. A warning is reported once, and again only after a quiet time.
package alert

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// Limits define when a warning is due.
type Limits struct {
	WindowNS uint64 // the span of time that is evaluated
	// HighPercent of the window that tasks of a cgroup slept or reclaimed over
	// memory.high. Tasks add up: two can make 200.
	HighPercent uint64
	// Reclaims of a cgroup for a limit in the window, and how many percent of them
	// made no progress.
	Reclaims          uint64
	NoProgressPercent uint64
	// CriticalPercent of the window that a critical service was stalled.
	CriticalPercent uint64
	// QuietNS is how long a warning must not have been due before it is repeated.
	QuietNS uint64
}

// DefaultLimits are wide enough for a busy node: page cache at its limit is reclaimed
// all the time, with progress.
var DefaultLimits = Limits{
	WindowNS: 10e9, HighPercent: 50, Reclaims: 100, NoProgressPercent: 80, CriticalPercent: 10, QuietNS: 60e9,
}

// CriticalServices returns the systemd units whose stalls the whole node feels: the
// kubelet, the runtimes of a table, and what a node needs to be reached and logged in
// to; and the paths of those services of Talos, which has no systemd.
func CriticalServices(table runtimes.Table) []string {
	return slices.Concat([]string{"kubelet.service"}, table.Units(), []string{
		"ssh.service", "sshd.service", "init.scope", "systemd-journald.service", "systemd-networkd.service",
		"NetworkManager.service", "cilium.service", "calico-node.service",
		"/podruntime/kubelet", "/podruntime/runtime", "/podruntime/etcd", "/system/apid",
	})
}

// Warning is a warning that is due.
type Warning struct {
	What       string // events.PressureMemoryHigh and so on
	Cgroup     events.CgroupKey
	StalledNS  uint64 // in the window, of all tasks
	Count      uint64 // of reclaims or sleeps
	NoProgress uint64 // of reclaims
}

// Detector decides which warnings are due. It belongs to one goroutine.
type Detector struct {
	limits Limits
	// critical returns the critical service of a cgroup, empty for any other cgroup.
	critical func(events.CgroupKey) string
	due      map[dueKey]uint64 // when a warning was last due
}

type dueKey struct {
	what   string
	cgroup events.CgroupKey
}

// New returns a detector. The function critical returns the name of the critical
// service that a cgroup belongs to, empty for any other cgroup.
func New(limits Limits, critical func(events.CgroupKey) string) *Detector {
	return &Detector{limits: limits, critical: critical, due: make(map[dueKey]uint64)}
}

// Check returns the warnings that are due for the window that ends at nowNS.
func (d *Detector) Check(nowNS uint64, past *flight.Recorder) []Warning {
	var warnings []Warning

	for cgroup, sums := range past.Recent(nowNS, d.limits.WindowNS) {
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
		if high.TotalNS*100 >= d.limits.HighPercent*d.limits.WindowNS {
			add(events.PressureMemoryHigh, Warning{StalledNS: high.TotalNS, Count: high.Count})
		}

		if reclaim.Count >= d.limits.Reclaims && reclaim.NoProgress*100 >= d.limits.NoProgressPercent*reclaim.Count {
			add(events.PressureNoProgress, Warning{StalledNS: reclaim.TotalNS, Count: reclaim.Count, NoProgress: reclaim.NoProgress})
		}

		if stalled*100 >= d.limits.CriticalPercent*d.limits.WindowNS && d.critical(cgroup) != "" {
			add(events.PressureCritical, Warning{StalledNS: stalled})
		}
	}

	slices.SortFunc(warnings, func(a, b Warning) int {
		return cmp.Or(cmp.Compare(b.StalledNS, a.StalledNS), cmp.Compare(a.Cgroup.ID, b.Cgroup.ID), cmp.Compare(a.What, b.What))
	})

	return d.fresh(nowNS, warnings)
}

// Stalled returns for how long tasks were stalled, in nanoseconds, without the stalls
// of victims after their kill. A sleep for memory.high may contain reclaim, and
// throttling is part of reclaim or compaction (mm/vmscan.c: reclaim_throttle).
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

// fresh returns the warnings that were not due during the last QuietNS.
func (d *Detector) fresh(nowNS uint64, warnings []Warning) []Warning {
	var fresh []Warning

	for _, x := range warnings {
		key := dueKey{x.What, x.Cgroup}
		last, known := d.due[key]

		d.due[key] = nowNS
		if !known || nowNS-last > d.limits.QuietNS {
			fresh = append(fresh, x)
		}
	}

	for key, last := range d.due {
		if nowNS-last > d.limits.QuietNS {
			delete(d.due, key)
		}
	}

	return fresh
}
