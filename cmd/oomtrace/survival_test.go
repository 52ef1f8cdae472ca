// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// faults reads how often a thread faulted a page in: minflt and majflt, the 10th and 12th
// field of stat (Documentation/filesystems/proc.rst, table 1-4).
func faults(t *testing.T, pid, tid int) (minor, major uint64) {
	t.Helper()

	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if err != nil {
		t.Fatal(err)
	}

	_, rest, _ := strings.Cut(string(text), ") ") // after the name, which may have any text
	fields := strings.Fields(rest)                // from the 3rd on

	minor, err = strconv.ParseUint(fields[7], 10, 64)
	if err == nil {
		major, err = strconv.ParseUint(fields[9], 10, 64)
	}

	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}

	return minor, major
}

// A page that is faulted in on a node without memory may come seconds late, or have the
// allocation kill somebody.
func TestTheReaderTakesNoPageFaultInAThousandKills(t *testing.T) {
	const kills = 1200 // more than stay open for updates

	cmd, lines := running(t, "trace", "-o", "json")
	pid := cmd.Process.Pid
	minor, major := faults(t, pid, pid)
	began := time.Now()

	killStream(t)

	incidents := 0
	for incidents < kills && lines.Scan() {
		if strings.Contains(lines.Text(), `"kind":"`+events.KindIncident+`"`) {
			incidents++
		}
	}

	if incidents < kills {
		t.Fatalf("got %d incidents, want %d", incidents, kills)
	}

	minorAfter, majorAfter := faults(t, pid, pid)
	t.Logf("%d kills in %.1f s", incidents, time.Since(began).Seconds())

	if minor, major := minorAfter-minor, majorAfter-major; minor != 0 || major != 0 {
		t.Errorf("got %d minor and %d major faults of the thread that reads and prints, want none", minor, major)
	}
}

// The smallest bound is below what a trace with locked memory needs.
func TestATraceEndsItselfAboveItsBound(t *testing.T) {
	rootAndTime(t)

	cmd := oomtrace("trace", "-o", "json", "--max-memory", "64MiB", "--duration", "30s")

	out, err := cmd.Output()
	if exit := cmd.ProcessState.ExitCode(); exit != exitTooLarge {
		t.Errorf("got status %d (%v), want %d", exit, err, exitTooLarge)
	}

	if text := stderr(err); !strings.Contains(text, "oomtrace ends itself: it uses") {
		t.Errorf("got stderr %q, want why it ended", text)
	}

	if !strings.Contains(string(out), `"phase":"end"`) {
		t.Errorf("got output %q, want the status line of the end", out)
	}
}
