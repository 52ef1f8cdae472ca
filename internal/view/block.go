// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// narrowVictims is how many victims a narrow block shows one by one.
const narrowVictims = 4

// block turns an incident into sections. Wide leaves nothing out.
type block struct {
	inc  *events.Incident
	wide bool
	max  int // columns for a path
	loc  *time.Location
}

func (b block) sections() []section {
	var all []section
	add := func(label string, groups ...group) {
		groups = slices.DeleteFunc(groups, func(g group) bool { return len(g.items) == 0 })
		if len(groups) > 0 {
			all = append(all, section{label, groups})
		}
	}
	add("killer", b.userKiller()...)
	add("evidence", b.userEvidence()...)
	add("limiter", b.limiter()...)
	add("ladder", b.ladder())
	add("shares", b.shares())
	add("trigger", b.trigger())
	add("victims", b.victims()...)
	add("scores", b.scores()...)
	add("memory", b.memory(), b.memoryParts())
	add("before", b.before()...)
	add("killer", b.killer())
	add("runtime", b.runtime()...)
	add("node", b.nodeState()...)
	add("eviction", b.eviction()...)
	add("why", b.why()...)
	add("do", b.advice()...)
	add("passes", b.passes())
	add("audit", b.audit())
	add("seen", b.tier())
	add("notes", b.notes()...)
	add("unknown", list(b.inc.Unknown...))

	return all
}

// unknown reports whether a key, or what it is part of, was named as unknown.
func (b block) unknown(key string) bool {
	return slices.ContainsFunc(b.inc.Unknown, func(name string) bool {
		return name == key || strings.HasPrefix(key, name+".")
	})
}

// limit shows a limit that may be absent because there is none.
func (b block) limit(bytes *uint64, key string) string {
	switch {
	case bytes != nil:
		return size(*bytes)
	case b.unknown(key):
		return "?"
	}

	return "max"
}

func (b block) limiter() []group {
	l := b.inc.Limiter
	if l == nil {
		return nil
	}

	return []group{list(b.limits(l)...), list(b.identity(l)...), list(b.path(l.Cgroup, b.max)...)}
}

func (b block) limits(l *events.Limiter) []string {
	level := string(l.Level)
	if level == "" {
		level = "level ?"
	}
	var items []string

	switch {
	case l.LimitBytes != nil || l.Level != events.LevelNode:
		items = append(items, join(level, file(l), maybe(l.LimitBytes)), "used "+maybe(l.UsageBytes))
	case l.UsageBytes != nil:
		items = append(items, level, "used "+size(*l.UsageBytes))
	default:
		items = append(items, level)
	}

	if len(l.Nodes) > 0 {
		items = append(items, "NUMA nodes "+ranges(l.Nodes))
	}

	memsw := strings.HasPrefix(l.Which, "memory.memsw.") // said already
	if !memsw && (l.SwapLimitBytes != nil || l.SwapUsageBytes != nil) {
		limit := b.limit(l.SwapLimitBytes, "limiter.swap_limit_bytes")
		items = append(items, b.swapWord(l.Cgroup)+" "+ratio(l.SwapUsageBytes, l.SwapLimitBytes, limit))
	}

	return items
}

// file names the limit, unless it only repeats the level.
func file(l *events.Limiter) string {
	if l.Which == string(events.LevelNode) || l.Which == "numa_nodes" {
		return ""
	}

	return l.Which
}

// swapWord: in cgroup v1 the second counter counts memory and swap together. A kernel
// log has no hierarchies, but names the file of the limit.
func (b block) swapWord(c *events.Cgroup) string {
	l := b.inc.Limiter
	if c != nil && c.Hierarchy != 0 || l != nil && (strings.HasPrefix(l.Which, "memory.limit_in_bytes") || strings.HasPrefix(l.Which, "memory.memsw.")) {
		return "memory+swap"
	}

	return "swap"
}

func (b block) identity(l *events.Limiter) []string {
	w := l.Workload
	if w == nil {
		return nil
	}

	items := appendSet(nil, owner(w, b.wide), w.QoS)
	if b.wide {
		items = appendSet(items, w.Runtime, imageOf(w), restarts(w), labels(w))
		if w.Unit != "" && !slices.Contains(items, w.Unit) {
			items = append(items, w.Unit)
		}

		if w.Source != "" {
			items = append(items, "names from "+w.Source)
		}
	}

	return items
}

func (b block) path(c *events.Cgroup, max int) []string {
	if c == nil {
		return nil
	}

	path := "path ?"
	if c.Path != "" {
		path = c.Path
		if !b.wide {
			path = shortPath(path, max)
		}
	}

	if b.wide || c.Path == "" {
		return []string{path, fmt.Sprintf("cgroup %d of hierarchy %d", c.ID, c.Hierarchy)}
	}

	return []string{path}
}

