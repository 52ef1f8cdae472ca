// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

func stallCount(count, noProgress, ms, pages uint64) kernel.StallCount {
	return kernel.StallCount{StallTotals: kernel.StallTotals{
		Count: count, NoProgress: noProgress, TotalNS: ms * 1e6, ReclaimedPages: pages,
	}}
}

func TestReclaimRowsSumUpAnIntervalByName(t *testing.T) {
	first, second, quiet := events.CgroupKey{ID: 1}, events.CgroupKey{ID: 2}, events.CgroupKey{ID: 3}
	identities := map[events.CgroupKey]cgroupIdentity{
		first:  {path: "/pod/a", name: "pod x"},
		second: {path: "/kubelet", name: "/kubelet", service: "kubelet.service"},
		quiet:  {path: "/pod/b", name: "pod x"},
	}
	key := func(cgroup events.CgroupKey, kind events.StallKind) kernel.StallKey {
		return kernel.StallKey{Cgroup: cgroup, What: kind}
	}
	before := map[kernel.StallKey]kernel.StallCount{
		key(first, events.StallMemcgReclaim): stallCount(10, 1, 50, 100),
		key(quiet, events.StallMemcgReclaim): stallCount(5, 5, 500, 0),
	}
	now := map[kernel.StallKey]kernel.StallCount{
		key(first, events.StallMemcgReclaim):   stallCount(14, 2, 60, 130),
		key(first, events.StallDirectReclaim):  stallCount(1, 0, 5, 7),
		key(first, events.StallMemoryHigh):     stallCount(2, 0, 20, 0),
		key(second, events.StallThrottle):      stallCount(1, 0, 300, 0),
		key(quiet, events.StallMemcgReclaim):   stallCount(5, 5, 500, 0),
		key(second, events.StallDirectReclaim): stallCount(1, 1, 1, 0),
	}

	rows := reclaimRows(before, now, func(key events.CgroupKey) cgroupIdentity { return identities[key] })

	if len(rows) != 2 || rows[0].name != "/kubelet" || rows[1].name != "pod x" {
		t.Fatalf("got %d rows, want /kubelet, which stalled longest, and pod x: %+v", len(rows), rows)
	}

	if got, want := rows[0].allNS, uint64(301e6); got != want || rows[0].service != "kubelet.service" {
		t.Errorf("got %d ns of service %q, want %d ns of kubelet.service", got, rows[0].service, want)
	}

	want := kernel.StallTotals{Count: 5, NoProgress: 1, TotalNS: 15e6, ReclaimedPages: 37}
	got := rows[1].reclaim
	got.MaxNS = 0 // not shown

	if got != want {
		t.Errorf("reclaim: got %+v, want %+v", got, want)
	}

	if rows[1].highNS != 20e6 || rows[1].allNS != 35e6 {
		t.Errorf("got %d ns over memory.high of %d ns, want 20 ms of 35 ms", rows[1].highNS, rows[1].allNS)
	}

	if !slices.Equal(rows[1].paths, []string{"/pod/a"}) {
		t.Errorf("got paths %q, want only that of the cgroup that stalled", rows[1].paths)
	}
}

func TestRowNameFollowsTheGrouping(t *testing.T) {
	container := resolve.Place{Workload: &events.Workload{PodUID: "p1", ContainerID: "c1"}}

	for _, test := range []struct {
		by, path string
		place    resolve.Place
		want     string
	}{
		{"cgroup", "/pod/c", container, "/pod/c"},
		{"container", "/pod/c", container, "container c1"},
		{"pod", "/pod/c", container, "pod p1"},
		{"pod", "/system.slice", resolve.Place{}, "/system.slice"},
		{"cgroup", "", resolve.Place{}, "unknown path"},
	} {
		if got := rowName(test.by, test.path, test.place); got != test.want {
			t.Errorf("by %s, path %q: got %q, want %q", test.by, test.path, got, test.want)
		}
	}
}

