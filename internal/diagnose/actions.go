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
		return []events.Evidence{class}, certain, true
	case class != "" || !f.is(events.ScopeMemcg) || f.trigger == nil || l.UsageBytes == nil || l.LimitBytes == nil,
		strings.HasPrefix(l.Which, "memory.memsw."), float64(*l.UsageBytes) < aboveLimit*float64(*l.LimitBytes):
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
		hit := &finding{confidence: certain, text: fmt.Sprintf("%s lowered %s to %s %s before, below its usage of %s.",
			process(&c.Writer), f.limit(), phrase.Size(c.NewBytes), ago, phrase.Size(c.UsageBytes))}
		hit.add("writer of the limit", process(&c.Writer)+", "+ago+" before", f.source(fromKernel))
		hit.add("used at the write, and the limit that was written",
			phrase.Size(c.UsageBytes)+", "+phrase.Size(c.NewBytes), f.source(fromCounters))

		return hit
	}

	evidence, confidence, ok := f.lowered()
	if !ok {
		return nil
	}
	l, by := f.limiter, "An unknown process"
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
	hit.text = fmt.Sprintf("%s lowered %s%s, below its current usage; no process had grown.", by, f.limit(), to)

	return hit
}

var nothingKillable = &condition{"nothing could be killed", func(f *facts) bool { return f.passes.NoKillable > 0 }}

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
		match: limitLowered,
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
				confidence: certain,
				evidence:   []events.Evidence{item("outcome", "no killable task", f.source(fromKernel))},
			}
			if exempt := f.exempt(); len(exempt) > 0 {
				hit.text = "No process could be killed for " + f.limit() + ": its processes are " +
					"exempt (oom_score_adj -1000), so they keep reclaiming and their " +
					"allocations keep failing."
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
				confidence: certain,
				evidence:   []events.Evidence{item("outcome", "kernel panic", f.source(fromKernel))},
			}
			if f.passes.NoKillable > 0 {
				hit.text = "The kernel panicked: the node was out of memory and no process could be killed, because all " +
					"are exempt (oom_score_adj -1000) or none was left."
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
				confidence: certain,
				evidence: []events.Evidence{item("OOM invocations while the OOM killer was turned off",
					fmt.Sprint(max(f.passes.Suspending, 1)), f.source(fromKernel))},
			}
		},
		advice: []advice{
			{layer: kernel, text: "Free memory before the node hibernates, or lower /sys/power/image_size."},
		},
	},
	userKill("evicted",
		"The kubelet evicted the pod to relieve memory pressure on the node. The container's "+
			"own limit was not involved.",
		"a kill from user space with reason eviction",
		`Kubernetes "Node-pressure Eviction"`,
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Reason != events.ReasonEviction {
				return "", false
			}

			text := "The kubelet evicted the pod because the node was short of memory; no limit of the pod was hit."
			if e := f.eviction; e.AvailableBytes != nil {
				text = fmt.Sprintf("The kubelet evicted the pod: memory.available of the node was %s",
					phrase.Size(*e.AvailableBytes))
				if e.HardBytes != nil {
					text += ", its hard eviction threshold is " + phrase.Size(*e.HardBytes)
				}
				text += ". No limit of the pod was hit."
			}

			return text, true
		},
		advice{layer: kubernetes, text: "Set the pod's request close to the p95 to p99 of real " +
			"usage: pods above their request are evicted first."},
		advice{layer: kubernetes, text: "Reserve enough memory for the host (system-reserved, " +
			"kube-reserved), and spread the pods or add nodes."},
	),
	userKill("oomd_kill",
		"A user-space OOM daemon (systemd-oomd, oomd) killed a cgroup because of its memory "+
			"pressure or swap usage, before the kernel had to.",
		"a kill from user space, sent by systemd-oomd or oomd",
		"systemd-oomd.service(8), oomd.conf(5)",
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path != events.PathSystemdOOMD && k.Path != events.PathOOMD {
				return "", false
			}

			return k.Path + " killed the cgroup because of memory pressure or swap usage; the " +
				"kernel's OOM killer did not run.", true
		},
		advice{layer: kernel, text: "Check the daemon's log for the threshold that was " +
			"exceeded, and monitor PSI some and full over 60 s and 300 s."},
		advice{layer: cgroupLayer, text: "Set ManagedOOMMemoryPressure and its limit for the " +
			"slices that systemd-oomd may act on, and ManagedOOMPreference for those that it should spare."},
	),
	userKill("earlyoom_kill",
		"earlyoom or nohang killed a process with a high OOM score because the node's "+
			"available memory and swap fell below the daemon's thresholds.",
		"a kill from user space, sent by earlyoom or nohang",
		"earlyoom(1), nohang(8)",
		func(f *facts, k *events.Killer) (string, bool) {
			return phrase.ClipName(k.Path) + " killed the process because the node's available " +
				"memory and swap fell below the daemon's thresholds.", k.Path == events.PathEarlyOOM || k.Path == events.PathNohang
		},
		advice{layer: kernel, text: "Check the daemon's log for the measured percentages. For " +
			"earlyoom, set the thresholds with -m and -s, and steer the choice of victim with " +
			"--prefer and --avoid."},
	),
	userKill("killed_by_bpf",
		"A BPF program sent the signal, as those of security tools do that enforce a policy (Tetragon).",
		"a kill with path bpf",
		"bpf-helpers(7) bpf_send_signal",
		func(f *facts, k *events.Killer) (string, bool) {
			who := "A BPF program"
			if k.BPFProgram != nil {
				who = "The " + sender(k)
			}

			return who + " sent SIGKILL.", k.Path == events.PathBPF
		},
		advice{layer: kernel, text: "Check the policies and the log of the security tools of the node. " +
			"`bpftool prog` lists the BPF programs with the processes that hold them."},
	),
	userKill("killed_by_own_request",
		"The process died of a signal that it had requested itself, or that was requested for it: of a timer or a file.",
		"a kill with path timer or sigio",
		"timer_create(2) SIGEV_SIGNAL, fcntl(2) F_SETSIG",
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path == events.PathSIGIO {
				return "A file was ready for which fcntl F_SETSIG had set SIGKILL as its signal.", true
			}

			return "A POSIX timer of the process itself expired, whose signal is SIGKILL.", k.Path == events.PathTimer
		},
		advice{layer: application, text: "Find where the process sets the timer or the signal: a watchdog " +
			"of its own may use them to end it when it stops responding."},
	),
	userKill("cpu_time_limit",
		"The process used up the CPU time that it may use (RLIMIT_CPU).",
		"a kill with path rlimit",
		"setrlimit(2) RLIMIT_CPU, RLIMIT_RTTIME",
		func(f *facts, k *events.Killer) (string, bool) {
			return "The process reached the hard limit of its CPU time.", k.Path == events.PathRLimit
		},
		advice{layer: application, text: "Check who sets the limit: `ulimit -t` of a shell, LimitCPU= of a unit, " +
			"limits.conf(5). Memory is not the cause."},
	),
	userKill("memory_error",
		"The hardware reported an error in a page that the process used.",
		"a kill with path memory_failure",
		"Documentation/mm/hwpoison.rst",
		func(f *facts, k *events.Killer) (string, bool) {
			return "A page of the process could no longer be read: a hardware memory error.", k.Path == events.PathMemoryFailure
		},
		advice{layer: kernel, text: "Check the kernel log and the machine-check log for the memory module, and replace it."},
	),
	userKill("tracer_exited",
		"A debugger or sandbox that traced the process exited, and had requested that the process die with it.",
		"a kill with path tracer",
		"ptrace(2) PTRACE_O_EXITKILL",
		func(f *facts, k *events.Killer) (string, bool) {
			return sender(k) + " traced the process and exited; the process was to die with it.", k.Path == events.PathTracer
		},
		advice{layer: application, text: "Find out why the tracer exited: the process died only because of it."},
	),
	userKill("kernel_signal",
		"The kernel itself sent the signal, or an interrupt did, for a reason other than memory shortage; the evidence has "+
			"what is known of it.",
		"a kill with path kernel, not by the OOM killer",
		"signal(7)",
		func(f *facts, k *events.Killer) (string, bool) {
			return "The kernel sent SIGKILL for a reason other than memory shortage; no process is known that requested it.",
				k.Path == events.PathKernel
		},
		advice{layer: kernel, text: "Check the kernel log around that time, the CPU time limit of the process " +
			"(/proc/PID/limits), and the BPF programs of security tools."},
	),
	userKill("killed_by_human",
		"A person, or a command run from a login session, sent the signal.",
		"a kill from user space whose sender belongs to a login session",
		"signal(7)",
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path != events.PathHuman && k.Login == nil {
				return "", false
			}
			who := "A logged-in user"

			if l := k.Login; l != nil {
				if name := cmp.Or(l.SudoUser, l.User); name != "" {
					who = "User " + phrase.ClipName(name)
				}

				if l.TTY != "" {
					who += " at " + phrase.ClipName(l.TTY)
				}
			}

			return who + " sent SIGKILL with " + sender(k) + ".", true
		},
		advice{layer: application, text: "Ask the person who sent it, and prefer SIGTERM: it " +
			"lets a process shut down cleanly."},
	),
	userKill("pidns_teardown",
		"PID 1 of the container exited, and the kernel killed the remaining processes of its PID namespace.",
		"a kill with path pidns",
		"pid_namespaces(7), the namespace's init process",
		func(f *facts, k *events.Killer) (string, bool) {
			return "PID 1 of the container exited, and the kernel killed the other processes " +
				"of its PID namespace. Find out why PID 1 exited.", k.Path == events.PathPIDNS
		},
		advice{layer: application, text: "Make PID 1 of the container wait for its children " +
			"before it exits."},
	),
	userKill("killed_from_inside",
		"A process in the same container sent the signal: a supervisor, a script, or the "+
			"application itself.",
		"a kill from user space, sent from inside the container",
		"signal(7)",
		func(f *facts, k *events.Killer) (string, bool) {
			return "SIGKILL came from inside the same container, sent by " + sender(k) + ".", k.Path == events.PathSelf
		},
		advice{layer: application, text: "Check the sender's log: supervisors kill processes " +
			"that stop responding or exceed the supervisor's own limit."},
	),
	userKill("runtime_stop",
		"The container runtime or systemd stopped the workload on request: the pod was deleted "+
			"or preempted, a probe failed, or a unit was stopped.",
		"a kill from user space, sent by the runtime or by systemd (or through cgroup.kill), "+
			"and not for an eviction",
		`Kubernetes "Pod Lifecycle", termination of Pods; systemd.kill(5)`,
		func(f *facts, k *events.Killer) (string, bool) {
			if k.Path != events.PathRuntime && k.Path != events.PathSystemd && k.Path != events.PathCgroupKill ||
				k.Reason == events.ReasonEviction {
				return "", false
			}

			text := "The workload was stopped by " + sender(k)
			if why := stopReasons[k.Reason]; why != "" {
				text += ": " + why
			}

			if k.TermBeforeNS != nil {
				text += fmt.Sprintf("; SIGTERM, sent %s earlier, had not ended it", phrase.Duration(*k.TermBeforeNS))
			}

			return text + ".", true
		},
		advice{
			layer: application, text: "Handle SIGTERM and exit within the grace period.",
			when: &condition{"SIGTERM was sent before", func(f *facts) bool { return f.killer.TermBeforeNS != nil }},
		},
		advice{
			layer: kubernetes, text: "Set the pod's terminationGracePeriodSeconds to at least " +
				"the time that its shutdown takes.",
			when: &condition{"of a pod, SIGTERM was sent before", func(f *facts) bool { return f.killer.TermBeforeNS != nil && f.inPod() }},
		},
		advice{
			layer: kubernetes, text: "Check the probe's timeoutSeconds and failureThreshold: a " +
				"container that stalls for memory or CPU responds late.",
			when: &condition{"a probe failed", func(f *facts) bool { return f.killer.Reason == "probe" }},
		},
		advice{
			layer: kubernetes, text: "Check the pod's events and who deleted it; memory is not " +
				"the cause.",
			when: &condition{"of a pod, no probe failed", func(f *facts) bool { return f.killer.Reason != "probe" && f.inPod() }},
		},
		advice{
			layer: application, text: "Check the log of the unit's manager; memory is not the " +
				"cause.",
			when: noPod,
		},
	),
	userKill("killed_by_process",
		"Another process on the node, not one of the known killers, sent the signal.",
		"a kill from user space whose sender is known, and is neither a runtime, systemd, an OOM daemon nor a person",
		"signal(7), kill(2)",
		func(f *facts, k *events.Killer) (string, bool) {
			return sender(k) + " sent SIGKILL.",
				(k.Path == events.PathOther || k.Path == events.PathCron) && k.Login == nil && (k.Comm != "" || k.PID != 0)
		},
		advice{layer: application, text: "Identify the sender and the process that started it: " +
			"the sender's ancestors are listed."},
	),
}

