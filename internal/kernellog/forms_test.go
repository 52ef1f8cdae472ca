// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestFormsOfReports reads what greps, pagers, old kernels and single lines leave of a report.
func TestFormsOfReports(t *testing.T) {
	const (
		container = "/docker/3f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c0"
		v1        = "memcg killed: mysqld in " + container + " by memcg, chosen mysqld[9007] of " + container
		v2        = "memcg killed: worker in /shop.slice by memcg, chosen indexer[8121] of /shop.slice/index.service"
		node      = "global killed: chromium in node by global, chosen blender[3477] of /user.slice/user-1000.slice/session-3.scope"
		group     = "memcg killed: - in /shop.slice by group, chosen cart[4711] of /shop.slice, group sh[4710], group log[4712], group log[4713]"
		two       = "global killed: - in node by global, unknown cart[4711]\nglobal killed: - in node by global, unknown shop[4811]"
		cut       = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	)

	for name, want := range map[string]string{
		"report-v1": v1, "report-v2": v2, "report-node": node,
		// A charge of a page table, beside a tracer's BPF trampoline in place of a frame.
		"trampoline-page-tables": "memcg killed: hog in /leaf by memcg, chosen hog[195] of /leaf",
		"grep-oom-v2":            v2, "grep-oom-node": node, "grep-oom-or-kill-v2": v2, "grep-oom-or-kill-v1": v1, "grep-oom-or-kill-node": node,
		"grep-oom-lxc":           "memcg killed: java in /lxc/202 by memcg, chosen java[4711] of /lxc/202",
		"grep-three-lines":       "memcg killed: cart in /shop.slice by memcg, chosen cart[4711] of /shop.slice/cart.service",
		"table-head-only":        "memcg killed: - in /shop.slice by memcg, chosen cart[4711] of /shop.slice/cart.service",
		"pager-cut":              "memcg killed: java in - by memcg, chosen java[4711]",
		"cut-limiter":            "memcg killed: - in - by memcg, chosen app[4711] of " + cut,
		"glued":                  "memcg killed: - in /docker/aa by memcg, chosen app[4711] of /docker/aa",
		"no-cpuset-field":        "memcg killed: - in /shop.slice by memcg, chosen cart[4711] of /shop.slice/cart.service",
		"lone-oomkill-line":      "memcg : - in /shop.slice",
		"lone-kill-old":          "global : - in node",
		"lone-kill":              "global killed: - in node by global, unknown vm[4711]",
		"stack-only":             "memcg : copy in -",
		"thread-chosen":          "memcg killed: - in /docker/aa by memcg, chosen app[4711] of /docker/aa",
		"group-no-table":         group,
		"group-no-table-no-line": group,
		"memsw":                  "memcg killed: - in /docker/aa by memcg, chosen app[4711] of /docker/aa",
		"same-second":            two,
		"same-second-no-times":   two,
		"limit-unknown-twice":    "memcg killed: - in - by memcg, unknown cart[4711]\nmemcg killed: - in - by memcg, unknown shop[4811]",
		"bpf-constraint":         "CONSTRAINT_BPF_PRESSURE killed: - in - by memcg, chosen cart[4711] of /shop.slice",
		"old-2.6.32":             "global killed: - in node by global, chosen httpd[123]",
		"old-2.6.32-killed":      "unknown killed: - in - by unknown, unknown httpd[123]",
		"no-killable-40":         "memcg no_killable_task: guard in /shop.slice/guard.service",
		"child-stats-v1":         "memcg killed: - in /kubepods/pod1 by memcg, chosen app[4711] of /kubepods/pod1/aa",
		"child-sacrificed":       "global killed: - in node by global, child sleep[4722]",
	} {
		t.Run(name, func(t *testing.T) {
			if got := brief(parse(t, readFile(t, "testdata/cases/"+name+".txt"), Options{})); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// caseOf returns the only incident of a file.
func caseOf(t *testing.T, name string) *events.Incident {
	t.Helper()

	list := parse(t, readFile(t, "testdata/cases/"+name+".txt"), Options{})
	if len(list) != 1 {
		t.Fatalf("%s: got %d incidents, want one", name, len(list))
	}

	return list[0]
}

// valueOrNone is a number that may be missing, as -1.
func valueOrNone(n *uint64) int64 {
	if n == nil {
		return -1
	}

	return int64(*n)
}

func TestLimitsOfForms(t *testing.T) {
	for name, want := range map[string]int64{
		"pager-cut": 512 << 20, "cut-limiter": 64 << 20, "table-head-only": 64 << 20, "no-cpuset-field": 512 << 20, "thread-chosen": 64 << 20,
		"memsw": 200 << 20, "grep-three-lines": -1,
	} {
		inc := caseOf(t, name)
		check(t, name, valueOrNone(inc.Limiter.LimitBytes), want)
		check(t, name+": limit unknown", slices.Contains(inc.Unknown, "limiter.limit_bytes"), want < 0)
	}
}

func TestALimitThatIsCutOffIsUnknown(t *testing.T) {
	for _, name := range []string{"pager-cut", "cut-limiter"} {
		inc := caseOf(t, name)
		if inc.Limiter.Cgroup != nil || inc.Limiter.Level != "" || !slices.Contains(inc.Unknown, "limiter.cgroup") {
			t.Errorf("%s: got limiter %+v and unknown %q, want no cgroup", name, inc.Limiter, inc.Unknown)
		}
	}

	v := caseOf(t, "pager-cut").Victims[0]
	if valueOrNone(v.AnonRSSBytes) != 480000<<10 || v.UID != nil || v.OOMScoreAdj != nil || v.FileRSSBytes != nil {
		t.Errorf("got victim %+v, want nothing that was cut", v)
	}
}

func TestMemorySwapHasKeysOfItsOwn(t *testing.T) {
	l, rung := caseOf(t, "memsw").Limiter, caseOf(t, "memsw").Ladder[0]

	check(t, "which", l.Which, "memory.memsw.limit_in_bytes")
	check(t, "usage", valueOrNone(l.UsageBytes), 200<<20)
	check(t, "memsw usage", valueOrNone(l.MemswUsageBytes), 200<<20)
	check(t, "memsw limit", valueOrNone(l.MemswLimitBytes), 200<<20)
	check(t, "swap limit", valueOrNone(l.SwapLimitBytes), 200<<20)
	check(t, "limit of memory", valueOrNone(rung.MaxBytes), 100<<20)
	check(t, "limit of both", valueOrNone(rung.MemswMaxBytes), 200<<20)

	if v2 := caseOf(t, "report-v2").Limiter; v2.MemswUsageBytes != nil || v2.MemswLimitBytes != nil {
		t.Errorf("cgroup v2: got %+v, want no memory+swap", v2)
	}
}

func TestTheChosenProcessIsNamed(t *testing.T) {
	for name, want := range map[string]string{
		"lone-oomkill-line": "cart", "lone-kill-old": "cart", "child-sacrificed": "hog", "thread-chosen": "", "report-v2": "", "old-2.6.32": "",
	} {
		got := ""
		if c := caseOf(t, name).Chosen; c != nil {
			got = c.Comm
			check(t, name, c.PID, 4711)
		}

		check(t, name, got, want)
	}

	c := caseOf(t, "lone-oomkill-line").Chosen
	if c.UID == nil || *c.UID != 100 || c.Workload == nil || c.Workload.Unit != "cart.service" {
		t.Errorf("got %+v, want uid 100 of cart.service", c)
	}
}

func TestFormsOfOtherKernels(t *testing.T) {
	if v := caseOf(t, "old-2.6.32").Victims[0]; v.UID == nil || *v.UID != 48 {
		t.Errorf("2.6.32: got uid %v, want 48", v.UID)
	}

	check(t, "passes", caseOf(t, "no-killable-40").Passes.NoKillable, 40)
	check(t, "class by the stack", caseOf(t, "stack-only").Allocation.Class, "page_cache")

	bpf := caseOf(t, "bpf-constraint")
	if bpf.Limiter != nil || slices.Contains(bpf.Unknown, "limiter") {
		t.Errorf("BPF: got limiter %+v and unknown %q, want none, and that known", bpf.Limiter, bpf.Unknown)
	}

	shares := caseOf(t, "child-stats-v1").Shares
	if len(shares) != 2 || shares[0].Cgroup.Path != "/kubepods/pod1/aa" {
		t.Fatalf("got shares %+v, want those of aa and bb", shares)
	}

	check(t, "share of aa", valueOrNone(shares[0].UsageBytes), 262100<<10)
	check(t, "share of bb", valueOrNone(shares[1].UsageBytes), 44<<10)
}

func TestSysrqIsSeenInTheStack(t *testing.T) {
	const (
		start = "kworker/0:1 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n" +
			"CPU: 0 PID: 8 Comm: kworker/0:1 Not tainted 4.1.0 #1\nCall Trace:\n dump_stack+0x1/0x2\n out_of_memory+0x1/0x2\n"
		end = " process_one_work+0x1/0x2\n worker_thread+0x1/0x2\nMem-Info:\n"
	)

	for frame, want := range map[string]events.Scope{
		" moom_callback+0x1/0x2\n": events.ScopeSysrq, " ? moom_callback+0x1/0x2\n": events.ScopeGlobal, "": events.ScopeGlobal,
	} {
		check(t, frame, parse(t, start+frame+end, Options{})[0].Scope, want)
	}
}

// What is not known is absent, and named in unknown.
func TestUnknownIsNotZero(t *testing.T) {
	for name, keys := range map[string][]string{
		"header-indented": {"trigger.pid", "trigger.tid"},
		"memsw":           {"limiter.cgroup.id", "limiter.cgroup.hierarchy"},
		"report-v2":       {"limiter.cgroup.id"},
	} {
		inc := caseOf(t, name)
		flat := flatten(t, inc)

		for _, key := range keys {
			if value, ok := flat[key]; ok || !slices.Contains(inc.Unknown, key) {
				t.Errorf("%s: got %s %q and unknown %q, want none, and it in unknown", name, key, value, inc.Unknown)
			}
		}
	}

	check(t, "hierarchy of cgroup v2", flatten(t, caseOf(t, "report-v2"))["limiter.cgroup.hierarchy"], "0")
}

// Nothing but the kernel's rate limit leaves a kill without a report: then it is no member of the
// group before it.
func TestAKillBeyondTheRateLimitIsNoMember(t *testing.T) {
	report := headerOf("hog", 7) + limitsOf("/a") + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7) + groupOf("/a")
	alone := "\nmemcg killed: - in - by memcg, unknown other[99]"
	group := "memcg killed: hog in /a by group, chosen hog[7] of /a"

	var many string
	for i := range reportsPerInterval {
		many += stamped(t, 10+0.1*float64(i), headerOf("x", 20+i)+limitsOf("/x")+summaryOf("/x", "/x", "x", 20+i)+killOf("x", 20+i))
	}

	for name, test := range map[string]struct{ log, want string }{
		"in one go":    {stamped(t, 10, report+killOf("other", 99)), group + ", group other[99]"},
		"a pause":      {stamped(t, 10, report) + stamped(t, 10.5, killOf("other", 99)), group + alone},
		"rate limited": {many + stamped(t, 11.5, report+killOf("other", 99)), group + alone},
	} {
		list := parse(t, test.log, Options{})
		if name == "rate limited" {
			list = list[reportsPerInterval:]
		}

		if got := brief(list); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, test.want)
		}
	}
}

// Two kills that a filter left are two incidents.
func TestTwoKillsOfAFilteredLogAreTwo(t *testing.T) {
	one := headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7)
	two := headerOf("cat", 9) + limitsOf("/a") + tableOf("cat", 9) + summaryOf("/a", "/a", "cat", 9) + killOf("cat", 9)
	log := stamped(t, 10, one) + stamped(t, 10.01, two)

	for _, pattern := range habits {
		list := parse(t, grep(pattern, log), Options{})
		check(t, pattern, len(list), 2)
	}
}

// TestWhatIsMissingIsNotWhatIsShown: a part of which the log has something is not missing as a
// whole.
func TestWhatIsMissingIsNotWhatIsShown(t *testing.T) {
	for file, want := range map[string]string{
		"header-indented": "missing from this report: the process id of the trigger, its end",
		"stack-only": "missing from this report: the end of the stack trace, usage and limits of the cgroup, the cgroup's statistics, " +
			"its end",
		"pager-cut": "the log's task table has 1 more process, smaller or not read",
	} {
		list := parse(t, readFile(t, "testdata/cases/"+file+".txt"), Options{})
		if len(list) != 1 || !slices.Contains(list[0].Notes, want) {
			t.Errorf("%s: got %s, want one incident with the note %q", file, show(t, list), want)
		}
	}
}
