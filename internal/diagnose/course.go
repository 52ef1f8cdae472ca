// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// loopKills within loopWindow, this one included: two in an hour may be chance,
	// and the kubelet's back-off is over after 10 minutes without a crash.
	loopKills  = 3
	loopWindow = time.Hour
	// aftermath is how soon a second kill for the same limit comes while the first
	// victim is still giving its memory back, where it is not known how long that
	// took: some milliseconds as a rule. Later, others may have grown.
	aftermath = 50 * time.Millisecond

	// headroomShare of a limit is what one would raise it by: 20 to 40 % are advised.
	headroomShare = 0.20

	// throttledNS and stalledNS, of all tasks in a minute, are what users notice.
	throttledNS = 1e9
	stalledNS   = 1e9
	// fruitlessSeconds at the end in which reclaim gained nothing: reclaim had lost.
	fruitlessSeconds = 2
	// rowNS is the distance of rows of the timeline, with some slack.
	rowNS = 1.5e9
	// guardianNS is what a node's health checks forgive: some of them wait for a
	// second.
	guardianNS = 1e9

	// largerBy is how much larger a spared process must be for its size to matter:
	// counters differ by some pages for each CPU.
	largerBy = 1.25
	// survivorShare of what ran out in processes that may not be killed.
	survivorShare = 0.25
	// runtimeShare of the limit in one process whose runtime bounds its heap: above
	// what a heap is usually given.
	runtimeShare = 0.80
	// crowd is how many processes of one name are a pool, and crowdShare what they
	// have to hold of the limit together, none of them most of it.
	crowd      = 4
	crowdShare = 0.50
)

