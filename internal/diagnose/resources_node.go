// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// elsewhereShare of a NUMA node free is far above its watermarks, which are some
	// per mille (vm.watermark_scale_factor).
	elsewhereShare = 0.10
	// hugetlbShare of the node in unused huge pages.
	hugetlbShare = 0.05
)

// nodeResourceRules are about the node's memory where the free bytes alone do not explain
// the OOM.
var nodeResourceRules = []rule{
	{
		id: "cpuset_exhausted",
		means: "The NUMA nodes that the cpuset allows ran out of memory; no other NUMA " +
			"node may be used.",
		needs:     "scope cpuset. " + restrictedNeeds,
		reference: "Documentation/admin-guide/cgroup-v2.rst, cpuset.mems",
		match: func(f *facts) *finding {
			if !f.is(events.ScopeCpuset) {
				return nil
			}

			return restricted(f, "the cpuset")
		},
		advice: numaAdvice("Widen cpuset.mems, or move the memory of other workloads off these NUMA nodes."),
	},
	{
		id: "mempolicy_exhausted",
		means: "The NUMA nodes to which the process bound its memory ran out of memory; no " +
			"other NUMA node may be used.",
		needs:     "scope mempolicy. " + restrictedNeeds,
		reference: "Documentation/admin-guide/mm/numa_memory_policy.rst, MPOL_BIND",
		match: func(f *facts) *finding {
			if !f.is(events.ScopeMempolicy) {
				return nil
			}

			return restricted(f, "the memory policy")
		},
		advice: numaAdvice("Use a preferred NUMA node (MPOL_PREFERRED_MANY, numactl " +
			"--preferred) instead of a strict binding."),
	},
	lowZone,
	movableOnly,
	cmaFree,
	{
		id: "fragmentation",
		means: "An allocation of several contiguous pages failed although memory was free: the " +
			"free blocks were too small.",
		needs: "order above 0, no cgroup as limiter, and one of these: a zone (not DMA) above " +
			"its low watermark and what it keeps from allocations that may use a higher zone, without a free block of " +
			"that order; a zone that the allocator " +
			"gave up on although twice its min watermark was free or reclaimable; compaction " +
			"that was given up. Certain if the zones were read at the kill",
		reference: "Documentation/admin-guide/mm/concepts.rst, compaction; /proc/buddyinfo, proc(5)",
		match:     fragmentation,
		advice: []advice{
			{layer: kernel, text: "Raise vm.min_free_kbytes or vm.compaction_proactiveness to " +
				"keep large blocks available, and monitor /proc/buddyinfo and the compact_* " +
				"counters of /proc/vmstat."},
			{layer: kernel, text: "Find the callers that request such blocks (see the stack in " +
				"the kernel log): jumbo frames, drivers and some file systems can be " +
				"configured to use smaller ones."},
		},
	},
	{
		id:    "numa_imbalance",
		means: "One NUMA node ran out of memory while another had free memory.",
		needs: fmt.Sprintf("scope global, and zones of at least two NUMA nodes: one has less "+
			"free memory than its low watermarks, another at least %s of its memory free", phrase.Percent(elsewhereShare)),
		reference: "Documentation/admin-guide/sysctl/vm.rst, zone_reclaim_mode; numastat(8)",
		match:     numaImbalance,
		advice: numaAdvice("Check numastat, interleave large allocations, and do not bind pods " +
			"to a NUMA node that others may fill."),
	},
	{
		id: "working_set_guard",
		means: "The kernel killed to keep the working set of the last min_ttl_ms in memory, a setting of " +
			"MGLRU: all reclaimable memory had been used within that time. Memory and swap may be free.",
		needs:     "scope global, and kswapd is the trigger",
		reference: "Documentation/admin-guide/mm/multigen_lru.rst, thrashing prevention",
		match:     workingSetGuard,
		advice: []advice{
			{layer: kernel, text: "Lower /sys/kernel/mm/lru_gen/min_ttl_ms, or set it to 0: the node then " +
				"reclaims, and may thrash, until memory runs out."},
			{layer: cgroupLayer, text: "Set limits on what uses the most memory, so that the working sets of all " +
				"workloads fit together."},
		},
	},
	{
		id:    "hugetlb",
		means: "Huge pages were reserved and not used, and no other allocation can use that memory.",
		needs: fmt.Sprintf("scope global, unused huge pages of at least %s of the node. Only likely if they were counted "+
			"after the kill: the victim may have used them", phrase.Percent(hugetlbShare)),
		reference: "Documentation/admin-guide/mm/hugetlbpage.rst",
		match: func(f *facts) *finding {
			n := f.state
			if !f.is(events.ScopeGlobal) || n.HugetlbBytes == nil || n.HugetlbFreeBytes == nil || n.TotalBytes == nil {
				return nil
			}

			weight := share(*n.HugetlbFreeBytes, *n.TotalBytes)
			if weight < hugetlbShare {
				return nil
			}

			hit := &finding{
				text: fmt.Sprintf("Unused huge pages take up %s, and no other allocation can "+
					"use that memory.",
					phrase.PartOf(*n.HugetlbFreeBytes, *n.TotalBytes, "the node's memory")),
				brief:      "unused huge pages hold " + phrase.ShareOf(*n.HugetlbFreeBytes, *n.TotalBytes, f.whole()),
				confidence: certain, weight: weight, minor: weight < notableNodeShare,
				evidence: []events.Evidence{
					item("huge pages, all", phrase.Part(*n.HugetlbBytes, *n.TotalBytes), f.stateSource("/proc/meminfo")),
					item("huge pages, unused", phrase.Part(*n.HugetlbFreeBytes, *n.TotalBytes), f.stateSource("/proc/meminfo")),
				},
			}

			if n.AfterNS != nil {
				hit.confidence = likely // the victim may have used them
			}

			return hit
		},
		advice: []advice{
			{layer: kernel, text: "Lower vm.nr_hugepages to the number in use, or set " +
				"vm.nr_overcommit_hugepages instead."},
		},
	},
}

