// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"iter"
	"strings"
)

// classes maps functions on the stack of the failed allocation to its purpose. Names
// with a star are prefixes. The innermost listed frame wins. Several functions of one
// call path are listed because compilers inline some of them.
var classes = map[string]string{
	"memory_max_write": "limit_lowered", "mem_cgroup_resize_max": "limit_lowered", "mem_cgroup_write": "limit_lowered",
	"memory_high_write": "limit_lowered",

	// kswapd invokes the OOM killer for MGLRU's min_ttl_ms alone (mm/vmscan.c: lru_gen_age_node, since 6.1).
	"lru_gen_age_node": "kswapd", "kswapd_age_node": "kswapd", "balance_pgdat": "kswapd", "kswapd": "kswapd",

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

// Class returns the purpose of an allocation, one of the values of
// events.Allocation.Class, from the functions of its stack, innermost first. It is
// empty if the stack does not show the purpose: because the OOM was deferred to the end
// of the page fault (mm/oom_kill.c: pagefault_out_of_memory), or because the stack ends
// before the kernel's entry, as it does at a kretprobe before 5.15.
//
// Suffixes added by the compiler (.isra.0, .constprop.0, .cold) are ignored.
func Class(functions iter.Seq[string]) string {
	complete, fault := false, false

	for name := range functions {
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "."), ".")
		if class := classOf(name); class != "" {
			return class
		}

		if name == "pagefault_out_of_memory" {
			return ""
		}
		fault = fault || strings.HasSuffix(name, "handle_mm_fault") || name == "handle_pte_fault"
		complete = complete || isEntry(name)
	}

	switch {
	case fault:
		// Faults on files and tmpfs have frames of their own, listed above.
		return "anon_fault"
	case complete:
		return "other"
	}

	return ""
}

// isEntry reports whether a function is an entry to the kernel or the first function
// of a kernel thread: the stack is complete.
func isEntry(function string) bool {
	for _, prefix := range []string{
		"do_syscall_", "entry_", "el0", "invoke_syscall", "asm_exc_", "exc_page_fault", "ret_from_fork", "kthread", "system_call",
	} {
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
