// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// facts is everything that an incident of the OOM killer is built from. A nil pointer is
// a fact that is not known.
type facts struct {
	id       string
	timeNS   uint64 // CLOCK_BOOTTIME
	tier     events.Tier
	outcome  events.Outcome
	passes   events.Passes
	shortage shortage
	// scopeOfReturn is the scope that the return of out_of_memory shows where the choice
	// was lost; empty: the shortage's.
	scopeOfReturn events.Scope
	trigger       *kernel.Task
	exiting       *kernel.Task // the process that was exiting already, if that is the outcome

	// ancestry goes from the victim's memcg to the root, or not that far if it is cut.
	ancestry      []kernel.Memcg
	ancestryKnown bool
	ancestryCut   bool
	limiter       *kernel.Memcg // nil also if the node ran out
	nodes         []int         // allowed NUMA nodes

	allocation allocation
	charge     []kernel.MemcgCharge // at the time of limiter
	victims    []victim
	points     *int64 // oom_control.chosen_points, of the chosen one
}

// setChosen takes in the record of a choice.
func (f *facts) setChosen(d *kernel.VictimChosen, s shortage) {
	f.shortage = s
	f.ancestry, f.ancestryKnown, f.ancestryCut = d.Ancestry, true, d.AncestryCut
	f.allocation.setChosen(d)

	if s.limiter >= 0 {
		f.limiter = &d.Ancestry[s.limiter]
	}

	if d.AllocKnown {
		f.points = &d.Points
	}

	if d.NodesKnown {
		f.nodes = d.Nodes
	}
}

// setExiting takes in the mark of a process that was exiting already.
func (f *facts) setExiting(r kernel.Mark) {
	if r.Task.TGID != 0 {
		f.exiting = &r.Task
	}
}

// allocation is what is known of the allocation that failed.
type allocation struct {
	known      bool // order and gfp
	order      int32
	gfp        uint32
	totalPages *uint64
	stack      []uint64 // addresses, innermost first
}

func (a *allocation) setChosen(d *kernel.VictimChosen) {
	a.stack = d.Stack

	if d.AllocKnown {
		a.known, a.order, a.gfp, a.totalPages = true, d.Order, d.GFP, &d.TotalPages
	}
}

func (a *allocation) setReturn(r *kernel.OOMReturn) {
	if r.AllocKnown {
		a.known, a.order, a.gfp = true, r.Order, r.GFP
	}
}

// builder makes incidents of facts. It only reads its configuration: the same facts make
// the same incident.
type builder struct{ cfg *Config }

// headline returns the incident of a pending OOM as far as it is known at its first
// victim.
func (b *builder) headline(p *pendingOOM) *events.Incident {
	v := p.victims[0]

	return &events.Incident{
		Envelope: b.envelope(events.KindIncident, v.kill.BootNS), ID: p.id, Scope: p.shortage.scope, Tier: p.tier,
		Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: b.process(v.kill.Target), Role: v.role}},
	}
}

// oomIncident returns the incident of an OOM invocation, or of several without a victim.
func (b *builder) oomIncident(f *facts) *events.Incident {
	passes := f.passes
	inc := &events.Incident{
		Envelope: b.envelope(events.KindIncident, f.timeNS),
		ID:       f.id,
		Scope:    cmp.Or(f.scopeOfReturn, f.shortage.scope),
		Outcome:  f.outcome,
		Tier:     f.tier,
		Passes:   &passes,
	}
	unknown := &oom.Unknowns{}
	unknown.Add(f.shortage.unsure...)

	if f.trigger != nil {
		inc.Trigger = new(b.process(*f.trigger))
	} else {
		unknown.Add("trigger")
	}

	inc.Limiter = b.limiter(f, unknown)

	if f.ancestryKnown {
		inc.Ladder = b.ancestry(f.ancestry, f.ancestryCut, f.shortage.limiter, unknown)
	} else {
		unknown.Add("ladder")
	}

	switch {
	case f.exiting != nil:
		inc.Exiting = new(b.process(*f.exiting))
	case f.outcome == events.OutcomeAlreadyExiting:
		unknown.Add("exiting")
	}

	if len(f.victims) > 0 {
		inc.Victims = b.victims(f, unknown)
		inc.Killer = b.killer(f)
		inc.Notes = notes(f)
	}

	inc.Allocation = b.allocation(&f.allocation, f.shortage.scope, unknown)

	if inc.Memory = b.memory(f.charge, f.limiter, unknown); inc.Memory == nil {
		unknown.Add("memory")
	}

	if b.cfg.ProcessesHidden {
		unknown.Add("candidates")
	}

	inc.Unknown = unknown.Names

	return inc
}

