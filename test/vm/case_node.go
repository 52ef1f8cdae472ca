// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"

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

var cpuset = Case{
	Name: "cpuset",
	Do: func(g *Guest) {
		leaf := g.leaf(0)
		leaf.set("cpuset.mems", "1")
		g.hog(leaf, "anon", "2048")
	},
	Want:       Kill{Victim: "hog", Scope: events.ScopeCpuset, Trigger: "hog", Class: "anon_fault", Killer: "global"}.check,
	FirstCause: cause("cpuset_exhausted"),
}

var mempolicy = Case{
	Name:       "mempolicy",
	Do:         func(g *Guest) { g.hog(g.leaf(0), "bind", "2048") },
	Want:       Kill{Victim: "hog", Scope: events.ScopeMempolicy, Trigger: "hog", Class: "anon_fault", Killer: "global"}.check,
	FirstCause: cause("mempolicy_exhausted"),
}

var global = Case{
	Name: "global", CgroupV1: true,
	Do: func(g *Guest) {
		count := traceEvents("vmscan", "mm_vmscan_direct_reclaim_end", "oom", "mark_victim")

		g.hog(g.leaf(0), "anon", "4096")
		g.facts["direct_reclaims"] = count(anyPID)
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Victim: "hog", Scope: events.ScopeGlobal, Killer: "global"})
		if inc == nil || inc.Before == nil {
			return
		}

		if g := inc.Before.GaveUp; g == nil || g.Reclaim == nil || g.Reclaim.Zone == "" || g.Reclaim.MinWatermarkBytes == 0 {
			c.errorf("why the allocator gave up: got %+v, want a zone and its watermark", g)
		}

		if len(inc.Before.Kswapd) == 0 {
			c.errorf("kswapd: got none awake, want at least one")
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