func TestSampleWithoutPredecessorHasNoRates(t *testing.T) {
	n := func(n uint64) *uint64 { return &n }
	at := time.Unix(100, 0)
	before := cgroupSample{at: at, psiSomeUS: n(1000), refaultPages: n(10)}
	now := cgroupSample{at: at.Add(2 * time.Second), usedBytes: n(5), psiSomeUS: n(501_000), refaultPages: n(14)}

	if u := now.since(cgroupSample{}); u.psiPercent != nil || u.refaultPages != nil || *u.usedBytes != 5 {
		t.Errorf("got %+v, want only what a single sample has", u)
	}

	u := now.since(before)
	if u.psiPercent == nil || *u.psiPercent != 25 {
		t.Errorf("got PSI %v, want 25 percent of two seconds", u.psiPercent)
	}

	if u.refaultPages == nil || *u.refaultPages != 4 {
		t.Errorf("got refaults %v, want 4", u.refaultPages)
	}
}

func TestKswapdActivityLeavesOutIdleNodes(t *testing.T) {
	before := map[int]kernel.KswapdCount{0: {Wakeups: 3, AwakeNS: 100}, 1: {Wakeups: 7, AwakeNS: 70}}
	now := map[int]kernel.KswapdCount{0: {Wakeups: 5, AwakeNS: 400}, 1: {Wakeups: 7, AwakeNS: 70}}

	got := kswapdActivity(before, now)
	if want := []kswapdRow{{0, kernel.KswapdCount{Wakeups: 2, AwakeNS: 300}}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFormatReclaimAlignsRowsAndMarksWhatIsNotKnown(t *testing.T) {
	used, room, psi, refaults := uint64(200<<20), uint64(3<<20), 12.4, uint64(9)
	rows := []*reclaimRow{
		{
			name: "/a\x1b", service: "kubelet.service", highNS: 20e6, allNS: 35e6,
			reclaim: kernel.StallTotals{
				Count: 5, NoProgress: 1, TotalNS: 15e6, ReclaimedPages: 1 << 20 / uint64(host.PageSize()),
			},
			usage: cgroupUsage{
				usedBytes: &used, headroomBytes: &room, ancestorLimit: true, psiPercent: &psi, refaultPages: &refaults,
			},
		},
		{name: "pod x", paths: []string{"/a", "/b"}},
	}
	kswapd := []kswapdRow{{1, kernel.KswapdCount{Wakeups: 2, AwakeNS: 1500e3}}}

	got := formatReclaim(time.Date(2026, 8, 20, 14, 3, 0, 0, time.UTC), "cgroup", rows, kswapd)
	want := `TIME      RECLAIMS NO-PROGRESS RECLAIM-ms   HIGH-ms  RECLAIMED      USED  HEADROOM   PSI%  REFAULTS  CGROUP
14:03:00         5           1       15.0      20.0       1.0M    200.0M     3.0M^     12         9  /a\x1b
14:03:00         0           0        0.0       0.0       0.0M         -         -      -         -  pod x
14:03:00 critical service kubelet.service was stalled for 35.0 ms
14:03:00 kswapd of NUMA node 1 was awake for 1.5 ms, woken up 2 times
`

	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	if got := formatReclaim(time.Time{}, "cgroup", nil, nil); got != "" {
		t.Errorf("an interval without stalls: got %q, want nothing", got)
	}
}

func TestFormatHistogramShowsTheBucketsInUse(t *testing.T) {
	c := kernel.StallCount{}
	c.Buckets[0], c.Buckets[2] = 1, 4

	got := formatHistogram(map[kernel.StallKey]kernel.StallCount{
		{Cgroup: events.CgroupKey{ID: 1}, What: events.StallThrottle}: c,
		{Cgroup: events.CgroupKey{ID: 2}, What: events.StallThrottle}: c,
	})
	want := `throttle
           0 .. 2µs                 2 |##########
         2µs .. 4µs                 0 |
         4µs .. 8µs                 8 |########################################
`

	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	if got, want := formatHistogram(nil), "no stalls\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
