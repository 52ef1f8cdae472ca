// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// aboveLimit is how far usage must be above a limit to prove that the limit came down:
// charges of dying tasks, and of allocations that may not fail, pass the limit too.
const aboveLimit = 1.25

// lowered reports whether the limit was set below its usage, with the evidence.
func (f *facts) lowered() (evidence []events.Evidence, confidence string, ok bool) {
	l, class := f.limiter, f.allocation.Class
	switch {
	case class == "limit_lowered":
		class := item("class of the allocation", "limit lowered below usage", f.source("stack of the trigger"))
		return []events.Evidence{class}, certain, true
	case class != "" || !f.is(events.ScopeMemcg) || f.trigger == nil || l.UsageBytes == nil || l.LimitBytes == nil,
		l.CountsSwap(), float64(*l.UsageBytes) < aboveLimit*float64(*l.LimitBytes):
		return nil, "", false
	}

	if inside, known := inside(f.trigger.Cgroup, l.Cgroup); inside || !known {
		return nil, "", false
	}

	return []events.Evidence{
		item("used, and the limit", phrase.Size(*l.UsageBytes)+", "+phrase.Size(*l.LimitBytes), f.source(fromCounters)),
		item("cgroup of the trigger, outside the limiter",
			phrase.Cgroup("", f.trigger.Workload, f.trigger.Cgroup), f.source(fromKernel)),
	}, likely, true
}

// loweredBefore returns the write that set the limit below its usage some time before the
// kill, nil if there was none.
func (f *facts) loweredBefore() *events.LimitChange {
	for i := range f.changes {
		if c := &f.changes[i]; c.File == f.limiter.Which && c.UsageBytes > c.NewBytes {
			return c
		}
	}

	return nil
}

func limitLowered(f *facts) *finding {
	if c := f.loweredBefore(); c != nil && f.allocation.Class != "limit_lowered" {
		ago := phrase.Duration(c.BeforeNS)

		below := "below its usage of " + phrase.Size(c.UsageBytes)
		if phrase.Size(c.UsageBytes) == phrase.Size(c.NewBytes) {
			below = "just below its usage"
		}

		hit := &finding{
			confidence: certain, brief: "the limit was lowered below current usage " + ago + " earlier",
			text: fmt.Sprintf("%s lowered %s to %s %s earlier, %s.", process(&c.Writer), f.limit(), phrase.Size(c.NewBytes), ago, below),
		}
		hit.add("writer of the limit", process(&c.Writer)+", "+ago+" earlier", f.source(fromKernel))
		hit.add("used at the write, and the limit that was written",
			phrase.Size(c.UsageBytes)+", "+phrase.Size(c.NewBytes), f.source(fromCounters))

		return hit
	}

	evidence, confidence, ok := f.lowered()
	if !ok {
		return nil
	}
	l, by := f.limiter, "An unknown process"
	hit := &finding{confidence: confidence, evidence: evidence, brief: "the limit was lowered below current usage"}

	if l.LimitBytes != nil && value(l.UsageBytes) > *l.LimitBytes {
		hit.brief += " of " + phrase.Size(*l.UsageBytes)
	}

	if t := f.trigger; t != nil {
		by = process(t)
		hit.add("writer of the limit", by, f.source(fromKernel))
	}

	to := ""
	if l.LimitBytes != nil {
		to = " to " + phrase.Size(*l.LimitBytes)
		hit.add("limit that was written", phrase.Size(*l.LimitBytes), f.source(fromCounters))
	}
	hit.text = fmt.Sprintf("%s lowered %s%s, below its current usage; no process had grown.", by, f.limit(), to)

	return hit
}

var nothingKillable = &condition{"nothing could be killed", func(f *facts) bool { return f.passes.NoKillable > 0 }}

// nobodyLeft is why the kernel could not kill.
const nobodyLeft = "no process is left, or all have oom_score_adj -1000"

