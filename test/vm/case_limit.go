// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// Limits of cgroups: whose limit is hit, and what comes of it.

var memcgLeaf = Case{
	Name: "memcg-leaf", CgroupV1: true,
	Do:         func(g *Guest) { g.hog(g.leaf(40), "anon", "80") },
	Want:       limitHit.check,
	FirstCause: cause("own_limit"),
}

var parentLimit = Case{
	Name: "parent-limit", CgroupV1: true,
	Do: func(g *Guest) {
		parent := g.group("parent", "parent", 40, nil)
		g.hog(g.group("leaf", "leaf", 0, parent), "anon", "80")
	},
	Want: Kill{
		Victim: "hog", Scope: events.ScopeMemcg, Limiter: "parent", Trigger: "hog", Class: "anon_fault", Killer: "memcg",
	}.check,
	FirstCause: cause("ancestor_limit"),
}

// fullChild has a child that is full and has been hit before when its parent's limit is
// hit. What the kernel counted for the child after its kill, for threads that were still
// on their way, must not make the child the limiter of the next one.
var fullChild = Case{
	Name: "full-child", CgroupV1: true,
	Do: func(g *Guest) {
		parent := g.group("parent", "parent", 150, nil)
		child := g.group("child", "child", 70, parent)
		sibling := g.group("sibling", "sibling", 0, parent)

		g.hitByThreads(child)

		full := g.start("full", child, "pages", "0")
		full.proceed()
		g.fill(full, child)

		for i := range 3 {
			g.startFull(fmt.Sprintf("sibling%d", i), sibling, 22)
		}

		g.start("last", sibling, "anon", "22").proceed()
		full.waitEnd()
	},
	Want: func(c *Check) {
		c.killsOfThreads("child")
		c.kill(Kill{Victim: "full", Scope: events.ScopeMemcg, Limiter: "parent", Trigger: "last", Class: "anon_fault", Killer: "memcg"})
	},
	FirstCause: func(_ *Check, inc *events.Incident) []string {
		if strings.HasSuffix(limiterPath(inc), "/child") {
			return []string{"own_limit"}
		}

		return []string{"ancestor_limit"} // of the full process, and of another one if the parent is hit again
	},
}

var twoAtOnce = Case{
	Name: "two-at-once", CgroupV1: true,
	Do: func(g *Guest) {
		a := g.start("hog1", g.group("one", "one", 40, nil), "anon", "80")
		b := g.start("hog2", g.group("two", "two", 40, nil), "anon", "80")

		a.proceed()
		b.proceed()
		a.waitEnd()
		b.waitEnd()
	},
	Want: func(c *Check) {
		for hog, leaf := range map[string]string{"hog1": "one", "hog2": "two"} {
			c.kill(Kill{Victim: hog, Scope: events.ScopeMemcg, Limiter: leaf, Trigger: hog, Class: "anon_fault", Killer: "memcg"})
		}
	},
}

var swapMax = Case{
	Name: "swap-max",
	Do: func(g *Guest) {
		g.swapOn()

		leaf := g.leaf(32)
		leaf.set("memory.swap.max", "16M")
		g.hog(leaf, "anon", "120")
	},
	Want: func(c *Check) {
		inc := c.kill(limitHit)
		if inc == nil {
			return
		}

		l := inc.Limiter
		if l.SwapLimitBytes == nil || *l.SwapLimitBytes != 16<<20 || l.SwapUsageBytes == nil || *l.SwapUsageBytes < 15<<20 {
			c.errorf("limiter: got %+v, want swap at its limit of 16 MiB", l)
		}

		if inc.Before != nil && !slices.ContainsFunc(inc.Before.Stalls, func(s events.StallSum) bool {
			return s.What == string(events.StallMemcgReclaim) && s.ReclaimedBytes >= 8<<20
		}) {
			c.errorf("stalls: got %+v, want reclaim of at least 8 MiB, which went to swap", inc.Before.Stalls)
		}
	},
	FirstCause: cause("swap_exhausted"),
}

// swapOff makes the kernel kill the process that stops swapping, before any other and
// whatever its size: what it reads back has no room in its cgroup
// (mm/oom_kill.c: oom_evaluate_task, oom_task_origin).
var swapOff = Case{
	Name: "swapoff",
	Do: func(g *Guest) {
		g.swapOn()

		leaf := g.leaf(40)
		hog := g.start("hog", leaf, "pages", "0")
		hog.proceed()
		hog.touch(80 << 20 / os.Getpagesize())

		off := g.start("swapoff", leaf, "swapoff", "0", zramDisk)
		off.proceed()
		off.waitEnd()
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Victim: "swapoff", Scope: events.ScopeMemcg, Limiter: "leaf", Trigger: "swapoff", Killer: "memcg"})
		if inc != nil && c.Tier != tierTracepoint {
			c.equal("what the victim was chosen by", inc.Victims[0].ChosenBy, events.ChosenByOrigin)
		}
	},
	Unknown: []string{"victims.points"}, // none were compared
}

