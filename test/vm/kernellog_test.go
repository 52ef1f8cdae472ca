// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernellog"
)

var killedProcess = regexp.MustCompile(`(?:^|: )Killed process (\d+) \(`)

// readLog reads the log of a case, and counts in it.
func readLog(run *Run) (Log, error) {
	l := Log{Killed: map[int]bool{}}

	for _, text := range run.Log {
		if strings.Contains(text, " invoked oom-killer: ") {
			l.Reports++
		}

		if strings.Contains(text, "no killable processes") {
			l.NoKillable++
		}

		if m := killedProcess.FindStringSubmatch(text); m != nil {
			pid, _ := strconv.Atoi(m[1])
			l.Killed[pid] = true
		}
	}

	text := strings.NewReader(strings.Join(run.Log, "\n") + "\n")
	_, err := kernellog.Read(text, kernellog.Options{}, func(inc *events.Incident) error {
		l.Incidents = append(l.Incidents, inc)
		return nil
	})

	return l, err
}

// checkLog compares what was read of a log with what was counted in it.
func checkLog(o *outcome, k Kernel, spec *Case, run *Run, l Log) {
	if run.LogOverruns > 0 {
		o.errorf("the log was overwritten %d times before it was read, want 0", run.LogOverruns)
	}

	reports, noKillable := 0, 0
	victims := map[int]int{} // incidents, by thread id

	for _, inc := range l.Incidents {
		if inc.Trigger != nil {
			reports++
		}

		if p := inc.Passes; p != nil { // reports beyond the first one are counted, not listed
			noKillable += int(p.NoKillable)
			reports += int(p.NoKillable + p.Killed - 1)
		}

		for _, victim := range inc.Victims {
			if victim.Role != events.RoleSharedMM {
				victims[victim.TID]++
			}
		}

		if inc.Log.Truncated && !spec.Burst {
			o.errorf("got a report with gaps: %q", inc.Notes)
		}

		for _, key := range inc.Unknown {
			if !logMayLack(key, inc, k) {
				o.errorf("%s: got it as unknown, want a value", key)
			}
		}

		line, err := events.Marshal(inc)
		if err == nil {
			err = validate(string(line))
		}

		if err != nil {
			o.errorf("against the schema: %v", err)
		}
	}

	if reports != l.Reports {
		o.errorf("got %d reports, want the %d that were counted", reports, l.Reports)
	}

	if noKillable != l.NoKillable {
		o.errorf("got %d reports that nothing is killable, want the %d that were counted", noKillable, l.NoKillable)
	}

	for tid, n := range victims {
		if n > 1 || !l.Killed[tid] {
			o.errorf("got %d incidents with victim %d, killed in the log: %v; want one, killed", n, tid, l.Killed[tid])
		}
	}

	for tid := range l.Killed {
		if victims[tid] == 0 {
			o.errorf("got no incident with victim %d, which was killed", tid)
		}
	}
}

// logMayLack reports whether a key may be unknown in a report of the log.
func logMayLack(key string, inc *events.Incident, k Kernel) bool {
	memcg := inc.Scope == events.ScopeMemcg

	switch key {
	case "time", "trigger.cgroup", "limiter.cgroup.id", "ladder.cgroup.id", "victims.cgroup.id", "ladder.high_bytes", "ladder.peak_bytes",
		"ladder.oom_group", "victims.points", "victims.start_time", "victims.is_container_init", "victims.exit_after_ns",
		"victims.released_after_ns", "killer.group_cgroup.id", "allocation.total_pages", "ladder.min_bytes", "ladder.low_bytes":
		return true
	case "limiter.protected_min_bytes", "limiter.protected_low_bytes":
		return !k.is("7.3") || inc.Log.Truncated
	case "victims.anon_rss_bytes", "victims.file_rss_bytes", "victims.shmem_rss_bytes", "victims.pgtables_bytes", "victims.total_vm_bytes",
		"victims.uid", "victims.oom_score_adj":
		return false // the line of the kill has them
	case "trigger.pid": // the table of tasks has the process's leader, if it may be killed
		t := inc.Trigger
		return !slices.ContainsFunc(inc.Candidates, func(c events.Candidate) bool { return t != nil && c.TID == t.TID })
	}

	if inc.Log.Truncated {
		return true
	}

	switch key {
	case "victims.cgroup":
		return len(inc.Victims) > 1
	case "ladder.usage_bytes", "ladder.max_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes":
		return len(inc.Ladder) > 1
	case "node_state":
		return memcg
	case "memory", "ladder", "limiter.usage_bytes", "limiter.swap_usage_bytes":
		return !memcg
	case "limiter.limit_bytes":
		return inc.Scope == events.ScopeCpuset || inc.Scope == events.ScopeMempolicy
	case "memory.pagetables_bytes", "allocation.class":
		// 5.10 does not count the one; for the other, its stack walk ends where a
		// tracer returns from out_of_memory.
		return k.is("5.10")
	case "limiter.cgroup.hierarchy", "ladder.cgroup.hierarchy":
		return k.CgroupV1
	case "victims.cgroup.hierarchy":
		return k.CgroupV1 || !memcg
	}

	return false
}

// checkAgainstLog compares the incidents with those that are read from the kernel's log.
func (c *Check) checkAgainstLog() {
	reports := map[*events.Incident]int{}

	for _, log := range c.Log.Incidents {
		live := c.counterpart(log)
		if live != nil {
			reports[live]++
			p := pair{check: c, live: live, log: log}
			p.compare()
		} else if c.Tier != tierTracepoint || log.Outcome != events.OutcomeNoKillable {
			c.errorf("got no incident for line %d of the kernel's log (%s, %d victims)", log.Log.FirstLine, log.Outcome, len(log.Victims))
		}
	}

	for _, live := range c.Incidents {
		logged := live.Outcome == events.OutcomeKilled || live.Outcome == events.OutcomeNoKillable // nothing is logged of others
		if n := reports[live]; logged && !byUser(live) && n != 1 {
			c.errorf("incident %s (%s): got %d reports in the kernel's log, want 1", live.ID, live.Outcome, n)
		}
	}

	// The log of a burst has gaps.
	if live, log := noKillablePasses(c.Incidents), noKillablePasses(c.Log.Incidents); c.Tier != tierTracepoint && live < log {
		c.errorf("OOM invocations without a victim: got %d, want at least the %d in the kernel's log", live, log)
	}
}

// counterpart returns the live incident of one in the log: with its victim, or without
// any for the same limiter.
func (c *Check) counterpart(log *events.Incident) *events.Incident {
	for _, live := range c.Incidents {
		if byUser(live) || live.Outcome != log.Outcome {
			continue
		}

		if len(log.Victims) > 0 && isVictim(live, log.Victims[0].TID) {
			return live
		}

		if len(log.Victims) == 0 && limiterPath(live) == limiterPath(log) {
			return live
		}
	}

	return nil
}
