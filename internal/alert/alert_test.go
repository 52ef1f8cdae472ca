// SPDX-License-Identifier: Apache-2.0

package alert

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const second = uint64(1e9)

type feed struct {
	r     *flight.Recorder
	sums  map[kernel.StallKey]kernel.StallCount
	watch *Watch
}

func newFeed(unit string) *feed {
	return &feed{
		r: flight.New(0), sums: map[kernel.StallKey]kernel.StallCount{},
		watch: New(DefaultLimits, func(events.CgroupKey) string {
			if slices.Contains(DefaultGuardians, unit) {
				return unit
			}

			return ""
		}),
	}
}

// tick is a second in which something stalled.
func (f *feed) tick(s uint64, what events.StallKind, count, fruitless, ns uint64) []Warning {
	key := kernel.StallKey{Cgroup: events.CgroupKey{ID: 7}, What: what}
	c := f.sums[key]
	c.Count += count
	c.Fruitless += fruitless
	c.TotalNS += ns
	f.sums[key] = c
	f.r.Counts(kernel.StallCounts{Meta: kernel.Meta{BootNS: s * second}, Counts: f.sums})

	return f.watch.Check(s*second, f.r)
}

func run(f *feed, seconds uint64, what events.StallKind, count, fruitless, ns uint64) (warnings []Warning) {
	for s := uint64(100); s < 100+seconds; s++ {
		warnings = append(warnings, f.tick(s, what, count, fruitless, ns)...)
	}

	return warnings
}

func TestWarnings(t *testing.T) {
	for _, test := range []struct {
		name             string
		unit             string
		what             events.StallKind
		count, fruitless uint64
		ns               uint64 // a second
		want             string
	}{
		{"held up over memory.high", "", events.StallMemoryHigh, 10, 0, 600e6, MemoryHigh},
		{"a little over memory.high", "", events.StallMemoryHigh, 10, 0, 100e6, ""},
		{"reclaim in vain", "", events.StallMemcgReclaim, 50, 48, 10e6, Fruitless},
		{"page cache at its limit", "", events.StallMemcgReclaim, 5000, 50, 900e6, ""},
		{"some reclaims in vain, as at any kill", "", events.StallMemcgReclaim, 5, 5, 1e6, ""},
		{"the kubelet stands still", "kubelet.service", events.StallDirectReclaim, 20, 0, 200e6, Guardian},
		{"the kubelet reclaims a little", "kubelet.service", events.StallDirectReclaim, 20, 0, 5e6, ""},
		{"another service stands still", "nginx.service", events.StallDirectReclaim, 20, 0, 200e6, ""},
		{"a victim's last reclaims", "kubelet.service", events.StallAfterKill, 100, 100, 900e6, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(newFeed(test.unit), 120, test.what, test.count, test.fruitless, test.ns)
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("a false alarm: %+v", got)
			case test.want != "" && (len(got) != 1 || got[0].What != test.want):
				t.Errorf("%d warnings, want one of %s: %+v", len(got), test.want, got)
			}
		})
	}
}

func TestWarningComesAgain(t *testing.T) {
	f := newFeed("")
	first := run(f, 20, events.StallMemoryHigh, 10, 0, 900e6)
	// Quiet for two minutes, and then once more.
	var again []Warning
	for s := uint64(300); s < 320; s++ {
		again = append(again, f.tick(s, events.StallMemoryHigh, 10, 0, 900e6)...)
	}

	if len(first) != 1 || len(again) != 1 {
		t.Errorf("%d warnings, then %d", len(first), len(again))
	}
}
