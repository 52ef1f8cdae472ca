// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// shortNode is a tree of files with a cgroup /db, and a thread in it.
type shortNode struct {
	t     *testing.T
	root  string
	now   uint64
	waits *oomWaits
}

const dbTask = 77

func newShortNode(t *testing.T) *shortNode {
	t.Helper()

	n := &shortNode{t: t, root: testenv.Tree(t, map[string]string{
		"cg/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n", "cg/db/tasks": fmt.Sprintln(dbTask),
		"cg/db/memory.usage_in_bytes": "1000\n", "cg/db/memory.limit_in_bytes": "1000\n",
		"cg/db/memory.stat": "total_rss 900\n", "cg/fine/memory.oom_control": "oom_kill_disable 1\nunder_oom 0\n",
	})}
	n.control(true, true)
	n.task("mem_cgroup_oom_synchronize", "D (disk sleep)")

	reader := host.Reader{Root: n.root, Layout: host.Layout{MemoryVersion: 1, HierarchyID: 4, MemoryMount: n.root + "/cg", MountRoot: "/"}}
	n.waits = newOOMWaits(reader, func() uint64 { n.now++; return n.now })

	return n
}

func (n *shortNode) write(name, text string) {
	n.t.Helper()

	if err := os.MkdirAll(filepath.Dir(filepath.Join(n.root, name)), 0o755); err != nil {
		n.t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(n.root, name), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *shortNode) control(disabled, under bool) {
	number := map[bool]int{true: 1}
	n.write("cg/db/memory.oom_control", fmt.Sprintf("oom_kill_disable %d\nunder_oom %d\n", number[disabled], number[under]))
}

func (n *shortNode) task(wchan, state string) {
	n.write(fmt.Sprintf("proc/%d/wchan", dbTask), wchan)
	n.write(fmt.Sprintf("proc/%d/comm", dbTask), "db\n")
	n.write(fmt.Sprintf("proc/%d/status", dbTask), fmt.Sprintf("Name:\tdb\nState:\t%s\nTgid:\t%d\n", state, dbTask))
}

// poll takes some readings, and returns what they found.
func (n *shortNode) poll(readings int) []kernel.OOMWait {
	for range readings {
		n.waits.poll(context.Background())
	}
	found, _ := n.waits.exchange(false)

	return found
}

func (n *shortNode) suspect(paths ...string) {
	n.waits.suspect(paths)
	n.waits.exchange(false)
}

// reported has the wait of /db reported.
func (n *shortNode) reported() kernel.OOMWait {
	n.t.Helper()
	n.suspect("/db", "/fine", "/gone")

	found := n.poll(seenReadings)
	if len(found) != 1 {
		n.t.Fatalf("got %+v, want one wait", found)
	}

	return found[0]
}

func TestTasksThatWaitAreFoundAtTheSecondReading(t *testing.T) {
	n := newShortNode(t)
	n.suspect("/db", "/fine", "/gone")

	if found := n.poll(1); len(found) != 0 {
		t.Errorf("got %+v at the first reading, want nothing: they may be woken at once", found)
	}

	found := n.poll(1)
	if len(found) != 1 {
		t.Fatalf("got %+v at the second reading, want one wait", found)
	}

	r := found[0]
	if r.Limiter.Cgroup.Path != "/db" || !*r.Limiter.OOMKillDisable || *r.Ladder[0].MaxBytes != 1000 || *r.Memory.AnonBytes != 900 {
		t.Errorf("got limiter %+v, ladder %+v, memory %+v, want those of /db", r.Limiter, r.Ladder, r.Memory)
	}

	if len(r.Tasks) != 1 || r.Tasks[0].TGID != dbTask || r.Tasks[0].Comm != "db" || r.Tasks[0].Cgroup.ID == 0 || r.Earlier || r.End != "" {
		t.Errorf("got tasks %+v, earlier %v, end %q, want db[%d] that waits since the first reading", r.Tasks, r.Earlier, r.End, dbTask)
	}

	if found := n.poll(10); len(found) != 0 || !n.waits.poll(context.Background()) {
		t.Errorf("got %+v, want no change while it waits, and more readings", found)
	}
}

func TestABriefWaitIsNone(t *testing.T) {
	n := newShortNode(t)
	n.suspect("/db")
	n.poll(1)
	n.control(true, false)
	n.task("futex_wait_queue", "S (sleeping)")

	if found := n.poll(10); len(found) != 0 {
		t.Errorf("got %+v, want nothing of tasks that were woken", found)
	}

	if n.waits.poll(context.Background()) {
		t.Error("got more readings, want none once nothing is short")
	}
}

func TestAWaitEndsByWhatTheFilesShow(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*shortNode)
		want   events.WaitEnd
	}{
		{"the killer is enabled", func(n *shortNode) { n.control(false, true) }, events.WaitEndKillerEnabled},
		{"the limit is raised", func(n *shortNode) {
			n.control(true, false)
			n.write("cg/db/memory.limit_in_bytes", "2000\n")
		}, events.WaitEndLimitRaised},
		{"the limit is raised, and full again", func(n *shortNode) {
			n.write("cg/db/memory.limit_in_bytes", "2000\n")
		}, events.WaitEndLimitRaised},
		{"the task is killed", func(n *shortNode) {
			n.control(true, false)
			n.task("0", "Z (zombie)")
		}, events.WaitEndTaskExited},
		{"the task is killed, and reaped", func(n *shortNode) {
			n.control(true, false)
			n.must(os.RemoveAll(filepath.Join(n.root, "proc")))
		}, events.WaitEndTaskExited},
		{"memory is freed", func(n *shortNode) {
			n.control(true, false)
			n.task("0", "R (running)")
		}, events.WaitEndMemoryFreed},
		{"another ancestor kills: under_oom is still set", func(n *shortNode) { n.task("futex_wait", "S (sleeping)") }, events.WaitEndMemoryFreed},
		{"the cgroup is removed", func(n *shortNode) { n.must(os.RemoveAll(filepath.Join(n.root, "cg/db"))) }, events.WaitEndCgroupRemoved},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newShortNode(t)
			n.reported()

			gone := n.now + 1 // of the first reading after the change
			test.change(n)

			found := n.poll(goneReadings)
			if len(found) != 1 || found[0].End != test.want || found[0].BootNS != gone {
				t.Fatalf("got %+v, want the end %s at %d", found, test.want, gone)
			}

			if found := n.poll(suspectReadings); len(found) != 0 {
				t.Errorf("got %+v after the end, want nothing", found)
			}
		})
	}
}

