// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv/deaths"
)

func init() { deaths.FromEnvironment() }

// die runs a process that dies in that way in a cgroup, and returns its PID. kill, which may
// be nil, kills it, and returns the PID of whoever dies, 0 for the process.
func die(t *testing.T, dir, way string, kill func(pid int)) (pid int) {
	t.Helper()

	cmd := deaths.Command(way, 0)
	cmd.Stderr = os.Stderr

	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	lines := bufio.NewScanner(out)
	lines.Scan()

	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(lines.Text()), 0); err != nil {
		t.Error(err)
	}

	if kill != nil {
		kill(cmd.Process.Pid)
	}

	cmd.Process.Signal(syscall.SIGUSR1)

	const patience = 30 * time.Second

	giveUp := time.AfterFunc(patience, func() {
		t.Errorf("got a process that still runs after %v, want one that died of %s", patience, way)
		cmd.Process.Kill()
	})
	defer giveUp.Stop()

	pid = cmd.Process.Pid

	if way == deaths.Parent {
		lines.Scan()
		fmt.Sscan(lines.Text(), &pid)
		cmd.Process.Signal(syscall.SIGUSR2)
	}

	cmd.Wait()

	return pid
}

// Only a process that sent a SIGKILL is named as its sender: signals of the kernel, and
// those that an interrupt sends, hit whichever process is running.
func TestOnlyTheSenderOfASIGKILLIsNamed(t *testing.T) {
	var tracer, forger, parent int // the senders' PIDs

	program := func(tracepoint string) func(t *testing.T, pid int) {
		return func(t *testing.T, pid int) {
			detach, err := deaths.Program(tracepoint, pid)
			if err != nil {
				t.Error(err)
				return
			}

			t.Cleanup(detach)
		}
	}

	for _, test := range []struct {
		digit, way string
		kill       func(t *testing.T, pid int)
		times      int
		kind, path string
		evidence   string
		sender     *int // its PID; nil: none is named
	}{
		{digit: "1", way: deaths.Timer, times: 6, kind: "kernel", path: "timer", evidence: "POSIX timer of the process itself"},
		{digit: "2", way: deaths.CPUTimer, kind: "kernel", path: "timer", evidence: "POSIX timer of the process itself"},
		{digit: "3", way: deaths.CPULimit, kind: "kernel", path: "rlimit", evidence: "RLIMIT_CPU"},
		{digit: "4", way: deaths.File, kind: "kernel", path: "sigio", evidence: "F_SETSIG"},
		{digit: "5", way: deaths.Wait, kill: program("sys_enter"), kind: "kernel", path: "bpf", evidence: deaths.ProgramName},
		{digit: "6", way: deaths.Wait, kill: program("sched_switch"), kind: "kernel", path: "bpf", evidence: "BPF program"},
		{digit: "7", way: deaths.Wait, kill: func(t *testing.T, pid int) {
			cmd := deaths.Command(deaths.Trace, pid)
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			tracer = cmd.Process.Pid
		}, kind: "user", path: "tracer", evidence: "PTRACE_O_EXITKILL", sender: &tracer},
		{digit: "8", way: deaths.Wait, kill: func(t *testing.T, pid int) {
			cmd := deaths.Command(deaths.Forge, pid)
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
			forger = cmd.Process.Pid
		}, kind: "user", path: "", evidence: "sigqueue(3), with code -2", sender: &forger},
		{digit: "9", way: deaths.Parent, kind: "user", path: "self", evidence: "PR_SET_PDEATHSIG", sender: &parent},
	} {
		t.Run(test.way+test.digit, func(t *testing.T) {
			dir := containerCgroup(t, containerID(test.digit))

			for range max(1, test.times) {
				var pid int

				k := traced(t, func() {
					kill := func(pid int) { parent = pid }
					if test.kill != nil {
						kill = func(pid int) { test.kill(t, pid) }
					}

					pid = die(t, dir, test.way, kill)

					time.Sleep(500 * time.Millisecond) // the sender is looked up meanwhile
				})

				inc := k.of(pid)
				if inc == nil {
					t.Fatalf("got %d incidents, want one of pid %d", len(k.incidents), pid)
				}

				killer := inc.Killer
				if inc.Scope != events.ScopeUser || killer.Kind != test.kind || test.path != "" && killer.Path != test.path ||
					!strings.Contains(evidence(killer), test.evidence) {
					t.Errorf("got scope %s, killer %+v, evidence %s; want scope user, %s, path %s, %q in the evidence",
						inc.Scope, killer, evidence(killer), test.kind, test.path, test.evidence)
				}

				t.Logf("%s", evidence(killer))

				want := 0
				if test.sender != nil {
					want = *test.sender
				}

				none := killer.Comm == "" && killer.UID == nil && killer.Ancestry == nil && killer.Cgroup == nil
				if killer.PID != want || (want == 0) != none {
					t.Errorf("got sender %d (%+v), want %d", killer.PID, killer, want)
				}
			}
		})
	}
}
