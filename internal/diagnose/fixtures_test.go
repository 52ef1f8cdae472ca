// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
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

func ptr[T any](v T) *T { return &v }

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
		Role:    events.RoleChosen, AnonRSSBytes: ptr(anon), FileRSSBytes: ptr(uint64(0)), ShmemRSSBytes: ptr(uint64(0)), OOMScoreAdj: ptr(985),
	}
}

// plainKill is a container at its own limit of 512 MiB, with nothing unusual.
func plainKill() *events.Incident {
	v := victim(4711, "hog", 480*mib)

	return &events.Incident{
		Envelope: envelope(), ID: "boot-1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled, Tier: events.TierFentry,
		Limiter: &events.Limiter{
			Level: events.LevelContainer, Which: "memory.max", LimitBytes: ptr(512 * mib), UsageBytes: ptr(512 * mib),
			Cgroup: cgroup(9010, appPath), Workload: app(),
		},
		Ladder: []events.Rung{
			{Cgroup: *cgroup(9010, appPath), Level: events.LevelContainer, UsageBytes: ptr(512 * mib), MaxBytes: ptr(512 * mib), Workload: app()},
			{Cgroup: *cgroup(9004, podPath), Level: events.LevelPod, UsageBytes: ptr(520 * mib)},
		},
		Trigger:    &events.Process{PID: 4711, TID: 4711, Comm: "hog", Cgroup: cgroup(9010, appPath)},
		Victims:    []events.Victim{v},
		Killer:     &events.Killer{Kind: "kernel", Path: "memcg"},
		Allocation: &events.Allocation{Order: ptr(0), Class: "anon_fault"},
		Memory:     memory(480 * mib),
		Passes:     &events.Passes{Killed: 1},
	}
}

// memory is a charge split of anonymous memory and a little of all else.
func memory(anon uint64) *events.Memory {
	return &events.Memory{
		AnonBytes: ptr(anon), FileBytes: ptr(8 * mib), ShmemBytes: ptr(uint64(0)), SlabBytes: ptr(4 * mib),
		SlabReclaimableBytes: ptr(3 * mib), SlabUnreclaimableBytes: ptr(1 * mib), KernelStackBytes: ptr(mib / 2),
		PagetablesBytes: ptr(1 * mib), SockBytes: ptr(uint64(0)), PercpuBytes: ptr(mib / 4),
		FileDirtyBytes: ptr(uint64(0)), FileWritebackBytes: ptr(uint64(0)), ActiveFileBytes: ptr(1 * mib), InactiveFileBytes: ptr(7 * mib),
		UnevictableBytes: ptr(uint64(0)), AnonTHPBytes: ptr(uint64(0)),
	}
}

// podKill is a victim in a container below its limit, whose pod is at 600 MiB.
func podKill() *events.Incident {
	inc := plainKill()
	inc.Ladder[0].Below, inc.Ladder[0].UsageBytes, inc.Ladder[0].MaxBytes = true, ptr(300*mib), ptr(500*mib)
	inc.Ladder[1].UsageBytes, inc.Ladder[1].MaxBytes = ptr(600*mib), ptr(600*mib)
	inc.Limiter = &events.Limiter{
		Level: events.LevelPod, Which: "memory.max", LimitBytes: ptr(600 * mib), UsageBytes: ptr(600 * mib),
		Cgroup: cgroup(9004, podPath), Workload: &events.Workload{Namespace: "shop", Pod: "cart-0", PodUID: podUID},
	}
	inc.Shares = []events.Share{
		{Cgroup: *cgroup(9010, appPath), Level: events.LevelContainer, Workload: app(), UsageBytes: ptr(300 * mib), MaxBytes: ptr(500 * mib)},
		{Cgroup: *cgroup(9020, podPath+"/sidecar"), Level: events.LevelContainer, Workload: &events.Workload{Container: "proxy"}, UsageBytes: ptr(290 * mib)},
	}
	inc.Memory = memory(560 * mib)

	return inc
}

// nodeKill is a node of 16 GiB that ran out; half of it is in no cgroup that is
// known.
func nodeKill() *events.Incident {
	inc := plainKill()
	inc.Scope, inc.Ladder, inc.Memory = events.ScopeGlobal, nil, nil
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node", LimitBytes: ptr(16 * gib)}
	inc.Killer.Path = "global"
	inc.Victims[0].AnonRSSBytes = ptr(2 * gib)
	inc.NodeState = &events.NodeState{
		TotalBytes: ptr(16 * gib), FreeBytes: ptr(100 * mib), AvailableBytes: ptr(120 * mib), AnonBytes: ptr(15 * gib), FileBytes: ptr(60 * mib),
		ShmemBytes: ptr(20 * mib), DirtyBytes: ptr(uint64(0)), WritebackBytes: ptr(uint64(0)), SlabReclaimable: ptr(100 * mib),
		SlabUnreclaimable: ptr(200 * mib), KernelStackBytes: ptr(20 * mib), PagetablesBytes: ptr(80 * mib),
		HugetlbBytes: ptr(uint64(0)), HugetlbFreeBytes: ptr(uint64(0)), SwapTotalBytes: ptr(2 * gib), SwapFreeBytes: ptr(1 * gib),
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
		Node: node, Zone: name, FreeBytes: ptr(free), MinBytes: ptr(low / 5 * 4), LowBytes: ptr(low), HighBytes: ptr(low / 5 * 6),
		ManagedBytes: ptr(managed), FreeBlocks: blocks,
	}
}

// numaKill is a cpuset's node 1 out of memory while node 0 is not.
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

// userKillOf is a SIGKILL from user space to a container far below its limits.
func userKillOf(path, reason string) *events.Incident {
	inc := plainKill()
	inc.Scope, inc.Limiter, inc.Memory, inc.Allocation, inc.Trigger, inc.Passes = events.ScopeUser, nil, nil, nil, nil, nil
	inc.Ladder[0].UsageBytes = ptr(100 * mib)
	inc.Victims[0].Role = ""
	inc.Killer = &events.Killer{
		Kind: "user", Path: path, PID: 900, Comm: "runc", Reason: reason,
		Ancestry: []events.Ancestor{{PID: 700, Comm: "containerd-shim"}, {PID: 1, Comm: "systemd"}},
	}
	inc.NodeState = &events.NodeState{
		TotalBytes: ptr(16 * gib), AvailableBytes: ptr(8 * gib), PSISome: &events.PSI{Avg10: 0.1}, AfterNS: ptr(uint64(12e6)),
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
			row.UsageBytes = ptr(usage[i])
		}

		rows = append(rows, row)
	}

	return rows
}

func candidate(pid int, comm string, anon uint64, adj int) events.Candidate {
	return events.Candidate{
		Process:      events.Process{PID: pid, TID: pid, Comm: comm, Cgroup: cgroup(9010, appPath), Workload: app()},
		AnonRSSBytes: ptr(anon), OOMScoreAdj: ptr(adj), Unkillable: adj == -1000,
	}
}
