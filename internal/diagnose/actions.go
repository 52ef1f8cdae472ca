// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"strings"

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
		return []events.Evidence{class}, Certain, true
	case class != "" || !f.is(events.ScopeMemcg) || f.trigger == nil || l.UsageBytes == nil || l.LimitBytes == nil,
		strings.HasPrefix(l.Which, "memory.memsw."), float64(*l.UsageBytes) < aboveLimit*float64(*l.LimitBytes):
		return nil, "", false
	}

	if inside, known := inside(f.trigger.Cgroup, l.Cgroup); inside || !known {
		return nil, "", false
	}

	return []events.Evidence{
		item("used, and the limit", phrase.Size(*l.UsageBytes)+", "+phrase.Size(*l.LimitBytes), f.source(fromCounters)),
		item("cgroup of the trigger, which has no part in the limit",
			phrase.Cgroup(f.trigger.Workload, f.trigger.Cgroup), f.source(fromKernel)),
	}, Likely, true
}

func limitLowered(f *facts) *finding {
	evidence, confidence, ok := f.lowered()
	if !ok {
		return nil
	}
	l, by := f.limiter, "Somebody"
	hit := &finding{confidence: confidence, evidence: evidence}

	if t := f.trigger; t != nil {
		by = process(t)
		hit.add("writer of the limit", by, f.source(fromKernel))
	}

	to := ""
	if l.LimitBytes != nil {
		to = " to " + phrase.Size(*l.LimitBytes)
		hit.add("limit that was written", phrase.Size(*l.LimitBytes), f.source(fromCounters))
	}
	hit.text = fmt.Sprintf("%s lowered %s%s, below what was in use; no process had grown.", by, f.limit(), to)

	return hit
}