var limitLowered = Case{
	Name: "limit-lowered", CgroupV1: true,
	Do: func(g *Guest) {
		leaf := g.leaf(0)
		hog := g.startFull("hog", leaf, 60)

		leaf.Max = 20 << 20
		writer := g.start("writer", nil, "write", filepath.Join(leaf.dir, g.limitFile()), fmt.Sprint(leaf.Max))
		writer.proceed()
		writer.waitEnd()

		if !g.cgroupV1 {
			hog.waitEnd()
		}
	},
	Want: func(c *Check) {
		if c.Kernel.CgroupV1 {
			// The write fails with EBUSY where it cannot reclaim, and nobody is killed
			// (mm/memcontrol.c: mem_cgroup_resize_max).
			c.noIncident()
			return
		}

		c.kill(Kill{
			Victim: "hog", Scope: events.ScopeMemcg, Limiter: "leaf", Trigger: "writer", Class: "limit_lowered", Killer: "memcg",
		})
	},
	FirstCause: cause("limit_lowered"),
}

// limitNonblock lowers a limit without waiting: the write neither reclaims nor kills, and
// the kill comes with the next charge (mm/memcontrol.c: memory_max_write, 6.16).
var limitNonblock = Case{
	Name: "limit-nonblock", On: []string{"6.18", "7"},
	Do: func(g *Guest) {
		leaf := g.leaf(0)
		hog := g.start("hog", leaf, "pages", "0")
		hog.proceed()
		hog.touch(60 << 20 / os.Getpagesize())

		leaf.Max = 20 << 20
		writer := g.start("writer", nil, "write-nonblock", filepath.Join(leaf.dir, "memory.max"), fmt.Sprint(leaf.Max))
		writer.proceed()
		writer.waitEnd()

		hog.request(1 << 20 / os.Getpagesize())
		hog.waitEnd()
	},
	Want: func(c *Check) {
		inc := c.kill(limitHit)
		if inc == nil || c.Tier == tierTracepoint { // the write is not seen there
			return
		}

		if len(inc.LimitChanges) != 1 || inc.LimitChanges[0].Writer.PID != c.proc("writer").PID {
			c.errorf("limit changes: got %+v, want one by writer[%d]", inc.LimitChanges, c.proc("writer").PID)
		}
	},
	FirstCause: func(c *Check, _ *events.Incident) []string {
		if c.Tier == tierTracepoint {
			return []string{"own_limit"}
		}

		return []string{"limit_lowered"}
	},
}

// memoryMin has a sibling whose page cache is protected: the parent's limit is hit though
// there is memory that could be reclaimed.
var memoryMin = Case{
	Name: "memory-min",
	Do: func(g *Guest) {
		g.zram("64M")

		parent := g.group("parent", "parent", 60, nil)
		protected := g.group("protected", "protected", 0, parent)
		protected.set("memory.min", "40M")

		reader := g.start("reader", protected, "cache", "30", zramDisk)
		reader.proceed()
		reader.line()

		g.hog(g.group("leaf", "leaf", 0, parent), "anon", "80")

		g.facts["protected_mib"] = uint64(g.usage(protected)) >> 20
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{
			Victim: "hog", Scope: events.ScopeMemcg, Limiter: "parent", Trigger: "hog", Class: "anon_fault", Killer: "memcg",
		})
		if inc == nil {
			return
		}

		if mib := c.Run.Facts["protected_mib"]; mib < 25 {
			c.errorf("the case shows nothing: got %d MiB of protected page cache after the kill, want at least 25", mib)
		}

		if m := inc.Memory; m != nil && m.FileBytes != nil && *m.FileBytes < 25<<20 {
			c.errorf("memory: got %d bytes of page cache below the limiter, want at least 25 MiB", *m.FileBytes)
		}

		if l := inc.Limiter; l == nil || l.ProtectedMinBytes == nil || *l.ProtectedMinBytes < 25<<20 {
			c.errorf("limiter: got %+v, want at least 25 MiB protected below it", l)
		}
	},
}

