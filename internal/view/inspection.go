// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Inspection writes the state of a cgroup or of the node as a block, laid out as those
// of incidents are.
func Inspection(w io.Writer, i *events.Inspection, opts TextOptions) error {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, minWidth)
	}
	p := &page{width: opts.Width, color: opts.Color}
	v := newInspection(i, opts.Width, zone(opts.Location))
	p.head(phrase.When(i.Time, "15:04:05", v.loc), v.heading(), styleWarn, list(v.subject()...))

	for _, s := range v.sections() {
		p.section(s)
	}

	text := p.buf.Bytes()
	if opts.ASCII {
		text = []byte(phrase.ASCII(p.buf.String()))
	}
	out := output{w: w, what: "text"}

	return out.write(text)
}

// inspection turns the event of the same name into sections.
type inspection struct {
	limitBlock
	event *events.Inspection
}

func newInspection(i *events.Inspection, columns int, loc *time.Location) inspection {
	return inspection{
		event: i,
		limitBlock: limitBlock{
			limiter: i.Limiter, ladder: i.Ladder, memory: i.Memory, unknown: i.Unknown,
			wide: columns == 0, columns: max(columns-indent, 20), loc: loc,
		},
	}
}

func (v inspection) heading() string {
	if v.event.Cgroup == nil {
		return "NODE"
	}

	return strings.ToUpper(string(v.event.Level))
}

func (v inspection) subject() []string {
	if v.event.Cgroup == nil {
		return []string{v.event.Node}
	}

	return phrase.NonEmpty(phrase.Identity(v.event.Workload, v.wide), v.path(v.event.Cgroup)[0])
}

func (v inspection) sections() []section {
	var all sections

	if v.event.Cgroup == nil {
		all.addBare("nearest limits", v.nearestLimits()...)
	} else {
		all.add("limiter", v.limiterLines()...)
		all.add("ladder", v.ancestry())
	}

	all.add("waiting", v.waiting())
	all.addBare("candidates", v.candidates()...)

	if v.event.Cgroup == nil {
		all.add("memory", v.nodeMemory()...)
		all.add("stalled", stalled(v.event.NodeState.PSISome, v.event.NodeState.PSIFull))
		all.add("cgroups", v.shares(v.event.NodeState.Cgroups, 0)...)
		all.add("zones", v.zones()...)
		all.add("free", v.freeBlocks()...)
		all.add("slab", v.slabs())
	} else {
		all.add("memory", v.charge(), v.reclaim())
		all.add("events", counts("with descendants", v.event.Events), counts("local", v.event.OwnEvents))
		all.add("scanned", v.scanned())
		all.add("stalled", stalled(v.event.PSISome, v.event.PSIFull))
		all.add("shares", v.shares(v.event.Shares, v.event.SharesLeftOut)...)
	}

	all.add("eviction", v.eviction()...)
	all.add("causes", v.causes()...)
	all.add("unknown", list(v.event.Unknown...))
	all.add("more", v.onlyWide())

	return all
}

// killDisabled reports whether tasks over the nearest limit wait, and nothing is killed.
func (v inspection) killDisabled() bool {
	l := v.event.Limiter
	return l != nil && l.OOMKillDisable != nil && *l.OOMKillDisable
}

// waiting are the tasks that wait for memory now.
func (v inspection) waiting() group {
	if v.event.Wait == nil {
		return list()
	}

	return v.waitingTasks(v.event.Wait, v.event.Cgroup)
}

// limiterLines are whose limit is the nearest, and what is left until it is reached.
func (v inspection) limiterLines() []group {
	l := v.event.Limiter
	if l == nil {
		return nil
	}

	room := "headroom " + phrase.SizeOrUnknown(v.event.HeadroomBytes)
	if l.Level == events.LevelNode {
		return []group{list("node", room+" (MemAvailable and free swap)"), v.noLimit("at the node's limit")}
	}

	items := append(v.limits(), room)
	if l.LimitBytes != nil && *l.LimitBytes > 0 && v.event.HeadroomBytes != nil {
		items[len(items)-1] += fmt.Sprintf(" (%.0f %%)", 100*float64(*v.event.HeadroomBytes)/float64(*l.LimitBytes))
	}

	groups := []group{list(items...)}
	if !l.Cgroup.Is(v.event.Cgroup) {
		groups = append(groups, list(v.identity()...), list(v.path(l.Cgroup)...), v.noLimit("at this one"))
	}

	return groups
}

// noLimit states what follows if the inspected cgroup has no limit of its own.
func (v inspection) noLimit(at string) group {
	if len(v.ladder) == 0 || v.ladder[0].MaxBytes != nil || v.isUnknown("ladder.max_bytes") {
		return list()
	}

	among := "all processes in it"
	if v.limiter.Level == events.LevelNode {
		among = "all processes"
	}

	return prose("no limit of its own: " + at + " the kernel would choose among " + among)
}

