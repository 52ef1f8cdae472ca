// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// limitBlock is what the blocks of incidents and of inspections have in common: a limit,
// its ancestry and what is charged to it.
type limitBlock struct {
	limiter *events.Limiter
	ladder  []events.Rung
	memory  *events.Memory
	unknown []string // keys of the event

	wide    bool // leave nothing out
	columns int  // for a path
	loc     *time.Location
}

// isUnknown reports whether a key, or what it is part of, is listed as unknown.
func (b limitBlock) isUnknown(key string) bool {
	return slices.ContainsFunc(b.unknown, func(name string) bool {
		return name == key || strings.HasPrefix(key, name+".")
	})
}

// limit is a limit that may be nil because none is set.
func (b limitBlock) limit(bytes *uint64, key string) string {
	switch {
	case bytes != nil:
		return phrase.Size(*bytes)
	case b.isUnknown(key):
		return "?"
	}

	return "max"
}

// limits are the limiter's counters: used memory and swap against their limits.
func (b limitBlock) limits() []string {
	l := b.limiter
	level := string(l.Level)

	if level == "" {
		level = "level ?"
	}
	var items []string

	switch {
	case l.Which == "memory.pressure": // a share of time, not of memory
		items = append(items, phrase.Join(" ", level, limitFile(l)))
	case l.LimitBytes != nil || l.Level != events.LevelNode:
		limit := phrase.Join(" ", level, limitFile(l), phrase.SizeOrUnknown(l.LimitBytes))
		items = append(items, limit, "used "+phrase.SizeOrUnknown(l.UsageBytes))
	case l.UsageBytes != nil:
		items = append(items, level, "used "+phrase.Size(*l.UsageBytes))
	default:
		items = append(items, level)
	}

	if l.OOMKillDisable != nil && *l.OOMKillDisable {
		items = append(items, "OOM killer disabled (memory.oom_control)")
	}

	if len(l.Nodes) > 0 {
		items = append(items, phrase.NUMANodes(l.Nodes))
	}

	memsw := l.CountsSwap() // then it is the limit above
	if !memsw && (l.SwapLimitBytes != nil || l.SwapUsageBytes != nil) {
		limit := b.limit(l.SwapLimitBytes, "limiter.swap_limit_bytes")
		items = append(items, b.swapCounter(l.Cgroup)+" "+phrase.Ratio(l.SwapUsageBytes, l.SwapLimitBytes, limit))
	}

	return items
}

// limitFile names the file of the limit, unless it only repeats the level.
func limitFile(l *events.Limiter) string {
	if l.Which == string(events.LevelNode) || l.Which == "numa_nodes" {
		return ""
	}

	if l.CountsSwap() {
		return l.Which + " (memory+swap)"
	}

	return l.Which
}

// swapCounter names the second counter of a cgroup: in cgroup v1 it counts memory and
// swap together.
func (b limitBlock) swapCounter(c *events.Cgroup) string {
	if c != nil && c.Hierarchy != 0 || b.limiter.V1() {
		return "memory+swap"
	}

	return "swap"
}

// identity is the workload that the limit is of.
func (b limitBlock) identity() []string {
	w := b.limiter.Workload
	if w == nil {
		return nil
	}

	items := phrase.NonEmpty(phrase.Identity(w, b.wide), w.QoS)
	if b.wide {
		items = append(items, phrase.NonEmpty(w.Runtime, image(w), restarts(w), labels(w))...)
		if w.Unit != "" && !slices.Contains(items, w.Unit) {
			items = append(items, w.Unit)
		}

		if w.Source != "" {
			items = append(items, "names from "+w.Source)
		}
	}

	return items
}

func image(w *events.Workload) string {
	if w.Image == "" {
		return ""
	}

	return "image " + w.Image
}

func restarts(w *events.Workload) string {
	if w.RestartCount == nil {
		return ""
	}

	return phrase.Plural(uint64(*w.RestartCount), "restart")
}

