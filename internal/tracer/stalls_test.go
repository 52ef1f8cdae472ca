// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// A filter by namespace or pod selects stalls by these names.
func TestStallLinesHaveTheNamesOfTheirWorkload(t *testing.T) {
	clock := host.NewBootClock()
	known := newFakeNames()
	known.learn(podUID, "checkout-7d9f")
	known.learn(appID, "app")

	stalls := &stallHistory{
		tree: resolve.NewNamedTree(tree(), known), clock: clock,
		envelope: func(kind string) events.Envelope { return events.Envelope{Kind: kind} },
	}
	stall := kernel.Stall{Meta: kernel.Meta{BootNS: 1e9, Current: kernel.Task{Cgroup: events.CgroupKey{ID: 2}}}}

	if w := stalls.line(stall).Task.Workload; w == nil || w.Pod != "checkout-7d9f" || w.Container != "app" {
		t.Errorf("got workload %+v, want container app of pod checkout-7d9f", w)
	}
}

// fakeCounts returns its readings one after the other.
type fakeCounts struct{ readings []*kernel.StallCounts }

func (f *fakeCounts) Stalls() (*kernel.StallCounts, error) {
	next := f.readings[0]
	f.readings = f.readings[1:]

	return next, nil
}

func (*fakeCounts) ForgetStalls(map[events.CgroupKey]bool) {}

// reading has the counts of reclaim, before and after kills, of cgroup 2.
func reading(bootNS, before, after uint64) *kernel.StallCounts {
	count := func(what events.StallKind) kernel.StallKey {
		return kernel.StallKey{Cgroup: events.CgroupKey{ID: 2}, What: what}
	}

	return &kernel.StallCounts{Meta: kernel.Meta{BootNS: bootNS}, Counts: map[kernel.StallKey]kernel.StallCount{
		count(events.StallMemcgReclaim): {StallTotals: kernel.StallTotals{Count: before, TotalNS: before * 1e6}},
		count(events.StallAfterKill):    {StallTotals: kernel.StallTotals{Count: after, TotalNS: after * 1e6}},
	}}
}

// TestReclaimAfterAKillIsNoHistoryOfTheNext: the first victim goes on reclaiming until it has ended,
// in the minute before the next kill. Another cgroup's kill is its own.
func TestReclaimAfterAKillIsNoHistoryOfTheNext(t *testing.T) {
	const secondNS = uint64(1e9)

	clock := host.NewBootClock()
	now := kernel.BootNS()
	counts := &fakeCounts{[]*kernel.StallCounts{reading(now, 3, 5), reading(now+10*secondNS, 4, 9), reading(now+20*secondNS, 4, 9)}}
	stalls := &stallHistory{
		enabled: true, counts: counts, tree: resolve.NewNamedTree(tree(), newFakeNames()), clock: clock, page: 4096,
		envelope: func(kind string) events.Envelope { return events.Envelope{Kind: kind} },
		critical: func(events.CgroupKey) string { return "" }, recorder: flight.New(0), splits: newSplits(host.Layout{}),
	}

	kill := func(id string, pid int, atNS uint64, path string, cgroup uint64) *events.Incident {
		return &events.Incident{
			ID: id, Envelope: events.Envelope{Time: clock.Time(atNS)}, Outcome: events.OutcomeKilled, Scope: events.ScopeMemcg,
			Limiter: &events.Limiter{Cgroup: &events.Cgroup{CgroupKey: events.CgroupKey{ID: cgroup}, Path: path}},
			Victims: []events.Victim{{Process: events.Process{PID: pid}}},
		}
	}
	history := func(inc *events.Incident, readNS uint64) *events.Before {
		stalls.start(inc)
		return stalls.findings(readNS, true)[0].change.Before
	}
	kinds := func(b *events.Before) string {
		var list []string
		for _, s := range b.Stalls {
			list = append(list, s.What)
		}

		return strings.Join(list, " ")
	}

	stalls.recorder.Stall(kernel.Stall{
		Meta: kernel.Meta{BootNS: now, Current: kernel.Task{TGID: 71, TID: 71, Cgroup: events.CgroupKey{ID: 2}}},
		What: events.StallAfterKill, DurationNS: 5e8,
	})

	first := history(kill("a", 71, now-secondNS, "/a", 2), now)
	if got := kinds(first); got != "memcg_reclaim after_kill" || len(first.Longest) != 1 {
		t.Errorf("first kill: got stalls %q and longest %+v, want its reclaim before and after", got, first.Longest)
	}

	next := history(kill("b", 72, now+10*secondNS-1, "/a", 2), now+10*secondNS)
	if got := kinds(next); got != "memcg_reclaim" || len(next.Longest) != 0 {
		t.Errorf("next kill: got stalls %q and longest %+v, want none of the first victim", got, next.Longest)
	}

	other := kill("c", 73, now+20*secondNS-1, "/b", 7)
	if stalls.start(other); !stalls.recent.alone(other) {
		t.Error("got a kill of another cgroup that is not alone, want it alone")
	}

	if inner := kill("d", 74, now, "/a/inner", 8); stalls.recent.alone(inner) {
		t.Error("got a kill below the first one's cgroup that is alone, want it not to be")
	}

	if stalls.forget(now + 200*secondNS); len(stalls.recent.list) != 0 {
		t.Errorf("got %d kills after their windows, want them forgotten", len(stalls.recent.list))
	}
}

