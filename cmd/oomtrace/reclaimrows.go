// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// reclaimRow sums up the stalls of one interval, of all cgroups of one group.
type reclaimRow struct {
	name       string
	paths      []string // one of them is empty if it is not known
	workload   *events.Workload
	service    string // the critical service that the row is about, or empty
	reclaim    kernel.StallTotals
	highNS     uint64
	throttleNS uint64
	stallNS    uint64      // of all kinds
	usage      cgroupUsage // only of a row with a single path
}

// cgroupIdentity is what a row is made by: cgroups of the same group share one.
type cgroupIdentity struct {
	path, group, name string
	workload          *events.Workload
	service           string
}

// reclaimRows sums up what grew between two readings of the counts, the longest stalls
// first.
func reclaimRows(
	before, now map[kernel.StallKey]kernel.StallCount, identify func(events.CgroupKey) cgroupIdentity,
) []*reclaimRow {
	byGroup := map[string]*reclaimRow{}

	for key, count := range now {
		if count.Count == before[key].Count {
			continue
		}

		id := identify(key.Cgroup)

		row := byGroup[id.group]
		if row == nil {
			row = &reclaimRow{name: id.name, workload: id.workload, service: id.service}
			byGroup[id.group] = row
		}

		row.add(key.What, id.path, count.Since(before[key]))
	}

	return slices.SortedFunc(maps.Values(byGroup), func(a, b *reclaimRow) int {
		return cmp.Or(cmp.Compare(b.stallNS, a.stallNS), cmp.Compare(a.name, b.name))
	})
}

func (r *reclaimRow) add(kind events.StallKind, path string, stalls kernel.StallTotals) {
	if !slices.Contains(r.paths, path) {
		r.paths = append(r.paths, path)
	}

	switch kind {
	case events.StallMemoryHigh:
		r.highNS += stalls.TotalNS
	case events.StallThrottle:
		r.throttleNS += stalls.TotalNS
	case events.StallMemcgReclaim, events.StallDirectReclaim, events.StallNodeReclaim:
		r.reclaim.Add(stalls)
	}

	r.stallNS += stalls.TotalNS
}

// onlyPath returns the path whose files describe the row: none if it has several.
func (r *reclaimRow) onlyPath() (string, bool) {
	if len(r.paths) != 1 || r.paths[0] == "" {
		return "", false
	}

	return r.paths[0], true
}

// matches reports whether a text is part of the name or of a path, in any case of letters.
func (r *reclaimRow) matches(text string) bool {
	text = strings.ToLower(text)

	return strings.Contains(strings.ToLower(r.name), text) ||
		slices.ContainsFunc(r.paths, func(path string) bool { return strings.Contains(strings.ToLower(path), text) })
}

// rowGroup returns what the stalls of a cgroup are summed up by, and its name. A cgroup
// outside of pods and containers is a group of its own.
func rowGroup(by, path string, place resolve.Place) (group, name string) {
	w := place.Workload
	switch {
	case w != nil && by == "pod" && w.PodUID != "":
		return "pod " + w.PodUID, phrase.RowName(events.LevelPod, w, path)
	case w != nil && by != "cgroup" && w.ContainerID != "":
		return "container " + w.ContainerID, phrase.RowName(events.LevelContainer, w, path)
	}

	return path, phrase.RowName(place.Level, w, path)
}

// cgroupSample is what the files of a cgroup contained at one instant.
type cgroupSample struct {
	at            time.Time
	usedBytes     *uint64
	psiSomeUS     *uint64
	refaultPages  *uint64
	headroomBytes *uint64 // nil: no limit
	limiter       string  // path of the cgroup whose headroom that is
	ancestorLimit bool    // it is an ancestor
}

func sampleCgroup(layout host.Layout, path string, now time.Time) cgroupSample {
	files := host.SampleCgroup(layout, path)
	s := cgroupSample{
		at: now, usedBytes: files.UsageBytes, psiSomeUS: files.PSISomeUS, refaultPages: host.RefaultPages(layout, path),
	}

	if bytes, limiter, ok := host.Headroom(layout, path); ok {
		s.headroomBytes, s.limiter, s.ancestorLimit = &bytes, limiter, limiter != path
	}

	return s
}

// cgroupUsage is a cgroup's memory at the end of an interval, and its pressure within it.
// A nil value is not known.
type cgroupUsage struct {
	usedBytes, headroomBytes *uint64
	limiter                  string
	ancestorLimit            bool
	psiPercent               *float64
	psiUS                    *uint64
	refaultPages             *uint64
}

// since compares a sample with the one before it. Without one, what takes two is not
// known.
func (s cgroupSample) since(before cgroupSample) cgroupUsage {
	u := cgroupUsage{
		usedBytes: s.usedBytes, headroomBytes: s.headroomBytes, limiter: s.limiter, ancestorLimit: s.ancestorLimit,
	}

	if us, ok := grown(before.psiSomeUS, s.psiSomeUS); ok {
		percent := float64(us) / float64(s.at.Sub(before.at).Microseconds()) * 100
		u.psiPercent, u.psiUS = &percent, &us
	}

	if pages, ok := grown(before.refaultPages, s.refaultPages); ok {
		u.refaultPages = &pages
	}

	return u
}

// grown returns by how much a count grew, if both readings are known.
func grown(before, now *uint64) (uint64, bool) {
	if before == nil || now == nil || *now < *before {
		return 0, false
	}

	return *now - *before, true
}

// kswapdRow is what kswapd of one NUMA node did in an interval.
type kswapdRow struct {
	node int
	kernel.KswapdCount
}

// kswapdActivity returns what kswapd did between two readings, by NUMA node.
func kswapdActivity(before, now map[int]kernel.KswapdCount) []kswapdRow {
	var rows []kswapdRow

	for _, node := range slices.Sorted(maps.Keys(now)) {
		if now[node] != before[node] {
			rows = append(rows, kswapdRow{node, now[node].Since(before[node])})
		}
	}

	return rows
}
