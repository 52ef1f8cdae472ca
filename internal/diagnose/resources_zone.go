// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// lowZone is about memory that is free where the allocation may not have it.
var lowZone = rule{
	id: "low_zone",
	means: "The zones that the allocation may use were used up, while memory was free in a higher zone, which its " +
		"flags do not allow: HighMem and Movable are for pages of processes and for page cache. The node's memory was not used up.",
	needs: fmt.Sprintf("no cgroup as limiter; by its gfp flags the allocation may not use a zone of which at least %s was "+
		"free, and all that it may use were at or below their low watermarks. Certain if the zones were read at the kill",
		phrase.Percent(elsewhereShare)),
	reference: "Documentation/admin-guide/kernel-parameters.txt, kernelcore and movablecore; Documentation/mm/highmem.rst",
	match: func(f *facts) *finding {
		s := f.supply()

		other := f.ofOtherZone(s)
		if other == nil || len(s.usable) == 0 {
			return nil
		}

		zone, name := s.major()[0], "zone "+phrase.ClipName(other.Zone)
		if other == s.hidden {
			name = "zones above " + phrase.ClipName(zone.Zone)
		}

		hit := &finding{
			confidence: certain, weight: 1,
			text: fmt.Sprintf("Zone %s ran out of memory (%s free), while %s had %s free: this allocation (%s) may not use it.",
				phrase.ClipName(zone.Zone), phrase.Size(s.usableFree(zone)), name, phrase.Size(*other.FreeBytes), f.request(s)),
			brief: phrase.Size(*other.FreeBytes) + " free in " + clip(name) + " could not be used",
		}

		if f.state.AfterNS != nil {
			hit.confidence = likely // both may have changed since
		}

		hit.add("flags of the allocation", f.request(s)+": zone "+oom.HighestZone(s.gfp)+" and below", f.source(fromKernel))
		f.zones(hit, s)
		hit.add("free in "+name, phrase.Part(*other.FreeBytes, value(other.ManagedBytes)), f.stateSource("/proc/zoneinfo"))

		return hit
	},
	advice: []advice{
		{layer: kernel, text: "Leave more memory to the kernel: lower movablecore, raise kernelcore, or put hot-plugged " +
			"memory online as kernel memory (online_kernel). On a 32-bit machine use a 64-bit kernel."},
		{layer: kernel, text: "Find what holds the low zones: slab, page tables, page cache of block devices, and buffers of " +
			"drivers cannot be in HighMem or Movable."},
	},
}

// movableOnly is about NUMA nodes without any memory for the kernel.
var movableOnly = rule{
	id: "movable_only",
	means: "All memory of the allowed NUMA nodes is movable (zone Movable), and the allocation is not: it may use none of " +
		"it, however much is free. Nothing ran out.",
	needs:     "scope cpuset or mempolicy; by its gfp flags the allocation may use no zone of the allowed NUMA nodes",
	reference: "Documentation/admin-guide/mm/memory-hotplug.rst, ZONE_MOVABLE",
	match: func(f *facts) *finding {
		s := f.supply()
		if !f.is(events.ScopeCpuset, events.ScopeMempolicy) || s == nil {
			return nil
		}

		return f.onlyMovable(s)
	},
	advice: []advice{
		{layer: kernel, text: "Allow one NUMA node with kernel memory beside the movable ones (cpuset.mems, numactl): page " +
			"tables and other kernel memory have to be somewhere."},
		{layer: kernel, text: "Bring part of the hot-plugged memory online as kernel memory (online_kernel, or " +
			"memory_hotplug.online_policy=auto-movable)."},
	},
}

// onlyMovable returns nil unless the allowed NUMA nodes have no zone that the allocation may use. A
// report that leaves out unusable zones lists none at all then, as does one that lost its lines.
func (f *facts) onlyMovable(s *supply) *finding {
	if s == nil || f.is(events.ScopeGlobal) || len(s.usable) > 0 || oom.HighestZone(s.gfp) == "Movable" {
		return nil
	}
	nodes := phrase.NUMANodes(f.limiter.Nodes)
	hit := &finding{confidence: likely, weight: 1}
	hit.text = fmt.Sprintf("All memory of %s is movable", nodes)
	hit.brief = fmt.Sprintf("all memory of %s is movable, but the allocation is not", clip(nodes))

	if len(s.barred) > 0 {
		hit.confidence = certain

		var free, managed uint64
		for _, z := range s.barred {
			free += value(z.FreeBytes)
			managed += value(z.ManagedBytes)
		}

		hit.text += fmt.Sprintf(", %s of it free", phrase.Size(free))
		hit.add("free in zone Movable of "+nodes, phrase.Part(free, managed), f.stateSource("/proc/zoneinfo"))
	}

	hit.text += fmt.Sprintf(": this allocation (%s) cannot be moved, and may use none of it.", f.request(s))
	hit.add("flags of the allocation", f.request(s)+": zone "+oom.HighestZone(s.gfp)+" and below", f.source(fromKernel))

	return hit
}

// cmaFree is about free memory that is set aside for contiguous allocations of drivers.
var cmaFree = rule{
	id: "cma_free",
	means: "The free memory is in CMA areas, which are reserved for contiguous allocations of drivers: until a driver " +
		"takes it, only movable pages may use it, and this allocation is not movable.",
	needs: fmt.Sprintf("no cgroup as limiter; the allocation is not movable by its gfp flags; the zones that it may use are "+
		"above their low watermarks, but not without free_cma. If that is less than %s of those zones, it is a contributing "+
		"factor: the rest of their memory was used up", phrase.Percent(notUsedUp)),
	reference: "Documentation/admin-guide/kernel-parameters.txt, cma=; /proc/meminfo, CmaFree",
	match: func(f *facts) *finding {
		s := f.supply()
		if !f.cmaOnly(s) {
			return nil
		}
		var free, cma uint64

		for _, z := range s.usable {
			free += value(z.FreeBytes)
			cma += value(z.FreeCMABytes)
		}

		in := phrase.Size(cma) + " of it"

		switch {
		case cma >= free:
			in = "all of it"
		case phrase.Size(cma) == phrase.Size(free):
			in = "nearly all of it"
		}

		weight := s.freeCMAShare()
		hit := &finding{
			confidence: certain, weight: weight, minor: weight < notUsedUp,
			text: fmt.Sprintf("%s was free, but %s in CMA areas: this allocation (%s) is not movable, and may not use them.",
				phrase.Size(free), in, f.request(s)),
			brief: phrase.Size(cma) + " free in CMA areas could not be used",
		}

		if f.state.AfterNS != nil {
			hit.confidence = likely // the kill may have freed it
		}

		hit.add("free in CMA areas", phrase.Part(cma, free), f.stateSource("/proc/zoneinfo"))
		f.zones(hit, s)

		return hit
	},
	advice: []advice{
		{layer: kernel, text: "Reserve less for CMA (cma=, or the reserved-memory nodes of the device tree): it serves page " +
			"cache and pages of processes only."},
	},
}
