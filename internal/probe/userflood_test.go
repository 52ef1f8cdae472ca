// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// sorted counts what a probe delivers. It is as slow as a tracer that has other work.
type sorted struct {
	users, kernels, changes, ancestries uint64 // users include kernels
	lost, throttled                     map[string]uint64
	sent                                map[uint32]bool // targets of users' SIGKILLs
	killed, marked                      map[uint32]bool // targets of the OOM killer's
	chosen                              map[uint32]kernel.VictimChosen
	above                               map[events.CgroupKey]kernel.TargetAncestry
	made                                map[string]bool // paths of new cgroups
}

func newSorted() *sorted {
	return &sorted{
		lost: map[string]uint64{}, throttled: map[string]uint64{}, sent: map[uint32]bool{}, killed: map[uint32]bool{},
		marked: map[uint32]bool{}, made: map[string]bool{}, chosen: map[uint32]kernel.VictimChosen{},
		above: map[events.CgroupKey]kernel.TargetAncestry{},
	}
}

func (s *sorted) Record(r kernel.Record) error {
	switch r := r.(type) {
	case kernel.Kill:
		if r.Sender == nil {
			s.killed[r.Target.TGID] = true
			return nil
		}

		if s.users++; r.FromKernel {
			s.kernels++
		}

		s.sent[r.Target.TGID] = true

		for start := time.Now(); time.Since(start) < 10*time.Microsecond; {
		}
	case kernel.CgroupChange:
		s.changes++
		if r.Op == "mkdir" {
			s.made[r.Path] = true
		}
	case kernel.TargetAncestry:
		s.ancestries++
		s.above[r.Target] = r
	case kernel.VictimChosen:
		s.chosen[r.Victim.TGID] = r
	case kernel.Mark:
		s.marked[r.PID] = true
	case kernel.RecordsLost:
		if what, ok := strings.CutPrefix(r.What, "throttled "); ok {
			s.throttled[what] += r.Count
		} else {
			s.lost[r.What] += r.Count
		}
	}

	return nil
}

func (s *sorted) Idle(uint64, bool) (time.Duration, error) { return time.Second, nil }

// opened is a probe of this machine.
func opened(t *testing.T) (*Probe, host.Layout) {
	t.Helper()
	testenv.Root(t)

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	p, err := open(Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(os.Getpagesize())})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { p.Close() })

	return p, layout
}

