// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// script is a trace, as a source would feed it to a sink.
type script struct {
	name string
	feed func(sink.Sink) error
}

// feed makes a script of lines. An incident of kind incident_update is applied to the
// incident before it.
func feed(lines ...events.Line) func(sink.Sink) error {
	return func(s sink.Sink) error {
		open := ledger.New(ledger.Limits{}, nil)

		for _, line := range lines {
			if inc, ok := line.(*events.Incident); ok {
				if inc.Kind == events.KindIncidentUpdate {
					line = open.Apply(inc, 0)
				} else if err := open.Open(inc, 0); err != nil {
					return err
				}
			}

			if err := s.Write(line); err != nil {
				return err
			}
		}

		return closeSink(s)
	}
}

func closeSink(s sink.Sink) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}

	return nil
}

const (
	mib = uint64(1) << 20
	gib = uint64(1) << 30

	podUID      = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	containerID = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	sidecarID   = "b7c6d5e4f3a2918070615243342516078899aabbccddeeff0011223344556677"
	kubepods    = "/kubepods.slice"
	burstable   = kubepods + "/kubepods-burstable.slice"
	podPath     = burstable + "/kubepods-burstable-pod6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b.slice"
	appPath     = podPath + "/cri-containerd-" + containerID + ".scope"
	sidecarPath = podPath + "/cri-containerd-" + sidecarID + ".scope"
)

func start() time.Time { return time.Date(2026, 8, 20, 14, 3, 7, 412_345_678, time.UTC) }

func envelope(kind string, after time.Duration) events.Envelope {
	return events.Envelope{
		V: events.Version, Kind: kind, Time: start().Add(after),
		BootID: "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61", Node: "worker-3",
	}
}

func cgroup(id uint64, path string) *events.Cgroup {
	return &events.Cgroup{CgroupKey: events.CgroupKey{ID: id}, Path: path}
}

func workload(container string) *events.Workload {
	return &events.Workload{PodUID: podUID, ContainerID: container, Runtime: "containerd", QoS: "burstable", Source: "path"}
}

func headline(inc *events.Incident) *events.Headline {
	return &events.Headline{Time: inc.Time, ID: inc.ID, Scope: inc.Scope, PID: inc.Victims[0].PID, Comm: inc.Victims[0].Comm}
}

func update(id string, after time.Duration) *events.Incident {
	return &events.Incident{Envelope: envelope(events.KindIncidentUpdate, after), ID: id}
}

func podLadder() []events.Rung {
	pod := &events.Workload{PodUID: podUID, QoS: "burstable"}

	return []events.Rung{
		{Cgroup: *cgroup(9004, podPath), Level: events.LevelPod, UsageBytes: new(519*mib + 300<<10),
			MaxBytes: new(600 * mib), OOMGroup: new(false), Workload: pod},
		{Cgroup: *cgroup(310, burstable), Level: events.LevelQoS, UsageBytes: new(3*gib + 100*mib), Workload: &events.Workload{QoS: "burstable"}},
		{Cgroup: *cgroup(300, kubepods), Level: events.LevelKubepods, UsageBytes: new(9*gib + 800*mib), MaxBytes: new(14*gib + 200*mib)},
	}
}

