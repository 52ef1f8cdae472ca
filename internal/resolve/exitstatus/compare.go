// SPDX-License-Identifier: Apache-2.0

package exitstatus

import (
	"strconv"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

// Kernel describes the kill in a container, as the kernel reported it.
type Kernel struct {
	Scope events.Scope
	Level events.Level // of the cgroup whose limit was reached
	Group bool         // a group kill
	// Init is set if the container's PID 1 was killed, Child if another of its
	// processes was.
	Init, Child bool
	// By is the sender of a SIGKILL that was not the OOM killer's: "runc[123]",
	// "systemd".
	By string
}

// killedBySignal is the exit code of a container whose PID 1 was killed by SIGKILL.
const killedBySignal = 128 + 9

// Compare compares the state of a container as the runtime reports it with the kill.
// It agrees where the runtime's report alone leads to the right conclusion; the text
// states the difference for people. An exit code that is nil is unknown.
func Compare(k Kernel, x source.Exit) (agrees bool, text string) {
	reported := "runtime reports " + quote(x.Reason, x.Code)

	oom := x.Reason == source.ReasonOOMKilled
	switch {
	case x.State == source.StateUnknown:
		return false, "runtime no longer knows the container; kernel: " + k.action()
	case k.Scope == events.ScopeUser:
		return compareSignal(k, x.State, reported, oom)
	case x.State == source.StateRunning && !k.Init:
		return false, "child killed, container not restarted: runtime reports running; kernel: " + k.action()
	case x.State == source.StateRunning:
		return false, "runtime reports running although PID 1 was killed; kernel: " + k.action()
	case k.Init:
		return oom, reported + ", kernel: " + k.action()
	case x.Code == nil || *x.Code == killedBySignal:
		return oom, reported + ", kernel: " + k.action() + ", of a process other than PID 1"
	case oom:
		return false, reported + ", but PID 1 exited by itself with status " + strconv.Itoa(*x.Code) + "; a child was killed"
	}

	return true, reported + ": PID 1 exited by itself with status " + strconv.Itoa(*x.Code) + "; a child was killed"
}

// compareSignal compares for a SIGKILL that was not the OOM killer's.
func compareSignal(k Kernel, state, reported string, oom bool) (agrees bool, text string) {
	by := k.action()

	switch {
	case state == source.StateRunning && k.Init:
		return false, "runtime reports running although PID 1 was killed; kernel: " + by
	case state == source.StateRunning:
		return true, "runtime reports running; kernel: " + by + " to a child"
	case oom:
		return false, reported + ", but there was no OOM kill; kernel: " + by
	}

	return true, reported + ", kernel: " + by + ", no OOM"
}

// quote returns reason and code as people write them.
func quote(reason string, code *int) string {
	if reason == "" {
		reason = "exited"
	}

	if code == nil {
		return reason
	}

	return reason + "/" + strconv.Itoa(*code)
}

// action returns the kernel's side in words.
func (k Kernel) action() string {
	if k.Scope != events.ScopeUser {
		return phrase.KernelKill(k.Scope, k.Level, k.Group)
	}

	if k.By != "" {
		return "SIGKILL from " + k.By
	}

	return "SIGKILL from user space"
}
