// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bufio"
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

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// kept is a sink that keeps incidents of this test's cgroups with all updates: the
// machine may have others.
type kept struct {
	incidents []*events.Incident
	lost      map[string]uint64
}

func (k *kept) Write(l events.Line) error {
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

// traced runs a trace around what do does, and gives what came of it.
func traced(t *testing.T, do func()) *kept {
	t.Helper()
	testenv.Root(t)
	k := &kept{lost: map[string]uint64{}}

	tr, err := Open(Options{Sink: k, NoLock: true})
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

func (k *kept) of(pid int) *events.Incident {
	for _, inc := range k.incidents {
		if slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == pid }) {
			return inc
		}
	}

	return nil
}

func testRoot() string { return fmt.Sprintf("oomtrace-user-%d", os.Getpid()) }

const testUID = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"

// posing makes a cgroup in a place that looks like a container's.
func posing(t *testing.T, container string) (dir string) {
	t.Helper()

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	dir = layout.MemoryMount
	for _, name := range []string{testRoot(), "kubepods", "burstable", "pod" + testUID, container} {
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

				t.Errorf("%s is still there", made)
			})
		} else if !os.IsExist(err) {
			t.Fatal(err)
		}
	}

	return dir
}

func containerID(digit string) string { return strings.Repeat(digit, 64) }

// inside runs a shell script in a cgroup, and gives what it says before it goes on.
func inside(t *testing.T, dir, script string, attr *syscall.SysProcAttr) (cmd *exec.Cmd, out *bufio.Scanner) {
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

func TestUserKillByAShell(t *testing.T) {
	dir := posing(t, containerID("a"))
	var pid int
	k := traced(t, func() {
		victim, out := inside(t, dir, "trap '' TERM; echo; while :; do sleep 1; done", nil)
		out.Scan()
		pid = victim.Process.Pid
		syscall.Kill(pid, syscall.SIGTERM)
		time.Sleep(50 * time.Millisecond)
		// As sudo does it: the sender and its parents are gone at once.
		exec.Command("/bin/sh", "-c", fmt.Sprintf("/bin/sh -c '/bin/kill -9 %d; true'; true", pid)).Run()
		victim.Wait()
		exec.Command("/bin/kill", "-9", fmt.Sprint(pid)).Run() // nobody is there any more
	})

	inc := k.of(pid)
	if inc == nil {
		t.Fatalf("no incident of %d in %d", pid, len(k.incidents))
	}

	if inc.Scope != events.ScopeUser || inc.Victims[0].Workload.ContainerID != containerID("a") || len(inc.Ladder) == 0 || inc.Tier == "" {
		t.Errorf("%+v", inc)
	}

	killer := inc.Killer
	if killer.Comm != "kill" || len(killer.Ancestry) < 3 || killer.Ancestry[0].Comm != "sh" || killer.Ancestry[2].PID != os.Getpid() {
		t.Errorf("killer %+v", killer)
	}

	if killer.TermBeforeNS == nil || *killer.TermBeforeNS < 40e6 || !strings.Contains(evidence(killer), "sent SIGTERM here") {
		t.Errorf("SIGTERM before: %v, %s", killer.TermBeforeNS, evidence(killer))
	}

	t.Logf("%s %s: %s", killer.Path, killer.Exe, evidence(killer))
}

func TestUserKillFromInside(t *testing.T) {
	dir := posing(t, containerID("b"))
	var pid int
	k := traced(t, func() {
		cmd, out := inside(t, dir, "sleep 100 & echo $!; kill -9 $!; wait", nil)
		out.Scan()
		fmt.Sscan(out.Text(), &pid)
		cmd.Wait()
	})

	inc := k.of(pid)
	if inc == nil || inc.Killer.Path != "self" || inc.Killer.Comm != "sh" {
		t.Fatalf("%+v", inc)
	}
}

// TestPIDNamespaceEnds: the init is killed by us, and the kernel ends the rest; or it
// leaves by itself.
func TestPIDNamespaceEnds(t *testing.T) {
	for name, test := range map[string]struct {
		digit, script string
		kill          bool
		path          string
	}{
		"killed": {"c", "sleep 100 & sleep 100 & echo; wait", true, ""},
		"left":   {"d", "sleep 100 & sleep 100 & echo; sleep 0.2; exit 0", false, "pidns"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := posing(t, containerID(test.digit))

			k := traced(t, func() {
				cmd, out := inside(t, dir, test.script, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
				out.Scan()

				if test.kill {
					syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
				}

				cmd.Wait()
			})
			if len(k.incidents) != 1 {
				t.Fatalf("%d incidents", len(k.incidents))
			}
			inc := k.incidents[0]

			want := 2
			if test.kill {
				want = 3
			}

			if len(inc.Victims) != want || test.kill != *inc.Victims[0].IsContainerInit {
				t.Errorf("%d victims, the first the init: %v", len(inc.Victims), *inc.Victims[0].IsContainerInit)
			}

			if test.path != "" && inc.Killer.Path != test.path {
				t.Errorf("killer %+v", inc.Killer)
			}

			if test.kill && (inc.Killer.PID != os.Getpid() || !strings.Contains(strings.Join(inc.Notes, "\n"), "2 of the victims")) {
				t.Errorf("killer %+v, notes %q", inc.Killer, inc.Notes)
			}

			t.Logf("%s: %s; %q", inc.Killer.Path, evidence(inc.Killer), inc.Notes)
		})
	}
}

// TestKillAll: what dies at once in one container is one incident.
func TestKillAll(t *testing.T) {
	const many = 300
	dir := posing(t, containerID("9"))

	k := traced(t, func() {
		script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 100 & i=$((i+1)); done; echo; wait", many)
		cmd, out := inside(t, dir, script, &syscall.SysProcAttr{Setpgid: true})
		out.Scan()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	if len(k.incidents) != 1 || len(k.incidents[0].Victims) != many+1 || k.lost["user_kill"] != 0 {
		victims := 0
		for _, inc := range k.incidents {
			victims += len(inc.Victims)
		}

		t.Fatalf("%d incidents, %d victims, lost %v", len(k.incidents), victims, k.lost)
	}
}

// TestPlainCgroupIsSilent: nobody asks who killed what is in no container or service.
func TestPlainCgroupIsSilent(t *testing.T) {
	dir := filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(posing(t, containerID("e"))))))

	k := traced(t, func() {
		victim, _ := inside(t, dir, "exec sleep 100", nil)
		syscall.Kill(victim.Process.Pid, syscall.SIGKILL)
		victim.Wait()
	})
	if len(k.incidents) != 0 {
		t.Errorf("%+v", k.incidents[0])
	}
}

