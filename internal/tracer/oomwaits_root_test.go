// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// grow makes a shell double a string in its own memory: page faults of user mode, which
// wait. A system call over the limit would fail instead.
const grow = "x=aaaaaaaa; while :; do x=$x$x; done"

// live is a trace whose incidents of this test's cgroups can be awaited.
type live struct {
	t     *testing.T
	lines chan *events.Incident // each as it is first, and after each update
	seen  []*events.Incident    // of these, by the test
}

func startLive(t *testing.T) *live {
	t.Helper()

	l := &live{t: t, lines: make(chan *events.Incident, 1000)}

	tr, err := Open(Options{Sink: sink.Func(l.write), Stalls: true, UserKills: incident.UserKillsAll})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)

	go func() { done <- tr.Run(ctx, func() error { close(ready); return nil }) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}

		tr.Close()
	})
	<-ready

	return l
}

func (l *live) write(line events.Line) error {
	inc, _ := line.(*events.Incident)
	if u, ok := line.(*events.Update); ok {
		inc = u.After
	}

	ours := func(c *events.Cgroup) bool { return c != nil && strings.Contains(c.Path, testRoot()) }
	if inc != nil && (inc.Limiter != nil && ours(inc.Limiter.Cgroup) ||
		slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return ours(v.Cgroup) })) {
		l.lines <- inc
	}

	return nil
}

// await returns an incident, or a change of one, that matches: the first that was seen, or
// is seen next. What belongs to different incidents comes in any order.
func (l *live) await(what string, match func(*events.Incident) bool) *events.Incident {
	l.t.Helper()

	deadline := time.After(30 * time.Second)

	for i := 0; ; i++ {
		if i == len(l.seen) {
			select {
			case inc := <-l.lines:
				l.seen = append(l.seen, inc)
			case <-deadline:
				var all []string
				for _, inc := range l.seen {
					all = append(all, fmt.Sprintf("%s %s %+v", inc.ID, inc.Outcome, inc.Wait))
				}

				l.t.Fatalf("got %q in 30 seconds, want %s", all, what)
			}
		}

		if match(l.seen[i]) {
			return l.seen[i]
		}
	}
}

func (l *live) awaitWait(except string) *events.Incident {
	l.t.Helper()

	return l.await("tasks that wait", func(inc *events.Incident) bool {
		return inc.Outcome == events.OutcomeOOMKillDisabled && inc.ID != except
	})
}

func (l *live) awaitEnd(id string, end events.WaitEnd) *events.Incident {
	l.t.Helper()

	inc := l.await("the end of the wait", func(inc *events.Incident) bool { return inc.ID == id && inc.Wait.EndedAfterNS != nil })
	if inc.Wait.End != end {
		l.t.Errorf("got end %s, want %s", inc.Wait.End, end)
	}

	return inc
}

// shortCgroup is a cgroup v1 with a limit of 20 MiB and a disabled OOM killer.
func shortCgroup(t *testing.T, container string) (dir string) {
	t.Helper()
	dir = containerCgroup(t, container)

	if layout, err := host.Cgroups(); err != nil || layout.MemoryVersion != 1 {
		t.Skipf("the memory controller is of cgroup v2, which cannot disable the OOM killer (error %v)", err)
	}

	set(t, dir, "memory.limit_in_bytes", "20M")
	set(t, dir, "memory.oom_control", "1")

	return dir
}

