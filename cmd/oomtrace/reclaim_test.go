// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
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
		first:  {path: "/pod/a", group: "x", name: "pod x"},
		second: {path: "/kubelet", group: "/kubelet", name: "/kubelet", service: "kubelet.service"},
		quiet:  {path: "/pod/b", group: "x", name: "pod x"},
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

	if got, want := rows[0].stallNS, uint64(301e6); got != want || rows[0].service != "kubelet.service" {
		t.Errorf("got %d ns of service %q, want %d ns of kubelet.service", got, rows[0].service, want)
	}

	want := kernel.StallTotals{Count: 5, NoProgress: 1, TotalNS: 15e6, ReclaimedPages: 37}
	got := rows[1].reclaim
	got.MaxNS = 0 // not shown

	if got != want {
		t.Errorf("reclaim: got %+v, want %+v", got, want)
	}

	if rows[1].highNS != 20e6 || rows[1].stallNS != 35e6 || rows[0].throttleNS != 300e6 {
		t.Errorf("got %d ns over memory.high of %d ns, and %d ns of throttling; want 20 of 35 ms, and 300 ms",
			rows[1].highNS, rows[1].stallNS, rows[0].throttleNS)
	}

	if !slices.Equal(rows[1].paths, []string{"/pod/a"}) {
		t.Errorf("got paths %q, want only that of the cgroup that stalled", rows[1].paths)
	}
}