func workingSetGuard(f *facts) *finding {
	if !f.is(scopeWorkingSet) {
		return nil
	}
	n, set := f.state, "the recent working set in memory, as min_ttl_ms of MGLRU demands"
	hit := &finding{confidence: certain, weight: 1, brief: "min_ttl_ms keeps the recent working set in memory"}
	hit.add("trigger, which only invokes the OOM killer for min_ttl_ms", kswapd(f), f.source(fromKernel))

	if ttl := value(f.node.MinTTLNS); ttl > 0 {
		age := phrase.Duration(ttl)
		set = "the working set of the last " + age + " in memory (min_ttl_ms of MGLRU)"
		hit.brief = "min_ttl_ms keeps the working set of the last " + age + " in memory"
		hit.add("min_ttl_ms", age, f.nodeSource("/sys/kernel/mm/lru_gen/min_ttl_ms"))
	}

	if n.TotalBytes != nil && n.FreeBytes != nil {
		hit.add("free", phrase.Part(*n.FreeBytes, *n.TotalBytes), f.stateSource("/proc/meminfo"))
	}
	hit.text = "The kernel killed to keep " + set + "; memory and swap may have been free."

	return hit
}

// kswapd is the trigger in words.
func kswapd(f *facts) string {
	if f.trigger == nil {
		return "kswapd"
	}

	return process(f.trigger)
}

func numaAdvice(first string) []advice {
	return []advice{
		{layer: kernel, text: first},
		{layer: kernel, text: "Monitor numastat and the free memory of each NUMA node instead of the total."},
		{layer: kubernetes, text: "Place pods by topology: use the memory manager's Static " +
			"policy with the topology manager for Guaranteed pods, and leave room for the " +
			"others on each NUMA node.", when: ofAPod},
	}
}

// numaNode sums up the zones of a NUMA node.
type numaNode struct {
	id                 int
	free, low, managed uint64
	known              bool // free is known of all its zones
}

// numaNodes sums up the zones of each NUMA node. free returns what of a zone counts as free.
func numaNodes(zones []events.Zone, free func(*events.Zone) uint64) []numaNode {
	var nodes []numaNode

	for i := range zones {
		z := &zones[i]

		at := slices.IndexFunc(nodes, func(n numaNode) bool { return n.id == z.Node })
		if at < 0 {
			nodes = append(nodes, numaNode{id: z.Node, known: true})
			at = len(nodes) - 1
		}
		n := &nodes[at]
		n.known = n.known && z.FreeBytes != nil
		n.free += free(z)
		n.low += value(z.LowBytes)
		n.managed += value(z.ManagedBytes)
	}

	return nodes
}

// plenty reports whether the node has free memory well above its watermarks.
func (n numaNode) plenty() bool {
	return n.known && n.free > n.low && (n.managed == 0 || share(n.free, n.managed) >= elsewhereShare)
}

const restrictedNeeds = "Certain if the zones of these NUMA nodes that the allocation may use were at or below their low " +
	"watermarks, or the allocator gave up for its watermarks (oom:reclaim_retry_zone)"

