// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/allocation"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// unknowns collects names of what the log does not say, each once.
type unknowns struct{ names []string }

func (u *unknowns) add(names ...string) {
	for _, name := range names {
		if !slices.Contains(u.names, name) {
			u.names = append(u.names, name)
		}
	}
}

// unless names what is not known.
func (u *unknowns) unless(name string, known bool) {
	if !known {
		u.add(name)
	}
}

// incident makes the incident of a report.
func (p *Parser) incident(r *report) *events.Incident {
	unknown := &unknowns{}
	inc := p.kernelIncident(r, unknown)
	inc.Unknown = unknown.names
	p.seal(r, inc)
	return inc
}

// seal adds what all incidents have.
func (p *Parser) seal(r *report, inc *events.Incident) {
	unknown := &unknowns{names: slices.Clone(inc.Unknown)}
	at := r.first
	if len(r.kills) > 0 && r.killTime.line > 0 {
		at = r.killTime
	}
	inc.Envelope = p.envelope(events.KindIncident, at, unknown)
	inc.Tier = events.TierKernelLog
	if inc.Log == nil {
		inc.Log = &events.Log{}
	}
	inc.Log.FirstLine, inc.Log.LastLine = r.first.line, r.last.line
	if at.uptime {
		inc.Log.UptimeNS = pointer(at.uptimeNS)
	}
	inc.Unknown = unknown.names
	inc.ID = p.id(inc, at)
}

func (p *Parser) envelope(kind string, at record, unknown *unknowns) events.Envelope {
	e := events.Envelope{V: events.Version, Kind: kind, BootID: cmp.Or(at.boot, p.opt.BootID), Node: cmp.Or(at.host, p.opt.Node)}
	switch {
	case !at.wall.IsZero():
		e.Time = at.wall.UTC()
	case at.uptime && !p.opt.BootTime.IsZero():
		e.Time = p.opt.BootTime.Add(time.Duration(at.uptimeNS)).UTC()
	default:
		e.Time = time.Unix(0, int64(at.uptimeNS)).UTC()
		unknown.add("time")
	}
	return e
}

// id is made of when it was, as exactly as the log has it, and of who died. So the
// same log gives the same ids, and those of a live trace are others.
func (p *Parser) id(inc *events.Incident, at record) string {
	h := sha256.New()
	when := at.wall.UTC().Format(time.RFC3339Nano)
	if at.uptime {
		when = strconv.FormatUint(at.uptimeNS/1000, 10)
	}
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00%s\x00", inc.BootID, inc.Node, when, inc.Scope, inc.Outcome)
	if inc.Trigger != nil {
		fmt.Fprintf(h, "trigger\x00%d\x00%s\x00", inc.Trigger.TID, inc.Trigger.Comm)
	}
	if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
		fmt.Fprintf(h, "limiter\x00%s\x00", inc.Limiter.Cgroup.Path)
	}
	for _, v := range inc.Victims {
		fmt.Fprintf(h, "victim\x00%d\x00%s\x00", v.PID, v.Comm)
	}
	id := "log-" + hex.EncodeToString(h.Sum(nil)[:8])
	if len(p.ids) >= 1<<16 {
		clear(p.ids)
	}
	p.ids[id]++
	if n := p.ids[id]; n > 1 { // a log without times
		return fmt.Sprintf("%s-%d", id, n)
	}
	return id
}

func (p *Parser) kernelIncident(r *report, unknown *unknowns) *events.Incident {
	inc := &events.Incident{Log: &events.Log{Panic: r.panicked != ""}}
	page := r.pageBytes(p.opt.PageSizeBytes)
	inc.Outcome, inc.Passes = r.outcome()
	if inc.Outcome == "" {
		unknown.add("outcome", "victims", "passes")
	}
	inc.Scope = r.scope(page, unknown)
	r.limiter(inc, page, unknown)
	r.ladder(inc, unknown)
	r.trigger(inc, unknown)
	inc.Victims = r.victims(page, unknown)
	inc.Killer = r.killer(inc.Scope)
	total := r.totalPages(inc, page, unknown)
	r.allocation(inc, total, unknown)
	if inc.Memory = r.memory(); inc.Memory == nil || !r.statsOfLimiter() {
		inc.Memory = nil
		unknown.add("memory")
	} else {
		m := inc.Memory
		unknown.unless("memory.slab_bytes", m.SlabBytes != nil)
		unknown.unless("memory.kernel_stack_bytes", m.KernelStackBytes != nil)
		unknown.unless("memory.pagetables_bytes", m.PagetablesBytes != nil)
		unknown.unless("memory.sock_bytes", m.SockBytes != nil)
	}
	if len(r.tasks) > 0 {
		inc.Candidates = r.candidates(page, total, r.likelyPages(inc, total, page))
	} else {
		unknown.add("candidates")
	}
	if r.memInfo != nil {
		inc.NodeState = r.memInfo.state(page, r.slabs)
	} else {
		unknown.add("node_state")
	}
	r.remarks(inc)
	return inc
}

