// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// collector is a sink that collects the incidents of this test's cgroups, with all updates.
// Other cgroups of the machine may have incidents, too.
type collector struct {
	incidents []*events.Incident
	lost      map[string]uint64
}

func (k *collector) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Lost:
		k.lost[l.What] += l.Count
	case *events.Incident:
		ours := func(v events.Victim) bool { return v.Cgroup != nil && strings.Contains(v.Cgroup.Path, testRoot()) }
		if slices.ContainsFunc(l.Victims, ours) {
			k.incidents = append(k.incidents, l)
		}
	case *events.Update:
		for i, inc := range k.incidents {
			if l.After != nil && inc.ID == l.After.ID {
				k.incidents[i] = l.After
			}
		}
	}

	return nil
}

// traced calls do while a trace runs, and returns what the trace reported.
func traced(t *testing.T, do func()) *collector { return tracedBy(t, "", do) }

// tracedBy is traced with one attach mode.
func tracedBy(t *testing.T, tier events.Tier, do func()) *collector {
	t.Helper()

	k := &collector{lost: map[string]uint64{}}

	tr, err := Open(Options{Sink: k, Tier: tier})
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

	return k
}

func (k *collector) of(pid int) *events.Incident {
	for _, inc := range k.incidents {
		if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid }) {
			return inc
		}
	}

	return nil
}

func testRoot() string { return fmt.Sprintf("oomtrace-user-%d", os.Getpid()) }

const testUID = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"

// containerCgroup creates a cgroup at a path that looks like a container's, and returns
// its directory.
func containerCgroup(t *testing.T, container string) (dir string) {
	t.Helper()
	return testCgroup(t, "kubepods", "burstable", "pod"+testUID, container)
}

// testCgroup creates a cgroup below that of the tests, and returns its directory.
func testCgroup(t *testing.T, path ...string) (dir string) {
	t.Helper()
	testenv.Slow(t, "traces kills on this kernel")
	testenv.Root(t)

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	dir = layout.MemoryMount
	for _, name := range append([]string{testRoot()}, path...) {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err == nil {
			made := dir

			t.Cleanup(func() {
				for range 100 {
					if os.Remove(made) == nil {
						return
					}

					time.Sleep(20 * time.Millisecond)
				}

				t.Errorf("got %s after the test, want it removed", made)
			})
		} else if !os.IsExist(err) {
			t.Fatal(err)
		}
	}

	return dir
}

func containerID(digit string) string { return strings.Repeat(digit, 64) }

// startIn starts a shell script in a cgroup, and returns a scanner of its output.
func startIn(t *testing.T, dir, script string, attr *syscall.SysProcAttr) (cmd *exec.Cmd, out *bufio.Scanner) {
	t.Helper()
	cmd = exec.Command("/bin/sh", "-c", "read go; "+script)
	cmd.SysProcAttr = attr

	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		cmd.Process.Kill()
		t.Fatal(err)
	}

	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}

	return cmd, bufio.NewScanner(stdout)
}

func evidence(k *events.Killer) string {
	var all []string
	for _, e := range k.Evidence {
		all = append(all, e.What+"="+e.Value)
	}

	return strings.Join(all, "\n")
}

func TestKillFromAShellHasItsAncestors(t *testing.T) {
	dir := containerCgroup(t, containerID("a"))
	var pid int
	k := traced(t, func() {
		victim, out := startIn(t, dir, "trap '' TERM; echo; while :; do sleep 1; done", nil)
		out.Scan()
		pid = victim.Process.Pid
		syscall.Kill(pid, syscall.SIGTERM)
		time.Sleep(50 * time.Millisecond)
		// The sender and its parents exit at once, as with sudo.
		exec.Command("/bin/sh", "-c", fmt.Sprintf("/bin/sh -c '/bin/kill -9 %d; true'; true", pid)).Run()
		victim.Wait()
		exec.Command("/bin/kill", "-9", fmt.Sprint(pid)).Run() // the process has exited
	})

	inc := k.of(pid)
	if inc == nil {
		t.Fatalf("got %d incidents, want one of pid %d", len(k.incidents), pid)
	}

	if inc.Scope != events.ScopeUser || inc.Victims[0].Workload.ContainerID != containerID("a") ||
		len(inc.Ladder) == 0 || inc.Tier == "" {
		t.Errorf("got %+v, want a user kill in container %s", inc, containerID("a"))
	}

	killer := inc.Killer
	if killer.Comm != "kill" || len(killer.Ancestry) < 3 || killer.Ancestry[0].Comm != "sh" ||
		killer.Ancestry[2].PID != os.Getpid() {
		t.Errorf("got killer %+v, want kill with the shells and this process as ancestors", killer)
	}

	if killer.TermBeforeNS == nil || *killer.TermBeforeNS < 40e6 ||
		!strings.Contains(evidence(killer), "] sent SIGTERM ") {
		t.Errorf("got SIGTERM %v before, evidence %s, want 40 ms or more", killer.TermBeforeNS, evidence(killer))
	}

	t.Logf("%s %s: %s", killer.Path, killer.Exe, evidence(killer))
}

