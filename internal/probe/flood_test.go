// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/node"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// counter counts what a probe delivers.
type counter struct {
	stalls, lostStalls uint64
	lostOther          map[string]uint64
	marked, killed     map[uint32]bool
	hierarchies        map[uint32]bool
	counted            map[events.StallKey]events.StallCount
}

func (c *counter) Record(r events.Record) error {
	switch r := r.(type) {
	case events.Stall:
		c.stalls++
	case events.RecordsLost:
		if r.What == "stall" {
			c.lostStalls += r.Count
		} else {
			c.lostOther[r.What] += r.Count
		}
	case events.Kill:
		if r.FromKernel {
			c.killed[r.Target.TGID] = true
			c.hierarchies[r.Target.Cgroup.Hierarchy] = true
		}
	case events.Mark:
		c.marked[r.PID] = true
	case events.StallCounts:
		c.counted = r.Counts
	}
	return nil
}

func (c *counter) Idle(uint64, bool) (time.Duration, error) { return time.Second, nil }

// TestFlood runs the programs of a stall as fast as this machine can, with every
// stall told by itself, while processes are killed for memory: no kill may be lost,
// each stall is counted, and of those told each is delivered or counted as lost.
func TestFlood(t *testing.T) {
	testenv.Root(t)
	layout, err := node.Cgroups()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(os.Getpagesize()), Stalls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	programs := runnable(t, p.loader, "stall_node_begin", "stall_node_end")

	const kills, threads, pairs = 50, 2, 100_000
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for range threads {
		work.Add(1)
		go func() {
			defer work.Done()
			runtime.LockOSThread() // begin and end pair by thread
			defer runtime.UnlockOSThread()
			arguments := make([]uint64, 1)
			for range pairs {
				for _, program := range programs {
					if _, err := program.Run(&ebpf.RunOptions{Context: arguments}); err != nil {
						t.Errorf("running a program: %v", err)
						return
					}
				}
			}
		}()
	}
	pids := make(map[uint32]bool)
	work.Add(1)
	go func() {
		defer work.Done()
		for i := range kills {
			if pid, err := oomKill(i); err != nil {
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
	c := &counter{lostOther: map[string]uint64{}, marked: map[uint32]bool{}, killed: map[uint32]bool{}, hierarchies: map[uint32]bool{}}
	if err := p.Run(ctx, c); err != nil {
		t.Fatal(err)
	}

	for pid := range pids {
		if !c.killed[pid] || !c.marked[pid] {
			t.Errorf("the kill of %d was lost", pid)
		}
	}
	if len(pids) != kills || len(c.lostOther) != 0 {
		t.Errorf("%d kills; other records lost: %v", len(pids), c.lostOther)
	}
	// What user space sets in the programs arrives in those that are attached.
	if len(c.hierarchies) != 1 || !c.hierarchies[layout.HierarchyID] {
		t.Errorf("victims in hierarchies %v, want %d", c.hierarchies, layout.HierarchyID)
	}
	var counted, byHand uint64
	for key, sum := range c.counted {
		counted += sum.Count
		if key.What == events.StallNodeReclaim {
			byHand += sum.Count
		}
	}
	// The kernel's own reclaim of a node, if there is any, counts as well.
	if byHand < threads*pairs || byHand > threads*pairs+1000 {
		t.Errorf("%d stalls were counted, of %d", byHand, threads*pairs)
	}
	if told := c.stalls + c.lostStalls; told != counted {
		t.Errorf("%d stalls told and %d lost make %d, not %d", c.stalls, c.lostStalls, told, counted)
	}
	t.Logf("%d stalls told, %d lost", c.stalls, c.lostStalls)
}

// runnable loads programs in a type that can be run by hand; their context is an
// array of numbers in both.
func runnable(t *testing.T, l *loader, names ...string) []*ebpf.Program {
	t.Helper()
	var programs []*ebpf.Program
	for _, name := range names {
		from, p := l.program(name)
		p = p.Copy()
		p.Type, p.AttachType, p.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, "sys_enter"
		shared := maps.Clone(l.maps)
		maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return from.Maps[name] == nil })
		c, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
			Maps: from.Maps, Programs: map[string]*ebpf.ProgramSpec{name: p}, Variables: from.Variables,
			Types: from.Types, ByteOrder: from.ByteOrder,
		}, ebpf.CollectionOptions{MapReplacements: shared})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(c.Close)
		programs = append(programs, c.Programs[name])
	}
	return programs
}

// oomKill lets a process die by the limit of a cgroup, and returns its pid.
func oomKill(i int) (uint32, error) {
	scratch, err := node.NewScratch(fmt.Sprintf("oomtrace-flood-%d-%d", os.Getpid(), i), 8<<20)
	if err != nil {
		return 0, err
	}
	defer scratch.Close()
	// It reads a line that never ends; the shell waits until it is in its cgroup.
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
		return 0, err
	}
	if err := cmd.Wait(); err == nil {
		return 0, fmt.Errorf("process %d was not killed", cmd.Process.Pid)
	}
	return uint32(cmd.Process.Pid), nil
}