// restricted is about an allocation that may use some NUMA nodes only.
func restricted(f *facts, by string) *finding {
	allowed, s := f.limiter.Nodes, f.supply()
	if f.onlyMovable(s) != nil || f.ofOtherZone(s) != nil || f.cmaExplains(s) || f.muchFree(s) && fragmentation(f) != nil {
		return nil
	}

	hit, did := &finding{confidence: likely, weight: 1}, "had no memory for the allocation"
	if s.usedUp(s.usableFree) || f.gaveUpShort() {
		hit.confidence, did = certain, "ran out of memory"
	}

	hit.text = "The NUMA nodes that " + by + " allows " + did
	hit.brief = by + " allows no other NUMA nodes"

	if len(allowed) > 0 {
		hit.text = fmt.Sprintf("%s %s, and %s allows no others", phrase.NUMANodes(allowed), did, by)
		hit.add("allowed", phrase.NUMANodes(allowed), f.source(fromKernel))
	} else {
		hit.add("constraint", string(f.scope), f.source(fromKernel))
	}

	for _, n := range numaNodes(f.state.Zones, allFree) {
		if n.known {
			hit.add(fmt.Sprintf("free on NUMA node %d", n.id), phrase.Part(n.free, n.managed), f.stateSource("/proc/zoneinfo"))
		}
	}

	if s != nil {
		f.zones(hit, s)
	}

	others := f.freeOnOthers(hit, allowed)
	if len(others) > 0 {
		var words []string
		for _, n := range others {
			words = append(words, fmt.Sprintf("%s on node %d", phrase.Size(n.free), n.id))
		}

		hit.text += ". Free on other NUMA nodes: " + phrase.FirstFew(words)

		hit.brief = fmt.Sprintf("%s excludes NUMA node %d with %s free", by, others[0].id, phrase.Size(others[0].free))
		if len(others) > 1 {
			hit.brief = fmt.Sprintf("%s excludes %d NUMA nodes with free memory", by, len(others))
		}
	}
	hit.text += "."

	return hit
}

// freeOnOthers are the NUMA nodes that were not allowed and have plenty free. A report of the kernel
// leaves them out; the kill frees little there.
func (f *facts) freeOnOthers(hit *finding, allowed []int) (others []numaNode) {
	if len(allowed) == 0 {
		return nil
	}

	free, name := f.freeFor(f.node.Zones)

	for _, n := range numaNodes(f.node.Zones, free) {
		if slices.Contains(allowed, n.id) || !n.plenty() {
			continue
		}
		others = append(others, n)

		if f.atKill {
			hit.add(fmt.Sprintf("%s on NUMA node %d", name, n.id), phrase.Part(n.free, n.managed), f.nodeSource("/proc/zoneinfo"))
		}
	}

	return others
}

// freeFor returns what of a zone is free for the allocation, as far as is known, and its name.
func (f *facts) freeFor(zones []events.Zone) (free func(*events.Zone) uint64, name string) {
	s := f.supply()
	if s == nil || oom.MayUseCMA(s.gfp) || !slices.ContainsFunc(zones, func(z events.Zone) bool { return value(z.FreeCMABytes) > 0 }) {
		return allFree, "free"
	}

	return s.usableFree, "free outside of CMA areas"
}

// freed is the memory that the kill may have freed before the node was read.
func (f *facts) freed() (bytes uint64) {
	if f.state.AfterNS == nil {
		return 0
	}

	for i := range f.victims {
		v := &f.victims[i]
		bytes += value(v.AnonRSSBytes) + value(v.ShmemRSSBytes) + value(v.FileRSSBytes)
	}

	return bytes
}

func numaImbalance(f *facts) *finding {
	free, name := f.freeFor(f.state.Zones)

	nodes := numaNodes(f.state.Zones, free)
	if !f.is(events.ScopeGlobal) || len(nodes) < 2 {
		return nil
	}

	short := slices.IndexFunc(nodes, func(n numaNode) bool { return n.known && n.free < n.low })
	freed := f.freed()

	rich := slices.IndexFunc(nodes, func(n numaNode) bool {
		n.free -= min(n.free, freed)
		return n.plenty()
	})
	if short < 0 || rich < 0 {
		return nil
	}

	hit := &finding{
		text: fmt.Sprintf("NUMA node %d ran out of memory while NUMA node %d had %s free.",
			nodes[short].id, nodes[rich].id, phrase.Size(nodes[rich].free)),
		brief: fmt.Sprintf("NUMA node %d was full, NUMA node %d had %s free",
			nodes[short].id, nodes[rich].id, phrase.Size(nodes[rich].free)),
		confidence: likely, weight: 1,
	}
	for _, n := range nodes {
		hit.add(fmt.Sprintf("%s on NUMA node %d", name, n.id),
			phrase.Part(n.free, n.managed)+", low watermarks "+phrase.Size(n.low), f.stateSource("/proc/zoneinfo"))
	}

	return hit
}

