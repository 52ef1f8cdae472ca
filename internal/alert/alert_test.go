// SPDX-License-Identifier: Apache-2.0

package alert

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

const second = uint64(1e9)

type feed struct {
	r        *flight.Recorder
	sums     map[kernel.StallKey]kernel.StallCount
	detector *Detector
}

func newFeed(unit string) *feed {
	return &feed{
		r: flight.New(0), sums: map[kernel.StallKey]kernel.StallCount{},
		detector: New(DefaultLimits, func(events.CgroupKey) string {
			if slices.Contains(CriticalServices(runtimes.Known()), unit) {
				return unit
			}

			return ""
		}),
	}
}

// tick adds the stalls of one second, and returns the warnings that are due.
func (f *feed) tick(s uint64, what events.StallKind, count, noProgress, ns uint64) []Warning {
	key := kernel.StallKey{Cgroup: events.CgroupKey{ID: 7}, What: what}
	c := f.sums[key]
	c.Count += count
	c.NoProgress += noProgress
	c.TotalNS += ns
	f.sums[key] = c
	f.r.Counts(kernel.StallCounts{Meta: kernel.Meta{BootNS: s * second}, Counts: f.sums})

	return f.detector.Check(s*second, f.r)
}

func run(f *feed, seconds uint64, what events.StallKind, count, noProgress, ns uint64) (warnings []Warning) {
	for s := uint64(100); s < 100+seconds; s++ {
		warnings = append(warnings, f.tick(s, what, count, noProgress, ns)...)
	}

	return warnings
}

func TestWarningsAreDue(t *testing.T) {
	for _, test := range []struct {
		name              string
		unit              string
		what              events.StallKind
		count, noProgress uint64
		ns                uint64 // a second
		want              string
	}{
		{"throttled over memory.high", "", events.StallMemoryHigh, 10, 0, 600e6, events.PressureMemoryHigh},
		{"a little over memory.high", "", events.StallMemoryHigh, 10, 0, 100e6, ""},
		{"reclaim without progress", "", events.StallMemcgReclaim, 50, 48, 10e6, events.PressureNoProgress},
		{"page cache at its limit", "", events.StallMemcgReclaim, 5000, 50, 900e6, ""},
		{"a few reclaims without progress, as before any kill", "", events.StallMemcgReclaim, 5, 5, 1e6, ""},
		{"the kubelet is stalled", "kubelet.service", events.StallDirectReclaim, 20, 0, 200e6, events.PressureCritical},
		{"the kubelet reclaims a little", "kubelet.service", events.StallDirectReclaim, 20, 0, 5e6, ""},
		{"another service is stalled", "nginx.service", events.StallDirectReclaim, 20, 0, 200e6, ""},
		{"a victim's last reclaims", "kubelet.service", events.StallAfterKill, 100, 100, 900e6, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(newFeed(test.unit), 120, test.what, test.count, test.noProgress, test.ns)
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("got %+v, want no warning", got)
			case test.want != "" && (len(got) != 1 || got[0].What != test.want):
				t.Errorf("got %d warnings %+v, want one of %s", len(got), got, test.want)
			}
		})
	}
}

func TestAWarningIsRepeatedAfterAQuietTime(t *testing.T) {
	f := newFeed("")
	first := run(f, 20, events.StallMemoryHigh, 10, 0, 900e6)
	// Nothing for two minutes, then the same again.
	var again []Warning
	for s := uint64(300); s < 320; s++ {
		again = append(again, f.tick(s, events.StallMemoryHigh, 10, 0, 900e6)...)
	}

	if len(first) != 1 || len(again) != 1 {
		t.Errorf("got %d warnings, then %d, want one each", len(first), len(again))
	}
}

// TestCriticalServices: the list is the default of --guardians. The units of runtimes
// follow from the table.
func TestCriticalServices(t *testing.T) {
	want := slices.Concat([]string{"kubelet.service"}, runtimes.Known().Units(), []string{
		"ssh.service", "sshd.service", "init.scope", "systemd-journald.service", "systemd-networkd.service",
		"NetworkManager.service", "cilium.service", "calico-node.service",
		"/podruntime/kubelet", "/podruntime/runtime", "/podruntime/etcd", "/system/apid",
	})

	for _, unit := range []string{"k0sworker.service", "k0scontroller.service", "snap.microk8s.daemon-kubelite.service"} {
		if !slices.Contains(want, unit) {
			t.Errorf("got no %s among the units of runtimes, want it", unit)
		}
	}

	if got := CriticalServices(runtimes.Known()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
