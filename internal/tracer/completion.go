// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// completion fills what an incident lacks from another source. It replaces nothing that the
// trace read: only keys that are named in unknown, or are concluded and named there.
type completion struct {
	inc     *events.Incident // as it is now
	change  *events.Incident
	unknown oom.Unknowns
	keys    []string // that were filled in
	notes   []string
}

func newCompletion(inc *events.Incident) *completion {
	return &completion{inc: inc, change: &events.Incident{ID: inc.ID}, unknown: oom.Unknowns{Names: slices.Clone(inc.Unknown)}}
}

// add returns the change with what was filled in from a source. afterNS is as in
// events.Completion.
func (c *completion) add(source string, afterNS *uint64) *events.Incident {
	if len(c.keys) > 0 {
		done := events.Completion{Source: source, Keys: c.keys, AfterNS: afterNS}
		c.change.CompletedFrom = append(slices.Clone(c.inc.CompletedFrom), done)
		c.change.Unknown = append([]string{}, c.unknown.Names...) // empty: all is known
	}

	if len(c.notes) > 0 {
		c.change.Notes = append(slices.Clone(c.inc.Notes), c.notes...)
	}

	return c.change
}

// fromLog returns what the kernel's own report of the same kill adds to an incident.
func fromLog(inc, log *events.Incident) *events.Incident {
	c := newCompletion(inc)

	if c.scope(log); c.agrees(log) {
		c.limiter(log)
		c.memory(log)
	}

	c.trigger(log)
	c.allocation(log)
	c.victims(log)

	if ofNode(c.scopeNow()) {
		c.change.NodeAtKill = log.NodeState
		c.nodeSize(log)
	}

	return c.add(events.SourceKernelLog, nil)
}

// statWithinNS is how long after a kill memory.stat is taken for that of the kill. A limit
// that is hit again and again fills up anew within some hundred milliseconds.
const statWithinNS = 100e6

// fromMemoryStat returns an incident's completion with memory.stat of its limiter, which was
// read after the kill. What the victims had may be gone by then, and others may have taken
// its place: the parts must still add up to the usage at the kill, and contain what the
// victims had.
func fromMemoryStat(inc *events.Incident, memory *events.Memory, afterNS uint64) *events.Incident {
	c := newCompletion(inc)

	if l := inc.Limiter; c.lacks("memory") && !c.lacks("limiter") && memory != nil && l != nil && l.UsageBytes != nil &&
		afterNS <= statWithinNS && oom.AddsUp(memory, *l.UsageBytes) && contains(memory, inc.Victims) {
		c.setMemory(memory)
	}

	return c.add(events.SourceMemoryStat, &afterNS)
}

// contains reports whether a charge can be one with the victims: each alone, since they may
// share memory. Parts of a victim that are not known count as gone.
func contains(memory *events.Memory, victims []events.Victim) bool {
	const slack = 4 << 20 // before 6.2 a part of a process's counts is kept in each thread

	return !slices.ContainsFunc(victims, func(v events.Victim) bool {
		return v.AnonRSSBytes == nil || *v.AnonRSSBytes > *memory.AnonBytes+slack ||
			v.ShmemRSSBytes == nil || *v.ShmemRSSBytes > *memory.ShmemBytes+slack
	})
}

func (c *completion) lacks(name string) bool { return c.unknown.Has(name) }

// fill notes that a key has its value from the source, and takes what is below it off the
// unknown keys.
func (c *completion) fill(key string) {
	c.keys = append(c.keys, key)
	c.unknown.Names = slices.DeleteFunc(c.unknown.Names, func(name string) bool { return isWithin(name, key) })
}

// take fills in a value that is missing and named as unknown.
func take[T any](c *completion, key string, to **T, from *T) {
	if *to == nil && from != nil && c.lacks(key) {
		*to = from

		c.fill(key)
	}
}

