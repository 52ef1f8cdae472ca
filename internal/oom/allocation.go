// SPDX-License-Identifier: Apache-2.0

// Package oom tells what the memory was for that could not be had: from
// the flags of the allocation, and from the functions on the way to it. The live
// trace has them as numbers and addresses, a kernel log as names.
package oom

import (
	"fmt"
	"iter"
	"strings"
)

// gfpNames are bits of gfp_t (include/linux/gfp_types.h). Those named here have
// been the same from 5.10 on; higher ones move, and are shown as numbers.
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

// gfpSets are the combinations with names of their own, largest first, as the
// kernel's log has them (include/trace/events/mmflags.h).
var gfpSets = []struct {
	mask uint32
	name string
}{
	{0x1c20ca | 0x2000 | 0x400, "GFP_TRANSHUGE"}, {0x1c20ca, "GFP_TRANSHUGE_LIGHT"},
	{0x100cca, "GFP_HIGHUSER_MOVABLE"}, {0x100cc2, "GFP_HIGHUSER"}, {0x100cc0, "GFP_USER"},
	{0x400cc0, "GFP_KERNEL_ACCOUNT"}, {0xcc0, "GFP_KERNEL"}, {0xc40, "GFP_NOFS"},
	{0xc00, "GFP_NOIO"}, {0x820, "GFP_ATOMIC"}, {0x800, "GFP_NOWAIT"},
}

// FlagNames names the bits of a gfp mask, as kernels from 5.10 on lay them out;
// bits that it does not know come last, as one number.
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

// classes maps functions on the way to the failed allocation to what it was
// for. Names with a star are prefixes. The innermost frame that is listed wins;
// compilers inline, so several of one way are listed.
var classes = map[string]string{
	"memory_max_write": "limit_lowered", "mem_cgroup_resize_max": "limit_lowered", "mem_cgroup_write": "limit_lowered",
	"memory_high_write": "limit_lowered",

	"shmem_*": "tmpfs",

	"do_anonymous_page": "anon_fault", "do_huge_pmd_anonymous_page": "anon_fault", "wp_page_copy": "anon_fault",
	"do_wp_page": "anon_fault", "do_cow_fault": "anon_fault", "do_swap_page": "anon_fault",
	"alloc_anon_folio": "anon_fault", "vma_alloc_folio*": "anon_fault", "vma_alloc_anon_folio*": "anon_fault",
	"__do_huge_pmd_anonymous_page": "anon_fault", "do_huge_pmd_wp_page": "anon_fault",

	"filemap_*": "page_cache", "__filemap_*": "page_cache", "page_cache_*": "page_cache", "pagecache_*": "page_cache",
	"add_to_page_cache_lru": "page_cache", "grab_cache_page*": "page_cache", "generic_file_read_iter": "page_cache",
	"do_read_fault": "page_cache", "iomap_*": "page_cache", "force_page_cache_*": "page_cache",

	"pte_alloc_one": "pagetable", "__pte_alloc": "pagetable", "__pmd_alloc": "pagetable", "__pud_alloc": "pagetable",
	"__p4d_alloc": "pagetable", "pgd_alloc": "pagetable",

	"mem_cgroup_charge_skmem": "sock", "mem_cgroup_sk_charge": "sock", "__sk_mem_raise_allocated": "sock",
	"__sk_mem_schedule": "sock", "tcp_*": "sock", "sk_page_frag_refill": "sock", "skb_page_frag_refill": "sock",
	"__alloc_skb": "sock", "sock_alloc_send_pskb": "sock",

	"kmem_cache_*": "slab", "__kmem_cache_*": "slab", "__kmalloc*": "slab", "kmalloc_*": "slab", "obj_cgroup_charge*": "slab",
	"__memcg_slab_*": "slab", "___slab_alloc": "slab", "__slab_alloc*": "slab", "allocate_slab": "slab", "new_slab": "slab",
}

var classPrefixes = prefixes()

func prefixes() map[string]string {
	list := make(map[string]string)

	for name, class := range classes {
		if prefix, found := strings.CutSuffix(name, "*"); found {
			list[prefix] = class
		}
	}

	return list
}

// Class tells from the functions of a stack, the innermost first, what the memory
// was for: one of the words of events.Allocation.Class. It is empty where the
// stack does not tell: it was put off until the fault's end
// (pagefault_out_of_memory), or the stack breaks off before the task's way into
// the kernel, as it does at a kretprobe before 5.15.
//
// What the compiler appends to a name (.isra.0, .constprop.0, .cold) does not
// count.
func Class(functions iter.Seq[string]) string {
	whole, fault := false, false

	for name := range functions {
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "."), ".")
		if class := classOf(name); class != "" {
			return class
		}

		if name == "pagefault_out_of_memory" {
			return ""
		}
		fault = fault || strings.HasSuffix(name, "handle_mm_fault") || name == "handle_pte_fault"
		whole = whole || entry(name)
	}

	switch {
	case fault:
		// Not of a file and not of tmpfs, which have frames of their own.
		return "anon_fault"
	case whole:
		return "other"
	}

	return ""
}

// entry tells functions at which a task comes into the kernel, or begins in it.
func entry(function string) bool {
	for _, prefix := range []string{"do_syscall_", "entry_", "el0", "invoke_syscall", "asm_exc_", "exc_page_fault", "ret_from_fork", "kthread", "system_call"} {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}

	return false
}

func classOf(function string) string {
	if class, ok := classes[function]; ok {
		return class
	}

	for prefix, class := range classPrefixes {
		if strings.HasPrefix(function, prefix) {
			return class
		}
	}

	return ""
}
