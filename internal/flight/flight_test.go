// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"runtime"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestKswapdIsCountedInTheWindow(t *testing.T) {
	r := New(0)
	kswapd0 := func(wakeups, awakeNS uint64) Kswapd {
		return Kswapd{0, kernel.KswapdCount{Wakeups: wakeups, AwakeNS: awakeNS}}
	}
	at := func(s, wakeups, awakeNS uint64) {
		r.Counts(kernel.StallCounts{
			Meta: kernel.Meta{BootNS: s * second}, Kswapd: map[int]kernel.KswapdCount{0: {Wakeups: wakeups,
				AwakeNS: awakeNS}, 1: {Wakeups: 7}},
		})
	}
	none := func(Key) bool { return false }

	at(100, 10, 5e9)

	if got := r.Before(100*second, events.CgroupKey{}, none).Kswapd; len(got) != 2 || got[0] != kswapd0(10, 5e9) {
		t.Errorf("got %+v since the start, want node 0 with 10 wakeups, and node 1", got)
	}

	for s := uint64(150); s <= 300; s++ {
		at(s, s, s*1e8)
	}
	// At 300 s, less the reading 60 s before.
	if got := r.Before(300*second, events.CgroupKey{}, none).Kswapd; len(got) != 1 || got[0] != kswapd0(60, 60e8) {
		t.Errorf("got %+v in the window, want 60 wakeups of node 0", got)
	}

	if len(r.kswapd) > Seconds+2 {
		t.Errorf("got %d readings kept, want at most %d", len(r.kswapd), Seconds+2)
	}
}

func key(id uint64) events.CgroupKey { return events.CgroupKey{ID: id} }

func counts(atNS uint64, id, count, totalNS uint64) kernel.StallCounts {
	c := kernel.StallCount{StallTotals: kernel.StallTotals{
		Count: count, TotalNS: totalNS, MaxNS: 3000, NoProgress: 1, ReclaimedPages: 10 * count,
	}}
	c.Buckets[1] = count

	return kernel.StallCounts{
		Meta:   kernel.Meta{BootNS: atNS},
		Counts: map[kernel.StallKey]kernel.StallCount{{Cgroup: key(id), What: events.StallMemcgReclaim}: c},
	}
}

func all(Key) bool { return true }

func TestEachReadingAddsWhatGrew(t *testing.T) {
	r := New(0)
	r.Counts(counts(100*second, 1, 5, 500))
	r.Counts(counts(101*second, 1, 5, 500)) // nothing new
	r.Counts(counts(102*second, 1, 8, 900))

	got := r.Before(102*second+1, events.CgroupKey{}, all)
	want := Sum{events.StallMemcgReclaim, kernel.StallTotals{Count: 8, NoProgress: 1, TotalNS: 900, MaxNS: 3000,
		ReclaimedPages: 80}}

	if len(got.Stalls) != 1 || got.Stalls[0] != want {
		t.Errorf("got %+v, want %+v", got.Stalls, want)
	}

	if len(got.Seconds) != 2 || got.Seconds[0].BeforeNS != 2*second || got.Seconds[0].Count != 5 ||
		got.Seconds[1].Count != 3 {
		t.Errorf("got seconds %+v, want 5 stalls two seconds before, and 3 in the last", got.Seconds)
	}

	if got := r.Before(102*second, events.CgroupKey{},
		func(k Key) bool { return k.Cgroup.ID == 2 }); len(got.Stalls) != 0 {
		t.Errorf("got %+v of a cgroup without stalls, want none", got)
	}
}

func TestOnlyTheWindowIsKept(t *testing.T) {
	r := New(0)
	for s := uint64(1); s <= 200; s++ {
		r.Counts(counts(s*second, 1, s, s*100))
		r.Stall(kernel.Stall{Meta: kernel.Meta{BootNS: s * second, Current: kernel.Task{Cgroup: key(1)}},
			DurationNS: s})
	}

	got := r.Before(200*second, events.CgroupKey{}, all)
	if got.Stalls[0].Count != Seconds || len(got.Seconds) != Seconds {
		t.Errorf("got %d stalls in %d seconds, want %d each", got.Stalls[0].Count, len(got.Seconds), Seconds)
	}

	if n := len(r.tracks[Key{Cgroup: key(1)}].slots); n > Seconds {
		t.Errorf("got %d slots kept, want at most %d", n, Seconds)
	}

	if len(got.Long) != Longest || got.Long[0].DurationNS != 200 || got.Long[Longest-1].DurationNS != 200-Longest+1 {
		t.Errorf("got %d long stalls, the first of %d ns, want the longest %d of 200",
			len(got.Long), got.Long[0].DurationNS, Longest)
	}
}

