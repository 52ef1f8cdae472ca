// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// limiterPath returns the cgroup whose limit was hit, "" if the log does not name it.
func (r *report) limiterPath() string {
	switch {
	case r.summary != nil && r.summary.oomMemcg != "":
		return r.summary.oomMemcg
	case r.limits.limitOf != "":
		return r.limits.limitOf
	case len(r.stats) > 0 && !r.stats[0].perCgroup:
		return r.stats[0].path
	}

	return ""
}

// statsOfLimiter reports whether the first statistics are those of the limiter, whose they are by
// their order where the log does not name them.
func (r *report) statsOfLimiter() bool {
	return len(r.stats) > 0 && (r.stats[0].path == r.limiterPath() || r.stats[0].path == "" && !r.stats[0].perCgroup)
}

// scope returns what ran out. If the log does not distinguish the node from some of its
// NUMA nodes, or from sysrq-f, it is the node, and "constraint" is unknown.
func (r *report) scope(page uint64, unknown *oom.Unknowns) events.Scope {
	switch {
	case r.isSysrq():
		return events.ScopeSysrq
	case r.ofProgram():
		return events.Scope(r.summary.constraint)
	case r.isMemcg, r.ofMemcg():
		return events.ScopeMemcg
	case r.summary != nil:
		return r.summaryScope(unknown)
	// "No killable process" is printed in the same words for a cgroup and for the node,
	// which panics then (mm/oom_kill.c: out_of_memory, from 4.19 on).
	case r.isNode || r.memInfo != nil || r.panicked != "":
		unknown.Unless("constraint", r.showsUnconstrained(page))
		return events.ScopeGlobal
	}

	unknown.Add("scope")

	return events.ScopeUnknown
}

// isSysrq reports whether sysrq-f asked for the kill: with order -1, since 4.3, or by its stack.
func (r *report) isSysrq() bool {
	return r.sysrqAsked || r.header != nil && r.header.order != nil && *r.header.order == -1 || r.stack.scope() == events.ScopeSysrq
}

// ofProgram reports whether a constraint that is none of the kernel's own led to the kill: a BPF
// program asked for it, without a limit that was reached.
func (r *report) ofProgram() bool {
	return r.summary != nil && r.summary.constraint != "" && !constraints[r.summary.constraint]
}

// summaryScope returns the scope in the summary. The cgroup that it names counts more than
// its constraint: 5.0 to 5.2 always print CONSTRAINT_NONE (oom_control.constraint was not
// set before 5.3).
func (r *report) summaryScope(unknown *oom.Unknowns) events.Scope {
	s := r.summary

	switch {
	case s.oomMemcg != "" || s.constraint == "CONSTRAINT_MEMCG":
		return events.ScopeMemcg
	case s.constraint == "CONSTRAINT_CPUSET":
		return events.ScopeCpuset
	case s.constraint == "CONSTRAINT_MEMORY_POLICY":
		return events.ScopeMempolicy
	}

	printed := r.release != "" && (versionBefore(r.release, 5, 0) || !versionBefore(r.release, 5, 3))
	if !s.global && !r.isNode && r.memInfo == nil && !(printed && s.constraint != "") {
		unknown.Add("scope")
		return events.ScopeUnknown
	}

	unknown.Unless("constraint", printed && r.showsOrder() && s.constraint != "")

	return events.ScopeGlobal
}

// showsUnconstrained reports whether a report without a summary shows that all NUMA nodes
// were allowed. 4.9 to 4.20 print the policy in the header, and leave the nodes that the
// cpuset does not allow out of Mem-Info.
func (r *report) showsUnconstrained(page uint64) bool {
	return r.showsOrder() && r.header.nodemask == "(null)" && r.memInfo != nil && r.memInfo.whole(page)
}

// showsOrder reports whether the header has the order, which is -1 for sysrq-f.
func (r *report) showsOrder() bool { return r.header != nil && r.header.order != nil }

// limiter sets whose limit was hit.
func (r *report) limiter(inc *events.Incident, page uint64, unknown *oom.Unknowns) {
	switch inc.Scope {
	case events.ScopeMemcg:
		r.memcgLimiter(inc, unknown)
	case events.ScopeGlobal, events.ScopeSysrq:
		var ram, swap *uint64

		if r.memInfo != nil {
			ram, swap = r.memInfo.total(page), r.memInfo.swapTotal
		}
		inc.Limiter = oom.NodeLimiter(ram, swap, unknown)
		r.protection(inc.Limiter, ram, unknown)
	case events.ScopeCpuset, events.ScopeMempolicy:
		inc.Limiter = oom.NUMALimiter(r.nodes(inc.Scope), unknown)
	default:
		unknown.Unless("limiter", r.ofProgram()) // then no limit was hit
	}
}

// nodes returns the NUMA nodes that were allowed, by the memory policy or by the cpuset.
func (r *report) nodes(scope events.Scope) []int {
	list := r.summary.mems
	if scope == events.ScopeMempolicy {
		list = r.summary.nodemask
	}

	return oom.NodeList(list)
}