func (b block) ladder() group {
	g := group{sep: " · "}
	for i := range b.inc.Ladder {
		g.items = append(g.items, b.rung(&b.inc.Ladder[i]))
	}

	return g
}

func (b block) rung(r *events.Rung) string {
	name := rungName(r.Level, r.Workload, r.Cgroup.Path)
	if !b.wide {
		name = clip(Sanitize(name), 24)
	}

	item := name + " " + ratio(r.UsageBytes, r.MaxBytes, b.limit(nil, "ladder.max_bytes"))
	if r.HighBytes != nil {
		item += " high " + size(*r.HighBytes)
	}

	if r.SwapMaxBytes != nil {
		item += " " + b.swapWord(&r.Cgroup) + " " + ratio(r.SwapUsageBytes, r.SwapMaxBytes, "?")
	}

	if b.wide {
		if r.PeakBytes != nil {
			item += " peak " + size(*r.PeakBytes)
		}

		if r.OOMGroup != nil && *r.OOMGroup {
			item += " oom.group"
		}
	}

	if l := b.inc.Limiter; l != nil && l.Cgroup.Is(&r.Cgroup) {
		item += " <-"
	}

	return item
}

func (b block) trigger() group {
	p, a := b.inc.Trigger, b.inc.Allocation
	if p == nil && a == nil {
		return list()
	}

	items := []string{"?"}
	if p != nil {
		items = []string{b.thread(p)}
		items = appendSet(items, b.place(p, b.home()))
	}

	if a != nil {
		items = append(items, order(a.Order), flags(a))

		items = appendSet(items, class(a.Class))
		if b.wide && a.TotalPages != nil {
			items = append(items, fmt.Sprintf("%d pages to use at most", *a.TotalPages))
		}
	}

	return list(items...)
}

// thread names a process, and the thread of it if that is another.
func (b block) thread(p *events.Process) string {
	s := task(p.Comm, p.PID)
	if p.IsKernel {
		s += " kernel thread"
	}

	switch {
	case p.Thread != "" && p.TID != p.PID:
		s += " thread " + task(p.Thread, p.TID)
	case b.wide && p.TID != 0 && p.TID != p.PID:
		s += fmt.Sprintf(" tid %d", p.TID)
	}

	return s
}

// home is the limiter's cgroup: what is in it need not be said.
func (b block) home() *events.Cgroup {
	if b.inc.Limiter == nil {
		return nil
	}

	return b.inc.Limiter.Cgroup
}

// place tells where a process is, unless it is where the reader knows.
func (b block) place(p *events.Process, known *events.Cgroup) string {
	if p.Cgroup.Is(known) {
		return ""
	}

	if w := owner(p.Workload, b.wide); w != "" {
		return "in " + w
	}

	if p.Cgroup == nil || p.Cgroup.Path == "" {
		return ""
	}

	return "in " + b.path(p.Cgroup, b.max/2)[0]
}

func (b block) victims() []group {
	victims := b.inc.Victims

	shown := len(victims)
	if !b.wide && shown > narrowVictims+1 { // never "and 1 more"
		shown = narrowVictims
	}
	var groups []group
	known := b.home()

	for i := range victims[:shown] {
		v := &victims[i]

		groups = append(groups, list(b.victim(v, known)...))
		if v.Cgroup != nil {
			known = v.Cgroup
		}
	}

	return append(groups, rest(victims[shown:]))
}

func (b block) victim(v *events.Victim, known *events.Cgroup) []string {
	first := b.thread(&v.Process)

	items := appendSet([]string{join(first, role(v.Role))}, b.place(&v.Process, known))
	if v.IsContainerInit != nil && *v.IsContainerInit {
		items = append(items, "container init")
	}

	items = append(items, b.sizes(
		part{"anon", v.AnonRSSBytes}, part{"file", v.FileRSSBytes}, part{"shmem", v.ShmemRSSBytes}, part{"swap", v.SwapBytes})...)
	if b.wide {
		items = append(items, b.sizes(part{"page tables", v.PgtablesBytes}, part{"virtual", v.TotalVMBytes})...)
	}

	items = append(items, b.traits(v)...)
	if v.ExitAfterNS != nil {
		items = append(items, "dead after "+duration(*v.ExitAfterNS))
	}

	if v.ReleasedAfterNS != nil {
		items = append(items, "memory back after "+duration(*v.ReleasedAfterNS))
	}

	return items
}