// actionRules are about kills that somebody caused on purpose.
var actionRules = []rule{
	{
		id:        "sysrq",
		means:     "Someone invoked the kernel's OOM killer through sysrq. Memory need not have been short.",
		needs:     "scope sysrq",
		reference: "Documentation/admin-guide/sysrq.rst, command f",
		match: func(f *facts) *finding {
			if !f.is(events.ScopeSysrq) {
				return nil
			}

			return &finding{
				text:       "The OOM kill was requested through sysrq-f; no limit was hit.",
				brief:      "the kill was requested through sysrq-f",
				confidence: certain,
				evidence:   []events.Evidence{item("scope", "sysrq", f.source(fromKernel))},
			}
		},
		advice: []advice{
			{layer: kernel, text: "Find out who wrote f to /proc/sysrq-trigger: some " +
				"user-space OOM killers do so on purpose. Restrict the keyboard shortcut with kernel.sysrq."},
		},
	},
	{
		id: "limit_lowered",
		means: "The limit was set below current usage. The kernel reclaims and, if that is not " +
			"enough, kills during the write.",
		needs: "allocation class limit_lowered: the OOM started during a write to the limit's " +
			"file, and the trigger is the writer. If the class is not known, likely: usage is " +
			"so far above the limit that charges cannot explain it, and the trigger is outside the limiter. " +
			"Or a write below usage in the minute before: one that does not wait (O_NONBLOCK) neither reclaims nor kills, " +
			"and the next charge does",
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Resize CPU and Memory ` +
			`Resources assigned to Containers"`,
		instead: []string{"container_start", "vm_memory", "heap_limit", "runtime_uncounted"},
		match:   limitLowered,
		advice: []advice{
			{layer: kubernetes, text: "Do not lower a memory limit in place below current " +
				"usage (memory.current); recreate the pod instead.", when: ofAPod},
			{layer: cgroupLayer, text: "Lower a limit in steps as usage falls; on cgroup v2 " +
				"lower memory.high first, then memory.max."},
		},
	},
	{
		id: "no_killable",
		means: "The limit was hit and no process could be killed: every process has " +
			"oom_score_adj -1000, or none is left. Exempt processes keep reclaiming, and their " +
			"allocations keep failing, until memory is freed.",
		needs:     "outcome no_killable_task",
		reference: "Documentation/filesystems/proc.rst, oom_score_adj",
		match: func(f *facts) *finding {
			if f.outcome != events.OutcomeNoKillable {
				return nil
			}

			hit := &finding{
				text: "No process could be killed for " + f.limit() + ": none is left there, or " +
					"all are exempt (oom_score_adj -1000).",
				brief:      nobodyLeft,
				confidence: certain,
				evidence:   []events.Evidence{item("outcome", "no killable task", f.source(fromKernel))},
			}
			if exempt := f.exempt(); len(exempt) > 0 {
				hit.text = "No process could be killed for " + f.limit() + ": its processes are " +
					"exempt (oom_score_adj -1000), so they keep reclaiming and their " +
					"allocations keep failing."
				hit.brief = phrase.Plural(len(exempt), "process") + " with oom_score_adj -1000 may not be killed"
				hit.add("exempt", phrase.Plural(len(exempt), "process"), f.source("candidates at the kill"))
			}

			if n := f.passes.NoKillable; n > 0 {
				hit.add("OOM invocations that found no killable process", fmt.Sprint(n), f.source(fromKernel))
			}

			return hit
		},
		advice: []advice{
			{layer: application, text: "Do not set oom_score_adj -1000 on a workload that the " +
				"limit is meant to bound: children inherit it."},
			{layer: cgroupLayer, text: "Raise the limit, or stop the processes manually: the " +
				"kernel cannot kill them."},
		},
	},
	{
		id: "kernel_panic",
		means: "The kernel panicked: the node ran out of memory, and vm.panic_on_oom is set or no process " +
			"could be killed.",
		needs:     "outcome panic, which only a kernel log has",
		reference: "Documentation/admin-guide/sysctl/vm.rst, panic_on_oom; mm/oom_kill.c, out_of_memory",
		match: func(f *facts) *finding {
			if f.outcome != events.OutcomePanic {
				return nil
			}

			hit := &finding{
				text:       "The kernel panicked instead of killing a process, as vm.panic_on_oom requests.",
				brief:      "vm.panic_on_oom requests a panic",
				confidence: certain,
				evidence:   []events.Evidence{item("outcome", "kernel panic", f.source(fromKernel))},
			}
			if f.passes.NoKillable > 0 {
				hit.text = "The kernel panicked: the node was out of memory and no process could be killed, because all " +
					"are exempt (oom_score_adj -1000) or none was left."
				hit.brief = nobodyLeft
				hit.add("processes that could be killed", "none", f.source(fromKernel))
			}

			return hit
		},
		advice: []advice{
			{layer: application, text: "Do not set oom_score_adj -1000 on processes that can grow: children " +
				"inherit it.", when: nothingKillable},
			{layer: kernel, text: "Set vm.panic_on_oom to 0 if the node is to survive, and kernel.panic to a " +
				"number of seconds after which it reboots."},
		},
	},
	{
		id: "suspending",
		means: "The node suspended or hibernated: the OOM killer is turned off while tasks are frozen, " +
			"so the allocation failed and nothing was killed.",
		needs:     "outcome suspending: an OOM invocation that returned at once, without looking for a victim",
		reference: "Documentation/power/freezing-of-tasks.rst; mm/oom_kill.c, oom_killer_disable",
		match: func(f *facts) *finding {
			if f.outcome != events.OutcomeSuspending {
				return nil
			}

			what := "The node ran out of memory"
			if f.is(events.ScopeMemcg) {
				what = phrase.Capitalize(f.limit()) + " was reached"
			}

			return &finding{
				text: what + " while the node suspended or hibernated: the OOM killer is turned off then, and " +
					"nothing was killed.",
				brief:      "tasks were frozen for suspend or hibernation",
				confidence: certain,
				evidence: []events.Evidence{item("OOM invocations while the OOM killer was turned off",
					fmt.Sprint(max(f.passes.Suspending, 1)), f.source(fromKernel))},
			}
		},
		advice: []advice{
			{layer: kernel, text: "Free memory before the node hibernates, or lower /sys/power/image_size."},
		},
	},
}
