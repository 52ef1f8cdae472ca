// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// fullShare of swap in use is as good as all of it: its slots are handed out in
	// batches for each CPU (mm/swap_slots.c, or clusters).
	fullShare = 0.95
	// outsideShare of the node outside of pods is more than hosts reserve as a rule.
	outsideShare, outsideMajor = 0.30, 0.50
	// podsShare of the node in pods: they, not the host, filled it.
	podsShare, podsMajor = 0.50, 0.70
	// hogShare of the node in one process outlives any doubt about the rest.
	hogShare = 0.25
	// blameShare of it is worth being named.
	blameShare = 0.25
	// topShare is what one of several must have to be called the one.
	topShare = 0.40
)

// boundaryRules are about limits and ways to the victim where one does not look
// first.
var boundaryRules = []rule{
	{
		id: "node_overcommitted", class: classBoundary,
		means:     "The pods together used more than the node, or what is set aside for pods, has: their limits add up to more.",
		needs:     fmt.Sprintf("the limit of kubepods was hit; or scope global, and kubepods has at least %s of the node", percent(podsShare)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons", node allocatable`,
		match:     nodeOvercommitted,
		advice: []advice{
			{layer: kubernetes, text: "Set requests near the 95th to 99th percentile of real peaks, so that the scheduler knows; keep limits within 20 to 40 % above."},
			{layer: kubernetes, text: "Make what is critical Guaranteed, and add nodes by the cluster autoscaler."},
			{layer: kubernetes, text: "Raise evictionHard and evictionSoft for memory.available, so that the kubelet acts before the kernel.", when: &condition{"the node ran out", func(f *facts) bool { return f.is(events.ScopeGlobal) }}},
		},
	},
	{
		id: "ancestor_limit", class: classBoundary,
		means:     "The limit that was hit is not the container's own: it is of its pod, its QoS class, of all pods, or of a slice above it.",
		needs:     "scope memcg; the limiter is not the victim's own cgroup or container",
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Pod-level CPU and memory resources"`,
		match:     ancestorLimit,
		advice: []advice{
			{layer: kubernetes, text: "Give each container of the pod a limit of its own, and the pod as much as they have together, with what its volumes in memory take.", when: &condition{"the pod's limit", func(f *facts) bool { return f.limiter().Level == events.LevelPod }}},
			{layer: kubernetes, text: "Look at who shares this limit: set limits for those that have none, and move out those whose use swings."},
			{layer: cgroupLayer, text: "Set memory.high below memory.max on those who use most, as an early brake.", when: onV2},
		},
	},
	{
		id: "swap_exhausted", class: classBoundary,
		means:     "Swap was used up, so anonymous memory could go nowhere.",
		needs:     fmt.Sprintf("swap in use at least %s of memory.swap.max of the limiter or of an ancestor, or of the node's swap", percent(fullShare)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.swap.max",
		match:     swapExhausted,
		advice: []advice{
			{layer: cgroupLayer, text: "Bound swap by memory.swap.max with the latency measured, or leave it off: full swap only delays the kill."},
			{layer: application, text: "Find what grows: memory that is in swap and never comes back is often a leak."},
		},
	},
	{
		id: "group_kill", class: classBoundary,
		means:     "One process went over, and memory.oom.group=1 took all others of the cgroup with it.",
		needs:     "victims with role group beside the chosen one. It explains less if the chosen one was the container's process 1: the others would have ended with it",
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.oom.group; KubeletConfiguration singleProcessOOMKill",
		match:     groupKill,
		advice: []advice{
			{layer: kubernetes, text: "If the container can live on without the process that was chosen: singleProcessOOMKill: true in the kubelet's configuration.", when: ofAPod},
			{layer: kubernetes, text: "Put processes whose use swings into a container of their own.", when: ofAPod},
			{layer: cgroupLayer, text: "Set memory.oom.group to 0 if the others can live on (OOMPolicy=continue for a unit of systemd).", when: noPod},
		},
	},
	{
		id: "outside_containers", class: classBoundary,
		means:     "Memory outside of pods and containers filled the node: host services, or the kernel itself.",
		needs:     fmt.Sprintf("scope global; at least %s of the node used outside of kubepods, or a process outside of any container with %s of it", percent(outsideShare), percent(hogShare)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons"`,
		match:     outsideContainers,
		advice: []advice{
			{layer: cgroupLayer, text: "Give the host service that grew a memory limit of its own (MemoryHigh=, MemoryMax= of its unit)."},
			{layer: kubernetes, text: "Set system-reserved and kube-reserved to what the host really uses.", when: &condition{"a node of Kubernetes", func(f *facts) bool { return f.kubepods() != nil }}},
			{layer: kernel, text: "Watch slabtop and /proc/meminfo for memory that no cgroup is charged for."},
		},
	},
}

func nodeOvercommitted(f *facts) *finding {
	l := f.limiter()
	if f.is(events.ScopeMemcg) && l.Level == events.LevelKubepods {
		hit := &finding{
			text:       "All pods together hit the limit that is set for them (node allocatable): the node is overcommitted.",
			confidence: Certain, evidence: limitEvidence(f),
		}
		hit.evidence = append(hit.evidence, shareEvidence(f)...)

		return hit
	}

	n, pods := f.node(), f.kubepods()
	if !f.is(events.ScopeGlobal) || pods == nil || pods.UsageBytes == nil || n.TotalBytes == nil {
		return nil
	}
	used := *pods.UsageBytes
	hit := &finding{evidence: []events.Evidence{item("used by all pods", of(used, *n.TotalBytes), f.nodeSource("memory.current of kubepods"))}}
	// What was read after the kill may no longer have the victim's memory: then it
	// is free again.
	if n.AfterNS != nil && f.victim != nil && inContainer(&f.victim.Process) {
		if size := f.victimSize(); size > 0 && size <= max(value(n.AvailableBytes), value(n.FreeBytes)) {
			used += size
			hit.evidence = append(hit.evidence, item("of the victim, a pod's, before", phrase.Size(size), f.source(fromKernel)))
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
	hit.text = fmt.Sprintf("The node ran out of memory, and pods had %s: they may use more than there is.", within(used, *n.TotalBytes, "it"))

	return hit
}

// kubepods is the cgroup of all pods, as far as the node's state has it.
func (f *facts) kubepods() *events.Share {
	list := f.node().Cgroups
	for i := range list {
		if list[i].Level == events.LevelKubepods {
			return &list[i]
		}
	}

	return nil
}

func inContainer(p *events.Process) bool {
	return p.Workload != nil && (p.Workload.PodUID != "" || p.Workload.ContainerID != "" || p.Workload.Container != "")
}

// victimSize is what the victim had in memory.
func (f *facts) victimSize() uint64 {
	if f.victim == nil {
		return 0
	}

	return value(sum(f.victim.AnonRSSBytes, f.victim.FileRSSBytes, f.victim.ShmemRSSBytes))
}

// limitEvidence is never empty: whose limit it was is known at least.
func limitEvidence(f *facts) []events.Evidence {
	l := f.limiter()
	if l.LimitBytes == nil {
		return []events.Evidence{item("limiter", f.whose(), f.source(fromKernel))}
	}

	if l.UsageBytes == nil {
		return []events.Evidence{item(f.whose(), phrase.Size(*l.LimitBytes), f.source(fromCounters))}
	}

	return []events.Evidence{item("used of "+f.whose(), of(*l.UsageBytes, *l.LimitBytes), f.source(fromCounters))}
}

// shareEvidence has the largest of those who share the limit.
func shareEvidence(f *facts) []events.Evidence {
	const shown = 3
	var list []events.Evidence

	for _, s := range f.inc.Shares {
		if s.UsageBytes == nil {
			continue
		}

		ratio := phrase.Size(*s.UsageBytes)
		if s.MaxBytes != nil {
			ratio = of(*s.UsageBytes, *s.MaxBytes)
		} else {
			ratio += ", no limit of its own"
		}

		if list = append(list, item("used by "+called(s.Workload, &s.Cgroup), ratio, f.source("memory.current"))); len(list) == shown {
			break
		}
	}

	return list
}

// ownLimit tells whether the limit is the victim's own. Known is false where it
// cannot be told.
func (f *facts) ownLimit() (own, known bool) {
	l := f.limiter()
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

	for i := range f.inc.Ladder {
		if f.inc.Ladder[i].Below {
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

	hit.text = "The limit was not the container's own: " + f.whose() + " was hit"
	if f.victim == nil || !inContainer(&f.victim.Process) {
		hit.text = "The limit was not of the victim's own cgroup: " + f.whose() + " was hit"
	}

	if r := f.ownRung(); r != nil && r.UsageBytes != nil {
		switch max := f.limiter().LimitBytes; {
		case r.MaxBytes == nil:
			hit.evidence = append(hit.evidence, item("used in "+called(r.Workload, &r.Cgroup), phrase.Size(*r.UsageBytes)+", no limit of its own", f.source(fromCounters)))
		default:
			hit.text += fmt.Sprintf(" while %s had used %s", called(r.Workload, &r.Cgroup), of(*r.UsageBytes, *r.MaxBytes))

			hit.evidence = append(hit.evidence, item("used of the own limit of "+called(r.Workload, &r.Cgroup), of(*r.UsageBytes, *r.MaxBytes), f.source(fromCounters)))
			if max != nil && *r.MaxBytes > *max {
				hit.text += ", which is above that limit and can never be reached"
			}
		}
	}
	hit.text += "."

	if len(f.inc.Shares) > 0 {
		top := f.inc.Shares[0]
		if top.UsageBytes != nil && f.limiter().UsageBytes != nil && share(*top.UsageBytes, *f.limiter().UsageBytes) >= topShare {
			hit.text += fmt.Sprintf(" The most, %s, was in %s.", within(*top.UsageBytes, *f.limiter().UsageBytes, "it"), called(top.Workload, &top.Cgroup))
		}
		hit.evidence = append(hit.evidence, shareEvidence(f)...)
	}

	return hit
}

// ownRung is the victim's rung of the ladder, or the nearest below the limiter.
func (f *facts) ownRung() *events.Rung {
	var nearest *events.Rung

	for i := range f.inc.Ladder {
		r := &f.inc.Ladder[i]
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
	full := func(usage, limit *uint64) bool {
		return usage != nil && limit != nil && *limit > 0 && share(*usage, *limit) >= fullShare
	}
	// In cgroup v1 the second counter has memory and swap together.
	v2 := !f.v1()

	l := f.limiter()
	if f.is(events.ScopeMemcg) {
		if full(l.SwapUsageBytes, l.SwapLimitBytes) && v2 {
			return &finding{
				text:       fmt.Sprintf("All swap that it may use, %s, was used up, so anonymous memory could go nowhere.", phrase.Size(*l.SwapLimitBytes)),
				confidence: Certain,
				evidence:   []events.Evidence{item("used of memory.swap.max", of(*l.SwapUsageBytes, *l.SwapLimitBytes), f.source(fromCounters))},
			}
		}

		for i := range f.inc.Ladder {
			r := &f.inc.Ladder[i]
			if !r.Below && v2 && full(r.SwapUsageBytes, r.SwapMaxBytes) {
				return &finding{
					text: fmt.Sprintf("All swap that %s may use, %s, was used up, so anonymous memory could go nowhere.",
						called(r.Workload, &r.Cgroup), phrase.Size(*r.SwapMaxBytes)),
					confidence: Certain,
					evidence: []events.Evidence{item("used of memory.swap.max of "+called(r.Workload, &r.Cgroup),
						of(*r.SwapUsageBytes, *r.SwapMaxBytes), f.source(fromCounters))},
				}
			}
		}
	}

	n := f.node()
	if !f.is(events.ScopeMemcg, events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy) || n.SwapTotalBytes == nil || n.SwapFreeBytes == nil {
		return nil
	}

	used := less(*n.SwapTotalBytes, *n.SwapFreeBytes)
	if !full(&used, n.SwapTotalBytes) {
		return nil
	}
	// Where the whole node is short, full swap goes with it, whoever filled it.
	return &finding{
		text:       fmt.Sprintf("The node's swap, %s, was used up, so anonymous memory could go nowhere.", phrase.Size(*n.SwapTotalBytes)),
		confidence: Certain, minor: true,
		evidence: []events.Evidence{item("used of the node's swap", of(used, *n.SwapTotalBytes), f.nodeSource("/proc/meminfo"))},
	}
}

func groupKill(f *facts) *finding {
	members := 0

	for i := range f.inc.Victims {
		if f.inc.Victims[i].Role == events.RoleGroup {
			members++
		}
	}

	if members == 0 || f.victim == nil {
		return nil
	}

	k, at := f.killer(), "of its cgroup"
	if k.GroupCgroup != nil || k.GroupLevel != "" {
		at = "of the " + string(k.GroupLevel)
		if k.GroupLevel == "" || k.GroupLevel == events.LevelCgroup {
			at = "of " + called(nil, k.GroupCgroup)
		}
	}

	hit := &finding{
		text: fmt.Sprintf("%s was chosen, and %s died with it because memory.oom.group %s is set.",
			process(&f.victim.Process), plural(members, "more process"), at),
		confidence: Certain,
		minor:      value(f.victim.IsContainerInit),
		evidence: []events.Evidence{
			item("victims by role", fmt.Sprintf("1 chosen, %d by group", members), f.source(fromKernel)),
		},
	}
	if t := f.inc.Trigger; t != nil && t.PID != f.victim.PID {
		hit.evidence = append(hit.evidence, item("whose allocation failed", process(t), f.source(fromKernel)))
	}

	if size := f.victimSize(); size > 0 {
		hit.evidence = append(hit.evidence, item("memory of the chosen one", phrase.Size(size), f.source(fromKernel)))
	}

	return hit
}

func outsideContainers(f *facts) *finding {
	n := f.node()
	if !f.is(events.ScopeGlobal) {
		return nil
	}

	total := n.TotalBytes
	if total == nil {
		total = f.limiter().LimitBytes
	}

	if total == nil || *total == 0 {
		return nil
	}
	hit := &finding{}

	if pods := f.kubepods(); pods != nil && pods.UsageBytes != nil {
		idle := n.AvailableBytes
		if idle == nil {
			idle = n.FreeBytes
		}

		if idle != nil {
			outside := less(*total, *idle+*pods.UsageBytes)

			hit.weight = share(outside, *total)
			if hit.weight >= outsideShare {
				hit.text = fmt.Sprintf("Memory outside of pods filled the node: %s, while all pods had %s", within(outside, *total, "it"), phrase.Size(*pods.UsageBytes))
				hit.evidence = []events.Evidence{
					item("used outside of pods", of(outside, *total), f.nodeSource("/proc/meminfo and memory.current of kubepods")),
					item("used by all pods", of(*pods.UsageBytes, *total), f.nodeSource("memory.current of kubepods")),
				}
			}
		}
	}
	hog, size := f.hostHog()

	hogs := hog != nil && share(size, *total) >= hogShare
	if hit.text == "" {
		if !hogs {
			return nil
		}
		hit.weight = share(size, *total)
		hit.text = fmt.Sprintf("%s, outside of any container, had %s", process(hog), within(size, *total, "the node's memory"))
	}

	hit.confidence = Likely
	if hit.weight >= outsideMajor {
		hit.confidence = Certain
	}
	hit.text += f.blame(hit, hog, size, *total) + "."

	return hit
}

// blame names what had the better part of the memory outside of containers, and
// adds it to the evidence.
func (f *facts) blame(hit *finding, hog *events.Process, size, total uint64) string {
	outside := uint64(hit.weight * float64(total))
	byHog := len(hit.evidence) == 0 // then the text has the process already
	var most []string

	name := func(what string, bytes uint64) {
		if !byHog && share(bytes, outside) >= blameShare {
			most = append(most, what+" with "+phrase.Size(bytes))
		}
	}
	if hog != nil {
		name(process(hog), size)
		hit.evidence = append(hit.evidence, item("largest process outside of containers", process(hog)+" "+of(size, total), f.source("memory of the processes")))
	}

	if c := f.hostCgroup(); c != nil {
		name(called(c.Workload, &c.Cgroup), *c.UsageBytes)
		hit.evidence = append(hit.evidence, item("largest cgroup outside of pods", called(c.Workload, &c.Cgroup)+" "+of(*c.UsageBytes, total), f.nodeSource("memory.current")))
	}

	n := f.node()
	if slab := sum(n.SlabUnreclaimable, n.SlabReclaimable); slab != nil {
		name("the kernel's slab", *slab)

		hit.evidence = append(hit.evidence, item("slab", of(*slab, total), f.nodeSource("/proc/meminfo")))
		if len(n.Slabs) > 0 {
			hit.evidence = append(hit.evidence, item("largest slab cache", clip(n.Slabs[0].Name)+" "+phrase.Size(n.Slabs[0].Bytes), f.nodeSource("/proc/slabinfo")))
		}
	}

	switch {
	case byHog:
		return ""
	case len(most) == 0:
		return "; no process, cgroup or slab that is known explains it"
	}

	return ": " + strings.Join(most, ", ")
}

// hostHog is the largest process that is known to run outside of containers.
func (f *facts) hostHog() (*events.Process, uint64) {
	var hog *events.Process
	var most uint64
	try := func(p *events.Process, size uint64) {
		if onHost(p) && size > most {
			hog, most = p, size
		}
	}

	for i := range f.inc.Victims {
		v := &f.inc.Victims[i]
		try(&v.Process, value(sum(v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes)))
	}

	for i := range f.inc.Candidates {
		try(&f.inc.Candidates[i].Process, candidateSize(&f.inc.Candidates[i]))
	}

	return hog, most
}

// onHost: its cgroup is known, and neither a pod's nor a container's.
func onHost(p *events.Process) bool {
	if p.Cgroup == nil || p.Cgroup.Path == "" || inContainer(p) {
		return false
	}

	return !strings.Contains(p.Cgroup.Path, "kubepods") && !containerIDs.MatchString(p.Cgroup.Path)
}

func candidateSize(c *events.Candidate) uint64 {
	if c.RSSBytes != nil {
		return *c.RSSBytes
	}

	return value(sum(c.AnonRSSBytes, c.FileRSSBytes, c.ShmemRSSBytes))
}

// hostCgroup is the largest cgroup outside of pods, as deep as one of the second
// level has the better part of it.
func (f *facts) hostCgroup() *events.Share {
	list := f.node().Cgroups
	host := func(s events.Share) bool {
		switch s.Level {
		case events.LevelKubepods, events.LevelQoS, events.LevelPod, events.LevelContainer, events.LevelNode:
			return false
		}

		return s.UsageBytes != nil && s.Cgroup.Path != "/" && !strings.Contains(s.Cgroup.Path, "kubepods")
	}

	var top *events.Share
	for i := range list {
		if host(list[i]) && (top == nil || *list[i].UsageBytes > *top.UsageBytes) {
			top = &list[i]
		}
	}

	if top == nil {
		return nil
	}

	if i := slices.IndexFunc(list, func(s events.Share) bool {
		return host(s) && strings.HasPrefix(s.Cgroup.Path, top.Cgroup.Path+"/") && *s.UsageBytes*2 >= *top.UsageBytes
	}); i >= 0 {
		return &list[i]
	}

	return top
}
