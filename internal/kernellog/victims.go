// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// trigger sets the task whose allocation failed.
func (r *report) trigger(inc *events.Incident, unknown *oom.Unknowns) {
	if r.header == nil {
		unknown.Add("trigger")
		return
	}
	t := &events.Process{Comm: r.header.comm}
	inc.Trigger = t

	unknown.Add("trigger.cgroup")

	if r.task == nil {
		unknown.Add("trigger.pid", "trigger.tid")
		return
	}
	// The log has the thread's id. The task table has the process, if its row is of that
	// thread: it has one row for each process, mostly of its leader. Else the thread is
	// taken for the process, and "trigger.pid" is unknown.
	t.TID, t.PID = r.task.tid, r.task.tid
	if row := r.rowOf(t.TID); row != nil {
		t.PID = row.tgid
	} else if t.TID != 1 {
		unknown.Add("trigger.pid")
	}
}

// victims returns the killed processes, in the order of the log.
func (r *report) victims(page uint64, unknown *oom.Unknowns) []events.Victim {
	if len(r.kills) == 0 {
		return nil
	}

	var list []events.Victim

	for i := range r.kills {
		if r.kills[i].pid == 0 {
			unknown.Add("victims")
			continue
		}

		list = append(list, r.victim(i, page, unknown))
	}

	unknown.Unless("victims", !r.killsUnknown)
	unknown.Add("victims.points", "victims.start_time", "victims.is_container_init", "victims.exit_after_ns", "victims.released_after_ns")

	return list
}

// victim returns the victim of a kill. What its line does not have may be in the task
// table or in the summary.
func (r *report) victim(i int, page uint64, unknown *oom.Unknowns) events.Victim {
	k := r.kills[i]
	v := events.Victim{
		Process:      events.Process{PID: k.pid, TID: k.pid, Comm: k.comm},
		TotalVMBytes: k.totalVM, AnonRSSBytes: k.anon, FileRSSBytes: k.file, ShmemRSSBytes: k.shmem,
		UID: k.uid, OOMScoreAdj: k.adj,
	}

	row := r.rowOf(k.pid)
	if row != nil {
		v.PID = row.tgid
	}

	v.Role = r.role(i, v.PID)
	if v.Role == events.RoleChosen && r.summary != nil && r.summary.pid != 0 {
		v.PID = r.summary.pid
	}

	if v.Role == events.RoleChosen && r.allocatingTask {
		v.ChosenBy = events.ChosenByAllocation
	}

	if v.Role == events.RoleUnknown {
		unknown.Add("victims.role")
	}

	r.locate(&v, unknown)

	v.PgtablesBytes = r.pgtables(k, row, page)
	r.complete(&v, row, page)

	unknownOf(&v, unknown)

	return v
}

// complete adds what the line of a kill does not have, from the summary and from the row of the task
// table, which may be nil.
func (r *report) complete(v *events.Victim, row *taskRow, page uint64) {
	if v.Comm == "" {
		v.Comm = r.nameOf(v.TID)
	}

	if s := r.summary; v.UID == nil && s != nil && s.pid != 0 && s.pid == v.PID && s.uidKnown {
		v.UID = new(uint32(s.uid))
	}

	if row == nil {
		return
	}

	v.SwapBytes = new(min(row.swap, 1<<44) * page)

	if v.UID == nil {
		v.UID = new(row.uid)
	}

	if v.OOMScoreAdj == nil {
		v.OOMScoreAdj = new(row.adj)
	}
}

// unknownOf names what is missing of a victim.
func unknownOf(v *events.Victim, unknown *oom.Unknowns) {
	unknown.Unless("victims.comm", v.Comm != "")
	unknown.Unless("victims.anon_rss_bytes", v.AnonRSSBytes != nil)
	unknown.Unless("victims.file_rss_bytes", v.FileRSSBytes != nil)
	unknown.Unless("victims.shmem_rss_bytes", v.ShmemRSSBytes != nil)
	unknown.Unless("victims.swap_bytes", v.SwapBytes != nil)
	unknown.Unless("victims.total_vm_bytes", v.TotalVMBytes != nil)
	unknown.Unless("victims.pgtables_bytes", v.PgtablesBytes != nil)
	unknown.Unless("victims.oom_score_adj", v.OOMScoreAdj != nil)
	unknown.Unless("victims.uid", v.UID != nil)
}

// rowOf returns the task table's row of a thread or process, nil if it has none.
func (r *report) rowOf(pid int) *taskRow {
	if i, ok := r.pids[pid]; ok {
		return &r.tasks[i]
	}

	return nil
}

// role returns why the process of a kill was killed. tgid is its process, if the task
// table shows it, else the pid of the kill.
func (r *report) role(i, tgid int) events.Role {
	k, announced := r.kills[i], r.chosenOf()

	switch {
	case k.shares:
		return events.RoleSharedMM
	case announced != 0 && (k.pid == announced || tgid == announced):
		return events.RoleChosen
	case (r.summary == nil || r.summary.pid == 0) && r.chosen != nil && i == 0:
		return r.roleBesideChoice(&k) // "Kill process N or sacrifice child", before 5.1
	case r.grouped && (announced != 0 || i > 0 && r.chosenFirst):
		return events.RoleGroup
	case r.grouped && i == 0 && r.chosenFirst, i == 0 && r.summary != nil && k.at.line == r.summaryLine+1:
		return events.RoleChosen // the first kill is of the chosen process
	}

	return events.RoleUnknown
}

