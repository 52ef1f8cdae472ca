// SPDX-License-Identifier: Apache-2.0

package oom

import "fmt"

// gfpNames are the bits of gfp_t (include/linux/gfp_types.h) that have not changed
// since 5.10. Higher bits differ between kernels and are printed as a number.
var gfpNames = []struct {
	mask uint32
	name string
}{
	{0x1, "__GFP_DMA"}, {0x2, "__GFP_HIGHMEM"}, {0x4, "__GFP_DMA32"}, {0x8, "__GFP_MOVABLE"},
	{0x10, "__GFP_RECLAIMABLE"}, {0x20, "__GFP_HIGH"}, {0x40, "__GFP_IO"}, {0x80, "__GFP_FS"},
	{0x100, "__GFP_ZERO"}, {0x400, "__GFP_DIRECT_RECLAIM"}, {0x800, "__GFP_KSWAPD_RECLAIM"},
	{0x1000, "__GFP_WRITE"}, {0x2000, "__GFP_NOWARN"}, {0x4000, "__GFP_RETRY_MAYFAIL"},
	{0x8000, "__GFP_NOFAIL"}, {0x10000, "__GFP_NORETRY"}, {0x20000, "__GFP_MEMALLOC"},
	{0x40000, "__GFP_COMP"}, {0x80000, "__GFP_NOMEMALLOC"}, {0x100000, "__GFP_HARDWALL"},
	{0x200000, "__GFP_THISNODE"}, {0x400000, "__GFP_ACCOUNT"},
}

// gfpSets are the combinations that the kernel's log prints under one name, largest
// first (include/trace/events/mmflags.h: __def_gfpflag_names).
var gfpSets = []struct {
	mask uint32
	name string
}{
	{0x1c20ca | 0x2000 | 0x400, "GFP_TRANSHUGE"}, {0x1c20ca, "GFP_TRANSHUGE_LIGHT"},
	{0x100cca, "GFP_HIGHUSER_MOVABLE"}, {0x100cc2, "GFP_HIGHUSER"}, {0x100cc0, "GFP_USER"},
	{0x400cc0, "GFP_KERNEL_ACCOUNT"}, {0xcc0, "GFP_KERNEL"}, {0xc40, "GFP_NOFS"},
	{0xc00, "GFP_NOIO"}, {0x820, "GFP_ATOMIC"}, {0x800, "GFP_NOWAIT"},
}

// FlagNames returns the names of the bits in a gfp mask, in the layout of kernels
// since 5.10. Bits without a known name come last, as one hexadecimal number.
func FlagNames(gfp uint32) []string {
	var names []string

	for _, set := range gfpSets {
		if gfp&set.mask == set.mask {
			names = append(names, set.name)
			gfp &^= set.mask

			break
		}
	}

	for _, flag := range gfpNames {
		if gfp&flag.mask != 0 {
			names = append(names, flag.name)
			gfp &^= flag.mask
		}
	}

	if gfp != 0 {
		names = append(names, fmt.Sprintf("%#x", gfp))
	}

	return names
}
