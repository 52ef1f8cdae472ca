// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// reaps waits for the oom_reaper to take the memory of a process.
type reaps struct {
	pid  uint32
	seen func()
}

func (r *reaps) Record(record kernel.Record) error {
	if reaped, ok := record.(kernel.Reaped); ok && !reaped.Skipped && reaped.PID == r.pid {
		r.seen()
	}

	return nil
}

func (r *reaps) Idle(uint64, bool) (time.Duration, error) { return 10 * time.Millisecond, nil }

// A victim that its tracer holds at its exit keeps its memory, until the oom_reaper takes it
// two seconds later (mm/oom_kill.c: OOM_REAPER_DELAY).
func TestReaperTakesMemoryOfAHeldVictim(t *testing.T) {
	testenv.Root(t)
	runtime.LockOSThread() // ptrace is by thread

	defer runtime.UnlockOSThread()

	limited, child := nested(t, "oomtrace-reaper", 8<<20)

	p, err := Open(Options{MemoryHierarchy: child.key.Hierarchy, PageSize: uint64(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	cmd := exec.Command("tail", "/dev/zero") // it reads a line that never ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	pid := cmd.Process.Pid
	defer cmd.Wait()
	defer cmd.Process.Kill()

	var status unix.WaitStatus

	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || !status.Stopped() {
		t.Fatalf("got status %v, error %v, want the process stopped after exec", status, err)
	}

	if err := os.WriteFile(limited.dir+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}

	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXIT); err != nil {
		t.Fatal(err)
	}

	if err := unix.PtraceCont(pid, 0); err != nil {
		t.Fatal(err)
	}

	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status.TrapCause() != unix.PTRACE_EVENT_EXIT {
		t.Fatalf("got status %v, error %v, want the victim held at its exit", status, err)
	}

	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()

	reaped := false

	if err := p.Run(ctx, &reaps{pid: uint32(pid), seen: func() { reaped = true; stop() }}); err != nil {
		t.Fatal(err)
	}

	if !reaped {
		t.Error("got no record of the oom_reaper within 30 s, want one")
	}

	if err := unix.PtraceCont(pid, 0); err != nil {
		t.Error(err)
	}
}