func labels(w *events.Workload) string {
	if len(w.Labels) == 0 {
		return ""
	}

	pairs := []string{"labels"}
	for _, key := range slices.Sorted(maps.Keys(w.Labels)) {
		pairs = append(pairs, key+"="+w.Labels[key])
	}

	return strings.Join(pairs, " ")
}

// path is a cgroup's path, of an inspection in narrow columns a short one; a whole one has its ids
// as well.
func (b limitBlock) path(c *events.Cgroup) []string {
	if c == nil {
		return nil
	}

	path := "path ?"
	if c.Path != "" {
		path = c.Path
		if !b.wide {
			path = phrase.ShortPath(path, b.columns)
		}
	}

	if c.ID != 0 && (b.wide || c.Path == "") { // a kernel log has no ids
		return []string{path, fmt.Sprintf("cgroup %d of hierarchy %d", c.ID, c.Hierarchy)}
	}

	return []string{path}
}

// ancestry has the usage and limit of each cgroup from the victim's to the root.
func (b limitBlock) ancestry() group {
	g := group{sep: " · "}
	for i := range b.ladder {
		g.items = append(g.items, b.ancestor(&b.ladder[i]))
	}

	return g
}

func (b limitBlock) ancestor(r *events.Rung) string {
	name := phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)
	if !b.wide {
		name = phrase.Clip(phrase.Sanitize(name), 24)
	}

	item := name + " " + phrase.Ratio(r.UsageBytes, r.MaxBytes, b.limit(nil, "ladder.max_bytes"))
	if r.HighBytes != nil {
		item += " high " + phrase.Size(*r.HighBytes)
	}

	for _, p := range []part{{"min", r.MinBytes}, {"low", r.LowBytes}} {
		if p.bytes != nil {
			item += " " + p.name + " " + protection(*p.bytes)
		}
	}

	if r.SwapMaxBytes != nil {
		item += " " + b.swapCounter(&r.Cgroup) + " " + phrase.Ratio(r.SwapUsageBytes, r.SwapMaxBytes, "?")
	}

	if b.wide {
		if r.PeakBytes != nil {
			item += " peak " + phrase.Size(*r.PeakBytes)
		}

		if r.OOMGroup != nil && *r.OOMGroup {
			item += " oom.group"
		}
	}

	if l := b.limiter; l != nil && l.Cgroup.Is(&r.Cgroup) {
		item += " <-"
	}

	return item
}

// protection is a memory.min or memory.low.
func protection(bytes uint64) string {
	if bytes >= events.ProtectAll {
		return "max"
	}

	return phrase.Size(bytes)
}

// place is where a process runs, unless that is the cgroup known to the reader.
func (b limitBlock) place(p *events.Process, known *events.Cgroup) string {
	if p.Cgroup.Is(known) {
		return ""
	}

	if w := phrase.Identity(p.Workload, b.wide); w != "" {
		return "in " + w
	}

	if p.Cgroup == nil || p.Cgroup.Path == "" {
		return ""
	}

	return "in " + b.path(p.Cgroup)[0]
}

// charge splits what is charged to the limiter.
func (b limitBlock) charge() group {
	m := b.memory
	if m == nil {
		return list()
	}

	return list(b.sizes(
		part{"anon", m.AnonBytes}, part{"file", m.FileBytes}, part{"shmem", m.ShmemBytes}, part{"slab", m.SlabBytes},
		part{"kernel stacks", m.KernelStackBytes}, part{"page tables", m.PagetablesBytes}, part{"sockets", m.SockBytes},
		part{"hugetlb", m.HugetlbBytes})...)
}

// part is a named part of memory.
type part struct {
	name  string
	bytes *uint64
}

// sizes leaves out parts that are not known, and in a narrow block those of zero bytes.
func (b limitBlock) sizes(parts ...part) []string {
	var items []string

	for _, p := range parts {
		if p.bytes != nil && (b.wide || *p.bytes > 0) {
			items = append(items, p.name+" "+phrase.Size(*p.bytes))
		}
	}

	return items
}
