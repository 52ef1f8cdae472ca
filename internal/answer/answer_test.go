// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

func TestSummary(t *testing.T) {
	service := &events.Workload{Unit: "mariadb.service"}

	for _, test := range []struct {
		want   string
		change func(*events.Incident)
	}{
		{"Container app of pod shop/cart-0 reached its limit of 512.0 MiB; the kernel killed java[4711].", func(*events.Incident) {}},
		{"Container app of pod shop/cart-0 reached its limit of 512.0 MiB; java[4711] requested more memory (tmpfs); the kernel killed sh[9] in container side.", func(inc *events.Incident) {
			inc.Allocation = &events.Allocation{Class: "tmpfs"}
			side := *inc.Limiter.Workload
			side.Container = "side"
			inc.Victims[0].Process = events.Process{PID: 9, Comm: "sh",
				Cgroup: &events.Cgroup{CgroupKey: events.CgroupKey{ID: 8}}, Workload: &side}
		}},
		{"Container app of pod shop/cart-0 reached its limit of 512.0 MiB; java[4711] lowered the limit below current usage; the kernel killed java[4711] and 2 more as one group.", func(inc *events.Incident) {
			inc.Allocation = &events.Allocation{Class: "limit_lowered"}
			inc.Killer.Path = "group"
			inc.Victims = append(inc.Victims, inc.Victims[0], inc.Victims[0])
		}},
		{"Container app of pod shop/cart-0 reached its limit of 512.0 MiB; java[4711] requested more memory; whether a process was killed is unknown.", func(inc *events.Incident) {
			inc.Outcome, inc.Victims, inc.Killer = "", nil, nil // a log that breaks off
		}},
		{"The cgroup of all burstable pods reached its limit; java[4711] in container app of pod shop/cart-0 requested more memory; no process was killable.", func(inc *events.Incident) {
			inc.Limiter = &events.Limiter{Level: events.LevelQoS, Which: "memory.max", Workload: &events.Workload{QoS: "burstable"}}
			inc.Outcome, inc.Victims = events.OutcomeNoKillable, nil
		}},
		{"Unit mariadb.service reached its limit of 512.0 MiB; java[4711] in container app of pod shop/cart-0 requested more memory; an earlier victim was still exiting, and nothing else was killed.", func(inc *events.Incident) {
			inc.Limiter.Level, inc.Limiter.Workload, inc.Limiter.Cgroup = events.LevelService, service, nil
			inc.Outcome, inc.Victims = events.OutcomeWaiting, nil
		}},
		{"Container app of pod shop/cart-0 reached its limit of 512.0 MiB; java[4711] requested more memory; the OOM killer of this cgroup is disabled, so nothing was killed and 1 task waits for memory.", func(inc *events.Incident) {
			inc.Outcome, inc.Victims, inc.Wait = events.OutcomeOOMKillDisabled, nil, &events.OOMWait{Tasks: []events.Process{*inc.Trigger}}
		}},
		{"Container app of pod shop/cart-0 reached its limit of 512.0 MiB; java[4711] requested more memory; the OOM killer of this cgroup is disabled, so nothing was killed and 3 tasks waited 1.5 s for memory, until the limit was raised.", func(inc *events.Incident) {
			inc.Outcome, inc.Victims = events.OutcomeOOMKillDisabled, nil
			inc.Wait = &events.OOMWait{
				Tasks: []events.Process{*inc.Trigger}, TasksLeftOut: 2, EndedAfterNS: new(uint64(15e8)), End: events.WaitEndLimitRaised,
			}
		}},
		{"Cgroup b reached its limit of 512.0 MiB; kernel thread kworker/0:1[5] requested more memory; the kernel killed java[4711] in container app of pod shop/cart-0.", func(inc *events.Incident) {
			inc.Limiter.Level, inc.Limiter.Workload, inc.Limiter.Which = events.LevelCgroup, nil, ""
			inc.Limiter.Cgroup = &events.Cgroup{CgroupKey: events.CgroupKey{ID: 77}, Path: "/a/b"}
			inc.Trigger = &events.Process{PID: 5, Comm: "kworker/0:1", IsKernel: true}
		}},
		{"The node was out of memory; no process was killable, and the kernel panicked.", func(inc *events.Incident) {
			inc.Scope, inc.Outcome, inc.Trigger, inc.Passes = events.ScopeGlobal, events.OutcomePanic, nil, &events.Passes{NoKillable: 1}
		}},
		{"The node was out of memory; the kernel panicked instead of killing (vm.panic_on_oom).", func(inc *events.Incident) {
			inc.Scope, inc.Outcome, inc.Trigger, inc.Victims = events.ScopeGlobal, events.OutcomePanic, nil, nil
		}},
		{"NUMA nodes 1,3 of the cpuset were out of memory; the kernel killed java[4711].", func(inc *events.Incident) {
			inc.Scope, inc.Limiter.Nodes = events.ScopeCpuset, []int{1, 3}
		}},
		{"NUMA node 4 of the cpuset was out of memory; the kernel killed java[4711].", func(inc *events.Incident) {
			inc.Scope, inc.Limiter.Nodes = events.ScopeCpuset, []int{4}
		}},
		{"NUMA node 4 of the cpuset had no memory that this allocation may use; the kernel killed java[4711].",
			func(inc *events.Incident) {
				inc.Scope, inc.Limiter.Nodes, inc.Causes = events.ScopeCpuset, []int{4}, []events.Cause{{ID: "movable_only"}}
			}},
		{"The node had no memory that this allocation may use; the kernel killed java[4711].",
			func(inc *events.Incident) {
				inc.Scope, inc.Causes = events.ScopeGlobal, []events.Cause{{ID: "low_zone"}}
			}},
		{"NUMA node 4 of the memory policy was out of memory; the kernel killed java[4711].", func(inc *events.Incident) {
			inc.Scope, inc.Limiter.Nodes = events.ScopeMempolicy, []int{4}
		}},
		{"The node or a part of it was out of memory, or sysrq-f requested a kill (the log does not show which); the kernel killed java[4711].",
			func(inc *events.Incident) {
				inc.Scope, inc.Limiter, inc.Trigger, inc.NodeState = events.ScopeGlobal, nil, nil, nil
				inc.Unknown, inc.Victims[0].Workload = []string{"constraint"}, nil
			}},
		{"No limit was hit: the kernel's constraint is CONSTRAINT_BPF_PRESSURE; the kernel killed java[4711].", func(inc *events.Incident) {
			inc.Scope, inc.Limiter, inc.Trigger, inc.Victims[0].Workload = "CONSTRAINT_BPF_PRESSURE", nil, nil, nil
		}},
		{"A cgroup reached its limit (which one is unknown); hog[9] was chosen, but whether it died is unknown.", func(inc *events.Incident) {
			*inc = events.Incident{Scope: events.ScopeMemcg, Chosen: &events.Chosen{Process: events.Process{PID: 9, Comm: "hog"}}}
		}},
		{"The node was out of memory; the kernel killed java[4711] in place of its parent hog[9], which the kernel had chosen.", func(inc *events.Incident) {
			inc.Scope, inc.Limiter, inc.Trigger, inc.Victims[0].Workload = events.ScopeGlobal, nil, nil, nil
			inc.Victims[0].Role, inc.Chosen = events.RoleChild, &events.Chosen{Process: events.Process{PID: 9, Comm: "hog"}}
		}},
		{"Memory was not short: sysrq-f requested a kill; the kernel killed java[4711].", func(inc *events.Incident) {
			inc.Scope, inc.Limiter.Workload = events.ScopeSysrq, nil
			inc.Trigger = &events.Process{PID: 52, Comm: "kworker/0:2", IsKernel: true}
		}},
		{"The container runtime (runc[7]) killed java[4711] (probe); no limit was hit.", func(inc *events.Incident) {
			inc.Scope, inc.Trigger = events.ScopeUser, nil
			inc.Killer = &events.Killer{Kind: "user", Path: "runtime", PID: 7, Comm: "runc", Reason: "probe"}
		}},
		{"The kernel killed java[4711] when PID 1 of its PID namespace exited; no limit was hit.", func(inc *events.Incident) {
			inc.Scope, inc.Trigger, inc.Killer = events.ScopeUser, nil, &events.Killer{Kind: "kernel", Path: "pidns"}
		}},
		{"systemd-oomd killed java[4711]; no limit was hit.", func(inc *events.Incident) {
			inc.Scope, inc.Trigger = events.ScopeUser, nil
			inc.Killer = &events.Killer{Kind: "user", Path: "systemd-oomd"}
		}},
		{"The limit that was hit is unknown; an unknown sender killed an unknown process.", func(inc *events.Incident) {
			*inc = events.Incident{Outcome: events.OutcomeKilled}
		}},
	} {
		inc := kill()
		test.change(inc)

		if got := Summary(inc); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

func TestReason(t *testing.T) {
	for _, test := range []struct {
		want   string
		change func(*events.Incident)
	}{
		{"-", func(*events.Incident) {}},
		{"likely its cache outgrew the limit", func(inc *events.Incident) {
			inc.Causes = []events.Cause{{ID: "own_limit", Brief: "its cache outgrew the limit", Confidence: events.ConfidenceLikely}}
		}},
		{"-", func(inc *events.Incident) {
			inc.Causes = []events.Cause{{ID: "leak", Brief: "it grew", Confidence: events.ConfidencePossible}}
		}},
		{"own limit", func(inc *events.Incident) { inc.Causes = []events.Cause{{ID: "own_limit"}} }}, // an older recording
		{phrase.KilledBy(&events.Killer{Kind: "user", Path: "systemd-oomd"}), func(inc *events.Incident) {
			inc.Scope, inc.Killer = events.ScopeUser, &events.Killer{Kind: "user", Path: "systemd-oomd"}
			inc.Causes = []events.Cause{{ID: "oomd", Brief: "pressure", Confidence: events.ConfidenceCertain}}
		}},
	} {
		inc := kill()
		test.change(inc)

		if got := Reason(inc, 0); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// kill is that of a container's only process, at the container's limit.
func kill() *events.Incident {
	w := &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b",
		Container: "app", ContainerID: "3f2a91c07d4e"}
	c := &events.Cgroup{CgroupKey: events.CgroupKey{ID: 7}, Path: "/kubepods.slice/cart-0"}
	java := events.Process{PID: 4711, TID: 4711, Comm: "java", Cgroup: c, Workload: w}

	return &events.Incident{
		ID: "a", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{Level: events.LevelContainer, Which: "memory.max", LimitBytes: new(uint64(512 << 20)),
			UsageBytes: new(uint64(512 << 20)), Cgroup: c, Workload: w},
		Trigger: &java,
		Victims: []events.Victim{{Process: java, Role: events.RoleChosen}},
		Killer:  &events.Killer{Kind: "kernel", Path: "memcg"},
	}
}
