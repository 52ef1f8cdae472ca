// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

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

	l.leaveOutThreads(run)

	return l, err
}

// leaveOutThreads leaves out kills of threads whose process was killed before. The kernel
// kills a member of a group once more if its first thread has exited meanwhile, and prints
// it by another thread (kernel/cgroup/cgroup.c: css_task_iter_advance, of dying leaders).
// The log does not have whose thread that is.
func (l *Log) leaveOutThreads(run *Run) {
	again := func(tid int) bool {
		return slices.ContainsFunc(run.Procs, func(p Proc) bool { return slices.Contains(p.Threads, tid) && l.Killed[p.PID] })
	}

	l.Incidents = slices.DeleteFunc(l.Incidents, func(inc *events.Incident) bool {
		return inc.Trigger == nil && len(inc.Victims) == 1 && again(inc.Victims[0].TID)
	})

	maps.DeleteFunc(l.Killed, func(tid int, _ bool) bool { return again(tid) })
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
	case "ladder.usage_bytes", "ladder.max_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes", "ladder.memsw_usage_bytes",
		"ladder.memsw_max_bytes":
		return len(inc.Ladder) > 1
	case "node_state":
		return memcg
	case "node_state.ledger": // kernel stacks are missing where zones are left out
		return inc.NodeState != nil && inc.NodeState.KernelStackBytes == nil
	case "memory", "ladder", "limiter.usage_bytes", "limiter.swap_usage_bytes", "limiter.memsw_usage_bytes":
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
	for _, log := range c.Log.Incidents {
		live := c.counterpart(log)
		if live != nil {
			p := pair{check: c, live: live, log: log}
			p.compare()
		} else if c.Tier != tierTracepoint && !c.spec.Burst || log.Outcome != events.OutcomeNoKillable {
			c.errorf("got no incident for line %d of the kernel's log (%s, %d victims)", log.Log.FirstLine, log.Outcome, len(log.Victims))
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

// checkNumber: there are as many incidents as reports in the kernel's log, and those that
// the case lists with the reason why they are not logged. A report that nothing is killable
// is repeated, and is one incident.
func (c *Check) checkNumber() {
	got, logged, kinds := map[string]int{}, map[string]int{}, map[string]bool{}

	for _, inc := range c.Incidents {
		if c.spec.AnyTrigger && withoutFS(inc) {
			continue
		}

		got[kindOf(inc)]++
		kinds[kindOf(inc)] = true
	}

	for _, inc := range c.Log.Incidents {
		logged[kindOf(inc)]++
		kinds[kindOf(inc)] = true
	}

	for _, u := range c.spec.Unlogged {
		kinds[u.Kind] = true
	}

	killed, noKillable := string(events.OutcomeKilled), string(events.OutcomeNoKillable)

	if c.spec.Burst {
		// The rate limit of the log leaves reports out; here each kill has an incident of its own.
		// A process that cannot be killed yet, since it has just been born, makes an invocation
		// without a victim: the incident of the next kill of that limit counts it.
		logged[killed] = int(c.Run.OOMKills[1] - c.Run.OOMKills[0])

		delete(kinds, noKillable)
	}

	if c.Tier == tierTracepoint {
		delete(logged, noKillable) // nothing marks a victim then
	}

	for kind := range kinds {
		want, why := logged[kind], fmt.Sprintf("%d in the kernel's log", logged[kind])

		for _, u := range c.spec.Unlogged {
			if u.Kind == kind {
				want += u.Count
				why += fmt.Sprintf(", and %d that it does not report: %s", u.Count, u.Why)
			}
		}

		if got[kind] != want {
			c.errorf("number of incidents (%s): got %d, want %d (%s)", kind, got[kind], want, why)
		}
	}
}

// withoutFS reports whether an allocation that may not call file systems was sent away without a kill
// and without a report (mm/oom_kill.c: out_of_memory).
func withoutFS(inc *events.Incident) bool {
	const gfpFS = 0x80

	return inc.Outcome == events.OutcomeSkipped && inc.Allocation != nil && inc.Allocation.GFP != nil && *inc.Allocation.GFP&gfpFS == 0
}

func kindOf(inc *events.Incident) string {
	if byUser(inc) {
		return killsByUser
	}

	return string(inc.Outcome)
}

func TestNumberOfIncidentsIsThatOfReports(t *testing.T) {
	kill := &events.Incident{Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled}
	noKillable := &events.Incident{Scope: events.ScopeMemcg, Outcome: events.OutcomeNoKillable}
	exiting := &events.Incident{Scope: events.ScopeMemcg, Outcome: events.OutcomeAlreadyExiting}
	ofUser := &events.Incident{Scope: events.ScopeUser, Outcome: events.OutcomeKilled}

	for _, test := range []struct {
		name      string
		tier      string
		spec      Case
		kills     uint64
		log, live []*events.Incident
		problems  int
	}{
		{name: "one each", log: []*events.Incident{kill}, live: []*events.Incident{kill}},
		{name: "a phantom", log: []*events.Incident{kill}, live: []*events.Incident{kill, exiting}, problems: 1},
		{name: "phantoms alone", live: []*events.Incident{exiting, exiting}, problems: 1},
		{name: "one that is listed", spec: Case{Unlogged: []Unlogged{{"already_exiting", 1, "test"}}}, live: []*events.Incident{exiting}},
		{name: "one that is listed and missing", spec: Case{Unlogged: []Unlogged{{"already_exiting", 1, "test"}}}, problems: 1},
		{name: "a kill in two incidents", log: []*events.Incident{kill}, live: []*events.Incident{kill, kill}, problems: 1},
		{name: "a kill that was missed", log: []*events.Incident{kill}, problems: 1},
		{name: "a kill by a user", live: []*events.Incident{ofUser}, problems: 1},
		{name: "nothing killable", log: []*events.Incident{noKillable}, live: []*events.Incident{noKillable}},
		{name: "nothing killable, missed", log: []*events.Incident{noKillable}, problems: 1},
		{name: "nothing killable by tracepoints", tier: tierTracepoint, log: []*events.Incident{noKillable}},
		{name: "a burst", spec: Case{Burst: true}, kills: 2, log: []*events.Incident{kill}, live: []*events.Incident{kill, kill}},
		{name: "a burst, one missed", spec: Case{Burst: true}, kills: 2, log: []*events.Incident{kill}, live: []*events.Incident{kill}, problems: 1},
	} {
		c := &Check{Tier: test.tier, Run: &Run{OOMKills: [2]uint64{5, 5 + test.kills}}, Incidents: test.live, spec: &test.spec}
		c.Log.Incidents = test.log
		c.checkNumber()

		if len(c.problems) != test.problems {
			t.Errorf("%s: got problems %q, want %d", test.name, c.problems, test.problems)
		}
	}
}

func TestLeaveOutThreadsOfKilledProcesses(t *testing.T) {
	byThread := func(tid int) *events.Incident {
		return &events.Incident{Outcome: events.OutcomeKilled, Victims: []events.Victim{{Process: events.Process{TID: tid}}}}
	}
	reported := &events.Incident{Trigger: &events.Process{}, Victims: []events.Victim{{Process: events.Process{TID: 11}}}}

	run := &Run{Procs: []Proc{{PID: 10, Threads: []int{11, 12}}, {PID: 20, Threads: []int{21}}}}
	l := Log{
		Incidents: []*events.Incident{byThread(10), byThread(12), byThread(21), byThread(30), reported},
		Killed:    map[int]bool{10: true, 12: true, 21: true, 30: true},
	}
	l.leaveOutThreads(run)

	var tids []int
	for _, inc := range l.Incidents {
		tids = append(tids, inc.Victims[0].TID)
	}

	if want := []int{10, 21, 30, 11}; !slices.Equal(tids, want) {
		t.Errorf("got incidents with threads %v, want %v: only 12 is of a process that was killed before", tids, want)
	}

	if want := map[int]bool{10: true, 21: true, 30: true}; !maps.Equal(l.Killed, want) {
		t.Errorf("got kills of %v, want %v", l.Killed, want)
	}
}
