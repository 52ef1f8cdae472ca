// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// The headline is written at the first victim, not with the incident: the kernel may take
// seconds to return from out_of_memory, while it prints its report to a slow console.
func TestTheHeadlineComesWithTheFirstVictim(t *testing.T) {
	out := &lines{}
	tr := &Tracer{opts: Options{Sink: out}, followUp: newTestFollowUp(out), programs: idlePrograms()}
	c := incident.New(incident.Config{
		Tier: events.TierFentry, PageSize: 4096, BootID: testBoot, Cgroups: resolve.NewTree(resolve.TreeOptions{}),
		WallClock: func(ns uint64) time.Time { return time.Unix(0, int64(ns)) },
	}, correlated{tr})

	trigger := kernel.Task{TGID: 5, TID: 5, Comm: "a", LeaderComm: "a"}
	victim := kernel.Task{TGID: 7, TID: 7, Comm: "java", LeaderComm: "java"}
	meta := kernel.Meta{BootNS: 1e9, Invocation: 1, Current: trigger}

	var got []string

	for _, r := range []kernel.Record{
		kernel.VictimChosen{Meta: meta, Victim: victim, AllocKnown: true, Constraint: kernel.ConstraintNone, LimiterIndex: -1},
		kernel.Kill{Meta: meta, Target: victim, FromKernel: true},
		kernel.OOMReturn{Meta: meta, Outcome: events.OutcomeKilled, Count: 1},
	} {
		if err := c.Record(r); err != nil {
			t.Fatal(err)
		}

		if len(out.lines) > 0 {
			got = append(got, fmt.Sprintf("%T", out.lines[len(out.lines)-1]))
		}
	}

	if want := []string{"*events.Headline", "*events.Incident"}; !slices.Equal(got, want) {
		t.Fatalf("got lines %v after the SIGKILL and the return, want %v", got, want)
	}

	if h := out.lines[0].(*events.Headline); h.PID != 7 || h.Comm != "java" || h.Scope != events.ScopeGlobal {
		t.Errorf("got headline %+v, want java[7] of a global OOM", h)
	}
}

// A file that does not answer, as of a process that holds its mmap_lock, must not keep the
// trace from ending.
func TestAHungReadDoesNotKeepRunFromReturning(t *testing.T) {
	testenv.Slow(t, "waits for two seconds")

	dir := t.TempDir()
	child := filepath.Join(dir, "a", "b")

	if err := os.MkdirAll(child, 0o755); err != nil {
		t.Fatal(err)
	}

	files := []string{filepath.Join(child, "memory.current"), filepath.Join(child, "memory.stat"), filepath.Join(child, "memory.max")}
	for _, file := range files {
		if err := syscall.Mkfifo(file, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	reader := host.Reader{
		Layout: host.Layout{MemoryMount: dir, MemoryVersion: 2},
		Place:  func(string) (events.Level, *events.Workload) { return "", nil },
	}
	warned := false
	tr := &Tracer{opts: Options{Sink: sink.Discard, Warn: func(string) { warned = true }}, host: newHostState(reader, nil)}

	ctx, stop := context.WithCancel(t.Context())
	tr.stopWork = stop

	tr.work.Go(func() { tr.host.run(ctx) })

	inc := podKill(0)
	inc.Limiter.Cgroup.Path, inc.Time = "/a", time.Now()
	tr.host.start(inc)

	time.Sleep(100 * time.Millisecond) // the sampler waits for a writer of the first file

	began := time.Now()

	tr.stop()

	if took := time.Since(began); took > 2*stopWithin || !warned {
		t.Errorf("got an end after %s, warned: %v; want one within %s, with a warning", took, warned, stopWithin)
	}

	// Each file ends for its reader, so that no goroutine is left.
	ended := make(chan struct{})

	go func() {
		tr.work.Wait()
		close(ended)
	}()

	for {
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}

		for _, file := range files {
			if w, err := os.OpenFile(file, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				w.Close()
			}
		}
	}
}

func TestOneCauseAtATimeWhileRecordsWait(t *testing.T) {
	out := &lines{}
	f := newTestFollowUp(out)

	for i := range 3 {
		mustIncident(t, f, podKill(i), 0)
	}

	if err := f.advance(1, false); err != nil {
		t.Fatal(err)
	}

	if got := causesOf(out.lines); len(got) != 1 {
		t.Errorf("got causes of %v while records wait, want of one incident", got)
	}

	advance(t, f, 2)

	if got := causesOf(out.lines); len(got) != 3 {
		t.Errorf("got causes of %v when it is quiet, want of three incidents", got)
	}
}