// beside delivers what a probe reads while flood runs, on two threads, and do runs beside
// it. The flood starts before do and ends after it.
func beside(t *testing.T, p *Probe, flood func() error, do func()) *sorted {
	t.Helper()

	ctx, stop := context.WithCancel(context.Background())

	var (
		work sync.WaitGroup
		over atomic.Bool
	)

	for range 2 {
		work.Go(func() {
			for !over.Load() {
				if err := flood(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}

	go func() {
		do()
		over.Store(true)
		work.Wait()
		stop()
	}()

	s := newSorted()
	if err := p.Run(ctx, s); err != nil {
		t.Fatal(err)
	}

	return s
}

// oomKills has the OOM killer kill processes, one after another.
func oomKills(t *testing.T, count int) map[uint32]bool {
	pids := make(map[uint32]bool)

	for i := range count {
		if pid, err := oomKill(1000 + i); err != nil {
			t.Error(err)
		} else {
			pids[pid] = true
		}
	}

	return pids
}

// hasOOMKills checks that every record of these kills was delivered.
func (s *sorted) hasOOMKills(t *testing.T, pids map[uint32]bool) {
	t.Helper()

	for pid := range pids {
		if !s.killed[pid] || !s.marked[pid] {
			t.Errorf("process %d: got killed %v, marked %v, want both", pid, s.killed[pid], s.marked[pid])
		}
	}

	if len(s.lost) != 0 {
		t.Errorf("got lost records %v, want none", s.lost)
	}
}

// killItself starts a shell in a cgroup of its own that sends itself SIGKILL.
func killItself(i int) (pid uint32, err error) {
	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-flood-%d-%d", os.Getpid(), i), 64<<20)
	if err != nil {
		return 0, err
	}
	defer scratch.Close()

	cmd := exec.Command("/bin/sh", "-c", "read go; kill -9 $$")

	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}

	if err := cmd.Start(); err != nil {
		return 0, err
	}

	if err := scratch.Add(cmd.Process.Pid); err != nil {
		return 0, err
	}

	if _, err := in.Write([]byte("go\n")); err != nil {
		return 0, err
	}

	cmd.Wait()

	return uint32(cmd.Process.Pid), nil
}

// One tenant sends SIGKILLs as fast as this machine allows, as far as the program on their
// tracepoint can see: it is called with this process as sender and target. Each is
// delivered or counted as throttled; neither the OOM killer's records nor the SIGKILLs of
// another tenant are lost.
func TestUserKillFloodCostsItsTenantAlone(t *testing.T) {
	p, _ := opened(t)

	const times = 16

	program := loopedSignal(t, p.loader, times, false)

	var sent atomic.Uint64

	var pids, others map[uint32]bool

	s := beside(t, p, func() error {
		if _, err := program.Run(&ebpf.RunOptions{Context: make([]uint64, 1)}); err != nil {
			return fmt.Errorf("run a program: %w", err)
		}

		sent.Add(times)

		return nil
	}, func() {
		pids, others = oomKills(t, 20), make(map[uint32]bool)

		for i := range 20 {
			if pid, err := killItself(2000 + i); err != nil {
				t.Error(err)
			} else {
				others[pid] = true
			}
		}
	})

	s.hasOOMKills(t, pids)

	for pid := range others {
		if !s.sent[pid] {
			t.Errorf("process %d, killed by another tenant: got no record of it, want one", pid)
		}
	}

	// Other processes of the machine may be killed, too.
	if sum := s.users + s.throttled["user_kill"]; sum < sent.Load() || sum > sent.Load()+1000 {
		t.Errorf("got %d delivered and %d throttled, want %d together", s.users, s.throttled["user_kill"], sent.Load())
	}

	if s.throttled["user_kill"] < sent.Load()/2 || sent.Load() < 10_000 {
		t.Errorf("got %d of %d SIGKILLs throttled, want most of a flood", s.throttled["user_kill"], sent.Load())
	}

	t.Logf("%d sent: %d delivered, throttled %v, %d ancestries", sent.Load(), s.users, s.throttled, s.ancestries)
}

// The urgent ring holds a burst of kills that nobody reads, after a tenant has used all of its
// budget: a node that is out of memory may not run the reader for seconds.
func TestTheRingHoldsABurst(t *testing.T) {
	p, _ := opened(t)

	const times, kills = 16, 200

	users := loopedSignal(t, p.loader, times, false)

	for range 5000 / times {
		if _, err := users.Run(&ebpf.RunOptions{Context: make([]uint64, 1)}); err != nil {
			t.Fatal(err)
		}
	}

	pids := oomKills(t, kills)

	s := beside(t, p, func() error { time.Sleep(time.Millisecond); return nil }, func() {})
	if s.throttled["user_kill"] == 0 || len(pids) != kills {
		t.Errorf("got %d SIGKILLs of users throttled and %d kills, want some and %d", s.throttled["user_kill"], len(pids), kills)
	}

	// What users cause leaves the rest of the ring to the kills: each had a cgroup and a limit of its own.
	for _, what := range []string{"cgroup", "limit_write", "user_kill"} {
		delete(s.lost, what)
	}

	s.hasOOMKills(t, pids)
}

// The ancestry of a victim is whole, however deep its cgroup lies: records of few memcgs end
// between two of these depths.
func TestAncestriesOfAnyDepthAreWhole(t *testing.T) {
	p, layout := opened(t)

	const deepest = 12

	pids := make([]uint32, deepest+1)
	top := fmt.Sprint("oomtrace-depth-", os.Getpid())

	s := beside(t, p, func() error { time.Sleep(time.Millisecond); return nil }, func() {
		for depth := 1; depth <= deepest; depth++ {
			scratch, err := host.NewScratch(top+strings.Repeat("/x", depth-1), 8<<20)
			if err != nil {
				t.Error(err)
				return
			}
			defer scratch.Close() // the deepest first

			if pids[depth], err = oomKillIn(scratch); err != nil {
				t.Error(err)
			}

			// Those below would hit this limit as well as their own.
			if err := removeLimit(layout, scratch); err != nil {
				t.Error(err)
			}
		}
	})

	first := s.chosen[pids[1]]
	if levels := len(first.Ancestry); levels < 2 || levels > 8 {
		t.Fatalf("got %d memcgs of the first victim, want few", levels)
	}

	root := first.Ancestry[len(first.Ancestry)-1].Key
	whole := func(depth int, ancestry []kernel.Memcg, cut bool) {
		t.Helper()

		if want := len(first.Ancestry) + depth - 1; cut || len(ancestry) != want || ancestry[want-1].Key != root {
			t.Errorf("depth %d: got %d memcgs, cut: %v; want %d, the last of them the root", depth, len(ancestry), cut, want)
		}
	}

	for depth := 1; depth <= deepest; depth++ {
		chosen := s.chosen[pids[depth]]
		whole(depth, chosen.Ancestry, chosen.AncestryCut)

		// Where invocations are not seen, the SIGKILL could have been somebody else's.
		if above, ok := s.above[chosen.Victim.Cgroup]; ok {
			whole(depth, above.Ancestry, above.AncestryCut)
		}
	}
}

func removeLimit(layout host.Layout, scratch *host.Scratch) error {
	name, none := "memory.max", "max"
	if layout.MemoryVersion == 1 {
		name, none = "memory.limit_in_bytes", "-1"
	}

	group := strings.TrimPrefix(scratch.Path(), strings.TrimSuffix(layout.MountRoot, "/"))

	return os.WriteFile(filepath.Join(layout.MemoryMount, group, name), []byte(none), 0)
}

// A SIGKILL by the kernel may be the OOM killer's, where the entry of its invocation was
// missed and the thread has just reclaimed: it does not depend on what its tenant has sent.
// Others have the budget of all: users can cause them, too.
func TestSIGKILLsThatMayBeTheOOMKillersHaveNoBudget(t *testing.T) {
	runtime.LockOSThread()

	defer runtime.UnlockOSThread()

	p, _ := opened(t)

	const times = 16

	users := loopedSignal(t, p.loader, times, false)
	if err := p.loader.constant("attach_mode", uint32(bpf.AttachModeKprobe)); err != nil {
		t.Fatal(err)
	}

	kernels := loopedSignal(t, p.loader, times, true)
	run := func(program *ebpf.Program) {
		if _, err := program.Run(&ebpf.RunOptions{Context: make([]uint64, 1)}); err != nil {
			t.Error(err)
		}
	}

	s := beside(t, p, func() error { time.Sleep(time.Millisecond); return nil }, func() {
		for range 5000 / times {
			run(users)
		}

		run(kernels) // without a reclaim: throttled

		// struct last_reclaim of bpf/reclaim.h
		reclaim := struct{ bootNS, memcg, policy, kindAndGFP, chargeSent uint64 }{bootNS: kernel.BootNS()}
		if err := p.loader.maps["last_reclaims"].Put(uint32(unix.Gettid()), reclaim); err != nil {
			t.Error(err)
		}

		run(kernels)
	})

	// The budget fills again while this runs.
	if s.throttled["user_kill"] == 0 || s.kernels < times || s.kernels > times+times/2 {
		t.Errorf("got %d SIGKILLs of users throttled and %d of the kernel, want some, and %d after a reclaim",
			s.throttled["user_kill"], s.kernels, times)
	}
}

// A zombie can be sent any number of SIGKILLs by its owner. None kills anybody, none is a
// record, and none is taken from a budget.
func TestSignalsThatKillNobodyAreNoRecords(t *testing.T) {
	p, _ := opened(t)

	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()

	var sent atomic.Uint64

	var pids map[uint32]bool

	var last uint32

	s := beside(t, p, func() error {
		sent.Add(1)
		return syscall.Kill(zombie.Process.Pid, syscall.SIGKILL)
	}, func() {
		pids = oomKills(t, 10)

		for sent.Load() < 10_000 {
			time.Sleep(time.Millisecond)
		}

		alive := exec.Command("/bin/sleep", "60")
		if err := alive.Start(); err != nil {
			t.Error(err)
			return
		}

		alive.Process.Kill()
		alive.Wait()
		last = uint32(alive.Process.Pid)
	})

	s.hasOOMKills(t, pids)

	// The first may have come before /bin/true had exited.
	if s.users > 1000 || len(s.throttled) != 0 {
		t.Errorf("got %d records of %d SIGKILLs to a zombie, throttled %v, want none", s.users, sent.Load(), s.throttled)
	}

	if !s.sent[last] {
		t.Errorf("got no record of the SIGKILL to process %d of the same sender, want one", last)
	}
}

// One tenant makes and removes cgroups with long paths as fast as this machine allows. What
// it may not send is counted; neither the OOM killer's records nor those of cgroups made
// elsewhere are lost.
func TestCgroupFloodCostsItsTenantAlone(t *testing.T) {
	p, layout := opened(t)

	top := filepath.Join(layout.MemoryMount, fmt.Sprintf("oomtrace-flood-%d", os.Getpid()))
	deep := top + strings.Repeat("/"+strings.Repeat("x", 200), 3)
	elsewhere := filepath.Join(layout.MemoryMount, fmt.Sprintf("oomtrace-elsewhere-%d", os.Getpid()))

	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		for dir := deep; len(dir) >= len(top); dir = filepath.Dir(dir) {
			os.Remove(dir)
		}
	})

	var number, changes atomic.Uint64

	var pids map[uint32]bool

	s := beside(t, p, func() error {
		dir := fmt.Sprint(deep, "/", number.Add(1))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}

		changes.Add(2)

		return os.Remove(dir)
	}, func() {
		pids = oomKills(t, 20)

		for changes.Load() < 5000 {
			time.Sleep(time.Millisecond)
		}

		if err := os.Mkdir(elsewhere, 0o755); err != nil {
			t.Error(err)
		}

		os.Remove(elsewhere)
	})

	s.hasOOMKills(t, pids)

	if path := "/" + filepath.Base(elsewhere); !s.made[path] {
		t.Errorf("got no record of %s, want one", path)
	}

	if sum := s.changes + s.throttled["cgroup"]; sum < changes.Load() || s.throttled["cgroup"] < changes.Load()/2 {
		t.Errorf("got %d delivered and %d throttled, want %d together, most of them throttled",
			s.changes, s.throttled["cgroup"], changes.Load())
	}

	t.Logf("%d changes: %d delivered, throttled %v", changes.Load(), s.changes, s.throttled)
}