func (n *shortNode) must(err error) {
	n.t.Helper()

	if err != nil {
		n.t.Fatal(err)
	}
}

func TestAWokenTaskThatSleepsAgainStillWaits(t *testing.T) {
	n := newShortNode(t)
	n.reported()

	for range 5 {
		n.control(true, false)
		n.task("0", "R (running)")

		found := n.poll(1)

		n.control(true, true)
		n.task("mem_cgroup_oom_synchronize", "D (disk sleep)")

		if found = append(found, n.poll(1)...); len(found) != 0 {
			t.Fatalf("got %+v, want no end: it sleeps again", found)
		}
	}
}

func TestTasksThatJoinAreAnUpdate(t *testing.T) {
	n := newShortNode(t)
	first := n.reported()

	n.write("cg/db/tasks", "77\n78\n")
	n.write("proc/78/wchan", "mem_cgroup_oom_synchronize")
	n.write("proc/78/comm", "late\n")
	n.write("proc/78/status", "Name:\tlate\nState:\tD (disk sleep)\nTgid:\t77\n")

	if found := n.poll(3); len(found) != 0 {
		t.Errorf("got %+v, want no update within ten seconds", found)
	}

	n.now += joinedNS

	found := n.poll(3)
	if len(found) != 1 || len(found[0].Tasks) != 2 || found[0].End != "" {
		t.Fatalf("got %+v, want one update with two threads", found)
	}

	if late := found[0].Tasks[1]; late.Comm != "late" || late.LeaderComm != "db" {
		t.Errorf("got thread %+v, want late of db", late)
	}

	if found[0].Limiter.Cgroup.CgroupKey != first.Limiter.Cgroup.CgroupKey {
		t.Errorf("got limiter %+v, want %+v", found[0].Limiter.Cgroup, first.Limiter.Cgroup)
	}
}