// traits are what made the kernel choose, and who it was.
func (b block) traits(v *events.Victim) []string {
	var items []string
	if v.OOMScoreAdj != nil && (b.wide || *v.OOMScoreAdj != 0) {
		items = append(items, fmt.Sprintf("adj %d", *v.OOMScoreAdj))
	}

	if !b.wide {
		return items
	}

	if v.Points != nil {
		items = append(items, fmt.Sprintf("badness %d pages", *v.Points))
	}

	if v.UID != nil {
		items = append(items, fmt.Sprintf("uid %d", *v.UID))
	}

	if v.StartTime != nil {
		items = append(items, "started "+v.StartTime.In(b.loc).Format(time.DateTime))
	}

	return items
}

// rest counts the victims that are not shown one by one.
func rest(victims []events.Victim) group {
	if len(victims) == 0 {
		return list()
	}

	what := "victim"
	if !slices.ContainsFunc(victims, func(v events.Victim) bool { return v.Role != events.RoleGroup }) {
		what = "group member"
	}
	dead, last := 0, uint64(0)

	for _, v := range victims {
		if v.ExitAfterNS != nil {
			dead, last = dead+1, max(last, *v.ExitAfterNS)
		}
	}

	items := []string{"and " + plural(uint64(len(victims)), "more "+what)}
	switch {
	case dead == len(victims):
		items = append(items, "all dead after "+duration(last))
	case dead > 0:
		items = append(items, fmt.Sprintf("%d of them dead after %s", dead, duration(last)))
	}

	return list(append(items, "-o json lists all")...)
}

// part is a named share of memory.
type part struct {
	name  string
	bytes *uint64
}

// sizes leaves out what is not known, and zeros where space is short.
func (b block) sizes(parts ...part) []string {
	var items []string

	for _, p := range parts {
		if p.bytes != nil && (b.wide || *p.bytes > 0) {
			items = append(items, p.name+" "+size(*p.bytes))
		}
	}

	return items
}

func (b block) memory() group {
	m := b.inc.Memory
	if m == nil {
		return list()
	}

	return list(b.sizes(
		part{"anon", m.AnonBytes}, part{"file", m.FileBytes}, part{"shmem", m.ShmemBytes}, part{"slab", m.SlabBytes},
		part{"kernel stacks", m.KernelStackBytes}, part{"page tables", m.PagetablesBytes}, part{"sockets", m.SockBytes})...)
}

func (b block) killer() group {
	k := b.inc.Killer
	if k == nil || b.inc.Scope == events.ScopeUser {
		return list()
	}

	items := []string{k.Kind}
	if k.PID != 0 {
		items = append(items, task(k.Comm, k.PID))
	}

	items = append(items, killPath(k.Path, b.inc.Scope))
	if k.GroupCgroup != nil || k.GroupLevel != "" {
		at := "memory.oom.group=1"
		if k.GroupLevel != "" {
			at += " at " + string(k.GroupLevel)
		}

		items = append(items, at)
		if k.GroupCgroup != nil && !b.home().Is(k.GroupCgroup) {
			items = append(items, b.path(k.GroupCgroup, b.max)...)
		}
	}

	return list(items...)
}

// passes says nothing of a single pass: its outcome is the headline.
func (b block) passes() group {
	p := b.inc.Passes
	if p == nil || p.Killed+p.NoKillable+p.Waiting+p.AlreadyExiting+p.Skipped <= 1 {
		return list()
	}
	var items []string
	count := func(n uint64, what string) {
		if n > 0 {
			items = append(items, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(p.Killed, "killed")
	count(p.NoKillable, "found nobody killable")
	count(p.Waiting, "waited for an earlier victim")
	count(p.AlreadyExiting, "chose a task that was exiting")
	count(p.Skipped, "made no choice")

	return list(items...)
}

func (b block) audit() group {
	a := b.inc.Audit
	if a == nil {
		return list()
	}

	text := a.Text
	if text == "" {
		text = fmt.Sprintf("%s; kernel killed %d times", plural(uint64(a.Victims), "victim"), a.KernelKills)
	}

	if !a.Explained {
		text = "NOT EXPLAINED: " + text
	}

	return prose(text)
}

// tier is worth a line where it limits what can be known.
func (b block) tier() group {
	switch t := b.inc.Tier; {
	case t == events.TierTracepoint:
		return list("by tracepoints only")
	case b.wide && t != "":
		return list("by " + string(t))
	}

	return list()
}

func (b block) notes() []group {
	var groups []group
	for _, n := range b.inc.Notes {
		groups = append(groups, prose(n))
	}

	return groups
}

// appendSet appends the items that are not empty.
func appendSet(items []string, more ...string) []string {
	return append(items, slices.DeleteFunc(more, func(s string) bool { return s == "" })...)
}

func join(words ...string) string { return strings.Join(appendSet(nil, words...), " ") }
