// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// loopKills within loopWindow, this one included, are a loop: two in an hour may be
	// chance, and the kubelet's back-off ends after 10 minutes without a crash.
	loopKills  = 3
	loopWindow = time.Hour
	// exitTime bounds how long a victim holds its memory where that is not known: some
	// milliseconds as a rule. Later, others may have grown.
	exitTime = 50 * time.Millisecond

	// headroomShare of a limit is the least by which it is raised: 20 to 40 % are advised.
	headroomShare = 0.20

	// throttledNS and stalledNS, of all tasks in a minute, are noticed by users.
	throttledNS = 1e9
	stalledNS   = 1e9
	// fruitlessSeconds at the end without progress show that reclaim had failed.
	fruitlessSeconds = 2
	// rowNS is the time between two rows of the timeline, with some slack.
	rowNS = 1.5e9
	// guardianNS is the stall that the node's health checks tolerate: some of them wait
	// for a second.
	guardianNS = 1e9

	// largerBy is how much larger a spared process must be for its size to matter:
	// counters differ by some pages for each CPU.
	largerBy = 1.25
	// survivorShare of what ran out, in processes that may not be killed, is worth naming.
	survivorShare = 0.25
	// crowd processes of one name are a pool if they hold crowdShare of the limit together,
	// none of them most of it.
	crowd      = 4
	crowdShare = 0.50
)

