// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

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
