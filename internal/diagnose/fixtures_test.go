// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	mib = uint64(1) << 20
	gib = uint64(1) << 30

	podUID      = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	containerID = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	podPath     = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b.slice"
	appPath     = podPath + "/cri-containerd-" + containerID + ".scope"
)

func noon() time.Time { return time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC) }

func envelope() events.Envelope {
	return events.Envelope{V: events.Version, Kind: events.KindIncident, Time: noon(), BootID: "boot", Node: "worker-3"}
}

func cgroup(id uint64, path string) *events.Cgroup {
	return &events.Cgroup{CgroupKey: events.CgroupKey{ID: id}, Path: path}
}

func app() *events.Workload {
	return &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID, Container: "app", ContainerID: containerID, QoS: "burstable"}
}

func victim(pid int, comm string, anon uint64) events.Victim {
	return events.Victim{
		Process: events.Process{PID: pid, TID: pid, Comm: comm, Cgroup: cgroup(9010, appPath), Workload: app()},
		Role:    events.RoleChosen, AnonRSSBytes: new(anon), FileRSSBytes: new(uint64(0)),
		ShmemRSSBytes: new(uint64(0)), OOMScoreAdj: new(985),
	}
}

// plainKill is a container at its own limit of 512 MiB, and nothing unusual.
func plainKill() *events.Incident {
	v := victim(4711, "hog", 480*mib)

	return &events.Incident{
		Envelope: envelope(), ID: "boot-1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled, Tier: events.TierFentry,
		Limiter: &events.Limiter{
			Level: events.LevelContainer, Which: "memory.max", LimitBytes: new(512 * mib), UsageBytes: new(512 * mib),
			Cgroup: cgroup(9010, appPath), Workload: app(),
		},
		Ladder: []events.Rung{
			{Cgroup: *cgroup(9010, appPath), Level: events.LevelContainer, UsageBytes: new(512 * mib),
				MaxBytes: new(512 * mib), Workload: app()},
			{Cgroup: *cgroup(9004, podPath), Level: events.LevelPod, UsageBytes: new(520 * mib)},
		},
		Trigger:    &events.Process{PID: 4711, TID: 4711, Comm: "hog", Cgroup: cgroup(9010, appPath)},
		Victims:    []events.Victim{v},
		Killer:     &events.Killer{Kind: "kernel", Path: "memcg"},
		Allocation: &events.Allocation{Order: new(0), Class: "anon_fault"},
		Memory:     memory(480 * mib),
		Passes:     &events.Passes{Killed: 1},
	}
}

// memory is a charge of anonymous memory and a little of everything else.
func memory(anon uint64) *events.Memory {
	return &events.Memory{
		AnonBytes: new(anon), FileBytes: new(8 * mib), ShmemBytes: new(uint64(0)), SlabBytes: new(4 * mib),
		SlabReclaimableBytes: new(3 * mib), SlabUnreclaimableBytes: new(1 * mib), KernelStackBytes: new(mib / 2),
		PagetablesBytes: new(1 * mib), SockBytes: new(uint64(0)), PercpuBytes: new(mib / 4),
		FileDirtyBytes: new(uint64(0)), FileWritebackBytes: new(uint64(0)), ActiveFileBytes: new(1 * mib), InactiveFileBytes: new(7 * mib),
		UnevictableBytes: new(uint64(0)), AnonTHPBytes: new(uint64(0)),
	}
}

// podKill is a victim in a container below its limit, whose pod is at 600 MiB.
func podKill() *events.Incident {
	inc := plainKill()
	inc.Ladder[0].Below, inc.Ladder[0].UsageBytes, inc.Ladder[0].MaxBytes = true, new(300*mib), new(500*mib)
	inc.Ladder[1].UsageBytes, inc.Ladder[1].MaxBytes = new(600*mib), new(600*mib)
	inc.Limiter = &events.Limiter{
		Level: events.LevelPod, Which: "memory.max", LimitBytes: new(600 * mib), UsageBytes: new(600 * mib),
		Cgroup: cgroup(9004, podPath), Workload: &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID},
	}
	inc.Shares = []events.Share{
		{Cgroup: *cgroup(9010, appPath), Level: events.LevelContainer, Workload: app(), UsageBytes: new(300 * mib),
			MaxBytes: new(500 * mib)},
		{Cgroup: *cgroup(9020, podPath+"/sidecar"), Level: events.LevelContainer,
			Workload: &events.Workload{Container: "proxy"}, UsageBytes: new(290 * mib)},
	}
	inc.Memory = memory(560 * mib)

	return inc
}

