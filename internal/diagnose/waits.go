// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// waitRules are about tasks that wait for memory instead of being killed.
var waitRules = []rule{
	{
		id: "oom_kill_disabled",
		means: "The OOM killer is disabled for the cgroup whose limit was hit. On cgroup v1 a page fault " +
			"over the limit then waits in the kernel, forever if nothing frees memory, and a system call " +
			"fails with ENOMEM; nothing is killed.",
		needs:     "oom_kill_disable of the limiter's memory.oom_control is 1",
		reference: "Documentation/admin-guide/cgroup-v1/memory.rst, 10. OOM Control; docker run --oom-kill-disable",
		match:     oomKillDisabled,
		advice: []advice{
			{layer: cgroupLayer, text: "Enable the OOM killer: write 0 to the limiter's memory.oom_control. If " +
				"tasks wait, the kernel then kills one of its processes at once."},
			{layer: cgroupLayer, text: "Raise the limit, free memory that is charged to the cgroup, such as files in a " +
				"tmpfs, or kill one of its processes, which works while they wait: the others then continue."},
			{layer: application, text: "Do not start containers with --oom-kill-disable, unless a program is " +
				"notified of the OOM (memory.oom_control) and handles it."},
		},
	},
}

func oomKillDisabled(f *facts) *finding {
	if disabled := f.limiter.OOMKillDisable; disabled == nil || !*disabled {
		return nil
	}
	const file = "memory.oom_control"

	cgroup := phrase.Cgroup(f.limiter.Level, f.limiter.Workload, f.limiter.Cgroup)
	hit := &finding{confidence: certain, brief: "oom_kill_disable is set in memory.oom_control"}
	hit.add("oom_kill_disable", "1", file)

	if f.wait == nil {
		hit.text = "Nothing would be killed: the OOM killer is disabled for " + cgroup + " (memory.oom_control), " +
			"so tasks over its limit would wait until memory is freed."

		return hit
	}
	hit.text = "Nothing is killed, and tasks wait until memory is freed: the OOM killer is disabled for " + cgroup +
		" (memory.oom_control)."

	if under := f.limiter.UnderOOM; under != nil && *under {
		hit.add("under_oom", "1", file)
	}

	if tasks := f.wait.Tasks; len(tasks) > 0 {
		who := process(&tasks[0])
		if more := len(tasks) - 1 + f.wait.TasksLeftOut; more > 0 {
			who += fmt.Sprintf(" and %d more", more)
		}

		hit.add("waiting", who, "/proc/PID/stack")
	}

	return hit
}