// adopt adds the keys below one that the source does not know either.
func (c *completion) adopt(source *events.Incident, key string) {
	for _, name := range source.Unknown {
		if name != key && isWithin(name, key) {
			c.unknown.Add(name)
		}
	}
}

// isWithin reports whether a name of unknown is a key or below it. The constraint is a part
// of the scope.
func isWithin(name, key string) bool {
	return name == key || strings.HasPrefix(name, key+".") || name == "constraint" && key == "scope"
}

// scope replaces a scope that was concluded, if the log is sure of it.
func (c *completion) scope(log *events.Incident) {
	if !isSure(log) || isSure(c.inc) {
		return
	}

	c.change.Scope = log.Scope
	c.fill("scope")
}

// isSure reports whether the scope of an incident was read, not concluded.
func isSure(inc *events.Incident) bool {
	return inc.Scope != "" && inc.Scope != events.ScopeUnknown && !slices.Contains(inc.Unknown, "scope") &&
		!slices.Contains(inc.Unknown, "constraint")
}

// scopeNow is the scope with the change.
func (c *completion) scopeNow() events.Scope { return cmp.Or(c.change.Scope, c.inc.Scope) }

// agrees reports whether the log has the same scope and limiter as far as the trace read
// them. If not, a note has both: one of the two is wrong, or they are of two kills.
func (c *completion) agrees(log *events.Incident) bool {
	if isSure(log) && log.Scope != c.scopeNow() {
		c.notes = append(c.notes, fmt.Sprintf("the kernel's log has scope %s for this kill, the trace saw %s", log.Scope, c.inc.Scope))
		return false
	}

	logged, seen := pathOf(log.Limiter), pathOf(c.inc.Limiter)
	if logged == "" || seen == "" || logged == seen || c.lacks("limiter") || c.change.Scope != "" {
		return isSure(log)
	}

	c.notes = append(c.notes, fmt.Sprintf("the kernel's log names the limit of %s for this kill, the trace saw that of %s", logged, seen))

	return false
}

func pathOf(l *events.Limiter) string {
	if l == nil || l.Cgroup == nil {
		return ""
	}

	return l.Cgroup.Path
}

// limiter fills in the limiter, the ancestry and the killer's way, which follow from each
// other.
func (c *completion) limiter(log *events.Incident) {
	if c.lacks("ladder") && len(c.inc.Ladder) == 0 && len(log.Ladder) > 0 {
		c.change.Ladder = slices.Clone(log.Ladder)
		c.fill("ladder")
		c.adopt(log, "ladder")

		all := true
		for i := range c.change.Ladder {
			all = c.identify(&c.change.Ladder[i].Cgroup) && all
		}

		c.identified("ladder", all)
	}

	changed := c.change.Scope != "" && c.change.Scope != c.inc.Scope
	if log.Limiter == nil || !changed && c.inc.Limiter != nil && !c.lacks("limiter") {
		c.limiterParts(log)
		return
	}

	l := *log.Limiter
	c.change.Limiter = &l
	c.fill("limiter")
	c.adopt(log, "limiter")

	if l.Cgroup != nil {
		own := *l.Cgroup
		c.identified("limiter", c.identify(&own))
		l.Cgroup = &own
	}

	at := c.placeOf(&l)
	if at >= 0 {
		r := &c.inc.Ladder[at]

		l.Level, l.Workload = r.Level, r.Workload
		l.UsageBytes, l.LimitBytes = cmp.Or(r.UsageBytes, l.UsageBytes), cmp.Or(r.MaxBytes, l.LimitBytes)

		l.SwapUsageBytes, l.SwapLimitBytes = cmp.Or(r.SwapUsageBytes, l.SwapUsageBytes), cmp.Or(r.SwapMaxBytes, l.SwapLimitBytes)
		if l.V1() {
			oom.V1Limiter(&l, l.Which)
		}

		for name, value := range map[string]*uint64{
			"limiter.usage_bytes": l.UsageBytes, "limiter.limit_bytes": l.LimitBytes,
			"limiter.swap_usage_bytes": l.SwapUsageBytes, "limiter.swap_limit_bytes": l.SwapLimitBytes,
		} {
			if value != nil {
				c.unknown.Set(name, true)
			}
		}
	}

	c.mark(at)
	c.killer(log, at)
}

