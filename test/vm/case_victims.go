// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
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

		roles := map[events.Role]int{}
		for _, v := range inc.Victims {
			roles[v.Role]++
		}

		c.equal("victims by role", roles, map[events.Role]int{events.RoleChosen: 1, events.RoleGroup: 2})

		if group := inc.Killer.GroupCgroup; group == nil || group.Path != "/group" {
			c.errorf("group: got %+v, want /group", group)
		}
	},
	FirstCause: cause("group_kill"),
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

		pid, err := strconv.Atoi(hog.line())
		must.OK("read the sharer's pid", err)
		sharer := &process{Proc: Proc{Name: "sharer", PID: pid, Comm: []byte("sharer"), Group: "leaf"}, done: make(chan struct{})}
		g.procs = append(g.procs, sharer)

		hog.waitEnd()

		for range 500 {
			if syscall.Kill(pid, 0) != nil {
				sharer.status = syscall.WaitStatus(syscall.SIGKILL)
				close(sharer.done)

				return
			}

			// Its parent is dead: it is to be reaped here, or by the parent of the guest.
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)

			time.Sleep(10 * time.Millisecond)
		}

		must.OK("wait for the sharer", errors.New("it was not killed"))
	},
	Want: func(c *Check) {
		inc := c.kill(Kill{Scope: events.ScopeMemcg, Limiter: "leaf", Trigger: "hog", Class: "anon_fault", Killer: "memcg"})
		if inc == nil {
			return
		}

		var roles []events.Role
		for _, v := range inc.Victims {
			roles = append(roles, v.Role)
		}

		c.equal("roles of the victims", roles, []events.Role{events.RoleChosen, events.RoleSharedMM})
	},
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

		const note = "PID 1 of the PID namespace exited and the kernel killed hog["
		if !strings.Contains(strings.Join(inc.Notes, "\n"), note) {
			c.errorf("notes: got %q, want one with %q", inc.Notes, note)
		}
	},
}