// contributingRules are about what preceded the kill, what made it worse, and why it hit
// this victim.
var contributingRules = []rule{
	{
		id: "thp",
		means: "Much of the anonymous memory is in transparent huge pages. Each is charged in " +
			"full even if little of it is used, and reclaim has to split it first.",
		needs: fmt.Sprintf("at least %s of anonymous memory in huge pages, and these at least "+
			"%s of the limit or the node; likely rather than possible if the node's mode is always",
			phrase.Percent(thpShare), phrase.Percent(notableShare)),
		reference: "Documentation/admin-guide/mm/transhuge.rst",
		match: func(f *facts) *finding {
			c := f.charge
			if c == nil || c.thp == nil || c.anon == nil || share(*c.thp, *c.anon) < thpShare || c.share(c.thp) < notableShare {
				return nil
			}

			hit := &finding{
				text: fmt.Sprintf("%s is in transparent huge pages, each of them charged in "+
					"full even if little of it is used.",
					phrase.PartOf(*c.thp, *c.anon, "anonymous memory")),
				brief:      phrase.ShareOf(*c.thp, *c.anon, "anonymous memory") + " is in huge pages",
				confidence: possible,
				evidence: []events.Evidence{item("anonymous memory in huge pages",
					phrase.Part(*c.thp, *c.anon), c.source)},
			}
			if mode := f.node.TransparentHuge; mode == "always" {
				hit.confidence = likely
				hit.add("mode of transparent huge pages",
					mode, f.nodeSource("/sys/kernel/mm/transparent_hugepage/enabled"))
			}

			return hit
		},
		advice: []advice{
			{layer: kernel, text: "Set transparent huge pages to madvise or never for " +
				"latency-sensitive workloads and sparse memory, and compare usage before and after."},
			{layer: application, text: "Disable huge pages for allocators that use them " +
				"sparsely: prctl(PR_SET_THP_DISABLE), MADV_NOHUGEPAGE."},
		},
	},
	{
		id:    "kill_loop",
		means: "The workload was killed repeatedly: each restart runs into the same limit.",
		needs: fmt.Sprintf("%d kills of the same container or service within %s, including this one",
			loopKills, phrase.Duration(uint64(loopWindow))),
		reference: `Kubernetes "Pod Lifecycle", CrashLoopBackOff`,
		match:     killLoop,
		advice: []advice{
			{layer: kubernetes, text: "Raise the limit or reduce the load until the cause is " +
				"found: restarts do not help.", when: ofAPod},
			{layer: application, text: "Check the startup of the process: the data that it " +
				"loads, replays or caches must fit."},
		},
	},
	{
		id: "aftermath",
		means: "The victim was killed while an earlier victim of the same limit was still " +
			"exiting: that memory had not been freed yet, so the kernel killed another process.",
		needs: fmt.Sprintf("an earlier kill for the same limit whose memory was freed only "+
			"after this kill, or, if that time is not known, less than %s before it", phrase.Duration(uint64(exitTime))),
		reference: "mm/oom_kill.c, oom_evaluate_task: an exiting victim does not delay the " +
			"next choice for long",
		match: afterAnother,
		advice: []advice{
			{layer: application, text: "Investigate the earlier victim first: this one is " +
				"probably a bystander."},
			{layer: cgroupLayer, text: "Set memory.oom.group=1 if the processes cannot run " +
				"without each other: one kill then ends them all.", when: onV2},
		},
	},
	{
		id: "allocating_task",
		means: "The victim is the process whose allocation failed: with vm.oom_kill_allocating_task the kernel " +
			"kills it without comparing processes.",
		needs: "no cgroup as limiter, and the kernel's record or log of the choice shows it. Likely if only " +
			"vm.oom_kill_allocating_task is known to be set and the victim is the trigger",
		reference: "Documentation/admin-guide/sysctl/vm.rst, oom_kill_allocating_task",
		match:     allocatingTask,
		advice: []advice{
			{layer: kernel, text: "Set vm.oom_kill_allocating_task to 0 if the largest process is to die rather " +
				"than one that happens to allocate."},
		},
	},
	{
		id: "oom_origin",
		means: "The victim was running swapoff or unmerging KSM pages. The kernel kills such a process before all " +
			"others, since it is what needs memory.",
		needs:     "the kernel's record of the choice shows it",
		reference: "include/linux/oom.h, set_current_oom_origin; swapoff(8); Documentation/admin-guide/mm/ksm.rst, run",
		match: func(f *facts) *finding {
			if f.victim == nil || f.victim.ChosenBy != events.ChosenByOrigin {
				return nil
			}

			return &finding{
				text: process(&f.victim.Process) + " was turning swap off or unmerging KSM pages, which takes memory: the " +
					"kernel kills such a process before all others, whatever its size.",
				brief:      "the victim was turning swap off or unmerging KSM pages",
				confidence: certain,
				evidence:   []events.Evidence{item("chosen", "as the origin of the shortage", f.source(fromKernel))},
			}
		},
		advice: []advice{
			{layer: kernel, text: "Free memory before swapoff, or before 2 is written to /sys/kernel/mm/ksm/run: " +
				"all that is in swap, or was merged, must fit into memory."},
		},
	},
	{
		id:    "chosen_by_score",
		means: "The victim was not the largest process; oom_score_adj decided the choice.",
		needs: fmt.Sprintf("a candidate at least %.2f times as large as the victim, with a "+
			"lower oom_score_adj, was spared", largerBy),
		reference: `mm/oom_kill.c, oom_badness; Kubernetes "Node-pressure Eviction", node out of memory behavior`,
		match:     chosenByScore,
		advice: []advice{
			{layer: kubernetes, text: "Make critical pods Guaranteed or raise their memory " +
				"requests: the kubelet derives oom_score_adj from QoS class and request.", when: ofAPod},
			{layer: application, text: "Check the process that was spared: it holds more " +
				"memory than the victim did."},
		},
	},
	{
		id: "unkillable_survivors",
		means: "Much of the memory belongs to processes that may not be killed (oom_score_adj " +
			"-1000), so others die in their place.",
		needs: fmt.Sprintf("candidates with oom_score_adj -1000 that together hold at least %s "+
			"of the limit or the node",
			phrase.Percent(survivorShare)),
		reference: "Documentation/filesystems/proc.rst, oom_score_adj",
		match:     survivors,
		advice: []advice{
			{layer: application, text: "Reserve oom_score_adj -1000 for small, critical " +
				"processes: children inherit it."},
			{layer: cgroupLayer, text: "Set a limit or memory.high on the cgroup of the exempt processes."},
		},
	},
	{
		id: "eviction_lost_race",
		means: "The node's available memory was already below the kubelet's eviction " +
			"threshold, and the kernel killed before the kubelet evicted.",
		needs: "no container's limit was hit; memory.available was already below a " +
			"threshold at the time of the kill",
		reference: `Kubernetes "Node-pressure Eviction", node out of memory behavior`,
		match:     lostRace,
		advice: []advice{
			raiseEviction,
			{layer: kubernetes, text: "Set evictionSoft above evictionHard with a short grace " +
				"period, so that the kubelet can terminate pods gracefully in time."},
		},
	},
	{
		id: "next_limit",
		means: "An ancestor's limit is nearly used up as well: raising the limit that was hit " +
			"is not enough.",
		needs: fmt.Sprintf("scope memcg; an ancestor of the limiter that can grow by less than "+
			"%s of the limiter's limit before it reaches its own",
			phrase.Percent(headroomShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Pod-level CPU and ` +
			`memory resources"`,
		match: nextLimit,
		advice: []advice{
			{layer: cgroupLayer, text: "Raise this limit only together with the limits of its ancestors."},
			{layer: kubernetes, text: "Check the pod's cgroup after an in-place resize: a " +
				"container's limit above its pod's never takes effect.", when: ofAPod},
		},
	},
	{
		id:    "throttled_before",
		means: "Tasks were throttled by memory.high before the kill, but throttling did not prevent it.",
		needs: fmt.Sprintf("stalls of kind memory_high of at least %s in the minute before the kill",
			phrase.Duration(throttledNS)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.high",
		match: func(f *facts) *finding {
			s := f.stalls(events.StallMemoryHigh)
			if s.TotalNS < throttledNS {
				return nil
			}

			return &finding{
				text: fmt.Sprintf("Tasks were throttled by memory.high for %s in the %d s "+
					"before the kill, but throttling did not prevent it.",
					phrase.Duration(s.TotalNS), f.before.WindowNS/1e9),
				brief:      "memory.high had throttled tasks for " + phrase.Duration(s.TotalNS),
				confidence: certain,
				evidence: []events.Evidence{item("throttled by memory.high", fmt.Sprintf("%s in %s, longest %s",
					phrase.Duration(s.TotalNS), phrase.Plural(s.Count, "stall"), phrase.Duration(s.MaxNS)), f.source(fromBefore))},
			}
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Alert on the high counter in memory.events of the cgroup."},
			alertPressure,
			{layer: application, text: "Shed load or free caches when the memory pressure of " +
				"the application's own cgroup rises."},
		},
	},
	{
		id:    "stalled_before",
		means: "Tasks stalled in reclaim before the kill, and much of that reclaim freed nothing.",
		needs: fmt.Sprintf("reclaim stalls of at least %s in the minute before the kill, at "+
			"least half of them without progress; or at least %d s without progress right before the kill",
			phrase.Duration(stalledNS), fruitlessSeconds),
		reference: "Documentation/accounting/psi.rst",
		match:     stalledBefore,
		advice: []advice{
			alertPressure,
			throttleEarly,
		},
	},
	{
		id: "guardians_stalled",
		means: "Critical services of the node stalled in reclaim. Such stalls make a node " +
			"NotReady even without a kill.",
		needs: fmt.Sprintf("a critical service (kubelet, a runtime, sshd, ...) that stalled for at least %s",
			phrase.Duration(guardianNS)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons"`,
		match: func(f *facts) *finding {
			hit := &finding{confidence: certain}
			var names []string
			var most uint64

			for _, g := range f.before.Guardians {
				if g.TotalNS >= guardianNS {
					most = max(most, g.TotalNS)
					names = append(names, fmt.Sprintf("%s for %s", phrase.ClipName(g.Unit), phrase.Duration(g.TotalNS)))
					hit.add("stalled: "+phrase.ClipName(g.Unit), phrase.Duration(g.TotalNS), f.source(fromBefore))
				}
			}

			if len(names) == 0 {
				return nil
			}

			hit.text = "Critical services of the node stalled in reclaim: " + phrase.FirstFew(names) + "."
			if len(names) == 1 {
				hit.text = "A critical service of the node stalled in reclaim: " + names[0] + "."
			}

			hit.brief = phrase.Plural(len(names), "critical service") + " stalled in reclaim, for up to " + phrase.Duration(most)
			if len(names) == 1 {
				hit.brief = "a critical service stalled in reclaim for " + phrase.Duration(most)
			}

			return hit
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Protect critical services with MemoryMin= or " +
				"MemoryLow= in their units, so that memory is reclaimed from others first."},
			{layer: kubernetes, text: "Raise system-reserved and kube-reserved so that pods " +
				"leave enough memory for these services.", when: ofAPod},
		},
	},
	{
		id: "init_spared",
		means: "A process of a container was killed, but not PID 1: the container keeps " +
			"running without that process, and nothing restarts it.",
		needs: "victims in a container, none of them PID 1 of its container, and none killed " +
			"through memory.oom.group",
		reference: `Kubernetes "Pod Lifecycle", container restart policy; KubeletConfiguration singleProcessOOMKill`,
		match:     initSpared,
		advice: []advice{
			{layer: kubernetes, text: "Add a liveness probe that fails without this process, " +
				"or let the whole container die (memory.oom.group=1, the kubelet's default on " +
				"cgroup v2: singleProcessOOMKill: false).", when: ofAPod},
			{layer: application, text: "Make PID 1 detect the death of a child, and exit or " +
				"restart the child."},
		},
	},
	{
		id:    "many_processes",
		means: "No single process is large: many processes of the same name hold the memory together.",
		needs: fmt.Sprintf("at least %d candidates of one name that together hold at least %s "+
			"of the limit or the node, none of them half of that", crowd, phrase.Percent(crowdShare)),
		reference: "mm/oom_kill.c, dump_tasks",
		match:     manyProcesses,
		advice: []advice{
			{layer: application, text: "Limit the number of workers to the memory that each " +
				"needs, and recycle them."},
		},
	},
}

func killLoop(f *facts) *finding {
	times := []time.Time{f.time}
	for _, k := range f.history {
		if age := f.time.Sub(k.Time); k.SameVictim && age >= 0 && age <= loopWindow {
			times = append(times, k.Time)
		}
	}

	if len(times) < loopKills {
		return nil
	}

	slices.SortFunc(times, time.Time.Compare)
	span := times[len(times)-1].Sub(times[0])

	gaps := make([]time.Duration, 0, len(times)-1)
	for i := range times[1:] {
		gaps = append(gaps, times[i+1].Sub(times[i]))
	}

	slices.Sort(gaps)
	hit := &finding{confidence: certain, evidence: []events.Evidence{
		item("kills", fmt.Sprintf("%d in %s", len(times), phrase.Duration(uint64(span))), "earlier incidents"),
		item("time between kills", fmt.Sprintf("%s to %s, half of them within %s", phrase.Duration(uint64(gaps[0])),
			phrase.Duration(uint64(gaps[len(gaps)-1])), phrase.Duration(uint64(gaps[(len(gaps)-1)/2]))), "earlier incidents"),
	}}

	hit.text = fmt.Sprintf("The workload was killed %d times within %s", len(times), phrase.Duration(uint64(span)))
	hit.brief = fmt.Sprintf("the workload was killed %d times within %s", len(times), phrase.Duration(uint64(span)))

	if v := f.victim; v != nil && v.StartTime != nil && f.time.After(*v.StartTime) {
		lived := phrase.Duration(uint64(f.time.Sub(*v.StartTime)))
		hit.text += ", this time " + lived + " after it started"
		hit.add("time from start to kill", lived, f.source(fromKernel))
	}

	hit.evidence = append(hit.evidence, f.growthEvidence()...)

	if v := f.victim; v != nil && v.Workload != nil && v.Workload.RestartCount != nil {
		hit.add("restarts", fmt.Sprint(*v.Workload.RestartCount), "container runtime")
	}
	hit.text += "."

	return hit
}

func afterAnother(f *facts) *finding {
	if f.outcome != events.OutcomeKilled || f.is(events.ScopeUser, events.ScopeSysrq) {
		return nil
	}

	for _, k := range slices.Backward(f.history) {
		gap := f.time.Sub(k.Time)
		if !k.SameLimiter || gap < 0 || k.Released && k.ReleasedAfterNS <= uint64(gap) || !k.Released && gap >= exitTime {
			continue
		}

		return &finding{
			text: fmt.Sprintf("%s had been killed for the same limit %s earlier. Its memory "+
				"was not freed yet, so the kernel killed another process.",
				k.Victim, phrase.Duration(uint64(gap))),
			brief:      fmt.Sprintf("%s, killed %s earlier, still held its memory", clip(k.Victim), phrase.Duration(uint64(gap))),
			confidence: likely,
			evidence: []events.Evidence{item("earlier kill for the same limit",
				fmt.Sprintf("%s, %s earlier, incident %s",
					k.Victim, phrase.Duration(uint64(gap)), phrase.ClipName(k.ID)), "earlier incidents")},
		}
	}

	return nil
}

func lostRace(f *facts) *finding {
	e := f.eviction

	ofNode := f.is(events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy) ||
		f.is(events.ScopeMemcg) && f.limiter.Level == events.LevelKubepods && !f.limiter.Workload.Nested() // allocatableMemory.available
	if !ofNode || e.HardSinceNS == nil && e.SoftSinceNS == nil {
		return nil
	}

	which, since, threshold, confidence := "hard", e.HardSinceNS, e.HardBytes, certain
	if since == nil {
		// A soft threshold has a grace period: it may have been too early to act.
		which, since, threshold, confidence = "soft", e.SoftSinceNS, e.SoftBytes, likely
	}

	source := cmp.Or(phrase.ClipName(e.Source), "kubelet's configuration")

	hit := &finding{
		text: fmt.Sprintf("Eviction came too late: memory.available had been below the %s "+
			"eviction threshold for %s, and the kubelet had not freed any memory yet.",
			which, phrase.Duration(*since)),
		brief:      fmt.Sprintf("the %s eviction threshold was crossed %s earlier", which, phrase.Duration(*since)),
		confidence: confidence,
		evidence:   []events.Evidence{item("below the "+which+" threshold for", phrase.Duration(*since), source)},
	}
	if threshold != nil {
		hit.add(which+" threshold", phrase.Size(*threshold), source)
	}

	if e.AvailableBytes != nil {
		hit.add("memory.available", phrase.Size(*e.AvailableBytes), "as the kubelet computes it")
	}

	return hit
}

func nextLimit(f *facts) *finding {
	limit := value(f.limiter.LimitBytes)
	if !f.is(events.ScopeMemcg) || limit == 0 {
		return nil
	}

	for i := range f.ancestry {
		r := &f.ancestry[i]

		self, known := r.Cgroup.Same(f.limiter.Cgroup)
		if r.Below || !known || self || r.MaxBytes == nil || r.UsageBytes == nil {
			continue
		}

		left := less(*r.MaxBytes, *r.UsageBytes)
		if share(left, limit) >= headroomShare {
			continue
		}

		return &finding{
			text: fmt.Sprintf("Raising %s alone is not enough: the next limit up, that of %s, "+
				"has only %s left.",
				f.limit(), ancestorName(r), phrase.Size(left)),
			brief:      fmt.Sprintf("the limit of %s has only %s left", clip(ancestorName(r)), phrase.Size(left)),
			confidence: certain,
			evidence: []events.Evidence{
				item("usage of the limit of "+ancestorName(r), phrase.Part(*r.UsageBytes, *r.MaxBytes), f.source(fromCounters)),
				item("headroom", phrase.Size(left), f.source(fromCounters)),
			},
		}
	}

	return nil
}

// ancestorName is a cgroup above the limiter in a sentence.
func ancestorName(r *events.Rung) string {
	switch r.Level {
	case events.LevelPod:
		return "the pod"
	case events.LevelQoS:
		return "the QoS class"
	case events.LevelKubepods:
		return "all pods (node allocatable)"
	}

	return phrase.Cgroup(r.Level, r.Workload, &r.Cgroup)
}

// stalls sums kinds of stalls before the kill up.
func (f *facts) stalls(kinds ...events.StallKind) events.StallSum {
	var all events.StallSum

	for _, s := range f.before.Stalls {
		if slices.Contains(kinds, events.StallKind(s.What)) {
			all.Count += s.Count
			all.Fruitless += s.Fruitless
			all.TotalNS += s.TotalNS
			all.MaxNS = max(all.MaxNS, s.MaxNS)
			all.ReclaimedBytes += s.ReclaimedBytes
		}
	}

	return all
}

func stalledBefore(f *facts) *finding {
	s := f.stalls(events.StallMemcgReclaim, events.StallDirectReclaim, events.StallNodeReclaim)

	fruitless := f.fruitlessEnd()
	if fruitless < fruitlessSeconds && (s.TotalNS < stalledNS || s.Fruitless*2 < s.Count || s.Fruitless == 0) {
		return nil
	}
	hit := &finding{confidence: certain, evidence: []events.Evidence{
		item("in reclaim", fmt.Sprintf("%s in %s, %d of them without progress", phrase.Duration(s.TotalNS),
			phrase.Plural(s.Count, "stall"), s.Fruitless), f.source(fromBefore)),
	}}

	hit.text = fmt.Sprintf("Tasks stalled in reclaim for %s before the kill", phrase.Duration(s.TotalNS))
	hit.brief = "tasks stalled in reclaim for " + phrase.Duration(s.TotalNS)

	if fruitless >= fruitlessSeconds {
		hit.text += fmt.Sprintf("; none of the reclaim in the last %d s freed anything", fruitless)
		hit.brief = fmt.Sprintf("reclaim made no progress in the last %d s", fruitless)
		hit.add("seconds without progress before the kill", fmt.Sprint(fruitless), f.source(fromBefore))
	}
	hit.text += "."

	return hit
}

// fruitlessEnd is the number of seconds right before the kill in which tasks stalled and
// nothing was reclaimed.
func (f *facts) fruitlessEnd() int {
	count := 0

	var last uint64
	for _, s := range slices.Backward(f.before.Timeline) {
		if s.ReclaimedBytes > 0 || s.Count == 0 || less(s.BeforeNS, last) > rowNS {
			break
		}
		count, last = count+1, s.BeforeNS
	}

	return count
}

func initSpared(f *facts) *finding {
	if f.outcome != events.OutcomeKilled || f.is(events.ScopeUser) || f.victim == nil || !inContainer(&f.victim.Process) ||
		f.victim.Workload.Innermost() == events.LevelService {
		return nil
	}

	for i := range f.victims {
		v := &f.victims[i]
		if v.IsContainerInit == nil || *v.IsContainerInit || v.Role == events.RoleGroup {
			return nil
		}
	}

	return &finding{
		text: fmt.Sprintf("%s was not PID 1 of %s: unless PID 1 exits as well, the container "+
			"keeps running without the process, and nothing restarts it.",
			process(&f.victim.Process), phrase.Cgroup("", f.victim.Workload, f.victim.Cgroup)),
		brief:      "the victim was not PID 1, so the container runs on",
		confidence: likely,
		evidence:   []events.Evidence{item("victims that were PID 1 of a container", "none", f.source(fromKernel))},
	}
}