// container is the usual case: a container of a pod at its own limit.
func container() *events.Incident {
	app := cgroup(9010, appPath)

	return &events.Incident{
		Envelope: envelope(events.KindIncident, 0),
		ID:       "5f0c2c1e-17", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{
			Level: events.LevelContainer, Which: "memory.max", LimitBytes: new(512 * mib), UsageBytes: new(512 * mib),
			Cgroup: app, Workload: workload(containerID),
		},
		Ladder: append([]events.Rung{{
			Cgroup: *app, Level: events.LevelContainer, UsageBytes: new(512 * mib), MaxBytes: new(512 * mib),
			PeakBytes: new(512 * mib), OOMGroup: new(false), Workload: workload(containerID),
		}}, podLadder()...),
		Trigger: &events.Process{PID: 4711, TID: 4790, Comm: "java", Thread: "C2 CompilerThre", Cgroup: app, Workload: workload(containerID)},
		Victims: []events.Victim{{
			Process: events.Process{PID: 4711, TID: 4711, Comm: "java", Cgroup: app, Workload: workload(containerID)},
			Role:    events.RoleChosen, AnonRSSBytes: new(480*mib + 100<<10), FileRSSBytes: new(9 * mib), ShmemRSSBytes: new(uint64(0)),
			SwapBytes: new(uint64(0)), PgtablesBytes: new(1536 << 10 * uint64(1)), TotalVMBytes: new(3 * gib), OOMScoreAdj: new(985),
			Points: new(int64(125_590)), UID: new(uint32(1000)), StartTime: new(start().Add(-26 * time.Hour)), IsContainerInit: new(true),
		}},
		Killer: &events.Killer{Kind: "kernel", Path: "memcg"},
		Allocation: &events.Allocation{
			Order: new(0), GFP: new(uint32(0x400cc0)), GFPFlags: []string{"GFP_KERNEL_ACCOUNT"}, Class: "anon_fault", TotalPages: new(uint64(131072)),
		},
		Memory: &events.Memory{
			AnonBytes: new(481 * mib), FileBytes: new(22 * mib), ShmemBytes: new(uint64(0)), SlabBytes: new(4*mib + 512<<10),
			KernelStackBytes: new(768 << 10 * uint64(1)), PagetablesBytes: new(2 * mib), SockBytes: new(uint64(0)),
		},
		Passes: &events.Passes{Killed: 1},
		Tier:   events.TierFentry,
	}
}

func containerScript() func(sink.Sink) error {
	inc := container()
	dead, back := update(inc.ID, 31*time.Millisecond), update(inc.ID, 40*time.Millisecond)
	process := events.Process{PID: 4711, TID: 4711, Comm: "java"}
	dead.Victims = []events.Victim{{Process: process, ExitAfterNS: new(uint64(31_200_000))}}
	back.Victims = []events.Victim{{Process: process, ReapedAfterNS: new(uint64(38_000_000)), ReleasedAfterNS: new(uint64(40_100_000))}}
	audit := update(inc.ID, time.Second)
	audit.Audit = &events.Audit{
		Victims: 1, KernelKills: 1, VMStatDelta: new(uint64(1)), Incidents: 1, WindowKills: 1, MemcgDelta: new(uint64(1)),
		Explained: true, Text: "1 victim; oom_kill +1",
	}
	status := &events.Status{
		Envelope: envelope(events.KindStatus, -3*time.Second), Phase: "start", Tier: events.TierFentry, CgroupMode: "v2",
		KernelRelease: "6.12.43+deb13-amd64", PageSizeBytes: 4096,
		Hooks: []events.Hook{
			{Name: "out_of_memory", Tier: events.TierFentry},
			{Name: "exit_mmap", Tier: events.TierKprobe, Why: "fentry: the function has no BTF id in this kernel (not supported)"},
			{Name: "memcg_reclaim", Why: "no such tracepoint"},
		},
	}
	lost := &events.Lost{Envelope: envelope(events.KindLost, 2*time.Second), What: "victim_signal", Count: 12}
	throttled := &events.Lost{
		Envelope: envelope(events.KindLost, 2*time.Second), What: "throttled user_kill", Count: 1208,
		Cgroup: &events.Cgroup{CgroupKey: events.CgroupKey{ID: 4242}, Path: "/user.slice/user-1000.slice"},
	}
	end := &events.Status{
		Envelope: envelope(events.KindStatus, 3*time.Second), Phase: "end",
		Incidents: new(uint64(1)), Victims: new(uint64(1)), Lost: new(uint64(12)),
	}

	return feed(status, headline(inc), inc, dead, back, audit, lost, throttled, end)
}