var stopReasons = map[string]string{
	events.ReasonDelete:     "the pod was deleted",
	events.ReasonProbe:      "its liveness or startup probe failed",
	events.ReasonPreemption: "it was preempted by a pod of higher priority",
	events.ReasonUnitStop:   "the unit was stopped",
	events.ReasonTimeout:    "it did not stop in time",
	events.ReasonAsked:      "the stop was requested",
	events.ReasonMemory:     "memory pressure",
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

			hit := &finding{text: words, confidence: likely, evidence: senderEvidence(f, k)}
			// The kernel reports the sender. The reason is a conclusion from other evidence.
			if k.Reason == "" || len(k.Evidence) > 0 {
				hit.confidence = certain
			}

			return hit
		},
	}
}

func sender(k *events.Killer) string {
	if k.BPFProgram != nil {
		return fmt.Sprintf("BPF program %s (id %d)", cmp.Or(phrase.ClipName(k.BPFProgram.Name), "without a name"), k.BPFProgram.ID)
	}

	if k.Comm == "" && k.PID == 0 {
		return phrase.Spaced(phrase.ClipName(k.Path))
	}

	return phrase.Process(k.Comm, k.PID)
}

func senderEvidence(f *facts, k *events.Killer) []events.Evidence {
	who := sender(k)
	if k.Comm != "" || k.PID != 0 {
		who += " (" + phrase.Spaced(phrase.ClipName(k.Path)) + ")"
	}

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
