// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

const (
	disabled = "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"
	enabled  = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
	waiting  = "oom_kill_disable 1\nunder_oom 1\noom_kill 0\n"
	marked   = "oom_kill_disable 0\nunder_oom 1\noom_kill 0\n" // below one, or while it kills
)

// v1Reader reads a tree of files: cgroups below cg, and proc.
func v1Reader(t *testing.T, files map[string]string) Reader {
	t.Helper()
	root := testenv.Tree(t, files)

	return Reader{Root: root, Layout: Layout{Mode: "v1", MemoryVersion: 1, HierarchyID: 4, MemoryMount: root + "/cg", MountRoot: "/"}}
}

func TestOOMWaitLimiterIsTheTopmostThatIsUnderOOM(t *testing.T) {
	for _, test := range []struct {
		name                string
		top, middle, bottom string
		want                string
	}{
		{"its own limit", enabled, enabled, waiting, "/a/b/c"},
		{"its parent's", enabled, waiting, waiting, "/a/b"},
		{"its grandparent's, by the mark of the subtree", waiting, marked, marked, "/a"},
		{"its parent's, the killer of others is enabled", marked, waiting, marked, "/a/b"},
		{"disabled and not short", disabled, disabled, disabled, ""},
		{"a kill", marked, marked, marked, ""},
		{"an ancestor alone, with its mark missing below", waiting, enabled, enabled, ""},
		{"no such file", enabled, waiting, "", ""},
		{"hostile", enabled, enabled, "oom_kill_disable yes\nunder_oom 1\n", ""},
	} {
		files := map[string]string{
			"cg/memory.oom_control": enabled, "cg/a/memory.oom_control": test.top, "cg/a/b/memory.oom_control": test.middle,
			"cg/a/b/c/memory.oom_control": test.bottom,
		}
		if test.bottom == "" {
			delete(files, "cg/a/b/c/memory.oom_control")
		}

		got, ok := v1Reader(t, files).OOMWaitLimiter("/a/b/c")
		if got != test.want || ok != (test.want != "") {
			t.Errorf("%s: got limiter %q, %v, want %q", test.name, got, ok, test.want)
		}
	}

	r := v1Reader(t, map[string]string{"cg/a/memory.oom_control": waiting})
	r.Layout.MemoryVersion = 2

	if got, ok := r.OOMWaitLimiter("/a"); ok {
		t.Errorf("got limiter %q of cgroup v2, want none", got)
	}
}

// thread has the files of a thread in /proc. A stack of "" cannot be read.
func thread(tid, tgid int, comm, stack, wchan, state string) map[string]string {
	dir := fmt.Sprintf("proc/%d/", tid)

	return map[string]string{
		dir + "stack": stack, dir + "wchan": wchan, dir + "comm": comm + "\n",
		dir + "status": fmt.Sprintf("Name:\t%s\nState:\t%s\nTgid:\t%d\nPid:\t%d\n", comm, state, tgid, tid),
	}
}

func TestOOMWaitersSleepInTheKernelsWaitForMemory(t *testing.T) {
	const (
		sync, asleep = "mem_cgroup_oom_synchronize", "D (disk sleep)"
		stack        = "[<0>] mem_cgroup_oom_synchronize+0x118/0x170\n[<0>] pagefault_out_of_memory+0xf/0x70\n"
		other        = "[<0>] folio_wait_bit_common+0x118/0x170\n"
	)

	files := map[string]string{
		"cg/a/tasks": "10\n11\n12\n0\n99\n", "cg/a/b/tasks": "20\n21\n22\n23\n", "cg/other/tasks": "30\n",
	}
	for _, th := range []map[string]string{
		thread(10, 10, "app", "", "futex_wait_queue", "S (sleeping)"),
		thread(11, 10, `wor\ker`, "", sync, asleep),
		thread(12, 12, "disk", "", "folio_wait_bit_common", asleep),
		thread(20, 20, "hidden", "", "0", asleep), // kallsyms are off
		thread(21, 21, "runs", "", "0", "R (running)"),
		thread(22, 22, "hog", stack, "0", asleep), // without frame pointers
		thread(23, 23, "chance", other, sync, asleep),
		thread(30, 30, "elsewhere", stack, sync, asleep),
	} {
		maps.Copy(files, th)
	}

	r := v1Reader(t, files)
	w := r.OOMWaiters(context.Background(), "/a", 2)

	var got []string
	for _, task := range w.Tasks {
		got = append(got, fmt.Sprintf("%d/%d %s of %s in %v", task.TGID, task.TID, task.Comm, task.LeaderComm, task.Cgroup.ID != 0))
	}

	if want := []string{`10/11 wor\ker of app in true`, "20/20 hidden of hidden in true"}; !slices.Equal(got, want) || w.LeftOut != 1 || w.Unread != 0 {
		t.Errorf("got tasks %q, %d left out, %d unread, want %q, 1 left out", got, w.LeftOut, w.Unread, want)
	}

	ctx, stop := context.WithCancel(context.Background())
	stop()

	if w := r.OOMWaiters(ctx, "/a", 2); len(w.Tasks) != 0 {
		t.Errorf("got %+v after the end of the context, want nothing", w)
	}

	if !r.OOMWaits(22) || r.OOMWaits(10) || r.OOMWaits(98) {
		t.Errorf("got waits %v %v %v, want those of 22 alone", r.OOMWaits(22), r.OOMWaits(10), r.OOMWaits(98))
	}
}

func TestLimiterOfCgroupV1HasItsOOMControl(t *testing.T) {
	r := v1Reader(t, map[string]string{
		"cg/a/memory.oom_control":    waiting,
		"cg/a/memory.usage_in_bytes": "900\n", "cg/a/memory.limit_in_bytes": "1000\n",
		"cg/a/memory.memsw.usage_in_bytes": "1200\n", "cg/a/memory.memsw.limit_in_bytes": "1200\n",
	})
	ancestors, _ := r.Ancestry("/a")

	l := r.Limiter(&ancestors[0])
	if l.Which != "memory.memsw.limit_in_bytes" || *l.LimitBytes != 1200 || !*l.OOMKillDisable || !*l.UnderOOM {
		t.Errorf("got limiter %+v, want memory.memsw.limit_in_bytes, disabled and under OOM", l)
	}

	if l.Cgroup.Path != "/a" || l.Cgroup.Hierarchy != 4 || l.Cgroup.ID == 0 {
		t.Errorf("got cgroup %+v, want /a of hierarchy 4", l.Cgroup)
	}
}