// userIncident returns the incident of SIGKILLs that the OOM killer did not send.
// ancestry is that of the first target, nil if it was not read.
func (b *builder) userIncident(kills []kernel.Kill, ancestry *kernel.TargetAncestry, killer *events.Killer) *events.Incident {
	first := kills[0]
	inc := &events.Incident{
		Envelope: b.envelope(events.KindIncident, first.BootNS), ID: b.cfg.incidentID(first.BootNS),
		Scope: events.ScopeUser, Outcome: events.OutcomeKilled, Tier: b.cfg.Tier, Killer: killer,
	}
	unknown := &oom.Unknowns{}

	if ancestry != nil {
		inc.Ladder = b.ancestry(ancestry.Ancestry, ancestry.AncestryCut, -1, unknown)
	} else {
		unknown.Add("ladder")
	}

	for _, k := range kills {
		inc.Victims = append(inc.Victims, b.victim(victim{kill: k}, unknown))
	}

	inc.Unknown = unknown.Names

	return inc
}

func notes(f *facts) (list []string) {
	switch {
	case !f.ancestryKnown:
		list = append(list, "the record of the kernel's decision was lost")
	case f.ancestryCut:
		list = append(list, "the memcg ancestry does not reach the root: the cgroups are nested too deeply")
	}

	if slices.ContainsFunc(f.victims, func(v victim) bool { return v.kill.Lost }) {
		list = append(list, "the record of a SIGKILL was lost: little is known of its victim, and others may be missing")
	}

	if note := f.choice().note(); note != "" {
		list = append(list, note)
	}

	return list
}

// limiter returns whose limit was hit, nil if that is unknown.
func (b *builder) limiter(f *facts, unknown *oom.Unknowns) *events.Limiter {
	switch {
	case f.limiter != nil:
		return b.memcgLimiter(f.limiter, unknown)
	case f.shortage.scope == events.ScopeGlobal, f.shortage.scope == events.ScopeSysrq:
		var l *events.Limiter

		if b.cfg.RAMBytes == 0 {
			l = oom.NodeLimiter(nil, nil, unknown)
		} else {
			l = oom.NodeLimiter(new(b.cfg.RAMBytes), new(b.cfg.SwapBytes), unknown)
		}

		b.protected(l, f.root().Protection, unknown)

		return l
	case f.shortage.ofNode():
		return oom.NUMALimiter(f.nodes, unknown)
	}

	unknown.Add("limiter")

	return nil
}

func (b *builder) memcgLimiter(memcg *kernel.Memcg, unknown *oom.Unknowns) *events.Limiter {
	cgroup, place := b.cgroup(memcg.Key)

	l := &events.Limiter{Level: levelOf(place), Which: "memory.max", Cgroup: &cgroup, Workload: place.Workload}

	if memcg.Memory.Known {
		l.UsageBytes, l.LimitBytes = b.bytes(memcg.Memory.Usage), b.limit(memcg.Memory.Max)
	} else {
		unknown.Add("limiter.usage_bytes", "limiter.limit_bytes")
	}

	if memcg.Swap.Known {
		l.SwapUsageBytes, l.SwapLimitBytes = b.bytes(memcg.Swap.Usage), b.limit(memcg.Swap.Max)
	} else {
		unknown.Add("limiter.swap_usage_bytes", "limiter.swap_limit_bytes")
	}

	if b.cfg.CgroupV1 {
		oom.V1Limiter(l, v1LimitFile(memcg))
	}

	unknown.Unless("limiter.which", l.Which != "")
	b.protected(l, memcg.Protection, unknown)

	return l
}

// root returns the root memcg, a zero one if it is not known.
func (f *facts) root() (root kernel.Memcg) {
	if n := len(f.ancestry); n > 0 && !f.ancestryCut {
		return f.ancestry[n-1]
	}

	return root
}