// nestedKill is a victim within a limiter of 512 MiB that is no pod, by paths as a kernel log has them.
func nestedKill(level events.Level, top string, l *events.Workload, below string, v *events.Workload) *events.Incident {
	inc := plainKill()
	inc.Limiter.Level, inc.Limiter.Cgroup, inc.Limiter.Workload = level, cgroup(0, top), l
	inc.Victims[0].Cgroup, inc.Victims[0].Workload = cgroup(0, top+below), v
	inc.Ladder = []events.Rung{
		{Cgroup: *cgroup(0, top+below), Level: events.LevelService, Workload: v, Below: true},
		{Cgroup: *cgroup(0, top), Level: level, Workload: l, UsageBytes: new(512 * mib), MaxBytes: new(512 * mib)},
	}

	return inc
}

// guestKill is sshd of an LXC container that reached its limit.
func guestKill() *events.Incident {
	return nestedKill(events.LevelGuest, "/lxc.payload.web1", &events.Workload{Guest: &events.Guest{System: "lxc", Name: "web1"}},
		"/system.slice/sshd.service", &events.Workload{
			Unit: "sshd.service", Within: []events.Holder{{Kind: events.HolderGuest, System: "lxc", Name: "web1"}},
		})
}

// jobKill is a step of a Slurm job that reached its limit.
func jobKill() *events.Incident {
	job := func(step string) *events.Workload {
		return &events.Workload{
			Job: &events.Job{Manager: "slurm", Kind: "job", ID: "7", Step: step}, Unit: "slurmstepd.scope",
			Within: []events.Holder{{Kind: events.HolderService, Name: "slurmstepd.scope"}},
		}
	}

	return nestedKill(events.LevelJob, "/system.slice/slurmstepd.scope/job_7", job(""), "/step_0", job("0"))
}

// nodeContainerKill is a pod's container inside a container that reached its limit, as a live
// trace of cgroup v1 has it: with the counters of each cgroup between them.
func nodeContainerKill() *events.Incident {
	node := strings.Repeat("0123456789abcdef", 4)
	inner := &events.Workload{
		PodUID: podUID, ContainerID: containerID, QoS: "burstable", NodeContainerID: node,
		Within: []events.Holder{{Kind: events.HolderContainer, System: "docker", ID: node}},
	}
	inc := nestedKill(events.LevelContainer, "/docker/"+node, &events.Workload{ContainerID: node, Runtime: "docker"},
		"/kubelet/kubepods/burstable/pod"+podUID+"/"+containerID, inner)
	inc.Ladder[0].Level, inc.Ladder[0].UsageBytes = events.LevelContainer, new(511*mib)

	return inc
}

// sessionKill is an app of a user's session that reached its limit.
func sessionKill() *events.Incident {
	return nestedKill(events.LevelService, "/user.slice/user-1000.slice/user@1000.service", &events.Workload{Unit: "user@1000.service"},
		"/app.slice/app-firefox.scope", &events.Workload{
			Unit: "app-firefox.scope", Within: []events.Holder{{Kind: events.HolderService, Name: "user@1000.service"}},
		})
}

// reservedKill is the kubelet in a slice that is reserved for it.
func reservedKill() *events.Incident {
	return nestedKill(events.LevelSlice, "/podruntime.slice", &events.Workload{Unit: "podruntime.slice"},
		"/containerd.service", &events.Workload{Unit: "containerd.service"})
}