// reclaim is the memory that can be reclaimed, and that which cannot be at once.
func (v inspection) reclaim() group {
	m := v.event.Memory
	if m == nil {
		return list()
	}

	return list(v.sizes(
		part{"inactive file", m.InactiveFileBytes}, part{"active file", m.ActiveFileBytes}, part{"dirty", m.FileDirtyBytes},
		part{"writeback", m.FileWritebackBytes}, part{"unevictable", m.UnevictableBytes},
		part{"slab reclaimable", m.SlabReclaimableBytes}, part{"unreclaimable", m.SlabUnreclaimableBytes},
		part{"anon in huge pages", m.AnonTHPBytes}, part{"percpu", m.PercpuBytes})...)
}

// counts are what happened to a cgroup (memory.events).
func counts(what string, e *events.CgroupEvents) group {
	if e == nil {
		return list()
	}
	items := []string{}

	for _, c := range []struct {
		name  string
		count *uint64
	}{
		{"high", e.High}, {"max", e.Max}, {"oom", e.OOM}, {"oom_kill", e.OOMKill}, {"oom_group_kill", e.OOMGroupKill},
		{"sock_throttled", e.SockThrottled},
	} {
		if c.count != nil {
			items = append(items, c.name+" "+strconv.FormatUint(*c.count, 10))
		}
	}

	if len(items) > 0 {
		items[0] = what + ": " + items[0]
	}

	return list(items...)
}

// scanned is what reclaim looked at. What was requested through memory.reclaim is no sign of
// a shortage.
func (v inspection) scanned() group {
	all, proactive := v.event.ScannedBytes, v.event.ScannedProactivelyBytes
	if all == nil || *all == 0 {
		return list()
	}

	items := []string{phrase.Size(*all)}
	if proactive != nil {
		share := float64(*proactive) / float64(*all)
		items = append(items, phrase.Percent(min(share, 1))+" of it through memory.reclaim")
	}

	return list(items...)
}

// stalled is the share of time in which tasks were stalled for memory (PSI).
func stalled(some, full *events.PSI) group {
	var items []string

	for _, k := range []struct {
		name string
		psi  *events.PSI
	}{{"some tasks", some}, {"all tasks", full}} {
		if k.psi != nil {
			items = append(items, fmt.Sprintf("%s %.1f/%.1f/%.1f %%", k.name, k.psi.Avg10, k.psi.Avg60, k.psi.Avg300))
		}
	}

	if len(items) > 0 {
		items = append(items, "over 10/60/300 s")
	}

	return list(items...)
}

// shares are cgroups side by side, with what each of them used.
func (v inspection) shares(shares []events.Share, leftOut int) []group {
	if len(shares) == 0 {
		return nil
	}
	g := grid{{"used", "limit", "cgroup"}}

	for _, s := range shares {
		limit := "max"
		if s.MaxBytes != nil {
			limit = phrase.ShortSize(s.MaxBytes)
		}

		name := phrase.Identity(s.Workload, v.wide)
		if name == "" || !named(s.Level) {
			name = s.Cgroup.Path
			if !v.wide {
				name = phrase.ShortPath(name, v.columns-20)
			}
		}
		g = append(g, []string{phrase.ShortSize(s.UsageBytes), limit, name})
	}

	groups := g.groups(0)
	if leftOut > 0 {
		groups = append(groups, list("and "+phrase.Plural(leftOut, "smaller cgroup")))
	}

	return groups
}

// named reports whether cgroups of a level are better known by their names than by their
// paths.
func named(level events.Level) bool {
	switch level {
	case events.LevelContainer, events.LevelPod, events.LevelGuest, events.LevelJob:
		return true
	}

	return false
}

// eviction is how far the node is from an eviction by the kubelet.
func (v inspection) eviction() []group {
	e := v.event.Eviction
	if e == nil {
		return nil
	}

	groups := []group{prose(e.Text)}
	if e.MemAvailableBytes != nil {
		groups = append(groups, list("MemAvailable "+phrase.Size(*e.MemAvailableBytes)+", which the kubelet does not use"))
	}

	if v.wide && e.Source != "" {
		groups = append(groups, list("thresholds from "+e.Source))
	}

	return groups
}

// causes are those that a kill would have now.
func (v inspection) causes() []group {
	var groups []group

	switch {
	case len(v.event.Causes) == 0, v.event.Wait != nil: // it has happened
	case v.killDisabled():
		groups = append(groups, prose("if the limit were hit now:"))
	default:
		groups = append(groups, prose("if an OOM kill happened now:"))
	}

	for _, c := range v.event.Causes {
		groups = append(groups, prose(phrase.Join(" ", c.Text, "("+c.Confidence+")")))
	}

	return groups
}
