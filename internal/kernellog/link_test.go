// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// The functions with Of return parts of reports.
func headerOf(comm string, pid int) string {
	return fmt.Sprintf("%s invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n"+
		"CPU: 0 PID: %d Comm: %s Not tainted 6.1.0 #1\nCall Trace:\n <TASK>\n dump_stack_lvl+0x44/0x5c\n"+
		" handle_mm_fault+0xdb/0x2d0\n exc_page_fault+0x70/0x170\n </TASK>\n", comm, pid, comm)
}

func limitsOf(path string) string {
	return "memory: usage 40960kB, limit 40960kB, failcnt 21\nswap: usage 0kB, limit 0kB, failcnt 0\n" +
		"Memory cgroup stats for " + path + ":\nanon 41791488\nfile 0\nshmem 0\n"
}

func tableOf(comm string, pids ...int) string {
	text := "Tasks state (memory values in pages):\n[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name\n"
	for _, pid := range pids {
		text += fmt.Sprintf("[%7d]  1000 %5d    20747    10323   122880        0           985 %s\n", pid, pid, comm)
	}

	return text
}

func summaryOf(path, task, comm string, pid int) string {
	return fmt.Sprintf("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=%s,task_memcg=%s,task=%s,pid=%d,uid=1000\n",
		path, task, comm, pid)
}

func killOf(comm string, pid int) string {
	return fmt.Sprintf("Memory cgroup out of memory: Killed process %d (%s) total-vm:82988kB, anon-rss:40592kB, file-rss:4kB, "+
		"shmem-rss:696kB, UID:1000 pgtables:120kB oom_score_adj:985\n", pid, comm)
}

func groupOf(path string) string {
	return "Tasks in " + path + " are going to be killed due to memory.oom.group set\n"
}

// brief returns a line for each incident: trigger, limiter, killer's path, victims with roles.
func brief(list []*events.Incident) string {
	var out []string

	for _, inc := range list {
		trigger, limiter := "-", "-"
		if inc.Trigger != nil {
			trigger = inc.Trigger.Comm
		}

		if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
			limiter = inc.Limiter.Cgroup.Path
		} else if inc.Limiter != nil && inc.Limiter.Level != "" {
			limiter = string(inc.Limiter.Level)
		}

		line := fmt.Sprintf("%s %s: %s in %s", inc.Scope, inc.Outcome, trigger, limiter)
		if inc.Killer != nil {
			line += " by " + inc.Killer.Path
		}

		for _, v := range inc.Victims {
			line += fmt.Sprintf(", %s %s[%d]", v.Role, v.Comm, v.PID)
			if v.TID != v.PID {
				line += fmt.Sprintf("/%d", v.TID)
			}

			if v.Cgroup != nil {
				line += " of " + v.Cgroup.Path
			}
		}

		out = append(out, line)
	}

	return strings.Join(out, "\n")
}