// courseRules are about what went before, what made it worse, and why it hit this
// victim.
var courseRules = []rule{
	{
		id: "kill_loop", class: classCourse,
		means:     "It was killed again and again: each restart meets the same limit.",
		needs:     fmt.Sprintf("%d kills of the same container or service within %s, this one included", loopKills, phrase.Duration(uint64(loopWindow))),
		reference: `Kubernetes "Pod Lifecycle", CrashLoopBackOff`,
		match:     killLoop,
		advice: []advice{
			{layer: kubernetes, text: "Restarts do not help: raise the limit or lower the load until the cause is found.", when: ofAPod},
			{layer: application, text: "Look at what it does right after it starts: what it loads, replays or caches has to fit."},
		},
	},
	{
		id: "aftermath", class: classCourse,
		means:     "It was killed while an earlier victim of the same limit was still dying: its memory was not back yet, so the kernel took one more.",
		needs:     fmt.Sprintf("an earlier kill for the same limit whose memory came back after this one, or, where that is not known, less than %s before", phrase.Duration(uint64(aftermath))),
		reference: "mm/oom_kill.c, oom_evaluate_task: a victim that is exiting does not hold up the next choice for long",
		match:     afterAnother,
		advice: []advice{
			{layer: application, text: "Look at the earlier victim: this one is likely a bystander."},
			{layer: cgroupLayer, text: "If the processes cannot live without each other, memory.oom.group=1 makes it one kill.", when: onV2},
		},
	},
	{
		id: "chosen_by_score", class: classCourse,
		means:     "The victim was not the largest: oom_score_adj decided.",
		needs:     fmt.Sprintf("the candidates: one at least %.2f times as large as the victim, with a lower oom_score_adj, was spared", largerBy),
		reference: `mm/oom_kill.c, oom_badness; Kubernetes "Node-pressure Eviction", node out of memory behavior`,
		match:     chosenByScore,
		advice: []advice{
			{layer: kubernetes, text: "Make critical pods Guaranteed, or raise their memory request: the kubelet sets oom_score_adj from class and request.", when: ofAPod},
			{layer: application, text: "Look at the process that was spared: it holds more of what was short."},
		},
	},
	{
		id: "unkillable_survivors", class: classCourse,
		means:     "Much of the memory is in processes that may not be killed (oom_score_adj -1000): others die for them.",
		needs:     fmt.Sprintf("candidates with oom_score_adj -1000 that hold at least %s of the limit or the node", percent(survivorShare)),
		reference: "Documentation/filesystems/proc.rst, oom_score_adj",
		match:     survivors,
		advice: []advice{
			{layer: application, text: "Give -1000 to what is small and vital only; what it starts inherits it (a restarted service included)."},
			{layer: cgroupLayer, text: "Give what is exempt a limit or memory.high of its own."},
		},
	},
	{
		id: "eviction_lost_race", class: classCourse,
		means:     "The node was below the kubelet's threshold already, and the kernel was faster.",
		needs:     "no container's limit was hit; memory.available had been below a threshold when it came to the kill",
		reference: `Kubernetes "Node-pressure Eviction", node out of memory behavior`,
		match:     lostRace,
		advice: []advice{
			{layer: kubernetes, text: "Raise evictionHard for memory.available: the kubelet looks every 10 s, so the margin must outlast 10 s of growth."},
			{layer: kubernetes, text: "Set evictionSoft above it with a short grace period, so that pods go in order while there is time."},
		},
	},
	{
		id: "next_limit", class: classCourse,
		means:     "A limit further up is nearly used up as well: to raise the one that was hit is not enough.",
		needs:     fmt.Sprintf("scope memcg; an ancestor of the limiter whose limit leaves less than %s of the limiter's own", percent(headroomShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Pod-level CPU and memory resources"`,
		match:     nextLimit,
		advice: []advice{
			{layer: cgroupLayer, text: "Raise the limits above together with this one, or neither."},
			{layer: kubernetes, text: "After a resize in place look at the pod's cgroup too: a container's limit above its pod's never counts.", when: ofAPod},
		},
	},
	{
		id: "throttled_before", class: classCourse,
		means:     "Its tasks were held up over memory.high before: the brake worked, and did not suffice.",
		needs:     fmt.Sprintf("stalls of kind memory_high of at least %s in the minute before", phrase.Duration(throttledNS)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.high",
		match: func(f *facts) *finding {
			s := f.stalls(events.StallMemoryHigh)
			if s.TotalNS < throttledNS {
				return nil
			}

			return &finding{
				text: fmt.Sprintf("Its tasks were held up over memory.high for %s in the %d s before: slow first, then killed.",
					phrase.Duration(s.TotalNS), f.before().WindowNS/1e9),
				confidence: Certain,
				evidence: []events.Evidence{item("held up over memory.high", fmt.Sprintf("%s in %s, longest %s",
					phrase.Duration(s.TotalNS), plural(int(min(s.Count, 1<<31)), "stall"), phrase.Duration(s.MaxNS)), f.source(fromBefore))},
			}
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Alert on high in memory.events, and on PSI of the cgroup: this was the early warning."},
			{layer: application, text: "Shed load or free caches when the own cgroup's pressure rises."},
		},
	},
	{
		id: "stalled_before", class: classCourse,
		means: "Tasks stood still in reclaim before the kill: all that could be given back was given back again and again.",
		needs: fmt.Sprintf("reclaim of at least %s in the minute before that gained nothing every other time; or at least %d s at the end in which it gained nothing",
			phrase.Duration(stalledNS), fruitlessSeconds),
		reference: "Documentation/accounting/psi.rst",
		match:     stalledBefore,
		advice: []advice{
			{layer: kernel, text: "Alert on PSI memory some and full over 60 s and 300 s, of the cgroup as well as of the node."},
			{layer: cgroupLayer, text: "Set memory.high below memory.max: it slows down what allocates, before all tasks reclaim in vain.", when: onV2},
		},
	},
	{
		id: "guardians_stalled", class: classCourse,
		means:     "Services that the whole node depends on stood still in reclaim: a node turns NotReady from that, with or without a kill.",
		needs:     fmt.Sprintf("a guardian (kubelet, a runtime, sshd, ...) that stood still for at least %s", phrase.Duration(guardianNS)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons"`,
		match: func(f *facts) *finding {
			hit := &finding{confidence: Certain}
			var names []string

			for _, g := range f.before().Guardians {
				if g.TotalNS >= guardianNS {
					names = append(names, fmt.Sprintf("%s for %s", clip(g.Unit), phrase.Duration(g.TotalNS)))
					hit.evidence = append(hit.evidence, item("stood still: "+clip(g.Unit), phrase.Duration(g.TotalNS), f.source(fromBefore)))
				}
			}

			if len(names) == 0 {
				return nil
			}
			hit.text = "Services that the node depends on stood still in reclaim: " + firstFew(names) + "."

			return hit
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Protect them by MemoryMin= or MemoryLow= of their units, so that reclaim takes from others first."},
			{layer: kubernetes, text: "Raise system-reserved and kube-reserved, so that pods leave room.", when: ofAPod},
		},
	},
	{
		id: "init_spared", class: classCourse,
		means:     "A process of a container died, but not its process 1: the container lives on without it, and nothing is restarted.",
		needs:     "victims in a container, of which none is process 1 of its container, and none died by memory.oom.group",
		reference: `Kubernetes "Pod Lifecycle", container restart policy; KubeletConfiguration singleProcessOOMKill`,
		match:     initSpared,
		advice: []advice{
			{layer: kubernetes, text: "Add a liveness probe that fails without this process; or let the whole container die (memory.oom.group=1: on cgroup v2 the kubelet's default, singleProcessOOMKill: false).", when: ofAPod},
			{layer: application, text: "Let process 1 notice a dead child, and end or start it anew."},
		},
	},
	{
		id: "many_processes", class: classCourse,
		means:     "No single process is large: many of the same name fill it together.",
		needs:     fmt.Sprintf("at least %d candidates of one name that hold at least %s of the limit or the node together, none of them half of that", crowd, percent(crowdShare)),
		reference: "mm/oom_kill.c, dump_tasks",
		match:     manyProcesses,
		advice: []advice{
			{layer: application, text: "Bound the number of workers by the memory that each needs, and recycle them."},
		},
	},
	{
		id: "runtime_uncounted", class: classHint,
		means:     "The victim's runtime bounds its heap, and the process had more than heaps are given: direct buffers, JIT, native libraries, stacks.",
		needs:     fmt.Sprintf("victim java, node or dotnet, with anonymous memory of at least %s of the limit", percent(runtimeShare)),
		reference: "java(1), -XX:NativeMemoryTracking",
		match:     runtimeUncounted,
		advice:    runtimeAdvice[:len(runtimeAdvice)-1],
	},
	{
		id: "swap_absent", class: classHint,
		means:     "There is no swap: anonymous memory can go nowhere, and a short peak is a kill.",
		needs:     fmt.Sprintf("memory.swap.max of the limiter is 0, or the node has no swap; anonymous memory at least %s of the limit or the node", percent(plainShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.swap.max; Kubernetes "Swap memory management"`,
		match: func(f *facts) *finding {
			c, l, n := f.charge, f.limiter(), f.node()
			if c == nil || c.share(c.anon) < plainShare {
				return nil
			}
			hit := &finding{confidence: Possible}

			switch {
			// The second limit of cgroup v1 counts memory as well.
			case l.SwapLimitBytes != nil && *l.SwapLimitBytes == 0 && !c.node && !f.v1():
				hit.text = "It may not use swap: a short peak of anonymous memory is a kill."
				hit.evidence = []events.Evidence{item("memory.swap.max", "0", f.source(fromCounters))}
			case n.SwapTotalBytes != nil && *n.SwapTotalBytes == 0:
				hit.text = "The node has no swap: a short peak of anonymous memory is a kill."
				hit.evidence = []events.Evidence{item("swap of the node", "none", f.nodeSource("/proc/meminfo"))}
			default:
				return nil
			}

			hit.evidence = append(hit.evidence, c.item("anonymous memory", c.anon))

			return hit
		},
		advice: []advice{
			{layer: cgroupLayer, text: "Off is a good choice for latency. Where a peak is short and rare, bounded swap (memory.swap.max, LimitedSwap) with its latency measured is another."},
		},
	},
}

func killLoop(f *facts) *finding {
	times := []time.Time{f.inc.Time}
	for _, k := range f.history {
		if age := f.inc.Time.Sub(k.Time); k.SameVictim && age >= 0 && age <= loopWindow {
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
	hit := &finding{confidence: Certain, evidence: []events.Evidence{
		item("kills", fmt.Sprintf("%d in %s", len(times), phrase.Duration(uint64(span))), "earlier incidents"),
		item("time between two", fmt.Sprintf("%s to %s, half of them within %s", phrase.Duration(uint64(gaps[0])),
			phrase.Duration(uint64(gaps[len(gaps)-1])), phrase.Duration(uint64(gaps[(len(gaps)-1)/2]))), "earlier incidents"),
	}}

	hit.text = fmt.Sprintf("It is a loop: %d kills in %s", len(times), phrase.Duration(uint64(span)))
	if v := f.victim; v != nil && v.StartTime != nil && f.inc.Time.After(*v.StartTime) {
		lived := phrase.Duration(uint64(f.inc.Time.Sub(*v.StartTime)))
		hit.text += ", this time " + lived + " after its start"
		hit.evidence = append(hit.evidence, item("lived", lived, f.source(fromKernel)))
	}

	if rate, over, ok := f.growth(); ok {
		hit.evidence = append(hit.evidence, item("growth", fmt.Sprintf("%s a second over %s", phrase.Size(rate), phrase.Duration(over)), f.source("memory.current before the kill")))
	}

	if v := f.victim; v != nil && v.Workload != nil && v.Workload.RestartCount != nil {
		hit.evidence = append(hit.evidence, item("restarts", fmt.Sprint(*v.Workload.RestartCount), "container runtime"))
	}
	hit.text += "."

	return hit
}

func afterAnother(f *facts) *finding {
	if f.inc.Outcome != events.OutcomeKilled || f.is(events.ScopeUser, events.ScopeSysrq) {
		return nil
	}

	for _, k := range slices.Backward(f.history) {
		gap := f.inc.Time.Sub(k.Time)
		if !k.SameLimiter || gap < 0 || k.Released && k.ReleasedAfterNS <= uint64(gap) || !k.Released && gap >= aftermath {
			continue
		}

		return &finding{
			text: fmt.Sprintf("%s was killed for the same limit %s before and was not gone yet: this one died because its memory was not back.",
				k.Victim, phrase.Duration(uint64(gap))),
			confidence: Likely,
			evidence:   []events.Evidence{item("earlier kill for the same limit", fmt.Sprintf("%s, %s before, incident %s", k.Victim, phrase.Duration(uint64(gap)), clip(k.ID)), "earlier incidents")},
		}
	}

	return nil
}

// weighed is a candidate's memory as badness counts it (mm/oom_kill.c:
// oom_badness).
func weighed(c *events.Candidate) uint64 {
	return candidateSize(c) + value(c.SwapBytes) + value(c.PgtablesBytes)
}

func chosenByScore(f *facts) *finding {
	var victim, spared *events.Candidate

	list := f.inc.Candidates
	for i := range list {
		c := &list[i]
		if c.OOMScoreAdj == nil || weighed(c) == 0 {
			continue
		}

		switch {
		case f.victim != nil && c.PID == f.victim.PID:
			victim = c
		case c.Victim:
		case spared == nil || weighed(c) > weighed(spared):
			spared = c
		}
	}

	if victim == nil || spared == nil || float64(weighed(spared)) < largerBy*float64(weighed(victim)) || *spared.OOMScoreAdj >= *victim.OOMScoreAdj {
		return nil
	}
	row := func(c *events.Candidate) string {
		s := fmt.Sprintf("%s, oom_score_adj %d", phrase.Size(weighed(c)), *c.OOMScoreAdj)
		if c.Points != nil {
			s += fmt.Sprintf(", %d points", *c.Points)
		}

		return s
	}

	return &finding{
		text: fmt.Sprintf("%s was not the largest: %s has %s and was spared, since its oom_score_adj is %d and that of the victim %d.",
			process(&victim.Process), process(&spared.Process), phrase.Size(weighed(spared)), *spared.OOMScoreAdj, *victim.OOMScoreAdj),
		confidence: Certain,
		evidence: []events.Evidence{
			item("victim "+process(&victim.Process), row(victim), f.source("candidates at the kill")),
			item("spared "+process(&spared.Process), row(spared), f.source("candidates at the kill")),
		},
	}
}

// total is what ran out, in bytes; 0 if it is not known.
func (f *facts) total() uint64 {
	switch {
	case f.is(events.ScopeMemcg):
		return value(f.limiter().LimitBytes)
	case f.is(events.ScopeGlobal) && f.node().TotalBytes != nil:
		return *f.node().TotalBytes
	case f.is(events.ScopeGlobal):
		return value(f.limiter().LimitBytes)
	}

	return 0
}

// exempt are the candidates that may not be killed.
func (f *facts) exempt() []*events.Candidate {
	const unkillable = -1000 // OOM_SCORE_ADJ_MIN (include/uapi/linux/oom.h)
	var all []*events.Candidate

	for i := range f.inc.Candidates {
		c := &f.inc.Candidates[i]
		if c.Unkillable || c.OOMScoreAdj != nil && *c.OOMScoreAdj == unkillable {
			all = append(all, c)
		}
	}

	return all
}

func survivors(f *facts) *finding {
	var held uint64
	var most *events.Candidate

	exempt := f.exempt()
	for _, c := range exempt {
		held += candidateSize(c)
		if most == nil || candidateSize(c) > candidateSize(most) {
			most = c
		}
	}

	if share(held, f.total()) < survivorShare {
		return nil
	}

	return &finding{
		text: fmt.Sprintf("%s that may not be killed (oom_score_adj -1000) held %s, the largest is %s.",
			plural(len(exempt), "process"), within(held, f.total(), f.whose()), process(&most.Process)),
		confidence: Certain,
		evidence: []events.Evidence{
			item("held by processes with oom_score_adj -1000", of(held, f.total()), f.source("candidates at the kill")),
			item("largest of them", process(&most.Process)+" "+phrase.Size(candidateSize(most)), f.source("candidates at the kill")),
		},
	}
}

func lostRace(f *facts) *finding {
	e := f.inc.Eviction

	ofNode := f.is(events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy) ||
		f.is(events.ScopeMemcg) && f.limiter().Level == events.LevelKubepods // allocatableMemory.available
	if e == nil || !ofNode || e.HardSinceNS == nil && e.SoftSinceNS == nil {
		return nil
	}

	which, since, threshold, confidence := "hard", e.HardSinceNS, e.HardBytes, Certain
	if since == nil {
		// A soft threshold has a grace period: it may have been too early to act.
		which, since, threshold, confidence = "soft", e.SoftSinceNS, e.SoftBytes, Likely
	}

	hit := &finding{
		text: fmt.Sprintf("Eviction lost the race: memory.available had been below the %s threshold for %s, and the kubelet had not yet freed anything.",
			which, phrase.Duration(*since)),
		confidence: confidence,
		evidence:   []events.Evidence{item("below the "+which+" threshold for", phrase.Duration(*since), firstSet(clip(e.Source), "kubelet's configuration"))},
	}
	if threshold != nil {
		hit.evidence = append(hit.evidence, item(which+" threshold", phrase.Size(*threshold), firstSet(clip(e.Source), "kubelet's configuration")))
	}

	if e.AvailableBytes != nil {
		hit.evidence = append(hit.evidence, item("memory.available", phrase.Size(*e.AvailableBytes), "as the kubelet computes it"))
	}

	return hit
}

func nextLimit(f *facts) *finding {
	limit := value(f.limiter().LimitBytes)
	if !f.is(events.ScopeMemcg) || limit == 0 {
		return nil
	}

	for i := range f.inc.Ladder {
		r := &f.inc.Ladder[i]

		self, known := r.Cgroup.Same(f.limiter().Cgroup)
		if r.Below || !known || self || r.MaxBytes == nil || r.UsageBytes == nil {
			continue
		}

		left := less(*r.MaxBytes, *r.UsageBytes)
		if share(left, limit) >= headroomShare {
			continue
		}

		return &finding{
			text: fmt.Sprintf("To raise %s alone is not enough: the next one, of %s, has %s left.",
				f.whose(), rungName(r), phrase.Size(left)),
			confidence: Certain,
			evidence: []events.Evidence{
				item("used of the limit of "+rungName(r), of(*r.UsageBytes, *r.MaxBytes), f.source(fromCounters)),
				item("left there", phrase.Size(left), f.source(fromCounters)),
			},
		}
	}

	return nil
}

func rungName(r *events.Rung) string {
	switch r.Level {
	case events.LevelPod:
		return "the pod"
	case events.LevelQoS:
		return "the QoS class"
	case events.LevelKubepods:
		return "all pods (node allocatable)"
	}

	return called(r.Workload, &r.Cgroup)
}

// stalls sums up kinds of stalls before the kill.
func (f *facts) stalls(kinds ...events.StallKind) events.StallSum {
	var all events.StallSum

	for _, s := range f.before().Stalls {
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

	vain := f.vainSeconds()
	if vain < fruitlessSeconds && (s.TotalNS < stalledNS || s.Fruitless*2 < s.Count || s.Fruitless == 0) {
		return nil
	}
	hit := &finding{confidence: Certain, evidence: []events.Evidence{
		item("in reclaim", fmt.Sprintf("%s in %s, %d of them gained nothing", phrase.Duration(s.TotalNS),
			plural(int(min(s.Count, 1<<31)), "stall"), s.Fruitless), f.source(fromBefore)),
	}}

	hit.text = fmt.Sprintf("Tasks stood still in reclaim for %s before", phrase.Duration(s.TotalNS))
	if vain >= fruitlessSeconds {
		hit.text += fmt.Sprintf(", and gained nothing in the last %d s", vain)
		hit.evidence = append(hit.evidence, item("seconds at the end without gain", fmt.Sprint(vain), f.source(fromBefore)))
	}
	hit.text += "."

	return hit
}

// vainSeconds are the seconds right before the kill in which tasks stalled and
// nothing was reclaimed.
func (f *facts) vainSeconds() int {
	count := 0

	var last uint64
	for _, s := range slices.Backward(f.before().Timeline) {
		if s.ReclaimedBytes > 0 || s.Count == 0 || less(s.BeforeNS, last) > rowNS {
			break
		}
		count, last = count+1, s.BeforeNS
	}

	return count
}

func initSpared(f *facts) *finding {
	if f.inc.Outcome != events.OutcomeKilled || f.is(events.ScopeUser) || f.victim == nil || !inContainer(&f.victim.Process) {
		return nil
	}

	for i := range f.inc.Victims {
		v := &f.inc.Victims[i]
		if v.IsContainerInit == nil || *v.IsContainerInit || v.Role == events.RoleGroup {
			return nil
		}
	}

	return &finding{
		text: fmt.Sprintf("%s was not process 1 of %s: unless that ends by itself, the container lives on without it, and nothing is restarted.",
			process(&f.victim.Process), called(f.victim.Workload, f.victim.Cgroup)),
		confidence: Likely,
		evidence:   []events.Evidence{item("process 1 of a container among the victims", "none", f.source(fromKernel))},
	}
}

func manyProcesses(f *facts) *finding {
	type pool struct {
		comm          string
		count         int
		held, largest uint64
	}
	pools := map[string]*pool{}

	for i := range f.inc.Candidates {
		c := &f.inc.Candidates[i]
		if c.Comm == "" || c.Unkillable {
			continue
		}

		p := pools[c.Comm]
		if p == nil {
			p = &pool{comm: c.Comm}
			pools[c.Comm] = p
		}
		// Shared memory would be counted once for each.
		size := value(c.AnonRSSBytes)
		if c.AnonRSSBytes == nil {
			size = value(c.RSSBytes)
		}
		p.count, p.held, p.largest = p.count+1, p.held+size, max(p.largest, size)
	}

	var top *pool
	for _, p := range pools {
		if top == nil || p.held > top.held || p.held == top.held && strings.Compare(p.comm, top.comm) < 0 {
			top = p
		}
	}

	if top == nil || top.count < crowd || share(top.held, f.total()) < crowdShare || top.largest*2 >= top.held {
		return nil
	}

	return &finding{
		text: fmt.Sprintf("It is the number of them: %s named %s hold %s together.",
			plural(top.count, "process"), clip(top.comm), within(top.held, f.total(), f.whose())),
		confidence: Likely,
		evidence: []events.Evidence{
			item("processes named "+clip(top.comm), fmt.Sprintf("%d, %s together, the largest %s", top.count, of(top.held, f.total()), phrase.Size(top.largest)), f.source("candidates at the kill")),
		},
	}
}

func runtimeUncounted(f *facts) *finding {
	lang := f.runtime()
	if lang == nil || lang.heap == "" || !f.is(events.ScopeMemcg) || f.victim.AnonRSSBytes == nil {
		return nil
	}

	whole := value(f.limiter().LimitBytes)
	if share(*f.victim.AnonRSSBytes, whole) < runtimeShare {
		return nil
	}

	hit := &finding{
		text: fmt.Sprintf("%s had %s in anonymous memory, more than a heap is usually given: memory that the %s runtime does not count may be part of it.",
			process(&f.victim.Process), within(*f.victim.AnonRSSBytes, whole, f.whose()), lang.name),
		confidence: Possible,
		evidence: []events.Evidence{
			item("anonymous memory of "+process(&f.victim.Process), of(*f.victim.AnonRSSBytes, whole), f.source(fromKernel)),
			item("what bounds the heap", lang.heap, "the runtime's documentation"),
		},
	}
	if t := f.inc.Trigger; t != nil && t.PID == f.victim.PID && strings.Contains(cmp.Or(t.Thread, t.Comm), "Compiler") {
		hit.evidence = append(hit.evidence, item("thread whose allocation failed", clip(t.Thread)+", the JIT compiler", f.source(fromKernel)))
	}

	return hit
}
