// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"runtime"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

func TestKswapdBefore(t *testing.T) {
	r := New(0)
	at := func(s, wakeups, awakeNS uint64) {
		r.Counts(kernel.StallCounts{
			Meta: kernel.Meta{BootNS: s * second}, Kswapd: map[int]kernel.KswapdCount{0: {Wakeups: wakeups, AwakeNS: awakeNS}, 1: {Wakeups: 7}},
		})
	}
	none := func(Who) bool { return false }

	at(100, 10, 5e9)

	if got := r.Before(100*second, events.CgroupKey{}, none).Kswapd; len(got) != 2 || got[0] != (Kswapd{0, 10, 5e9}) {
		t.Errorf("since the start: %+v", got)
	}

	for s := uint64(150); s <= 300; s++ {
		at(s, s, s*1e8)
	}
	// Of 300, less what was there 60 s before.
	if got := r.Before(300*second, events.CgroupKey{}, none).Kswapd; len(got) != 1 || got[0] != (Kswapd{0, 60, 60e8}) {
		t.Errorf("in the window: %+v", got)
	}

	if len(r.kswapd) > Seconds+2 {
		t.Errorf("%d readings are kept", len(r.kswapd))
	}
}

func key(id uint64) events.CgroupKey { return events.CgroupKey{ID: id} }

func counts(atNS uint64, id, count, totalNS uint64) kernel.StallCounts {
	c := kernel.StallCount{Count: count, TotalNS: totalNS, MaxNS: 3000, Fruitless: 1, ReclaimedPages: 10 * count}
	c.Buckets[1] = count

	return kernel.StallCounts{
		Meta:   kernel.Meta{BootNS: atNS},
		Counts: map[kernel.StallKey]kernel.StallCount{{Cgroup: key(id), What: events.StallMemcgReclaim}: c},
	}
}

func all(Who) bool { return true }

func TestCountsBecomeSeconds(t *testing.T) {
	r := New(0)
	r.Counts(counts(100*second, 1, 5, 500))
	r.Counts(counts(101*second, 1, 5, 500)) // nothing new
	r.Counts(counts(102*second, 1, 8, 900))

	got := r.Before(102*second+1, events.CgroupKey{}, all)
	if len(got.Stalls) != 1 || got.Stalls[0].Count != 8 || got.Stalls[0].TotalNS != 900 || got.Stalls[0].ReclaimedPages != 80 || got.Stalls[0].MaxNS != 3000 {
		t.Errorf("%+v", got.Stalls)
	}

	if len(got.Seconds) != 2 || got.Seconds[0].BeforeNS != 2*second || got.Seconds[0].Count != 5 || got.Seconds[1].Count != 3 {
		t.Errorf("%+v", got.Seconds)
	}

	if got := r.Before(102*second, events.CgroupKey{}, func(w Who) bool { return w.Cgroup.ID == 2 }); len(got.Stalls) != 0 {
		t.Errorf("of another cgroup: %+v", got)
	}
}

func TestWindow(t *testing.T) {
	r := New(0)
	for s := uint64(1); s <= 200; s++ {
		r.Counts(counts(s*second, 1, s, s*100))
		r.Stall(kernel.Stall{Meta: kernel.Meta{BootNS: s * second, Current: kernel.Task{Cgroup: key(1)}}, DurationNS: s})
	}

	got := r.Before(200*second, events.CgroupKey{}, all)
	if got.Stalls[0].Count != Seconds || len(got.Seconds) != Seconds {
		t.Errorf("%d stalls in %d seconds", got.Stalls[0].Count, len(got.Seconds))
	}

	if n := len(r.cgroups[Who{Cgroup: key(1)}].past); n > Seconds {
		t.Errorf("%d seconds are kept", n)
	}

	if len(got.Long) != Longest || got.Long[0].DurationNS != 200 || got.Long[Longest-1].DurationNS != 200-Longest+1 {
		t.Errorf("%d long ones, the first %d", len(got.Long), got.Long[0].DurationNS)
	}
}

