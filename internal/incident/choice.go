// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"math"

	"github.com/oomtrace/oomtrace/internal/events"
)

// choice is what the kernel chose a victim by.
type choice struct {
	points *int64          // its badness; nil: not known, or the kernel compared none
	by     events.ChosenBy // instead of badness
}

// choice interprets oom_control.chosen_points, which is not always a badness
// (mm/oom_kill.c, 5.10 to 7.3): oom_evaluate_task gives a process in swapoff, or one that
// unmerges KSM pages, LONG_MAX, and with vm.oom_kill_allocating_task out_of_memory leaves
// it at 0. A process that has memory has a badness of 0 by chance at most.
func (f *facts) choice() choice {
	switch {
	case f.points == nil:
		return choice{}
	case *f.points == math.MaxInt64:
		return choice{by: events.ChosenByOrigin}
	case *f.points == 0 && f.shortage.ofNode() && f.killedItsTrigger():
		return choice{by: events.ChosenByAllocation}
	}

	return choice{points: new(*f.points)} // the record is not kept for it
}

// killedItsTrigger reports whether the chosen process is the one whose allocation failed.
func (f *facts) killedItsTrigger() bool {
	for _, v := range f.victims {
		if v.role == events.RoleChosen {
			return f.trigger != nil && v.kill.Target.TGID == f.trigger.TGID
		}
	}

	return false
}

// note is a sentence for users on a choice without points, "" where there is none.
func (c choice) note() string {
	switch c.by {
	case events.ChosenByAllocation:
		return "the kernel killed the process whose allocation failed, without comparing processes " +
			"(vm.oom_kill_allocating_task)"
	case events.ChosenByOrigin:
		return "the kernel kills a process in swapoff, or one that unmerges KSM pages, before all others, without comparing them"
	}

	return ""
}
