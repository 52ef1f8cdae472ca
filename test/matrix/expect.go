// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/lab"
)

// expectation is what must come of a case, beyond what holds for all.
type expectation struct {
	name   string
	v1     bool // it is played on cgroup v1 too
	notOOM bool // its dead are not the OOM killer's
	users  bool // it has incidents of scope user
	check  func(*caseCheck)
	// countOnly: it is about something else; who died and how many is all that is compared.
	countOnly bool
}

// kill is the incident that a case is about.
type kill struct {
	victim  string // name of the chosen one
	scope   events.Scope
	limiter string // name of a cgroup; "" is the node
	trigger string
	class   string
	killer  string
}

var expectations = []expectation{
	{name: "memcg-leaf", v1: true, check: expectKill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})},
	{name: "parent-limit", v1: true, check: expectKill(kill{"hog", events.ScopeMemcg, "parent", "hog", "anon_fault", "memcg"})},
	{name: "oom-group", check: func(cc *caseCheck) {
		inc := cc.kill(kill{"", events.ScopeMemcg, "group", "hog", "anon_fault", "group"})
		if inc == nil {
			return
		}

		roles := map[events.Role]int{}
		for _, v := range inc.Victims {
			roles[v.Role]++
		}

		cc.equal("the number of victims", len(inc.Victims), 3)
		cc.equal("the chosen", roles[events.RoleChosen], 1)
		cc.equal("the members", roles[events.RoleGroup], 2)

		if inc.Killer.GroupCgroup == nil || inc.Killer.GroupCgroup.Path != "/group" {
			cc.problem("the group is %+v", inc.Killer.GroupCgroup)
		}
	}},
	{name: "multithread", v1: true, check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})
		if inc != nil && (inc.Trigger.TID == inc.Trigger.PID || inc.Trigger.Thread != "worker") {
			cc.problem("the trigger is %+v, not the second thread", inc.Trigger)
		}
	}},
	{name: "zombie-leader", v1: true, check: expectKill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})},
	{name: "shared-mm", v1: true, check: func(cc *caseCheck) {
		inc := cc.kill(kill{"", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})
		if inc == nil {
			return
		}

		cc.equal("the number of victims", len(inc.Victims), 2)

		if len(inc.Victims) == 2 {
			cc.equal("the roles", []events.Role{inc.Victims[0].Role, inc.Victims[1].Role}, []events.Role{events.RoleChosen, events.RoleSharedMM})
		}
	}},
	{name: "tmpfs", v1: true, check: expectKill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "tmpfs", "memcg"})},
	{name: "huge-pages", v1: true, check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "", "memcg"})
		if inc == nil || inc.Memory == nil || inc.Memory.AnonTHPBytes == nil {
			return
		}

		if huge := *inc.Memory.AnonTHPBytes; huge < 60<<20 || huge > 200<<20 {
			cc.problem("it had %d bytes of huge pages", huge)
		}
	}},
	{name: "swap-max", check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})
		if inc == nil {
			return
		}

		l := inc.Limiter
		if l.SwapLimitBytes == nil || *l.SwapLimitBytes != 16<<20 || l.SwapUsageBytes == nil || *l.SwapUsageBytes < 15<<20 {
			cc.problem("swap is not at its limit: %+v", l)
		}

		if inc.Before != nil && !slices.ContainsFunc(inc.Before.Stalls, func(s events.StallSum) bool {
			return s.What == string(events.StallMemcgReclaim) && s.ReclaimedBytes >= 8<<20
		}) {
			cc.problem("what went to swap was not reclaimed: %+v", inc.Before.Stalls)
		}
	}},
	{name: "limit-lowered", v1: true, check: func(cc *caseCheck) {
		if cc.kernel.v1 {
			// The write fails with EBUSY where it cannot reclaim: nobody dies.
			cc.equal("the number of incidents", len(cc.incidents), 0)
			return
		}

		cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "writer", "limit_lowered", "memcg"})
	}},
	{name: "no-killable", check: func(cc *caseCheck) {
		if cc.tier == "tracepoint" {
			cc.equal("the number of incidents", len(cc.incidents), 0)
			return
		}

		if cc.log.noKillable == 0 {
			cc.problem("the kernel's log does not say so")
		}

		cc.equal("the number of incidents", len(cc.incidents), 1)

		for _, inc := range cc.incidents {
			cc.equal("the outcome", inc.Outcome, events.OutcomeNoKillable)
			cc.limiter(inc, "leaf")

			if inc.Passes.NoKillable < 2 {
				cc.problem("passes %+v", inc.Passes)
			}

			if hits := cc.group("leaf").OOM; inc.Passes.NoKillable > hits {
				cc.problem("%d passes, and the kernel counted %d", inc.Passes.NoKillable, hits)
			}
		}
	}},
	{name: "already-exiting", check: func(cc *caseCheck) {
		cc.equal("the number of incidents", len(cc.incidents), 1)

		for _, inc := range cc.incidents {
			cc.equal("the outcome", inc.Outcome, events.OutcomeAlreadyExiting)
			cc.equal("the number of victims", len(inc.Victims), 0)

			if cc.tier != "tracepoint" {
				cc.limiter(inc, "leaf")
			}
		}
	}},
	{name: "two-at-once", v1: true, check: func(cc *caseCheck) {
		cc.kill(kill{"hog1", events.ScopeMemcg, "one", "hog1", "anon_fault", "memcg"})
		cc.kill(kill{"hog2", events.ScopeMemcg, "two", "hog2", "anon_fault", "memcg"})
	}},
	{name: "hostile-names", check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})
		if inc != nil {
			cc.equal("the name", inc.Victims[0].Comm, string(cc.proc("hog").Comm))
		}
	}},
	{name: "user-kill", v1: true, notOOM: true, users: true, check: expectUserKill},
	{name: "pidns-init", v1: true, notOOM: true, users: true, check: expectPIDNS},
	{name: "oom-init", v1: true, check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})
		if inc == nil {
			return
		}

		cc.equal("the number of victims", len(inc.Victims), 1)

		if !strings.Contains(strings.Join(inc.Notes, "\n"), "PID 1 of the PID namespace exited and the kernel killed hog[") {
			cc.problem("its notes are %q", inc.Notes)
		}
	}},
	{name: "memory-high", notOOM: true, check: func(cc *caseCheck) {
		nothing(cc)
		var told uint64

		for _, s := range cc.stalls {
			if s.What == string(events.StallMemoryHigh) && s.Task.PID == cc.proc("hog").PID {
				told += s.DurationNS / 1e6
			}
		}

		felt := cc.c.Facts["felt_ms"]
		switch {
		case felt < 100:
			cc.problem("the hog was held up for %d ms only: the case shows nothing", felt)
		case cc.tier == "tracepoint":
			cc.equal("the time over memory.high, which this tier cannot see", told, 0)
		case told*100 < felt*95 || told*100 > felt*105:
			cc.problem("%d ms over memory.high were told, %d ms were felt", told, felt)
		}
	}},
	{name: "stalled-kill", check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "", "memcg"})
		if inc == nil || inc.Before == nil {
			return
		}

		cc.equal("the number of reclaims", stalled(inc, events.StallMemcgReclaim), cc.c.Facts["reclaims"])

		if cc.c.Facts["reclaims"] < 100 {
			cc.problem("%d reclaims only: the case shows nothing", cc.c.Facts["reclaims"])
		}

		if len(inc.Before.Timeline) < 10 {
			cc.problem("%d seconds of 20 are in the timeline", len(inc.Before.Timeline))
		}
		sampled := 0

		for _, s := range inc.Before.Timeline {
			if s.UsageBytes != nil && s.LimitBytes != nil && *s.LimitBytes == cc.group("leaf").Max {
				sampled++
			}
		}

		if sampled < 8 {
			cc.problem("%d of %d seconds tell the limiter's usage", sampled, len(inc.Before.Timeline))
		}
	}},
	{name: "high-order", check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "anon_fault", "memcg"})
		if inc == nil || inc.Before == nil {
			return
		}

		if cc.c.Facts["compactions"] == 0 {
			cc.problem("the kernel did not compact: the case shows nothing")
		}

		cc.equal("the number of compactions", stalled(inc, events.StallCompaction), cc.c.Facts["compactions"])
	}},
	{name: "sysrq-f", v1: true, check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeSysrq, "", "", "sysrq", "sysrq"})
		if inc != nil && !inc.Trigger.IsKernel {
			cc.problem("the trigger is %+v, not a kernel thread", inc.Trigger)
		}
	}},
	{name: "cpuset", check: expectKill(kill{"hog", events.ScopeCpuset, "", "hog", "anon_fault", "global"})},
	{name: "mempolicy", check: expectKill(kill{"hog", events.ScopeMempolicy, "", "hog", "anon_fault", "global"})},
	{name: "global", v1: true, check: func(cc *caseCheck) {
		inc := cc.kill(kill{"hog", events.ScopeGlobal, "", "", "", "global"})
		if inc == nil || inc.Before == nil {
			return
		}

		if g := inc.Before.GaveUp; g == nil || g.Reclaim == nil || g.Reclaim.Zone == "" || g.Reclaim.MinWatermarkBytes == 0 {
			cc.problem("the allocator gave up for no reason: %+v", g)
		}

		if len(inc.Before.Kswapd) == 0 {
			cc.problem("no kswapd was awake")
		}
		// Those of the first kill; more may come until the counts are read.
		if told, was := stalled(inc, events.StallDirectReclaim), cc.c.Facts["direct_reclaims"]; was == 0 || told < was {
			cc.problem("%d direct reclaims before the kill, of %d", told, was)
		}
	}},
	{name: "page-tables", check: expectKill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "", "memcg"})},
	{name: "dirty-cache", check: expectKill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "", "memcg"})},
	{name: "slab", check: expectKill(kill{"hog", events.ScopeMemcg, "leaf", "hog", "", "memcg"})},
	{name: "host-daemon", check: expectKill(kill{"daemon", events.ScopeGlobal, "", "", "", "global"})},
	{name: "burst", check: func(cc *caseCheck) {
		cc.equal("the number of processes", len(cc.c.Procs), 200)

		if cc.log.headers > 100 {
			cc.problem("the log was not rate limited: this is no burst")
		}

		for _, inc := range cc.incidents {
			cc.equal("the scope", inc.Scope, events.ScopeMemcg)
			cc.equal("the outcome", inc.Outcome, events.OutcomeKilled)
		}
	}},
	{name: "record-killed", countOnly: true, check: recordKilled},
}

