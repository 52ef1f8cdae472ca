// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

func (b block) victims() []group {
	victims := b.inc.Victims
	var groups []group
	known := b.home()

	for i := range victims {
		v := &victims[i]

		g := list(b.victim(v, known)...)
		g.title = phrase.Victim(v, b.inc.Killer)
		g.key = g.title // a process with a new name is shown as a new victim
		groups = append(groups, g)

		if v.Cgroup != nil {
			known = v.Cgroup
		}
	}

	return groups
}

func (b block) victim(v *events.Victim, known *events.Cgroup) []string {
	items := phrase.NonEmpty(phrase.Join(" ", b.thread(&v.Process), phrase.Role(v.Role)), b.place(&v.Process, known))
	if v.Comm == "" && v.PID == 0 {
		items = []string{phrase.Victim(v, b.inc.Killer)} // by a killer that named no process
	}

	if v.IsContainerInit != nil && *v.IsContainerInit {
		items = append(items, "container init")
	}

	items = append(items, b.sizes(
		part{"anon", v.AnonRSSBytes}, part{"file", v.FileRSSBytes}, part{"shmem", v.ShmemRSSBytes}, part{"swap", v.SwapBytes})...)
	items = append(items, b.sizes(part{"page tables", v.PgtablesBytes}, part{"virtual", v.TotalVMBytes})...)

	items = append(items, b.traits(v)...)
	if v.ExitAfterNS != nil {
		items = append(items, "exited after "+phrase.Duration(*v.ExitAfterNS))
	}

	if v.ReapedAfterNS != nil {
		items = append(items, "memory reaped after "+phrase.Duration(*v.ReapedAfterNS))
	}

	if v.ReleasedAfterNS != nil {
		items = append(items, "memory freed after "+phrase.Duration(*v.ReleasedAfterNS))
	}

	return items
}

// traits are what the kernel's choice rests on, and the victim's user and start.
func (b block) traits(v *events.Victim) []string {
	var items []string
	if v.OOMScoreAdj != nil {
		items = append(items, fmt.Sprintf("adj %d", *v.OOMScoreAdj))
	}

	if v.Points != nil {
		items = append(items, fmt.Sprintf("badness %d pages", *v.Points))
	}

	if v.UID != nil {
		items = append(items, fmt.Sprintf("uid %d", *v.UID))
	}

	if v.StartTime != nil {
		items = append(items, "started "+v.StartTime.In(b.loc).Format(time.DateTime))
	}

	return items
}
