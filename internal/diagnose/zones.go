// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// minorZone of what an allocation may use does not decide whether that is used up: zone DMA, of
	// 16 MiB, is kept free for devices (lowmem_reserve).
	minorZone = 1.0 / 16
	// hiddenShare of the node's memory in zones that a report leaves out is no rounding.
	hiddenShare = 0.02
	// movableGFP is GFP_HIGHUSER_MOVABLE, the flags of pages of processes.
	movableGFP = 0x100cca
)

// supply is the memory that the failed allocation may use by its flags and its NUMA nodes, and the
// rest of those nodes.
type supply struct {
	gfp            uint32
	usable, barred []*events.Zone
	// hidden is the memory in zones that are not listed: the kernel leaves out those above the highest
	// that the allocation may use (mm/show_mem.c: show_free_areas, since 6.1).
	hidden *events.Zone
}

// supply returns nil where flags, zones or NUMA nodes are not known.
func (f *facts) supply() *supply {
	gfp, known := f.gfp()
	if !known || !f.is(events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy) {
		return nil
	}

	if f.state.TotalBytes == nil && len(f.state.Zones) == 0 {
		return nil
	}

	some := !f.is(events.ScopeGlobal)
	if some && len(f.limiter.Nodes) == 0 {
		return nil
	}
	s := &supply{gfp: gfp}

	for i := range f.state.Zones {
		z := &f.state.Zones[i]

		switch {
		case some && !slices.Contains(f.limiter.Nodes, z.Node):
		case oom.MayUse(gfp, z.Zone):
			s.usable = append(s.usable, z)
		case oom.IsZone(z.Zone):
			s.barred = append(s.barred, z)
		}
	}

	if !some && len(s.barred) == 0 {
		s.hidden = f.hiddenZones()
	}

	return s
}

// gfp is the flags of the allocation. Where they are not known, a page of a process may be anywhere.
func (f *facts) gfp() (gfp uint32, known bool) {
	switch {
	case f.allocation.GFP != nil:
		return *f.allocation.GFP, true
	case f.allocation.Class == "anon_fault":
		return movableGFP, true
	}

	return 0, false
}

// hiddenZones is what the node has beside its listed zones, nil if that is nothing, or not known.
func (f *facts) hiddenZones() *events.Zone {
	n := f.state
	if n.TotalBytes == nil || n.FreeBytes == nil || len(n.Zones) == 0 {
		return nil
	}
	free, managed := *n.FreeBytes, *n.TotalBytes

	for i := range n.Zones {
		z := &n.Zones[i]
		if z.FreeBytes == nil || z.ManagedBytes == nil {
			return nil
		}
		free, managed = less(free, *z.FreeBytes), less(managed, *z.ManagedBytes)
	}

	if share(managed, *n.TotalBytes) < hiddenShare {
		return nil
	}

	return &events.Zone{FreeBytes: &free, ManagedBytes: &managed}
}

// usableFree is the free memory of a zone that the allocation may take.
func (s *supply) usableFree(z *events.Zone) uint64 {
	if oom.MayUseCMA(s.gfp) {
		return value(z.FreeBytes)
	}

	return less(value(z.FreeBytes), value(z.FreeCMABytes))
}

// allFree is the free memory of a zone, with what only some allocations may take.
func allFree(z *events.Zone) uint64 { return value(z.FreeBytes) }

// freeCMAShare is the part of the usable zones that is free in CMA areas.
func (s *supply) freeCMAShare() float64 {
	var cma, managed uint64

	for _, z := range s.usable {
		cma += value(z.FreeCMABytes)
		managed += value(z.ManagedBytes)
	}

	return share(cma, managed)
}

// short reports whether an allocation gets no page of a zone without reclaim: its free memory is not
// above the low watermark and the reserve for allocations that can do without this zone
// (mm/page_alloc.c: __zone_watermark_ok). Near the min watermark the numbers may be those of some
// pages that were freed since.
func short(z *events.Zone, free uint64, gfp uint32) bool {
	watermark := z.LowBytes
	if watermark == nil {
		watermark = z.MinBytes
	}

	if watermark == nil || z.FreeBytes == nil {
		return false
	}

	return free <= *watermark+reserve(z, gfp)
}