// pod is a limit above the containers, met while names are still to be learnt.
func pod() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-18"
	inc.Ladder = podLadder()
	inc.Ladder[0].UsageBytes, inc.Ladder[0].HighBytes = new(600*mib), new(550*mib)
	inc.Ladder[0].MinBytes, inc.Ladder[0].LowBytes = new(200*mib), new(events.ProtectAll)
	inc.Limiter = &events.Limiter{
		Level: events.LevelPod, Which: "memory.max", LimitBytes: new(600 * mib), UsageBytes: new(600 * mib),
		SwapUsageBytes: new(20 * mib), SwapLimitBytes: new(20 * mib), Cgroup: cgroup(9004, podPath),
		Workload: &events.Workload{PodUID: podUID, QoS: "burstable", Source: "path"},
	}
	inc.Trigger = &events.Process{PID: 5120, TID: 5120, Comm: "envoy", Cgroup: cgroup(9020, sidecarPath), Workload: workload(sidecarID)}
	inc.Victims[0].SwapBytes = new(20 * mib)

	other := container()
	other.ID, other.Time = "5f0c2c1e-19", start().Add(time.Millisecond)
	other.Victims[0].PID, other.Victims[0].TID, other.Victims[0].Comm = 6001, 6001, "python3"

	names := update(inc.ID, 80*time.Millisecond)
	limiter := *inc.Limiter
	limiter.Workload = &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID, QoS: "burstable", Source: "log_dir"}
	names.Limiter = &limiter
	names.Victims = []events.Victim{{Process: events.Process{PID: 4711, TID: 4711, Comm: "java"}, ExitAfterNS: new(uint64(1_250_000_000))}}
	// The two cases meet: the second headline comes between the first and its block.
	return feed(headline(inc), headline(other), inc, other, names)
}

func group3() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-20"
	inc.Killer = &events.Killer{Kind: "kernel", Path: "group", GroupCgroup: inc.Limiter.Cgroup, GroupLevel: events.LevelContainer}

	inc.Ladder[0].OOMGroup = new(true)
	for i, comm := range []string{"sh", "Web Content"} {
		inc.Victims = append(inc.Victims, events.Victim{
			Process: events.Process{PID: 4650 + i, TID: 4650 + i, Comm: comm, Cgroup: inc.Limiter.Cgroup, Workload: workload(containerID)},
			Role:    events.RoleGroup, AnonRSSBytes: new(uint64(i) * 300 << 10),
		})
	}
	inc.Audit = &events.Audit{
		Victims: 3, KernelKills: 4, VMStatDelta: new(uint64(4)), Incidents: 1, WindowKills: 4, Explained: true,
		Text: "3 victims; oom_kill +4 (the kernel counts the chosen victim of a group kill twice)",
	}
	h := headline(inc)
	h.Scope = ""

	return feed(h, inc)
}

func group60() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-21"
	inc.Killer = &events.Killer{Kind: "kernel", Path: "group", GroupCgroup: cgroup(9004, podPath), GroupLevel: events.LevelPod}
	inc.Victims = inc.Victims[:1]

	dead := update(inc.ID, time.Second)
	for i := range 59 {
		p := events.Process{PID: 5000 + i, TID: 5000 + i, Comm: fmt.Sprintf("worker-%d", i), Cgroup: inc.Limiter.Cgroup,
			Workload: workload(containerID)}
		inc.Victims = append(inc.Victims, events.Victim{Process: p, Role: events.RoleGroup, AnonRSSBytes: new(mib)})
		dead.Victims = append(dead.Victims, events.Victim{
			Process: events.Process{PID: p.PID, TID: p.TID, Comm: p.Comm}, ExitAfterNS: new(uint64(i+1) * 2_000_000),
		})
	}
	dead.Audit = &events.Audit{
		Victims: 60, KernelKills: 61, VMStatDelta: new(uint64(63)), Incidents: 1, WindowKills: 61,
		Text: "60 victims; oom_kill +63; 61 kills were observed",
	}

	return feed(inc, dead)
}

func global() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Scope = "5f0c2c1e-22", events.ScopeGlobal
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: new(62 * gib), UsageBytes: new(61*gib + 700*mib)}
	inc.Trigger = &events.Process{PID: 88, TID: 88, Comm: "kworker/u16:3", IsKernel: true, Cgroup: cgroup(1, "/")}
	inc.Allocation = &events.Allocation{
		Order: new(3), GFP: new(uint32(0x40dc0)), Class: "slab", TotalPages: new(uint64(16252928)),
		GFPFlags: []string{"GFP_KERNEL", "__GFP_COMP", "__GFP_ZERO", "__GFP_NOWARN", "__GFP_NORETRY", "__GFP_NOMEMALLOC"},
	}
	inc.Killer.Path = "global"
	inc.Ladder, inc.Memory = nil, nil
	inc.Victims[0].Workload = &events.Workload{
		Namespace: "shop", Pod: "cart-0", PodUID: podUID, Container: "app", ContainerID: containerID, QoS: "burstable",
		NodeContainerID: sidecarID, Source: "cri",
	}
	inc.Notes = []string{"the trigger is a kernel thread: its allocation is not charged to any cgroup, so nobody's limit was at fault here"}

	return feed(headline(inc), inc)
}

