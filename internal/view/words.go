// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// verdict is the outcome as a headline has it, and its colour.
func verdict(o events.Outcome) (words, style string) {
	switch o {
	case events.OutcomeKilled:
		return "OOM KILL", styleAlarm
	case events.OutcomeNoKillable:
		return "OOM, NOBODY KILLABLE", styleAlarm
	case events.OutcomeWaiting:
		return "OOM, WAITING FOR VICTIM", styleWarn
	case events.OutcomeAlreadyExiting:
		return "OOM, VICTIM WAS ALREADY EXITING", styleWarn
	case events.OutcomeSkipped:
		return "OOM, NO CHOICE MADE", styleWarn
	case "":
		return "OOM", styleWarn
	}

	return "OOM, " + strings.ToUpper(spaced(string(o))), styleWarn
}

// shortage is what ran out, in words; empty where the scope is not known yet.
func shortage(scope events.Scope, nodes []int) string {
	numa := "NUMA nodes"
	if len(nodes) > 0 {
		numa += " " + ranges(nodes)
	}

	switch scope {
	case "":
		return ""
	case events.ScopeMemcg:
		return "memcg limit"
	case events.ScopeGlobal:
		return "node out of memory"
	case events.ScopeCpuset:
		return numa + " of the cpuset out of memory"
	case events.ScopeMempolicy:
		return numa + " of the memory policy out of memory"
	case events.ScopeSysrq:
		return "asked for by sysrq-f"
	case events.ScopeUnknown:
		return "limit not known"
	}

	return spaced(string(scope))
}

// class is what the memory was for.
func class(c string) string {
	switch c {
	case "anon_fault":
		return "anonymous page fault"
	case "sock":
		return "socket buffers"
	case "pagetable":
		return "page tables"
	case "limit_lowered":
		return "limit lowered below usage"
	case "sysrq":
		return "no allocation"
	case "other":
		return "other memory"
	}

	return spaced(c) // page_cache, tmpfs, slab, and what is added later
}

// role is why a victim died.
func role(r events.Role) string {
	switch r {
	case events.RoleGroup:
		return "group member"
	case events.RoleSharedMM:
		return "shares the memory of the victim"
	case events.RoleUnknown:
		return "role ?"
	}

	return spaced(string(r))
}

// order is always decoded: a power of two pages, or the mark of sysrq.
func order(o *int) string {
	switch {
	case o == nil:
		return "order ?"
	case *o == -1:
		return "order -1 (sysrq)"
	case *o > 0 && *o < 32:
		return fmt.Sprintf("order %d (%d pages)", *o, 1<<*o)
	}

	return fmt.Sprintf("order %d", *o)
}

// flags are the GFP flags by name, else by number.
func flags(a *events.Allocation) string {
	switch {
	case len(a.GFPFlags) > 0:
		return strings.Join(a.GFPFlags, "|")
	case a.GFP != nil:
		return fmt.Sprintf("gfp %#x", *a.GFP)
	}

	return "gfp ?"
}

// killPath is the kernel's way to the kill. A group is killed on the way that
// its chosen member is.
func killPath(path string, scope events.Scope) string {
	if path == "group" && scope == events.ScopeMemcg {
		path = "memcg"
	}

	switch path {
	case "memcg":
		return "memcg OOM path"
	case "global":
		return "global OOM path"
	case "group":
		return "group kill"
	case "sysrq":
		return "sysrq-f"
	case "", "unknown":
		return "path ?"
	}

	return spaced(path)
}

func spaced(s string) string { return strings.ReplaceAll(s, "_", " ") }

// task names a process and its id. A name that could be taken for the words
// around it is quoted.
func task(comm string, pid int) string {
	id := "?"
	if pid > 0 {
		id = fmt.Sprint(pid)
	}

	if comm == "" {
		return "?[" + id + "]"
	}

	if strings.ContainsAny(comm, `[],"·`) || strings.TrimSpace(comm) != comm {
		comm = `"` + comm + `"`
	}

	return comm + "[" + id + "]"
}

// rungName names a cgroup of the ladder as shortly as it can be told from its
// neighbours.
func rungName(level events.Level, w *events.Workload, path string) string {
	switch {
	case level == events.LevelQoS && w != nil && w.QoS != "":
		return w.QoS
	case level == events.LevelService || level == events.LevelSlice || level == events.LevelCgroup:
		if path == "/" {
			return "root"
		}

		if path != "" {
			return path[strings.LastIndexByte(path, '/')+1:]
		}
	}

	return string(level)
}

// uptimeUntil is the end of the times that are taken for an uptime: no machine runs
// longer, and no record is older.
var uptimeUntil = time.Unix(0, 0).AddDate(10, 0, 0)

// When lays out a point in time. A kernel log without a wall clock has the machine's
// uptime for it, from 1970 on (see events.Incident); that is shown as the kernel does,
// in seconds.
func When(at time.Time, layout string, loc *time.Location) string {
	if at.Before(uptimeUntil) && !at.Before(time.Unix(0, 0)) {
		return fmt.Sprintf("[%d.%03d]", at.Unix(), at.Nanosecond()/1e6)
	}

	return at.In(loc).Format(layout)
}