// pageBytes is the kernel's page size: of the free lists, or of the victim, whose
// address space is in the log in pages and in kB.
func (r *report) pageBytes(otherwise int) uint64 {
	if r.memInfo != nil && r.memInfo.pageBytes != 0 {
		return r.memInfo.pageBytes
	}
	for _, k := range r.kills {
		i, ok := r.pids[k.pid]
		if !ok || k.totalVM == nil || r.tasks[i].totalVM == 0 {
			continue
		}
		size := *k.totalVM / r.tasks[i].totalVM
		if *k.totalVM%r.tasks[i].totalVM == 0 && size >= 4096 && size <= 1<<18 && bits.OnesCount64(size) == 1 {
			return size
		}
	}
	if r.memInfo != nil || len(r.tasks) > 0 {
		r.note(fmt.Sprintf("the page size is taken to be %d bytes", otherwise))
	}
	return uint64(otherwise)
}

func (r *report) outcome() (events.Outcome, *events.Passes) {
	switch {
	case slices.ContainsFunc(r.kills, func(k kill) bool { return !k.shares }):
		return events.OutcomeKilled, &events.Passes{Killed: 1}
	case r.noKillable:
		return events.OutcomeNoKillable, &events.Passes{NoKillable: 1}
	case r.panicked != "":
		return events.OutcomePanic, nil
	case len(r.exiting) > 0:
		return events.OutcomeAlreadyExiting, &events.Passes{AlreadyExiting: 1}
	}
	return "", nil
}

// limiterPath is the cgroup whose limit was hit, as far as it is named.
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

func (r *report) statsOfLimiter() bool {
	return len(r.stats) > 0 && r.stats[0].path == r.limiterPath()
}

// scope is what ran out. The cgroup that the summary names counts more than its
// constraint: 5.0 to 5.2 print CONSTRAINT_NONE always (oom_control.constraint was
// not set before 5.3). Where the log cannot tell the node from some of its NUMA
// nodes, or from sysrq-f, it is the node, and "constraint" is in unknown.
func (r *report) scope(page uint64, unknown *unknowns) events.Scope {
	if r.header != nil && r.header.order != nil && *r.header.order == -1 || r.sysrqAsked {
		return events.ScopeSysrq
	}
	memcg := r.isMemcg || r.ofMemcg()
	if s := r.summary; s != nil {
		switch {
		case s.oomMemcg != "" || s.constraint == "CONSTRAINT_MEMCG":
			return events.ScopeMemcg
		case memcg:
			return events.ScopeMemcg
		case !s.global:
			unknown.add("constraint")
			return events.ScopeGlobal
		case s.constraint == "CONSTRAINT_CPUSET":
			return events.ScopeCpuset
		case s.constraint == "CONSTRAINT_MEMORY_POLICY":
			return events.ScopeMempolicy
		case s.constraint != "CONSTRAINT_NONE":
			return events.Scope(s.constraint)
		}
		unset := r.release != "" && !versionBefore(r.release, 5, 0) && versionBefore(r.release, 5, 3)
		if unset || r.header == nil || r.header.order == nil || r.release == "" {
			unknown.add("constraint")
		}
		return events.ScopeGlobal
	}
	switch {
	case memcg:
		return events.ScopeMemcg
	case r.isNode || r.memInfo != nil || r.noKillable || r.panicked != "":
		// 4.9 to 4.20 show the policy in the header, and leave out of Mem-Info the
		// nodes that the cpuset does not allow.
		if r.header == nil || r.header.order == nil || r.header.nodemask != "(null)" || r.memInfo == nil || !r.memInfo.whole(page) {
			unknown.add("constraint")
		}
		return events.ScopeGlobal
	}
	unknown.add("scope")
	return events.ScopeUnknown
}

