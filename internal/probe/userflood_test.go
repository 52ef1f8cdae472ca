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

// sorted counts SIGKILLs by who sent them. It reads as slowly as a tracer that has
// something to do.
type sorted struct {
	users, ladders uint64
	lost           map[string]uint64
	killed, marked map[uint32]bool
}

func (s *sorted) Record(r kernel.Record) error {
	switch r := r.(type) {
	case kernel.Kill:
		if r.Sender == nil {
			s.killed[r.Target.TGID] = true
			return nil
		}

		s.users++

		for begin := time.Now(); time.Since(begin) < 10*time.Microsecond; {
		}
	case kernel.TargetAncestry:
		s.ladders++
	case kernel.Mark:
		s.marked[r.PID] = true
	case kernel.RecordsLost:
		s.lost[r.What] += r.Count
	}

	return nil
}

func (s *sorted) Idle(uint64, bool) (time.Duration, error) { return time.Second, nil }

// TestUserKillFlood sends SIGKILLs as fast as this machine can, while processes are
// killed for memory: no kill by the OOM killer may be lost, and each of a user is
// delivered or counted. They go to a dead process that nobody has waited for: the
// kernel tells of those like of any other.
func TestUserKillFlood(t *testing.T) {
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
					t.Errorf("killing: %v", err)
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
		t.Errorf("%d kills, not %d", len(pids), kills)
	}

	for pid := range pids {
		if !s.killed[pid] || !s.marked[pid] {
			t.Errorf("the kill of %d was lost", pid)
		}
	}
	// The kernel skips a run that an interrupted one is in the way of, and counts it.
	missed := "missed run of user_signal"
	lost := s.lost["user_kill"] + s.lost[missed]
	delete(s.lost, "user_kill")
	delete(s.lost, missed)

	if len(s.lost) != 0 {
		t.Errorf("other records lost: %v", s.lost)
	}
	// The machine may have others.
	if told := s.users + lost; told < sent.Load() || told > sent.Load()+1000 {
		t.Errorf("%d delivered and %d lost make %d, not %d", s.users, lost, told, sent.Load())
	}

	if lost == 0 || sent.Load() < 10_000 {
		t.Error("the flood did not fill the ring: it shows nothing")
	}

	t.Logf("%d delivered, %d lost, %d ladders", s.users, lost, s.ladders)
}
