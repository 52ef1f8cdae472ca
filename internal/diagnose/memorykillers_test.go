// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestReasonOfAKillerInUserSpace: the text and the advice name what the killer acted on, and
// nothing else.
func TestReasonOfAKillerInUserSpace(t *testing.T) {
	swap := &events.Limiter{
		Level: events.LevelNode, Which: "node", LimitBytes: new(16 * gib), UsageBytes: new(15 * gib), SwapLimitBytes: new(2 * gib),
		SwapUsageBytes: new(2 * gib),
	}
	pressure := &events.Limiter{Level: events.LevelSlice, Which: "memory.pressure", Cgroup: &events.Cgroup{Path: "/a.slice"}}

	for _, test := range []struct {
		name, path, reason, resource string
		limiter                      *events.Limiter
		eviction                     *events.Eviction
		want, not                    []string
	}{
		{
			name: "swap, from a log", path: "systemd-oomd", reason: "swap", limiter: swap,
			want: []string{"15.0 GiB of 16.0 GiB (94 %) of memory", "(100 %) of swap", "ManagedOOMSwap", "SwapUsedLimit"},
			not:  []string{"pressure", "ManagedOOMMemoryPressure"},
		},
		{
			name: "pressure, from a log", path: "systemd-oomd", reason: "memory_pressure", limiter: pressure,
			want: []string{"the memory pressure of", "a.slice", "ManagedOOMMemoryPressure"}, not: []string{"wap"},
		},
		{
			name: "live, where the threshold is not seen", path: "systemd-oomd", reason: "memory_pressure",
			want: []string{"memory pressure or swap usage", "ManagedOOMMemoryPressure", "ManagedOOMSwap"},
		},
		{
			name: "a rule file", path: "systemd-oomd", reason: "rule",
			want: []string{"one of its rules", "OOMRules"}, not: []string{"ManagedOOMSwap", "ManagedOOMMemoryPressure"},
		},
		{
			name: "oomd, which has no unit settings", path: "oomd", reason: "swap",
			want: []string{"because swap was nearly used up", "detectors"}, not: []string{"ManagedOOM"},
		},
		{name: "nohang", path: "nohang", reason: "memory_pressure", want: []string{"nohang.conf"}, not: []string{"--prefer"}},
		{name: "earlyoom", path: "earlyoom", reason: "memory_pressure", want: []string{"--prefer"}, not: []string{"nohang.conf"}},
		{
			name: "evicted for memory", path: "runtime", reason: "eviction", resource: "allocatableMemory",
			want: []string{"the node was short of memory", "p95"}, not: []string{"emptyDir"},
		},
		{
			name: "evicted, memory.available below its threshold", path: "runtime", reason: "eviction",
			eviction: &events.Eviction{AvailableBytes: new(90 * mib), HardBytes: new(100 * mib)},
			want:     []string{"memory.available of the node was 90.0 MiB", "p95"},
		},
		{
			name: "evicted, with memory left", path: "runtime", reason: "eviction",
			eviction: &events.Eviction{AvailableBytes: new(900 * mib), HardBytes: new(100 * mib)},
			want:     []string{"the resource that the node was short of is unknown", "status message"}, not: []string{"p95", "memory.available"},
		},
		{
			name: "evicted for a disk", path: "runtime", reason: "eviction", resource: "ephemeral-storage",
			eviction: &events.Eviction{AvailableBytes: new(90 * mib), HardBytes: new(100 * mib)},
			want:     []string{"to reclaim ephemeral-storage, not memory", "emptyDir"}, not: []string{"short of memory", "p95"},
		},
		{
			name: "evicted for pids", path: "runtime", reason: "eviction", resource: "pids",
			want: []string{"to reclaim pids, not memory"}, not: []string{"short of memory"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			inc := userKillOf(test.path, test.reason)
			inc.Killer.Resource, inc.Limiter, inc.Eviction = test.resource, test.limiter, test.eviction

			cause := Diagnose(inc, nil)[0]

			got := cause.Text
			for _, a := range cause.Advice {
				got += "\n" + a.Text
			}

			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %q, want %q in it", got, want)
				}
			}

			for _, not := range test.not {
				if strings.Contains(got, not) {
					t.Errorf("got %q, want no %q in it", got, not)
				}
			}
		})
	}
}
