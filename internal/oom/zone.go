// SPDX-License-Identifier: Apache-2.0

package oom

import "slices"

// The gfp flags that choose zones. Their bits are the same in all kernels since 2.6.31
// (include/linux/gfp_types.h).
const (
	gfpDMA     = 0x1
	gfpHighmem = 0x2
	gfpDMA32   = 0x4
	gfpMovable = 0x8
)

// zones are the zone types from the lowest to the highest (include/linux/mmzone.h: enum
// zone_type). A kernel has some of them.
var zones = []string{"DMA", "DMA32", "Normal", "HighMem", "Movable"}

// IsZone reports whether a name is that of a zone type.
func IsZone(name string) bool { return slices.Contains(zones, name) || name == "Device" }

// HighestZone returns the highest zone type that an allocation may use (include/linux/gfp.h:
// gfp_zone). On a kernel without that zone it is the next lower one, and on one without zone DMA
// or DMA32 it is Normal.
func HighestZone(gfp uint32) string {
	switch {
	case gfp&gfpDMA != 0:
		return "DMA"
	case gfp&gfpDMA32 != 0:
		return "DMA32"
	case gfp&gfpHighmem != 0 && gfp&gfpMovable != 0:
		return "Movable"
	case gfp&gfpHighmem != 0:
		return "HighMem"
	}

	return "Normal"
}

// MayUse reports whether an allocation may take pages of a zone: of the highest one and of all
// below it (mm/page_alloc.c: get_page_from_freelist).
func MayUse(gfp uint32, zone string) bool {
	at := slices.Index(zones, zone)

	return at >= 0 && at <= slices.Index(zones, HighestZone(gfp))
}

// MayUseCMA reports whether an allocation may take free pages of a CMA area: movable ones only
// (mm/page_alloc.c: gfp_to_alloc_flags_cma).
func MayUseCMA(gfp uint32) bool { return gfp&gfpMovable != 0 }
