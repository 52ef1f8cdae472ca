// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/lab"
)

// What must come of SIGKILLs from user space: an incident for each container, and
// none for who was in a plain cgroup.

func byUser(inc *events.Incident) bool { return inc.Scope == events.ScopeUser }

var requiredOfUser = []string{
	"scope", "outcome", "tier", "ladder", "ladder.usage_bytes", "ladder.peak_bytes", "ladder.cgroup.path", "killer.kind", "killer.path",
	"killer.pid", "killer.comm", "killer.uid", "victims.pid", "victims.tid", "victims.comm", "victims.anon_rss_bytes", "victims.file_rss_bytes",
	"victims.shmem_rss_bytes", "victims.swap_bytes", "victims.pgtables_bytes", "victims.total_vm_bytes", "victims.oom_score_adj",
	"victims.uid", "victims.start_time", "victims.is_container_init", "victims.cgroup.path",
}

// user finds the incident of a container, and checks what all have in common.
func (cc *caseCheck) user(group string, victims int) *events.Incident {
	g := cc.group(group)
	for _, inc := range cc.incidents {
		if len(inc.Victims) == 0 || inc.Victims[0].Cgroup == nil || inc.Victims[0].Cgroup.ID != g.ID {
			continue
		}

		cc.equal("the scope", inc.Scope, events.ScopeUser)
		cc.equal("the number of victims of "+group, len(inc.Victims), victims)

		if w := inc.Victims[0].Workload; w == nil || w.PodUID != lab.PodUID || !strings.HasSuffix(g.Path, w.ContainerID) {
			cc.problem("its workload is %+v", w)
		}

		if inc.Killer == nil || inc.Killer.Kind != "user" {
			cc.problem("its killer is %+v", inc.Killer)
			return nil
		}

		if len(inc.Ladder) == 0 || inc.Ladder[0].Cgroup.ID != g.ID || *inc.Ladder[0].UsageBytes == 0 {
			cc.problem("its ladder is %+v", inc.Ladder)
		} else if g.Max > 0 {
			near(cc, "its limit", *inc.Ladder[0].MaxBytes, g.Max, 0)
		}

		return inc
	}

	cc.problem("no incident of %s", group)

	return nil
}

func expectUserKill(cc *caseCheck) {
	cc.equal("the number of incidents", len(cc.incidents), 2)

	if inc := cc.user("stopped", 2); inc != nil {
		cc.equal("the path", inc.Killer.Path, "other")
		cc.equal("the first", inc.Victims[0].PID, cc.proc("hog").PID)
		cc.equal("the second", inc.Victims[1].PID, cc.proc("hog2").PID)
		// They have 8 MiB each, of which a few are of the program's file.
		if *inc.Victims[0].AnonRSSBytes < 6<<20 || *inc.Ladder[0].UsageBytes < 12<<20 {
			cc.problem("its memory is %+v, in %+v", inc.Victims[0], inc.Ladder[0])
		}
	}

	if inc := cc.user("killed", 1); inc != nil {
		path := "other"
		if cc.c.Facts["cgroup_kill"] == 1 {
			path = "cgroup_kill"
		}

		cc.equal("the path", inc.Killer.Path, path)
	}
}

func expectPIDNS(cc *caseCheck) {
	cc.equal("the number of incidents", len(cc.incidents), 2)

	if inc := cc.user("stopped", 4); inc != nil {
		cc.equal("the path", inc.Killer.Path, "other")
		cc.equal("the init", inc.Victims[0].PID, cc.proc("stopped").PID)

		if !*inc.Victims[0].IsContainerInit || *inc.Victims[1].IsContainerInit {
			cc.problem("its victims are %+v", inc.Victims)
		}

		if before := inc.Killer.TermBeforeNS; before == nil || *before < 200e6 {
			cc.problem("SIGTERM before: %v", before)
		}

		cc.equal("the number of notes", len(inc.Notes), 1)
	}

	if inc := cc.user("left", 3); inc != nil {
		cc.equal("the path", inc.Killer.Path, "pidns")
		cc.equal("the sender", inc.Killer.PID, cc.proc("left").PID)
	}
}
