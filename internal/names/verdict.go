// SPDX-License-Identifier: Apache-2.0

package names

import (
	"strconv"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Kernel is what the kernel did in a container.
type Kernel struct {
	Scope events.Scope
	Level events.Level // whose limit it was
	Group bool         // a group kill
	// Init tells that the container's PID 1 was killed, Child that another process
	// of it was.
	Init, Child bool
	// By names who sent the SIGKILL where it was no OOM: "runc[123]", "systemd".
	By string
}

// killedBySignal is an exit code of a container that got SIGKILL.
const killedBySignal = 128 + 9

// Verdict compares what the runtime says of a container with what the kernel did:
// whether who reads only the former would know the latter, and a text for people.
// A code that is nil is not known.
func Verdict(k Kernel, state, reason string, code *int) (agrees bool, text string) {
	said := "runtime says " + say(reason, code)

	oom := reason == reasonOOMKilled
	switch {
	case state == stateUnknown:
		return false, "runtime no longer knows the container; kernel: " + k.act()
	case k.Scope == events.ScopeUser:
		return userVerdict(k, state, said, oom)
	case state == stateRunning && !k.Init:
		return false, "child killed, container not restarted: the runtime says running; kernel: " + k.act()
	case state == stateRunning:
		return false, "runtime says running, though its PID 1 was killed; kernel: " + k.act()
	case k.Init:
		return oom, said + ", kernel: " + k.act()
	case code == nil || *code == killedBySignal:
		return oom, said + ", kernel: " + k.act() + ", of a process that was not PID 1"
	case oom:
		return false, said + ", but PID 1 left by itself with " + strconv.Itoa(*code) + "; a child was killed"
	}

	return true, said + ": PID 1 left by itself with " + strconv.Itoa(*code) + "; a child was killed"
}

func userVerdict(k Kernel, state, said string, oom bool) (bool, string) {
	by := "a SIGKILL of user space"
	if k.By != "" {
		by = "a SIGKILL by " + k.By
	}

	switch {
	case state == stateRunning && k.Init:
		return false, "runtime says running, though its PID 1 was killed; kernel: " + by
	case state == stateRunning:
		return true, "runtime says running; kernel: " + by + " to a child"
	case oom:
		return false, said + ", but no OOM kill was seen; kernel: " + by
	}

	return true, said + ", kernel: " + by + ", no OOM"
}

// say is reason and code, as people quote them.
func say(reason string, code *int) string {
	if reason == "" {
		reason = "exited"
	}

	if code == nil {
		return reason
	}

	return reason + "/" + strconv.Itoa(*code)
}

// act is the kernel's side in words.
func (k Kernel) act() string {
	group := ""
	if k.Group {
		group = " (group kill)"
	}

	switch k.Scope {
	case events.ScopeMemcg:
		level := string(k.Level)
		if level == "" {
			return "memcg OOM" + group
		}

		return "memcg OOM at " + level + " level" + group
	case events.ScopeGlobal:
		return "OOM of the whole node" + group
	case events.ScopeSysrq:
		return "OOM kill asked for by sysrq-f" + group
	case events.ScopeUser:
		if k.By != "" {
			return "a SIGKILL by " + k.By
		}

		return "a SIGKILL of user space"
	}

	return "OOM of " + string(k.Scope) + group
}