// roleBesideChoice returns the role of a kill of another process than the chosen one: a child of
// it, or the process of the thread that was chosen. The kernel compared threads up to 4.5
// (mm/oom_kill.c: select_bad_process), and its task table has processes.
func (r *report) roleBesideChoice(k *kill) events.Role {
	byThread := r.release == "" || versionBefore(r.release, 4, 6)

	switch {
	case !byThread, r.inTable(r.chosen.pid):
		return events.RoleChild
	case k.comm == r.chosen.comm && r.inTable(k.pid) && r.isLargest(k.pid):
		return events.RoleChosen // a child would be smaller than its chosen parent
	case r.inTable(k.pid), k.comm == r.chosen.comm && k.pid < r.chosen.pid:
		return events.RoleUnknown
	}

	return events.RoleChild
}

// isLargest reports whether no row of the task table has a higher badness than a process.
func (r *report) isLargest(pid int) bool {
	var total uint64

	switch {
	case r.limits.memory != nil && r.limits.memory.limit != nil:
		total = *r.limits.memory.limit >> 12
	case r.memInfo != nil && r.memInfo.ram != nil:
		total = min(*r.memInfo.ram, 1<<44)
	}

	badness := func(t *taskRow) int64 { return oom.Badness(t.usedPages(4096), t.adj, total) }
	own := badness(r.rowOf(pid))

	return !slices.ContainsFunc(r.tasks, func(t taskRow) bool {
		return t.tgid != r.rowOf(pid).tgid && badness(&t) >= own && t.adj > oom.ScoreAdjMin
	})
}

// nameOf returns the name of a process by another line than its kill, "" if none has it.
func (r *report) nameOf(pid int) string {
	if r.chosen != nil && r.chosen.pid == pid && r.chosen.comm != "" {
		return r.chosen.comm
	}

	if row := r.rowOf(pid); row != nil && row.pid == pid {
		return row.comm
	}

	if r.task != nil && r.task.tid == pid {
		return r.header.comm
	}

	if r.summary != nil && r.summary.pid == pid {
		_, comm := r.summary.task()
		return comm
	}

	return ""
}

// choice returns the process that the kernel chose, nil if the log does not name it or if it is
// among the victims.
func (r *report) choice(victims []events.Victim, unknown *oom.Unknowns) *events.Chosen {
	pid := r.chosenOf()
	died := slices.ContainsFunc(victims, func(v events.Victim) bool {
		return v.PID == pid || v.TID == pid || v.Role == events.RoleChosen
	})

	if pid == 0 || died {
		return nil
	}

	c := &events.Chosen{Process: events.Process{PID: pid, TID: pid, Comm: r.nameOf(pid)}}
	if row := r.rowOf(pid); row != nil {
		c.PID, c.UID, c.OOMScoreAdj = row.tgid, new(row.uid), new(row.adj)
	}

	if s := r.summary; s != nil && s.uidKnown {
		c.UID = new(uint32(s.uid))
	}

	if path := r.taskMemcg(); path != "" {
		cgroup, place := r.cgroupOf(path)
		c.Cgroup, c.Workload = cgroup, place.Workload

		r.unidentified("chosen", unknown)
	} else {
		unknown.Add("chosen.cgroup")
	}

	unknown.Unless("chosen.comm", c.Comm != "")
	unknown.Unless("chosen.uid", c.UID != nil)
	unknown.Unless("chosen.oom_score_adj", c.OOMScoreAdj != nil)

	return c
}

// locate sets the cgroup and workload of a victim. Only that of the chosen process is in
// the log.
func (r *report) locate(v *events.Victim, unknown *oom.Unknowns) {
	if path := r.taskMemcg(); v.Role == events.RoleChosen && path != "" {
		cgroup, place := r.cgroupOf(path)
		v.Cgroup, v.Workload = cgroup, place.Workload

		r.unidentified("victims", unknown)

		return
	}

	unknown.Add("victims.cgroup")

	if r.group != "" { // it is in that cgroup or below
		_, place := r.cgroupOf(r.group)
		v.Workload = place.Workload
	}
}

// pgtables returns the size of a victim's page tables, in bytes. 5.4 and 5.5 print bytes
// and call them kB: the task table decides, and without it a number that could be either
// is not used. row may be nil.
func (r *report) pgtables(k kill, row *taskRow, page uint64) *uint64 {
	if row != nil && k.pgtable == nil && row.pgtablePages != nil && *row.pgtablePages < 1<<40 {
		return new(*row.pgtablePages * page)
	}

	if row != nil && row.pgtableLen != nil {
		if k.pgtable == nil || *k.pgtable>>10 == *row.pgtableLen {
			return row.pgtableLen
		}

		return k.pgtable
	}

	if k.pgtable != nil && *k.pgtable>>10 >= 4096 && (*k.pgtable>>10)%4096 == 0 {
		return nil
	}

	return k.pgtable
}

func (r *report) killer(scope events.Scope, unknown *oom.Unknowns) *events.Killer {
	if r.ofProgram() && r.summary.oomMemcg != "" {
		scope = events.ScopeMemcg // the path of the kill
	}

	if r.group == "" {
		k := oom.Killer(scope, nil, "")
		if r.grouped {
			k.Path = events.PathGroup

			unknown.Add("killer.group_cgroup")
		}

		return k
	}

	cgroup, place := r.cgroupOf(r.group)

	unknown.Add("killer.group_cgroup.id")

	return oom.Killer(scope, cgroup, place.Level)
}