func (r *report) limiter(inc *events.Incident, page uint64, unknown *unknowns) {
	switch inc.Scope {
	case events.ScopeMemcg:
		r.memcgLimiter(inc, unknown)
	case events.ScopeGlobal, events.ScopeSysrq:
		inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}
		if r.memInfo != nil {
			state := r.memInfo.state(page, nil)
			inc.Limiter.LimitBytes, inc.Limiter.SwapLimitBytes = state.TotalBytes, state.SwapTotalBytes
		}
		unknown.unless("limiter.limit_bytes", inc.Limiter.LimitBytes != nil)
		unknown.unless("limiter.swap_limit_bytes", inc.Limiter.SwapLimitBytes != nil)
		unknown.add("limiter.usage_bytes", "limiter.swap_usage_bytes")
	case events.ScopeCpuset, events.ScopeMempolicy:
		inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "numa_nodes"}
		unknown.add("limiter.limit_bytes", "limiter.usage_bytes")
		if inc.Limiter.Nodes = r.nodes(inc.Scope); inc.Limiter.Nodes == nil {
			unknown.add("limiter.nodes")
		}
	default:
		unknown.add("limiter")
	}
}

// nodes are the NUMA nodes that were allowed: of the policy, or of the cpuset.
func (r *report) nodes(scope events.Scope) []int {
	list := r.summary.mems
	if scope == events.ScopeMempolicy {
		list = r.summary.nodemask
	}
	return nodeList(list)
}