// actionRules are about kills that somebody caused on purpose.
var actionRules = []rule{
	{
		id:        "sysrq",
		means:     "Somebody asked the kernel to run its OOM killer. Nothing had to be short.",
		needs:     "scope sysrq",
		reference: "Documentation/admin-guide/sysrq.rst, command f",
		match: func(f *facts) *finding {
			if !f.is(events.ScopeSysrq) {
				return nil
			}

			return &finding{
				text:       "Somebody asked for an OOM kill by sysrq-f; no limit was hit.",
				confidence: Certain,
				evidence:   []events.Evidence{item("scope", "sysrq", f.source(fromKernel))},
			}
		},
		advice: []advice{
			{layer: kernel, text: "Find who wrote f to /proc/sysrq-trigger: some user-space OOM killers do on " +
				"purpose; kernel.sysrq restricts the keyboard's."},
		},
	},
	{
		id:    "limit_lowered",
		means: "The limit was set below what was in use. The kernel reclaims, and then kills, within the write.",
		needs: "allocation class limit_lowered: the OOM began in a write to the limit's file; the trigger is " +
			"the writer. Where the class is not known, likely: usage is well above the limit, which no charge may " +
			"take it to, and the trigger is not of the limiter",
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Resize CPU and Memory ` +
			`Resources assigned to Containers"`,
		match: limitLowered,
		advice: []advice{
			{layer: kubernetes, text: "Lower a memory limit in place only below what is in use now " +
				"(memory.current); else recreate the pod.", when: ofAPod},
			{layer: cgroupLayer, text: "Lower a limit in steps, as usage comes down; in cgroup v2 memory.high " +
				"first, then memory.max."},
		},
	},
	{
		id: "no_killable",
		means: "The limit was hit and nothing could be killed: every process has oom_score_adj -1000, or none " +
			"is left. Those that are exempt go on failing, and reclaiming, until something is given back.",
		needs:     "outcome no_killable_task",
		reference: "Documentation/filesystems/proc.rst, oom_score_adj",
		match: func(f *facts) *finding {
			if f.outcome != events.OutcomeNoKillable {
				return nil
			}

			hit := &finding{
				text: "Nothing could be killed for " + f.limit() + ": no process is left there, or each is " +
					"exempt (oom_score_adj -1000).",
				confidence: Certain,
				evidence:   []events.Evidence{item("outcome", "no killable task", f.source(fromKernel))},
			}
			if exempt := f.exempt(); len(exempt) > 0 {
				hit.text = "Nothing may be killed for " + f.limit() + ": its processes are exempt (oom_score_adj " +
					"-1000), so they fail and reclaim without end."
				hit.add("exempt", phrase.Plural(len(exempt), "process"), f.source("candidates at the kill"))
			}

			if n := f.passes.NoKillable; n > 0 {
				hit.add("runs of the OOM killer that found nobody", fmt.Sprint(n), f.source(fromKernel))
			}

			return hit
		},
		advice: []advice{
			{layer: application, text: "Do not give -1000 to what a limit is set for: a process inherits " +
				"oom_score_adj from the one that started it."},
			{layer: cgroupLayer, text: "Raise the limit, or end the processes by hand: the kernel will not."},
		},
	},
	userKill("evicted",
		"The kubelet took the pod off the node to save the node. The container's own limit has no part in it.",
		"a kill from user space whose reason is an eviction",
		`Kubernetes "Node-pressure Eviction"`,
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Reason != "eviction" {
				return "", false
			}

			text := "The kubelet evicted the pod because the node was short of memory; no limit of the pod was hit."
			if e := f.eviction; e.AvailableBytes != nil {
				text = fmt.Sprintf("The kubelet evicted the pod: memory.available of the node was %s",
					phrase.Size(*e.AvailableBytes))
				if e.HardBytes != nil {
					text += ", its hard threshold is " + phrase.Size(*e.HardBytes)
				}
				text += ". No limit of the pod was hit."
			}

			return text, true
		},
		advice{layer: kubernetes, text: "Set the pod's request near the 95th to 99th percentile of its real peak: " +
			"pods above their request are evicted first."},
		advice{layer: kubernetes, text: "Reserve what the host needs (system-reserved, kube-reserved), and spread " +
			"or scale the nodes."},
	),
	userKill("oomd_kill",
		"A user-space OOM daemon (systemd-oomd, oomd) killed a cgroup for its pressure or swap use, before the "+
			"kernel had to.",
		"a kill from user space, sent by systemd-oomd or oomd",
		"systemd-oomd.service(8), oomd.conf(5)",
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path != "systemd-oomd" && k.Path != "oomd" {
				return "", false
			}

			return k.Path + " killed it by its rules for pressure or swap; the kernel's OOM killer did not run.", true
		},
		advice{layer: kernel, text: "Look at the daemon's log for the limit that it saw passed; watch PSI some and " +
			"full over 60 s and 300 s yourself."},
		advice{layer: cgroupLayer, text: "Set ManagedOOMMemoryPressure and its limit for the slices it may act on, " +
			"and ManagedOOMPreference for those it should spare."},
	),
	userKill("earlyoom_kill",
		"earlyoom, or nohang, killed a process with a high score, since the node's memory and swap were below its "+
			"thresholds.",
		"a kill from user space, sent by earlyoom or nohang",
		"earlyoom(1), nohang(8)",
		func(f *facts, k *events.Killer) (string, bool) {
			return phrase.ClipName(k.Path) + " killed it: the node had less free memory and swap than that " +
				"daemon wants.", k.Path == "earlyoom" || k.Path == "nohang"
		},
		advice{layer: kernel, text: "Look at the daemon's log for the percentages that it saw; of earlyoom -m and " +
			"-s set them, --prefer and --avoid weigh the choice."},
	),
	userKill("kernel_signal",
		"The kernel itself sent the signal, and not for memory: a CPU time limit, a tracer that ended, or a page "+
			"that went bad.",
		"a kill whose path is the kernel, outside of the OOM killer",
		"setrlimit(2) RLIMIT_CPU, ptrace(2) PTRACE_O_EXITKILL, Documentation/mm/hwpoison.rst",
		func(f *facts, k *events.Killer) (string, bool) {
			return "The kernel killed it for another reason than memory: RLIMIT_CPU, the end of its tracer, or a " +
				"memory error.", k.Path == "kernel"
		},
		advice{layer: kernel, text: "Look at the kernel log around that time for memory errors, and at the CPU " +
			"time limit of the process (/proc/PID/limits)."},
	),
	userKill("killed_by_human",
		"A person, or a command in a person's login, sent the signal.",
		"a kill from user space with a login behind the sender",
		"signal(7)",
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path != "human" && k.Login == nil {
				return "", false
			}
			who := "Somebody who is logged in"

			if l := k.Login; l != nil {
				if name := cmp.Or(l.SudoUser, l.User); name != "" {
					who = "User " + phrase.ClipName(name)
				}

				if l.TTY != "" {
					who += " at " + phrase.ClipName(l.TTY)
				}
			}

			return who + " sent SIGKILL by " + sender(k) + ".", true
		},
		advice{layer: application, text: "Ask who did it; SIGTERM gives a process the time to end in order."},
	),
	userKill("pidns_teardown",
		"The first process of the container ended, and the kernel killed the rest of its pid namespace.",
		"a kill whose path is the end of a pid namespace",
		"pid_namespaces(7), the namespace's init process",
		func(f *facts, k *events.Killer) (string, bool) {
			return "Process 1 of the container ended, and the kernel killed the others with it; look for why that " +
				"one ended.", k.Path == "pidns"
		},
		advice{layer: application, text: "Let process 1 of the container wait for its children before it ends."},
	),
	userKill("killed_from_inside",
		"A process of the same container sent the signal: a supervisor, a script, or the application itself.",
		"a kill from user space, sent from inside the container",
		"signal(7)",
		func(f *facts, k *events.Killer) (string, bool) {
			return "It was killed from inside its own container, by " + sender(k) + ".", k.Path == "self"
		},
		advice{layer: application, text: "Look at the log of the sender: supervisors kill what does not answer, or " +
			"outgrows a limit of their own."},
	),
	userKill("runtime_stop",
		"The container runtime or systemd stopped it because it was asked to: the pod was deleted or preempted, a "+
			"probe failed, a unit was stopped.",
		"a kill from user space, sent by the runtime or by systemd (or by cgroup.kill), and not for an eviction",
		`Kubernetes "Pod Lifecycle", termination of Pods; systemd.kill(5)`,
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path != "runtime" && k.Path != "systemd" && k.Path != "cgroup_kill" || k.Reason == "eviction" {
				return "", false
			}

			text := "It was stopped by " + sender(k)
			if why := stopReasons[k.Reason]; why != "" {
				text += ": " + why
			}

			if k.TermBeforeNS != nil {
				text += fmt.Sprintf("; SIGTERM came %s before and was not followed", phrase.Duration(*k.TermBeforeNS))
			}

			return text + ".", true
		},
		advice{
			layer: application, text: "Handle SIGTERM, and end within the grace period.",
			when: &condition{"SIGTERM came before", func(f *facts) bool { return f.killer.TermBeforeNS != nil }},
		},
		advice{
			layer: kubernetes, text: "Give the pod a terminationGracePeriodSeconds that its shutdown fits in.",
			when: &condition{"of a pod, SIGTERM " +
				"came before", func(f *facts) bool { return f.killer.TermBeforeNS != nil && f.inPod() }},
		},
		advice{
			layer: kubernetes, text: "Look at the probe's timeout and failureThreshold: a container that stalls " +
				"for memory or CPU answers late.",
			when: &condition{"a probe failed", func(f *facts) bool { return f.killer.Reason == "probe" }},
		},
		advice{
			layer: kubernetes, text: "Look at the pod's events and at who deleted it: memory is not what to look at.",
			when: &condition{"of a pod, no probe failed", func(f *facts) bool { return f.killer.Reason != "probe" && f.inPod() }},
		},
		advice{
			layer: application, text: "Look at the log of the unit's manager: memory is not what to look at.",
			when: noPod,
		},
	),
	userKill("killed_by_process",
		"Another process of the node sent the signal, one that is none of the known killers.",
		"a kill from user space whose sender is known, and is neither a runtime, systemd, an OOM daemon nor a person",
		"signal(7), kill(2)",
		func(f *facts, k *events.Killer) (string, bool) {
			return sender(k) + " sent SIGKILL.", (k.Path == "other" || k.Path == "cron") && k.Login == nil && (k.Comm != "" || k.PID != 0)
		},
		advice{layer: application, text: "Look at what the sender is, and what started it: its ancestors are listed."},
	),
}

