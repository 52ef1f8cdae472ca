// SPDX-License-Identifier: Apache-2.0

package host

import (
	"reflect"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestLimitsOfAncestorsAreRead(t *testing.T) {
	root := tree(t, map[string]string{
		"v2/a/memory.current":        "1000\n",
		"v2/a/memory.max":            "max\n",
		"v2/a/memory.high":           "max\n",
		"v2/a/memory.oom.group":      "0\n",
		"v2/a/b/memory.current":      "900\n",
		"v2/a/b/memory.max":          "1024\n",
		"v2/a/b/memory.high":         "950\n",
		"v2/a/b/memory.min":          "800\n",
		"v2/a/b/memory.low":          "max\n",
		"v2/a/memory.min":            "0\n",
		"v2/a/memory.low":            "0\n",
		"v2/a/b/memory.peak":         "990\n",
		"v2/a/b/memory.swap.current": "0\n",
		"v2/a/b/memory.swap.max":     "0\n",
		"v2/a/b/memory.oom.group":    "1\n",

		"v1/a/memory.usage_in_bytes":       "900\n",
		"v1/a/memory.limit_in_bytes":       "9223372036854771712\n",
		"v1/a/memory.max_usage_in_bytes":   "950\n",
		"v1/a/memory.memsw.usage_in_bytes": "910\n",
		"v1/a/memory.memsw.limit_in_bytes": "2048\n",
	})
	r := Reader{
		Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"},
		Place: func(path string) (events.Level, *events.Workload) {
			return events.LevelPod, &events.Workload{Pod: path}
		},
	}

	ancestors, unknown := r.Ancestry("/a/b")
	if len(ancestors) != 2 {
		t.Fatalf("got ancestry %+v, want 2 cgroups", ancestors)
	}

	for i := range ancestors {
		ancestors[i].Cgroup.ID = 0
	}
	yes, no := true, false

	want := []events.Rung{
		{
			Cgroup: events.Cgroup{Path: "/a/b"}, Level: events.LevelPod, Workload: &events.Workload{Pod: "/a/b"},
			UsageBytes: p64(900), MaxBytes: p64(1024), HighBytes: p64(950), PeakBytes: p64(990),
			MinBytes: p64(800), LowBytes: p64(events.ProtectAll),
			SwapUsageBytes: p64(0), SwapMaxBytes: p64(0), OOMGroup: &yes,
		},
		{
			Cgroup: events.Cgroup{Path: "/a"}, Level: events.LevelPod, Workload: &events.Workload{Pod: "/a"},
			UsageBytes: p64(1000), OOMGroup: &no,
		},
	}
	if !reflect.DeepEqual(ancestors, want) {
		t.Errorf("got  %+v\nwant %+v", ancestors, want)
	}

	if !slices.Equal(unknown, []string{"ladder.peak_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes"}) {
		t.Errorf("got unknown %v, want the keys of missing files", unknown)
	}

	r.Layout = Layout{MemoryVersion: 1, HierarchyID: 4, MemoryMount: root + "/v1", MountRoot: "/"}

	ancestors, unknown = r.Ancestry("/a")
	if len(ancestors) != 1 || ancestors[0].MaxBytes != nil || value(ancestors[0].SwapMaxBytes) != 2048 ||
		value(ancestors[0].PeakBytes) != 950 ||
		ancestors[0].Cgroup.Hierarchy != 4 || len(unknown) != 0 {
		t.Errorf("got %+v, unknown %v in cgroup v1, want its limits", ancestors, unknown)
	}

	if ancestors, unknown := (Reader{}).Ancestry("/a"); ancestors != nil || !slices.Equal(unknown, []string{"ladder"}) {
		t.Errorf("got %+v, %v without cgroups, want all unknown", ancestors, unknown)
	}

	nested := Layout{MemoryMount: "/x", MountRoot: "/docker/abc"}
	if got := nested.Above("/docker/abc/kubepods/pod"); !slices.Equal(got, []string{"/docker/abc/kubepods/pod", "/docker/abc/kubepods"}) {
		t.Errorf("got %v below another root, want its descendants only", got)
	}

	if got := nested.Above("/../.."); len(got) != 0 {
		t.Errorf("got %v for the root, want none", got)
	}
}