func TestLinesAreLinkedToTheirReport(t *testing.T) {
	whole := headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7, 8) + summaryOf("/a", "/a/b", "hog", 7) + killOf("hog", 7)
	for _, test := range []struct{ name, log, want string }{
		{"whole", whole, "memcg killed: hog in /a by memcg, chosen hog[7] of /a/b"},
		{
			"a later kill alone", whole + killOf("other", 9),
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a/b\nmemcg killed: - in - by memcg, unknown other[9]",
		},
		{
			"the same process is logged again", whole + killOf("hog", 7),
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a/b",
		},
		{
			"a kill of the node", whole + strings.Replace(killOf("hog", 7), "Memory cgroup out", "Out", 1),
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a/b\nglobal killed: - in node by global, unknown hog[7]",
		},
		{
			"a row of the table is missing", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + summaryOf("/a", "/a", "hog", 8) + killOf("hog", 8),
			"memcg killed: hog in /a by memcg, chosen hog[8] of /a",
		},
		{
			"a table without the trigger and the victim", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 9) + summaryOf("/a", "/a", "hog", 8) +
				killOf("hog", 8),
			"memcg killed: hog in /a by memcg, chosen hog[8] of /a",
		},
		{
			"the middle is missing", headerOf("hog", 7) + tableOf("hog", 8) + summaryOf("/a", "/a", "hog", 8) + killOf("hog", 8),
			"unknown : hog in -\nmemcg killed: - in /a by memcg, chosen hog[8] of /a",
		},
		{
			"only a header and a summary", headerOf("hog", 7) + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7),
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a",
		},
		{
			"limits behind the tasks", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + limitsOf("/a") + tableOf("hog", 8) +
				summaryOf("/a", "/a", "hog", 8) + killOf("hog", 8),
			"memcg : hog in /a\nmemcg killed: - in /a by memcg, chosen hog[8] of /a",
		},
		{
			"limits twice", headerOf("hog", 7) + limitsOf("/a") + "memory: usage 1kB, limit 2kB, failcnt 0\n",
			"memcg : hog in /a\nmemcg : - in -",
		},
		{
			"another cgroup's kill", headerOf("hog", 7) + limitsOf("/a") + summaryOf("/c", "/c", "hog", 7) + killOf("hog", 7),
			"memcg : hog in /a\nmemcg killed: - in /c by memcg, chosen hog[7] of /c",
		},
		{
			"a kill that was not announced", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + killOf("hog", 7),
			"memcg killed: hog in /a by memcg, unknown hog[7]",
		},
		{
			"group", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7, 8) + summaryOf("/a", "/a/b", "hog", 7) + killOf("hog", 7) +
				groupOf("/a/b") + killOf("hog", 8) + killOf("hog", 7),
			"memcg killed: hog in /a by group, chosen hog[7] of /a/b, group hog[8]",
		},
		{
			"a member without a row", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7, 8) + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7) +
				groupOf("/a") + strings.Replace(killOf("hog", 9), "total-vm:82988kB", "total-vm:82984kB", 1),
			"memcg killed: hog in /a by group, chosen hog[7] of /a, group hog[9]",
		},
		{
			"members whose leaders have exited meanwhile", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7, 8) +
				summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7) + groupOf("/a") + killOf("worker", 12) + killOf("hog", 8) + killOf("worker", 13) +
				"Memory cgroup out of memory: OOM victim 8 (hog) is already exiting. Skip killing the task\n" + killOf("worker", 14),
			"memcg killed: hog in /a by group, chosen hog[7] of /a, group hog[8]",
		},
		{
			"another cgroup's group", whole + groupOf("/c") + killOf("hog", 9),
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a/b\nunknown : - in - by group\nmemcg killed: - in - by memcg, unknown hog[9]",
		},
		{
			"a group without a report", killOf("hog", 7) + groupOf("/a") + killOf("hog", 8) + killOf("hog", 7),
			"memcg killed: - in - by group, chosen hog[7], group hog[8]",
		},
		{
			"a group without a report, and another kill behind it", killOf("hog", 7) + groupOf("/a") + killOf("hog", 8) + killOf("hog", 7) + killOf("hog", 9),
			"memcg killed: - in - by group, chosen hog[7], group hog[8]\nmemcg killed: - in - by memcg, unknown hog[9]",
		},
		{
			"a group whose chosen one is not logged twice", killOf("hog", 7) + groupOf("/a") + killOf("hog", 8),
			"memcg killed: - in - by memcg, unknown hog[7]\nunknown : - in - by group\nmemcg killed: - in - by memcg, unknown hog[8]",
		},
		{
			"another's group", killOf("other", 6) + groupOf("/a") + killOf("hog", 8) + killOf("hog", 7),
			"memcg killed: - in - by memcg, unknown other[6]\nunknown : - in - by group\n" +
				"memcg killed: - in - by memcg, unknown hog[8]\nmemcg killed: - in - by memcg, unknown hog[7]",
		},
		{
			"another than announced", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7, 9) + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 9),
			"memcg : hog in /a\nmemcg killed: - in - by memcg, unknown hog[9]",
		},
		{
			"limits behind the statistics", headerOf("hog", 7) + "Memory cgroup stats for /a:\nanon 1\nmemory: usage 1kB, limit 2kB, failcnt 0\n",
			"memcg : hog in /a\nmemcg : - in -",
		},
		{
			"one limit twice", headerOf("hog", 7) + "memory: usage 1kB, limit 2kB, failcnt 0\nmemory: usage 2kB, limit 2kB, failcnt 0\nMemory cgroup stats for /a:\n",
			"memcg : hog in -\nmemcg : - in /a",
		},
		{
			"a kill behind a child's", "Memory cgroup out of memory: Kill process 7 (hog) score 900 or sacrifice child\n" +
				"Killed process 8 (child) total-vm:1kB, anon-rss:1kB, file-rss:1kB\nKilled process 9 (hog) total-vm:1kB, anon-rss:1kB, file-rss:1kB\n",
			"memcg killed: - in - by memcg, child child[8]\nunknown killed: - in - by unknown, unknown hog[9]",
		},
		{
			"a thread for a dead leader", headerOf("hog", 7) + limitsOf("/a") + strings.Replace(tableOf("hog", 7), "[      7]", "[     12]", 1) +
				summaryOf("/a", "/a", "hog", 7) + killOf("hog", 12),
			"memcg killed: hog in /a by memcg, chosen hog[7]/12 of /a",
		},
		{
			"a name with brackets", headerOf("a (b) [c]:", 7) + limitsOf("/a") + tableOf("a (b) [c]:", 7) + summaryOf("/a", "/a", "a (b) [c]:", 7) + killOf("a (b) [c]:", 7),
			"memcg killed: a (b) [c]: in /a by memcg, chosen a (b) [c]:[7] of /a",
		},
		{
			"a name like a key", headerOf("x,task=y", 7) + limitsOf("/a") + tableOf("x,task=y", 7) + summaryOf("/a", "/a,task=z", "x,task=y", 7) + killOf("x,task=y", 7),
			"memcg killed: x,task=y in /a by memcg, chosen x,task=y[7] of /a,task=z",
		},
		{
			"a name that ends a kill", whole + killOf("a) total-vm:1kB", 8),
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a/b\nmemcg killed: - in - by memcg, unknown a) total-vm:1kB[8]",
		},
		{
			"already exiting", headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + summaryOf("/a", "/a", "hog", 7) +
				"Memory cgroup out of memory: OOM victim 7 (hog) is already exiting. Skip killing the task\n",
			"memcg already_exiting: hog in /a",
		},
		{
			"lines that were missed", headerOf("hog", 7) + limitsOf("/a") + "Missed 812 kernel messages\n" + tableOf("hog", 7) + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7),
			"memcg : hog in /a\nmemcg killed: - in /a by memcg, chosen hog[7] of /a",
		},
		{
			"an allocation failure in between", headerOf("hog", 7) + "x: page allocation failure: order:0\nMem-Info:\nactive_anon:1\n" + limitsOf("/a"),
			"unknown : hog in -\nmemcg : - in /a",
		},
		{
			"two hosts", "Nov 25 02:21:31 a kernel: " + strings.ReplaceAll(strings.TrimSuffix(whole, "\n"), "\n", "\nNov 25 02:21:31 b kernel: noise\nNov 25 02:21:31 a kernel: ") + "\n",
			"memcg killed: hog in /a by memcg, chosen hog[7] of /a/b",
		},
		{
			"quoted by a program", "Nov 25 02:21:31 a app[1]: " + killOf("hog", 7), "",
		},
		{
			"no killable, then panic", "x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\nMem-Info:\n" +
				"Out of memory and no killable processes...\nKernel panic - not syncing: System is deadlocked on memory\n",
			"global panic: x in node",
		},
		{
			"no killable, and no more lines", "x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\nMem-Info:\n" +
				"Out of memory and no killable processes...\n",
			"global no_killable_task: x in node",
		},
		{
			"a clone", strings.Replace(headerOf("hog", 7)+limitsOf("/a")+tableOf("hog", 7), "6.1.0", "3.10.0", 1) +
				"Memory cgroup out of memory: Kill process 7 (hog) score 900 or sacrifice child\nKilled process 7 (hog) total-vm:1kB, anon-rss:1kB, file-rss:1kB\n" +
				"Kill process 9 (clone) sharing same memory\n",
			"memcg killed: hog in /a by memcg, chosen hog[7], shared_mm clone[9]",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := brief(parse(t, test.log, Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestTornNumbersAreNotUsed cuts the last line of a log at each byte.
func TestTornNumbersAreNotUsed(t *testing.T) {
	testenv.Slow(t, "parses a log for each of its bytes")

	head := headerOf("hog", 17) + limitsOf("/a") + tableOf("hog", 17, 18)
	for _, last := range []string{
		summaryOf("/a", "/a/b", "hog", 17) + killOf("hog", 17), summaryOf("/a", "/a/b,c", "hog", 17),
		"memory: usage 40960kB, limit 40970kB, failcnt 21\n",
		headerOf("hog", 17), limitsOf("/abc/def"),
	} {
		h := newGapTest(t, head+last)

		for i := range len(last) {
			if !h.check(t, fmt.Sprintf("%q", last[:i]), head+last[:i]) {
				return
			}
		}
	}
}

// TestUnsetLimitIsKnown: a limit that is not set is absent, and not in unknown.
func TestUnsetLimitIsKnown(t *testing.T) {
	log := strings.Replace(headerOf("hog", 7)+limitsOf("/a"), "swap: usage 0kB, limit 0kB", "swap: usage 0kB, limit 9007199254740988kB", 1)

	inc := parse(t, log, Options{})[0]
	if inc.Limiter.SwapLimitBytes != nil {
		t.Errorf("got swap limit %d, want none", *inc.Limiter.SwapLimitBytes)
	}

	for _, name := range inc.Unknown {
		if strings.Contains(name, "swap") {
			t.Errorf("got %s in unknown, want it known", name)
		}
	}

	if inc.Allocation.TotalPages != nil {
		t.Errorf("got total pages %d, want none: the log does not have the swap", *inc.Allocation.TotalPages)
	}

	inc = parse(t, headerOf("hog", 7)+limitsOf("/a"), Options{})[0]
	if inc.Allocation.TotalPages == nil || *inc.Allocation.TotalPages != 10240 {
		t.Errorf("got total pages %v, want those of the limit alone", inc.Allocation.TotalPages)
	}
}

// TestPgtablesInBytesAreRecognized: 5.4 printed bytes and called them kB.
func TestPgtablesInBytesAreRecognized(t *testing.T) {
	kill := strings.Replace(killOf("hog", 7), "pgtables:120kB", "pgtables:122880kB", 1)

	whole := parse(t, headerOf("hog", 7)+limitsOf("/a")+tableOf("hog", 7)+summaryOf("/a", "/a", "hog", 7)+kill, Options{})[0]
	if v := whole.Victims[0]; v.PgtablesBytes == nil || *v.PgtablesBytes != 122880 {
		t.Errorf("with the task table: got %v, want the bytes of the table", v.PgtablesBytes)
	}

	if v := parse(t, kill, Options{})[0].Victims[0]; v.PgtablesBytes != nil {
		t.Errorf("without the task table: got %d, want none", *v.PgtablesBytes)
	}
}

func TestIDsAreUniqueAndReproducible(t *testing.T) {
	log := killOf("a", 1) + killOf("a", 1+1) + killOf("b", 1)
	seen := map[string]bool{}

	first := parse(t, log+strings.Repeat(killOf("c", 5)+"foreign\n"+killOf("d", 6), 3), Options{})
	for _, inc := range first {
		if seen[inc.ID] {
			t.Errorf("got id %s twice, want it once", inc.ID)
		}
		seen[inc.ID] = true
	}

	for i, inc := range parse(t, log, Options{}) {
		check(t, "id", inc.ID, first[i].ID)
	}
}

// stamped adds the time of dmesg, in seconds, to each line.
func stamped(t *testing.T, at float64, text string) string {
	return shift(t, "[0.0] "+strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n[0.0] ")+"\n", at)
}

// TestOnlyTheAnnouncedKillMayBeLate: a kill that the report does not announce starts another.
func TestOnlyTheAnnouncedKillMayBeLate(t *testing.T) {
	report := stamped(t, 10, headerOf("hog", 7)+limitsOf("/a")+tableOf("hog", 7, 8)+summaryOf("/a", "/a", "hog", 7))

	split := "memcg : hog in /a\nmemcg killed: - in - by memcg, unknown "
	for _, test := range []struct{ name, log, want string }{
		{"preempted", report + stamped(t, 11.5, killOf("hog", 7)), "memcg killed: hog in /a by memcg, chosen hog[7] of /a"},
		{"too late", report + stamped(t, 80, killOf("hog", 7)), split + "hog[7]"},
		{"of another", report + stamped(t, 11.5, killOf("hog", 8)), split + "hog[8]"},
		{"a longer number", report + stamped(t, 11.5, killOf("hog", 77)), split + "hog[77]"},
	} {
		if got := brief(parse(t, test.log, Options{})); got != test.want {
			t.Errorf("%s: got\n%s\nwant\n%s", test.name, got, test.want)
		}
	}
}

// TestRepeatsAreOneIncident: reports without a killable task are counted with the first of
// them, and right after a kill with that.
func TestRepeatsAreOneIncident(t *testing.T) {
	stamped := func(at float64, text string) string { return stamped(t, at, text) }
	none := headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + "Out of memory and no killable processes...\n"
	other := strings.Replace(none, "stats for /a:", "stats for /b:", 1)

	killed := headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7)
	for _, test := range []struct{ name, log, want string }{
		{"loop", stamped(10, none) + stamped(11, none) + stamped(30, none), "no_killable_task 0/3 lines 1 to 54; "},
		{"two limiters", stamped(10, none) + stamped(11, other) + stamped(12, none), "no_killable_task 0/2 lines 1 to 54; no_killable_task 0/1 lines 19 to 36; "},
		{"long after", stamped(10, none) + stamped(100, none), "no_killable_task 0/1 lines 1 to 18; no_killable_task 0/1 lines 19 to 36; "},
		{"aftermath", stamped(10, killed) + stamped(10.5, none), "killed 1/1 lines 1 to 37; "},
		{"later", stamped(10, killed) + stamped(15, none), "killed 1/0 lines 1 to 19; no_killable_task 0/1 lines 20 to 37; "},
		{"no times", none + none, "no_killable_task 0/1 lines 1 to 18; no_killable_task 0/1 lines 19 to 36; "},
	} {
		got := ""
		for _, inc := range parse(t, test.log, Options{}) {
			got += fmt.Sprintf("%s %d/%d lines %d to %d; ", inc.Outcome, inc.Passes.Killed, inc.Passes.NoKillable, inc.Log.FirstLine, inc.Log.LastLine)
		}

		if got != test.want {
			t.Errorf("%s: got %s\nwant %s", test.name, got, test.want)
		}
	}
}