func TestAfterKillIsNotOfTheWay(t *testing.T) {
	r := New(0)
	r.Counts(kernel.StallCounts{Meta: kernel.Meta{BootNS: second}, Counts: map[kernel.StallKey]kernel.StallCount{
		{Cgroup: key(1), What: events.StallAfterKill}:    {Count: 17, TotalNS: 1000},
		{Cgroup: key(1), What: events.StallMemcgReclaim}: {Count: 5, TotalNS: 10},
	}})

	got := r.Before(second, events.CgroupKey{}, all)
	if len(got.Seconds) != 1 || got.Seconds[0].Count != 5 || got.Stalls[0].What != events.StallMemcgReclaim {
		t.Errorf("%+v", got)
	}
}

func TestKernelSideBeganAnew(t *testing.T) {
	r := New(0)
	r.Counts(counts(1*second, 1, 50, 500))
	r.Counts(counts(2*second, 1, 2, 20))

	if got := r.Before(2*second, events.CgroupKey{}, all); got.Stalls[0].Count != 52 {
		t.Errorf("%+v", got.Stalls)
	}
}

// TestManyCgroups: memory is bounded, and what is forgotten too early is counted.
func TestManyCgroups(t *testing.T) {
	r := New(0)
	var before, after runtime.MemStats

	runtime.GC()
	runtime.ReadMemStats(&before)

	for s := uint64(1); s <= 3; s++ {
		for id := uint64(1); id <= 10000; id++ {
			r.Counts(counts(s*second, id, s, s))
		}
	}

	runtime.GC()
	runtime.ReadMemStats(&after)

	if r.Len() != DefaultCgroups {
		t.Errorf("%d cgroups are remembered", r.Len())
	}

	if r.Evicted == 0 {
		t.Error("nobody counts what was forgotten")
	}

	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 16<<20 {
		t.Errorf("%d bytes are in use", used)
	}

	runtime.KeepAlive(r)
}

// TestManyQuietCgroups: the kernel side's counts never end. Of thousands that stalled
// once, only what grew is news.
func TestManyQuietCgroups(t *testing.T) {
	r := New(0)

	reading := kernel.StallCounts{Counts: map[kernel.StallKey]kernel.StallCount{}}
	for id := uint64(1); id <= 3000; id++ {
		for k, n := range counts(0, id, 1000, 1000).Counts {
			reading.Counts[k] = n
		}
	}

	for s := uint64(1); s <= 900; s += 100 {
		reading.BootNS = s * second
		for k, n := range counts(0, 7, 1000+s, 1000+s).Counts {
			reading.Counts[k] = n
		}

		r.Counts(reading)
	}

	got := r.Before(801*second, key(7), all).Stalls
	if len(got) != 1 || got[0].Count != 100 {
		t.Errorf("in the last minute: %+v, want 100 stalls", got)
	}
}

func TestSamples(t *testing.T) {
	r := New(0)
	usage := uint64(5)

	for s := uint64(100); s < 110; s++ {
		r.Counts(counts(s*second, 1, s, s))

		active := r.Active(s*second, 10)
		if len(active) != 1 || active[0] != key(1) {
			t.Fatalf("active %v", active)
		}

		r.Sample(key(1), Sample{BootNS: s*second + 1000, UsageBytes: &usage})
	}

	r.Counts(counts(111*second, 1, 109, 109)) // quiet

	if active := r.Active(111*second, 10); len(active) != 0 {
		t.Errorf("a quiet cgroup is active: %v", active)
	}

	got := r.Before(110*second, key(1), all)
	if len(got.Seconds) != 10 || got.Seconds[0].Sample == nil || *got.Seconds[0].Sample.UsageBytes != 5 {
		t.Errorf("%+v", got.Seconds)
	}

	for s := uint64(200); s < 400; s++ {
		r.Sample(key(1), Sample{BootNS: s * second})
	}

	if n := len(r.samples[key(1)]); n > Seconds {
		t.Errorf("%d samples are kept", n)
	}
}