var noKillable = Case{
	Name: "no-killable", Quiet: 2500 * time.Millisecond,
	Do: func(g *Guest) {
		leaf := g.leaf(40)
		hog := g.startWith(options{name: "hog", comm: "hog", adj: -1000}, leaf, "anon", "60")
		hog.proceed()
		time.Sleep(2500 * time.Millisecond)

		leaf.set("memory.max", "max")
		hog.waitRSS(60)
	},
	Want: func(c *Check) {
		if c.Tier == tierTracepoint {
			c.noIncident()
			return
		}

		if c.Log.NoKillable == 0 {
			c.errorf("kernel's log: got no line that nothing is killable, want one")
		}

		c.equal("number of incidents", len(c.Incidents), 1)

		for _, inc := range c.Incidents {
			c.equal("outcome", inc.Outcome, events.OutcomeNoKillable)
			c.limiter(inc, "leaf")

			n, counted := inc.Passes.NoKillable, c.group("leaf").OOM
			if n < 2 || n > counted {
				c.errorf("OOM invocations without a victim: got %d, want 2 to %d, the kernel's count", n, counted)
			}
		}
	},
	FirstCause: cause("no_killable"),
}

// alreadyExiting holds a process at its exit, with its memory, by ptrace. The kernel
// chooses it, finds that it is exiting, and only marks it
// (mm/oom_kill.c: oom_kill_process, task_will_free_mem).
var alreadyExiting = Case{
	Name:     "already-exiting",
	Unlogged: []Unlogged{{string(events.OutcomeAlreadyExiting), 1, "oom_kill_process() only marks a task that is exiting"}},
	Do: func(g *Guest) {
		leaf := g.leaf(60)
		exiting := g.start("leaving", leaf, "exit", "40")
		exiting.proceed()
		exiting.line()

		runtime.LockOSThread() // ptrace is by thread

		defer runtime.UnlockOSThread()

		_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(exiting.PID), 0, unix.PTRACE_O_TRACEEXIT, 0, 0)
		if errno != 0 {
			must.OK("ptrace", errno)
		}
		defer func() { _ = unix.PtraceDetach(exiting.PID) }()

		exiting.proceed()
		waitTraced(exiting)

		g.startFull("other", leaf, 30)
	},
	Want: func(c *Check) {
		c.equal("number of incidents", len(c.Incidents), 1)

		for _, inc := range c.Incidents {
			c.equal("outcome", inc.Outcome, events.OutcomeAlreadyExiting)
			c.equal("number of victims", len(inc.Victims), 0)
			c.limiter(inc, "leaf")

			if inc.Exiting != nil {
				c.equal("pid of the exiting process", inc.Exiting.PID, c.proc("leaving").PID)
			}
		}
	},
}

// exitingThread ends a process that nothing can kill but a user, while a thread of it waits
// for memory and its first one has ended. A thread that finds itself dying marks itself and
// goes on with the memory reserves: at the limit of a cgroup as well, other than in 6.12
// (mm/memcontrol.c: mem_cgroup_out_of_memory, which returned before).
var exitingThread = Case{
	Name: "exiting-thread", On: []string{"6.18", "7"}, NotOOM: true, Quiet: 2500 * time.Millisecond,
	Unlogged: []Unlogged{{string(events.OutcomeAlreadyExiting), 1, "out_of_memory() only marks a dying task that calls it"}},
	Do: func(g *Guest) {
		for i := range 8 {
			name := fmt.Sprintf("hog%d", i)
			leaf := g.group(name, name, 40, nil)
			marks := traceEvents("oom", "mark_victim", "", "")

			hog := g.startWith(options{name: name, comm: name, adj: -1000}, leaf, "zombie", "60")
			hog.proceed()
			leaf.waitHit(2)
			hog.kill() // it may be past the place where it would have found out
			hog.waitEnd()

			if marks(anyPID) > 0 {
				g.facts["dying"] = uint64(hog.PID)
				return
			}
		}

		must.OK("wait for a mark", errors.New("no thread marked itself"))
	},
	Want: func(c *Check) {
		for _, inc := range c.Incidents {
			c.equal("number of victims", len(inc.Victims), 0)

			if inc.Outcome == events.OutcomeAlreadyExiting && inc.Trigger != nil {
				c.equal("pid of the trigger", inc.Trigger.PID, c.Run.Facts["dying"])
			}
		}
	},
}

// waitHit waits until the limit of a cgroup was hit so often.
func (g *group) waitHit(times uint64) {
	for range 500 {
		if g.readCounters(false); g.OOM >= times {
			return
		}

		time.Sleep(20 * time.Millisecond)
	}

	must.OK("wait for the limit", fmt.Errorf("it was hit %d times", g.OOM))
}

// waitTraced waits until a process is in tracing stop.
func waitTraced(p *process) {
	for range 200 {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		// "PID (COMM) STATE ...", and a comm may have any bytes.
		if at := bytes.LastIndexByte(stat, ')'); at >= 0 && at+2 < len(stat) && stat[at+2] == 't' {
			return
		}

		time.Sleep(20 * time.Millisecond)
	}

	must.OK("wait for "+p.Name, errors.New("it did not stop at its exit"))
}