var stopReasons = map[string]string{
	"delete": "the pod was deleted", "probe": "its liveness or startup " +
		"probe failed", "preemption": "a pod of higher priority took its place",
	"unit_stop": "the unit was stopped", "timeout": "it did not end in time", "asked": "somebody asked for it",
	"memory_pressure": "memory was short",
}

// userKill makes a rule about a SIGKILL from user space. Text returns the cause, and
// whether the rule applies to the killer.
func userKill(id, means, needs, reference string, text func(*facts, *events.Killer) (string, bool), list ...advice) rule {
	return rule{
		id: id, means: means, needs: needs, reference: reference, advice: list,
		match: func(f *facts) *finding {
			if !f.is(events.ScopeUser) {
				return nil
			}
			k := &f.killer

			words, ok := text(f, k)
			if !ok {
				return nil
			}

			hit := &finding{text: words, confidence: Likely, evidence: senderEvidence(f, k)}
			// The kernel reports the sender. The reason is a conclusion from other evidence.
			if k.Reason == "" || len(k.Evidence) > 0 {
				hit.confidence = Certain
			}

			return hit
		},
	}
}

func sender(k *events.Killer) string {
	if k.Comm == "" && k.PID == 0 {
		return phrase.Spaced(phrase.ClipName(k.Path))
	}

	return phrase.Process(k.Comm, k.PID)
}

func senderEvidence(f *facts, k *events.Killer) []events.Evidence {
	who := sender(k) + " (" + phrase.Spaced(phrase.ClipName(k.Path)) + ")"
	list := []events.Evidence{item("sender of SIGKILL", who, f.source("kernel at the signal"))}

	var parents []string
	for _, a := range k.Ancestry {
		parents = append(parents, phrase.Process(a.Comm, a.PID))
	}

	if len(parents) > 0 {
		const shown = 6 // the nearest matter most
		if len(parents) > shown {
			parents = append(parents[:shown], fmt.Sprintf("and %d more", len(parents)-shown))
		}
		list = append(list, item("started by", strings.Join(parents, ", "), "/proc"))
	}

	if k.Reason != "" {
		list = append(list, item("reason", phrase.Spaced(phrase.ClipName(k.Reason)), f.source("evidence on the node")))
	}

	return append(list, k.Evidence...)
}
