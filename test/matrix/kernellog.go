// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernellog"
	"github.com/oomtrace/oomtrace/test/lab"
)

// kernelLog is what the kernel wrote in a case: as internal/kernellog reads it, and
// counted without it.
type kernelLog struct {
	incidents []*events.Incident

	headers    int          // lines "X invoked oom-killer"
	noKillable int          // lines "no killable processes"
	killed     map[int]bool // pids, or thread ids, of "Killed process"
}

var killedProcess = regexp.MustCompile(`(?:^|: )Killed process (\d+) \(`)

// readLog reads and counts the log of a case.
func readLog(c lab.Case) (kernelLog, error) {
	l := kernelLog{killed: map[int]bool{}}

	for _, text := range c.Log {
		if strings.Contains(text, " invoked oom-killer: ") {
			l.headers++
		}

		if strings.Contains(text, "no killable processes") {
			l.noKillable++
		}

		if m := killedProcess.FindStringSubmatch(text); m != nil {
			pid, _ := strconv.Atoi(m[1])
			l.killed[pid] = true
		}
	}
	_, err := kernellog.Read(strings.NewReader(strings.Join(c.Log, "\n")+"\n"), kernellog.Options{}, func(inc *events.Incident) error {
		l.incidents = append(l.incidents, inc)
		return nil
	})

	return l, err
}

// kernelLog checks what was read of a log against what was counted in it.
func (v *verdict) kernelLog(k kernel, c lab.Case, l kernelLog) {
	problem := func(format string, args ...any) {
		v.problem("%s kernel_log: %s", c.Name, fmt.Sprintf(format, args...))
	}
	if c.LogOverruns > 0 {
		problem("the log was overwritten before it was read, %d times", c.LogOverruns)
	}
	headers, noKillable := 0, 0
	victims := map[int]int{}

	for _, inc := range l.incidents {
		if inc.Trigger != nil {
			headers++
		}

		if inc.Passes != nil { // those beyond the first pass are reports that were folded
			noKillable += int(inc.Passes.NoKillable)
			headers += int(inc.Passes.NoKillable + inc.Passes.Killed - 1)
		}

		for _, victim := range inc.Victims {
			if victim.Role != events.RoleSharedMM {
				victims[victim.TID]++
			}
		}

		if inc.Log.Truncated && c.Name != "burst" && c.Name != "record-killed" { // the one that is too fast for the log's rate limit
			problem("a report has gaps: %q", inc.Notes)
		}

		for _, name := range inc.Unknown {
			if !logMayLack(name, inc, k) {
				problem("%s is unknown, and need not be", name)
			}
		}

		line, err := events.Marshal(inc)
		if err == nil {
			err = validate(string(line))
		}

		if err != nil {
			problem("against the schema: %v", err)
		}
	}

	if headers != l.headers {
		problem("%d reports were read of %d", headers, l.headers)
	}

	if noKillable != l.noKillable {
		problem("nobody to kill was read %d times, of %d", noKillable, l.noKillable)
	}

	for tid, n := range victims {
		if n > 1 || !l.killed[tid] {
			problem("%d is a victim of %d incidents, the log says so: %v", tid, n, l.killed[tid])
		}
	}

	for tid := range l.killed {
		if victims[tid] == 0 {
			problem("%d was killed, and is in no incident", tid)
		}
	}
}

// logMayLack tells what a log does not say, or not in this report.
func logMayLack(name string, inc *events.Incident, k kernel) bool {
	memcg := inc.Scope == events.ScopeMemcg

	switch name {
	case "time", "trigger.cgroup", "limiter.cgroup.id", "ladder.cgroup.id", "victims.cgroup.id", "ladder.high_bytes", "ladder.peak_bytes",
		"ladder.oom_group", "victims.points", "victims.start_time", "victims.is_container_init", "victims.exit_after_ns",
		"victims.released_after_ns", "killer.group_cgroup.id", "allocation.total_pages":
		return true
	case "trigger.pid": // the table of tasks has the process's leader, if it may be killed
		return !slices.ContainsFunc(inc.Candidates, func(c events.Candidate) bool { return inc.Trigger != nil && c.TID == inc.Trigger.TID })
	case "victims.cgroup":
		return len(inc.Victims) > 1 || inc.Log.Truncated
	case "ladder.usage_bytes", "ladder.max_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes":
		return len(inc.Ladder) > 1 || inc.Log.Truncated
	case "node_state":
		return memcg || inc.Log.Truncated
	case "memory", "ladder", "limiter.usage_bytes", "limiter.swap_usage_bytes":
		return !memcg || inc.Log.Truncated
	case "limiter.limit_bytes":
		return inc.Scope == events.ScopeCpuset || inc.Scope == events.ScopeMempolicy || inc.Log.Truncated
	case "memory.pagetables_bytes", "allocation.class":
		// 5.10 does not count the one; for the other, its stack walk ends where a
		// tracer returns from out_of_memory.
		return strings.HasPrefix(k.name, "5.10") || inc.Log.Truncated
	case "limiter.cgroup.hierarchy", "ladder.cgroup.hierarchy":
		return k.v1 || inc.Log.Truncated
	case "victims.cgroup.hierarchy":
		return k.v1 || !memcg || inc.Log.Truncated
	case "victims.anon_rss_bytes", "victims.file_rss_bytes", "victims.shmem_rss_bytes", "victims.pgtables_bytes", "victims.total_vm_bytes",
		"victims.uid", "victims.oom_score_adj":
		return false // the line of the kill has them
	}

	return inc.Log.Truncated
}

// isOf tells that a pid or a thread's id is a victim's.
func isOf(inc *events.Incident, pid int) bool {
	return slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid || v.TID == pid })
}
