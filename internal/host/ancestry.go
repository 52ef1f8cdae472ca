// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"cmp"
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

			if f.parse == nil {
				f.parse = limit
			}

			f.set(&a, f.parse(text))
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

// Protected returns how much of the usage below a cgroup memory.min and memory.low of its
// children protect from reclaim for its limit, nil for none; of all cgroups with an empty
// path. Deeper cgroups are protected within what their ancestors are (mm/page_counter.c:
// propagate_protected_usage). cgroup v1 protects nothing.
func (r Reader) Protected(path string) (byMin, byLow *uint64) {
	if r.Layout.MemoryVersion != 2 {
		return nil, nil
	}

	for _, child := range r.children(cmp.Or(path, r.Layout.MountRoot, "/")) {
		for _, p := range []struct {
			file string
			sum  **uint64
		}{{"memory.min", &byMin}, {"memory.low", &byLow}} {
			text, err := readSmall(filepath.Join(r.Layout.dir(child.Cgroup.Path), p.file))
			if err != nil {
				continue
			}

			if limit := protection(text); limit != nil && child.UsageBytes != nil && *child.UsageBytes > 0 {
				*p.sum = new(value(*p.sum) + min(*limit, *child.UsageBytes))
			}
		}
	}

	return byMin, byLow
}

// limitFile is the file of a field. Some do not exist in kernels without swap, or in
// older ones: memory.peak came with 5.19.
type limitFile struct {
	name, key string
	set       func(*events.Rung, *uint64)
	parse     func([]byte) *uint64 // nil: limit
}

func limit(text []byte) *uint64 { return limited(parseNumber(text)) }

// protection parses memory.min and memory.low: nil for none.
func protection(text []byte) *uint64 {
	if string(bytes.TrimSpace(text)) == "max" {
		return new(events.ProtectAll)
	}

	if n := parseNumber(text); n != nil && *n > 0 {
		return n
	}

	return nil
}

var limitFiles = map[int][]limitFile{
	1: {
		{name: "memory.usage_in_bytes", key: "usage_bytes", set: func(r *events.Rung, n *uint64) { r.UsageBytes = n }},
		{name: "memory.limit_in_bytes", key: "max_bytes", set: func(r *events.Rung, n *uint64) { r.MaxBytes = n }},
		{name: "memory.max_usage_in_bytes", key: "peak_bytes", set: func(r *events.Rung, n *uint64) { r.PeakBytes = n }},
		{name: "memory.memsw.usage_in_bytes", key: "swap_usage_bytes", set: func(r *events.Rung, n *uint64) {
			r.SwapUsageBytes, r.MemswUsageBytes = n, n
		}},
		{name: "memory.memsw.limit_in_bytes", key: "swap_max_bytes", set: func(r *events.Rung, n *uint64) {
			r.SwapMaxBytes, r.MemswMaxBytes = n, n
		}},
	},
	2: {
		{name: "memory.current", key: "usage_bytes", set: func(r *events.Rung, n *uint64) { r.UsageBytes = n }},
		{name: "memory.max", key: "max_bytes", set: func(r *events.Rung, n *uint64) { r.MaxBytes = n }},
		{name: "memory.high", key: "high_bytes", set: func(r *events.Rung, n *uint64) { r.HighBytes = n }},
		{name: "memory.min", key: "min_bytes", set: func(r *events.Rung, n *uint64) { r.MinBytes = n }, parse: protection},
		{name: "memory.low", key: "low_bytes", set: func(r *events.Rung, n *uint64) { r.LowBytes = n }, parse: protection},
		{name: "memory.peak", key: "peak_bytes", set: func(r *events.Rung, n *uint64) { r.PeakBytes = n }},
		{name: "memory.swap.current", key: "swap_usage_bytes", set: func(r *events.Rung, n *uint64) { r.SwapUsageBytes = n }},
		{name: "memory.swap.max", key: "swap_max_bytes", set: func(r *events.Rung, n *uint64) { r.SwapMaxBytes = n }},
		{name: "memory.oom.group", key: "oom_group", set: func(r *events.Rung, n *uint64) {
			if n != nil {
				group := *n == 1
				r.OOMGroup = &group
			}
		}},
	},
}
