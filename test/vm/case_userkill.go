// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// SIGKILLs from user space: an incident for each container, and none for a process in
// a plain cgroup.

var userKill = Case{
	Name: "user-kill", CgroupV1: true, NotOOM: true, UserKills: true, Quiet: 3 * time.Second,
	Unlogged: []Unlogged{{killsByUser, 2, "the OOM killer has no part in it"}},
	Do: func(g *Guest) {
		plain := g.startFull("plain", g.leaf(40), 8)
		plain.kill()
		plain.waitEnd()

		stopped := g.container("stopped", "a", 40)
		p, q := g.startFull("hog", stopped, 8), g.startFull("hog2", stopped, 8)
		p.kill()
		q.kill()
		p.waitEnd()
		q.waitEnd()

		killed := g.container("killed", "b", 40)

		r := g.startFull("hog3", killed, 8)
		if err := os.WriteFile(filepath.Join(killed.dir, "cgroup.kill"), []byte("1"), 0); err != nil {
			r.kill() // before 5.14
		} else {
			g.facts["cgroup_kill"] = 1
		}

		r.waitEnd()
	},
	Want: func(c *Check) {
		c.equal("number of incidents", len(c.Incidents), 2)

		if inc := c.killByUser("stopped", 2); inc != nil {
			c.equal("killer's path", inc.Killer.Path, "other")
			c.equal("pid of the first victim", inc.Victims[0].PID, c.proc("hog").PID)
			c.equal("pid of the second victim", inc.Victims[1].PID, c.proc("hog2").PID)
			// They have 8 MiB each, of which some are of the program's file.
			if anon, usage := *inc.Victims[0].AnonRSSBytes, *inc.Ladder[0].UsageBytes; anon < 6<<20 || usage < 12<<20 {
				c.errorf("memory: got %d bytes anonymous in a cgroup of %d, want at least 6 MiB in 12 MiB", anon, usage)
			}
		}

		if inc := c.killByUser("killed", 1); inc != nil {
			path := "other"
			if c.Run.Facts["cgroup_kill"] == 1 {
				path = "cgroup_kill"
			}

			c.equal("killer's path", inc.Killer.Path, path)
		}
	},
}

// pidnsInit ends PID 1 of PID namespaces, by which the kernel kills the others there with
// the signal that the OOM killer uses.
var pidnsInit = Case{
	Name: "pidns-init", CgroupV1: true, NotOOM: true, UserKills: true, Quiet: 3 * time.Second,
	Unlogged: []Unlogged{{killsByUser, 2, "the OOM killer has no part in it"}},
	Do: func(g *Guest) {
		startInit := func(name string, in *group) *process {
			p := g.startWith(options{name: name, comm: name, flags: syscall.CLONE_NEWPID}, in, "init", "3")
			p.proceed()
			p.line()

			return p
		}

		for _, p := range []*process{startInit("plain", nil), startInit("stopped", g.container("stopped", "a", 0))} {
			// PID 1 of a namespace has no default handlers, and ignores it.
			must.OK("send SIGTERM", syscall.Kill(p.PID, syscall.SIGTERM))
			time.Sleep(200 * time.Millisecond)
			p.kill()
			p.waitEnd()
		}

		left := startInit("left", g.container("left", "b", 0))
		must.OK("close a pipe", left.in.Close()) // it exits
		left.waitEnd()
	},
	Want: func(c *Check) {
		c.equal("number of incidents", len(c.Incidents), 2)

		if inc := c.killByUser("stopped", 4); inc != nil {
			c.equal("killer's path", inc.Killer.Path, "other")
			c.equal("pid of the first victim", inc.Victims[0].PID, c.proc("stopped").PID)
			c.equal("first victim is the container's init", *inc.Victims[0].IsContainerInit, true)
			c.equal("second victim is the container's init", *inc.Victims[1].IsContainerInit, false)

			if before := inc.Killer.TermBeforeNS; before == nil || *before < 200e6 {
				c.errorf("SIGTERM before: got %v, want at least 200 ms", before)
			}

			c.equal("number of notes", len(inc.Notes), 1)
		}

		if inc := c.killByUser("left", 3); inc != nil {
			c.equal("killer's path", inc.Killer.Path, "pidns")
			c.equal("killer's pid", inc.Killer.PID, c.proc("left").PID)
		}
	},
}

