// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// What is protected below the limiter is in the log of kernels that print it; 0 is none.
func TestProtectionBelowTheLimiterIsRead(t *testing.T) {
	const (
		zero = "Memory cgroup min protection 0kB -- low protection 0kB\n"
		some = "Memory cgroup min protection 20480kB -- low protection 1024kB\n"
	)
	end := summaryOf("/a", "/a", "hog", 7) + killOf("hog", 7)
	v1 := strings.Replace(limitsOf("/a"), "\nswap:", "\nmemory+swap:", 1)

	for name, test := range map[string]struct {
		log      string
		min, low uint64
		unknown  bool
	}{
		"some":           {headerOf("hog", 7) + limitsOf("/a") + some + tableOf("hog", 7) + end, 20 << 20, 1 << 20, false},
		"none":           {headerOf("hog", 7) + limitsOf("/a") + zero + tableOf("hog", 7) + end, 0, 0, false},
		"not printed":    {headerOf("hog", 7) + limitsOf("/a") + tableOf("hog", 7) + end, 0, 0, true},
		"cgroup v1":      {headerOf("hog", 7) + v1 + tableOf("hog", 7) + end, 0, 0, false},
		"more than used": {headerOf("hog", 7) + limitsOf("/a") + strings.Replace(some, "20480", "81920", 1) + end, 0, 1 << 20, true},
		"no number":      {headerOf("hog", 7) + limitsOf("/a") + strings.Replace(some, "20480", "x", 1) + end, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			list := parse(t, test.log, Options{})
			if len(list) != 1 || list[0].Limiter == nil {
				t.Fatalf("got incidents %+v, want one with a limiter", list)
			}
			var min, low uint64

			l := list[0].Limiter
			if l.ProtectedMinBytes != nil {
				min = *l.ProtectedMinBytes
			}

			if l.ProtectedLowBytes != nil {
				low = *l.ProtectedLowBytes
			}

			if min != test.min || low != test.low {
				t.Errorf("got %d and %d bytes, want %d and %d", min, low, test.min, test.low)
			}

			if got := slices.Contains(list[0].Unknown, "limiter.protected_min_bytes"); got != test.unknown {
				t.Errorf("got unknown %q, want limiter.protected_min_bytes in it: %t", list[0].Unknown, test.unknown)
			}
		})
	}
}

// The message before the kill shows that the kernel did not compare processes
// (mm/oom_kill.c: out_of_memory).
func TestAChoiceOfTheAllocatingTaskIsSeenInTheMessage(t *testing.T) {
	const (
		summary = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=hog,pid=7,uid=0\n"
		sizes   = "Killed process 7 (hog) total-vm:82988kB, anon-rss:40592kB, file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:120kB oom_score_adj:0\n"
		old     = "Killed process 7 (hog) total-vm:82988kB, anon-rss:40592kB, file-rss:4kB, shmem-rss:0kB\n"
	)

	for name, test := range map[string]struct {
		log  string
		want events.ChosenBy
	}{
		"with the sysctl": {
			headerOf("hog", 7) + "Mem-Info:\n" + tableOf("hog", 7) + summary + "Out of memory (oom_kill_allocating_task): " + sizes,
			events.ChosenByAllocation,
		},
		"with the sysctl, before 5.1": {
			headerOf("hog", 7) + "Mem-Info:\n" + tableOf("hog", 7) +
				"Out of memory (oom_kill_allocating_task): Kill process 7 (hog) score 0 or sacrifice child\n" + old,
			events.ChosenByAllocation,
		},
		"by badness": {
			headerOf("hog", 7) + "Mem-Info:\n" + tableOf("hog", 7) + summary + "Out of memory: " + sizes, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			list := parse(t, test.log, Options{})
			if len(list) != 1 || len(list[0].Victims) != 1 {
				t.Fatalf("got incidents %+v, want one with one victim", list)
			}

			if got := list[0].Victims[0].ChosenBy; got != test.want {
				t.Errorf("got chosen by %q, want %q", got, test.want)
			}
		})
	}
}
