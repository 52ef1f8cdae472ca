// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// hogEnv makes this test's binary a program that fills memory: "THREADS MIB". Each thread
// touches that much. Then it waits for the end of its input.
const hogEnv = "OOMTRACE_TEST_HOG"

func init() {
	var threads, mib int
	if _, err := fmt.Sscan(os.Getenv(hogEnv), &threads, &mib); err != nil {
		return
	}

	fmt.Scanln() // until it is in its cgroup

	var started, all sync.WaitGroup
	started.Add(threads)

	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			started.Done()
			started.Wait() // all threads fail at the same time

			memory, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}

			for i := 0; i < len(memory); i += os.Getpagesize() {
				memory[i] = 1
			}
		})
	}

	all.Wait()
	fmt.Println("full")
	fmt.Scanln()
	os.Exit(0)
}

// limited creates a cgroup below the root of the memory hierarchy, or below another, with
// a limit; 0 MiB is none.
func limited(t *testing.T, parent, name string, mib int) (dir string) {
	t.Helper()

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	file := "memory.limit_in_bytes"

	if parent == "" {
		parent = layout.MemoryMount
	}

	if layout.MemoryVersion == 2 {
		file = "memory.max"

		if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
			t.Fatal(err)
		}
	}

	dir = filepath.Join(parent, name)
	testenv.Cgroup(t, dir)

	if mib > 0 {
		if err := os.WriteFile(filepath.Join(dir, file), strconv.AppendInt(nil, int64(mib)<<20, 10), 0); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

// hog is a running program that fills memory.
type hog struct {
	*exec.Cmd

	full chan bool // whether it filled all
}

// fill starts a hog in a cgroup.
func fill(t *testing.T, dir string, threads, mib int) *hog {
	t.Helper()

	h := &hog{exec.Command("/proc/self/exe"), make(chan bool, 1)}

	h.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", hogEnv, threads, mib))
	h.Stderr = os.Stderr

	in, err := h.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	out, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := h.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		h.Process.Kill()
		h.Wait()
	})

	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(h.Process.Pid), 10), 0); err != nil {
		t.Fatal(err)
	}

	if _, err := fmt.Fprintln(in); err != nil {
		t.Fatal(err)
	}

	go func() {
		var word string

		fmt.Fscan(out, &word)

		h.full <- word == "full"
	}()

	return h
}

// end waits until the hog is full or has exited, and reports which.
func (h *hog) end(t *testing.T) (full bool) {
	t.Helper()

	select {
	case full = <-h.full:
	case <-time.After(30 * time.Second):
		t.Fatal("got neither a full hog nor an exited one in 30 s, want one of them")
	}

	return full
}

// oomsBelow calls do while a trace with tracepoints alone runs, and returns the incidents
// that had their victim, or their trigger, below a cgroup's directory.
func oomsBelow(t *testing.T, name string, do func()) (all []*events.Incident) {
	t.Helper()

	k := &incidents{below: "/" + name}

	tr, err := Open(Options{Sink: k, Tier: events.TierTracepoint})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()

	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	ready, done := make(chan struct{}), make(chan error)
	go func() { done <- tr.Run(ctx, func() error { close(ready); return nil }) }()

	<-ready
	do()
	stop()

	if err := <-done; err != nil {
		t.Fatal(err)
	}

	return k.all
}

// incidents is a sink that keeps the incidents of one part of the tree, whole.
type incidents struct {
	below string
	all   []*events.Incident
}

func (k *incidents) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Incident:
		of := []*events.Process{l.Trigger, l.Exiting}
		for i := range l.Victims {
			of = append(of, &l.Victims[i].Process)
		}

		for _, p := range of {
			if p != nil && p.Cgroup != nil && strings.HasPrefix(p.Cgroup.Path, k.below) {
				k.all = append(k.all, l)
				break
			}
		}
	case *events.Update:
		for i, inc := range k.all {
			if l.After != nil && inc.ID == l.After.ID {
				k.all[i] = l.After
			}
		}
	}

	return nil
}

// TestAKillIsOneIncidentHoweverManyThreadsDie: since 6.13 or so, each thread of a victim
// that fails to allocate while it dies calls out_of_memory once more, and marks itself.
func TestAKillIsOneIncidentHoweverManyThreadsDie(t *testing.T) {
	testenv.Slow(t, "kills on this kernel")
	testenv.Root(t)

	const kills = 24

	name := fmt.Sprintf("oomtrace-threads-%d", os.Getpid())
	dir := limited(t, "", name, 70)
	pids := map[int]bool{}

	all := oomsBelow(t, name, func() {
		for range kills {
			h := fill(t, dir, 48, 30)
			if h.end(t) {
				t.Fatal("got a hog that filled 1440 MiB in a cgroup of 70 MiB, want it killed")
			}

			h.Wait()
			pids[h.Process.Pid] = true
		}
	})

	for _, inc := range all {
		if inc.Outcome != events.OutcomeKilled || inc.Limiter == nil || inc.Limiter.Cgroup.Path != "/"+name {
			t.Errorf("got outcome %s, limiter %+v, exiting %+v, want a kill at the limit of /%s", inc.Outcome, inc.Limiter, inc.Exiting, name)
			continue
		}

		delete(pids, inc.Victims[0].PID)
	}

	if len(all) != kills || len(pids) != 0 {
		t.Errorf("got %d incidents, %d hogs without one, want %d, 0", len(all), len(pids), kills)
	}
}

// TestTheLimitOfAParentIsNotTheFullChilds: the child's counters grew lately, when its
// threads died, and the child is full; but whoever fails to allocate is its sibling.
func TestTheLimitOfAParentIsNotTheFullChilds(t *testing.T) {
	testenv.Slow(t, "kills on this kernel")
	testenv.Root(t)

	const rounds = 8

	name := fmt.Sprintf("oomtrace-parent-%d", os.Getpid())
	parent := limited(t, "", name, 190)
	child, sibling := limited(t, parent, "child", 70), limited(t, parent, "sibling", 0)

	all := oomsBelow(t, name, func() {
		for range rounds {
			fill(t, child, 48, 30).end(t) // dies at the child's limit

			victim := fill(t, child, 1, 60)
			if !victim.end(t) {
				t.Fatal("got a hog that died at 60 MiB in a cgroup of 70 MiB, want it full")
			}

			hogs := []*hog{victim}

			for exited := false; !exited; { // the parent has room for some of these
				h := fill(t, sibling, 1, 20)
				hogs = append(hogs, h)
				exited = !h.end(t) || !victim.lives()
			}

			for _, h := range hogs {
				h.Process.Kill()
				h.Wait()
			}
		}
	})

	var got, want []string

	for _, inc := range all {
		path := "unknown"
		if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
			path = inc.Limiter.Cgroup.Path
		}

		got = append(got, path)
	}

	for range rounds {
		want = append(want, "/"+name+"/child", "/"+name)
	}

	// A kernel may kill once more for the same limit, before the first victim is gone.
	if got := slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("got limiters %q, want %q", got, want)
	}
}

// lives reports whether the hog has not died.
func (h *hog) lives() bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.Process.Pid))
	_, after, _ := strings.Cut(string(state), ") ")

	return err == nil && !strings.HasPrefix(after, "Z")
}