// nodeList reads "0-1,3"; nil if it is none.
func nodeList(s string) []int {
	var nodes []int
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b > 1<<14 || len(nodes)+b-a > 1<<10 {
			return nil
		}
		for n := a; n <= b; n++ {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// cgroupOf is a cgroup of a log: it has a path, and no id.
func cgroupOf(path string) (*events.Cgroup, resolve.Place) {
	return &events.Cgroup{Path: path}, resolve.ParsePath(path)
}

func (r *report) memcgLimiter(inc *events.Incident, unknown *unknowns) {
	path := r.limiterPath()
	if path == "" {
		unknown.add("limiter")
		return
	}
	cgroup, place := cgroupOf(path)
	l := &events.Limiter{Level: place.Level, Cgroup: cgroup, Workload: place.Workload}
	inc.Limiter = l
	unknown.add("limiter.cgroup.id")
	if r.limits.swap == nil {
		unknown.add("limiter.cgroup.hierarchy") // of cgroup v1, or not known which
	}
	if l.Which = r.limits.which(); l.Which == "" {
		unknown.add("limiter.which")
	}
	set := func(c *counter, usage, limit **uint64, usageName, limitName string) {
		if c == nil {
			unknown.add(limitName, usageName)
			return
		}
		if *usage = c.usage; c.usage == nil {
			unknown.add(usageName)
		}
		if *limit = c.limit; c.limit == nil && !c.unlimited {
			unknown.add(limitName)
		}
	}
	set(r.limits.memory, &l.UsageBytes, &l.LimitBytes, "limiter.usage_bytes", "limiter.limit_bytes")
	set(cmp.Or(r.limits.memsw, r.limits.swap), &l.SwapUsageBytes, &l.SwapLimitBytes, "limiter.swap_usage_bytes", "limiter.swap_limit_bytes")
}

// which tells the file of the limit: in cgroup v1 the one of two with less room.
func (l *limits) which() string {
	switch {
	case l.swap != nil:
		return "memory.max"
	case l.memsw == nil || l.memory == nil || l.memory.usage == nil || l.memsw.usage == nil:
		return ""
	case l.memory.limit == nil && !l.memory.unlimited, l.memsw.limit == nil && !l.memsw.unlimited:
		return ""
	case l.memsw.room() < l.memory.room():
		return "memory.memsw.limit_in_bytes"
	}
	return "memory.limit_in_bytes"
}

func (c *counter) room() uint64 {
	if c.limit == nil {
		return 1 << 63
	}
	return *c.limit - min(*c.usage, *c.limit)
}

// taskMemcg is the cgroup of the task that was chosen. Its end, where the task's
// name begins, is sure only if the name is known from elsewhere, or there is only
// one way to read it.
func (r *report) taskMemcg() string {
	if r.summary == nil {
		return r.limits.taskIn
	}
	tail := r.summary.tail
	for _, k := range slices.Concat(r.kills, r.exiting) {
		if path, ok := strings.CutSuffix(tail, ",task="+k.comm); ok && len(r.kills)+len(r.exiting) > 0 && k.pid == r.summary.pid {
			return path
		}
	}
	if strings.Count(tail, ",task=") == 1 {
		path, _, _ := strings.Cut(tail, ",task=")
		return path
	}
	return ""
}

// ladder holds what the log names: the limiter, and the cgroups from the victim's
// up to it.
func (r *report) ladder(inc *events.Incident, unknown *unknowns) {
	if inc.Scope != events.ScopeMemcg || inc.Limiter == nil {
		unknown.add("ladder")
		return
	}
	top := inc.Limiter.Cgroup.Path
	task := r.taskMemcg()
	if task == "" || !within(task, top) {
		task = top
	}
	for at := task; len(at) > len(top) && len(inc.Ladder) < 64; at = at[:max(strings.LastIndexByte(at, '/'), len(top))] {
		cgroup, place := cgroupOf(at)
		rung := events.Rung{Cgroup: *cgroup, Level: place.Level, Workload: place.Workload, Below: true}
		inc.Ladder = append(inc.Ladder, rung)
		unknown.add("ladder.usage_bytes", "ladder.max_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes")
	}
	l := inc.Limiter
	inc.Ladder = append(inc.Ladder, events.Rung{
		Cgroup: *l.Cgroup, Level: l.Level, Workload: l.Workload, UsageBytes: l.UsageBytes, MaxBytes: l.LimitBytes,
		SwapUsageBytes: l.SwapUsageBytes, SwapMaxBytes: l.SwapLimitBytes,
	})
	for i := range inc.Ladder {
		if r.group != "" && inc.Ladder[i].Cgroup.Path == r.group {
			inc.Ladder[i].OOMGroup = pointer(true)
		}
	}
	for _, name := range []string{"usage_bytes", "limit_bytes", "swap_usage_bytes", "swap_limit_bytes"} {
		if slices.Contains(unknown.names, "limiter."+name) {
			unknown.add("ladder." + strings.Replace(name, "limit", "max", 1))
		}
	}
	unknown.add("ladder.cgroup.id", "ladder.high_bytes", "ladder.peak_bytes", "ladder.oom_group")
}

func (r *report) trigger(inc *events.Incident, unknown *unknowns) {
	if r.header == nil {
		unknown.add("trigger")
		return
	}
	t := &events.Process{Comm: r.header.comm}
	inc.Trigger = t
	unknown.add("trigger.cgroup")
	if r.task == nil {
		unknown.add("trigger.pid", "trigger.tid")
		return
	}
	t.TID = r.task.tid
	// The log has the thread's id. The table tells the process, if it shows that
	// thread: it has one line for each process, mostly of its leader.
	// Else the thread is taken for the process, and "trigger.pid" is in unknown.
	t.PID = t.TID
	if i, ok := r.pids[t.TID]; ok {
		t.PID = r.tasks[i].tgid
	} else if t.TID != 1 {
		unknown.add("trigger.pid")
	}
}

func (r *report) victims(page uint64, unknown *unknowns) []events.Victim {
	var list []events.Victim
	if len(r.kills) == 0 {
		return nil
	}
	path := r.taskMemcg()
	announced := r.chosenOf()
	for i, k := range r.kills {
		v := events.Victim{Process: events.Process{PID: k.pid, TID: k.pid, Comm: k.comm}, Role: events.RoleUnknown}
		row := -1
		if at, ok := r.pids[k.pid]; ok {
			row = at
			v.PID = r.tasks[row].tgid
		}
		switch {
		case k.shares:
			v.Role = events.RoleSharedMM
		case announced != 0 && (k.pid == announced || v.PID == announced):
			v.PID, v.Role = announced, events.RoleChosen
		case r.summary == nil && r.chosen != nil && i == 0:
			v.Role = events.RoleChild
		case r.group != "" && (announced != 0 || i > 0 && r.chosenFirst):
			v.Role = events.RoleGroup
		case r.group != "" && i == 0 && r.chosenFirst:
			v.Role = events.RoleChosen
		default:
			unknown.add("victims.role")
		}
		if v.Role == events.RoleChosen && path != "" {
			cgroup, place := cgroupOf(path)
			v.Cgroup, v.Workload = cgroup, place.Workload
			unknown.add("victims.cgroup.id")
		} else {
			unknown.add("victims.cgroup")
			if r.group != "" { // it is there or below
				_, place := cgroupOf(r.group)
				v.Workload = place.Workload
			}
		}
		v.TotalVMBytes, v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes = k.totalVM, k.anon, k.file, k.shmem
		v.UID, v.OOMScoreAdj = k.uid, k.adj
		if s := r.summary; v.UID == nil && s != nil && s.pid != 0 && s.pid == v.PID && s.uid >= 0 {
			v.UID = pointer(uint32(s.uid))
		}
		v.PgtablesBytes = r.pgtables(k, row, page)
		if row >= 0 {
			t := &r.tasks[row]
			v.SwapBytes = pointer(min(t.swap, 1<<44) * page)
			if v.UID == nil {
				v.UID = pointer(t.uid)
			}
			if v.OOMScoreAdj == nil {
				v.OOMScoreAdj = pointer(t.adj)
			}
		}
		unknown.unless("victims.anon_rss_bytes", v.AnonRSSBytes != nil)
		unknown.unless("victims.file_rss_bytes", v.FileRSSBytes != nil)
		unknown.unless("victims.shmem_rss_bytes", v.ShmemRSSBytes != nil)
		unknown.unless("victims.swap_bytes", v.SwapBytes != nil)
		unknown.unless("victims.total_vm_bytes", v.TotalVMBytes != nil)
		unknown.unless("victims.pgtables_bytes", v.PgtablesBytes != nil)
		unknown.unless("victims.oom_score_adj", v.OOMScoreAdj != nil)
		unknown.unless("victims.uid", v.UID != nil)
		list = append(list, v)
	}
	unknown.add("victims.points", "victims.start_time", "victims.is_container_init", "victims.exit_after_ns", "victims.released_after_ns")
	return list
}

// pgtables are a victim's page tables. 5.4 and 5.5 print bytes and call them kB;
// the table tells, and without it a number that could be either is not believed.
func (r *report) pgtables(k kill, row int, page uint64) *uint64 {
	if row >= 0 && k.pgtable == nil && r.tasks[row].pgtablePages != nil && *r.tasks[row].pgtablePages < 1<<40 {
		return pointer(*r.tasks[row].pgtablePages * page)
	}
	if row >= 0 && r.tasks[row].pgtableLen != nil {
		if k.pgtable == nil || *k.pgtable>>10 == *r.tasks[row].pgtableLen {
			return r.tasks[row].pgtableLen
		}
		return k.pgtable
	}
	if k.pgtable != nil && *k.pgtable>>10 >= 4096 && (*k.pgtable>>10)%4096 == 0 {
		return nil
	}
	return k.pgtable
}

func (r *report) killer(scope events.Scope) *events.Killer {
	k := &events.Killer{Kind: "kernel", Path: "global"}
	switch scope {
	case events.ScopeMemcg:
		k.Path = "memcg"
	case events.ScopeSysrq:
		k.Path = "sysrq"
	case events.ScopeUnknown:
		k.Path = "unknown"
	}
	if r.group != "" {
		cgroup, place := cgroupOf(r.group)
		k.Path, k.GroupCgroup, k.GroupLevel = "group", cgroup, place.Level
	}
	return k
}

// totalPages is what could be used at most (mm/oom_kill.c: constrained_alloc). For
// a memcg that may swap, the node's swap counts, which its report does not have.
// For a cpuset or a policy it is what its nodes have; the report does not show
// whether all their zones are there.
func (r *report) totalPages(inc *events.Incident, page uint64, unknown *unknowns) *uint64 {
	var total *uint64
	sure := !slices.Contains(unknown.names, "constraint")
	switch {
	case !sure:
	case inc.Scope == events.ScopeMemcg:
		l := &r.limits
		noSwap := l.swap != nil && l.swap.limit != nil && *l.swap.limit == 0 ||
			l.memsw != nil && l.memsw.limit != nil && l.memory != nil && l.memory.limit != nil && *l.memsw.limit == *l.memory.limit
		if noSwap && l.memory != nil && l.memory.limit != nil {
			total = pointer(*l.memory.limit / page)
		}
	case r.memInfo == nil || r.memInfo.swapTotal == nil:
	case inc.Scope == events.ScopeGlobal || inc.Scope == events.ScopeSysrq:
		if m := r.memInfo; m.ram != nil && m.reserved != nil && *m.reserved <= *m.ram {
			total = pointer(*m.ram - *m.reserved + *m.swapTotal/page)
		}
	}
	return total
}

// likelyPages stands in for totalPages to sort the candidates.
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

func (r *report) allocation(inc *events.Incident, total *uint64, unknown *unknowns) {
	a := &events.Allocation{TotalPages: total}
	if total == nil {
		unknown.add("allocation.total_pages")
	}
	if r.header == nil {
		unknown.add("allocation.order", "allocation.gfp", "allocation.gfp_flags", "allocation.class")
		if total != nil {
			inc.Allocation = a
		}
		return
	}
	inc.Allocation = a
	a.Order, a.GFP, a.GFPFlags = r.header.order, r.header.gfp, r.header.flags
	switch {
	case inc.Scope == events.ScopeSysrq:
		a.Class = "sysrq"
	case r.traced:
		a.Class = allocation.Class(slices.Values(r.frames))
	}
	unknown.unless("allocation.order", a.Order != nil)
	unknown.unless("allocation.gfp", a.GFP != nil)
	// Before 4.6 the flags are a number alone, and its bits were others.
	unknown.unless("allocation.gfp_flags", a.GFPFlags != nil)
	unknown.unless("allocation.class", a.Class != "")
}

// remarks tell what is unusual, above all what is missing.
func (r *report) remarks(inc *events.Incident) {
	var missing []string
	lacks := func(part string, is bool) {
		if is {
			missing = append(missing, part)
		}
	}
	memcg := inc.Scope == events.ScopeMemcg
	alone := r.header == nil && !r.limits.any() && r.memInfo == nil && r.summary == nil && r.chosen == nil
	if alone && len(r.kills)+len(r.exiting) > 0 {
		inc.Log.Truncated = true
		r.note("the log has the kill and no report of it: the kernel limits the rate of its reports, or lines were lost")
	} else {
		lacks("its beginning", r.header == nil)
		lacks("the task that triggered it", r.header != nil && r.task == nil)
		lacks("the stack", r.header != nil && r.task != nil && !r.traced)
		lacks("usage and limits of the cgroup", memcg && r.limits.memory == nil)
		lacks("the cgroup's statistics", memcg && len(r.stats) == 0)
		lacks("the node's memory", !memcg && inc.Scope != events.ScopeUnknown && (r.memInfo == nil || r.memInfo.ram == nil))
		lacks("the choice", len(r.kills) > 0 && r.summary == nil && r.chosen == nil)
		lacks("its end", inc.Outcome == "")
		lacks(fmt.Sprintf("%d lines", r.holes), r.holes > 0)
	}
	if len(missing) > 0 {
		inc.Log.Truncated = true
		r.note("the log lacks of this report: " + strings.Join(missing, ", "))
	}
	if r.suppressed > 0 {
		r.note(fmt.Sprintf("the kernel left out %d reports or lines before this one (rate limit)", r.suppressed))
	}
	if r.panicked != "" {
		r.note("the kernel panicked: " + r.panicked)
	}
	if len(r.kills) > 0 {
		for _, k := range r.exiting {
			r.note(fmt.Sprintf("%s[%d] was exiting already, and was not killed", k.comm, k.pid))
		}
	} else if len(r.exiting) > 0 {
		r.note(fmt.Sprintf("the chosen task, %s[%d], was exiting already", r.exiting[0].comm, r.exiting[0].pid))
	}
	if r.killsCut > 0 {
		r.note(fmt.Sprintf("%d more victims are in the log", r.killsCut))
	}
	if rest := len(r.tasks) + r.tasksCut - len(inc.Candidates); rest > 0 {
		r.note(fmt.Sprintf("%d more processes are in the log's table, smaller ones or such that were not read", rest))
	}
	if len(r.stats) > 1 && inc.Memory != nil {
		r.note(fmt.Sprintf("the charge is the sum of %d cgroups' lines", len(r.stats)))
	}
	inc.Notes = r.notes
}