func TestStallsOfKilledTasksComeLastAndInNoSecond(t *testing.T) {
	r := New(0)
	r.Counts(kernel.StallCounts{Meta: kernel.Meta{BootNS: second}, Counts: map[kernel.StallKey]kernel.StallCount{
		{Cgroup: key(1), What: events.StallAfterKill}:    {StallTotals: kernel.StallTotals{Count: 17, TotalNS: 1000}},
		{Cgroup: key(1), What: events.StallMemcgReclaim}: {StallTotals: kernel.StallTotals{Count: 5, TotalNS: 10}},
	}})

	got := r.Before(second, events.CgroupKey{}, all)
	if len(got.Seconds) != 1 || got.Seconds[0].Count != 5 || got.Stalls[0].What != events.StallMemcgReclaim {
		t.Errorf("got %+v, want reclaim first, and its 5 stalls alone in the second", got)
	}
}

func TestCountsThatRestartAreAddedWhole(t *testing.T) {
	r := New(0)
	r.Counts(counts(1*second, 1, 50, 500))
	r.Counts(counts(2*second, 1, 2, 20))

	if got := r.Before(2*second, events.CgroupKey{}, all); got.Stalls[0].Count != 52 {
		t.Errorf("got %+v, want 50 and 2 stalls", got.Stalls)
	}
}

func TestMemoryIsBoundedAndEvictionsAreCounted(t *testing.T) {
	testenv.Slow(t, "30000 evictions, each of which searches all tracks")

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

	if n := len(r.tracks); n != DefaultTracks {
		t.Errorf("got %d tracks, want %d", n, DefaultTracks)
	}

	if r.Evicted == 0 {
		t.Error("got no eviction counted, want one for each track that made room")
	}

	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 16<<20 {
		t.Errorf("got %d bytes in use, want at most %d", used, 16<<20)
	}

	runtime.KeepAlive(r)
}

// The kernel side keeps the counts of all cgroups. Of thousands that stalled once, only
// those that grew since the last reading are new.
func TestCountsThatDidNotGrowAddNothing(t *testing.T) {
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
		t.Errorf("got %+v in the last minute, want 100 stalls", got)
	}
}

func TestSecondsHaveTheSampleOfTheLimiter(t *testing.T) {
	r := New(0)
	usage := uint64(5)

	for s := uint64(100); s < 110; s++ {
		r.Counts(counts(s*second, 1, s, s))

		active := r.Active(s*second, 10)
		if len(active) != 1 || active[0] != key(1) {
			t.Fatalf("got active cgroups %v, want %v", active, key(1))
		}

		r.Sample(key(1), Sample{BootNS: s*second + 1000, Sample: host.Sample{UsageBytes: &usage}})
	}

	r.Counts(counts(111*second, 1, 109, 109)) // quiet

	if active := r.Active(111*second, 10); len(active) != 0 {
		t.Errorf("got active cgroups %v without new stalls, want none", active)
	}

	got := r.Before(110*second, key(1), all)
	if len(got.Seconds) != 10 || got.Seconds[0].Sample == nil || *got.Seconds[0].Sample.UsageBytes != 5 {
		t.Errorf("got seconds %+v, want 10 with a usage of 5 bytes", got.Seconds)
	}

	split := &host.Split{AnonBytes: 3}
	r.Split(key(1), got.Seconds[0].Sample.BootNS, split)
	r.Split(key(1), 1, &host.Split{AnonBytes: 9}) // of no sample
	r.Split(key(9), got.Seconds[0].Sample.BootNS, split)

	with := 0
	got = r.Before(110*second, key(1), all)

	for _, sec := range got.Seconds {
		if sec.Sample != nil && sec.Sample.Split == split {
			with++
		}
	}

	if with != 1 {
		t.Errorf("got %d seconds with the split of one sample, want 1", with)
	}

	for s := uint64(200); s < 400; s++ {
		r.Sample(key(1), Sample{BootNS: s * second})
	}

	if n := len(r.samples[key(1)]); n > Seconds {
		t.Errorf("got %d samples kept, want at most %d", n, Seconds)
	}
}
