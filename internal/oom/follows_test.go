// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestWhatComesOfAnOOMKill(t *testing.T) {
	const second = 1e9

	for _, test := range []struct {
		name         string
		path, reason string
		term         uint64 // before the kill; 0: none
		after        uint64
		kind, sure   string
	}{
		{"stopped, and killed when the time was over", "systemd", "timeout", 90 * second, 90.1 * second, "unit_stop", "certain"},
		{"stopped at once", "systemd", "unit_stop", 0.2 * second, 0.3 * second, "unit_stop", "certain"},
		{"stopped on a node without memory", "systemd", "timeout", 90 * second, 97 * second, "unit_stop", "likely"},
		{"no SIGTERM seen", "systemd", "", 0, 2 * second, "unit_stop", "likely"},
		{"no SIGTERM seen, long after", "systemd", "", 0, 11 * second, "", ""},
		{"stopped before the OOM kill", "systemd", "timeout", 90 * second, 80 * second, "", ""},
		{"stopped by an admin a minute later", "systemd", "unit_stop", 0.2 * second, 60 * second, "", ""},
		{"a long TimeoutStopSec", "systemd", "timeout", 599 * second, 599.5 * second, "unit_stop", "certain"},
		{"too long after", "systemd", "timeout", 600.5 * second, 601 * second, "", ""},
		{"for memory itself", "systemd", "memory_pressure", 0, second, "", ""},
		{"a probe", "runtime", "probe", 30 * second, 65 * second, "probe", "likely"},
		{"a probe, too long after", "runtime", "probe", 30 * second, 301 * second, "", ""},
		{"a probe that had failed before", "runtime", "probe", 30 * second, 20 * second, "", ""},
		{"a deletion", "runtime", "delete", 0, second, "", ""},
		{"the runtime for an unknown reason", "runtime", "", 30 * second, 31 * second, "", ""},
		{"PID 1 exited", "pidns", "", 0, 0.3 * second, "pidns", "likely"},
		{"PID 1 exited much later", "pidns", "", 0, 20 * second, "", ""},
		{"a person", "human", "asked", 0, 0.3 * second, "", ""},
		{"systemd-oomd", "systemd-oomd", "memory_pressure", 0, 0.3 * second, "", ""},
	} {
		k := &events.Killer{Path: test.path, Reason: test.reason}
		if test.term != 0 {
			k.TermBeforeNS = &test.term
		}

		got := Follows(k, test.after)
		if got == nil {
			got = &events.Follows{}
		}

		if got.Kind != test.kind || got.Confidence != test.sure {
			t.Errorf("%s: got %q, %q, want %q, %q", test.name, got.Kind, got.Confidence, test.kind, test.sure)
		}
	}

	if got := Follows(nil, 0); got != nil {
		t.Errorf("got %+v without a killer, want nil", got)
	}
}

func TestInstancesAreEqualOnlyIfTheyAreTheSame(t *testing.T) {
	unit := func(path string) Instance {
		return InstanceOf(&events.Workload{Unit: "web.service"}, &events.Cgroup{CgroupKey: events.CgroupKey{ID: 7}, Path: path})
	}

	if a, b := unit("/system.slice/web.service"), unit("/system.slice/web.service/worker"); a != b {
		t.Errorf("got %v and %v of one unit, want them equal", a, b)
	}

	if a, b := unit("/user.slice/user-1.slice/web.service"), unit("/user.slice/user-2.slice/web.service"); a == b {
		t.Errorf("got %v of two users' units, want them to differ", a)
	}

	container := InstanceOf(&events.Workload{ContainerID: "3f", PodUID: "6b"}, nil)
	if other := InstanceOf(&events.Workload{ContainerID: "4a", PodUID: "6b"}, nil); container == other || !container.IsContainer() {
		t.Errorf("got %v and %v of two containers of a pod, want them to differ", container, other)
	}

	if got := InstanceOf(nil, nil); got != (Instance{}) {
		t.Errorf("got %v of nothing, want the zero value", got)
	}
}