// nodeSize replaces the node's RAM and swap, which the trace knows from its start, by those at the kill:
// memory may have been plugged in, and swap turned on, since.
func (c *completion) nodeSize(log *events.Incident) {
	now := cmp.Or(c.change.Limiter, c.inc.Limiter)
	if now == nil || log.Limiter == nil || now.Which != "node" || log.Limiter.Which != "node" {
		return
	}
	l, before := *now, len(c.keys)

	for key, size := range map[string]struct{ to, from **uint64 }{
		"limiter.limit_bytes":      {&l.LimitBytes, &log.Limiter.LimitBytes},
		"limiter.swap_limit_bytes": {&l.SwapLimitBytes, &log.Limiter.SwapLimitBytes},
	} {
		if *size.from != nil && *size.to != nil && **size.from != **size.to {
			*size.to = *size.from

			c.fill(key)
		}
	}

	if len(c.keys) > before {
		c.change.Limiter = &l
		slices.Sort(c.keys[before:])
	}
}

// limiterParts fills in the numbers of a limiter that is known.
func (c *completion) limiterParts(log *events.Incident) {
	if c.inc.Limiter == nil || log.Limiter == nil || pathOf(c.inc.Limiter) != pathOf(log.Limiter) {
		return
	}

	l, before := *c.inc.Limiter, len(c.keys)
	take(c, "limiter.usage_bytes", &l.UsageBytes, log.Limiter.UsageBytes)
	take(c, "limiter.limit_bytes", &l.LimitBytes, log.Limiter.LimitBytes)
	take(c, "limiter.swap_usage_bytes", &l.SwapUsageBytes, log.Limiter.SwapUsageBytes)
	take(c, "limiter.swap_limit_bytes", &l.SwapLimitBytes, log.Limiter.SwapLimitBytes)

	if c.lacks("limiter.nodes") && len(log.Limiter.Nodes) > 0 {
		l.Nodes = log.Limiter.Nodes

		c.fill("limiter.nodes")
	}

	if l.V1() {
		l.MemswUsageBytes, l.MemswLimitBytes = l.SwapUsageBytes, l.SwapLimitBytes
	}

	if len(c.keys) > before {
		c.change.Limiter = &l
	}
}

// identify completes a cgroup of the log, which has no id, if the trace saw it elsewhere:
// both name cgroups by the same paths.
func (c *completion) identify(logged *events.Cgroup) bool {
	seen := make([]*events.Cgroup, 0, len(c.inc.Ladder)+len(c.inc.Victims)+2)
	if c.inc.Limiter != nil {
		seen = append(seen, c.inc.Limiter.Cgroup)
	}

	if c.inc.Trigger != nil {
		seen = append(seen, c.inc.Trigger.Cgroup)
	}

	for i := range c.inc.Ladder {
		seen = append(seen, &c.inc.Ladder[i].Cgroup)
	}

	for i := range c.inc.Victims {
		seen = append(seen, c.inc.Victims[i].Cgroup)
	}

	i := slices.IndexFunc(seen, func(s *events.Cgroup) bool { return s != nil && s.ID != 0 && s.Path == logged.Path })
	if i >= 0 {
		logged.CgroupKey, logged.HierarchyUnknown = seen[i].CgroupKey, false
	}

	return i >= 0
}

// identified takes the ids of cgroups off the unknown keys, if all are known.
func (c *completion) identified(of string, all bool) {
	if all {
		c.unknown.Set(of+".cgroup.id", true)
		c.unknown.Set(of+".cgroup.hierarchy", true)
	}
}

// placeOf returns the index of the limiter in the ancestry that the trace read, -1 if it is
// not there.
func (c *completion) placeOf(l *events.Limiter) int {
	if l.Cgroup == nil {
		return -1
	}

	return slices.IndexFunc(c.inc.Ladder, func(r events.Rung) bool { return r.Cgroup.Path == l.Cgroup.Path })
}

