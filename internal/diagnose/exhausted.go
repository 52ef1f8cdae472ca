// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// reclaimableShare of the memory in page cache, reclaimable slab, or anonymous memory that swap has
	// room for, is more than the kernel leaves before it kills: then it is not clear why it did.
	reclaimableShare = 0.10
	// notUsedUp of the memory free in the zones that the allocation may use contradicts that they were
	// used up. It is far above their watermarks, which are some per mille (vm.watermark_scale_factor).
	notUsedUp = 0.10
)

var nodeExhaustedNeeds = fmt.Sprintf("scope global, the memory of the node or of the victim is known, and no other cause "+
	"shows that memory was free. Certain if the zones that the allocation may use were at or below their low watermarks, or "+
	"the allocator gave up for its watermarks (oom:reclaim_retry_zone), and less than %s could be reclaimed. Only possible "+
	"where it is not known that all NUMA nodes were allowed: the kernel's last line is the same for the node, a cpuset, a "+
	"memory policy and sysrq", phrase.Percent(reclaimableShare))

func nodeExhausted(f *facts) *finding {
	if !f.is(events.ScopeGlobal) || f.state.TotalBytes == nil && f.victimSize() == 0 {
		return nil
	}
	s := f.supply()

	proven := s.usedUp(s.usableFree) || f.gaveUpShort()
	if f.ofOtherZone(s) != nil || f.cmaExplains(s) || !proven && (f.muchFree(s) || fragmentation(f) != nil) {
		return nil
	}
	hit := &finding{confidence: likely, text: "The node ran out of memory", brief: "the node's memory was used up"}

	switch {
	case f.unsure && !proven:
		hit.confidence = possible
		hit.text = "The node may have run out of memory: the kernel's message is the same for a cpuset, a memory policy and sysrq"
	case proven && !f.unsure:
		hit.text = "The node's memory was used up"
		if reclaimable, known := f.reclaimable(); known && share(reclaimable, value(f.state.TotalBytes)) < reclaimableShare {
			hit.confidence = certain
		}
	}

	if size := f.victimSize(); size > 0 {
		hit.brief += ", " + phrase.ShareOf(size, value(f.state.TotalBytes), "it") + " by the victim"
	}

	f.holderOfNode(hit)

	if size := f.victimSize(); size > 0 {
		hit.text += fmt.Sprintf(". The victim %s used %s", process(&f.victim.Process), phrase.Size(size))
		hit.add("memory of the victim", phrase.Size(size), f.source(fromKernel))
	}

	f.proof(hit, s)
	hit.text += "."

	return hit
}

// holderOfNode names what held most of the node's memory, as it was at the kill.
func (f *facts) holderOfNode(hit *finding) {
	n := f.state
	if n.TotalBytes == nil {
		return
	}
	whole := *n.TotalBytes

	for _, p := range []part{{"free", n.FreeBytes}, {"anonymous memory", n.AnonBytes}, {"page cache and tmpfs", n.FileBytes}} {
		if p.bytes != nil {
			hit.add(p.what, phrase.Part(*p.bytes, whole), f.stateSource("/proc/meminfo"))
		}
	}

	if n.AfterNS != nil || n.AnonBytes == nil || f.charge != nil && !f.charge.largest(n.AnonBytes) {
		return
	}
	hit.text += ": anonymous memory accounts for " + phrase.PartOf(*n.AnonBytes, whole, "it")
	hit.brief = "anonymous memory is " + phrase.ShareOf(*n.AnonBytes, whole, f.whole())
}

// proof adds what shows that memory was used up.
func (f *facts) proof(hit *finding, s *supply) {
	if s != nil {
		f.zones(hit, s)
	}

	if reclaimable, known := f.reclaimable(); known && f.state.TotalBytes != nil {
		hit.add("reclaimable: page cache, slab, and what swap has room for",
			phrase.Part(reclaimable, *f.state.TotalBytes), f.stateSource("/proc/meminfo"))
	}

	if f.gaveUpShort() {
		r := f.before.GaveUp.Reclaim
		hit.add("the allocator gave up", fmt.Sprintf("no zone would reach its min watermark; zone %s had %s free or reclaimable",
			phrase.ClipName(r.Zone), phrase.Size(r.AvailableBytes)), f.source("oom:reclaim_retry_zone"))
	}
}

// gaveUpShort reports whether the allocator gave up since no zone could reach its min watermark even
// if all that is reclaimable was freed. The record is of the zone that was tried last, and one that
// can reach it ends the search (mm/page_alloc.c: should_reclaim_retry).
func (f *facts) gaveUpShort() bool {
	if f.before.GaveUp == nil || f.before.GaveUp.Reclaim == nil {
		return false
	}
	r := f.before.GaveUp.Reclaim

	return !r.WatermarkOK && r.MinWatermarkBytes > 0 && (r.Order == 0 || r.AvailableBytes < r.MinWatermarkBytes)
}

// muchFree reports whether the zones that the allocation may use had so much free at the kill that
// they were not used up.
func (f *facts) muchFree(s *supply) bool {
	if s == nil || f.state.AfterNS != nil {
		return false
	}
	var free, managed uint64

	for _, z := range s.usable {
		free += s.usableFree(z)
		managed += value(z.ManagedBytes)
	}

	return share(free, managed) >= notUsedUp
}

// reclaimable is the memory that the kernel could have freed without killing anybody: page cache,
// slab, and of anonymous and shared memory what swap has room for.
func (f *facts) reclaimable() (bytes uint64, known bool) {
	n := f.state
	for _, part := range []*uint64{n.ActiveFileBytes, n.InactiveFileBytes, n.SlabReclaimable, n.SwapFreeBytes, n.AnonBytes, n.ShmemBytes} {
		if part == nil {
			return 0, false
		}
	}

	return *n.ActiveFileBytes + *n.InactiveFileBytes + *n.SlabReclaimable + min(*n.SwapFreeBytes, *n.AnonBytes+*n.ShmemBytes), true
}

// cmaOnly reports whether what was free is of CMA areas, which the allocation may not use.
func (f *facts) cmaOnly(s *supply) bool {
	return s != nil && !oom.MayUseCMA(s.gfp) && s.usedUp(s.usableFree) && !s.usedUp(allFree)
}

// cmaExplains reports whether so much was free there that it explains the kill by itself.
func (f *facts) cmaExplains(s *supply) bool { return f.cmaOnly(s) && s.freeCMAShare() >= notUsedUp }