// nodeKill is a node of 16 GiB that ran out of memory.
func nodeKill() *events.Incident {
	inc := plainKill()
	inc.Scope, inc.Ladder, inc.Memory = events.ScopeGlobal, nil, nil
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: new(16 * gib)}
	inc.Killer.Path = "global"
	inc.Victims[0].AnonRSSBytes = new(2 * gib)
	inc.NodeState = &events.NodeState{
		TotalBytes: new(16 * gib), FreeBytes: new(100 * mib), AvailableBytes: new(120 * mib), AnonBytes: new(15 * gib),
		FileBytes: new(60 * mib), ActiveFileBytes: new(20 * mib), InactiveFileBytes: new(20 * mib),
		ShmemBytes: new(20 * mib), DirtyBytes: new(uint64(0)), WritebackBytes: new(uint64(0)), SlabReclaimable: new(100 * mib),
		SlabUnreclaimable: new(200 * mib), KernelStackBytes: new(20 * mib), PagetablesBytes: new(80 * mib),
		HugetlbBytes: new(uint64(0)), HugetlbFreeBytes: new(uint64(0)), SwapTotalBytes: new(2 * gib), SwapFreeBytes: new(1 * gib),
		Zones: []events.Zone{
			zone(0, "DMA", 15*mib, mib, 16*mib, 1, 1, 1, 1),
			zone(0, "Normal", 60*mib, 64*mib, 16*gib, 9000, 400, 40, 0),
		},
	}

	return inc
}

// zone has a min watermark of four fifths of the low one.
func zone(node int, name string, free, low, managed uint64, blocks ...uint64) events.Zone {
	return events.Zone{
		Node: node, Zone: name, FreeBytes: new(free), MinBytes: new(low / 5 * 4), LowBytes: new(low), HighBytes: new(low / 5 * 6),
		ManagedBytes: new(managed), FreeBlocks: blocks,
	}
}

// numaKill is NUMA node 1 out of memory, while node 0 is not.
func numaKill(scope events.Scope) *events.Incident {
	inc := nodeKill()
	inc.Scope = scope
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "numa_nodes", Nodes: []int{1}}
	inc.NodeState.Zones = []events.Zone{
		zone(0, "Normal", 4*gib, 32*mib, 8*gib, 100, 100, 100, 100),
		zone(1, "Normal", 20*mib, 32*mib, 8*gib, 100, 10, 0, 0),
	}

	return inc
}

// accounted gives the node a ledger with so much in no counter.
func accounted(inc *events.Incident, unaccounted uint64, missing ...string) {
	inc.NodeState.Ledger = &events.NodeLedger{
		Entries: []events.LedgerEntry{{Name: "anonymous", Bytes: *inc.NodeState.AnonBytes}}, UnaccountedBytes: unaccounted, Missing: missing,
	}
}

// addsUp gives a node the counters that its ledger lacks.
func addsUp(n *events.NodeState) {
	for _, missing := range []**uint64{&n.VmallocBytes, &n.PercpuBytes, &n.NetworkBytes, &n.ZspagesBytes} {
		*missing = new(30 * mib)
	}
}

// highmemKill is a 32-bit machine whose low zone is used up, for an allocation of the kernel.
func highmemKill() *events.Incident {
	inc := nodeKill()
	inc.Allocation.GFP, inc.Allocation.Class = new(uint32(0xcc0)), "slab"
	inc.Victims[0].AnonRSSBytes = new(30 * mib)
	inc.NodeState.TotalBytes, inc.NodeState.FreeBytes, inc.NodeState.AnonBytes = new(2*gib), new(gib), new(100*mib)
	inc.NodeState.Zones = []events.Zone{zone(0, "Normal", 5*mib, 10*mib, 900*mib), zone(0, "HighMem", gib, 2*mib, 1100*mib)}

	return inc
}

// movableKill is an allocation of the kernel that may use NUMA node 1 alone, which is movable.
func movableKill() *events.Incident {
	inc := numaKill(events.ScopeCpuset)
	inc.Allocation.GFP, inc.Allocation.Class = new(uint32(0xcc0)), "slab"
	inc.NodeState.Zones = []events.Zone{
		zone(0, "Normal", 4*gib, 32*mib, 8*gib), zone(1, "Movable", 7*gib, 32*mib, 8*gib),
	}

	return inc
}

