// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

type incident = events.Incident

// ruleCase is a case of a rule: it fires for the incident of make, and is silent once lack
// has removed one piece of its evidence.
type ruleCase struct {
	rule        string
	confidence  string
	make        func() *incident
	history     History
	lack        func(*incident)
	lackHistory func(History) History
	name        string // where a rule has several cases
}

func with(base *incident, change func(*incident)) func() *incident {
	return func() *incident { change(base); return base }
}

// filled is a container filled by something other than anonymous memory.
func filled(change func(*events.Memory)) func() *incident {
	inc := plainKill()
	inc.Memory = memory(100 * mib)
	change(inc.Memory)

	return func() *incident { return inc }
}

func cases() []ruleCase {
	return []ruleCase{
		{rule: "sysrq", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Scope, i.Limiter = events.ScopeSysrq, nil }),
			lack: func(i *incident) { i.Scope = events.ScopeGlobal }},
		{rule: "no_killable", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Outcome, i.Victims, i.Killer, i.Passes = events.OutcomeNoKillable, nil, nil, &events.Passes{NoKillable: 900}
			}),
			lack: func(i *incident) { i.Outcome = events.OutcomeWaiting }},
		{rule: "oom_kill_disabled", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Outcome, i.Victims, i.Killer, i.Passes, i.Allocation = events.OutcomeOOMKillDisabled, nil, nil, nil, nil
				i.Limiter.OOMKillDisable, i.Limiter.UnderOOM = new(true), new(true)
				i.Wait = &events.OOMWait{Tasks: []events.Process{*i.Trigger}, TasksLeftOut: 2}
			}),
			lack: func(i *incident) { i.Limiter.OOMKillDisable = new(false) }},
		{rule: "limit_lowered", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Allocation.Class, i.Trigger = "limit_lowered", &events.Process{PID: 50, TID: 50, Comm: "runc"}
			}),
			lack: func(i *incident) { i.Allocation.Class = "" }},
		{rule: "limit_lowered", name: "by what is above it", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				i.Allocation.Class, i.Limiter.UsageBytes = "", new(640*mib)
				i.Trigger = &events.Process{PID: 50, TID: 50, Comm: "runc", Cgroup: cgroup(7, "/system.slice/kubelet.service")}
			}),
			lack: func(i *incident) { i.Limiter.UsageBytes = new(640*mib - 1) }},
		{rule: "limit_lowered", name: "by a trigger of its own", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				i.Allocation.Class, i.Limiter.UsageBytes = "", new(640*mib)
				i.Trigger = &events.Process{PID: 50, TID: 50, Comm: "runc", Cgroup: cgroup(7, "/system.slice/kubelet.service")}
			}),
			lack: func(i *incident) { i.Trigger.Cgroup = cgroup(9011, appPath+"/inner") }},
		{rule: "kernel_panic", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Tier, i.Outcome, i.Victims, i.Killer, i.Passes = events.TierKernelLog, events.OutcomePanic, nil, nil, nil
			}),
			lack: func(i *incident) { i.Outcome = events.OutcomeNoKillable }},
		{rule: "kernel_panic", name: "nothing killable", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Tier, i.Outcome, i.Passes = events.TierKernelLog, events.OutcomePanic, &events.Passes{NoKillable: 1}
				i.Victims, i.Killer = nil, nil
			}),
			lack: func(i *incident) { i.Outcome = events.OutcomeKilled }},
		{rule: "suspending", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Outcome, i.Victims, i.Killer, i.Passes = events.OutcomeSuspending, nil, nil, &events.Passes{Suspending: 3}
			}),
			lack: func(i *incident) { i.Outcome = events.OutcomeNoKillable }},
		{rule: "working_set_guard", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Trigger = &events.Process{PID: 60, TID: 60, Comm: "kswapd0", IsKernel: true}
				i.NodeState.MinTTLNS = new(uint64(1e9))
			}),
			lack: func(i *incident) { i.Trigger.IsKernel = false }},
		{rule: "working_set_guard", name: "by the stack, of a kernel log", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Tier, i.Allocation.Class, i.NodeState = events.TierKernelLog, "kswapd", nil
				i.Trigger = &events.Process{PID: 60, TID: 60, Comm: "kswapd0"}
			}),
			lack: func(i *incident) { i.Allocation.Class = "anon_fault" }},
		{rule: "working_set_guard", name: "at a limit", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Trigger = &events.Process{PID: 60, TID: 60, Comm: "kswapd1", IsKernel: true}
			}),
			lack: func(i *incident) { i.Scope = events.ScopeMemcg }},
		{rule: "working_set_guard", name: "by another kernel thread", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Trigger = &events.Process{PID: 60, TID: 60, Comm: "kswapd0", IsKernel: true}
			}),
			lack: func(i *incident) { i.Trigger.Comm = "kworker/0:1" }},
		{rule: "limit_lowered", name: "some time before", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.LimitChanges = []events.LimitChange{{
					File: i.Limiter.Which, BeforeNS: 3e9, NewBytes: *i.Limiter.LimitBytes, UsageBytes: *i.Limiter.LimitBytes + 1,
					Writer: events.Process{PID: 50, TID: 50, Comm: "runc"},
				}}
			}),
			lack: func(i *incident) { i.LimitChanges[0].UsageBytes = *i.Limiter.LimitBytes }},
		{rule: "evicted", confidence: likely,
			make: with(userKillOf("runtime", "eviction"), func(i *incident) {
				i.Eviction = &events.Eviction{AvailableBytes: new(90 * mib), HardBytes: new(100 * mib)}
			}),
			lack: func(i *incident) { i.Killer.Reason = "delete" }},
		{rule: "evicted", name: "with the kubelet's own word", confidence: certain,
			make: with(userKillOf("runtime", "eviction"), func(i *incident) {
				i.Killer.Evidence = []events.Evidence{{What: "kubelet", Value: "must evict pod(s)", Source: "journal"}}
			}),
			lack: func(i *incident) { i.Scope = events.ScopeMemcg }},
		{rule: "working_set_cache", confidence: likely,
			make: with(userKillOf("runtime", "eviction"), func(i *incident) {
				i.Eviction = &events.Eviction{AvailableBytes: new(90 * mib), MemAvailableBytes: new(2 * gib)}
			}),
			lack: func(i *incident) { i.Eviction.MemAvailableBytes = new(180*mib - 2) }},
		{rule: "followed_oom", confidence: certain,
			make: with(userKillOf("systemd", "timeout"), func(i *incident) {
				i.Follows = &events.Follows{ID: "boot-1", Kind: events.AfterUnitStop, AfterNS: new(uint64(90e9)), Victim: "hog[1]", Confidence: certain}
			}),
			lack: func(i *incident) { i.Follows = nil }},
		{rule: "followed_oom", name: "a probe", confidence: likely,
			make: with(userKillOf("runtime", "probe"), func(i *incident) {
				i.Follows = &events.Follows{Kind: events.AfterProbe, Confidence: likely}
			}),
			lack: func(i *incident) { i.Scope = events.ScopeMemcg }},
		{rule: "oomd_kill", confidence: certain,
			make: func() *incident { return userKillOf("systemd-oomd", "") },
			lack: func(i *incident) { i.Killer.Path = "systemd" }},
		{rule: "earlyoom_kill", confidence: certain,
			make: func() *incident { return userKillOf("earlyoom", "") },
			lack: func(i *incident) { i.Killer.Path = "other" }},
		{rule: "killed_by_bpf", confidence: certain,
			make: with(userKillOf("bpf", ""), func(i *incident) { i.Killer.BPFProgram = &events.BPFProgram{ID: 42, Name: "enforce"} }),
			lack: func(i *incident) { i.Killer.Path = "kernel" }},
		{rule: "killed_by_own_request", confidence: certain,
			make: func() *incident { return userKillOf("timer", "") },
			lack: func(i *incident) { i.Killer.Path = "kernel" }},
		{rule: "cpu_time_limit", confidence: certain,
			make: func() *incident { return userKillOf("rlimit", "") },
			lack: func(i *incident) { i.Killer.Path = "kernel" }},
		{rule: "memory_error", confidence: certain,
			make: func() *incident { return userKillOf("memory_failure", "") },
			lack: func(i *incident) { i.Killer.Path = "kernel" }},
		{rule: "tracer_exited", confidence: certain,
			make: func() *incident { return userKillOf("tracer", "") },
			lack: func(i *incident) { i.Killer.Path = "other" }},
		{rule: "kernel_signal", confidence: certain,
			make: func() *incident { return userKillOf("kernel", "") },
			lack: func(i *incident) { i.Scope = events.ScopeMemcg }},
		{rule: "killed_by_human", confidence: certain,
			make: with(userKillOf("other", ""), func(i *incident) { i.Killer.Login = &events.Login{SudoUser: "ann", TTY: "pts/1"} }),
			lack: func(i *incident) { i.Killer.Login = nil }},
		{rule: "pidns_teardown", confidence: certain,
			make: func() *incident { return userKillOf("pidns", "") },
			lack: func(i *incident) { i.Killer.Path = "other" }},
		{rule: "killed_from_inside", confidence: certain,
			make: func() *incident { return userKillOf("self", "") },
			lack: func(i *incident) { i.Killer.Path = "other" }},
		{rule: "runtime_stop", confidence: likely,
			make: func() *incident { return userKillOf("runtime", "probe") },
			lack: func(i *incident) { i.Killer.Path = "other" }},
		{rule: "killed_by_process", confidence: certain,
			make: func() *incident { return userKillOf("other", "") },
			lack: func(i *incident) { i.Killer.PID, i.Killer.Comm = 0, "" }},
		{rule: "not_memory", confidence: certain,
			make: func() *incident { return userKillOf("runtime", "delete") },
			lack: func(i *incident) { i.Ladder[0].UsageBytes = new(410 * mib) }},
		{rule: "not_memory", name: "without PSI", confidence: likely,
			make: with(userKillOf("other", ""), func(i *incident) { i.NodeState.PSISome = nil }),
			lack: func(i *incident) { i.Ladder[0].UsageBytes = nil }},
		{rule: "not_memory", name: "under pressure", confidence: certain,
			make: with(userKillOf("other", ""), func(i *incident) { i.NodeState.PSISome.Avg10 = idlePSI - 0.1 }),
			lack: func(i *incident) { i.NodeState.PSISome.Avg10 = idlePSI }},
		{rule: "not_memory", name: "of an oomd", confidence: certain,
			make: func() *incident { return userKillOf("other", "") },
			lack: func(i *incident) { i.Killer.Path = "oomd" }},

		{rule: "tmpfs", confidence: certain,
			make: filled(func(m *events.Memory) { m.FileBytes, m.ShmemBytes = new(380*mib), new(370*mib) }),
			lack: func(i *incident) { i.Memory.ShmemBytes = new(128*mib - 1) }},
		{rule: "tmpfs", name: "of the node", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.ShmemBytes, i.NodeState.FileBytes = new(8*gib), new(8*gib) }),
			lack: func(i *incident) { i.NodeState.ShmemBytes = nil }},
		{rule: "tmpfs", name: "beside more", confidence: likely,
			make: with(plainKill(), func(i *incident) { i.Memory.AnonBytes, i.Memory.ShmemBytes = new(350*mib), new(130*mib) }),
			lack: func(i *incident) { i.Memory.ShmemBytes = new(127 * mib) }},
		{rule: "unevictable", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Memory.UnevictableBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Memory.UnevictableBytes = new(127 * mib) }},
		{rule: "page_cache_dirty", confidence: certain,
			make: filled(func(m *events.Memory) {
				m.FileBytes, m.FileDirtyBytes, m.FileWritebackBytes = new(390*mib), new(100*mib), new(60*mib)
			}),
			lack: func(i *incident) { i.Memory.FileDirtyBytes, i.Memory.FileWritebackBytes = new(uint64(0)), new(51*mib) }},
		{rule: "page_cache_hot", confidence: certain,
			make: filled(func(m *events.Memory) {
				m.FileBytes, m.ActiveFileBytes, m.InactiveFileBytes = new(390*mib), new(300*mib), new(90*mib)
			}),
			lack: func(i *incident) { i.Memory.ActiveFileBytes = new(89 * mib) }},
		{rule: "slab_unreclaimable", confidence: certain,
			make: filled(func(m *events.Memory) { m.SlabUnreclaimableBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Memory.SlabUnreclaimableBytes = nil }},
		{rule: "slab_unreclaimable", name: "of the node", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.SlabUnreclaimable, i.NodeState.AnonBytes = new(7*gib), new(8*gib)
				i.NodeState.Slabs = []events.SlabCache{{Name: "kmalloc-1k", Bytes: 6 * gib}}
			}),
			lack: func(i *incident) { i.NodeState.SlabUnreclaimable = new(2 * gib) }},
		{rule: "hugetlb_charged", confidence: certain,
			make: filled(func(m *events.Memory) { m.HugetlbBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Memory.HugetlbBytes = new(127 * mib) }},
		{rule: "hugetlb_charged", name: "not of the node", confidence: certain,
			make: filled(func(m *events.Memory) { m.HugetlbBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Scope = events.ScopeGlobal }},
		{rule: "gpu_memory", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.AnonBytes, i.NodeState.GPUActiveBytes, i.NodeState.GPUReclaimBytes = new(5*gib), new(6*gib), new(gib)
			}),
			lack: func(i *incident) { i.NodeState.GPUActiveBytes, i.NodeState.GPUReclaimBytes = new(2*gib), new(4*gib/10) }},
		{rule: "gpu_memory", name: "of a cgroup's limit", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.AnonBytes, i.NodeState.GPUActiveBytes = new(5*gib), new(6*gib) }),
			lack: func(i *incident) { i.Scope = events.ScopeMemcg }},
		{rule: "slab_reclaimable", confidence: certain,
			make: filled(func(m *events.Memory) { m.SlabReclaimableBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Memory.SlabReclaimableBytes = new(127 * mib) }},
		{rule: "slab_reclaimable", name: "not split", confidence: certain,
			make: filled(func(m *events.Memory) {
				m.SlabBytes, m.SlabReclaimableBytes, m.SlabUnreclaimableBytes = new(300*mib), nil, nil
			}),
			lack: func(i *incident) { i.Memory.SlabBytes = nil }},
		{rule: "pagetables", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Memory.AnonBytes, i.Memory.PagetablesBytes = new(250*mib), new(240*mib) }),
			lack: func(i *incident) { i.Memory.PagetablesBytes = new(51 * mib) }},
		{rule: "pagetables", name: "counted late for the cgroup", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Memory.AnonBytes, i.Memory.PagetablesBytes, i.Victims[0].PgtablesBytes = new(mib), new(uint64(0)), new(500*mib)
			}),
			lack: func(i *incident) { i.Victims[0].PgtablesBytes = new(400 * mib) }},
		{rule: "kernel_stacks", confidence: certain,
			make: filled(func(m *events.Memory) { m.KernelStackBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Memory.KernelStackBytes = new(51 * mib) }},
		{rule: "kernel_memory", confidence: certain,
			make: filled(func(m *events.Memory) { m.SockBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Memory.SockBytes = new(50 * mib) }},
		{rule: "thp", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Memory.AnonTHPBytes = new(400 * mib) }),
			lack: func(i *incident) { i.Memory.AnonTHPBytes = new(240*mib - 1) }},
		{rule: "thp", name: "always", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				i.Memory.AnonTHPBytes, i.NodeState = new(400*mib), &events.NodeState{TransparentHuge: "always"}
			}),
			lack: func(i *incident) { i.Memory.AnonBytes = nil }},

		{rule: "cpuset_exhausted", confidence: certain,
			make: func() *incident { return numaKill(events.ScopeCpuset) },
			lack: func(i *incident) { i.Scope = events.ScopeGlobal }},
		{rule: "mempolicy_exhausted", confidence: certain,
			make: func() *incident { return numaKill(events.ScopeMempolicy) },
			lack: func(i *incident) { i.Scope = events.ScopeGlobal }},
		{rule: "unaccounted", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.AnonBytes = new(3 * gib); accounted(i, 12*gib) }),
			lack: func(i *incident) { accounted(i, 255*mib) }},
		{rule: "unaccounted", name: "of a large node", confidence: likely,
			make: with(nodeKill(), func(i *incident) { accounted(i, 17*gib/20) }),
			lack: func(i *incident) { accounted(i, 15*gib/20) }},
		{rule: "unaccounted", name: "where some counters are missing", confidence: likely,
			make: with(nodeKill(), func(i *incident) { accounted(i, 12*gib, "vmalloc") }),
			lack: func(i *incident) { i.NodeState.Ledger = nil }},
		{rule: "unaccounted", name: "where zswap may have held it for the victim", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				accounted(i, 4*gib)
				i.NodeAtKill, i.Victims[0].SwapBytes = i.NodeState, new(2*gib)
				i.NodeAtKill.AnonBytes = new(11 * gib)
				addsUp(i.NodeAtKill)
				i.NodeState = &events.NodeState{AfterNS: new(uint64(30e6))}
			}),
			lack: func(i *incident) { i.NodeAtKill.AnonBytes = new(15 * gib) }},
		{rule: "unaccounted", name: "where huge pages may have it", confidence: possible,
			make: with(nodeKill(), func(i *incident) { accounted(i, 12*gib, "huge pages") }),
			lack: func(i *incident) { i.Scope = events.ScopeCpuset }},
		{rule: "unaccounted", name: "where zram may have it", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				accounted(i, 2*gib, "zram and zswap")
				i.NodeState.SwapTotalBytes, i.NodeState.SwapFreeBytes = new(4*gib), new(uint64(0))
			}),
			lack: func(i *incident) { accounted(i, 10*mib, "zram and zswap") }},
		{rule: "hugetlb_used", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.AnonBytes, i.NodeState.HugetlbBytes = new(2*gib), new(13*gib)
				i.NodeState.HugePages = []events.HugePages{{SizeBytes: gib, Total: 13}}
			}),
			lack: func(i *incident) { i.NodeState.HugetlbFreeBytes = new(11 * gib) }},
		{rule: "compressed_swap", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.AnonBytes, i.NodeState.ZRAM = new(8*gib), &events.ZRAM{DataBytes: 7 * gib, UsedBytes: 6 * gib}
			}),
			lack: func(i *incident) { i.NodeState.ZRAM = nil }},
		{rule: "compressed_swap", name: "that went with the victim", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeAtKill, i.Victims[0].SwapBytes = i.NodeState, new(6*gib)
				i.NodeAtKill.AnonBytes = new(8 * gib)
				i.NodeState = &events.NodeState{
					AfterNS: new(uint64(30e6)), ZRAM: &events.ZRAM{DataBytes: mib, UsedBytes: mib, PeakBytes: new(6 * gib)},
				}
			}),
			lack: func(i *incident) { i.NodeState.ZRAM.PeakBytes = new(gib) }},
		{rule: "compressed_swap", name: "by the pool", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.ZspagesBytes = new(3 * gib) }),
			lack: func(i *incident) { i.NodeState.ZspagesBytes = new(2 * gib) }},
		{rule: "low_zone", confidence: certain, make: highmemKill,
			lack: func(i *incident) { i.Allocation.GFP = new(uint32(0x100cca)) }},
		{rule: "low_zone", name: "the low zone is short", confidence: certain, make: highmemKill,
			lack: func(i *incident) { i.NodeState.Zones[0].FreeBytes = new(300 * mib) }},
		{rule: "low_zone", name: "the other zone is free", confidence: certain, make: highmemKill,
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBytes = new(100 * mib) }},
		{rule: "low_zone", name: "and was so before the kill", confidence: likely,
			make: with(highmemKill(), func(i *incident) { i.NodeState.AfterNS = new(uint64(30e6)) }),
			lack: func(i *incident) { i.Victims[0].AnonRSSBytes = new(gib) }},
		{rule: "low_zone", name: "in zones that the report leaves out", confidence: certain,
			make: with(highmemKill(), func(i *incident) { i.NodeState.Zones = i.NodeState.Zones[:1] }),
			lack: func(i *incident) { i.NodeState.FreeBytes = new(100 * mib) }},
		{rule: "low_zone", name: "short for its reserve", confidence: certain,
			make: with(highmemKill(), func(i *incident) {
				i.NodeState.Zones = []events.Zone{zone(0, "DMA32", 30*mib, 10*mib, 900*mib), i.NodeState.Zones[1]}
				i.NodeState.Zones[0].ReserveBytes = []uint64{0, 0, 25 * mib, 90 * mib}
			}),
			lack: func(i *incident) { i.NodeState.Zones[0].ReserveBytes = []uint64{0, 0, 15 * mib, 90 * mib} }},
		{rule: "low_zone", name: "nothing is kept from an allocation for the zone itself", confidence: certain, make: highmemKill,
			lack: func(i *incident) {
				i.NodeState.Zones[0].FreeBytes, i.NodeState.Zones[0].ReserveBytes = new(30*mib), []uint64{0, 0, 0, 90 * mib}
			}},
		{rule: "movable_only", confidence: certain, make: movableKill,
			lack: func(i *incident) { i.Allocation.GFP = new(uint32(0x100cca)) }},
		{rule: "movable_only", name: "a node with kernel memory beside", confidence: certain, make: movableKill,
			lack: func(i *incident) {
				i.NodeState.Zones = append(i.NodeState.Zones, zone(1, "Normal", 20*mib, 32*mib, gib))
			}},
		{rule: "movable_only", name: "in a report that leaves it out", confidence: likely,
			make: with(movableKill(), func(i *incident) { i.NodeState.Zones = nil }),
			lack: func(i *incident) { i.Limiter.Nodes = nil }},
		{rule: "cma_free", confidence: certain, make: cmaKill,
			lack: func(i *incident) { i.Allocation.GFP = new(uint32(0x100cca)) }},
		{rule: "cma_free", name: "most of it is CMA", confidence: certain, make: cmaKill,
			lack: func(i *incident) { i.NodeState.Zones[1].FreeCMABytes = new(100 * mib) }},
		{rule: "node_exhausted", name: "but for a little in CMA areas", confidence: certain, make: smallCMAKill,
			lack: func(i *incident) {
				i.NodeState.Zones[1].FreeBytes, i.NodeState.Zones[1].FreeCMABytes = new(2*gib), new(2*gib)
			}},
		{rule: "cpuset_exhausted", name: "where free memory is not known", confidence: likely,
			make: with(numaKill(events.ScopeCpuset), func(i *incident) { i.NodeState = nil }),
			lack: func(i *incident) { i.Scope = events.ScopeGlobal }},
		{rule: "node_exhausted", name: "by the allocator's watermarks", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.Zones = nil; i.Before = gaveUp(0) }),
			lack: func(i *incident) { i.Scope = events.ScopeSysrq }},
		{rule: "node_exhausted", name: "not shown by a watermark", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.Zones = nil; i.Before = gaveUp(3) }),
			lack: func(i *incident) { i.NodeState.TotalBytes, i.Victims = nil, nil }},
		{rule: "node_exhausted", name: "beside much that could be reclaimed", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.InactiveFileBytes = new(2 * gib) }),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBytes = new(2 * gib) }},
		{rule: "node_exhausted", name: "where slab that could be reclaimed is not known", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.SlabReclaimable = nil }),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBytes = new(2 * gib) }},
		{rule: "node_exhausted", name: "where the room in swap is not known", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.SwapFreeBytes = nil }),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBytes = new(2 * gib) }},
		{rule: "node_exhausted", name: "beside shared memory that swap has room for", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.AnonBytes, i.NodeState.ShmemBytes, i.NodeState.FileBytes = new(gib), new(14*gib), new(14*gib)
				i.NodeState.SwapFreeBytes = new(2 * gib)
			}),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBytes = new(2 * gib) }},
		{rule: "node_exhausted", name: "where the constraint is not known", confidence: possible,
			make: with(nodeKill(), func(i *incident) { i.NodeState, i.Unknown = nil, []string{"constraint"} }),
			lack: func(i *incident) { i.Victims = nil }},
		{rule: "node_exhausted", name: "at the kill, whatever was free after it", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeAtKill, i.NodeState = i.NodeState, &events.NodeState{
					AfterNS: new(uint64(30e6)), TotalBytes: new(16 * gib), FreeBytes: new(9 * gib),
					Zones: []events.Zone{zone(0, "Normal", 9*gib, 64*mib, 16*gib)},
				}
			}),
			lack: func(i *incident) { i.NodeAtKill.Zones[1].FreeBytes = new(2 * gib) }},
		{rule: "numa_imbalance", confidence: likely,
			make: func() *incident { return numaKill(events.ScopeGlobal) },
			lack: func(i *incident) { i.NodeState.Zones[0].FreeBytes = new(8 * gib / 11) }},
		{rule: "numa_imbalance", name: "not what the kill gave back", confidence: likely,
			make: with(numaKill(events.ScopeGlobal), func(i *incident) {
				i.NodeState.AfterNS, i.Victims[0].AnonRSSBytes = new(uint64(30e6)), new(gib)
			}),
			lack: func(i *incident) { i.Victims[0].AnonRSSBytes = new(4 * gib) }},
		{rule: "numa_imbalance", name: "and what is free is not of CMA areas", confidence: likely,
			make: with(numaKill(events.ScopeGlobal), func(i *incident) {
				i.Allocation.GFP, i.NodeState.Zones[0].FreeCMABytes = new(uint32(0xcc0)), new(gib)
			}),
			lack: func(i *incident) { i.NodeState.Zones[0].FreeCMABytes = new(4 * gib) }},
		{rule: "fragmentation", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Allocation.Order, i.NodeState.Zones[1].FreeBytes = new(3), new(400*mib)
			}),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBlocks[3] = 1 }},
		{rule: "fragmentation", name: "a single page", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Allocation.Order, i.NodeState.Zones[1].FreeBytes = new(3), new(400*mib) }),
			lack: func(i *incident) { i.Allocation.Order = new(0) }},
		{rule: "fragmentation", name: "nothing free", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Allocation.Order, i.NodeState.Zones[1].FreeBytes = new(3), new(64*mib+1) }),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBytes = new(64 * mib) }},
		{rule: "fragmentation", name: "nothing free beyond a zone's reserve", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Allocation.Order, i.NodeState.Zones[1].Zone, i.NodeState.Zones[1].FreeBytes = new(3), "DMA32", new(400*mib)
				i.NodeState.Zones[1].ReserveBytes = []uint64{0, 0, 300 * mib, 300 * mib}
			}),
			lack: func(i *incident) { i.NodeState.Zones[1].ReserveBytes = []uint64{0, 0, 400 * mib, 400 * mib} }},
		{rule: "fragmentation", name: "by compaction", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.Allocation.Order = new(3)
				i.Before = &events.Before{GaveUp: &events.GaveUpLine{
					Compact: &events.CompactAnswer{Order: 3, Result: "complete", Retries: 16, MaxRetries: 16},
				}}
			}),
			lack: func(i *incident) { i.Before.GaveUp.Compact.Again = true }},
		{rule: "fragmentation", name: "as the allocator gave up", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.Allocation.Order, i.NodeState = new(2), nil
				i.Before = &events.Before{GaveUp: &events.GaveUpLine{Reclaim: &events.ReclaimAnswer{
					Order: 2, Zone: "Normal", AvailableBytes: 128 * mib, MinWatermarkBytes: 64 * mib,
				}}}
			}),
			lack: func(i *incident) { i.Before.GaveUp.Reclaim.AvailableBytes-- }},
		{rule: "fragmentation", name: "read after the kill", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.Allocation.Order, i.NodeState.Zones[1].FreeBytes, i.NodeState.AfterNS = new(3), new(400*mib), new(uint64(1))
			}),
			lack: func(i *incident) { i.NodeState.Zones[1].FreeBlocks = nil }},
		{rule: "hugetlb", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.HugetlbBytes, i.NodeState.HugetlbFreeBytes = new(6*gib), new(5*gib) }),
			lack: func(i *incident) { i.NodeState.HugetlbFreeBytes = new(16*gib/20 - 1) }},
		{rule: "hugetlb", name: "counted after the kill", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.HugetlbBytes, i.NodeState.HugetlbFreeBytes, i.NodeState.AfterNS = new(6*gib), new(5*gib), new(uint64(30e6))
			}),
			lack: func(i *incident) { i.NodeState.HugetlbFreeBytes = new(16*gib/20 - 1) }},

		{rule: "node_overcommitted", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Limiter.Level = events.LevelKubepods }),
			lack: func(i *incident) { i.Limiter.Level = events.LevelQoS }},
		{rule: "node_overcommitted", name: "of the node", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.Cgroups = []events.Share{kubepodsShare(13 * gib)} }),
			lack: func(i *incident) { i.NodeState.Cgroups[0].UsageBytes = new(8*gib - 1) }},
		{rule: "node_overcommitted", name: "read after the kill", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.Cgroups, i.NodeState.AfterNS = []events.Share{kubepodsShare(2 * gib)}, new(uint64(5e7))
				i.Victims[0].AnonRSSBytes, i.NodeState.FreeBytes = new(8*gib), new(8*gib)
			}),
			lack: func(i *incident) { i.Victims[0].Workload = nil }},
		{rule: "node_overcommitted", name: "with the victim in it still", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.Cgroups, i.NodeState.AfterNS = []events.Share{kubepodsShare(2 * gib)}, new(uint64(5e7))
				i.Victims[0].AnonRSSBytes, i.NodeState.FreeBytes = new(8*gib), new(8*gib)
			}),
			lack: func(i *incident) { i.NodeState.FreeBytes = new(8*gib - 1) }},
		{rule: "ancestor_limit", confidence: certain,
			make: podKill,
			lack: func(i *incident) { i.Limiter.Cgroup, i.Limiter.Level = cgroup(9010, appPath), events.LevelContainer }},
		{rule: "ancestor_limit", name: "of a guest", confidence: certain, make: guestKill,
			lack: func(i *incident) { i.Victims[0].Workload = i.Limiter.Workload }},
		{rule: "ancestor_limit", name: "of a node container, live on cgroup v1", confidence: certain, make: nodeContainerKill,
			lack: func(i *incident) { i.Victims[0].Workload, i.Victims[0].Cgroup = i.Limiter.Workload, i.Limiter.Cgroup }},
		{rule: "ancestor_limit", name: "of a user's session", confidence: certain, make: sessionKill,
			lack: func(i *incident) { i.Victims[0].Workload = i.Limiter.Workload }},
		{rule: "ancestor_limit", name: "of a task", confidence: certain,
			make: with(jobKill(), func(i *incident) { i.Victims[0].Workload = &events.Workload{ContainerID: containerID} }),
			lack: func(i *incident) { i.Victims[0].Workload = i.Limiter.Workload }},
		{rule: "reserved_limit", confidence: likely, make: reservedKill,
			lack: func(i *incident) { i.Limiter.Cgroup.Path = "/other.slice" }},
		{rule: "reserved_limit", name: "by the kubelet in it", confidence: likely,
			make: with(reservedKill(), func(i *incident) {
				i.Limiter.Cgroup, i.Victims[0].Cgroup = cgroup(0, "/system.slice"), cgroup(0, "/system.slice/kubelet.service")
				i.Victims[0].Workload.Unit = "kubelet.service"
			}),
			lack: func(i *incident) { i.Victims[0].Workload.Unit = "web.service" }},
		{rule: "reserved_limit", name: "not that of a guest", confidence: likely, make: reservedKill,
			lack: func(i *incident) {
				i.Limiter.Workload.Within = []events.Holder{{Kind: events.HolderGuest, System: "lxc", Name: "web1"}}
			}},
		{rule: "ancestor_limit", name: "of a plain cgroup", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Limiter.Level = events.LevelCgroup }),
			lack: func(i *incident) { i.Victims[0].Cgroup = i.Limiter.Cgroup }},
		{rule: "ancestor_limit", name: "by paths, of a kernel log", confidence: certain,
			make: with(podKill(), func(i *incident) {
				i.Tier, i.Ladder, i.Limiter.Level = events.TierKernelLog, nil, events.LevelCgroup
				i.Limiter.Cgroup, i.Victims[0].Cgroup = cgroup(0, "/parent"), cgroup(0, "/parent/leaf")
			}),
			lack: func(i *incident) { i.Victims[0].Cgroup = nil }},
		{rule: "protected", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(150 * mib) }),
			lack: func(i *incident) { i.Limiter.ProtectedMinBytes = new(150*mib - 1) }},
		{rule: "protected", name: "of the node", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(9 * gib) }),
			lack: func(i *incident) { i.Limiter.ProtectedMinBytes = nil }},
		{rule: "protected", name: "the limiter's own does not count", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(400 * mib) }),
			lack: func(i *incident) { i.Limiter.ProtectedMinBytes, i.Ladder[1].MinBytes = nil, new(600*mib) }},
		{rule: "protected", name: "memory.low yields before a kill", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(400 * mib) }),
			lack: func(i *incident) { i.Limiter.ProtectedMinBytes, i.Limiter.ProtectedLowBytes = nil, new(600*mib) }},
		{rule: "protected", name: "not of a cpuset", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Limiter.ProtectedMinBytes = new(9 * gib) }),
			lack: func(i *incident) { i.Scope = events.ScopeCpuset }},
		{rule: "swap_exhausted", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Limiter.SwapLimitBytes, i.Limiter.SwapUsageBytes = new(100*mib), new(100*mib) }),
			lack: func(i *incident) { i.Limiter.SwapUsageBytes = new(94 * mib) }},
		{rule: "swap_exhausted", name: "of an ancestor", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Ladder[1].SwapMaxBytes, i.Ladder[1].SwapUsageBytes = new(100*mib), new(99*mib) }),
			lack: func(i *incident) { i.Ladder[1].Below = true }},
		{rule: "swap_exhausted", name: "of the node", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.NodeState.SwapFreeBytes = new(uint64(0)) }),
			lack: func(i *incident) { i.NodeState.SwapTotalBytes = new(uint64(0)) }},
		{rule: "swap_exhausted", name: "cgroup v1 counts memory too", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Limiter.SwapLimitBytes, i.Limiter.SwapUsageBytes = new(512*mib), new(512*mib) }),
			lack: func(i *incident) { i.Limiter.Cgroup.Hierarchy = 4 }},
		{rule: "group_kill", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				member := victim(4650, "sh", mib)
				member.Role = events.RoleGroup
				i.Victims = append(i.Victims, member)
				i.Killer = &events.Killer{Kind: "kernel", Path: "group", GroupCgroup: i.Limiter.Cgroup, GroupLevel: events.LevelContainer}
			}),
			lack: func(i *incident) { i.Victims = i.Victims[:1] }},
		{rule: "outside_containers", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.NodeState.Cgroups = []events.Share{
					{Cgroup: *cgroup(3, "/system.slice"), Level: events.LevelSlice, UsageBytes: new(11 * gib)},
					{Cgroup: *cgroup(4, "/system.slice/backup.service"), Level: events.LevelService, UsageBytes: new(10 * gib), Workload: &events.Workload{Unit: "backup.service"}},
					kubepodsShare(4 * gib),
				}
			}),
			lack: func(i *incident) { i.NodeState.Cgroups[2].UsageBytes = nil }},
		{rule: "outside_containers", name: "by its victim, of a kernel log", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.Tier, i.Limiter.LimitBytes = events.TierKernelLog, nil
				i.Victims[0].Process = events.Process{PID: 7, Comm: "backup", Cgroup: cgroup(0, "/system.slice/backup.service")}
				i.Victims[0].AnonRSSBytes = new(6 * gib)
			}),
			lack: func(i *incident) { i.Victims[0].AnonRSSBytes = new(4*gib - 1) }},
		{rule: "outside_containers", name: "a pod's victim", confidence: likely,
			make: with(nodeKill(), func(i *incident) {
				i.Victims[0].Workload, i.Victims[0].Cgroup, i.Victims[0].AnonRSSBytes = nil, cgroup(5, "/system.slice/x.service"), new(6*gib)
			}),
			lack: func(i *incident) { i.Victims[0].Cgroup.Path = appPath }},

		{rule: "own_limit", confidence: certain, make: plainKill,
			lack: func(i *incident) {
				i.Limiter.Level, i.Limiter.Cgroup, i.Ladder[0].MaxBytes = events.LevelPod, cgroup(9004, podPath), new(511*mib)
			}},
		{rule: "own_limit", name: "of a pod whose limit is that of its container", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Ladder[0].MaxBytes, i.Shares = i.Limiter.LimitBytes, nil }),
			lack: func(i *incident) { i.Ladder[0].MaxBytes = new(*i.Limiter.LimitBytes - 1) }},
		{rule: "ancestor_limit", name: "of a pod whose limit is that of one of its containers", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Ladder[0].MaxBytes = i.Limiter.LimitBytes }),
			lack: func(i *incident) { i.Shares[1].UsageBytes = new(uint64(sandboxBytes)) }},
		{rule: "own_limit", name: "of a pod of one container", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Shares[1].UsageBytes = new(uint64(sandboxBytes)) }),
			lack: func(i *incident) { i.Shares[1].UsageBytes = new(uint64(sandboxBytes + 1)) }},
		{rule: "own_limit", name: "of a pod of one container that is listed", confidence: certain,
			make: with(podKill(), func(i *incident) { i.Shares = i.Shares[:1] }),
			lack: func(i *incident) { i.SharesLeftOut = 1 }},
		{rule: "own_limit", name: "of a job, in a step", confidence: certain, make: jobKill,
			lack: func(i *incident) { i.Victims[0].Workload.Job.ID = "8" }},
		{rule: "own_limit", name: "where the victim was is not known", confidence: likely,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Workload, i.Victims[0].Cgroup = nil, nil }),
			lack: func(i *incident) { i.Ladder[0].Below, i.Ladder[0].Workload.ContainerID = true, containerID[1:] }},
		{rule: "own_limit", name: "split not known", confidence: likely,
			make: with(plainKill(), func(i *incident) { i.Memory, i.Victims[0].AnonRSSBytes = nil, new(255*mib) }),
			lack: func(i *incident) { i.Scope = events.ScopeUnknown }},
		{rule: "own_limit", name: "by its victim", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Memory, i.Victims[0].AnonRSSBytes = nil, new(256*mib) }),
			lack: func(i *incident) { i.Allocation.Class = "limit_lowered" }},
		{rule: "node_exhausted", confidence: certain, make: nodeKill,
			lack: func(i *incident) { i.NodeState, i.Victims = nil, nil }},

		{rule: "kill_loop", confidence: certain, make: plainKill,
			history: History{
				{ID: "1", Time: noon().Add(-20 * time.Minute), SameVictim: true},
				{ID: "2", Time: noon().Add(-9 * time.Minute), SameVictim: true},
			},
			lackHistory: func(h History) History { h[0].Time = noon().Add(-loopWindow - 1); return h }},
		{rule: "kill_loop", name: "of another", confidence: certain, make: plainKill,
			history: History{
				{ID: "1", Time: noon().Add(-20 * time.Minute), SameVictim: true},
				{ID: "2", Time: noon().Add(-9 * time.Minute), SameVictim: true},
			},
			lackHistory: func(h History) History { h[1].SameVictim, h[1].SameLimiter = false, true; return h }},
		{rule: "aftermath", confidence: likely, make: plainKill,
			history:     History{{ID: "1", Time: noon().Add(-3 * time.Millisecond), SameLimiter: true, Victim: "hog[1]"}},
			lackHistory: func(h History) History { h[0].Released, h[0].ReleasedAfterNS = true, 3e6; return h }},
		{rule: "aftermath", name: "late", confidence: likely, make: plainKill,
			history:     History{{ID: "1", Time: noon().Add(-exitTime + 1), SameLimiter: true, Victim: "hog[1]"}},
			lackHistory: func(h History) History { h[0].Time = noon().Add(-exitTime); return h }},
		{rule: "aftermath", name: "of a large one", confidence: likely, make: plainKill,
			history: History{{ID: "1", Time: noon().Add(-2 * time.Second), SameLimiter: true, Victim: "hog[1]",
				Released: true, ReleasedAfterNS: 3e9}},
			lackHistory: func(h History) History { h[0].SameLimiter = false; return h }},
		{rule: "allocating_task", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Victims[0].ChosenBy = events.ChosenByAllocation }),
			lack: func(i *incident) { i.Victims[0].ChosenBy = "" }},
		{rule: "allocating_task", name: "by the setting", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.KillAllocatingTask = new(true) }),
			lack: func(i *incident) { i.Trigger.PID = 30 }},
		{rule: "allocating_task", name: "by the setting, of the node", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.KillAllocatingTask = new(true) }),
			lack: func(i *incident) { i.Scope = events.ScopeMemcg }},
		{rule: "allocating_task", name: "by the setting, without points", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.NodeState.KillAllocatingTask = new(true) }),
			lack: func(i *incident) { i.Victims[0].Points = new(int64(900)) }},
		{rule: "oom_origin", confidence: certain,
			make: with(nodeKill(), func(i *incident) { i.Victims[0].ChosenBy = events.ChosenByOrigin }),
			lack: func(i *incident) { i.Victims[0].ChosenBy = events.ChosenByAllocation }},
		{rule: "chosen_by_score", name: "not compared", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Candidates = []events.Candidate{candidate(4711, "hog", 2*gib, 985), candidate(30, "big", 5*gib, 0)}
			}),
			lack: func(i *incident) { i.Victims[0].ChosenBy = events.ChosenByAllocation }},
		{rule: "chosen_by_score", name: "not compared, by the setting", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Candidates = []events.Candidate{candidate(4711, "hog", 2*gib, 985), candidate(30, "big", 5*gib, 0)}
			}),
			lack: func(i *incident) { i.NodeState.KillAllocatingTask = new(true) }},
		{rule: "chosen_by_score", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Candidates = []events.Candidate{candidate(4711, "hog", 2*gib, 985), candidate(30, "big", 5*gib, 0)}
			}),
			lack: func(i *incident) { i.Candidates[1].OOMScoreAdj = new(985) }},
		{rule: "chosen_by_score", name: "hardly larger", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Candidates = []events.Candidate{candidate(4711, "hog", 4*gib, 985), candidate(30, "big", 5*gib, 0)}
			}),
			lack: func(i *incident) { i.Candidates[1].AnonRSSBytes = new(5*gib - 1) }},
		{rule: "unkillable_survivors", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Candidates = []events.Candidate{candidate(4711, "hog", 2*gib, 985), candidate(30, "big", 4*gib, -1000)}
			}),
			lack: func(i *incident) { i.Candidates[1].OOMScoreAdj, i.Candidates[1].Unkillable = new(-999), false }},
		{rule: "eviction_lost_race", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Eviction = &events.Eviction{AvailableBytes: new(50 * mib), HardBytes: new(100 * mib), HardSinceNS: new(uint64(4e9))}
			}),
			lack: func(i *incident) { i.Eviction.HardSinceNS = nil }},
		{rule: "eviction_lost_race", name: "of a container's limit", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.Eviction = &events.Eviction{SoftSinceNS: new(uint64(4e9))} }),
			lack: func(i *incident) { i.Scope, i.Limiter.Level = events.ScopeMemcg, events.LevelContainer }},
		{rule: "next_limit", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Ladder[1].MaxBytes = new(600 * mib) }),
			lack: func(i *incident) { i.Ladder[1].MaxBytes = new(520*mib + 103*mib) }},
		{rule: "next_limit", name: "a rung below", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Ladder[1].MaxBytes = new(600 * mib) }),
			lack: func(i *incident) { i.Ladder[1].Below = true }},
		{rule: "throttled_before", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Before = stalls(events.StallMemoryHigh, 40, 0, throttledNS) }),
			lack: func(i *incident) { i.Before.Stalls[0].TotalNS-- }},
		{rule: "stalled_before", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Before = stalls(events.StallMemcgReclaim, 40, 20, stalledNS) }),
			lack: func(i *incident) { i.Before.Stalls[0].Fruitless-- }},
		{rule: "stalled_before", name: "in vain at the end", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Before = stalls(events.StallMemcgReclaim, 40, 1, 1e8)
				i.Before.Timeline = seconds(nil, mib, 0, 0)
			}),
			lack: func(i *incident) { i.Before.Timeline[1].ReclaimedBytes = 1 }},
		{rule: "guardians_stalled", confidence: certain,
			make: with(nodeKill(), func(i *incident) {
				i.Before = &events.Before{WindowNS: 60e9, Guardians: []events.GuardianStall{{Unit: "kubelet.service", TotalNS: guardianNS}}}
			}),
			lack: func(i *incident) { i.Before.Guardians[0].TotalNS-- }},
		{rule: "init_spared", confidence: likely,
			make: with(plainKill(), func(i *incident) { i.Victims[0].IsContainerInit = new(false) }),
			lack: func(i *incident) { i.Victims[0].IsContainerInit = nil }},
		{rule: "init_spared", name: "a process of the host", confidence: likely,
			make: with(nodeKill(), func(i *incident) { i.Victims[0].IsContainerInit = new(false) }),
			lack: func(i *incident) { i.Victims[0].Workload = nil }},
		{rule: "many_processes", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				for pid := range crowd {
					i.Candidates = append(i.Candidates, candidate(100+pid, "php-fpm", 64*mib, 0))
				}
			}),
			lack: func(i *incident) { i.Candidates = i.Candidates[1:] }},
		{rule: "runtime_uncounted", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Comm = "java" }),
			lack: func(i *incident) { i.Victims[0].AnonRSSBytes = new(409 * mib) }},
		{rule: "runtime_uncounted", name: "not a runtime", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Comm = "node" }),
			lack: func(i *incident) { i.Victims[0].Comm = "python3" }},
		{rule: "runtime_uncounted", name: "a script of that name", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Comm = "java" }),
			lack: func(i *incident) { i.Victims[0].Program = ran(events.ProgramOther) }},
		{rule: "runtime_uncounted", name: "of another container's limit", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Comm = "java" }),
			lack: func(i *incident) {
				i.Victims[0].Cgroup = cgroup(9011, appPath+"/docker/inner")
				i.Victims[0].Workload = &events.Workload{ContainerID: "inner", Within: []events.Holder{{Kind: "container", ID: "outer"}}}
			}},
		{rule: "runtime_uncounted", name: "beside a heap that is known", confidence: likely,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramJVM, sized("-Xmx", 200*mib)) }),
			lack: func(i *incident) { i.Victims[0].AnonRSSBytes = new(251 * mib) }},
		{rule: "runtime_uncounted", name: "beside the heap of a JVM without options", confidence: likely,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramJVM) }),
			lack: func(i *incident) { i.Victims[0].Program.Settings, i.Victims[0].AnonRSSBytes = nil, new(400*mib) }},
		{rule: "runtime_uncounted", name: "of a lowered limit", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Comm = "java" }),
			lack: func(i *incident) { i.Allocation.Class = "limit_lowered" }},
		{rule: "heap_limit", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramJVM, sized("-Xmx", 512*mib)) }),
			lack: func(i *incident) { i.Victims[0].Program.Settings[0].Bytes = new(435 * mib) }},
		{rule: "heap_limit", name: "as a percentage", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				i.Victims[0].Program = ran(events.ProgramJVM, events.Setting{Name: "-XX:MaxRAMPercentage", Value: "90.0", Source: "JAVA_TOOL_OPTIONS"})
			}),
			lack: func(i *incident) { i.Victims[0].Program.Settings[0].Value = "80" }},
		{rule: "heap_limit", name: "of Go", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramGo, sized("GOMEMLIMIT", gib)) }),
			lack: func(i *incident) { i.Victims[0].Program.Kind = events.ProgramOther }},
		{rule: "heap_limit", name: "off", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramGo, sized("GOMEMLIMIT", gib)) }),
			lack: func(i *incident) {
				i.Victims[0].Program.Settings[0].Bytes, i.Victims[0].Program.Settings[0].Value = nil, "off"
			}},
		{rule: "heap_limit", name: "of a small process beside others", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramNode, sized("--max-old-space-size", gib)) }),
			lack: func(i *incident) { i.Victims[0].AnonRSSBytes = new(255 * mib) }},
		{rule: "heap_limit", name: "of the node", confidence: certain,
			make: with(plainKill(), func(i *incident) { i.Victims[0].Program = ran(events.ProgramJVM, sized("-Xmx", gib)) }),
			lack: func(i *incident) { i.Scope = events.ScopeGlobal }},
		{rule: "container_start", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Victims[0].Comm, i.Limiter.LimitBytes, i.Victims[0].AnonRSSBytes = "runc:[2:INIT]", new(14*mib), new(9*mib)
			}),
			lack: func(i *incident) { i.Victims[0].Comm = "runc" }},
		{rule: "container_start", name: "into a container that is full", confidence: certain,
			make: with(plainKill(), func(i *incident) {
				i.Victims[0].Comm, i.Limiter.LimitBytes, i.Victims[0].AnonRSSBytes = "runc:[2:INIT]", new(14*mib), new(9*mib)
			}),
			lack: func(i *incident) { i.Limiter.LimitBytes = new(512 * mib) }},
		{rule: "container_start", name: "by a program that has the name of runc init", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				i.Victims[0].Comm, i.Limiter.LimitBytes, i.Victims[0].AnonRSSBytes = "runc:[2:INIT]", new(128*mib), new(120*mib)
			}),
			lack: func(i *incident) { i.Limiter.LimitBytes = new(129 * mib) }},
		{rule: "heap_limit", name: "of another worker", confidence: likely,
			make: with(plainKill(), func(i *incident) {
				i.Victims[0].Program = ran(events.ProgramJVM, sized("-Xmx", gib))
				i.Victims[0].Program.ReadOf = 8
			}),
			lack: func(i *incident) { i.Victims[0].Program.Settings = nil }},
		{rule: "vm_memory", confidence: likely,
			make: with(podKill(), func(i *incident) { i.Victims[0].Comm = "qemu-system-x86" }),
			lack: func(i *incident) { i.Victims[0].Comm = "qemu-img" }},
		{rule: "vm_memory", name: "by its executable", confidence: certain,
			make: with(podKill(), func(i *incident) {
				i.Victims[0].Program = ran(events.ProgramVM, sized("guest memory", 500*mib))
				i.Victims[0].AnonRSSBytes = new(590 * mib)
			}),
			lack: func(i *incident) { i.Victims[0].Program = ran(events.ProgramOther) }},
		{rule: "vm_memory", name: "beside its victim", confidence: likely,
			make: with(podKill(), func(i *incident) {
				i.Victims[0].Comm, i.Victims[0].AnonRSSBytes = "virtiofsd", new(40*mib)
				i.Candidates = []events.Candidate{candidate(70, "cloud-hyperviso", 400*mib, 0)}
			}),
			lack: func(i *incident) { i.Candidates[0].AnonRSSBytes = new(200 * mib) }},
		{rule: "vm_memory", name: "of the node", confidence: likely,
			make: with(podKill(), func(i *incident) { i.Victims[0].Comm = "kvm" }),
			lack: func(i *incident) { i.Scope, i.Limiter = events.ScopeGlobal, nil }},
		{rule: "shared_memory", confidence: certain,
			make: with(sharedBuffers(), func(i *incident) { i.Victims[0].ShmemRSSBytes = new(300 * mib) }),
			lack: func(i *incident) { i.Victims[0].ShmemRSSBytes = new(10 * mib) }},
		{rule: "shared_memory", name: "by what the victim had mapped", confidence: certain,
			make: with(sharedBuffers(), func(i *incident) {
				i.Victims[0].ShmemRSSBytes = new(10 * mib)
				i.Victims[0].Program = ran(events.ProgramPostgreSQL, sized("shared memory", 350*mib))
			}),
			lack: func(i *incident) { i.Victims[0].Program = nil }},
		{rule: "shared_memory", name: "by many, more than there is", confidence: likely,
			make: with(sharedBuffers(), func(i *incident) {
				for pid := range crowd {
					i.Candidates = append(i.Candidates, candidate(100+pid, "postgres", 10*mib, 0))
					i.Candidates[pid].ShmemRSSBytes = new(100 * mib)
				}
			}),
			lack: func(i *incident) { i.Candidates[0].Comm = "other" }},
		{rule: "shared_memory", name: "beside files that nobody has mapped", confidence: certain,
			make: with(sharedBuffers(), func(i *incident) { i.Victims[0].ShmemRSSBytes = new(200 * mib) }),
			lack: func(i *incident) { i.Victims[0].ShmemRSSBytes = new(180 * mib) }},
		{rule: "swap_absent", confidence: possible,
			make: with(plainKill(), func(i *incident) { i.Limiter.SwapLimitBytes = new(uint64(0)) }),
			lack: func(i *incident) { i.Limiter.SwapLimitBytes = new(uint64(1)) }},
		{rule: "swap_absent", name: "of the node", confidence: possible,
			make: with(nodeKill(), func(i *incident) { i.NodeState.SwapTotalBytes = new(uint64(0)) }),
			lack: func(i *incident) { i.NodeState.SwapTotalBytes = nil }},
	}
}

