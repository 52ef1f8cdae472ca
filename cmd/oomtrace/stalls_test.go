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
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// eventCounter lets the kernel's own tracing count an event of the threads of a name,
// in an instance that is ours alone.
func eventCounter(t *testing.T, event, comm string) (count func() uint64) {
	t.Helper()

	if _, err := os.Stat("/sys/kernel/tracing/instances"); err != nil {
		if err := syscall.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, ""); err != nil {
			t.Fatalf("mounting tracefs: %v", err)
		}
	}

	dir := fmt.Sprintf("/sys/kernel/tracing/instances/oomtrace-test-%d", os.Getpid())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := syscall.Rmdir(dir); err != nil {
			t.Errorf("removing %s: %v", dir, err)
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

// TestStallsBeforeAKill lets a process reclaim page cache at its limit, as much as it
// can, and then die of memory of its own: what was before is what the kernel counted.
func TestStallsBeforeAKill(t *testing.T) {
	testenv.Root(t)
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
	const name = "oomtrace-churn" // by which the kernel's tracing knows all its threads

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
		t.Fatalf("the child was not killed: %v", err)
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
		t.Fatal("the kill has no past")
	}
	var told, reclaimed uint64

	for _, s := range before.Stalls {
		switch s.What {
		case string(events.StallMemcgReclaim):
			told += s.Count
			reclaimed += s.ReclaimedBytes
		case string(events.StallAfterKill):
			told += s.Count
		}
	}

	if counted == 0 || told != counted {
		t.Errorf("%d reclaims before the kill, the kernel counted %d", told, counted)
	}

	if reclaimed < 2*limit {
		t.Errorf("%d bytes of page cache reclaimed, at least %d were", reclaimed, 2*limit)
	}
}

// uncached writes a file whose pages are charged to whoever reads it next.
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

// churn reads a file three times over, and then takes memory until it is killed.
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