// mark marks the ancestors below the limiter, none if it is not among them.
func (c *completion) mark(limiter int) {
	if len(c.inc.Ladder) == 0 {
		return
	}

	ladder := slices.Clone(c.inc.Ladder)
	for i := range ladder {
		ladder[i].Below = i < limiter
	}

	if !slices.EqualFunc(ladder, c.inc.Ladder, func(a, b events.Rung) bool { return a.Below == b.Below }) {
		c.change.Ladder = ladder
	}
}

// killer takes the way of the kill from the log. Whether it was a group kill follows from
// the ancestry, if that is known: the highest cgroup with memory.oom.group up to the
// limiter, or to the root (mm/memcontrol.c: mem_cgroup_get_oom_group). The log's line about
// the group may come later than the report.
func (c *completion) killer(log *events.Incident, limiter int) {
	k := log.Killer

	if ladder := c.inc.Ladder; len(ladder) > 0 {
		if limiter < 0 {
			limiter = len(ladder) - 1
		}

		k = oom.Killer(c.scopeNow(), nil, "")

		for i := limiter; i >= 0 && k.GroupCgroup == nil; i-- {
			if g := ladder[i].OOMGroup; g != nil && *g {
				k = oom.Killer(c.scopeNow(), &ladder[i].Cgroup, ladder[i].Level)
			}
		}
	}

	switch {
	case k == nil:
	case c.inc.Killer == nil, c.inc.Killer.Path != k.Path, c.inc.Killer.GroupLevel != k.GroupLevel:
		c.change.Killer = k
		c.fill("killer")

		if k == log.Killer {
			c.adopt(log, "killer")
		}
	}
}

// memory fills in the charge of the limiter, or those parts of it that are missing.
func (c *completion) memory(log *events.Incident) {
	if log.Memory == nil || pathOf(log.Limiter) != pathOf(cmp.Or(c.change.Limiter, c.inc.Limiter)) {
		return
	}

	if c.lacks("memory") && c.inc.Memory == nil {
		c.setMemory(log.Memory)
		return
	}

	if c.inc.Memory == nil {
		return
	}

	m, logged := *c.inc.Memory, *log.Memory
	from := oom.MemoryParts(&logged)

	for i, part := range oom.MemoryParts(&m) {
		if *part.Value == nil && *from[i].Value != nil && c.lacks(part.Name) {
			*part.Value = *from[i].Value
			c.change.Memory = &m
			c.fill(part.Name)
		}
	}
}

func (c *completion) setMemory(memory *events.Memory) {
	m := *memory
	c.change.Memory = &m
	c.fill("memory")

	for _, part := range oom.MemoryParts(&m) {
		c.unknown.Unless(part.Name, *part.Value != nil)
	}
}

func (c *completion) trigger(log *events.Incident) {
	if c.inc.Trigger == nil && log.Trigger != nil {
		c.change.Trigger = log.Trigger
		c.fill("trigger")
		c.adopt(log, "trigger")
	}
}

func (c *completion) allocation(log *events.Incident) {
	if log.Allocation == nil {
		return
	}

	var a events.Allocation
	if c.inc.Allocation != nil {
		a = *c.inc.Allocation
	}

	before, from := len(c.keys), log.Allocation
	take(c, "allocation.order", &a.Order, from.Order)
	take(c, "allocation.gfp", &a.GFP, from.GFP)

	if log.Scope == c.scopeNow() {
		take(c, "allocation.total_pages", &a.TotalPages, from.TotalPages)
	}

	if c.lacks("allocation.gfp_flags") && from.GFPFlags != nil {
		a.GFPFlags = from.GFPFlags

		c.fill("allocation.gfp_flags")
	}

	if c.lacks("allocation.class") && from.Class != "" {
		a.Class = from.Class

		c.fill("allocation.class")
	}

	if len(c.keys) > before {
		c.change.Allocation = &a
	}
}

