// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// userKillRules are about SIGKILLs that neither the OOM killer nor one in user space sent.
var userKillRules = []rule{
	userKill("killed_by_bpf",
		"A BPF program sent the signal, as those of security tools (Tetragon) do to enforce a policy.",
		"a kill with path bpf",
		"bpf-helpers(7) bpf_send_signal",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			who := "a BPF program"
			if k.BPFProgram != nil {
				who = "the " + sender(k)
			}

			return phrase.Capitalize(who) + " sent SIGKILL.", who + " sent SIGKILL", k.Path == events.PathBPF
		},
		advice{layer: kernel, text: "Check the policies and the log of the security tools of the node. " +
			"`bpftool prog` lists the BPF programs with the processes that hold them."},
	),
	userKill("killed_by_own_request",
		"The process died of a signal that it had requested from a timer or a file, or that was requested for it.",
		"a kill with path timer or sigio",
		"timer_create(2) SIGEV_SIGNAL, fcntl(2) F_SETSIG",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			if k.Path == events.PathSIGIO {
				return "A file became ready whose signal had been set to SIGKILL (fcntl F_SETSIG).",
					"SIGKILL was set as the signal of a file (F_SETSIG)", true
			}

			return "A POSIX timer of the process itself expired, and its signal is SIGKILL.",
				"SIGKILL was set as the signal of a timer", k.Path == events.PathTimer
		},
		advice{layer: application, text: "Find where the process sets the timer or the signal: a watchdog " +
			"of its own may use them to end it when it stops responding."},
	),
	userKill("cpu_time_limit",
		"The process used up its limit of CPU time (RLIMIT_CPU).",
		"a kill with path rlimit",
		"setrlimit(2) RLIMIT_CPU, RLIMIT_RTTIME",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return "The process reached the hard limit of its CPU time.", "its CPU time was used up (RLIMIT_CPU)",
				k.Path == events.PathRLimit
		},
		advice{layer: application, text: "Check who sets the limit: `ulimit -t` of a shell, LimitCPU= of a unit, " +
			"limits.conf(5). Memory is not the cause."},
	),
	userKill("memory_error",
		"The hardware reported an error in a page that the process used.",
		"a kill with path memory_failure",
		"Documentation/mm/hwpoison.rst",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return "A page of the process could no longer be read: a hardware memory error.",
				"a hardware error hit one of its pages", k.Path == events.PathMemoryFailure
		},
		advice{layer: kernel, text: "Check the kernel log and the machine-check log for the memory module, and replace it."},
	),
	userKill("tracer_exited",
		"A debugger or sandbox that traced the process exited, and had requested that the process die with it.",
		"a kill with path tracer",
		"ptrace(2) PTRACE_O_EXITKILL",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return sender(k) + " traced the process and exited; the process was to die with it.",
				clip(sender(k)) + " traced it and exited", k.Path == events.PathTracer
		},
		advice{layer: application, text: "Find out why the tracer exited: the process died only because of it."},
	),
	userKill("kernel_signal",
		"The kernel itself sent the signal, or an interrupt did, for a reason other than memory shortage; the evidence has "+
			"what is known of it.",
		"a kill with path kernel, not by the OOM killer",
		"signal(7)",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return "The kernel sent SIGKILL for a reason other than memory shortage; no process is known that requested it.",
				"the reason is unknown, but it was not a memory shortage", k.Path == events.PathKernel
		},
		advice{layer: kernel, text: "Check the kernel log around that time, the CPU time limit of the process " +
			"(/proc/PID/limits), and the BPF programs of security tools."},
	),
	userKill("killed_by_human",
		"A person, or a command run from a login session, sent the signal.",
		"a kill from user space whose sender belongs to a login session",
		"signal(7)",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			if k.Path != events.PathHuman && k.Login == nil {
				return "", "", false
			}
			who := "a logged-in user"

			if l := k.Login; l != nil {
				if name := cmp.Or(l.SudoUser, l.User); name != "" {
					who = "user " + phrase.ClipName(name)
				}

				if l.TTY != "" {
					who += " at " + phrase.ClipName(l.TTY)
				}
			}

			return phrase.Capitalize(who) + " sent SIGKILL with " + sender(k) + ".", clip(who) + " sent SIGKILL", true
		},
		advice{layer: application, text: "Ask the person who sent it, and prefer SIGTERM: it " +
			"lets a process shut down cleanly."},
	),
	userKill("pidns_teardown",
		"PID 1 of the container exited, and the kernel killed the remaining processes of its PID namespace.",
		"a kill with path pidns",
		"pid_namespaces(7), the namespace's init process",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return "PID 1 of the container exited, and the kernel killed the other processes " +
				"of its PID namespace. Find out why PID 1 exited.", "PID 1 of the container exited", k.Path == events.PathPIDNS
		},
		advice{layer: application, text: "Make PID 1 of the container wait for its children " +
			"before it exits."},
	),
	userKill("killed_from_inside",
		"A process in the same container sent the signal: a supervisor, a script, or the "+
			"application itself.",
		"a kill from user space, sent from inside the container",
		"signal(7)",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return "SIGKILL came from inside the same container, sent by " + sender(k) + ".",
				"SIGKILL came from inside the same container", k.Path == events.PathSelf
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
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			if k.Path != events.PathRuntime && k.Path != events.PathSystemd && k.Path != events.PathCgroupKill ||
				k.Reason == events.ReasonEviction || f.follows != nil && f.follows.Confidence == certain {
				return "", "", false
			}

			text, brief = "The workload was stopped by "+sender(k), "the workload was stopped by "+clip(sender(k))
			if why := stopReasons[k.Reason]; why != "" {
				text += ": " + why
				brief = why
			}

			if k.TermBeforeNS != nil {
				text += fmt.Sprintf("; SIGTERM, sent %s earlier, had not ended it", phrase.Duration(*k.TermBeforeNS))
				brief += ", SIGTERM " + phrase.Duration(*k.TermBeforeNS) + " earlier"
			}

			return text + ".", brief, true
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
			layer: application, text: "An OOM kill hit the same workload shortly before: look at its causes first.",
			when: &condition{"an OOM kill in it before", (*facts).mayFollowOOM},
		},
		advice{
			layer: kubernetes, text: "Check the pod's events and who deleted it; memory is not " +
				"the cause.",
			when: &condition{"of a pod, no probe failed, no OOM kill in it before", func(f *facts) bool {
				return f.killer.Reason != "probe" && f.inPod() && !f.mayFollowOOM()
			}},
		},
		advice{
			layer: application, text: "Check the log of the unit's manager; memory is not the " +
				"cause.",
			when: &condition{"not of a pod of this node, no OOM kill in it before", func(f *facts) bool {
				return !f.inPod() && !f.mayFollowOOM()
			}},
		},
	),
	userKill("killed_by_process",
		"Another process on the node, not one of the known killers, sent the signal.",
		"a kill from user space whose sender is known, and is neither a runtime, systemd, an OOM daemon nor a person",
		"signal(7), kill(2)",
		func(f *facts, k *events.Killer) (text, brief string, ok bool) {
			return sender(k) + " sent SIGKILL.", clip(sender(k)) + " sent SIGKILL",
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

// userKill makes a rule about a SIGKILL from user space. Words returns the cause, its brief, and
// whether the rule applies to the killer.
func userKill(
	id, means, needs, reference string, words func(*facts, *events.Killer) (text, brief string, ok bool), list ...advice,
) rule {
	return rule{
		id: id, means: means, needs: needs, reference: reference, advice: list,
		match: func(f *facts) *finding {
			if !f.is(events.ScopeUser) {
				return nil
			}
			k := &f.killer

			text, brief, ok := words(f, k)
			if !ok {
				return nil
			}

			hit := &finding{text: text, brief: brief, confidence: likely, evidence: senderEvidence(f, k)}
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
