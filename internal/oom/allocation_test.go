// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"slices"
	"strings"
	"testing"
)

func TestClass(t *testing.T) {
	for _, test := range []struct{ stack, want string }{
		{"out_of_memory try_charge charge_memcg do_anonymous_page handle_mm_fault", "anon_fault"},
		{"out_of_memory try_charge shmem_add_to_page_cache shmem_write_begin do_syscall_64", "tmpfs"},
		{"mem_cgroup_out_of_memory memory_max_write.isra.0 do_syscall_64", "limit_lowered"},
		{"out_of_memory __alloc_pages_slowpath.constprop.0 __handle_mm_fault exc_page_fault", "anon_fault"},
		{"out_of_memory pagefault_out_of_memory exc_page_fault", ""},
		{"out_of_memory ksys_read entry_SYSCALL_64_after_hwframe", "other"},
		{"out_of_memory vfs_read system_call_fastpath", "other"},
		{".out_of_memory .filemap_fault .do_page_fault", "page_cache"},
		{"out_of_memory __alloc_pages", ""},
		{"", ""},
	} {
		if got := Class(slices.Values(strings.Fields(test.stack))); got != test.want {
			t.Errorf("%q is %q, want %q", test.stack, got, test.want)
		}
	}
}

func TestFlagNames(t *testing.T) {
	for _, test := range []struct {
		gfp  uint32
		want string
	}{
		{0xcc0, "GFP_KERNEL"}, {0x400cc0, "GFP_KERNEL_ACCOUNT"}, {0x100cca, "GFP_HIGHUSER_MOVABLE"},
		{0x140dca, "GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP"}, {0x1000cc0, "GFP_KERNEL|0x1000000"}, {0, ""},
	} {
		if got := strings.Join(FlagNames(test.gfp), "|"); got != test.want {
			t.Errorf("%#x is %q, want %q", test.gfp, got, test.want)
		}
	}
}