// cmaKill is an allocation of the kernel where what is free is of CMA areas.
func cmaKill() *events.Incident {
	inc := nodeKill()
	inc.Allocation.GFP, inc.Allocation.Class = new(uint32(0xcc0)), "slab"
	inc.NodeState.Zones[1].FreeBytes, inc.NodeState.Zones[1].FreeCMABytes = new(2058*mib), new(2*gib)

	return inc
}

// smallCMAKill is the same with little free in CMA areas.
func smallCMAKill() *events.Incident {
	inc := cmaKill()
	inc.NodeState.Zones[1].FreeBytes, inc.NodeState.Zones[1].FreeCMABytes = new(400*mib), new(390*mib)

	return inc
}

// gaveUp is a history in which the allocator gave up on a zone for its watermark.
func gaveUp(order uint32) *events.Before {
	return &events.Before{GaveUp: &events.GaveUpLine{Reclaim: &events.ReclaimAnswer{
		Order: order, Zone: "DMA", AvailableBytes: 15 * mib, MinWatermarkBytes: mib,
	}}}
}

// userKillOf is a SIGKILL from user space to a container far below its limits.
func userKillOf(path, reason string) *events.Incident {
	inc := plainKill()
	inc.Scope, inc.Limiter, inc.Memory, inc.Allocation, inc.Trigger, inc.Passes = events.ScopeUser, nil, nil, nil, nil, nil
	inc.Ladder[0].UsageBytes = new(100 * mib)
	inc.Victims[0].Role = ""
	inc.Killer = &events.Killer{
		Kind: "user", Path: path, PID: 900, Comm: "runc", Reason: reason,
		Ancestry: []events.Ancestor{{PID: 700, Comm: "containerd-shim"}, {PID: 1, Comm: "systemd"}},
	}
	inc.NodeState = &events.NodeState{
		TotalBytes: new(16 * gib), AvailableBytes: new(8 * gib), PSISome: &events.PSI{Avg10: 0.1}, AfterNS: new(uint64(12e6)),
	}

	return inc
}

// seconds are rows of a timeline up to the kill, the oldest first.
func seconds(usage []uint64, reclaimed ...uint64) []events.StallSecond {
	var rows []events.StallSecond

	for i := range reclaimed {
		row := events.StallSecond{
			BeforeNS: uint64(len(reclaimed)-1-i) * 1e9, Count: 10, TotalNS: 5e8, ReclaimedBytes: reclaimed[i],
		}
		if i < len(usage) {
			row.UsageBytes = new(usage[i])
		}

		rows = append(rows, row)
	}

	return rows
}

func candidate(pid int, comm string, anon uint64, adj int) events.Candidate {
	return events.Candidate{
		Process:      events.Process{PID: pid, TID: pid, Comm: comm, Cgroup: cgroup(9010, appPath), Workload: app()},
		AnonRSSBytes: new(anon), OOMScoreAdj: new(adj), Unkillable: adj == -1000,
	}
}

// ran is a program that was recognized by its executable, with all its settings.
func ran(kind events.ProgramKind, settings ...events.Setting) *events.Program {
	return &events.Program{Kind: kind, By: events.ProgramByExecutable, Settings: append([]events.Setting{}, settings...)}
}

// sized is a setting of the command line that is a size.
func sized(name string, bytes uint64) events.Setting {
	return events.Setting{Name: name, Value: strconv.FormatUint(bytes, 10), Bytes: &bytes, Source: events.SettingFromCommand}
}

// sharedBuffers is a database whose buffers filled most of its limit.
func sharedBuffers() *incident {
	inc := filled(func(m *events.Memory) { m.FileBytes, m.ShmemBytes = new(380*mib), new(370*mib) })()
	inc.Victims[0].Comm, inc.Victims[0].AnonRSSBytes = "postgres", new(10*mib)

	return inc
}