func fragmentation(f *facts) *finding {
	order := value(f.allocation.Order)
	if order <= 0 || !f.is(events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy) {
		return nil
	}
	pages := uint64(1) << min(order, 63)

	hit := &finding{confidence: certain, weight: 1}
	hit.add("order of the allocation", fmt.Sprintf("%d (%d contiguous pages)", order, pages), f.source(fromKernel))

	f.scatteredZones(hit, order, pages)

	if g := f.before.GaveUp; g != nil && g.Compact != nil && !g.Compact.Again {
		f.compactionGaveUp(hit, g.Compact, pages)
	}

	if g := f.before.GaveUp; g != nil && g.Reclaim != nil && enoughInPieces(g.Reclaim) {
		f.reclaimGaveUp(hit, g.Reclaim, pages)
	}

	if hit.text == "" {
		return nil
	}

	return hit
}

// scatteredZones adds the zones with free memory but no block of the order.
func (f *facts) scatteredZones(hit *finding, order int, pages uint64) {
	gfp, known := f.gfp()

	for i := range f.state.Zones {
		z := &f.state.Zones[i]
		if !scattered(z, order) || !f.isAllowed(z) || known && (!oom.MayUse(gfp, z.Zone) || short(z, *z.FreeBytes, gfp)) {
			continue
		}

		if f.state.AfterNS != nil {
			hit.confidence = likely // the kill may have freed what is free now
		}
		name := phrase.Zone(z.Node, z.Zone)
		hit.text = fmt.Sprintf("%d contiguous pages were requested: %s had %s free, but no block of that size.",
			pages, name, phrase.Size(*z.FreeBytes))
		hit.brief = fmt.Sprintf("no free block of order %d, but %s free", order, phrase.Size(*z.FreeBytes))
		hit.add(name,
			fmt.Sprintf("free %s, low watermark %s, free blocks of order %d and above: 0",
				phrase.Size(*z.FreeBytes), phrase.Size(*z.LowBytes), order),
			f.stateSource("/proc/buddyinfo"))
	}
}

// isAllowed reports whether a zone is of a NUMA node that the allocation may use, as far as is known.
func (f *facts) isAllowed(z *events.Zone) bool {
	return f.is(events.ScopeGlobal) || len(f.limiter.Nodes) == 0 || slices.Contains(f.limiter.Nodes, z.Node)
}

// compactionGaveUp is less certain: compaction gives up as well where too little is free
// to work with.
func (f *facts) compactionGaveUp(hit *finding, c *events.CompactAnswer, pages uint64) {
	result := phrase.Spaced(phrase.ClipName(c.Result))
	hit.add("compaction", fmt.Sprintf("%s, %d of %d retries, then given up",
		result, c.Retries, c.MaxRetries), f.source("oom:compact_retry"))

	if hit.text == "" {
		hit.confidence = likely
		hit.text = fmt.Sprintf("%d contiguous pages were requested, and compaction could not "+
			"create a block of that size.",
			pages)
		hit.brief = fmt.Sprintf("compaction could not create a block of order %d", value(f.allocation.Order))
	}
}

func (f *facts) reclaimGaveUp(hit *finding, r *events.ReclaimAnswer, pages uint64) {
	name := phrase.Zone(int(r.Node), r.Zone)
	hit.add(name+", as the allocator gave up",
		fmt.Sprintf("free or reclaimable %s, min watermark %s, still not enough for order %d",
			phrase.Size(r.AvailableBytes), phrase.Size(r.MinWatermarkBytes), r.Order),
		f.source("oom:reclaim_retry_zone"))

	if hit.text == "" {
		hit.confidence = likely
		hit.text = fmt.Sprintf("%d contiguous pages were requested: %s had %s free or reclaimable, but no block of that size.",
			pages, name, phrase.Size(r.AvailableBytes))
		hit.brief = fmt.Sprintf("no free block of order %d, but %s free or reclaimable",
			value(f.allocation.Order), phrase.Size(r.AvailableBytes))
	}
}

// enoughInPieces reports whether a zone was refused for the order although it was well
// above its watermark (mm/page_alloc.c: __zone_watermark_ok). The factor covers
// lowmem_reserve, which is not known.
func enoughInPieces(r *events.ReclaimAnswer) bool {
	const factor = 2
	return r.Order > 0 && !r.WatermarkOK && r.MinWatermarkBytes > 0 && r.AvailableBytes/factor >= r.MinWatermarkBytes
}

// scattered reports whether a zone could give a single page but not 2^order in a row. Zone
// DMA is left out: its memory is reserved for devices.
func scattered(z *events.Zone, order int) bool {
	if z.Zone == "DMA" || z.FreeBytes == nil || z.LowBytes == nil || *z.FreeBytes <= *z.LowBytes || len(z.FreeBlocks) <= order {
		return false
	}

	return !slices.ContainsFunc(z.FreeBlocks[order:], func(blocks uint64) bool { return blocks > 0 })
}