// reserve is what a zone keeps from an allocation that may use a higher one. The kernel lists it for
// each zone type that an allocation may go up to (mm/page_alloc.c: setup_per_zone_lowmem_reserve),
// without the name: for the zone itself it is none, for Movable the most, and in between at least
// the least of them.
func reserve(z *events.Zone, gfp uint32) uint64 {
	least, most := uint64(0), uint64(0)

	for _, bytes := range z.ReserveBytes {
		if most = max(most, bytes); least == 0 {
			least = bytes
		}
	}

	switch highest := oom.HighestZone(gfp); {
	case highest == "Movable":
		return most
	case highest == z.Zone, z.Zone == "Normal": // of zone Normal, most machines have no HighMem above
		return 0
	}

	return least
}

// usedUp reports whether all that the allocation may use is short, by what each zone has free. It is
// false where there is nothing that it may use.
func (s *supply) usedUp(free func(*events.Zone) uint64) bool {
	if s == nil {
		return false
	}

	zones := s.major()

	return len(zones) > 0 && !slices.ContainsFunc(zones, func(z *events.Zone) bool { return !short(z, free(z), s.gfp) })
}

// major are the usable zones without those that are too small to matter, the largest first.
func (s *supply) major() []*events.Zone {
	var all uint64
	for _, z := range s.usable {
		all += value(z.ManagedBytes)
	}

	zones := slices.DeleteFunc(slices.Clone(s.usable), func(z *events.Zone) bool {
		return z.ManagedBytes != nil && share(*z.ManagedBytes, all) < minorZone
	})
	slices.SortStableFunc(zones, func(a, b *events.Zone) int { return -compareManaged(a, b) })

	return zones
}

func compareManaged(a, b *events.Zone) int {
	switch x, y := value(a.ManagedBytes), value(b.ManagedBytes); {
	case x < y:
		return -1
	case x > y:
		return 1
	}

	return 0
}

// elsewhere is the zone with the most free memory among those that the allocation may not use; nil
// if none has much, beyond what the kill may have freed.
func (s *supply) elsewhere(freed uint64) *events.Zone {
	var most *events.Zone

	zones := s.barred
	if s.hidden != nil {
		zones = []*events.Zone{s.hidden}
	}

	for _, z := range zones {
		free := less(value(z.FreeBytes), freed)
		if free > value(z.HighBytes) && share(free, value(z.ManagedBytes)) >= elsewhereShare &&
			(most == nil || *z.FreeBytes > *most.FreeBytes) {
			most = z
		}
	}

	return most
}

// ofOtherZone reports whether what the allocation may use was used up, or does not exist, while other
// zones of the same NUMA nodes had plenty free.
func (f *facts) ofOtherZone(s *supply) *events.Zone {
	if s == nil || len(s.usable) > 0 && !s.usedUp(s.usableFree) {
		return nil
	}

	return s.elsewhere(f.freed())
}

// levels are a zone's free memory and the watermarks that it is compared with.
func levels(z *events.Zone) string {
	text := "free " + phrase.SizeOrUnknown(z.FreeBytes)
	for _, w := range []part{{"min watermark", z.MinBytes}, {"low watermark", z.LowBytes}} {
		if w.bytes != nil {
			text += ", " + w.what + " " + phrase.Size(*w.bytes)
		}
	}

	return text
}

// zones adds the usable zones to the evidence, the largest first.
func (f *facts) zones(hit *finding, s *supply) {
	const most = 4

	zones := s.major()
	for _, z := range zones[:min(len(zones), most)] {
		hit.add(phrase.Zone(z.Node, z.Zone), levels(z), f.stateSource("/proc/zoneinfo"))
	}
}

// request is the allocation by its flags, in words.
func (f *facts) request(s *supply) string {
	flags := f.allocation.GFPFlags
	if len(flags) == 0 {
		flags = oom.FlagNames(s.gfp)
	}

	if len(flags) == 0 {
		return "gfp_mask 0"
	}

	return phrase.ClipName(flags[0])
}