// In a PID namespace of its own, the tracer sees no task of others.
func TestUnseenTasksTakeMoreReadings(t *testing.T) {
	n := newShortNode(t)
	n.write("cg/db/tasks", "0\n")
	n.suspect("/db")

	if found := n.poll(unseenReadings - 1); len(found) != 0 {
		t.Errorf("got %+v, want nothing yet", found)
	}

	if found := n.poll(1); len(found) != 1 || len(found[0].Tasks) != 0 {
		t.Fatalf("got %+v, want a wait without tasks", found)
	}

	n.control(true, false)

	if found := n.poll(goneReadings); len(found) != 1 || found[0].End != events.WaitEndMemoryFreed {
		t.Errorf("got %+v, want its end", found)
	}
}

func TestWaitsFromBeforeTheTraceAreFound(t *testing.T) {
	n := newShortNode(t)
	n.waits.scan(context.Background())

	if found := n.poll(seenReadings); len(found) != 1 || !found[0].Earlier || found[0].Limiter.Cgroup.Path != "/db" {
		t.Errorf("got %+v, want the wait of /db, from before the trace", found)
	}
}

func TestSuspectsBeyondTheBoundAreCounted(t *testing.T) {
	n := newShortNode(t)

	var paths []string
	for i := range maxOOMWaits + 3 {
		paths = append(paths, fmt.Sprintf("/x%d", i))
	}

	n.suspect(paths...)
	n.suspect(paths[:10]...)

	if _, refused := n.waits.exchange(false); refused != 3 {
		t.Errorf("got %d refused, want 3", refused)
	}
}

// The reader of records must not wait for the goroutine that reads files.
func TestSuspectsWaitWhileTheLockIsTaken(t *testing.T) {
	n := newShortNode(t)

	n.waits.mu.Lock()
	n.suspect("/db")

	if len(n.waits.suspects) != 0 {
		t.Errorf("got suspects %v, want them kept back", n.waits.suspects)
	}

	n.waits.mu.Unlock()
	n.waits.exchange(false)

	if found := n.poll(seenReadings); len(found) != 1 {
		t.Errorf("got %+v, want the wait of /db", found)
	}
}

// Counts are read between the seconds, too, for a kill: what those show must not be missed.
func TestSuspectsAreThoseOfTheLastSeconds(t *testing.T) {
	known := tree()
	at, ok := known.Path(events.CgroupKey{ID: 2})
	key := kernel.StallKey{Cgroup: events.CgroupKey{ID: 2}, What: events.StallMemcgReclaim}
	count := kernel.StallCount{StallTotals: kernel.StallTotals{Count: 16, NoProgress: 16}}

	s := &stallHistory{tree: resolve.NewNamedTree(known, nil), recorder: flight.New(0)}
	s.recorder.Counts(kernel.StallCounts{Meta: kernel.Meta{BootNS: 10e9}, Counts: map[kernel.StallKey]kernel.StallCount{key: count}})

	for _, ns := range []uint64{10e9, 11e9} {
		if got := s.withoutProgress(ns); !ok || !slices.Equal(got, []string{at}) {
			t.Errorf("after %d ns: got %q, want %q", ns, got, at)
		}
	}

	if got := s.withoutProgress(13e9); len(got) != 0 {
		t.Errorf("after 13 s: got %q, want nothing", got)
	}
}