// TestPIDNamespaceOfAnOOMVictim: its end is the OOM kill's aftermath.
func TestPIDNamespaceOfAnOOMVictim(t *testing.T) {
	dir := posing(t, containerID("f"))

	limit := "memory.limit_in_bytes"
	if _, err := os.Stat(filepath.Join(dir, limit)); err != nil {
		if limit = "memory.max"; os.WriteFile(filepath.Join(dir, limit), []byte("16777216"), 0) != nil {
			t.Fatal("the memory controller is not given to this cgroup")
		}
	} else if err := os.WriteFile(filepath.Join(dir, limit), []byte("16777216"), 0); err != nil {
		t.Fatal(err)
	}

	k := traced(t, func() {
		cmd, _ := inside(t, dir, "sleep 100 & exec tail /dev/zero", &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID})
		cmd.Wait()
		time.Sleep(1500 * time.Millisecond)
	})
	if len(k.incidents) != 1 {
		t.Fatalf("%d incidents", len(k.incidents))
	}

	inc := k.incidents[0]
	if inc.Scope != events.ScopeMemcg || len(inc.Victims) != 1 || inc.Victims[0].Comm != "tail" ||
		!strings.Contains(strings.Join(inc.Notes, "\n"), "the kernel killed sleep[") {
		t.Errorf("%s of %d, notes %q", inc.Scope, len(inc.Victims), inc.Notes)
	}
}
