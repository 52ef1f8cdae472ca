// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Check compares what one tier reported of one case with what was done.
type Check struct {
	Kernel    Kernel
	Tier      string
	Run       *Run
	Incidents []*events.Incident // with their updates
	Stalls    []events.StallLine
	Log       Log
	Skipped   []string // programs of which the kernel skipped runs in this boot

	spec     *Case
	problems []string
}

// Log is what the kernel logged in a case: as internal/kernellog reads it, and counted
// without it.
type Log struct {
	Incidents []*events.Incident

	Reports    int          // lines "X invoked oom-killer"
	NoKillable int          // lines "no killable processes"
	Killed     map[int]bool // pids, or thread ids, of "Killed process"
}

// errorf adds a problem.
func (c *Check) errorf(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

func (c *Check) equal(what string, got, want any) {
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.errorf("%s: got %v, want %v", what, got, want)
	}
}

func (c *Check) near(what string, got, want, slack uint64) {
	if got+slack < want || got > want+slack {
		c.errorf("%s: got %d, want %d within %d", what, got, want, slack)
	}
}

func (c *Check) noIncident() { c.equal("number of incidents", len(c.Incidents), 0) }

// proc returns a process of the case by its name.
func (c *Check) proc(name string) Proc {
	i := slices.IndexFunc(c.Run.Procs, func(p Proc) bool { return p.Name == name })
	if i < 0 {
		c.errorf("got no process %s in the case", name)
		return Proc{}
	}

	return c.Run.Procs[i]
}

// group returns a cgroup of the case by its name.
func (c *Check) group(name string) Group {
	i := slices.IndexFunc(c.Run.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		c.errorf("got no cgroup %s in the case", name)
		return Group{}
	}

	return c.Run.Groups[i]
}

// find returns the incident and the victim with a pid, which the kernel's log may have
// as a thread's.
func (c *Check) find(pid int) (*events.Incident, *events.Victim) {
	for _, inc := range c.Incidents {
		for i := range inc.Victims {
			if v := &inc.Victims[i]; v.PID == pid || v.TID == pid {
				return inc, v
			}
		}
	}

	return nil, nil
}

// limiter compares the limiter with a cgroup of the case.
func (c *Check) limiter(inc *events.Incident, name string) {
	g := c.group(name)

	l := inc.Limiter
	if l == nil || l.Cgroup == nil || l.LimitBytes == nil {
		c.errorf("limiter: got %+v, want cgroup %s with its limit", l, g.Path)
		return
	}

	c.equal("limiter's path", l.Cgroup.Path, g.Path)
	c.equal("limiter's cgroup id", l.Cgroup.ID, g.ID)
	c.equal("limit", *l.LimitBytes, g.Max)

	which := "memory.max"
	if c.Kernel.CgroupV1 {
		which = "memory.limit_in_bytes"
	}

	c.equal("limiter's file", l.Which, which)
}

// Kill is the incident that most cases are about.
type Kill struct {
	Victim  string // name of the chosen process; "": the only incident is meant
	Scope   events.Scope
	Limiter string // name of a cgroup; "": the node
	Trigger string // name of a process; "": any
	Class   string // of the allocation; "": any
	Killer  string // path
}

// check is a Want that expects the kill.
func (k Kill) check(c *Check) { c.kill(k) }

// limitHit is the most common one: a hog in the cgroup leaf faults a page over its
// limit.
var limitHit = Kill{
	Victim: "hog", Scope: events.ScopeMemcg, Limiter: "leaf", Trigger: "hog", Class: "anon_fault", Killer: "memcg",
}

// limitHitBy is the same by another class of allocation; "" is any.
func limitHitBy(class string) Kill {
	k := limitHit
	k.Class = class

	return k
}

// kill compares the incident of a kill, and returns it; nil if there is none.
func (c *Check) kill(want Kill) *events.Incident {
	var inc *events.Incident
	if want.Victim != "" {
		inc, _ = c.find(c.proc(want.Victim).PID)
	} else if len(c.Incidents) == 1 {
		inc = c.Incidents[0]
	}

	if inc == nil {
		c.errorf("got no incident (of %d) that killed %s", len(c.Incidents), want.Victim)
		return nil
	}

	c.equal("scope", inc.Scope, want.Scope)
	c.equal("outcome", inc.Outcome, events.OutcomeKilled)

	if want.Limiter != "" {
		c.limiter(inc, want.Limiter)
	} else if inc.Limiter == nil || inc.Limiter.Level != events.LevelNode {
		c.errorf("limiter: got %+v, want the node", inc.Limiter)
	}

	if want.Victim != "" {
		c.equal("pid of the first victim", inc.Victims[0].PID, c.proc(want.Victim).PID)
		c.equal("role of the first victim", inc.Victims[0].Role, events.RoleChosen)
	}

	if want.Trigger != "" && inc.Trigger != nil {
		c.equal("pid of the trigger", inc.Trigger.PID, c.proc(want.Trigger).PID)
	}

	// A fault may hit the limit when it needs a page for its page table.
	table := want.Class == "anon_fault" && inc.Allocation.Class == "pagetable"
	if want.Class != "" && inc.Allocation.Class != "" && !table {
		c.equal("allocation class", inc.Allocation.Class, want.Class)
	}

	if k := inc.Killer; k == nil {
		c.errorf("killer: got none, want kernel %s", want.Killer)
	} else {
		c.equal("killer", k.Kind+" "+k.Path, "kernel "+want.Killer)
	}

	return inc
}

// stalled returns how often a stall of a kind happened before a kill.
func stalled(inc *events.Incident, kind events.StallKind) uint64 {
	for _, s := range inc.Before.Stalls {
		if s.What == string(kind) {
			return s.Count
		}
	}

	return 0
}

func byUser(inc *events.Incident) bool { return inc.Scope == events.ScopeUser }

// isVictim reports whether a pid or a thread's id is a victim's.
func isVictim(inc *events.Incident, pid int) bool {
	return slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid || v.TID == pid })
}

// limiterPath returns the cgroup whose limit was hit, empty for the node.
func limiterPath(inc *events.Incident) string {
	if inc.Limiter == nil || inc.Limiter.Cgroup == nil {
		return ""
	}

	return inc.Limiter.Cgroup.Path
}