func cpuset() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Scope = "5f0c2c1e-23", events.ScopeCpuset
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "numa_nodes", Nodes: []int{1, 3, 4, 5}}
	inc.Killer.Path, inc.Ladder, inc.Memory = "global", nil, nil
	svc := cgroup(77, "/system.slice/postgresql@17-main.service")
	inc.Trigger = &events.Process{PID: 900, TID: 900, Comm: "postgres", Cgroup: svc, Workload: &events.Workload{Unit: "postgresql@17-main.service"}}
	inc.Victims[0].Process = *inc.Trigger
	inc.Victims[0].IsContainerInit, inc.Victims[0].OOMScoreAdj = nil, new(0)

	return feed(inc)
}

func sysrq() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Scope = "5f0c2c1e-24", events.ScopeSysrq
	inc.Limiter, inc.Ladder, inc.Memory = nil, nil, nil
	inc.Trigger = &events.Process{PID: 52, TID: 52, Comm: "kworker/0:2", IsKernel: true}
	inc.Allocation = &events.Allocation{Order: new(-1), GFP: new(uint32(0xcc0)), GFPFlags: []string{"GFP_KERNEL"}, Class: "sysrq"}
	inc.Killer.Path = "sysrq"

	return feed(headline(inc), inc)
}

func noKillable() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Outcome, inc.Victims, inc.Killer, inc.Memory = "5f0c2c1e-25", events.OutcomeNoKillable, nil, nil, nil
	inc.Passes = &events.Passes{NoKillable: 1}
	more := update(inc.ID, time.Second)
	more.Passes = &events.Passes{NoKillable: 4312}
	more.Notes = []string{"every process of the cgroup has oom_score_adj -1000"}

	return feed(inc, more)
}

func alreadyExiting() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Outcome, inc.Victims, inc.Killer, inc.Memory = "5f0c2c1e-26", events.OutcomeAlreadyExiting, nil, nil, nil
	inc.Passes, inc.Exiting = &events.Passes{AlreadyExiting: 1}, inc.Trigger
	waiting := container()
	waiting.ID, waiting.Outcome, waiting.Victims, waiting.Killer, waiting.Ladder = "5f0c2c1e-27", events.OutcomeWaiting, nil, nil, nil
	waiting.Passes = &events.Passes{Waiting: 17}

	return feed(inc, waiting)
}

// oomKillDisabled is cgroup v1 with tasks that wait: found, joined by another, and ended.
func oomKillDisabled() func(sink.Sink) error {
	inc := container()
	db := &events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: 9, ID: 44}, Path: "/docker/" + containerID}
	w := &events.Workload{ContainerID: containerID, Runtime: "docker", Source: "path"}
	task := func(tid int, thread string) events.Process {
		return events.Process{PID: 4711, TID: tid, Comm: "post\x1b[2Jgres", Thread: thread, Cgroup: db, Workload: w}
	}
	inc.ID, inc.Outcome, inc.Victims, inc.Killer, inc.Passes, inc.Allocation = "5f0c2c1e-32", events.OutcomeOOMKillDisabled, nil, nil, nil, nil
	inc.Limiter = &events.Limiter{
		Level: events.LevelContainer, Which: "memory.limit_in_bytes", LimitBytes: new(gib), UsageBytes: new(gib), Cgroup: db, Workload: w,
		OOMKillDisable: new(true), UnderOOM: new(true),
	}
	inc.Ladder = []events.Rung{{Cgroup: *db, Level: events.LevelContainer, UsageBytes: new(gib), MaxBytes: new(gib), Workload: w}}
	inc.Wait = &events.OOMWait{Since: &inc.Time, Tasks: []events.Process{task(4711, "")}}
	inc.Trigger = &inc.Wait.Tasks[0]

	joined := update(inc.ID, 10*time.Second)
	joined.Wait = &events.OOMWait{Since: &inc.Time, TasksLeftOut: 7, TasksUnread: 20}

	for i := range 10 {
		t := task(4711+i, "io_worker")
		if i > 4 {
			t.PID, t.TID, t.Thread = t.PID+i, t.PID+i, ""
		}

		joined.Wait.Tasks = append(joined.Wait.Tasks, t)
	}

	ended := update(inc.ID, 90*time.Second)
	wait := *joined.Wait
	wait.EndedAfterNS, wait.End = new(uint64(90e9)), events.WaitEndKillerEnabled
	ended.Wait = &wait

	// Another that nobody saw begin, with tasks of another PID namespace.
	earlier := *inc
	earlier.ID, earlier.Trigger, earlier.Wait = "5f0c2c1e-33", nil, &events.OOMWait{Tasks: []events.Process{}}
	earlier.Unknown = []string{"trigger", "wait.since", "wait.tasks"}
	freed := update(earlier.ID, time.Minute)
	freed.Wait = &events.OOMWait{Tasks: []events.Process{}, EndedAfterNS: new(uint64(60e9)), End: events.WaitEndMemoryFreed}

	return feed(inc, joined, ended, &earlier, freed)
}