// TestSecondsHaveWhatTheMemoryConsistedOf: a goroutine reads it for the samples; without a limit nothing is read.
func TestSecondsHaveWhatTheMemoryConsistedOf(t *testing.T) {
	const anon = 3 << 20

	mount := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(mount, appPath, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("memory.current", "4194304\n")
	write("memory.max", "max\n")
	write("memory.stat", fmt.Sprintf("anon %d\nfile 0\nshmem 0\nslab 4096\n", anon))

	layout := host.Layout{MemoryVersion: 2, MemoryMount: mount, MountRoot: "/"}
	clock := host.NewBootClock()
	now := kernel.BootNS()
	counts := &fakeCounts{[]*kernel.StallCounts{reading(now+2e9, 9, 0)}}
	stalls := &stallHistory{
		enabled: true, counts: counts, tree: resolve.NewNamedTree(tree(), nil), clock: clock, page: 4096, layout: layout,
		critical: func(events.CgroupKey) string { return "" }, recorder: flight.New(0), splits: newSplits(layout),
	}

	ctx, stop := context.WithCancel(t.Context())

	var work sync.WaitGroup

	work.Go(func() { stalls.splits.run(ctx) })

	sample := func(atNS, count uint64) {
		stalls.recorder.Counts(*reading(atNS, count, 0))
		stalls.sample(atNS, func(string) {})
	}
	sample(now, 3)
	write("memory.max", "8388608\n")
	sample(now+1e9, 6)

	read := func() bool {
		stalls.splits.mu.Lock()
		defer stalls.splits.mu.Unlock()

		return len(stalls.splits.read) > 0
	}
	for deadline := time.Now().Add(10 * time.Second); !read(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("got nothing read within 10 s")
		}
	}

	stop()
	work.Wait()

	stalls.start(&events.Incident{
		Envelope: events.Envelope{Time: clock.Time(now + 2e9)}, Outcome: events.OutcomeKilled, Scope: events.ScopeMemcg,
		Limiter: &events.Limiter{Cgroup: &events.Cgroup{CgroupKey: events.CgroupKey{ID: 2}, Path: appPath}},
	})

	var got []string

	for _, s := range stalls.findings(now+2e9, true)[0].change.Before.Timeline {
		if s.UsageBytes != nil {
			got = append(got, fmt.Sprint(s.LimitBytes != nil, s.AnonBytes != nil && *s.AnonBytes == anon,
				s.KernelBytes != nil && *s.KernelBytes == 4096))
		}
	}

	if want := []string{"false false false", "true true true"}; !slices.Equal(got, want) {
		t.Errorf("got limit, anonymous and kernel memory of the sampled seconds %q, want %q", got, want)
	}
}
