// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// sorted counts SIGKILLs by their sender. It is as slow as a tracer that has other work.
type sorted struct {
	users, ancestries uint64
	lost              map[string]uint64
	killed, marked    map[uint32]bool
}

func (s *sorted) Record(r kernel.Record) error {
	switch r := r.(type) {
	case kernel.Kill:
		if r.Sender == nil {
			s.killed[r.Target.TGID] = true
			return nil
		}

		s.users++

		for start := time.Now(); time.Since(start) < 10*time.Microsecond; {
		}
	case kernel.TargetAncestry:
		s.ancestries++
	case kernel.Mark:
		s.marked[r.PID] = true
	case kernel.RecordsLost:
		s.lost[r.What] += r.Count
	}

	return nil
}

func (s *sorted) Idle(uint64, bool) (time.Duration, error) { return time.Second, nil }

// SIGKILLs are sent as fast as this machine allows, while the OOM killer kills other
// processes: none of its kills is lost, and each of a user is delivered or counted as
// lost. Their target is a zombie: the tracepoint reports those as any other.
func TestUserKillFloodLosesNoOOMKill(t *testing.T) {
	testenv.Root(t)

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	p, err := Open(Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	dead := exec.Command("/bin/true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	defer dead.Wait()

	const kills, threads = 30, 2
	ctx, stop := context.WithCancel(context.Background())

	var (
		work sync.WaitGroup
		over atomic.Bool
		sent atomic.Uint64
	)

	for range threads {
		work.Add(1)
		go func() {
			defer work.Done()

			for !over.Load() {
				if err := syscall.Kill(dead.Process.Pid, syscall.SIGKILL); err != nil {
					t.Errorf("send SIGKILL: %v", err)
					return
				}

				sent.Add(1)
			}
		}()
	}

	pids := make(map[uint32]bool)

	work.Add(1)
	go func() {
		defer work.Done()
		defer over.Store(true)

		for i := range kills {
			if pid, err := oomKill(1000 + i); err != nil {
				t.Error(err)
			} else {
				pids[pid] = true
			}
		}
	}()

	go func() {
		work.Wait()
		time.Sleep(200 * time.Millisecond)
		stop()
	}()

	s := &sorted{lost: map[string]uint64{}, killed: map[uint32]bool{}, marked: map[uint32]bool{}}
	if err := p.Run(ctx, s); err != nil {
		t.Fatal(err)
	}

	if len(pids) != kills {
		t.Errorf("got %d kills, want %d", len(pids), kills)
	}

	for pid := range pids {
		if !s.killed[pid] || !s.marked[pid] {
			t.Errorf("process %d: got killed %v, marked %v, want both", pid, s.killed[pid], s.marked[pid])
		}
	}

	// The kernel skips, and counts, a run while an interrupted one is on the CPU.
	missed := "missed run of user_signal"
	lost := s.lost["user_kill"] + s.lost[missed]
	delete(s.lost, "user_kill")
	delete(s.lost, missed)

	if len(s.lost) != 0 {
		t.Errorf("got lost records %v, want none but user_kill", s.lost)
	}

	// Other processes of the machine may be killed, too.
	if sum := s.users + lost; sum < sent.Load() || sum > sent.Load()+1000 {
		t.Errorf("got %d delivered and %d lost, want %d together", s.users, lost, sent.Load())
	}

	if lost == 0 || sent.Load() < 10_000 {
		t.Errorf("got %d lost of %d sent, want a flood that fills the ring", lost, sent.Load())
	}

	t.Logf("%d delivered, %d lost, %d ancestries", s.users, lost, s.ancestries)
}
