// SPDX-License-Identifier: Apache-2.0

package phrase

import "github.com/oomtrace/oomtrace/internal/events"

// KillPath is the path of a kill in a list (events.Killer.Path): "memcg OOM path",
// "container runtime".
func KillPath(path string, scope events.Scope) string {
	if scope == events.ScopeUser {
		return userPath(path)
	}

	return kernelPath(path, scope)
}

// kernelPath names a group kill by the limit that its chosen member was killed for.
func kernelPath(path string, scope events.Scope) string {
	if path == "group" && scope == events.ScopeMemcg {
		path = "memcg"
	}

	switch path {
	case "memcg":
		return "memcg OOM path"
	case "global":
		return "global OOM path"
	case "group":
		return "group kill"
	case "sysrq":
		return "sysrq-f"
	case "", "unknown":
		return "path ?"
	}

	return Spaced(path)
}

func userPath(path string) string {
	switch path {
	case "runtime":
		return "container runtime"
	case "self":
		return "same workload"
	case "pidns":
		return "exit of the PID namespace"
	case "cgroup_kill":
		return "cgroup.kill"
	case "cron":
		return "cron job"
	}

	return Spaced(path) // systemd, systemd-oomd, earlyoom, human, other
}

// KillReason is why a process in user space killed (events.Killer.Reason).
func KillReason(reason string) string {
	switch reason {
	case "unit_stop":
		return "unit stop"
	case "timeout":
		return "stop timed out"
	case "asked":
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
	case k.Path == "pidns":
		return "by the kernel, when PID 1 of the PID namespace exited"
	case k.Kind == "kernel":
		return "by the kernel, not the OOM killer"
	}

	text := "by " + Task(k.Comm, k.PID)
	if k.Reason != "" {
		text += ", " + KillReason(k.Reason)
	}

	return text
}

// UserKiller is who sent a SIGKILL from user space, as the subject of a sentence: "the
// container runtime, by runc[900],".
func UserKiller(k *events.Killer) string {
	who := userKillerKind(k.Path)

	switch {
	case k.PID == 0 && who == "":
		return "user space"
	case k.PID == 0:
		return who
	case who == "" || who == k.Comm:
		return Task(k.Comm, k.PID)
	}

	return who + ", by " + Task(k.Comm, k.PID) + ","
}

func userKillerKind(path string) string {
	switch path {
	case "runtime":
		return "the container runtime"
	case "self":
		return "a process of the same workload"
	case "pidns":
		return "the exit of the PID namespace"
	case "cgroup_kill":
		return "a write to cgroup.kill"
	case "human":
		return "a person"
	case "other":
		return ""
	}

	return Spaced(path)
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