// tracepoints is an incident of the weakest attach mode, with much unknown.
func tracepoints() func(sink.Sink) error {
	inc := &events.Incident{
		Envelope: envelope(events.KindIncident, 0), ID: "5f0c2c1e-28", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{Level: events.LevelContainer, Which: "memory.max", LimitBytes: new(512 * mib), Cgroup: cgroup(9010, "")},
		Ladder: []events.Rung{
			{Cgroup: *cgroup(9010, ""), Level: events.LevelContainer, MaxBytes: new(512 * mib)},
			{Cgroup: *cgroup(9004, ""), Level: events.LevelPod},
		},
		Trigger: &events.Process{PID: 4711, TID: 4790, Comm: "java"},
		Victims: []events.Victim{{Process: events.Process{PID: 4711, TID: 4711, Comm: "java"}, Role: events.RoleChosen}},
		Killer:  &events.Killer{Kind: "kernel", Path: "unknown"}, Allocation: &events.Allocation{},
		Tier: events.TierTracepoint,
		Unknown: []string{
			"allocation.gfp", "allocation.order", "killer.path", "ladder.max_bytes", "limiter.cgroup.path",
			"limiter.usage_bytes", "memory", "victims.anon_rss_bytes",
		},
	}

	return feed(headline(inc), inc)
}

// completed is an incident of which the trace saw little, and what was filled in afterwards.
func completed() func(sink.Sink) error {
	inc := container()
	inc.ID, inc.Tier = "5f0c2c1e-30", events.TierTracepoint
	inc.Memory, inc.Allocation, inc.Victims[0].Points = nil, &events.Allocation{Class: "tmpfs"}, nil
	inc.Unknown = []string{"allocation.gfp", "allocation.order", "allocation.total_pages", "memory", "victims.points"}

	log := &events.Incident{
		Envelope: envelope(events.KindIncidentUpdate, 200*time.Millisecond), ID: inc.ID,
		Allocation: &events.Allocation{Order: new(0), GFP: new(uint32(0xcc0)), GFPFlags: []string{"GFP_KERNEL"}, Class: "tmpfs"},
		Victims:    []events.Victim{{Process: events.Process{PID: 4711, TID: 4711, Comm: "java"}, Points: new(int64(125590))}},
		CompletedFrom: []events.Completion{{
			Source: events.SourceKernelLog,
			Keys:   []string{"allocation.order", "allocation.gfp", "allocation.gfp_flags", "victims.points"},
		}},
		Unknown: []string{"allocation.total_pages", "memory"},
	}

	stat := &events.Incident{
		Envelope: envelope(events.KindIncidentUpdate, 300*time.Millisecond), ID: inc.ID,
		Memory: &events.Memory{AnonBytes: new(12 * mib), FileBytes: new(498 * mib), ShmemBytes: new(498 * mib)},
		CompletedFrom: append(slices.Clone(log.CompletedFrom),
			events.Completion{Source: events.SourceMemoryStat, Keys: []string{"memory"}, AfterNS: new(uint64(3e6))}),
		Unknown: []string{"allocation.total_pages"},
	}

	return feed(headline(inc), inc, log, stat)
}