func kubepodsShare(usage uint64) events.Share {
	return events.Share{Cgroup: *cgroup(2, "/kubepods.slice"), Level: events.LevelKubepods, UsageBytes: new(usage)}
}

func stalls(kind events.StallKind, count, fruitless, total uint64) *events.Before {
	sum := events.StallSum{What: string(kind), Count: count, Fruitless: fruitless, TotalNS: total}

	return &events.Before{WindowNS: 60e9, Stalls: []events.StallSum{sum}}
}

func find(causes []events.Cause, id string) *events.Cause {
	if i := slices.IndexFunc(causes, func(c events.Cause) bool { return c.ID == id }); i >= 0 {
		return &causes[i]
	}

	return nil
}

func ids(causes []events.Cause) []string {
	var list []string
	for _, c := range causes {
		list = append(list, c.ID)
	}

	return list
}

func TestEachRuleNeedsItsEvidence(t *testing.T) {
	for _, tt := range cases() {
		t.Run(tt.rule+"/"+tt.name, func(t *testing.T) {
			inc := tt.make()
			causes := Diagnose(inc, tt.history)

			c := find(causes, tt.rule)
			switch {
			case c == nil:
				t.Fatalf("got causes %v, want %s", ids(causes), tt.rule)
			case c.Confidence != tt.confidence:
				t.Errorf("got confidence %s, want %s", c.Confidence, tt.confidence)
			}

			if tt.lack != nil {
				tt.lack(inc)
			}

			if tt.lackHistory != nil {
				tt.history = tt.lackHistory(tt.history)
			}

			if c := find(Diagnose(inc, tt.history), tt.rule); c != nil {
				t.Errorf("without a piece of evidence: got %q, want silence", c.Text)
			}
		})
	}
}

// TestCausesAreComplete: a cause is useless without its evidence and advice.
func TestCausesAreComplete(t *testing.T) {
	seen := map[string]bool{}

	for _, tt := range cases() {
		for _, c := range Diagnose(tt.make(), tt.history) {
			seen[c.ID] = true
			if c.Text == "" || len(c.Evidence) == 0 || len(c.Advice) == 0 || c.Reference == "" {
				t.Errorf("%s/%s: got %+v, want text, evidence, advice and a reference", tt.rule, tt.name, c)
			}

			for _, e := range c.Evidence {
				if e.What == "" || e.Value == "" || e.Source == "" {
					t.Errorf("%s/%s: %s: got evidence %+v, want all of it set", tt.rule, tt.name, c.ID, e)
				}
			}

			for _, a := range c.Advice {
				if !slices.Contains([]string{kubernetes, cgroupLayer, kernel, application}, a.Layer) {
					t.Errorf("%s: got advice for layer %q, want a known layer", c.ID, a.Layer)
				}
			}
		}
	}

	for _, r := range rules {
		if !seen[r.id] {
			t.Errorf("got no case for rule %s, want one", r.id)
		}
	}
}
