// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestTextsClaimOnlyWhatIsKnown has the forms of texts that depend on the numbers of an incident.
func TestTextsClaimOnlyWhatIsKnown(t *testing.T) {
	runcInit := func(limit, anon uint64) *incident {
		return with(plainKill(), func(i *incident) {
			i.Victims[0].Comm, i.Limiter.LimitBytes, i.Victims[0].AnonRSSBytes = "runc:[2:INIT]", new(limit), new(anon)
		})()
	}
	kernelMemory := func(sock, perCPU *uint64) *incident {
		return filled(func(m *events.Memory) { m.SockBytes, m.PercpuBytes = sock, perCPU })()
	}
	cma := func(free, cma uint64) *incident {
		return with(cmaKill(), func(i *incident) {
			i.NodeState.Zones[1].FreeBytes, i.NodeState.Zones[1].FreeCMABytes = new(free), new(cma)
		})()
	}
	lowered := func(usage uint64) *incident {
		return with(plainKill(), func(i *incident) {
			i.LimitChanges = []events.LimitChange{{
				File: i.Limiter.Which, BeforeNS: 3e9, NewBytes: 512 * mib, UsageBytes: usage,
				Writer: events.Process{PID: 50, TID: 50, Comm: "runc"},
			}}
		})()
	}
	exempt := func(candidates ...events.Candidate) *incident {
		return with(nodeKill(), func(i *incident) { i.Candidates = candidates })()
	}
	guardians := func(units ...string) *incident {
		return with(nodeKill(), func(i *incident) {
			i.Before = &events.Before{WindowNS: 60e9}
			for _, unit := range units {
				i.Before.Guardians = append(i.Before.Guardians, events.GuardianStall{Unit: unit, TotalNS: 2e9})
			}
		})()
	}

	for _, test := range []struct {
		rule, want string
		inc        *incident
	}{
		{"container_start", "The container's limit of 14.0 MiB is less than it takes to start a container: runc:[2:INIT][4711] was " +
			"killed before the container's own program ran.", runcInit(14*mib, 9*mib)},
		{"container_start", "runc:[2:INIT][4711] was killed before the container's own program ran: to start the container took " +
			"120.0 MiB (94 % of the container's limit), more than usual.", runcInit(128*mib, 120*mib)},
		{"kernel_memory", "Socket buffers take up 300.0 MiB (59 % of the container's limit).", kernelMemory(new(300*mib), nil)},
		{"kernel_memory", "Socket buffers and per-CPU memory of the kernel take up 300.0 MiB (59 % of the container's limit).",
			kernelMemory(new(200*mib), new(100*mib))},
		{"kernel_memory", "Per-CPU memory of the kernel and socket buffers take up 300.0 MiB (59 % of the container's limit).",
			kernelMemory(new(100*mib), new(200*mib))},
		{"kernel_memory", "Per-CPU memory of the kernel takes up 300.0 MiB (59 % of the container's limit).",
			kernelMemory(new(uint64(0)), new(300*mib))},
		{"heap_limit", "hog[8], of the same name as the victim, was given a heap of up to 1.0 GiB (-Xmx), and the container's limit " +
			"is 512.0 MiB: that leaves nothing for all else that it needs.",
			with(plainKill(), func(i *incident) {
				i.Victims[0].Program = ran(events.ProgramJVM, sized("-Xmx", gib))
				i.Victims[0].Program.ReadOf = 8
			})()},
		{"runtime_uncounted", "hog[4711] had 480.0 MiB (94 % of the container's limit) in anonymous memory and hog[8], of the same name " +
			"as the victim, a heap of up to 200.0 MiB (-Xmx): at least 280.0 MiB is memory that its runtime does not count towards the heap.",
			with(plainKill(), func(i *incident) {
				i.Victims[0].Program = ran(events.ProgramJVM, sized("-Xmx", 200*mib))
				i.Victims[0].Program.ReadOf = 8
			})()},
		{"cma_free", "2.0 GiB was free, but nearly all of it in CMA areas: this allocation (GFP_KERNEL) is not movable, and may not " +
			"use them.", cma(2*gib, 2*gib-mib)},
		{"cma_free", "531.0 MiB was free, but 500.0 MiB of it in CMA areas: this allocation (GFP_KERNEL) is not movable, and may not " +
			"use them.", cma(516*mib, 500*mib)},
		{"limit_lowered", "runc[50] lowered the container's limit to 512.0 MiB 3.0 s earlier, just below its usage.", lowered(512*mib + 1)},
		{"limit_lowered", "runc[50] lowered the container's limit to 512.0 MiB 3.0 s earlier, below its usage of 600.0 MiB.", lowered(600 * mib)},
		{"stalled_before", "Tasks stalled in reclaim for 100 ms before the kill; none of the reclaim in the last 2 s freed anything.",
			with(plainKill(), func(i *incident) {
				i.Before = stalls(events.StallMemcgReclaim, 40, 1, 1e8)
				i.Before.Timeline = seconds(nil, mib, 0, 0)
			})()},
		{"node_overcommitted", "The node ran out of memory while pods used 13.0 GiB (81 % of it): it has no room for all of them.", with(nodeKill(), func(i *incident) { i.NodeState.Cgroups = []events.Share{kubepodsShare(13 * gib)} })()},
		{"working_set_guard", "The kernel killed to keep the recent working set in memory, as min_ttl_ms of MGLRU demands; memory and " +
			"swap may have been free.", with(nodeKill(), func(i *incident) {
			i.Trigger = &events.Process{PID: 60, TID: 60, Comm: "kswapd0", IsKernel: true}
		})()},
		{"working_set_guard", "The kernel killed to keep the working set of the last 1.0 s in memory (min_ttl_ms of MGLRU); memory and " +
			"swap may have been free.", with(nodeKill(), func(i *incident) {
			i.Trigger, i.NodeState.MinTTLNS = &events.Process{PID: 60, TID: 60, Comm: "kswapd0", IsKernel: true}, new(uint64(1e9))
		})()},
		{"ancestor_limit", "The pod's limit was hit, not the container's own. Container app had used 300.0 MiB of its 500.0 MiB (60 %), " +
			"and was the largest user.", podKill()},
		{"followed_oom", "This kill is a consequence of the OOM kill of hog[1] in the same unit 1 min 30 s earlier: systemd then stopped the rest of " +
			"the unit.", with(userKillOf("systemd", ""), func(i *incident) {
			i.Follows = &events.Follows{Kind: events.AfterUnitStop, AfterNS: new(uint64(90e9)), Victim: "hog[1]"}
		})()},
		{"followed_oom", "This kill is a consequence of an OOM kill in the same container earlier: PID 1 exited then, with which the rest of its " +
			"PID namespace ends.", with(userKillOf("pidns", ""), func(i *incident) { i.Follows = &events.Follows{Kind: events.AfterPIDNS} })()},
		{"unkillable_survivors", "big[30], with oom_score_adj -1000, held 4.0 GiB (25 % of the node's memory) and could not be killed.",
			exempt(candidate(30, "big", 4*gib, -1000))},
		{"unkillable_survivors", "2 processes with oom_score_adj -1000 held 6.0 GiB (38 % of the node's memory) and could not be killed; " +
			"the largest is big[30].", exempt(candidate(30, "big", 4*gib, -1000), candidate(31, "b", 2*gib, -1000))},
		{"guardians_stalled", "A critical service of the node stalled in reclaim: kubelet.service for 2.0 s.", guardians("kubelet.service")},
		{"guardians_stalled", "Critical services of the node stalled in reclaim: a.service for 2.0 s, b.service for 2.0 s.",
			guardians("a.service", "b.service")},
	} {
		c := find(Diagnose(test.inc, nil), test.rule)
		if c == nil {
			t.Errorf("%s: got causes %v, want it", test.rule, ids(Diagnose(test.inc, nil)))
			continue
		}

		if c.Text != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.rule, c.Text, test.want)
		}
	}
}

// TestTheSameAdviceHasTheSameWords lets readers of several causes drop what they have read.
func TestTheSameAdviceHasTheSameWords(t *testing.T) {
	for _, shared := range []advice{throttleEarly, alertPressure, raiseEviction} {
		var of []string

		for i := range rules {
			if slices.ContainsFunc(rules[i].advice, func(a advice) bool { return a.text == shared.text }) {
				of = append(of, rules[i].id)
			}
		}

		if len(of) < 2 {
			t.Errorf("got %q of %q alone, want it of several rules", shared.text, of)
		}
	}
}
