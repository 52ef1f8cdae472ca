// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// KillPath is the path of a kill in a list (events.Killer.Path): "memcg OOM path",
// "container runtime".
func KillPath(path string, scope events.Scope) string {
	if scope != events.ScopeUser {
		return kernelPath(path, scope)
	}

	if words, ok := userPaths[path]; ok {
		return words.short
	}

	return Spaced(path)
}

// kernelPath names a group kill by the limit that its chosen member was killed for.
func kernelPath(path string, scope events.Scope) string {
	if path == events.PathGroup && scope == events.ScopeMemcg {
		path = events.PathMemcg
	}

	switch path {
	case events.PathMemcg:
		return "memcg OOM path"
	case events.PathGlobal:
		return "global OOM path"
	case events.PathGroup:
		return "group kill"
	case events.PathSysrq:
		return "sysrq-f"
	case "", events.PathUnknown:
		return "path ?"
	}

	return Spaced(path)
}

// userPaths words the senders of a SIGKILL in scope user: in a list, and as the subject
// of a sentence. Others (systemd, systemd-oomd, earlyoom) are words for both.
var userPaths = map[string]struct{ short, subject string }{
	events.PathRuntime:    {"container runtime", "the container runtime"},
	events.PathSelf:       {"same workload", "a process of the same workload"},
	events.PathPIDNS:      {"exit of the PID namespace", "the exit of the PID namespace"},
	events.PathCgroupKill: {"cgroup.kill", "a write to cgroup.kill"},
	events.PathHuman:      {"human", "a person"},
	events.PathCron:       {"cron job", "cron"},
	events.PathOther:      {"other", ""},
	events.PathTracer:     {"exit of its tracer", "the exit of its tracer"},

	events.PathBPF:           {"BPF program", "a BPF program"},
	events.PathTimer:         {"POSIX timer", "a POSIX timer of the process itself"},
	events.PathSIGIO:         {"file signal (F_SETSIG)", "the signal of a file (F_SETSIG)"},
	events.PathRLimit:        {"CPU time limit", "the kernel, at the limit of CPU time,"},
	events.PathMemoryFailure: {"hardware memory error", "the kernel, after a hardware memory error,"},
	events.PathKernel:        {"not the OOM killer", "the kernel"},
}

// KillReason is why a process in user space killed (events.Killer.Reason).
func KillReason(reason string) string {
	switch reason {
	case events.ReasonUnitStop:
		return "unit stop"
	case events.ReasonTimeout:
		return "stop timed out"
	case events.ReasonAsked:
		return "requested"
	}

	return Spaced(reason) // eviction, delete, probe, preemption, memory_pressure
}

// KilledBy is who sent a SIGKILL that no OOM explains, for a headline. The killer may be
// nil.
func KilledBy(k *events.Killer) string {
	switch {
	case k == nil:
		return "by an unknown process"
	case k.Path == events.PathPIDNS:
		return "by the kernel, when PID 1 of the PID namespace exited"
	case k.Path == events.PathTracer:
		return "by the exit of its tracer " + Task(k.Comm, k.PID)
	case k.Kind == events.KillerKernel:
		return "by " + kernelKiller(k)
	}

	text := "by " + Task(k.Comm, k.PID)
	if k.Reason != "" {
		text += ", " + KillReason(k.Reason)
	}

	return text
}

// kernelKiller is what sent a SIGKILL that no process sent.
func kernelKiller(k *events.Killer) string {
	switch {
	case k.BPFProgram != nil && k.BPFProgram.Name != "":
		return "the BPF program " + ClipName(k.BPFProgram.Name)
	case k.Path == events.PathKernel:
		return "the kernel, not the OOM killer"
	}

	if words, ok := userPaths[k.Path]; ok {
		return strings.TrimSuffix(words.subject, ",")
	}

	return "the kernel: " + Spaced(k.Path)
}

// UserKiller is who sent a SIGKILL in scope user, as the subject of a sentence: "the
// container runtime (runc[900])".
func UserKiller(k *events.Killer) string {
	if k.BPFProgram != nil && k.BPFProgram.Name != "" {
		return kernelKiller(k)
	}

	who := Spaced(k.Path)
	if words, ok := userPaths[k.Path]; ok {
		who = words.subject
	}

	switch {
	case k.PID == 0 && who == "":
		return "user space"
	case k.PID == 0:
		return who
	case who == "" || who == k.Comm:
		return Task(k.Comm, k.PID)
	}

	return strings.TrimSuffix(who, ",") + " (" + Task(k.Comm, k.PID) + ")"
}

// KernelKill is what the kernel did in a container, beside what the container runtime
// reported: "memcg OOM at pod level (group kill)". The level may be empty.
func KernelKill(scope events.Scope, level events.Level, group bool) string {
	suffix := ""
	if group {
		suffix = " (group kill)"
	}

	switch scope {
	case events.ScopeMemcg:
		if level == "" {
			return "memcg OOM" + suffix
		}

		return "memcg OOM at " + string(level) + " level" + suffix
	case events.ScopeGlobal:
		return "node-wide OOM" + suffix
	case events.ScopeSysrq:
		return "OOM kill requested by sysrq-f" + suffix
	}

	return "OOM of " + string(scope) + suffix
}