func TestRowsAreGroupedByIdAndShownByName(t *testing.T) {
	ids := &events.Workload{PodUID: "p1", ContainerID: "c1"}
	named := &events.Workload{PodUID: "p1", ContainerID: "c1", Namespace: "shop", Pod: "cart-0", Container: "app"}

	for _, test := range []struct {
		by, path    string
		place       resolve.Place
		group, name string
	}{
		{"cgroup", "/pod/c", resolve.Place{Level: events.LevelContainer, Workload: named}, "/pod/c", "shop/cart-0/app"},
		{"container", "/pod/c/init", resolve.Place{Level: events.LevelCgroup, Workload: named}, "container c1", "shop/cart-0/app"},
		{"pod", "/pod/c", resolve.Place{Level: events.LevelContainer, Workload: named}, "pod p1", "shop/cart-0"},
		{"pod", "/pod/c", resolve.Place{Level: events.LevelContainer, Workload: ids}, "pod p1", "pod p1"},
		{"container", "/pod/c", resolve.Place{Level: events.LevelContainer, Workload: ids}, "container c1", "p1/c1"},
		{"pod", "/system.slice", resolve.Place{}, "/system.slice", "/system.slice"},
		{"cgroup", "", resolve.Place{}, "", "unknown path"},
	} {
		if group, name := rowGroup(test.by, test.path, test.place); group != test.group || name != test.name {
			t.Errorf("by %s, path %q: got %q, %q; want %q, %q", test.by, test.path, group, name, test.group, test.name)
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

// reclaimRowsForTest are a row of one cgroup, with all values, and one of two.
func reclaimRowsForTest() ([]*reclaimRow, []kswapdRow) {
	used, room, psi, us, refaults := uint64(200<<20), uint64(3<<20), 12.4, uint64(124_000), uint64(9)
	rows := []*reclaimRow{
		{
			name: "/a\x1b", paths: []string{"/a\x1b"}, service: "kubelet.service", highNS: 20e6, throttleNS: 4e6, stallNS: 35e6,
			reclaim: kernel.StallTotals{
				Count: 5, NoProgress: 1, TotalNS: 15e6, ReclaimedPages: 1 << 20 / uint64(host.PageSize()),
			},
			usage: cgroupUsage{
				usedBytes: &used, headroomBytes: &room, limiter: "/", ancestorLimit: true,
				psiPercent: &psi, psiUS: &us, refaultPages: &refaults,
			},
		},
		{name: "shop/cart-0-with-a-very-long-name/app", paths: []string{"/a", "/b"}, stallNS: 1},
	}

	return rows, []kswapdRow{{1, kernel.KswapdCount{Wakeups: 2, AwakeNS: 1500e3}}}
}

func TestReclaimRowsAreASCIIWithoutUTF8(t *testing.T) {
	text := layOutReclaim("cgroup", time.UTC, 80, 0, seen{})
	text.ascii = true

	rows, kswapd := reclaimRowsForTest()
	for _, r := range text.format(time.Unix(0, 0), rows, kswapd) {
		if r >= 0x80 {
			t.Errorf("got %q, want ASCII alone", r)
		}
	}
}

func TestReclaimRowsFitTheirLines(t *testing.T) {
	at := time.Date(2026, 8, 20, 14, 3, 0, 0, time.UTC)
	all := seen{high: true, throttle: true, pressure: true}

	for _, test := range []struct {
		name  string
		width int
		seen  seen
		want  string
	}{
		{"80 columns on cgroup v1", 80, seen{}, `TIME     RECLAIMS NOPROG%  RECLAIM     USED  HEADROOM  CGROUP
14:03:00        5      20    15 ms  200.0Mi    3.0Mi^  /a\x1b
14:03:00        0       -     0 µs        -         -  shop/cart-0-…ong-name/app
14:03:00 critical service kubelet.service was stalled for 35 ms
14:03:00 kswapd of NUMA node 1 was awake for 1.5 ms, woken up 2 times
`},
		{"80 columns on cgroup v2", 80, all, `TIME     NOPROG%  RECLAIM     HIGH     USED  HEADROOM  CGROUP
14:03:00      20    15 ms    20 ms  200.0Mi    3.0Mi^  /a\x1b
14:03:00       -     0 µs     0 µs        -         -  shop/cart-0-…ong-name/app
14:03:00 critical service kubelet.service was stalled for 35 ms
14:03:00 kswapd of NUMA node 1 was awake for 1.5 ms, woken up 2 times
`},
		{"any width", 0, all, `TIME     RECLAIMS NOPROG%  RECLAIM     HIGH THROTTLE RECLAIMED     USED  HEADROOM  PSI% REFAULTS  CGROUP
14:03:00        5      20    15 ms    20 ms   4.0 ms     1.0Mi  200.0Mi    3.0Mi^    12        9  /a\x1b
14:03:00        0       -     0 µs     0 µs     0 µs         0        -         -     -        -  shop/cart-0-with-a-very-long-name/app
14:03:00 critical service kubelet.service was stalled for 35 ms
14:03:00 kswapd of NUMA node 1 was awake for 1.5 ms, woken up 2 times
`},
	} {
		rows, kswapd := reclaimRowsForTest()
		got := layOutReclaim("cgroup", time.UTC, test.width, 0, test.seen).format(at, rows, kswapd)

		if got != test.want {
			t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
		}

		for line := range strings.Lines(got) {
			if test.width > 0 && phrase.Width(strings.TrimSuffix(line, "\n")) > test.width {
				t.Errorf("got a line beyond %d columns: %s", test.width, line)
			}
		}
	}
}

func TestReclaimHeaderComesWithEachScreenful(t *testing.T) {
	for screen, want := range map[int]int{0: 1, 10: 4, 1000: 1} {
		text := layOutReclaim("pod", time.UTC, 80, screen, seen{})
		got := ""

		for range 10 {
			rows, _ := reclaimRowsForTest()
			got += text.format(time.Time{}, rows, nil)
		}

		if n := strings.Count(got, "POD\n"); n != want {
			t.Errorf("%d lines on a screen: got %d headers above 30 lines, want %d", screen, n, want)
		}
	}

	if got := layOutReclaim("pod", time.UTC, 80, 0, seen{}).format(time.Time{}, nil, nil); got != "" {
		t.Errorf("an interval without stalls: got %q, want nothing", got)
	}
}

func TestReclaimJSONNamesWhatIsNotKnown(t *testing.T) {
	rows, kswapd := reclaimRowsForTest()
	var out bytes.Buffer

	envelope := events.Envelope{V: 1, Time: time.Unix(0, 0).UTC(), Node: "n"}
	if err := writeReclaimJSON(&out, envelope, "pod", seen{throttle: true}, time.Second, rows, kswapd); err != nil {
		t.Fatal(err)
	}

	const head = `{"v":1,"kind":"KIND","time":"1970-01-01T00:00:00Z","boot_id":"","node":"n",`

	want := strings.ReplaceAll(head, "KIND", "reclaim") + `"unknown":["memory_high_ns"],"interval_ns":1000000000,` +
		`"by":"pod","name":"/a\u001b","cgroups":["/a\u001b"],"guardian":"kubelet.service",` +
		`"stall_ns":35000000,"reclaim_count":5,"fruitless_count":1,"reclaim_ns":15000000,"throttle_ns":4000000,` +
		`"reclaimed_bytes":1048576,"usage_bytes":209715200,"headroom_bytes":3145728,"limiter":"/",` +
		`"psi_some_ns":124000000,"refault_pages":9}
` + strings.ReplaceAll(head, "KIND", "reclaim") + `"unknown":["memory_high_ns","psi_some_ns","refault_pages","usage_bytes"],` +
		`"interval_ns":1000000000,"by":"pod","name":"shop/cart-0-with-a-very-long-name/app","cgroups":["/a","/b"],` +
		`"stall_ns":1,"reclaim_count":0,"fruitless_count":0,"reclaim_ns":0,"throttle_ns":0,"reclaimed_bytes":0}
` + strings.ReplaceAll(head, "KIND", "kswapd") + `"interval_ns":1000000000,"numa_node":1,"wakeups":2,"awake_ns":1500000}
`

	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestReclaimFilter(t *testing.T) {
	row := &reclaimRow{name: "shop/cart-0", paths: []string{"/kubepods/x"}}

	for text, want := range map[string]bool{"": true, "CART": true, "kubepods": true, "other": false} {
		if got := row.matches(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

func TestIntervalIsATimeOrSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1": time.Second, "0.5": 500 * time.Millisecond, "2m": 2 * time.Minute, "": 0, "x": 0, "NaN": 0, "1e300": 0,
	} {
		var i interval

		if err := i.Set(text); (err != nil) != (want == 0) || time.Duration(i) != want {
			t.Errorf("%q: got %v and error %v, want %v", text, i, err, want)
		}
	}

	if err := checkInterval(50 * time.Millisecond); err == nil {
		t.Error("got no error for an interval of 50ms")
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
