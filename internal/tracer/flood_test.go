// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
	"context"
	"fmt"
	"io"
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
)

// verdict is an incident with the time from its kill to its line.
type verdict struct {
	pid  int
	took time.Duration
}

// verdicts is a sink that passes on when incidents come.
type verdicts chan verdict

func (v verdicts) Write(l events.Line) error {
	if inc, ok := l.(*events.Incident); ok {
		for _, victim := range inc.Victims {
			v <- verdict{victim.PID, time.Since(inc.Time)}
		}
	}

	return nil
}

// of returns how long the verdicts on these processes took.
func (v verdicts) of(t *testing.T, pids map[int]bool) (took []time.Duration) {
	t.Helper()

	patience := time.After(20 * time.Second)

	for len(took) < len(pids) {
		select {
		case got := <-v:
			if pids[got.pid] {
				took = append(took, got.took)
			}
		case <-patience:
			t.Fatalf("got %d verdicts on %d kills within 20 s, want all of them", len(took), len(pids))
		}
	}

	return took
}

// floodEnv starts the test program as a flood of this kind, in this directory.
const floodEnv = "OOMTRACE_TEST_FLOOD"

// floods are what a user can do without end.
var floods = map[string]func(dir string) (again func() error){
	"SIGKILLs to an own zombie": func(string) func() error {
		zombie := exec.Command("/bin/true")
		if err := zombie.Start(); err != nil {
			return func() error { return err }
		}

		return func() error { return zombie.Process.Signal(syscall.SIGKILL) }
	},
	"SIGKILLs that kill": func(string) func() error {
		return func() error {
			cmd := exec.Command("/bin/sleep", "100")
			if err := cmd.Start(); err != nil {
				return err
			}

			cmd.Process.Kill()
			cmd.Wait()

			return nil
		}
	},
	"new cgroups": func(dir string) func() error {
		name := filepath.Join(dir, "x")

		return func() error {
			if err := os.Mkdir(name, 0o755); err != nil {
				return err
			}

			return os.Remove(name)
		}
	},
	"new names with long paths": func(dir string) func() error {
		from, to := filepath.Join(dir, strings.Repeat("f", 250)), filepath.Join(dir, strings.Repeat("t", 250))
		os.Mkdir(from, 0o755)

		return func() error {
			err := os.Rename(from, to)
			from, to = to, from

			return err
		}
	},
}

// TestFlooder is not a test: it is the process of a flood, which ends with its standard
// input.
func TestFlooder(t *testing.T) {
	kind, rest, ok := strings.Cut(os.Getenv(floodEnv), ":")
	if !ok {
		t.Skip("not a flood")
	}

	pause, dir, _ := strings.Cut(rest, ":")

	between, err := time.ParseDuration(pause)
	if err != nil {
		t.Fatal(err)
	}

	again := floods[kind](dir)
	ended := make(chan struct{})

	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()

	fmt.Println("flood")

	for {
		select {
		case <-ended:
			return
		default:
		}

		if err := again(); err != nil {
			t.Fatal(err)
		}

		time.Sleep(between)
	}
}

// flood runs a flood as a process of this user, and returns a function that ends it.
func flood(t *testing.T, kind, dir string, between time.Duration, uid uint32) (stop func()) {
	t.Helper()

	cmd := exec.Command("/proc/self/exe", "-test.run=^TestFlooder$")

	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%s:%s", floodEnv, kind, between, dir))
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}

	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	lines := bufio.NewScanner(out)
	if lines.Scan(); lines.Text() != "flood" {
		t.Errorf("got %q, want a flood", lines.Text())
	}

	return func() {
		in.Close()

		for lines.Scan() {
			if !strings.HasPrefix(lines.Text(), "PASS") && !strings.HasPrefix(lines.Text(), "coverage") {
				t.Logf("the flood: %s", lines.Text())
			}
		}

		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v, want the flood to run until it is ended", err)
		}
	}
}

// killSome has the OOM killer kill processes, and sends SIGKILL to others. It returns the
// medians of how long the verdicts took.
func killSome(t *testing.T, seen verdicts, containers []string) (oom, user time.Duration) {
	t.Helper()

	pids := make(map[int]bool)

	for _, dir := range containers {
		victim, _ := startIn(t, dir, "exec sleep 100", nil)
		defer victim.Wait()

		victim.Process.Kill()
		pids[victim.Process.Pid] = true
	}

	user = median(seen.of(t, pids))

	var took []time.Duration
	for range 5 {
		took = append(took, seen.of(t, map[int]bool{killByOOM(t): true})...)
	}

	return median(took), user
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// killByOOM has the OOM killer kill a process at the limit of its cgroup.
func killByOOM(t *testing.T) (pid int) {
	t.Helper()

	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-verdict-%d", os.Getpid()), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()

	// tail reads a line that never ends. The shell waits until it is in its cgroup.
	cmd := exec.Command("/bin/sh", "-c", "read go && exec tail /dev/zero")

	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}

	if err == nil {
		err = scratch.Add(cmd.Process.Pid)
	}

	if err == nil {
		_, err = in.Write([]byte("go\n"))
	}

	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Wait(); err == nil {
		t.Fatalf("process %d exited normally, want it killed", cmd.Process.Pid)
	}

	return cmd.Process.Pid
}

// A flood of records holds back no verdict: beside it, an OOM kill and a SIGKILL are reported
// as soon as in silence, and 200 ms.
func TestFloodsHoldBackNoVerdict(t *testing.T) {
	var containers []string
	for _, digit := range []string{"1", "2", "3"} {
		containers = append(containers, containerCgroup(t, containerID(digit)))
	}

	const nobody = 65534

	dir := filepath.Join(filepath.Dir(containers[0]), "flood")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		below, _ := os.ReadDir(dir)
		for _, d := range below {
			if d.IsDir() {
				os.Remove(filepath.Join(dir, d.Name()))
			}
		}

		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})

	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}

	seen := make(verdicts, 1<<16)

	tr, err := Open(Options{Sink: seen})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()

	ctx, stop := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error)

	go func() { done <- tr.Run(ctx, func() error { close(ready); return nil }) }()

	<-ready

	oom, user := killSome(t, seen, containers)
	t.Logf("in silence: an OOM kill after %s, a SIGKILL after %s", oom, user)

	const more = 200 * time.Millisecond

	for _, test := range []struct {
		kind    string
		between time.Duration
		uid     uint32
		v1      bool // cgroup v1 only
	}{
		{"SIGKILLs to an own zombie", 200 * time.Microsecond, 0, false},
		{"SIGKILLs to an own zombie", 0, nobody, false},
		{"SIGKILLs that kill", 0, nobody, false},
		{"new cgroups", 50 * time.Millisecond, 0, false},
		{"new cgroups", 0, nobody, false},
		{"new names with long paths", 0, nobody, true},
	} {
		t.Run(fmt.Sprintf("%s every %s by %d", test.kind, test.between, test.uid), func(t *testing.T) {
			if test.v1 && tr.Layout().MemoryVersion != 1 {
				t.Skip("needs cgroup v1")
			}

			end := flood(t, test.kind, dir, test.between, test.uid)
			oomBeside, userBeside := killSome(t, seen, containers)

			end()

			t.Logf("got an OOM kill after %s, a SIGKILL after %s", oomBeside, userBeside)

			if oomBeside > oom+more || userBeside > user+more {
				t.Errorf("got an OOM kill after %s, a SIGKILL after %s, want them within %s of %s and %s", oomBeside, userBeside, more, oom, user)
			}
		})
	}

	stop()

	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