// victimSizes are the sizes of a victim that a log can have.
func victimSizes(v *events.Victim) []oom.MemoryPart {
	return []oom.MemoryPart{
		{Name: "victims.anon_rss_bytes", Value: &v.AnonRSSBytes}, {Name: "victims.file_rss_bytes", Value: &v.FileRSSBytes},
		{Name: "victims.shmem_rss_bytes", Value: &v.ShmemRSSBytes}, {Name: "victims.swap_bytes", Value: &v.SwapBytes},
		{Name: "victims.total_vm_bytes", Value: &v.TotalVMBytes}, {Name: "victims.pgtables_bytes", Value: &v.PgtablesBytes},
	}
}

// victims fills in the sizes of victims, and the badness of the chosen one, which the
// builder of the log's incident computes from the table of tasks for each candidate.
func (c *completion) victims(log *events.Incident) {
	missing := make(map[string]bool) // keys that a victim lacks even now
	filled := make(map[string]bool)

	for _, v := range c.inc.Victims {
		var known events.Victim
		if i := slices.IndexFunc(log.Victims, func(l events.Victim) bool { return sameProcess(&v.Process, &l.Process) }); i >= 0 {
			known = log.Victims[i]
		}

		u := events.Victim{Process: v.Process}
		has, from, to := victimSizes(&v), victimSizes(&known), victimSizes(&u)
		changed := false

		for i, size := range has {
			switch {
			case *size.Value != nil:
			case *from[i].Value == nil:
				missing[size.Name] = true
			default:
				*to[i].Value, filled[size.Name], changed = *from[i].Value, true, true
			}
		}

		if v.Role == events.RoleChosen && v.Points == nil {
			i := slices.IndexFunc(log.Candidates, func(l events.Candidate) bool { return sameProcess(&v.Process, &l.Process) })
			if i >= 0 && log.Candidates[i].Points != nil {
				u.Points, filled["victims.points"], changed = log.Candidates[i].Points, true, true
			}
		}

		if changed {
			c.change.Victims = append(c.change.Victims, u)
		}
	}

	for _, name := range slices.Clone(c.unknown.Names) {
		if filled[name] && !missing[name] {
			c.fill(name)
		}
	}
}

// sameProcess reports whether the log names a process that the trace saw: the log may name a
// thread, by the name of the thread.
func sameProcess(seen, logged *events.Process) bool {
	return (seen.PID == logged.PID || seen.TID == logged.TID) &&
		(logged.Comm == seen.Comm || seen.Thread != "" && logged.Comm == seen.Thread)
}

// keepCompletion adjusts a change by the correlator, which does not know what was filled in:
// its lists of unknown keys and of notes are those of the trace alone.
func keepCompletion(change, inc *events.Incident) {
	if inc == nil {
		return
	}

	filled := func(name string) bool {
		return slices.ContainsFunc(inc.CompletedFrom, func(done events.Completion) bool {
			return slices.ContainsFunc(done.Keys, func(key string) bool { return isWithin(name, key) })
		})
	}

	if change.Unknown != nil && len(inc.CompletedFrom) > 0 {
		unknown := oom.Unknowns{Names: slices.DeleteFunc(slices.Clone(change.Unknown), filled)}

		for _, name := range inc.Unknown {
			if filled(name) {
				unknown.Add(name)
			}
		}

		change.Unknown = append([]string{}, unknown.Names...)
	}

	if change.Followed != nil { // the follow-up has found other kills that followed
		others := slices.DeleteFunc(slices.Clone(inc.Followed), func(c events.Consequence) bool { return c.ID == "" })
		change.Followed = append(slices.Clip(change.Followed), others...)
	}

	if change.Notes != nil {
		notes := oom.Unknowns{Names: slices.Clone(change.Notes)}
		notes.Add(inc.Notes...)
		change.Notes = notes.Names
	}
}
