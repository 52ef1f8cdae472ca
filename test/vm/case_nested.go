// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Machines within the machine: the limit of a system container or of a node container is
// hit by what runs inside of it, which has no limit of its own.

var nestedGuest = Case{
	Name: "nested-guest", CgroupV1: true,
	Do: func(g *Guest) {
		guest := g.nest(nil, "lxc", "guest=web1")
		g.limit(guest, 40)

		g.hog(g.nest(guest, "system.slice", "unit=sshd.service"), "anon", "80")
	},
	Want: func(c *Check) {
		if inc := c.nestedKill("guest"); inc != nil {
			c.equal("unit of the victim", unitOf(inc.Victims[0].Workload), "sshd.service")
		}
	},
	FirstCause: cause("ancestor_limit"),
}

// The ids of the containers are of this case alone: a kill in the same container later would name this
// one.
var nestedNodeID, nestedAppID = strings.Repeat("e", 64), strings.Repeat("f", 64)

var nestedNode = Case{
	Name: "nested-node", CgroupV1: true,
	Do: func(g *Guest) {
		node := g.nest(nil, "docker", "node="+nestedNodeID)
		g.limit(node, 40)

		pod := g.nest(node, "kubelet", "kubepods", "burstable", "pod"+podUID)
		g.hog(g.nest(pod, "app="+nestedAppID), "anon", "80")
	},
	Want: func(c *Check) {
		inc := c.nestedKill("node")
		if inc == nil {
			return
		}

		w := inc.Victims[0].Workload
		if w == nil {
			c.errorf("workload of the victim: got none, want the pod")
			return
		}

		c.equal("pod of the victim", w.PodUID, podUID)
		c.equal("container of the victim", w.ContainerID, nestedAppID)
		c.equal("node container of the victim", w.NodeContainerID, nestedNodeID)
	},
	FirstCause: cause("ancestor_limit"),
}

// nestedKill compares the kill of a hog that hit the limit of a cgroup above its own.
func (c *Check) nestedKill(limiter string) *events.Incident {
	return c.kill(Kill{
		Victim: "hog", Scope: events.ScopeMemcg, Limiter: limiter, Trigger: "hog", Class: "anon_fault", Killer: "memcg",
	})
}

func unitOf(w *events.Workload) string {
	if w == nil {
		return ""
	}

	return w.Unit
}

// nest makes cgroups one in the other, and returns the innermost one. A directory is named
// like its cgroup, or NAME=DIRECTORY.
func (g *Guest) nest(parent *group, names ...string) *group {
	for _, name := range names {
		name, dir, found := strings.Cut(name, "=")
		if !found {
			dir = name
		}

		parent = g.group(name, dir, 0, parent)
	}

	return parent
}