func hostile() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-29"
	inc.Limiter.Cgroup = cgroup(9010, "/\x1b]0;owned\x07/a\nb/\u202egpj.exe/"+"日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語")
	inc.Limiter.Workload = nil
	inc.Limiter.Level = events.LevelCgroup
	inc.Ladder[0].Cgroup, inc.Ladder[0].Level = *inc.Limiter.Cgroup, events.LevelCgroup
	inc.Trigger.Comm, inc.Trigger.Thread = "a], victims[1]", "日本語日本\xff"
	inc.Trigger.Cgroup = cgroup(5, "/x\u200b\u009b31m"+"ﷺ")
	inc.Trigger.Workload = nil
	inc.Victims[0].Comm = "\x1b[2J\x1b[H\xff\xfe\u202e\x7f"
	inc.Notes = []string{"line\nbreak \x1b[31mred " + string(make([]byte, 60))}
	inc.Unknown = []string{"\x1b[1m"}
	inc.Allocation.Class = "new\x00class"
	inc.Killer.Path = "\r\n"

	return feed(headline(inc), inc)
}

func sharedMM() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-30"
	inc.Scope, inc.Limiter.Which = events.ScopeMemcg, "memory.max"
	inc.Allocation.Class = "limit_lowered"
	inc.LimitChanges = []events.LimitChange{{
		File: "memory.max", BeforeNS: 3e9, OldBytes: new(uint64(1 << 30)), NewBytes: 512 << 20, UsageBytes: 700 << 20,
		Writer: events.Process{PID: 50, TID: 50, Comm: "runc"},
	}}
	inc.Victims = append(inc.Victims, events.Victim{
		Process: events.Process{PID: 4800, TID: 4803, Comm: "helper", Cgroup: cgroup(9020, sidecarPath), Workload: workload(sidecarID)},
		Role:    events.RoleSharedMM, OOMScoreAdj: new(-500),
	})

	return feed(headline(inc), inc)
}

// memsw is cgroup v1 at its limit of memory and swap together.
func memsw() func(sink.Sink) error {
	inc := container()
	v1 := &events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: 9, ID: 44}, Path: "/docker/" + containerID}
	w := &events.Workload{ContainerID: containerID, Runtime: "docker", Source: "path"}
	inc.ID = "5f0c2c1e-31"
	inc.Limiter = &events.Limiter{
		Level: events.LevelContainer, Which: "memory.memsw.limit_in_bytes", LimitBytes: new(gib), UsageBytes: new(gib),
		SwapLimitBytes: new(gib), SwapUsageBytes: new(gib), Cgroup: v1, Workload: w,
	}
	root := events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: 9, ID: 1}, Path: "/"}
	inc.Ladder = []events.Rung{
		{Cgroup: *v1, Level: events.LevelContainer, UsageBytes: new(700 * mib), MaxBytes: new(800 * mib),
			SwapUsageBytes: new(gib), SwapMaxBytes: new(gib), Workload: w},
		{Cgroup: root, Level: events.LevelCgroup, UsageBytes: new(20 * gib)},
	}
	inc.Trigger.Cgroup, inc.Trigger.Workload = v1, w
	inc.Victims[0].Cgroup, inc.Victims[0].Workload = v1, w
	inc.Tier = events.TierKprobe

	return feed(headline(inc), inc)
}

func scripts() []script {
	return []script{
		{"container", containerScript()},
		{"pod", pod()},
		{"group3", group3()},
		{"group60", group60()},
		{"global", global()},
		{"cpuset", cpuset()},
		{"sysrq", sysrq()},
		{"no_killable", noKillable()},
		{"already_exiting", alreadyExiting()},
		{"oom_kill_disabled", oomKillDisabled()},
		{"tracepoints", tracepoints()},
		{"completed", completed()},
		{"hostile", hostile()},
		{"names", withNames()},
		{"hostile_names", hostileNames()},
		{"shared_mm", sharedMM()},
		{"memsw", memsw()},
		{"user", userKills()},
		{"explained", explained()},
		{"explained_at_length", explainedAtLength()},
	}
}
