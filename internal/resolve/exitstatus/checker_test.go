// SPDX-License-Identifier: Apache-2.0

package exitstatus

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/source"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// fakeRuntimes answers with what a test sets.
type fakeRuntimes struct {
	mu      sync.Mutex
	exits   map[string]source.Exit
	errs    map[string]error
	absent  bool
	blocked chan struct{} // unless nil, Exit waits for it or for the context
}

func newRuntimes() *fakeRuntimes {
	return &fakeRuntimes{exits: map[string]source.Exit{}, errs: map[string]error{}}
}

func (f *fakeRuntimes) set(id string, x source.Exit, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.exits[id], f.errs[id] = x, err
}

func (f *fakeRuntimes) Exit(ctx context.Context, ref resolve.Ref) (source.Exit, error) {
	if f.blocked != nil {
		select {
		case <-f.blocked:
		case <-ctx.Done():
			return source.Exit{}, ctx.Err()
		}
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	return f.exits[ref.ContainerID], f.errs[ref.ContainerID]
}

func (f *fakeRuntimes) Connected() bool { return !f.absent }

func exited(reason string, code int) source.Exit {
	return source.Exit{State: source.StateExited, Reason: reason, Code: &code, Source: source.NameCRI}
}

var memcg = Kernel{Scope: events.ScopeMemcg, Level: events.LevelContainer, Init: true}

// await collects reports by their incidents until there are n.
func await(t *testing.T, c *Checker, n int) map[string]Report {
	t.Helper()

	all := map[string]Report{}

	for end := time.Now().Add(10 * time.Second); len(all) < n && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, r := range c.Reports() {
			all[r.Incident] = r
		}
	}

	if len(all) != n {
		t.Fatalf("got %d reports, want %d", len(all), n)
	}

	return all
}

// TestTheRuntimeIsAskedUntilItIsFinal: a container that runs is asked for again, and so
// is an exit that contradicts the kernel, for a while.
func TestTheRuntimeIsAskedUntilItIsFinal(t *testing.T) {
	f := newRuntimes()

	c := New(f)
	defer c.Close()

	f.set("runs", source.Exit{State: source.StateRunning, Source: source.NameCRI}, nil)
	f.set("settles", exited("Error", 137), nil)
	f.set("removed", source.Exit{}, source.ErrUnknown)
	f.set("event", exited("OOMKilled", 137), source.ErrUnknown)

	for _, id := range []string{"runs", "settles", "removed", "event"} {
		c.Check(Check{Incident: id, Ref: resolve.Ref{ContainerID: id}, Kernel: memcg})
	}

	time.Sleep(100 * time.Millisecond)
	f.set("runs", exited("OOMKilled", 137), nil)
	f.set("settles", exited("OOMKilled", 137), nil)

	reports := await(t, c, 4)
	for _, id := range []string{"runs", "settles", "event"} {
		if r := reports[id]; !r.Agrees || r.State != source.StateExited || r.Reason != "OOMKilled" ||
			*r.ExitCode != 137 || r.Source != source.NameCRI {
			t.Errorf("%s: got %+v, want OOMKilled/137 that agrees", id, r)
		}
	}

	if r := reports["removed"]; r.Agrees || r.State != source.StateUnknown {
		t.Errorf("got %+v, want state %s", r, source.StateUnknown)
	}
}

// TestAContradictionIsReportedOnceItSettles: it is asked for again only for a second.
func TestAContradictionIsReportedOnceItSettles(t *testing.T) {
	testenv.Slow(t, "takes two seconds")

	f := newRuntimes()

	c := New(f)
	defer c.Close()

	f.set("a", exited("Error", 137), nil)
	c.Check(Check{Incident: "a", Ref: resolve.Ref{ContainerID: "a"}, Kernel: memcg})

	if r := await(t, c, 1)["a"]; r.Agrees || r.Text != "runtime reports Error/137, kernel: memcg OOM at container level" {
		t.Errorf("got %+v, want a contradiction", r)
	}
}

// TestNoReportWithoutARuntime: there is nothing to compare where no runtime is
// connected.
func TestNoReportWithoutARuntime(t *testing.T) {
	testenv.Slow(t, "takes ten seconds")

	f := newRuntimes()
	f.absent = true
	f.set("a", source.Exit{}, source.ErrNoAnswer)

	c := New(f)
	c.Check(Check{Incident: "a", Ref: resolve.Ref{ContainerID: "a"}, Kernel: memcg})
	c.work.Wait()

	if reports := c.Reports(); len(reports) != 0 {
		t.Errorf("got %+v, want no report", reports)
	}

	c.Close()
}

// TestCloseEndsChecks: also those that wait for a runtime; later ones do not start.
func TestCloseEndsChecks(t *testing.T) {
	before := runtime.NumGoroutine()

	f := newRuntimes()
	f.blocked = make(chan struct{})
	c := New(f)

	for range 100 {
		c.Check(Check{Kernel: memcg})
	}

	time.Sleep(askAfter[0] + 10*time.Millisecond)
	c.Close()
	c.Check(Check{Kernel: memcg})

	// A goroutine that has called WaitGroup.Done is counted until it is scheduled away.
	for end := time.Now().Add(time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}

	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("got %d goroutines after Close, want %d", after, before)
	}

	if n := len(c.Reports()); n != 0 {
		t.Errorf("got %d reports, want none", n)
	}
}

// TestTooManyChecksAreCounted: Check does not wait for room.
func TestTooManyChecksAreCounted(t *testing.T) {
	f := newRuntimes()
	f.blocked = make(chan struct{})

	c := New(f)
	defer c.Close()

	for range maxChecks + 3 {
		c.Check(Check{Kernel: memcg})
	}

	if c.Dropped() != 3 {
		t.Errorf("got %d dropped, want 3", c.Dropped())
	}
}