// Whoever was given a cgroup can make any number below it; all of them share one budget. Each
// of root's cgroups has its own.
func TestGivenCgroupsShareABudget(t *testing.T) {
	const (
		cgroups = 40
		each    = 100
		nobody  = 65534
	)

	for name, owner := range map[string]int{"of root": 0, "given away": nobody} {
		t.Run(name, func(t *testing.T) {
			p, layout := opened(t)
			top := filepath.Join(layout.MemoryMount, fmt.Sprintf("oomtrace-tenants-%d", os.Getpid()))

			var dirs []string

			for i := range cgroups {
				dirs = append(dirs, fmt.Sprint(top, "/", i))
				if err := errors.Join(os.MkdirAll(dirs[i], 0o755), os.Chown(dirs[i], owner, owner)); err != nil {
					t.Fatal(err)
				}
			}

			t.Cleanup(func() {
				for _, dir := range append(dirs, top) {
					if err := os.Remove(dir); err != nil {
						t.Error(err)
					}
				}
			})

			s := beside(t, p, func() error { time.Sleep(time.Millisecond); return nil }, func() {
				for range each {
					for _, dir := range dirs {
						if err := errors.Join(os.Mkdir(dir+"/x", 0o755), os.Remove(dir+"/x")); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})

			const changes = 2 * cgroups * each
			if sum := s.changes + s.throttled["cgroup"]; sum < changes {
				t.Errorf("got %d delivered and %d throttled, want %d together", s.changes, s.throttled["cgroup"], changes)
			}

			if got, want := s.throttled["cgroup"] > changes/2, owner != 0; got != want {
				t.Errorf("got %d of %d changes throttled, want most: %v", s.throttled["cgroup"], changes, want)
			}
		})
	}
}

// A path of any length arrives whole.
func TestCgroupPathsOfAnyLength(t *testing.T) {
	p, layout := opened(t)

	const tops = "/oomtrace-paths-"

	var want []string

	s := beside(t, p, func() error { time.Sleep(time.Millisecond); return nil }, func() {
		path := fmt.Sprint(tops, os.Getpid())

		// Around 255 bytes, and up to more than the kernel keeps.
		for range 30 {
			if err := os.Mkdir(layout.MemoryMount+path, 0o755); err != nil {
				t.Error(err)
				break
			}

			if len(path) < 1024 {
				want = append(want, path)
			}

			path += "/" + string(bytes.Repeat([]byte("y"), 40))
		}

		for ; len(path) > len(tops); path = filepath.Dir(path) {
			os.Remove(layout.MemoryMount + path)
		}
	})

	for _, path := range want {
		if !s.made[path] {
			t.Errorf("got no record with the path of %d bytes, want one", len(path))
		}
	}

	if len(want) < 20 {
		t.Errorf("got %d paths, want 20 or more", len(want))
	}
}

// loopedSignal makes one program that calls the one on signals so many times, for a SIGKILL
// from the current task to itself, as it sends it or as the kernel does.
func loopedSignal(t testing.TB, l *loader, times int32, byKernel bool) *ebpf.Program {
	var info int32 // SEND_SIG_NOINFO
	if byKernel {
		info = 1 // SEND_SIG_PRIV
	}

	// The arguments of signal_generate are an array: sig, siginfo, task, group, result.
	argument := func(i int16) int16 { return -8 * (5 - i) }

	return loopedCalls(t, l, times, []string{"user_signal"}, asm.Instructions{
		asm.FnGetCurrentTask.Call(),
		asm.StoreMem(asm.RFP, argument(2), asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, int32(syscall.SIGKILL)),
		asm.StoreMem(asm.RFP, argument(0), asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, info),
		asm.StoreMem(asm.RFP, argument(1), asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 0), // delivered
		asm.StoreMem(asm.RFP, argument(4), asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R0, 1),
		asm.StoreMem(asm.RFP, argument(3), asm.R0, asm.DWord),
		asm.Mov.Reg(asm.R7, asm.RFP),
		asm.Add.Imm(asm.R7, int32(argument(0))),
	})
}