func set(t *testing.T, dir, file, value string) {
	t.Helper()

	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

func startGrowing(t *testing.T, dir string) *exec.Cmd {
	t.Helper()

	hog, _ := startIn(t, dir, grow, nil)

	t.Cleanup(func() {
		_ = hog.Process.Kill()
		_ = hog.Wait()
	})

	return hog
}

func isOf(tasks []events.Process, pid int) bool {
	return slices.ContainsFunc(tasks, func(p events.Process) bool { return p.PID == pid && p.Comm == "sh" })
}

func TestTasksThatWaitForMemoryAreReported(t *testing.T) {
	dir := shortCgroup(t, containerID("a"))
	l := startLive(t)
	began := time.Now()
	hog := startGrowing(t, dir)

	inc := l.awaitWait("")
	t.Logf("reported after %v, waiting since %v", time.Since(began), inc.Time.Sub(began))

	limiter := inc.Limiter
	if inc.Scope != events.ScopeMemcg || limiter.Cgroup.Path == "" || !strings.HasSuffix(dir, limiter.Cgroup.Path) ||
		*limiter.LimitBytes != 20<<20 || !*limiter.OOMKillDisable || !*limiter.UnderOOM {
		t.Errorf("got scope %s, limiter %+v, want the cgroup of 20 MiB with its killer disabled", inc.Scope, limiter)
	}

	if inc.Wait.Since == nil || !isOf(inc.Wait.Tasks, hog.Process.Pid) || inc.Trigger.PID != hog.Process.Pid {
		t.Errorf("got wait %+v, trigger %+v, want sh[%d]", inc.Wait, inc.Trigger, hog.Process.Pid)
	}

	if len(inc.Ladder) == 0 || inc.Memory == nil || *inc.Memory.AnonBytes < 10<<20 || inc.Limiter.Workload == nil {
		t.Errorf("got ladder %+v, memory %+v, workload %+v, want those of the cgroup", inc.Ladder, inc.Memory, inc.Limiter.Workload)
	}

	inc = l.await("its cause", func(change *events.Incident) bool { return change.ID == inc.ID && len(change.Causes) > 0 })
	if inc.Causes[0].ID != "oom_kill_disabled" {
		t.Errorf("got causes %+v, want oom_kill_disabled first", inc.Causes)
	}

	set(t, dir, "memory.oom_control", "0")

	kill := l.await("the kill", func(kill *events.Incident) bool { return kill.Outcome == events.OutcomeKilled })
	if kill.Scope != events.ScopeMemcg || kill.Victims[0].PID != hog.Process.Pid {
		t.Errorf("got scope %s, victims %+v, want sh[%d] by its limit", kill.Scope, kill.Victims, hog.Process.Pid)
	}

	if inc = l.awaitEnd(inc.ID, events.WaitEndKillerEnabled); !isOf(inc.Wait.Tasks, hog.Process.Pid) {
		t.Errorf("got wait %+v at its end, want the tasks that waited", inc.Wait)
	}
}

func TestAWaitEndsWithTheTask(t *testing.T) {
	dir := shortCgroup(t, containerID("b"))
	l := startLive(t)
	hog := startGrowing(t, dir)
	inc := l.awaitWait("")

	if err := hog.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}

	l.awaitEnd(inc.ID, events.WaitEndTaskExited)
}

func TestAWaitEndsWithAHigherLimit(t *testing.T) {
	dir := shortCgroup(t, containerID("c"))
	l := startLive(t)
	startGrowing(t, dir)
	inc := l.awaitWait("")

	set(t, dir, "memory.limit_in_bytes", "100M")
	l.awaitEnd(inc.ID, events.WaitEndLimitRaised)

	// It fills the new limit, too.
	if again := l.awaitWait(inc.ID); *again.Limiter.LimitBytes != 100<<20 {
		t.Errorf("got incident %s with limiter %+v, want another one of 100 MiB", again.ID, again.Limiter)
	}
}

func TestAWaitForAnAncestorIsOfTheAncestor(t *testing.T) {
	dir := shortCgroup(t, containerID("d"))
	child := filepath.Join(dir, "child")

	testenv.Cgroup(t, child)
	set(t, child, "memory.oom_control", "0") // a child inherits it

	l := startLive(t)
	hog := startGrowing(t, child)

	inc := l.awaitWait("")
	if !strings.HasSuffix(dir, inc.Limiter.Cgroup.Path) || !isOf(inc.Wait.Tasks, hog.Process.Pid) ||
		!strings.HasSuffix(inc.Wait.Tasks[0].Cgroup.Path, "/child") {
		t.Errorf("got limiter %+v, wait %+v, want %s, and a task in its child", inc.Limiter.Cgroup, inc.Wait, dir)
	}
}

func TestTasksThatWaitedBeforeTheTraceAreReported(t *testing.T) {
	dir := shortCgroup(t, containerID("e"))
	hog := startGrowing(t, dir)
	awaitAsleep(t, hog.Process.Pid)

	l := startLive(t)

	inc := l.awaitWait("")
	if inc.Wait.Since != nil || !slices.Contains(inc.Unknown, "wait.since") || !isOf(inc.Wait.Tasks, hog.Process.Pid) {
		t.Errorf("got wait %+v, unknown %v, want sh[%d] since an unknown time", inc.Wait, inc.Unknown, hog.Process.Pid)
	}
}

// awaitAsleep waits until a task waits for memory.
func awaitAsleep(t *testing.T, pid int) {
	t.Helper()
	testenv.Root(t)

	for range 1000 {
		if (host.Reader{}).OOMWaits(pid) {
			return
		}

		time.Sleep(20 * time.Millisecond)
	}

	t.Fatalf("process %d does not wait for memory after 20 seconds", pid)
}
