// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Which processes die when a limit is hit, and what is reported of them.

var oomGroup = Case{
	Name: "oom-group",
	Do: func(g *Guest) {
		group := g.group("group", "group", 60, nil)
		group.set("memory.oom.group", "1")
		members := []*process{g.startFull("member1", group, 15), g.startFull("member2", group, 20)}

		g.hog(group, "anon", "80")

		for _, p := range members {
			p.waitEnd()
		}
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Scope: events.ScopeMemcg, Limiter: "group", Trigger: "hog", Class: "anon_fault", Killer: "group"})
		if inc == nil {
			return
		}

		c.roles(inc, map[events.Role]int{events.RoleChosen: 1, events.RoleGroup: 2})

		if group := inc.Killer.GroupCgroup; group == nil || group.Path != "/group" {
			c.errorf("group: got %+v, want /group", group)
		}
	},
	FirstCause: cause("group_kill"),
}

const groupMembers = 8

// groupAllocates has all members of a group at its limit at the same time, each with four
// threads: they hit the limit while the kernel kills the others.
var groupAllocates = Case{
	Name: "group-allocates",
	Do: func(g *Guest) {
		group := g.group("group", "group", 60, nil)
		group.set("memory.oom.group", "1")

		var members []*process
		for i := range groupMembers {
			members = append(members, g.startThreads(fmt.Sprintf("member%d", i), group, 20, 4))
		}

		for _, p := range members {
			p.proceed()
		}

		for _, p := range members {
			p.waitEnd()
		}
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Scope: events.ScopeMemcg, Limiter: "group", Killer: "group"})
		if inc != nil {
			c.roles(inc, map[events.Role]int{events.RoleChosen: 1, events.RoleGroup: groupMembers - 1})
		}
	},
	FirstCause: cause("group_kill"),
}

// groupShares has members that share memory, as in a vfork: the kernel signals each of
// them once for itself and again for each that it shares with, which it does not count.
var groupShares = Case{
	Name: "group-shares", SharedMemory: true,
	Unknown: []string{"victims.released_after_ns"}, // its last user may have been killed as another's
	Do: func(g *Guest) {
		group := g.group("group", "group", 60, nil)
		group.set("memory.oom.group", "1")

		forking := g.start("forking", group, "vfork", "0")
		forking.proceed()

		child := g.child("child", forking, "group")

		hog := g.start("hog", group, "shared", "80")
		hog.proceed()

		sharer := g.child("sharer", hog, "group")

		for _, p := range []*process{hog, forking} {
			p.waitEnd()
		}

		child.waitGone()
		sharer.waitGone()
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Scope: events.ScopeMemcg, Limiter: "group", Trigger: "hog", Class: "anon_fault", Killer: "group"})
		if inc == nil {
			return
		}

		c.equal("number of victims", len(inc.Victims), 4)

		if group := inc.Killer.GroupCgroup; group == nil || group.Path != "/group" {
			c.errorf("group: got %+v, want /group", group)
		}
	},
	FirstCause: cause("group_kill"),
}

// roles compares how many victims an incident has of each role.
func (c *Check) roles(inc *events.Incident, want map[events.Role]int) {
	got := map[events.Role]int{}
	for _, v := range inc.Victims {
		got[v.Role]++
	}

	c.equal("victims by role", got, want)
}

var multithread = Case{
	Name: "multithread", CgroupV1: true,
	Do: func(g *Guest) { g.hog(g.leaf(40), "thread", "80") },
	Want: func(c *Check) {
		inc := c.kill(limitHit)
		if inc != nil && (inc.Trigger.TID == inc.Trigger.PID || inc.Trigger.Thread != "worker") {
			c.errorf("trigger: got %+v, want the second thread, worker", inc.Trigger)
		}
	},
}

// threads has 32 threads at the limit at the same time: those that fail a charge when their
// process has been killed make the kernel mark them as well, and count one more hit.
var threads = Case{
	Name: "threads", CgroupV1: true,
	Do:         func(g *Guest) { g.hitByThreads(g.leaf(40)) },
	Want:       func(c *Check) { c.killsOfThreads("leaf") },
	FirstCause: cause("own_limit"),
}

const (
	leastThreaded = 3
	mostThreaded  = 6 // with more, the rate limit of the log is near
)

