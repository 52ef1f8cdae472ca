// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernellog"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// loggedKillOf returns the newest incident of the kernel's log that killed a process, nil if
// there is no whole report: the kernel writes ten in five seconds (mm/oom_kill.c: oom_rs).
func loggedKillOf(t *testing.T, pid int) *events.Incident {
	t.Helper()

	log, err := kernellog.OpenKmsg()
	if err != nil {
		testenv.Lacks(t, err.Error())
	}
	defer log.Close()

	var last *events.Incident

	if _, err := kernellog.Read(log, kernellog.Options{PageSizeBytes: os.Getpagesize()}, func(inc *events.Incident) error {
		if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid }) {
			last = inc
		}

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	if last == nil || last.Memory == nil {
		return nil
	}

	return last
}

// TestAKillByTracepointsKnowsWhatTheLogKnows kills on this kernel: the live incident must have
// the charge and the first cause of the kernel's own report.
func TestAKillByTracepointsKnowsWhatTheLogKnows(t *testing.T) {
	file := filepath.Join("/dev/shm", testRoot())

	for name, test := range map[string]struct{ digit, script, cause string }{
		"tmpfs":    {"1", "exec dd if=/dev/zero bs=64k count=1000 of=" + file, "tmpfs"},
		"own heap": {"2", "exec tail /dev/zero", "own_limit"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := containerCgroup(t, containerID(test.digit))
			limitTo(t, dir, 24<<20)
			t.Cleanup(func() { os.Remove(file) })

			var inc, log *events.Incident

			for try := 0; log == nil; try++ {
				var pid int

				k := tracedBy(t, events.TierTracepoint, func() {
					cmd, _ := startIn(t, dir, test.script, nil)
					pid = cmd.Process.Pid
					cmd.Wait()
				})

				if inc = k.of(pid); inc == nil {
					t.Fatalf("got %d incidents, want one of pid %d", len(k.incidents), pid)
				}

				if log = loggedKillOf(t, pid); log == nil && try == 3 {
					t.Fatalf("got no whole report of four kills in the kernel's log, want one")
				} else if log == nil {
					os.Remove(file)
					time.Sleep(5 * time.Second) // there were kills just before
				}
			}

			if inc.Tier != events.TierTracepoint || inc.Memory == nil || !reflect.DeepEqual(inc.Memory, log.Memory) {
				t.Errorf("got tier %s, memory %+v, want that of the log, %+v", inc.Tier, inc.Memory, log.Memory)
			}

			if a := inc.Allocation; a == nil || a.Order == nil || a.GFP == nil || *a.GFP != *log.Allocation.GFP {
				t.Errorf("got allocation %+v, want that of the log, %+v", a, log.Allocation)
			}

			if want := firstCause(log); len(inc.Causes) == 0 || inc.Causes[0].ID != want || want != test.cause {
				t.Errorf("got causes %+v, want first that of the log, %q, which is %q", inc.Causes, want, test.cause)
			}
		})
	}
}