// kernelKills are kills by the kernel that are no OOM: a limit of CPU time, the end of a
// tracer, and a timer, which interrupts whoever runs at that moment.
var kernelKills = Case{
	Name: "kernel-kills", CgroupV1: true, NotOOM: true, UserKills: true, Quiet: 3 * time.Second,
	Unlogged: []Unlogged{{killsByUser, 3, "the OOM killer has no part in it"}},
	Do: func(g *Guest) {
		var busy []*process

		for _, name := range []string{"busy1", "busy2"} { // to be interrupted
			p := g.start(name, nil, "spin", "0")
			p.proceed()
			busy = append(busy, p)
		}

		limited := g.start("limited", g.container("limited", "a", 0), "spin", "1")
		timed := g.start("timed", g.container("timed", "b", 0), "timer", "300")
		tracer := g.start("tracer", g.container("traced", "c", 0), "exitkill", "0")

		for _, p := range []*process{limited, timed, tracer} {
			p.proceed()
		}

		traced := g.child("traced", tracer, "traced")
		tracer.proceed()
		tracer.waitEnd()
		traced.waitGone()
		timed.waitEnd()
		limited.waitEnd()

		for _, p := range busy {
			p.kill()
			p.waitEnd()
		}
	},
	Want: func(c *Check) {
		for _, name := range []string{"limited", "timed", "traced"} {
			inc, _ := c.find(c.proc(name).PID)
			if inc == nil || inc.Killer == nil {
				c.errorf("got %+v for %s, want an incident with a killer", inc, name)
				continue
			}

			killer, want := 0, map[string]string{
				"limited": events.PathRLimit, "timed": events.PathTimer, "traced": events.PathTracer,
			}
			if name == "traced" {
				killer = c.proc("tracer").PID // the only process that has a part in it
			}

			c.equal("scope of "+name, inc.Scope, events.ScopeUser)
			c.equal("path of the killer of "+name, inc.Killer.Path, want[name])
			c.equal("pid of the killer of "+name, inc.Killer.PID, killer)
		}
	},
}

// killByUser returns the incident of a container, and compares what all of them have in
// common; nil if there is none.
func (c *Check) killByUser(group string, victims int) *events.Incident {
	g := c.group(group)
	for _, inc := range c.Incidents {
		if len(inc.Victims) == 0 || inc.Victims[0].Cgroup == nil || inc.Victims[0].Cgroup.ID != g.ID {
			continue
		}

		c.equal("scope", inc.Scope, events.ScopeUser)
		c.equal("number of victims of "+group, len(inc.Victims), victims)

		if w := inc.Victims[0].Workload; w == nil || w.PodUID != podUID || !strings.HasSuffix(g.Path, w.ContainerID) {
			c.errorf("workload: got %+v, want the container of %s", w, g.Path)
		}

		if inc.Killer == nil || inc.Killer.Kind != "user" {
			c.errorf("killer: got %+v, want one of kind user", inc.Killer)
			return nil
		}

		if len(inc.Ladder) == 0 || inc.Ladder[0].Cgroup.ID != g.ID || *inc.Ladder[0].UsageBytes == 0 {
			c.errorf("ladder: got %+v, want it to start with the usage of cgroup %d", inc.Ladder, g.ID)
		} else if g.Max > 0 {
			c.equal("limit of the container", *inc.Ladder[0].MaxBytes, g.Max)
		}

		return inc
	}

	c.errorf("got no incident of container %s", group)

	return nil
}