// hitByThreads has processes of 32 threads hit a limit, one after the other, until one has
// hit it more often than it was killed for.
func (g *Guest) hitByThreads(in *group) {
	for i := range mostThreaded {
		hits := in.OOMLocal
		hog := g.startThreads(fmt.Sprintf("threads%d", i), in, 40, 32)
		hog.proceed()
		hog.waitEnd()

		in.readCounters(g.cgroupV1)

		if i+1 >= leastThreaded && in.OOMLocal > hits+1 {
			return
		}
	}
}

// killsOfThreads compares the incidents of hitByThreads.
func (c *Check) killsOfThreads(limiter string) {
	for _, p := range c.Run.Procs {
		if strings.HasPrefix(p.Name, "threads") {
			c.kill(Kill{
				Victim: p.Name, Scope: events.ScopeMemcg, Limiter: limiter, Trigger: p.Name, Killer: "memcg",
			})
		}
	}
}

var zombieLeader = Case{
	Name: "zombie-leader", CgroupV1: true,
	Do:   func(g *Guest) { g.hog(g.leaf(40), "zombie", "80") },
	Want: limitHit.check,
}

var sharedMM = Case{
	Name: "shared-mm", CgroupV1: true,
	Do: func(g *Guest) {
		hog := g.start("hog", g.leaf(40), "shared", "80")
		hog.proceed()

		sharer := g.child("sharer", hog, "leaf")

		hog.waitEnd()
		sharer.waitGone()
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Scope: events.ScopeMemcg, Limiter: "leaf", Trigger: "hog", Class: "anon_fault", Killer: "memcg"})
		if inc == nil {
			return
		}

		c.roles(inc, map[events.Role]int{events.RoleChosen: 1, events.RoleSharedMM: 1})
	},
}

// orphanShares is the same with a sharer outside of the cgroup, whose first thread has
// ended: the kernel signals the process by that thread, which has no memory any more.
var orphanShares = Case{
	Name: "orphan-shares", CgroupV1: true,
	Do: func(g *Guest) {
		hog := g.start("hog", g.leaf(40), "orphan", "80")
		hog.proceed()

		outside := g.group("outside", "outside", 0, nil)
		sharer := g.child("sharer", hog, "outside")
		outside.set("cgroup.procs", fmt.Sprint(sharer.PID))

		hog.proceed()
		hog.waitEnd()
		sharer.waitGone()
	},
	Want: func(c *Check) {
		if inc := c.kill(limitHit); inc != nil {
			c.roles(inc, map[events.Role]int{events.RoleChosen: 1, events.RoleSharedMM: 1})
		}
	},
	// The first thread has none, and the shared memory is that of the chosen one.
	Unknown: strings.Fields(`victims.anon_rss_bytes victims.file_rss_bytes victims.shmem_rss_bytes victims.swap_bytes
		victims.total_vm_bytes victims.pgtables_bytes`),
}

var hostileNames = Case{
	Name: "hostile-names",
	Do: func(g *Guest) {
		leaf := g.group("leaf", "sp ace\x1b[31m\u202e\"{", 40, nil)
		hog := g.startWith(options{name: "hog", comm: "\x1b[2J\"}\\\ne\xffvil"}, leaf, "anon", "80")
		hog.proceed()
		hog.waitEnd()
	},
	Want: func(c *Check) {
		if inc := c.kill(limitHit); inc != nil {
			c.equal("victim's name", fmt.Sprintf("%q", inc.Victims[0].Comm), fmt.Sprintf("%q", c.proc("hog").Comm))
		}
	},
}

// oomInit kills PID 1 of a PID namespace; the processes that die with it are no incident.
var oomInit = Case{
	Name: "oom-init", CgroupV1: true, Quiet: 3 * time.Second,
	Do: func(g *Guest) {
		leaf := g.container("leaf", "a", 40)
		hog := g.startWith(options{name: "hog", comm: "hog", flags: syscall.CLONE_NEWPID}, leaf, "family", "80")
		hog.proceed()
		hog.waitEnd()
	},
	Want: func(c *Check) {
		inc := c.kill(limitHit)
		if inc == nil {
			return
		}

		c.equal("number of victims", len(inc.Victims), 1)

		const text = "PID 1 of the PID namespace exited and the kernel killed hog["
		if len(inc.Followed) != 1 || inc.Followed[0].Kind != "pidns" || !strings.Contains(inc.Followed[0].Text, text) {
			c.errorf("followed: got %+v, want one of kind pidns with %q", inc.Followed, text)
		}
	},
}
