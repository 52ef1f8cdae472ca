// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	mib = uint64(1) << 20
	gib = uint64(1) << 30

	podUID      = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	containerID = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	appPath     = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b.slice/cri-containerd-" + containerID + ".scope"
)

func app() *events.Workload {
	return &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID, Container: "app", ContainerID: containerID, QoS: "burstable"}
}

// bare is a container without names.
func bare() *events.Workload { return &events.Workload{PodUID: podUID, ContainerID: containerID} }

func TestNumbers(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Size(0), "0 B"},
		{Size(1023), "1023 B"},
		{Size(1024), "1.0 KiB"},
		{Size(1536), "1.5 KiB"},
		{Size(512 * mib), "512.0 MiB"},
		{Size(gib - 1), "1.0 GiB"},
		{Size(1<<64 - 1), "16.0 EiB"},
		{SizeOrUnknown(nil), "?"},
		{SizeOrUnknown(new(mib)), "1.0 MiB"},
		{ShortSize(nil), "?"},
		{ShortSize(new(1023 * mib)), "1023.0Mi"},
		{Ratio(new(512*mib), new(600*mib), "max"), "512.0/600.0 MiB"},
		{Ratio(new(3*gib), nil, "max"), "3.0 GiB/max"},
		{Ratio(nil, new(gib), "max"), "?/1.0 GiB"},
		{Ratio(new(100*mib), new(2*gib), "max"), "100.0 MiB/2.0 GiB"},
		{Part(300*mib, 500*mib), "300.0 MiB of 500.0 MiB (60 %)"},
		{Part(300*mib, 0), "300.0 MiB"},
		{PartOf(300*mib, 500*mib, "the pod's limit"), "300.0 MiB (60 % of the pod's limit)"},
		{PartOf(300*mib, 0, "it"), "300.0 MiB"},
		{Part(600*mib, 500*mib), "600.0 MiB, more than 500.0 MiB"},
		{Part(501*mib, 500*mib), "501.0 MiB of 500.0 MiB (100 %)"},
		{PartOf(600*mib, 500*mib, "the pod's limit"), "600.0 MiB (more than all of the pod's limit)"},
		{ShareOf(300*mib, 500*mib, "the limit"), "60 % of the limit"},
		{ShareOf(501*mib, 500*mib, "the limit"), "100 % of the limit"},
		{ShareOf(600*mib, 500*mib, "the limit"), "more than the limit"},
		{ShareOf(300*mib, 0, "the limit"), "300.0 MiB"},
		{NUMANodes([]int{4}), "NUMA node 4"},
		{NUMANodes([]int{0, 1, 3}), "NUMA nodes 0-1,3"},
		{Percent(0.955), "96 %"},
		{Duration(0), "0 µs"},
		{Duration(999_999), "999 µs"},
		{Duration(2_040_000), "2.0 ms"},
		{Duration(31_200_000), "31 ms"},
		{Duration(1_250_000_000), "1.2 s"},
		{Duration(150_000_000_000), "2 min 30 s"},
		{Duration(1<<64 - 1), "153722867 min 16 s"}, // the most that time.Duration holds
		{ranges([]int{5, 0, 1, 3, 4, 1}), "0-1,3-5"},
		{ranges(nil), ""},
		{Plural(1, "process"), "1 process"},
		{Plural(2, "process"), "2 processes"},
		{Plural(uint64(0), "more victim"), "0 more victims"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestLists(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Join(" of ", "", "a", "", "b"), "a of b"},
		{Join(", "), ""},
		{FirstFew([]string{"a", "b", "c", "d", "e and f"}), "a, b, c, d, e and f"},
		{FirstFew([]string{"a", "b", "c", "d", "e", "f"}), "a, b, c, d, and 2 more"},
		{Spaced("node_reclaim"), "node reclaim"},
		{Spaced("CONSTRAINT_BPF_PRESSURE"), "CONSTRAINT_BPF_PRESSURE"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestClipping(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Clip("abcdef", 6), "abcdef"},
		{Clip("abcdef", 5), "abcd…"},
		{Clip("日本語", 5), "日本…"},
		{ClipStart("abcdef", 5), "…cdef"},
		{ClipMiddle("abcdefgh", 5), "ab…gh"},
		{ClipEnds("abcdefgh", 5), "ab…fgh"},
		{ClipEnds("üüüüü", 5), "üüüüü"},
		{ClipName(strings.Repeat("日", 60)), strings.Repeat("日", 60)},
		{ClipName(strings.Repeat("日", 61)), strings.Repeat("日", 59) + "…"},
		{ClipPath("/" + strings.Repeat("a", 59)), "/" + strings.Repeat("a", 59)},
		{ClipPath(strings.Repeat("a", 100) + "/b"), "…" + strings.Repeat("a", 57) + "/b"},
		{ShortID(containerID), "3f2a91c0…"},
		{ShortID("\x1b[2J"), `\x1b[2J`},
		{ShortPath(appPath, 67), "/kubepods.slice/…/cri-containerd-3f2a91c0….scope"},
		{ShortPath(appPath, 20), "…erd-3f2a91c0….scope"},
		{ShortPath("/a", 67), "/a"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestWhen(t *testing.T) {
	for at, want := range map[time.Time]string{
		time.Date(2026, 7, 21, 14, 3, 7, 0, time.UTC): "14:03:07",
		time.Unix(32, 439271e3):                       "[32.439]",     // of a log without a wall clock
		time.Unix(0, 0):                               "time unknown", // and without uptimes
		time.Unix(0, 1e6):                             "[0.001]",
		time.Unix(400*24*3600, 0):                     "[34560000.000]",
		time.Date(1980, 6, 1, 1, 2, 3, 0, time.UTC):   "01:02:03",
		time.Date(1969, 12, 31, 1, 2, 3, 0, time.UTC): "01:02:03",
	} {
		if got := When(at, time.TimeOnly, time.UTC); got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
	}
}

func TestProcesses(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Task("java", 4711), "java[4711]"},
		{Task("", 0), "?[?]"},
		{Task("x] y", 1), `"x] y"[1]`},
		{Process("java", 4711), "java[4711]"},
		{Process("java", 0), "java"},
		{Process("", 7), "process 7"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestWorkloads(t *testing.T) {
	service := &events.Workload{Unit: "backup.service"}
	cgroup := &events.Cgroup{CgroupKey: events.CgroupKey{ID: 9}, Path: "/a/b"}

	for _, test := range []struct{ got, want string }{
		{Identity(app(), false), "shop/cart-0/app (container 3f2a91c0… of pod 6ba0af16…)"},
		{Identity(bare(), false), "container 3f2a91c0… of pod 6ba0af16…"},
		{Identity(bare(), true), "container " + containerID + " of pod " + podUID},
		{Identity(&events.Workload{Container: "app", ContainerID: containerID}, false), "container app (3f2a91c0…)"},
		{Identity(&events.Workload{Unit: "a.service", NodeContainerID: containerID}, false), "a.service in node container 3f2a91c0…"},
		{Identity(nil, false), ""},
		{Identity(lxcGuest(), false), "LXC container web1"},
		{Identity(inGuest(), false), "sshd.service in LXC container web1"},
		{Identity(step(), false), "task 0 of step 2 of job 8 (Slurm, user 1000)"},
		{Identity(inContainer(), false), "web.service in shop/cart-0/app (container 3f2a91c0… of pod 6ba0af16…)"},
		{Identity(&events.Workload{Job: &events.Job{Manager: "nomad", Kind: "task", ID: podUID, Task: "api"}}, false),
			"task api of allocation 6ba0af16… (Nomad)"},
		{Identity(&events.Workload{Job: &events.Job{Manager: "nomad", Kind: "task", ID: podUID, Task: "api"}}, true),
			"task api of allocation " + podUID + " (Nomad)"},
		{Identity(&events.Workload{Job: &events.Job{Manager: "buildkit", Kind: "build_step", ID: "x1y2z3abcdefghijklmnopqrs"}}, false),
			"build step x1y2z3ab… (BuildKit)"},
		{Identity(&events.Workload{Job: &events.Job{Manager: "new", Kind: "run", ID: "7"}}, false), "run 7 (new)"},
		{Identity(&events.Workload{Service: "apid"}, false), "service apid"},
		{Identity(&events.Workload{Guest: &events.Guest{System: "qemu", Name: "100"}}, false), "VM 100"},
		{Identity(&events.Workload{Guest: &events.Guest{System: "new", Name: "a"}}, false), "machine a"},
		{Identity(&events.Workload{ContainerID: "488fc5b8b77f4fb7984bdc4aba948f9f-1234567890"}, false), "container 488fc5b8…-1234567890"},
		{Identity(deep(), false), "a.service in LXC container c in … in node container 3f2a91c0…"},
		{Identity(&events.Workload{PodUID: podUID, NodeContainerID: containerID, Within: []events.Holder{
			{Kind: events.HolderContainer, Name: "kind-worker", ID: containerID},
		}}, false), "pod 6ba0af16… in node container kind-worker (3f2a91c0…)"},
		{Place(inGuest(), lxcGuest()), "sshd.service in LXC container web1"},
		{Place(inContainer(), nil), "web.service in container app of pod shop/cart-0"},
		{Place(step(), nil), "task 0 of step 2 of job 8 (Slurm, user 1000)"},
		{Innermost(inGuest()), "sshd.service"},
		{Innermost(nil), ""},
		{Short(app()), "app"},
		{Short(lxcGuest()), "LXC container web1"},
		{Short(step()), "job 8"},
		{Short(inGuest()), "sshd.service"},
		{Short(nil), ""},
		{Cgroup(events.LevelCgroup, app(), cgroup), "cgroup b of container app"},
		{Cgroup(events.LevelGuest, lxcGuest(), cgroup), "LXC container web1"},
		{Cgroup("", inContainer(), cgroup), "web.service in container app"},
		{Ancestor(events.LevelGuest, lxcGuest(), "/lxc.payload.web1"), "LXC container web1"},
		{Ancestor(events.LevelGuest, lxcGuest(), "/lxc/web1/ns"), "ns"},
		{Ancestor(events.LevelGuest, nil, "/lxc/web1"), "guest"},
		{Ancestor(events.LevelJob, step(), "/x"), "task 0"},
		{Sharer(&events.Share{Level: events.LevelCgroup, Workload: app(), Cgroup: *cgroup}), "b"},
		{Sharer(&events.Share{Level: events.LevelGuest, Workload: lxcGuest(), Cgroup: *cgroup}), "LXC container web1"},
		{Sharer(&events.Share{Level: events.LevelContainer}), "container"},
		{Place(app(), nil), "container app of pod shop/cart-0"},
		{Place(app(), bare()), "container app"},
		{Place(bare(), nil), "container 3f2a91c0… of pod 6ba0af16…"},
		{Place(service, nil), "backup.service"},
		{Place(nil, nil), ""},
		{Cgroup("", app(), cgroup), "container app"},
		{Cgroup("", &events.Workload{PodUID: podUID}, cgroup), "pod 6ba0af16…"},
		{Cgroup("", &events.Workload{Namespace: "shop", Pod: "cart-0"}, cgroup), "pod shop/cart-0"},
		{Cgroup("", service, cgroup), "backup.service"},
		{Cgroup("", nil, cgroup), "cgroup /a/b"},
		{Cgroup("", nil, &events.Cgroup{CgroupKey: events.CgroupKey{ID: 9}}), "cgroup 9"},
		{Cgroup("", nil, nil), "a cgroup"},
		{Ancestor(events.LevelQoS, &events.Workload{QoS: "burstable"}, "/x"), "burstable"},
		{Ancestor(events.LevelPod, app(), "/x"), "pod"},
		{Ancestor(events.LevelService, service, "/system.slice/backup.service"), "backup.service"},
		{Ancestor(events.LevelCgroup, nil, "/"), "root"},
		{Sharer(&events.Share{Level: events.LevelContainer, Workload: app()}), "container app"},
		{Sharer(&events.Share{Level: events.LevelPod, Workload: &events.Workload{PodUID: podUID}}), "pod 6ba0af16…"},
		{Sharer(&events.Share{Level: events.LevelCgroup, Cgroup: *cgroup}), "b"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func lxcGuest() *events.Workload {
	return &events.Workload{Guest: &events.Guest{System: "lxc", Name: "web1"}}
}

func inGuest() *events.Workload {
	return &events.Workload{Unit: "sshd.service", Within: []events.Holder{{Kind: events.HolderGuest, System: "lxc", Name: "web1"}}}
}

func step() *events.Workload {
	return &events.Workload{
		Job:  &events.Job{Manager: "slurm", Kind: "job", ID: "8", Step: "2", Task: "0", User: "1000"},
		Unit: "slurmstepd.scope", Within: []events.Holder{{Kind: events.HolderService, Name: "slurmstepd.scope"}},
	}
}

// inContainer is a unit in a container of a pod.
func inContainer() *events.Workload {
	w := app()
	w.Unit, w.Within = "web.service", []events.Holder{{Kind: events.HolderContainer, ID: containerID}}

	return w
}

// deep is within more than a sentence has room for.
func deep() *events.Workload {
	return &events.Workload{Unit: "a.service", NodeContainerID: containerID, Within: []events.Holder{
		{Kind: events.HolderContainer, ID: containerID}, {Kind: events.HolderGuest, System: "lxc", Name: "b"},
		{Kind: events.HolderGuest, System: "lxc", Name: "c"},
	}}
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		limiter      events.Limiter
		limit, owner string
	}{
		{events.Limiter{Level: events.LevelContainer, Workload: app()}, "the container's limit", "container app of pod shop/cart-0"},
		{events.Limiter{Level: events.LevelPod, Workload: &events.Workload{Namespace: "shop", Pod: "cart-0"}}, "the pod's limit", "pod shop/cart-0"},
		{events.Limiter{Level: events.LevelQoS, Workload: &events.Workload{QoS: "burstable"}}, "the limit of all burstable pods", "the cgroup of all burstable pods"},
		{events.Limiter{Level: events.LevelQoS}, "the limit of a QoS class", "the cgroup of a QoS class"},
		{events.Limiter{Level: events.LevelKubepods}, "the limit of all pods (node allocatable)", "the cgroup of all pods"},
		{events.Limiter{Level: events.LevelNode}, "the node's memory", "a node"},
		{events.Limiter{Level: events.LevelService, Workload: &events.Workload{Unit: "a.service"}}, "the limit of a.service", "unit a.service"},
		{events.Limiter{Level: events.LevelCgroup, Cgroup: &events.Cgroup{Path: "/a/b"}}, "the limit of cgroup /a/b", "cgroup b"},
		{events.Limiter{}, "the limit of a cgroup", "a cgroup"},
		{events.Limiter{Level: events.LevelGuest, Workload: lxcGuest()}, "the limit of LXC container web1", "LXC container web1"},
		{events.Limiter{Level: events.LevelService, Workload: inGuest()}, "the limit of sshd.service in LXC container web1",
			"unit sshd.service in LXC container web1"},
		{events.Limiter{Level: events.LevelJob, Workload: step()}, "the limit of task 0 of step 2 of job 8 (Slurm, user 1000)",
			"task 0 of step 2 of job 8 (Slurm, user 1000)"},
		{events.Limiter{Level: events.LevelCgroup, Workload: app(), Cgroup: &events.Cgroup{Path: "/a/b"}},
			"the limit of cgroup b of container app", "cgroup b of container app of pod shop/cart-0"},
		{events.Limiter{Level: events.LevelKubepods, Workload: &events.Workload{Within: inGuest().Within}},
			"the limit of all pods (node allocatable) in LXC container web1", "the cgroup of all pods in LXC container web1"},
		{events.Limiter{Level: events.LevelService, Workload: &events.Workload{Service: "apid"}}, "the limit of service apid", "service apid"},
	} {
		if got := Limit(&test.limiter); got != test.limit {
			t.Errorf("limit: got %q, want %q", got, test.limit)
		}

		if got := LimitOwner(&test.limiter); got != test.owner {
			t.Errorf("owner: got %q, want %q", got, test.owner)
		}
	}
}

func TestKillers(t *testing.T) {
	runc := &events.Killer{Kind: "user", Path: "runtime", PID: 7, Comm: "runc", Reason: "unit_stop"}
	enforcer := &events.Killer{Kind: "kernel", Path: "bpf", BPFProgram: &events.BPFProgram{ID: 42, Name: "enforce"}}

	for _, test := range []struct{ got, want string }{
		{KillPath("group", events.ScopeMemcg), "memcg OOM path"},
		{KillPath("group", events.ScopeGlobal), "group kill"},
		{KillPath("", events.ScopeMemcg), "path ?"},
		{KillPath("runtime", events.ScopeUser), "container runtime"},
		{KillPath("systemd-oomd", events.ScopeUser), "systemd-oomd"},
		{KilledBy(nil), "by an unknown process"},
		{KilledBy(runc), "by runc[7], unit stop"},
		{KilledBy(&events.Killer{Kind: "kernel", Path: "pidns"}), "by the kernel, when PID 1 of the PID namespace exited"},
		{KilledBy(&events.Killer{Kind: "kernel", Path: "kernel"}), "by the kernel, not the OOM killer"},
		{KilledBy(&events.Killer{Kind: "kernel", Path: "timer"}), "by a POSIX timer of the process itself"},
		{KilledBy(&events.Killer{Kind: "kernel", Path: "rlimit"}), "by the kernel, at the limit of CPU time"},
		{KilledBy(&events.Killer{Kind: "kernel", Path: "bpf"}), "by a BPF program"},
		{KilledBy(enforcer), "by the BPF program enforce"},
		{KilledBy(&events.Killer{Kind: "kernel", Path: "a_later_one"}), "by the kernel: a later one"},
		{KilledBy(&events.Killer{Kind: "user", Path: "tracer", PID: 7, Comm: "strace"}), "by the exit of its tracer strace[7]"},
		{UserKiller(enforcer), "the BPF program enforce"},
		{UserKiller(&events.Killer{Kind: "kernel", Path: "kernel"}), "the kernel"},
		{UserKiller(&events.Killer{Kind: "kernel", Path: "memory_failure"}), "the kernel, after a hardware memory error,"},
		{KillPath("sigio", events.ScopeUser), "file signal (F_SETSIG)"},
		{UserKiller(runc), "the container runtime (runc[7])"},
		{UserKiller(&events.Killer{Path: "systemd", PID: 1, Comm: "systemd"}), "systemd[1]"},
		{UserKiller(&events.Killer{Path: "systemd-oomd"}), "systemd-oomd"},
		{UserKiller(&events.Killer{Path: "other"}), "user space"},
		{KernelKill(events.ScopeMemcg, events.LevelPod, true), "memcg OOM at pod level (group kill)"},
		{KernelKill(events.ScopeMemcg, "", false), "memcg OOM"},
		{KernelKill(events.ScopeGlobal, "", false), "node-wide OOM"},
		{KernelKill(events.ScopeSysrq, "", false), "OOM kill requested by sysrq-f"},
		{KernelKill(events.ScopeCpuset, "", false), "OOM of cpuset"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// TestEnums: values of the contract have words, values of later versions are shown as
// they are.
func TestEnums(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Outcome(events.ScopeMemcg, events.OutcomeKilled), "OOM KILL"},
		{Outcome(events.ScopeUser, events.OutcomeKilled), "KILLED"},
		{Outcome(events.ScopeMemcg, events.OutcomeOOMKillDisabled), "OOM, KILLER DISABLED, TASKS WAIT"},
		{WaitEnd(events.WaitEndKillerEnabled), "the OOM killer was enabled"},
		{WaitEnd(events.WaitEndLimitRaised), "the limit was raised"},
		{WaitEnd(events.WaitEndTaskExited), "a waiting task exited"},
		{WaitEnd(events.WaitEndMemoryFreed), "memory was freed"},
		{WaitEnd(events.WaitEndCgroupRemoved), "the cgroup was removed"},
		{WaitEnd("new_end"), "new end"},
		{Outcome("", "new_outcome"), "OOM, NEW OUTCOME"},
		{Shortage(events.ScopeCpuset, &events.Limiter{Nodes: []int{1, 3}}), "NUMA nodes 1,3 of the cpuset out of memory"},
		{Shortage(events.ScopeMempolicy, nil), "NUMA nodes of the memory policy out of memory"},
		{Shortage("", nil), ""},
		{Shortage("new_scope", nil), "new scope"},
		{Class("anon_fault"), "anonymous page fault"},
		{Class("page_cache"), "page cache"},
		{Role(events.RoleGroup), "group member"},
		{Role(events.RoleChosen), "chosen"},
		{Stall("memory_high"), "memory.high"},
		{Stall("direct_reclaim"), "direct reclaim"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// TestAUnitBesideContainersIsNotItsPod: the limit of a container's monitor is not the pod's.
func TestAUnitBesideContainersIsNotItsPod(t *testing.T) {
	l := &events.Limiter{
		Level:  events.LevelService,
		Cgroup: &events.Cgroup{Path: "/kubepods.slice/kubepods-pod1.slice/crio-conmon-2.scope"},
		// A monitor is in its pod, and in none of its containers.
		Workload: &events.Workload{Pod: "cart-0", Namespace: "shop", Unit: "crio-conmon-2.scope"},
	}

	const want = "unit crio-conmon-2.scope of pod shop/cart-0"
	if got := LimitOwner(l); got != want {
		t.Errorf("got owner %q, want %q", got, want)
	}

	if got := Cgroup(l.Level, l.Workload, l.Cgroup); got != want {
		t.Errorf("got cgroup %q, want %q", got, want)
	}

	if got := LimitOwner(&events.Limiter{Level: events.LevelPod, Workload: l.Workload}); got != "pod shop/cart-0" {
		t.Errorf("got owner %q of the pod's limit, want the pod", got)
	}
}