// cgroupOf returns a cgroup of version 2 as a log has it: with a path, without an id.
func cgroupOf(path string) (*events.Cgroup, resolve.Place) {
	return &events.Cgroup{Path: path}, resolve.ParsePath(path)
}

// cgroupOf returns a cgroup of the report, which shows the hierarchy only of cgroup v2.
func (r *report) cgroupOf(path string) (*events.Cgroup, resolve.Place) {
	cgroup, place := cgroupOf(path)
	cgroup.HierarchyUnknown = r.limits.swap == nil

	return cgroup, place
}

// unidentified marks what no log has of a cgroup: its id, and its hierarchy unless the
// report is of cgroup v2.
func (r *report) unidentified(of string, unknown *oom.Unknowns) {
	unknown.Add(of + ".cgroup.id")

	if r.limits.swap == nil {
		unknown.Add(of + ".cgroup.hierarchy")
	}
}

func (r *report) memcgLimiter(inc *events.Incident, unknown *oom.Unknowns) {
	path := r.limiterPath()
	if path == "" && !r.limits.any() {
		unknown.Add("limiter")
		return
	}

	l := &events.Limiter{Which: r.limits.which()}
	inc.Limiter = l

	if path == "" {
		unknown.Add("limiter.cgroup", "limiter.level")
	} else {
		cgroup, place := r.cgroupOf(path)
		l.Level, l.Cgroup, l.Workload = place.Level, cgroup, place.Workload

		r.unidentified("limiter", unknown)
	}

	unknown.Unless("limiter.which", l.Which != "")
	set := func(c *counter, usage, limit **uint64, usageName, limitName string) {
		if c == nil {
			unknown.Add(limitName, usageName)
			return
		}

		if *usage = c.usage; c.usage == nil {
			unknown.Add(usageName)
		}

		if *limit = c.limit; c.limit == nil && !c.unlimited {
			unknown.Add(limitName)
		}
	}
	set(r.limits.memory, &l.UsageBytes, &l.LimitBytes, "limiter.usage_bytes", "limiter.limit_bytes")
	set(cmp.Or(r.limits.memsw, r.limits.swap), &l.SwapUsageBytes, &l.SwapLimitBytes, "limiter.swap_usage_bytes", "limiter.swap_limit_bytes")

	if r.limits.memsw == nil {
		r.protection(l, l.UsageBytes, unknown)
		return
	}

	// cgroup v1 protects nothing.
	oom.V1Limiter(l, l.Which)
	unknown.Unless("limiter.memsw_usage_bytes", l.MemswUsageBytes != nil)
	unknown.Unless("limiter.memsw_limit_bytes", !unknown.Has("limiter.swap_limit_bytes"))
}

// protection sets what is protected below the limiter. That is part of its usage, so no
// more than used.
func (r *report) protection(l *events.Limiter, used *uint64, unknown *oom.Unknowns) {
	for _, p := range []struct {
		name  string
		to    **uint64
		bytes func(*protection) uint64
	}{
		{"limiter.protected_min_bytes", &l.ProtectedMinBytes, func(p *protection) uint64 { return p.min }},
		{"limiter.protected_low_bytes", &l.ProtectedLowBytes, func(p *protection) uint64 { return p.low }},
	} {
		switch {
		case r.protected == nil, used != nil && p.bytes(r.protected) > *used:
			unknown.Add(p.name)
		case p.bytes(r.protected) > 0:
			*p.to = new(p.bytes(r.protected))
		}
	}
}

// which returns the file of the limit, "" if it is unknown: in cgroup v1 there are two.
func (l *limits) which() string {
	switch {
	case l.swap != nil:
		return "memory.max"
	case l.memsw == nil || l.memory == nil || l.memory.usage == nil || l.memsw.usage == nil:
		return ""
	case l.memory.limit == nil && !l.memory.unlimited, l.memsw.limit == nil && !l.memsw.unlimited:
		return ""
	}

	memory, memsw := l.memory.room(), l.memsw.room()
	if memory == memsw {
		a, b := l.memory.failures, l.memsw.failures

		switch {
		case a == nil || b == nil:
			return ""
		case *a > 0 && *b == 0:
			memsw = oom.NoLimit // old kernels charged memory first (3.10: mem_cgroup_do_charge)
		}
	}

	return oom.V1LimitFile(memory, memsw)
}

func (c *counter) room() uint64 {
	if c.limit == nil {
		return oom.NoLimit
	}

	return *c.limit - min(*c.usage, *c.limit)
}

// taskMemcg returns the cgroup of the chosen task, "" if it is unknown. The summary does not
// delimit it from the task's name: its end is certain only if the name is known from another
// line, or if there is only one way to read it.
func (r *report) taskMemcg() string {
	if r.summary == nil {
		return r.limits.taskIn
	}

	for _, k := range slices.Concat(r.kills, r.exiting) {
		if k.comm == "" || k.pid != r.summary.pid {
			continue
		}

		if path, ok := strings.CutSuffix(r.summary.tail, ",task="+k.comm); ok {
			return path
		}
	}

	path, _ := r.summary.task()

	return path
}

