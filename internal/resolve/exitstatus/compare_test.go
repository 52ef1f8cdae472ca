// SPDX-License-Identifier: Apache-2.0

package exitstatus

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
)

func ptr[T any](v T) *T { return &v }

func TestCompare(t *testing.T) {
	memcg := func(level events.Level, init, child bool) Kernel {
		return Kernel{Scope: events.ScopeMemcg, Level: level, Init: init, Child: child}
	}
	group := memcg(events.LevelContainer, true, true)
	group.Group = true

	user := func(init bool, by string) Kernel {
		return Kernel{Scope: events.ScopeUser, Init: init, Child: !init, By: by}
	}
	for _, test := range []struct {
		kernel        Kernel
		state, reason string
		code          *int
		agrees        bool
		text          string
	}{
		{memcg(events.LevelContainer, true, false), "exited", "OOMKilled", ptr(137), true, "runtime reports OOMKilled/137, kernel: memcg OOM at container level"},
		{memcg(events.LevelPod, true, false), "exited", "Error", ptr(137), false, "runtime reports Error/137, kernel: memcg OOM at pod level"},
		{group, "exited", "OOMKilled", ptr(137), true, "runtime reports OOMKilled/137, kernel: memcg OOM at container level (group kill)"},
		{memcg("", true, false), "exited", "", nil, false, "runtime reports exited, kernel: memcg OOM"},
		{memcg(events.LevelContainer, false, true), "exited", "OOMKilled", ptr(7), false, "runtime reports OOMKilled/7, but PID 1 exited by itself with status 7; a child was killed"},
		{memcg(events.LevelContainer, false, true), "exited", "Error", ptr(7), true, "runtime reports Error/7: PID 1 exited by itself with status 7; a child was killed"},
		{memcg(events.LevelContainer, false, true), "exited", "Completed", ptr(0), true, "runtime reports Completed/0: PID 1 exited by itself with status 0; a child was killed"},
		{memcg(events.LevelContainer, false, true), "exited", "OOMKilled", ptr(137), true, "runtime reports OOMKilled/137, kernel: memcg OOM at container level, of a process other than PID 1"},
		{memcg(events.LevelContainer, false, true), "running", "", nil, false, "child killed, container not restarted: runtime reports running; kernel: memcg OOM at container level"},
		{memcg(events.LevelContainer, true, false), "running", "", nil, false, "runtime reports running although PID 1 was killed; kernel: memcg OOM at container level"},
		{memcg(events.LevelContainer, true, false), "unknown", "", nil, false, "runtime no longer knows the container; kernel: memcg OOM at container level"},
		{Kernel{Scope: events.ScopeGlobal, Level: events.LevelNode, Init: true}, "exited", "Error", ptr(137), false, "runtime reports Error/137, kernel: node-wide OOM"},
		{Kernel{Scope: events.ScopeSysrq, Init: true}, "exited", "Error", ptr(137), false, "runtime reports Error/137, kernel: OOM kill requested by sysrq-f"},
		{Kernel{Scope: events.ScopeCpuset, Init: true}, "exited", "OOMKilled", ptr(137), true, "runtime reports OOMKilled/137, kernel: OOM of cpuset"},
		{user(true, "runc[12]"), "exited", "Error", ptr(137), true, "runtime reports Error/137, kernel: SIGKILL from runc[12], no OOM"},
		{user(true, ""), "exited", "OOMKilled", ptr(137), false, "runtime reports OOMKilled/137, but there was no OOM kill; kernel: SIGKILL from user space"},
		{user(false, "bash[9]"), "running", "", nil, true, "runtime reports running; kernel: SIGKILL from bash[9] to a child"},
		{user(true, "bash[9]"), "running", "", nil, false, "runtime reports running although PID 1 was killed; kernel: SIGKILL from bash[9]"},
		{user(true, "bash[9]"), "unknown", "", nil, false, "runtime no longer knows the container; kernel: SIGKILL from bash[9]"},
	} {
		agrees, text := Compare(test.kernel, source.Exit{State: test.state, Reason: test.reason, Code: test.code})
		if agrees != test.agrees || text != test.text {
			t.Errorf("%+v %s %s:\n got %v %q\nwant %v %q", test.kernel, test.state, test.reason, agrees, text, test.agrees, test.text)
		}
	}
}
