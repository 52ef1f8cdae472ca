// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestClassIsOfTheInnermostListedFunction(t *testing.T) {
	for _, test := range []struct{ stack, want string }{
		{"out_of_memory try_charge charge_memcg do_anonymous_page handle_mm_fault", "anon_fault"},
		{"out_of_memory try_charge shmem_add_to_page_cache shmem_write_begin do_syscall_64", "tmpfs"},
		{"mem_cgroup_out_of_memory memory_max_write.isra.0 do_syscall_64", "limit_lowered"},
		{"out_of_memory __alloc_pages_slowpath.constprop.0 __handle_mm_fault exc_page_fault", "anon_fault"},
		{"out_of_memory lru_gen_age_node kswapd_age_node balance_pgdat kswapd kthread ret_from_fork", "kswapd"},
		{"out_of_memory balance_pgdat kswapd kthread ret_from_fork", "kswapd"},
		{"out_of_memory pagefault_out_of_memory exc_page_fault", ""},
		{"out_of_memory ksys_read entry_SYSCALL_64_after_hwframe", "other"},
		{"out_of_memory vfs_read system_call_fastpath", "other"},
		{".out_of_memory .filemap_fault .do_page_fault", "page_cache"},
		{"out_of_memory __alloc_pages", ""},
		{"", ""},
	} {
		if got := Class(slices.Values(strings.Fields(test.stack))); got != test.want {
			t.Errorf("stack %q: got %q, want %q", test.stack, got, test.want)
		}
	}
}

func TestFlagNamesPreferSets(t *testing.T) {
	for _, test := range []struct {
		gfp  uint32
		want string
	}{
		{0xcc0, "GFP_KERNEL"}, {0x400cc0, "GFP_KERNEL_ACCOUNT"}, {0x100cca, "GFP_HIGHUSER_MOVABLE"},
		{0x140dca, "GFP_HIGHUSER_MOVABLE|__GFP_ZERO|__GFP_COMP"}, {0x1000cc0, "GFP_KERNEL|0x1000000"}, {0, ""},
	} {
		if got := strings.Join(FlagNames(test.gfp), "|"); got != test.want {
			t.Errorf("flags %#x: got %q, want %q", test.gfp, got, test.want)
		}
	}
}

// TestBadnessDividesBeforeItMultiplies holds the arithmetic of oom_badness: with
// adj*totalPages/1000 the last digits of totalPages would count up to |adj| pages.
func TestBadnessDividesBeforeItMultiplies(t *testing.T) {
	for _, test := range []struct {
		pages    uint64
		scoreAdj int
		total    uint64
		want     int64
	}{
		{5000, 0, 1_000_000, 5000},
		{5000, 1000, 1999, 5000 + 1000},
		{5000, 999, 999, 5000},
		{5000, -500, 262_143, 5000 - 500*262},
		{0, -999, 1_999, -999},
	} {
		if got := Badness(test.pages, test.scoreAdj, test.total); got != test.want {
			t.Errorf("Badness(%d, %d, %d): got %d, want %d", test.pages, test.scoreAdj, test.total, got, test.want)
		}
	}
}

func TestV1LimitFileIsTheOneThatFailsFirst(t *testing.T) {
	const memory, memsw = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"

	for _, test := range []struct {
		memoryRoom, memswRoom uint64
		want                  string
	}{
		{0, 0, memsw}, {7, 7, memsw}, {0, 100, memory}, {100, 0, memsw},
		{NoLimit, NoLimit, memory}, {NoLimit, 5, memsw}, {0, NoLimit, memory},
	} {
		if got := V1LimitFile(test.memoryRoom, test.memswRoom); got != test.want {
			t.Errorf("V1LimitFile(%d, %d): got %s, want %s", test.memoryRoom, test.memswRoom, got, test.want)
		}
	}
}

func TestKillerFollowsTheScope(t *testing.T) {
	for scope, want := range map[events.Scope]string{
		events.ScopeGlobal: "global", events.ScopeCpuset: "global", events.ScopeMempolicy: "global",
		events.ScopeMemcg: "memcg", events.ScopeSysrq: "sysrq", events.ScopeUnknown: "unknown",
	} {
		if got := Killer(scope, nil, ""); got.Kind != "kernel" || got.Path != want || got.GroupCgroup != nil {
			t.Errorf("scope %s: got %+v, want path %s", scope, got, want)
		}
	}

	group := &events.Cgroup{Path: "/a"}
	if got := Killer(events.ScopeMemcg, group, events.LevelCgroup); got.Path != "group" || got.GroupCgroup != group {
		t.Errorf("group kill: got %+v, want path group and cgroup /a", got)
	}
}

func TestNodeLimitersNameWhatIsUnknown(t *testing.T) {
	n := uint64(5)

	for _, test := range []struct {
		name    string
		limiter func(*Unknowns) *events.Limiter
		which   string
		want    string
	}{
		{"node", func(u *Unknowns) *events.Limiter { return NodeLimiter(&n, &n, u) }, "node",
			"limiter.usage_bytes limiter.swap_usage_bytes"},
		{"node, nothing known", func(u *Unknowns) *events.Limiter { return NodeLimiter(nil, nil, u) }, "node",
			"limiter.limit_bytes limiter.swap_limit_bytes limiter.usage_bytes limiter.swap_usage_bytes"},
		{"NUMA nodes", func(u *Unknowns) *events.Limiter { return NUMALimiter([]int{0}, u) }, "numa_nodes",
			"limiter.limit_bytes limiter.usage_bytes"},
		{"NUMA nodes, not known which", func(u *Unknowns) *events.Limiter { return NUMALimiter(nil, u) }, "numa_nodes",
			"limiter.limit_bytes limiter.usage_bytes limiter.nodes"},
	} {
		var unknown Unknowns

		limiter := test.limiter(&unknown)
		if got := strings.Join(unknown.Names, " "); got != test.want || limiter.Which != test.which {
			t.Errorf("%s: got %s with unknown %q, want %s with %q", test.name, limiter.Which, got, test.which, test.want)
		}
	}
}

func TestUnknownsKeepEachNameOnce(t *testing.T) {
	var u Unknowns
	u.Add("b", "a", "b")
	u.Unless("c", true)
	u.Unless("d", false)

	if got, want := strings.Join(u.Names, " "), "b a d"; got != want || !u.Has("a") || u.Has("c") {
		t.Errorf("got %q, want %q", got, want)
	}
}