// protected sets how much of the usage below the limiter reclaim for its limit leaves
// alone. The limiter's own protection does not count then (mm/memcontrol.c:
// mem_cgroup_protection), and cgroup v1 has none.
func (b *builder) protected(l *events.Limiter, p kernel.Protection, unknown *oom.Unknowns) {
	switch {
	case b.cfg.CgroupV1:
	case !p.Known:
		unknown.Add("limiter.protected_min_bytes", "limiter.protected_low_bytes")
	default:
		l.ProtectedMinBytes, l.ProtectedLowBytes = b.protection(p.ChildrenMin), b.protection(p.ChildrenLow)
	}
}

// protection returns nil for no protection.
func (b *builder) protection(pages uint64) *uint64 {
	switch pages {
	case 0:
		return nil
	case kernel.NoLimit:
		return new(events.ProtectAll)
	}

	return b.bytes(pages)
}

// v1LimitFile returns which of the two limits of cgroup v1 was hit, "" if that is not
// known. Swap counts memory and swap together there.
func v1LimitFile(memcg *kernel.Memcg) string {
	if !memcg.Memory.Known || !memcg.Swap.Known {
		return ""
	}

	return oom.V1LimitFile(room(memcg.Memory), room(memcg.Swap))
}

// room returns how much may be charged to a counter. A charge that must not fail can
// take it over its limit (mm/memcontrol.c: try_charge, force).
func room(c kernel.Counter) uint64 {
	if c.Max == kernel.NoLimit {
		return oom.NoLimit
	}

	return c.Max - min(c.Usage, c.Max)
}

// ancestry returns the memcg ancestry, from the victim's up. The root has no limits and no
// counters of its own, so it is left out. limiter is the index of the owner of the
// limit, negative if it is none of them.
func (b *builder) ancestry(ancestry []kernel.Memcg, cut bool, limiter int, unknown *oom.Unknowns) []events.Rung {
	if n := len(ancestry); n > 0 && !cut {
		ancestry = ancestry[:n-1]
	}

	var ancestors []events.Rung

	for i := range ancestry {
		a := b.ancestor(&ancestry[i], unknown)
		a.Below = limiter > i
		ancestors = append(ancestors, a)
	}

	return ancestors
}

func (b *builder) ancestor(memcg *kernel.Memcg, unknown *oom.Unknowns) events.Rung {
	cgroup, place := b.cgroup(memcg.Key)
	a := events.Rung{Cgroup: cgroup, Level: levelOf(place), Workload: place.Workload}

	if m := memcg.Memory; m.Known {
		a.UsageBytes, a.MaxBytes, a.PeakBytes = b.bytes(m.Usage), b.limit(m.Max), b.bytes(m.Watermark)
		if !b.cfg.CgroupV1 {
			a.HighBytes = b.limit(m.High)
		}
	} else {
		unknown.Add("ladder.usage_bytes", "ladder.max_bytes", "ladder.high_bytes", "ladder.peak_bytes")
	}

	if s := memcg.Swap; s.Known {
		a.SwapUsageBytes, a.SwapMaxBytes = b.bytes(s.Usage), b.limit(s.Max)
		if b.cfg.CgroupV1 {
			a.MemswUsageBytes, a.MemswMaxBytes = a.SwapUsageBytes, a.SwapMaxBytes
		}
	} else {
		unknown.Add("ladder.swap_usage_bytes", "ladder.swap_max_bytes")
	}

	switch {
	case b.cfg.CgroupV1: // has no protection
	case memcg.Protection.Known:
		a.MinBytes, a.LowBytes = b.protection(memcg.Protection.Min), b.protection(memcg.Protection.Low)
	default:
		unknown.Add("ladder.min_bytes", "ladder.low_bytes")
	}

	switch {
	case b.cfg.CgroupV1: // has no memory.oom.group
	case memcg.OOMGroupKnown:
		a.OOMGroup = new(memcg.OOMGroup)
	default:
		unknown.Add("ladder.oom_group")
	}

	unknown.Unless("ladder.cgroup.path", cgroup.Path != "")

	return a
}

func (b *builder) victims(f *facts, unknown *oom.Unknowns) []events.Victim {
	list := make([]events.Victim, len(f.victims))
	choice := f.choice()

	for i, v := range f.victims {
		list[i] = b.victim(v, unknown)

		if v.role == events.RoleChosen {
			list[i].Points, list[i].ChosenBy = choice.points, choice.by
		}
	}

	unknown.Unless("victims.points", choice.points != nil)
	unknown.Unless("victims.released_after_ns", b.cfg.hooked()) // exit_mmap has no tracepoint

	return list
}

