// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
)

// eventCounter counts a trace event of threads with a name, by an ftrace instance of its
// own.
func eventCounter(t *testing.T, event, comm string) (count func() uint64) {
	t.Helper()

	if _, err := os.Stat("/sys/kernel/tracing/instances"); err != nil {
		if err := syscall.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, ""); err != nil {
			t.Fatalf("mount tracefs: %v", err)
		}
	}

	dir := fmt.Sprintf("/sys/kernel/tracing/instances/oomtrace-test-%d", os.Getpid())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := syscall.Rmdir(dir); err != nil {
			t.Errorf("remove the ftrace instance: %v", err)
		}
	})
	set := func(file, text string) {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("buffer_size_kb", "16384")
	set(event+"/filter", fmt.Sprintf("comm == %q", comm))
	set(event+"/enable", "1")

	return func() (count uint64) {
		set(event+"/enable", "0")

		text, err := os.ReadFile(filepath.Join(dir, "trace"))
		if err != nil {
			t.Fatal(err)
		}

		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "#") {
				count++
			}
		}

		return count
	}
}

// A process reclaims page cache at its limit, and then allocates memory until it is killed.
// The stall history must have as many reclaims as the kernel's own tracing counted.
func TestStallHistoryMatchesTheKernelsCount(t *testing.T) {
	rootAndTime(t)
	const limit = 24 << 20

	file := filepath.Join(t.TempDir(), "pages") // larger than the limit
	if err := uncached(file, 2*limit); err != nil {
		t.Fatal(err)
	}

	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-test-stalls-%d", os.Getpid()), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	trace, lines := running(t, "-o", "json")
	const name = "oomtrace-churn" // of all its threads, for the filter of ftrace

	program := filepath.Join(t.TempDir(), name)
	if self, err := os.Executable(); err != nil {
		t.Fatal(err)
	} else if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	child := exec.Command(program, file)

	child.Env = append(os.Environ(), "OOMTRACE_TEST_CHURN=1")

	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid

	count := eventCounter(t, "events/vmscan/mm_vmscan_memcg_reclaim_end", name)
	if err := scratch.Add(pid); err != nil {
		t.Fatal(err)
	}

	in.Write([]byte{1})

	if err := child.Wait(); !killedBySIGKILL(err) {
		t.Fatalf("got %v from the child, want SIGKILL", err)
	}
	counted := count()

	time.Sleep(1500 * time.Millisecond)
	trace.Process.Signal(os.Interrupt)

	var id string
	var before *events.Before

	for lines.Scan() {
		var inc events.Incident
		if err := json.Unmarshal(lines.Bytes(), &inc); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}

		switch {
		case inc.Kind == events.KindIncident && len(inc.Victims) > 0 && inc.Victims[0].PID == pid:
			id = inc.ID
		case inc.Kind == events.KindIncidentUpdate && inc.ID == id && inc.Before != nil:
			before = inc.Before
		}
	}

	if err := trace.Wait(); err != nil {
		t.Error(err)
	}

	if before == nil {
		t.Fatal("got no stall history, want that of the kill")
	}
	var reported, reclaimed uint64

	for _, s := range before.Stalls {
		switch s.What {
		case string(events.StallMemcgReclaim):
			reported += s.Count
			reclaimed += s.ReclaimedBytes
		case string(events.StallAfterKill):
			reported += s.Count
		}
	}

	if counted == 0 || reported != counted {
		t.Errorf("got %d reclaims in the stall history, want %d as counted by the kernel", reported, counted)
	}

	if reclaimed < 2*limit {
		t.Errorf("got %d reclaimed bytes, want at least %d", reclaimed, 2*limit)
	}
}

// uncached writes a file and drops its page cache, which is charged to whoever reads it
// next.
func uncached(name string, bytes int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()

	if _, err := f.Write(make([]byte, bytes)); err != nil {
		return err
	}

	if err := f.Sync(); err != nil {
		return err
	}

	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// churn reads a file three times, and then allocates memory until it is killed.
func churn(file string) {
	os.Stdin.Read(make([]byte, 1))

	for range 3 {
		in, err := os.Open(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}

		block := make([]byte, 1<<16)
		for {
			if _, err := in.Read(block); err != nil {
				break
			}
		}

		in.Close()
	}

	for {
		kept = append(kept, make([]byte, 1<<20))
		for i := 0; i < 1<<20; i += 4096 {
			kept[len(kept)-1][i] = 1
		}
	}
}

var kept [][]byte
