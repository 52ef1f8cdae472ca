// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// fullShare of swap in use counts as all of it: slots are allocated in batches for
	// each CPU (mm/swap_slots.c, or clusters).
	fullShare = 0.95
	// outsideShare of the node outside pods is more than most hosts reserve.
	outsideShare, outsideMajor = 0.30, 0.50
	// podsShare of the node in pods shows that they filled it, not the host.
	podsShare, podsMajor = 0.50, 0.70
	// hogShare of the node in one process is enough, whatever is known of the rest.
	hogShare = 0.25
	// blameShare of the memory outside pods is worth naming.
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

// The conditions of advice on placement.
var (
	nodeRanOut   = &condition{"the node ran out of memory", func(f *facts) bool { return f.is(events.ScopeGlobal) }}
	podLimit     = &condition{"the pod's limit", func(f *facts) bool { return f.limiter.Level == events.LevelPod }}
	onKubernetes = &condition{"a Kubernetes node", func(f *facts) bool { return f.kubepods() != nil }}

	noKubernetes = &condition{"not of Kubernetes", func(f *facts) bool { return !f.concernsKubernetes() }}
	guestLimit   = &condition{"the limit of a guest", func(f *facts) bool { return f.limiter.Level == events.LevelGuest }}

	nodeContainerLimit = &condition{"the limit of a container with others inside", (*facts).isNodeContainer}
)

