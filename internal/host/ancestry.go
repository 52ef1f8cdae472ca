// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Above returns the paths of a cgroup and of its ancestors, the nearest first, as far
// as they are mounted. The root is left out: it has no limit.
func (l Layout) Above(cgroup string) []string {
	top := strings.TrimSuffix(l.MountRoot, "/")

	var paths []string
	for at := path.Clean("/" + cgroup); at != "/" && at != top; at = path.Dir(at) {
		paths = append(paths, at)
	}

	return paths
}

// Ancestry reads the limits of a cgroup and of its ancestors, the nearest first. A
// limit that is nil is not set; unknown has the keys of an incident that could not be
// read.
func (r Reader) Ancestry(cgroup string) (ancestors []events.Rung, unknown []string) {
	if r.Layout.MemoryMount == "" {
		return nil, []string{"ladder"}
	}
	missing := map[string]bool{}

	for _, at := range r.Layout.Above(cgroup) {
		a := events.Rung{Cgroup: r.Cgroup(at)}

		a.Level, a.Workload = r.place(at)
		for _, f := range limitFiles[r.Layout.MemoryVersion] {
			text, err := readSmall(filepath.Join(r.Layout.dir(at), f.name))
			if err != nil {
				missing[f.key] = true
				continue
			}

			f.set(&a, limited(parseNumber(text)))
		}

		ancestors = append(ancestors, a)
	}

	for _, f := range limitFiles[r.Layout.MemoryVersion] {
		if missing[f.key] {
			unknown = append(unknown, "ladder."+f.key)
		}
	}

	return ancestors, unknown
}

// limitFile is the file of a field. Some do not exist in kernels without swap, or in
// older ones: memory.peak came with 5.19.
type limitFile struct {
	name, key string
	set       func(*events.Rung, *uint64)
}

var limitFiles = map[int][]limitFile{
	1: {
		{"memory.usage_in_bytes", "usage_bytes", func(r *events.Rung, n *uint64) { r.UsageBytes = n }},
		{"memory.limit_in_bytes", "max_bytes", func(r *events.Rung, n *uint64) { r.MaxBytes = n }},
		{"memory.max_usage_in_bytes", "peak_bytes", func(r *events.Rung, n *uint64) { r.PeakBytes = n }},
		{"memory.memsw.usage_in_bytes", "swap_usage_bytes", func(r *events.Rung, n *uint64) { r.SwapUsageBytes = n }},
		{"memory.memsw.limit_in_bytes", "swap_max_bytes", func(r *events.Rung, n *uint64) { r.SwapMaxBytes = n }},
	},
	2: {
		{"memory.current", "usage_bytes", func(r *events.Rung, n *uint64) { r.UsageBytes = n }},
		{"memory.max", "max_bytes", func(r *events.Rung, n *uint64) { r.MaxBytes = n }},
		{"memory.high", "high_bytes", func(r *events.Rung, n *uint64) { r.HighBytes = n }},
		{"memory.peak", "peak_bytes", func(r *events.Rung, n *uint64) { r.PeakBytes = n }},
		{"memory.swap.current", "swap_usage_bytes", func(r *events.Rung, n *uint64) { r.SwapUsageBytes = n }},
		{"memory.swap.max", "swap_max_bytes", func(r *events.Rung, n *uint64) { r.SwapMaxBytes = n }},
		{"memory.oom.group", "oom_group", func(r *events.Rung, n *uint64) {
			if n != nil {
				group := *n == 1
				r.OOMGroup = &group
			}
		}},
	},
}