func expectationOf(name string) *expectation {
	i := slices.IndexFunc(expectations, func(e expectation) bool { return e.name == name })
	if i < 0 {
		return nil
	}

	return &expectations[i]
}

func nothing(cc *caseCheck) { cc.equal("the number of incidents", len(cc.incidents), 0) }

func expectKill(k kill) func(*caseCheck) { return func(cc *caseCheck) { cc.kill(k) } }

func (cc *caseCheck) proc(name string) lab.Proc {
	i := slices.IndexFunc(cc.c.Procs, func(p lab.Proc) bool { return p.Name == name })
	if i < 0 {
		cc.problem("the case has no process %s", name)
		return lab.Proc{}
	}

	return cc.c.Procs[i]
}

func (cc *caseCheck) group(name string) lab.Group {
	i := slices.IndexFunc(cc.c.Groups, func(g lab.Group) bool { return g.Name == name })
	if i < 0 {
		cc.problem("the case has no cgroup %s", name)
		return lab.Group{}
	}

	return cc.c.Groups[i]
}

// limiter compares the limiter with a cgroup of the case.
func (cc *caseCheck) limiter(inc *events.Incident, name string) {
	g := cc.group(name)

	l := inc.Limiter
	if l == nil || l.Cgroup == nil || l.LimitBytes == nil {
		cc.problem("no limiter")
		return
	}

	cc.equal("the limiter", l.Cgroup.Path, g.Path)
	cc.equal("the limiter's id", l.Cgroup.ID, g.ID)
	cc.equal("the limit", *l.LimitBytes, g.Max)

	which := "memory.max"
	if cc.kernel.v1 {
		which = "memory.limit_in_bytes"
	}

	cc.equal("the file of the limit", l.Which, which)
}