func TestKillFromInsideTheContainerIsItsOwn(t *testing.T) {
	dir := containerCgroup(t, containerID("b"))
	var pid int
	k := traced(t, func() {
		cmd, out := startIn(t, dir, "sleep 100 & echo $!; kill -9 $!; wait", nil)
		out.Scan()
		fmt.Sscan(out.Text(), &pid)
		cmd.Wait()
	})

	inc := k.of(pid)
	if inc == nil || inc.Killer.Path != "self" || inc.Killer.Comm != "sh" {
		t.Fatalf("got %+v, want an incident with path self, killed by sh", inc)
	}
}

// PID 1 is killed by this process, or exits; the kernel kills the rest of its namespace.
func TestTheEndOfAPIDNamespaceIsOneIncident(t *testing.T) {
	for name, test := range map[string]struct {
		digit, script string
		kill          bool
		path          string
	}{
		"killed": {"c", "sleep 100 & sleep 100 & echo; wait", true, ""},
		"exited": {"d", "sleep 100 & sleep 100 & echo; sleep 0.2; exit 0", false, "pidns"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := containerCgroup(t, containerID(test.digit))

			k := traced(t, func() {
				cmd, out := startIn(t, dir, test.script, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
				out.Scan()

				if test.kill {
					syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
				}

				cmd.Wait()
			})
			if len(k.incidents) != 1 {
				t.Fatalf("got %d incidents, want one", len(k.incidents))
			}
			inc := k.incidents[0]

			want := 2
			if test.kill {
				want = 3
			}

			if len(inc.Victims) != want || test.kill != *inc.Victims[0].IsContainerInit {
				t.Errorf("got %d victims, the first is PID 1: %t, want %d victims, %t",
					len(inc.Victims), *inc.Victims[0].IsContainerInit, want, test.kill)
			}

			if test.path != "" && inc.Killer.Path != test.path {
				t.Errorf("got killer %+v, want path %s", inc.Killer, test.path)
			}

			if test.kill && (inc.Killer.PID != os.Getpid() ||
				!strings.Contains(strings.Join(inc.Notes, "\n"), "2 victims were killed by the kernel")) {
				t.Errorf("got killer %+v, notes %q, want this process, and a note on 2 victims", inc.Killer, inc.Notes)
			}

			t.Logf("%s: %s; %q", inc.Killer.Path, evidence(inc.Killer), inc.Notes)
		})
	}
}

func TestKillsAtOnceInOneContainerAreOneIncident(t *testing.T) {
	const many = 300
	dir := containerCgroup(t, containerID("9"))

	k := traced(t, func() {
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 100 & i=$((i+1)); done; echo; wait", many)
		cmd, out := startIn(t, dir, script, &syscall.SysProcAttr{Setpgid: true})
		out.Scan()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	if len(k.incidents) != 1 || len(k.incidents[0].Victims) != many+1 || k.lost["user_kill"] != 0 {
		victims := 0
		for _, inc := range k.incidents {
			victims += len(inc.Victims)
		}

		t.Fatalf("got %d incidents, %d victims, lost %v, want one incident with %d victims",
			len(k.incidents), victims, k.lost, many+1)
	}
}

func TestKillsOutsideOfWorkloadsAreNotReported(t *testing.T) {
	dir := filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(containerCgroup(t, containerID("e"))))))

	k := traced(t, func() {
		victim, _ := startIn(t, dir, "exec sleep 100", nil)
		syscall.Kill(victim.Process.Pid, syscall.SIGKILL)
		victim.Wait()
	})
	if len(k.incidents) != 0 {
		t.Errorf("got incident %+v, want none", k.incidents[0])
	}
}

// limitTo limits the memory of a cgroup.
func limitTo(t *testing.T, dir string, bytes int) {
	t.Helper()

	number := fmt.Append(nil, bytes)

	limit := "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(dir, limit)); err != nil {
		if limit = "memory.max"; os.WriteFile(filepath.Join(dir, limit), number, 0) != nil {
			t.Fatal("set memory.max: the memory controller is not enabled in this cgroup")
		}
	} else if err := os.WriteFile(filepath.Join(dir, limit), number, 0); err != nil {
		t.Fatal(err)
	}
}

// The kernel kills the rest of the namespace of PID 1, which is part of the OOM kill.
func TestThePIDNamespaceOfAnOOMVictimIsNoIncidentOfItsOwn(t *testing.T) {
	dir := containerCgroup(t, containerID("f"))

	limitTo(t, dir, 16<<20)

	k := traced(t, func() {
		cmd, _ := startIn(t, dir, "sleep 100 & exec tail /dev/zero",
			&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
		cmd.Wait()
		time.Sleep(1500 * time.Millisecond)
	})
	if len(k.incidents) != 1 {
		t.Fatalf("got %d incidents, want one", len(k.incidents))
	}

	inc := k.incidents[0]

	rest := regexp.MustCompile(`the kernel killed (sleep|sh)\[`) // it may not have become sleep yet
	if inc.Scope != events.ScopeMemcg || len(inc.Victims) != 1 || inc.Victims[0].Comm != "tail" ||
		len(inc.Followed) != 1 || inc.Followed[0].Kind != events.AfterPIDNS || !rest.MatchString(inc.Followed[0].Text) {
		t.Errorf("got scope %s, %d victims, followed by %+v, want the OOM kill of tail, followed by that of sleep",
			inc.Scope, len(inc.Victims), inc.Followed)
	}
}
