// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// The whole node, or some of its NUMA nodes, runs out of memory.

var sysrqF = Case{
	Name: "sysrq-f", CgroupV1: true,
	Do: func(g *Guest) {
		hog := g.startWith(options{name: "hog", comm: "hog", adj: 1000}, g.leaf(0), "anon", "60")
		hog.proceed()
		hog.waitRSS(60)
		must.OK("request a kill", os.WriteFile("/proc/sysrq-trigger", []byte("f"), 0))
		hog.waitEnd()
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Victim: "hog", Scope: events.ScopeSysrq, Class: "sysrq", Killer: "sysrq"})
		if inc != nil && !inc.Trigger.IsKernel {
			c.errorf("trigger: got %+v, want a kernel thread", inc.Trigger)
		}
	},
	FirstCause: cause("sysrq"),
}

// sysrqAfterLimit requests a kill in a cgroup whose limit was hit before, by many threads:
// its counters may have grown since, and it is not its limit.
var sysrqAfterLimit = Case{
	Name: "sysrq-after-limit", CgroupV1: true,
	Do: func(g *Guest) {
		leaf := g.leaf(40)
		g.hitByThreads(leaf)

		leaf.set(g.limitFile(), "1G")
		hog := g.startWith(options{name: "hog", comm: "hog", adj: 1000}, leaf, "anon", "60")
		hog.proceed()
		hog.waitRSS(60)
		must.OK("request a kill", os.WriteFile("/proc/sysrq-trigger", []byte("f"), 0))
		hog.waitEnd()
	},
	Want: func(c *Check) {
		c.killsOfThreads("leaf")
		c.kill(Kill{Victim: "hog", Scope: events.ScopeSysrq, Class: "sysrq", Killer: "sysrq"})
	},
	FirstCause: func(c *Check, inc *events.Incident) []string {
		if isVictim(inc, c.proc("hog").PID) {
			return []string{"sysrq"}
		}

		return []string{"own_limit"}
	},
}

var cpuset = Case{
	Name: "cpuset",
	Do: func(g *Guest) {
		leaf := g.leaf(0)
		leaf.set("cpuset.mems", "1")
		g.hog(leaf, "anon", "2048")
	},
	Want:       Kill{Victim: "hog", Scope: events.ScopeCpuset, Trigger: "hog", Class: "anon_fault", Killer: "global"}.check,
	FirstCause: cause("cpuset_exhausted"), LogCause: true,
}

var mempolicy = Case{
	Name:       "mempolicy",
	Do:         func(g *Guest) { g.hog(g.leaf(0), "bind", "2048") },
	Want:       Kill{Victim: "hog", Scope: events.ScopeMempolicy, Trigger: "hog", Class: "anon_fault", Killer: "global"}.check,
	FirstCause: cause("mempolicy_exhausted"), LogCause: true,
}

// allocatingTask has the kernel kill whoever allocates instead of the process with the most
// badness. The memory of one NUMA node runs out, so that nobody else allocates there.
var allocatingTask = Case{
	Name: "allocating-task",
	Do: func(g *Guest) {
		g.setFile("/proc/sys/vm/oom_kill_allocating_task", "1")

		other := g.startWith(options{name: "other", comm: "other", adj: 1000}, g.group("other", "other", 0, nil), "anon", "30")
		other.proceed()
		other.waitRSS(30)

		g.hog(g.leaf(0), "bind", "2048")
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Victim: "hog", Scope: events.ScopeMempolicy, Trigger: "hog", Class: "anon_fault", Killer: "global"})
		if inc != nil && c.Tier != tierTracepoint {
			c.equal("what the victim was chosen by", inc.Victims[0].ChosenBy, events.ChosenByAllocation)
		}
	},
	Unknown: []string{"victims.points"}, // none were compared
}

// minTTL has kswapd kill because all of the memory is younger than what the multi-gen LRU
// is to keep, whatever could be reclaimed (mm/vmscan.c: lru_gen_age_node).
var minTTL = Case{
	Name: "min-ttl", On: []string{"6.12", "6.18", "7"},
	Do: func(g *Guest) {
		g.zram("128M")
		g.setFile("/sys/kernel/mm/lru_gen/enabled", "y")
		g.setFile("/sys/kernel/mm/lru_gen/min_ttl_ms", "3600000")

		// The next one to die, should kswapd not see in time that memory is free again.
		spare := g.startWith(options{name: "spare", comm: "spare", adj: 500}, g.group("spare", "spare", 0, nil), "anon", "4")
		spare.proceed()
		spare.waitRSS(4)

		hog := g.startWith(options{name: "hog", comm: "hog", adj: 1000}, g.leaf(0), "churn", "1024", zramDisk, "10")
		hog.proceed()
		hog.waitEnd()
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Victim: "hog", Scope: events.ScopeGlobal, Killer: "global"})
		if inc == nil {
			return
		}

		if t := inc.Trigger; t == nil || !t.IsKernel || !strings.HasPrefix(t.Comm, "kswapd") {
			c.errorf("trigger: got %+v, want kswapd", t)
		}
	},
	FirstCause: cause("working_set_guard"), LogCause: true,
}

var global = Case{
	Name: "global", CgroupV1: true,
	Do: func(g *Guest) {
		count := traceEvents("vmscan", "mm_vmscan_direct_reclaim_end", "oom", "mark_victim")
		kswapdRuns := vmstat("pageoutrun")

		g.hog(g.leaf(0), "anon", "4096")
		g.facts["direct_reclaims"] = count(anyPID)
		g.facts["kswapd_runs"] = vmstat("pageoutrun") - kswapdRuns
		g.facts["kswapd_runs_since_boot"] = vmstat("pageoutrun")
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Victim: "hog", Scope: events.ScopeGlobal, Killer: "global"})
		if inc == nil || inc.Before == nil {
			return
		}

		if g := inc.Before.GaveUp; g == nil || g.Reclaim == nil || g.Reclaim.Zone == "" || g.Reclaim.MinWatermarkBytes == 0 {
			c.errorf("why the allocator gave up: got %+v, want a zone and its watermark", g)
		}

		if c.Run.Facts["kswapd_runs_since_boot"] == 0 {
			c.errorf("pageoutrun of /proc/vmstat: got 0, want the runs of kswapd since boot")
		}

		// A kswapd that reclaimed nothing 16 times sleeps until somebody else reclaims, and
		// nothing wakes it for an OOM (mm/vmscan.c: wakeup_kswapd).
		if runs := c.Run.Facts["kswapd_runs"]; runs > 0 && len(inc.Before.Kswapd) == 0 {
			c.errorf("kswapd: got none awake, want at least one: it ran %d times", runs)
		}

		// Those before the first kill; more may follow before the counters are read.
		reported, traced := stalled(inc, events.StallDirectReclaim), c.Run.Facts["direct_reclaims"]
		if traced == 0 || reported < traced {
			c.errorf("direct reclaims before the kill: got %d, want at least the kernel's %d, and that above 0", reported, traced)
		}
	},
	FirstCause: cause("outside_containers"),
}

var hostDaemon = Case{
	Name: "host-daemon",
	Do: func(g *Guest) {
		slice := g.group("system", "system.slice", 0, nil)
		pods := g.group("kubepods", "kubepods.slice", 0, nil)
		g.startFull("pod", pods, 20)

		daemon := g.start("daemon", g.group("daemon", "daemon.service", 0, slice), "anon", "4096")
		daemon.proceed()
		daemon.waitEnd()
	},
	Want:       Kill{Victim: "daemon", Scope: events.ScopeGlobal, Killer: "global"}.check,
	FirstCause: cause("outside_containers"),
}