// placementRules are about limits, and ways to the victim, that one does not check first.
var placementRules = []rule{
	{
		id: "not_memory",
		means: "Exit status 137 looks like an OOM kill, but this was not one: memory was left " +
			"at every limit above the process.",
		needs: fmt.Sprintf("a kill from user space that was not for memory, and no clean-up after an OOM kill in the same "+
			"workload in the %.0f minutes before; usage below %s of "+
			"every limit in the memcg ancestry, with at least one limit; PSI some (10 s), "+
			"where known, below %.0f %%; MemAvailable, where known, at least %s of the node",
			oom.FollowWithin.Minutes(), phrase.Percent(idleShare), idlePSI, phrase.Percent(idleAvailable)),
		reference: `Kubernetes "Assign Memory Resources to Containers and Pods", exit code 137`,
		match:     notMemory,
		advice: []advice{
			{layer: application, text: "Do not raise the memory limit because of this kill; " +
				"find out why the sender sent SIGKILL."},
		},
	},
	{
		id: "node_overcommitted",
		means: "All pods together used up the memory of the node, or all that is allocatable to pods: their limits " +
			"did not prevent it.",
		needs: fmt.Sprintf("the limit of kubepods was hit; or scope global, and kubepods uses "+
			"at least %s of the node",
			phrase.Percent(podsShare)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons", node allocatable`,
		match:     nodeOvercommitted,
		advice: []advice{
			{layer: kubernetes, text: "Set requests close to the p95 to p99 of real usage so " +
				"that the scheduler can plan for it, and keep limits within 20 to 40 % above the requests."},
			{layer: kubernetes, text: "Make critical pods Guaranteed, and add nodes with the " +
				"cluster autoscaler."},
			raiseEviction.only(nodeRanOut),
		},
	},
	{
		id: "protected",
		means: "memory.min of cgroups below the limit protects much of it from reclaim, so only the rest could " +
			"give way.",
		needs: fmt.Sprintf("scope memcg or global; usage below the limiter of at least %s of the limit or the node "+
			"that memory.min protects. The limiter's own memory.min does not count, and memory.low yields before a "+
			"kill. It explains less below %s", phrase.Percent(notableShare), phrase.Percent(majorShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.min; Kubernetes "Pod Quality of Service Classes", ` +
			`memory QoS`,
		match: protected,
		advice: []advice{
			{layer: cgroupLayer, text: "Lower memory.min of the cgroups below, or use memory.low, which yields " +
				"before the kernel kills."},
			{layer: kubernetes, text: "Keep the sum of the protected requests well below the limit that they " +
				"share: memory QoS sets memory.min from them.", when: onKubernetes},
		},
	},
	reservedRule,
	{
		id: "ancestor_limit",
		means: "The limit that was hit is not that of the victim's own container, service or job. It belongs to the pod, " +
			"the QoS class, all pods, a slice, or a guest or node container around it.",
		needs: "scope memcg; the limiter is neither the victim's own cgroup nor its innermost workload, nor the pod of its " +
			"only container, nor a pod whose limit is that of its container",
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Pod-level CPU and ` +
			`memory resources"`,
		match: ancestorLimit,
		advice: []advice{
			{layer: kubernetes, text: "Give each container of the pod its own limit, and set " +
				"the pod's limit to their sum plus the memory of its in-memory volumes.", when: podLimit},
			{layer: kubernetes, text: "Check which workloads share this limit: set limits on " +
				"those without one, and move out those whose usage fluctuates."},
			{layer: cgroupLayer, text: "Check which cgroups share this limit: set limits on those without one, " +
				"and move out those whose usage fluctuates.", when: noKubernetes},
			{layer: cgroupLayer, text: "Give the guest more memory (pct set --memory, incus config set limits.memory, " +
				"lxc.cgroup2.memory.max, MemoryMax= of its unit), or limit what runs in it.", when: guestLimit},
			{layer: cgroupLayer, text: "Give the node container more memory (docker update --memory): the kubelet or runtime " +
				"inside plans with the memory of the whole machine unless it is configured otherwise.", when: nodeContainerLimit},
			throttleEarly,
		},
	},
	{
		id:    "swap_exhausted",
		means: "Swap was used up, so no more anonymous memory could be swapped out.",
		needs: fmt.Sprintf("swap usage at least %s of memory.swap.max of the limiter or of an "+
			"ancestor, or of the node's swap",
			phrase.Percent(fullShare)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.swap.max",
		match:     swapExhausted,
		advice: []advice{
			{layer: cgroupLayer, text: "Limit swap with memory.swap.max and measure its " +
				"latency, or turn it off: full swap only delays the kill."},
			{layer: application, text: "Look for memory that grows: pages that stay in swap " +
				"and are never read back are often a leak."},
		},
	},
	{
		id: "group_kill",
		means: "One process was chosen, and memory.oom.group=1 made the kernel kill all other " +
			"processes of the cgroup with it.",
		needs: "victims with role group in addition to the chosen one. It explains less if the " +
			"chosen one was PID 1 of the container: the others would have died with it anyway",
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.oom.group; KubeletConfiguration " +
			"singleProcessOOMKill",
		match: groupKill,
		advice: []advice{
			{layer: kubernetes, text: "Set singleProcessOOMKill: true in the kubelet's " +
				"configuration if the container can run without the chosen process.", when: ofAPod},
			{layer: kubernetes, text: "Move processes whose usage fluctuates into a container of their own.", when: ofAPod},
			{layer: cgroupLayer, text: "Set memory.oom.group to 0 if the other processes can " +
				"run without the chosen one (OOMPolicy=continue for a systemd unit).", when: noPod},
		},
	},
	{
		id:    "outside_containers",
		means: "Memory outside pods and containers filled the node: host services, or the kernel itself.",
		needs: fmt.Sprintf("scope global; at least %s of the node used outside kubepods, or "+
			"one process outside any container with at least %s of it", phrase.Percent(outsideShare), phrase.Percent(hogShare)),
		reference: `Kubernetes "Reserve Compute Resources for System Daemons"`,
		match:     outsideContainers,
		advice: []advice{
			{layer: cgroupLayer, text: "Set a memory limit on the host service that grew " +
				"(MemoryHigh=, MemoryMax= in its unit)."},
			{layer: kubernetes, text: "Set system-reserved and kube-reserved to the real usage of the host.", when: onKubernetes},
			{layer: kernel, text: "Monitor slabtop and /proc/meminfo for memory that is not " +
				"charged to any cgroup."},
		},
	},
}

func protected(f *facts) *finding {
	min, whole := f.limiter.ProtectedMinBytes, f.total()
	if min == nil || !f.is(events.ScopeMemcg, events.ScopeGlobal) || share(*min, whole) < notableShare {
		return nil
	}

	hit := &finding{
		text: fmt.Sprintf("memory.min protects %s from reclaim, so only the rest could be reclaimed.",
			phrase.PartOf(*min, whole, f.limit())),
		brief:      "memory.min protects " + phrase.ShareOf(*min, whole, f.whole()) + " from reclaim",
		confidence: certain, weight: share(*min, whole), minor: share(*min, whole) < majorShare,
	}
	hit.add("protected by memory.min of cgroups below", phrase.Part(*min, whole), f.source(fromCounters))

	if low := f.limiter.ProtectedLowBytes; low != nil {
		hit.add("protected by memory.low, which yields", phrase.Part(*low, whole), f.source(fromCounters))
	}

	return hit
}

func nodeOvercommitted(f *facts) *finding {
	l := f.limiter
	if f.is(events.ScopeMemcg) && l.Level == events.LevelKubepods && !l.Workload.Nested() {
		hit := &finding{
			text: "All pods together reached the limit set for them (node allocatable): the " +
				"node is overcommitted.",
			brief:      "the pods used all that is allocatable to them",
			confidence: certain, evidence: limitEvidence(f),
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
	if n.AfterNS != nil && f.victim != nil && isPod(f.victim.Workload) {
		if size := f.victimSize(); size > 0 && size <= max(value(n.AvailableBytes), value(n.FreeBytes)) {
			used += size
			hit.add("memory of the victim, in a pod, before the kill", phrase.Size(size), f.source(fromKernel))
		}
	}

	hit.weight = share(used, *n.TotalBytes)
	if hit.weight < podsShare {
		return nil
	}

	hit.confidence = likely
	if hit.weight >= podsMajor {
		hit.confidence = certain
	}
	hit.brief = "the pods used " + phrase.ShareOf(used, *n.TotalBytes, f.whole())
	hit.text = fmt.Sprintf("The node ran out of memory while pods used %s: it has no room for all of them.",
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

	return []events.Evidence{item("usage of "+f.limit(), phrase.Part(*l.UsageBytes, *l.LimitBytes), f.source(fromCounters))}
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

		list = append(list, item("used by "+phrase.Cgroup(s.Level, s.Workload, &s.Cgroup), ratio, f.source("memory.current")))
		if len(list) == shown {
			break
		}
	}

	return list
}

func ancestorLimit(f *facts) *finding {
	if !f.is(events.ScopeMemcg) || f.reserved() != nil {
		return nil
	}

	if own, known := f.isOwnLimit(); own || !known {
		return nil
	}
	hit := &finding{confidence: certain, evidence: limitEvidence(f), text: f.ancestorText(), brief: f.ancestorBrief()}

	top, own := f.largestUser(), f.ownCgroup()
	if own != nil && own.UsageBytes == nil {
		own = nil
	}

	ownIsTop := false
	if top != nil && own != nil {
		ownIsTop, _ = top.Cgroup.Same(&own.Cgroup)
	}

	largest := ""
	if top != nil {
		largest = phrase.PartOf(*top.UsageBytes, *f.limiter.UsageBytes, "the usage")
	}

	if r := own; r != nil {
		name := phrase.Cgroup(r.Level, r.Workload, &r.Cgroup)

		subject := phrase.Capitalize(name)
		if strings.HasSuffix(hit.text, "not that of "+name+".") {
			subject = "It"
		}

		short := clip(name)
		if r.Level == events.LevelContainer && r.Workload != nil {
			short = shortPlace(r.Workload)
		}

		switch max := f.limiter.LimitBytes; {
		case r.MaxBytes == nil:
			hit.brief = short + " has no limit of its own"
			hit.add("used in "+name, phrase.Size(*r.UsageBytes)+", no limit of its own", f.source(fromCounters))
		default:
			hit.text += fmt.Sprintf(" %s had used %s of its %s (%s)", subject, phrase.Size(*r.UsageBytes),
				phrase.Size(*r.MaxBytes), phrase.Percent(share(*r.UsageBytes, *r.MaxBytes)))
			if ownIsTop {
				hit.text += ", and was the largest user"
				largest = ""
			}
			hit.text += "."

			hit.brief = short + " was at " + phrase.ShareOf(*r.UsageBytes, *r.MaxBytes, "its own limit")

			hit.add("usage of the own limit of "+name, phrase.Part(*r.UsageBytes, *r.MaxBytes), f.source(fromCounters))

			if max != nil && *r.MaxBytes > *max {
				hit.text += " Its limit is higher than " + f.limit() + ", so it can never take effect."
				hit.brief = short + " has a higher limit, which never applies"
			}
		}
	}

	if largest != "" {
		hit.text += fmt.Sprintf(" The largest user was %s with %s.", phrase.Cgroup(top.Level, top.Workload, &top.Cgroup), largest)
	}

	hit.evidence = append(hit.evidence, shareEvidence(f)...)

	return hit
}

// largestUser is the cgroup with most of the limiter's usage, nil if none has that much.
func (f *facts) largestUser() *events.Share {
	if len(f.shares) == 0 || f.limiter.UsageBytes == nil {
		return nil
	}

	top := &f.shares[0]
	if top.UsageBytes == nil || share(*top.UsageBytes, *f.limiter.UsageBytes) < topShare {
		return nil
	}

	return top
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
	if f.is(events.ScopeMemcg) && !f.limiter.V1() {
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
		text: fmt.Sprintf("The node's swap of %s was used up, so no more anonymous memory "+
			"could be swapped out.",
			phrase.Size(*n.SwapTotalBytes)),
		brief:      "the node's swap of " + phrase.Size(*n.SwapTotalBytes) + " was used up",
		confidence: certain, minor: true,
		evidence: []events.Evidence{item("usage of the node's swap", phrase.Part(used, *n.SwapTotalBytes), f.nodeSource("/proc/meminfo"))},
	}
}

// cgroupSwapExhausted is about memory.swap.max of the limiter, else of an ancestor.
func (f *facts) cgroupSwapExhausted() *finding {
	finding := func(whose, file string, usage, limit uint64) *finding {
		return &finding{
			text: fmt.Sprintf("All swap that %s may use (%s) was used up, so no more anonymous "+
				"memory could be swapped out.",
				whose, phrase.Size(limit)),
			brief:      "memory.swap.max of " + phrase.Size(limit) + " was used up",
			confidence: certain,
			evidence:   []events.Evidence{item("usage of "+file, phrase.Part(usage, limit), f.source(fromCounters))},
		}
	}
	if l := f.limiter; isFull(l.SwapUsageBytes, l.SwapLimitBytes) {
		return finding(phrase.Cgroup(l.Level, l.Workload, l.Cgroup), "memory.swap.max", *l.SwapUsageBytes, *l.SwapLimitBytes)
	}

	for i := range f.ancestry {
		if r := &f.ancestry[i]; !r.Below && isFull(r.SwapUsageBytes, r.SwapMaxBytes) {
			name := phrase.Cgroup(r.Level, r.Workload, &r.Cgroup)
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

	k, at := f.killer, "on its cgroup"
	if k.GroupCgroup != nil || k.GroupLevel != "" {
		at = "on the " + string(k.GroupLevel)
		if k.GroupLevel == "" || k.GroupLevel == events.LevelCgroup {
			at = "on " + phrase.Cgroup("", nil, k.GroupCgroup)
		}
	}

	hit := &finding{
		text: fmt.Sprintf("%s was chosen, and %s died with it because memory.oom.group is set %s.",
			process(&f.victim.Process), phrase.Plural(members, "more process"), at),
		brief:      "memory.oom.group killed " + phrase.Plural(members, "more process") + " with it",
		confidence: certain,
		minor:      value(f.victim.IsContainerInit),
		evidence: []events.Evidence{
			item("victims by role", fmt.Sprintf("1 chosen, %d by group", members), f.source(fromKernel)),
		},
	}
	if t := f.trigger; t != nil && t.PID != f.victim.PID {
		hit.add("trigger", process(t), f.source(fromKernel))
	}

	if size := f.victimSize(); size > 0 {
		hit.add("memory of the chosen process", phrase.Size(size), f.source(fromKernel))
	}

	return hit
}

func notMemory(f *facts) *finding {
	k := f.killer
	switch {
	case !f.is(events.ScopeUser), k.Reason == events.ReasonEviction, k.Reason == events.ReasonMemory, k.Reason == events.ReasonSwap,
		k.Path == events.PathSystemdOOMD, k.Path == events.PathOOMD, k.Path == events.PathEarlyOOM, k.Path == events.PathNohang,
		f.mayFollowOOM():
		return nil
	}
	hit := &finding{confidence: likely}
	var usages []string
	var fullest float64

	for i := range f.ancestry {
		r := &f.ancestry[i]
		if r.MaxBytes == nil {
			continue
		}

		if r.UsageBytes == nil || share(*r.UsageBytes, *r.MaxBytes) >= idleShare || *r.MaxBytes == 0 {
			return nil
		}
		fullest = max(fullest, share(*r.UsageBytes, *r.MaxBytes))
		ratio := phrase.Part(*r.UsageBytes, *r.MaxBytes)
		usages = append(usages, fmt.Sprintf("%s level, %s was in use", r.Level, ratio))
		hit.add("usage of the limit of "+phrase.Cgroup(r.Level, r.Workload, &r.Cgroup), ratio, f.source("page counters at the signal"))
	}

	if len(usages) == 0 {
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
		hit.confidence = certain
		hit.add("PSI memory some, 10 s", fmt.Sprintf("%.1f %%", n.PSISome.Avg10), f.nodeSource("/proc/pressure/memory"))
	}

	hit.brief = "no memory limit was near (" + phrase.Percent(fullest) + " used at most)"

	hit.text = "Memory was not the reason: no limit was close to being reached. At " + usages[0]
	if len(usages) > 1 {
		hit.text += fmt.Sprintf(", and %s above had room as well", phrase.Plural(len(usages)-1, "more limit"))
	}
	hit.text += "."

	return hit
}