// kill finds the incident of a victim, or the only one, and compares it.
func (cc *caseCheck) kill(want kill) *events.Incident {
	var inc *events.Incident
	if want.victim != "" {
		inc, _ = cc.find(cc.proc(want.victim).PID)
	} else if len(cc.incidents) == 1 {
		inc = cc.incidents[0]
	}

	if inc == nil {
		cc.problem("no incident (of %d) killed %s", len(cc.incidents), want.victim)
		return nil
	}

	scope := want.scope
	if cc.tier == "tracepoint" && (scope == events.ScopeCpuset || scope == events.ScopeMempolicy) {
		scope = events.ScopeGlobal
	}

	cc.equal("the scope", inc.Scope, scope)
	cc.equal("the outcome", inc.Outcome, events.OutcomeKilled)

	if want.limiter != "" {
		cc.limiter(inc, want.limiter)
	} else if inc.Limiter == nil || inc.Limiter.Level != events.LevelNode {
		cc.problem("the limiter is %+v, not the node", inc.Limiter)
	}

	if want.victim != "" {
		cc.equal("the first victim", inc.Victims[0].PID, cc.proc(want.victim).PID)
		cc.equal("its role", inc.Victims[0].Role, events.RoleChosen)
	}

	if want.trigger != "" && inc.Trigger != nil {
		cc.equal("the trigger", inc.Trigger.PID, cc.proc(want.trigger).PID)
	}
	// A fault may find the limit when it needs a page for its page table.
	table := want.class == "anon_fault" && inc.Allocation.Class == "pagetable"
	if want.class != "" && inc.Allocation.Class != "" && !table {
		cc.equal("the kind of allocation", inc.Allocation.Class, want.class)
	}

	cc.equal("the killer", inc.Killer.Kind+" "+inc.Killer.Path, "kernel "+want.killer)

	return inc
}