func (b *builder) victim(v victim, unknown *oom.Unknowns) events.Victim {
	k := v.kill
	out := events.Victim{Process: b.process(k.Target), Role: v.role}

	if k.Lost {
		unknown.Add("victims.oom_score_adj", "victims.uid", "victims.start_time", "victims.is_container_init")
	} else {
		out.OOMScoreAdj, out.UID = new(int(k.OOMScoreAdj)), new(k.UID)
		out.StartTime, out.IsContainerInit = new(b.cfg.WallClock(k.StartBootNS).UTC()), new(k.ContainerInit)
	}

	if k.MemoryKnown {
		out.AnonRSSBytes, out.FileRSSBytes, out.ShmemRSSBytes = b.bytes(k.AnonPages), b.bytes(k.FilePages), b.bytes(k.ShmemPages)
		out.SwapBytes, out.TotalVMBytes = b.bytes(k.SwapPages), b.bytes(k.TotalVMPages)
		out.PgtablesBytes = new(k.PgtablesBytes)
	} else {
		unknown.Add("victims.anon_rss_bytes", "victims.file_rss_bytes", "victims.shmem_rss_bytes",
			"victims.swap_bytes", "victims.total_vm_bytes", "victims.pgtables_bytes")
	}

	return out
}

func (b *builder) killer(f *facts) *events.Killer {
	if f.shortage.group < 0 {
		return oom.Killer(f.shortage.scope, nil, "")
	}

	cgroup, place := b.cgroup(f.ancestry[f.shortage.group].Key)

	return oom.Killer(f.shortage.scope, &cgroup, levelOf(place))
}

func (b *builder) allocation(a *allocation, scope events.Scope, unknown *oom.Unknowns) *events.Allocation {
	out := &events.Allocation{}

	if a.known {
		out.Order, out.GFP, out.GFPFlags = new(int(a.order)), new(a.gfp), oom.FlagNames(a.gfp)
	} else {
		unknown.Add("allocation.order", "allocation.gfp", "allocation.gfp_flags")
	}

	if a.totalPages != nil {
		out.TotalPages = new(*a.totalPages)
	} else {
		unknown.Add("allocation.total_pages")
	}

	if scope == events.ScopeSysrq {
		out.Class = "sysrq"
	} else {
		out.Class = b.class(a.stack)
	}

	unknown.Unless("allocation.class", out.Class != "")

	return out
}

// class returns the purpose of the allocation with that stack, "" if the stack does not
// show it or addresses have no names.
func (b *builder) class(stack []uint64) string {
	if b.cfg.Symbol == nil {
		return ""
	}

	return oom.Class(func(yield func(string) bool) {
		for _, address := range stack {
			if name, ok := b.cfg.Symbol(address); ok && !yield(name) {
				return
			}
		}
	})
}

// process returns a task with its cgroup and workload.
func (b *builder) process(t kernel.Task) events.Process {
	p := t.Process()

	if t.Cgroup.ID != 0 {
		cgroup, place := b.cgroup(t.Cgroup)
		p.Cgroup, p.Workload = &cgroup, place.Workload
	}

	return p
}

func (b *builder) cgroup(key events.CgroupKey) (events.Cgroup, resolve.Place) {
	place, path, _ := b.cfg.Cgroups.Place(key)
	return events.Cgroup{CgroupKey: key, Path: path}, place
}

// levelOf returns what a cgroup is: a plain one if its path is not known.
func levelOf(place resolve.Place) events.Level {
	if place.Level == "" {
		return events.LevelCgroup
	}

	return place.Level
}

func (b *builder) envelope(kind string, bootNS uint64) events.Envelope {
	return events.Envelope{
		V: events.Version, Kind: kind, Time: b.cfg.WallClock(bootNS).UTC(),
		BootID: b.cfg.BootID, Node: b.cfg.Node,
	}
}

func (b *builder) bytes(pages uint64) *uint64 {
	bytes := pages * b.cfg.PageSize
	return &bytes
}

// limit returns nil for a limit that is not set.
func (b *builder) limit(pages uint64) *uint64 {
	if pages == kernel.NoLimit {
		return nil
	}

	return b.bytes(pages)
}
