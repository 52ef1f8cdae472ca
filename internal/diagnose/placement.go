// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// fullShare of swap in use counts as all of it: slots are allocated in batches for
	// each CPU (mm/swap_slots.c, or clusters).
	fullShare = 0.95
	// outsideShare of the node outside of pods is more than most hosts reserve.
	outsideShare, outsideMajor = 0.30, 0.50
	// podsShare of the node in pods shows that they filled it, not the host.
	podsShare, podsMajor = 0.50, 0.70
	// hogShare of the node in one process is enough, whatever is known of the rest.
	hogShare = 0.25
	// blameShare of the memory outside of pods is worth naming.
	blameShare = 0.25
	// topShare of a limit makes one of the cgroups that share it worth naming.
	topShare = 0.40
)

// A kill from user space is not about memory where
const (
	// no limit is used up to more than this: below it the kernel has hardly reclaimed,
	// and page cache alone often fills as much;
	idleShare = 0.80
	// tasks were stalled for memory less than this share of ten seconds, in percent: the
	// thresholds of oomd and Talos are several times as high;
	idlePSI = 5.0
	// the node had at least this share of its memory available.
	idleAvailable = 0.10
)

// placementRules are about limits, and ways to the victim, that one does not check first.
var placementRules = []rule{
	{
		id: "not_memory",
		means: "An exit status of 137 looks like an OOM kill and is none: there was memory left at every limit " +
			"above it.",
		needs: fmt.Sprintf("a kill from user space that was not for memory; usage below %s of every limit of the "+
			"ladder, one at least; PSI some (10 s), where known, below %.0f %%; MemAvailable, where known, above "+
			"%s of the node",
			phrase.Percent(idleShare), idlePSI, phrase.Percent(idleAvailable)),
		reference: `Kubernetes "Assign Memory Resources to Containers and Pods", exit code 137`,
		match:     notMemory,
		advice: []advice{
			{layer: application, text: "Do not raise the memory limit for this one: find out about the sender " +
				"instead."},
		},
	},
	{
		id: "node_overcommitted",
		means: "The pods together used more than the node, or what is set aside for pods, has: their limits " +
			"add up to more.",
		needs: fmt.Sprintf("the limit of kubepods was hit; or scope global, and kubepods has at least %s of the node",
			phrase.Percent(podsShare)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons", node allocatable`,
		match:     nodeOvercommitted,
		advice: []advice{
			{layer: kubernetes, text: "Set requests near the 95th to 99th percentile of real peaks, so that the " +
				"scheduler knows; keep limits within 20 to 40 % above."},
			{layer: kubernetes, text: "Make what is critical Guaranteed, and add nodes by the cluster autoscaler."},
			{layer: kubernetes, text: "Raise evictionHard and evictionSoft for memory.available, so that the " +
				"kubelet acts before " +
				"the kernel.", when: &condition{"the node ran out", func(f *facts) bool { return f.is(events.ScopeGlobal) }}},
		},
	},
	{
		id: "ancestor_limit",
		means: "The limit that was hit is not the container's own: it is of its pod, its QoS class, of all " +
			"pods, or of a slice above it.",
		needs: "scope memcg; the limiter is not the victim's own cgroup or container",
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Pod-level CPU and ` +
			`memory resources"`,
		match: ancestorLimit,
		advice: []advice{
			{layer: kubernetes, text: "Give each container of the pod a limit of its own, and the pod as much as " +
				"they have together, with what its volumes in " +
				"memory take.", when: &condition{"the pod's limit", func(f *facts) bool { return f.limiter.Level == events.LevelPod }}},
			{layer: kubernetes, text: "Look at who shares this limit: set limits for those that have none, and " +
				"move out those whose use swings."},
			{layer: cgroupLayer, text: "Set memory.high below memory.max on those who use most, as an " +
				"early brake.", when: onV2},
		},
	},
	{
		id:    "swap_exhausted",
		means: "Swap was used up, so anonymous memory could go nowhere.",
		needs: fmt.Sprintf("swap in use at least %s of memory.swap.max of the limiter or of an ancestor, or of the node's swap",
			phrase.Percent(fullShare)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.swap.max",
		match:     swapExhausted,
		advice: []advice{
			{layer: cgroupLayer, text: "Bound swap by memory.swap.max with the latency measured, or leave it off: " +
				"full swap only delays the kill."},
			{layer: application, text: "Find what grows: memory that is in swap and never comes back is often a leak."},
		},
	},
	{
		id:    "group_kill",
		means: "One process went over, and memory.oom.group=1 took all others of the cgroup with it.",
		needs: "victims with role group beside the chosen one. It explains less if the chosen one was the " +
			"container's process 1: the others would have ended with it",
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.oom.group; KubeletConfiguration " +
			"singleProcessOOMKill",
		match: groupKill,
		advice: []advice{
			{layer: kubernetes, text: "If the container can live on without the process that was chosen: " +
				"singleProcessOOMKill: true in the kubelet's configuration.", when: ofAPod},
			{layer: kubernetes, text: "Put processes whose use swings into a container of their own.", when: ofAPod},
			{layer: cgroupLayer, text: "Set memory.oom.group to 0 if the others can live on (OOMPolicy=continue " +
				"for a unit of systemd).", when: noPod},
		},
	},
	{
		id:    "outside_containers",
		means: "Memory outside of pods and containers filled the node: host services, or the kernel itself.",
		needs: fmt.Sprintf("scope global; at least %s of the node used outside of kubepods, or a process "+
			"outside of any container with %s of it", phrase.Percent(outsideShare), phrase.Percent(hogShare)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons"`,
		match:     outsideContainers,
		advice: []advice{
			{layer: cgroupLayer, text: "Give the host service that grew a memory limit of its own (MemoryHigh=, " +
				"MemoryMax= of its unit)."},
			{layer: kubernetes, text: "Set system-reserved and kube-reserved to what the host " +
				"really uses.", when: &condition{"a node of Kubernetes", func(f *facts) bool { return f.kubepods() != nil }}},
			{layer: kernel, text: "Watch slabtop and /proc/meminfo for memory that no cgroup is charged for."},
		},
	},
}

func nodeOvercommitted(f *facts) *finding {
	l := f.limiter
	if f.is(events.ScopeMemcg) && l.Level == events.LevelKubepods {
		hit := &finding{
			text: "All pods together hit the limit that is set for them (node allocatable): the node is " +
				"overcommitted.",
			confidence: Certain, evidence: limitEvidence(f),
		}
		hit.evidence = append(hit.evidence, shareEvidence(f)...)

		return hit
	}

	n, pods := f.node, f.kubepods()
	if !f.is(events.ScopeGlobal) || pods == nil || pods.UsageBytes == nil || n.TotalBytes == nil {
		return nil
	}
	used := *pods.UsageBytes
	hit := &finding{}
	hit.add("used by all pods", phrase.Part(used, *n.TotalBytes), f.nodeSource("memory.current of kubepods"))

	// The node was read after the kill: where as much is free as the victim had, the pods'
	// usage no longer includes it.
	if n.AfterNS != nil && f.victim != nil && inContainer(&f.victim.Process) {
		if size := f.victimSize(); size > 0 && size <= max(value(n.AvailableBytes), value(n.FreeBytes)) {
			used += size
			hit.add("of the victim, a pod's, before", phrase.Size(size), f.source(fromKernel))
		}
	}

	hit.weight = share(used, *n.TotalBytes)
	if hit.weight < podsShare {
		return nil
	}

	hit.confidence = Likely
	if hit.weight >= podsMajor {
		hit.confidence = Certain
	}
	hit.text = fmt.Sprintf("The node ran out of memory, and pods had %s: they may use more than there is.",
		phrase.PartOf(used, *n.TotalBytes, "it"))

	return hit
}

// limitEvidence is never empty: whose limit it was is known at least.
func limitEvidence(f *facts) []events.Evidence {
	l := f.limiter
	if l.LimitBytes == nil {
		return []events.Evidence{item("limiter", f.limit(), f.source(fromKernel))}
	}

	if l.UsageBytes == nil {
		return []events.Evidence{item(f.limit(), phrase.Size(*l.LimitBytes), f.source(fromCounters))}
	}

	return []events.Evidence{item("used of "+f.limit(), phrase.Part(*l.UsageBytes, *l.LimitBytes), f.source(fromCounters))}
}

// shareEvidence has the largest cgroups that share the limit.
func shareEvidence(f *facts) []events.Evidence {
	const shown = 3
	var list []events.Evidence

	for _, s := range f.shares {
		if s.UsageBytes == nil {
			continue
		}

		ratio := phrase.Size(*s.UsageBytes)
		if s.MaxBytes != nil {
			ratio = phrase.Part(*s.UsageBytes, *s.MaxBytes)
		} else {
			ratio += ", no limit of its own"
		}

		list = append(list, item("used by "+phrase.Cgroup(s.Workload, &s.Cgroup), ratio, f.source("memory.current")))
		if len(list) == shown {
			break
		}
	}

	return list
}

// ownLimit reports whether the limit is the victim's own. Known is false where the
// evidence does not decide.
func (f *facts) ownLimit() (own, known bool) {
	l := f.limiter
	switch l.Level {
	case events.LevelContainer, events.LevelService: // a cgroup below is still its own
		return true, true
	case events.LevelQoS, events.LevelKubepods:
		return false, true
	}

	if f.victim == nil {
		return false, l.Level == events.LevelPod
	}

	if equal, ok := l.Cgroup.Same(f.victim.Cgroup); ok {
		return equal, true
	}

	for i := range f.ancestry {
		if f.ancestry[i].Below {
			return false, true
		}
	}
	// A pod's processes are in its containers.
	return false, l.Level == events.LevelPod
}

func ancestorLimit(f *facts) *finding {
	if !f.is(events.ScopeMemcg) {
		return nil
	}

	if own, known := f.ownLimit(); own || !known {
		return nil
	}
	hit := &finding{confidence: Certain, evidence: limitEvidence(f)}

	hit.text = "The limit was not the container's own: " + f.limit() + " was hit"
	if f.victim == nil || !inContainer(&f.victim.Process) {
		hit.text = "The limit was not of the victim's own cgroup: " + f.limit() + " was hit"
	}

	if r := f.ownCgroup(); r != nil && r.UsageBytes != nil {
		name := phrase.Cgroup(r.Workload, &r.Cgroup)

		switch max := f.limiter.LimitBytes; {
		case r.MaxBytes == nil:
			hit.add("used in "+name, phrase.Size(*r.UsageBytes)+", no limit of its own", f.source(fromCounters))
		default:
			hit.text += fmt.Sprintf(" while %s had used %s", name, phrase.Part(*r.UsageBytes, *r.MaxBytes))

			hit.add("used of the own limit of "+name, phrase.Part(*r.UsageBytes, *r.MaxBytes), f.source(fromCounters))

			if max != nil && *r.MaxBytes > *max {
				hit.text += ", which is above that limit and can never be reached"
			}
		}
	}
	hit.text += "."

	if len(f.shares) > 0 {
		top := f.shares[0]
		if top.UsageBytes != nil && f.limiter.UsageBytes != nil && share(*top.UsageBytes, *f.limiter.UsageBytes) >= topShare {
			hit.text += fmt.Sprintf(" The most, %s, was in %s.",
				phrase.PartOf(*top.UsageBytes, *f.limiter.UsageBytes, "it"), phrase.Cgroup(top.Workload, &top.Cgroup))
		}
		hit.evidence = append(hit.evidence, shareEvidence(f)...)
	}

	return hit
}

// ownCgroup is the victim's cgroup below the limiter, or the lowest that is known.
func (f *facts) ownCgroup() *events.Rung {
	var nearest *events.Rung

	for i := range f.ancestry {
		r := &f.ancestry[i]
		if !r.Below {
			continue
		}

		if f.victim != nil {
			if equal, known := r.Cgroup.Same(f.victim.Cgroup); known && equal {
				return r
			}
		}

		if nearest == nil {
			nearest = r
		}
	}

	return nearest
}

func swapExhausted(f *facts) *finding {
	// In cgroup v1 the second counter counts memory and swap together.
	if f.is(events.ScopeMemcg) && !f.v1() {
		if hit := f.cgroupSwapExhausted(); hit != nil {
			return hit
		}
	}

	n := f.node
	if !f.is(events.ScopeMemcg, events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy) ||
		n.SwapTotalBytes == nil || n.SwapFreeBytes == nil {
		return nil
	}

	used := less(*n.SwapTotalBytes, *n.SwapFreeBytes)
	if !isFull(&used, n.SwapTotalBytes) {
		return nil
	}

	// Minor: where the whole node is short, its swap is full as well, whoever filled it.
	return &finding{
		text: fmt.Sprintf("The node's swap, %s, was used up, so anonymous memory could go nowhere.",
			phrase.Size(*n.SwapTotalBytes)),
		confidence: Certain, minor: true,
		evidence: []events.Evidence{item("used of the node's swap", phrase.Part(used, *n.SwapTotalBytes), f.nodeSource("/proc/meminfo"))},
	}
}

// cgroupSwapExhausted is about memory.swap.max of the limiter, else of an ancestor.
func (f *facts) cgroupSwapExhausted() *finding {
	finding := func(whose, file string, usage, limit uint64) *finding {
		return &finding{
			text: fmt.Sprintf("All swap that %s may use, %s, was used up, so anonymous memory could go nowhere.",
				whose, phrase.Size(limit)),
			confidence: Certain,
			evidence:   []events.Evidence{item("used of "+file, phrase.Part(usage, limit), f.source(fromCounters))},
		}
	}
	if l := f.limiter; isFull(l.SwapUsageBytes, l.SwapLimitBytes) {
		return finding("it", "memory.swap.max", *l.SwapUsageBytes, *l.SwapLimitBytes)
	}

	for i := range f.ancestry {
		if r := &f.ancestry[i]; !r.Below && isFull(r.SwapUsageBytes, r.SwapMaxBytes) {
			name := phrase.Cgroup(r.Workload, &r.Cgroup)
			return finding(name, "memory.swap.max of "+name, *r.SwapUsageBytes, *r.SwapMaxBytes)
		}
	}

	return nil
}

func isFull(usage, limit *uint64) bool {
	return usage != nil && limit != nil && *limit > 0 && share(*usage, *limit) >= fullShare
}

func groupKill(f *facts) *finding {
	members := 0

	for i := range f.victims {
		if f.victims[i].Role == events.RoleGroup {
			members++
		}
	}

	if members == 0 || f.victim == nil {
		return nil
	}

	k, at := f.killer, "of its cgroup"
	if k.GroupCgroup != nil || k.GroupLevel != "" {
		at = "of the " + string(k.GroupLevel)
		if k.GroupLevel == "" || k.GroupLevel == events.LevelCgroup {
			at = "of " + phrase.Cgroup(nil, k.GroupCgroup)
		}
	}

	hit := &finding{
		text: fmt.Sprintf("%s was chosen, and %s died with it because memory.oom.group %s is set.",
			process(&f.victim.Process), phrase.Plural(members, "more process"), at),
		confidence: Certain,
		minor:      value(f.victim.IsContainerInit),
		evidence: []events.Evidence{
			item("victims by role", fmt.Sprintf("1 chosen, %d by group", members), f.source(fromKernel)),
		},
	}
	if t := f.trigger; t != nil && t.PID != f.victim.PID {
		hit.add("whose allocation failed", process(t), f.source(fromKernel))
	}

	if size := f.victimSize(); size > 0 {
		hit.add("memory of the chosen one", phrase.Size(size), f.source(fromKernel))
	}

	return hit
}

func notMemory(f *facts) *finding {
	k := f.killer
	switch {
	case !f.is(events.ScopeUser), k.Reason == "eviction", k.Reason == "memory_pressure",
		k.Path == "systemd-oomd", k.Path == "oomd", k.Path == "earlyoom", k.Path == "nohang":
		return nil
	}
	hit := &finding{confidence: Likely}
	var numbers []string

	for i := range f.ancestry {
		r := &f.ancestry[i]
		if r.MaxBytes == nil {
			continue
		}

		if r.UsageBytes == nil || share(*r.UsageBytes, *r.MaxBytes) >= idleShare || *r.MaxBytes == 0 {
			return nil
		}
		ratio := phrase.Part(*r.UsageBytes, *r.MaxBytes)
		numbers = append(numbers, string(r.Level)+" "+ratio)
		hit.add("used of the limit of "+phrase.Cgroup(r.Workload, &r.Cgroup), ratio, f.source("page counters at the signal"))
	}

	if len(numbers) == 0 {
		return nil
	}

	n := f.node
	if n.AvailableBytes != nil && n.TotalBytes != nil {
		if share(*n.AvailableBytes, *n.TotalBytes) < idleAvailable {
			return nil
		}

		hit.add("available on the node", phrase.Part(*n.AvailableBytes, *n.TotalBytes), f.nodeSource("/proc/meminfo"))
	}

	if n.PSISome != nil {
		if n.PSISome.Avg10 >= idlePSI {
			return nil
		}
		hit.confidence = Certain
		hit.add("PSI memory some, 10 s", fmt.Sprintf("%.1f %%", n.PSISome.Avg10), f.nodeSource("/proc/pressure/memory"))
	}

	hit.text = "This was not about memory: no limit above it was near (" + numbers[0]
	if len(numbers) > 1 {
		hit.text += fmt.Sprintf(", and %s above", phrase.Plural(len(numbers)-1, "more limit"))
	}
	hit.text += ")."

	return hit
}