// task returns the cgroup and the name of the chosen task, "" if it is ambiguous where the path
// ends and the name begins.
func (sum *summary) task() (path, comm string) {
	if strings.Count(sum.tail, ",task=") != 1 {
		return "", ""
	}

	path, comm, _ = strings.Cut(sum.tail, ",task=")

	return path, comm
}

// ancestry sets the memcg ancestry as far as the log names it: from the victim's cgroup up to
// the limiter.
func (r *report) ancestry(inc *events.Incident, unknown *oom.Unknowns) {
	if inc.Scope != events.ScopeMemcg || inc.Limiter == nil || inc.Limiter.Cgroup == nil {
		unknown.Add("ladder")
		return
	}
	top := inc.Limiter.Cgroup.Path

	task := r.taskMemcg()
	if task == "" || !within(task, top) {
		task = top
	}

	for at := task; len(at) > len(top) && len(inc.Ladder) < 64; at = at[:max(strings.LastIndexByte(at, '/'), len(top))] {
		cgroup, place := r.cgroupOf(at)
		ancestor := events.Rung{Cgroup: *cgroup, Level: place.Level, Workload: place.Workload, Below: true}
		inc.Ladder = append(inc.Ladder, ancestor)

		unknown.Add("ladder.usage_bytes", "ladder.max_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes")

		if r.limits.memsw != nil {
			unknown.Add("ladder.memsw_usage_bytes", "ladder.memsw_max_bytes")
		}
	}
	l := inc.Limiter

	rung := events.Rung{
		Cgroup: *l.Cgroup, Level: l.Level, Workload: l.Workload,
		SwapUsageBytes: l.SwapUsageBytes, SwapMaxBytes: l.SwapLimitBytes,
		MemswUsageBytes: l.MemswUsageBytes, MemswMaxBytes: l.MemswLimitBytes,
	}
	if m := r.limits.memory; m != nil {
		rung.UsageBytes, rung.MaxBytes = m.usage, m.limit
	}

	inc.Ladder = append(inc.Ladder, rung)
	for i := range inc.Ladder {
		if r.group != "" && inc.Ladder[i].Cgroup.Path == r.group {
			inc.Ladder[i].OOMGroup = new(true)
		}
	}

	for _, name := range []string{
		"usage_bytes", "limit_bytes", "swap_usage_bytes", "swap_limit_bytes", "memsw_usage_bytes", "memsw_limit_bytes",
	} {
		if unknown.Has("limiter." + name) {
			unknown.Add("ladder." + strings.Replace(name, "limit", "max", 1))
		}
	}

	r.unidentified("ladder", unknown)
	unknown.Add("ladder.high_bytes", "ladder.peak_bytes", "ladder.oom_group")

	if r.limits.memsw == nil { // cgroup v1 has no protection
		unknown.Add("ladder.min_bytes", "ladder.low_bytes")
	}
}

// totalPages returns what could be used at most (mm/oom_kill.c: constrained_alloc), nil if
// it is unknown. For a memcg that may swap, the node's swap counts, which its report does not
// have. For a cpuset or a memory policy it is the memory of its nodes, and the report does
// not show whether it has all their zones.
func (r *report) totalPages(inc *events.Incident, page uint64, unknown *oom.Unknowns) *uint64 {
	var total *uint64

	sure := !unknown.Has("constraint")
	switch {
	case !sure:
	case inc.Scope == events.ScopeMemcg:
		l := &r.limits

		noSwap := l.swap != nil && l.swap.limit != nil && *l.swap.limit == 0 ||
			l.memsw != nil && l.memsw.limit != nil && l.memory != nil && l.memory.limit != nil && *l.memsw.limit == *l.memory.limit
		if noSwap && l.memory != nil && l.memory.limit != nil {
			total = new(*l.memory.limit / page)
		}
	case r.memInfo == nil || r.memInfo.swapTotal == nil:
	case inc.Scope == events.ScopeGlobal || inc.Scope == events.ScopeSysrq:
		if m := r.memInfo; m.ram != nil && m.reserved != nil && *m.reserved <= *m.ram {
			total = new(*m.ram - *m.reserved + *m.swapTotal/page)
		}
	}

	return total
}

// likelyPages returns a stand-in for totalPages that is good enough to sort candidates.
func (r *report) likelyPages(inc *events.Incident, total *uint64, page uint64) uint64 {
	switch {
	case total != nil:
		return *total
	case inc.Scope == events.ScopeMemcg && r.limits.memory != nil && r.limits.memory.limit != nil:
		return *r.limits.memory.limit / page
	case r.memInfo != nil && r.memInfo.ram != nil:
		return min(*r.memInfo.ram, 1<<44)
	}

	return 0
}
