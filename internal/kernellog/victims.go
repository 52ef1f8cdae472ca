// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

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
	t.TID = r.task.tid
	// The log has the thread's id. The table tells the process, if it shows that
	// thread: it has one line for each process, mostly of its leader.
	// Else the thread is taken for the process, and "trigger.pid" is in unknown.
	t.PID = t.TID
	if i, ok := r.pids[t.TID]; ok {
		t.PID = r.tasks[i].tgid
	} else if t.TID != 1 {
		unknown.Add("trigger.pid")
	}
}

func (r *report) victims(page uint64, unknown *oom.Unknowns) []events.Victim {
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
			unknown.Add("victims.role")
		}

		if v.Role == events.RoleChosen && path != "" {
			cgroup, place := cgroupOf(path)
			v.Cgroup, v.Workload = cgroup, place.Workload

			r.unidentified("victims", unknown)
		} else {
			unknown.Add("victims.cgroup")

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

		unknown.Unless("victims.anon_rss_bytes", v.AnonRSSBytes != nil)
		unknown.Unless("victims.file_rss_bytes", v.FileRSSBytes != nil)
		unknown.Unless("victims.shmem_rss_bytes", v.ShmemRSSBytes != nil)
		unknown.Unless("victims.swap_bytes", v.SwapBytes != nil)
		unknown.Unless("victims.total_vm_bytes", v.TotalVMBytes != nil)
		unknown.Unless("victims.pgtables_bytes", v.PgtablesBytes != nil)
		unknown.Unless("victims.oom_score_adj", v.OOMScoreAdj != nil)
		unknown.Unless("victims.uid", v.UID != nil)
		list = append(list, v)
	}

	unknown.Add("victims.points", "victims.start_time", "victims.is_container_init", "victims.exit_after_ns", "victims.released_after_ns")

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
	if r.group == "" {
		return oom.Killer(scope, nil, "")
	}

	cgroup, place := cgroupOf(r.group)

	return oom.Killer(scope, cgroup, place.Level)
}
