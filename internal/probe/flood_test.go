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
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// counter counts what a probe delivers.
type counter struct {
	stalls, lostStalls uint64
	lostOther          map[string]uint64
	marked, killed     map[uint32]bool
	hierarchies        map[uint32]bool
	counted            map[kernel.StallKey]kernel.StallCount
}

func (c *counter) Record(r kernel.Record) error {
	switch r := r.(type) {
	case *kernel.Stall:
		c.stalls++
	case kernel.RecordsLost:
		if r.What == "stall" {
			c.lostStalls += r.Count
		} else {
			c.lostOther[r.What] += r.Count
		}
	case kernel.Kill:
		if r.FromKernel {
			c.killed[r.Target.TGID] = true
			c.hierarchies[r.Target.Cgroup.Hierarchy] = true
		}
	case kernel.Mark:
		c.marked[r.PID] = true
	case kernel.StallCounts:
		c.counted = r.Counts
	}

	return nil
}

func (c *counter) Idle(uint64, bool) (time.Duration, error) { return time.Second, nil }

// The programs of a stall run as fast as this machine allows, with every stall reported
// individually, while the OOM killer kills processes: no kill is lost, each stall is
// counted, and each record of one is delivered or counted as lost.
func TestStallFloodLosesNoKill(t *testing.T) {
	testenv.Root(t)

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	p, err := open(Options{MemoryHierarchy: layout.HierarchyID, PageSize: uint64(os.Getpagesize()), Stalls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	const kills, threads, times = 50, 2, 128

	program := looped(t, p.loader, times, "stall_node_begin", "stall_node_end")
	ctx, stop := context.WithCancel(context.Background())

	var (
		work  sync.WaitGroup
		over  atomic.Bool
		pairs atomic.Uint64
		took  time.Duration
	)

	began := time.Now()

	for range threads {
		work.Add(1)
		go func() {
			defer work.Done()

			runtime.LockOSThread() // begin and end are matched by thread

			defer runtime.UnlockOSThread()

			arguments := make([]uint64, 1)
			for !over.Load() {
				if _, err := program.Run(&ebpf.RunOptions{Context: arguments}); err != nil {
					t.Errorf("run a program: %v", err)
					return
				}

				pairs.Add(times)
			}
		}()
	}

	pids := make(map[uint32]bool)

	work.Add(1)
	go func() {
		defer work.Done()
		defer over.Store(true)

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
		took = time.Since(began)

		time.Sleep(200 * time.Millisecond)
		stop()
	}()

	c := &counter{lostOther: map[string]uint64{}, marked: map[uint32]bool{}, killed: map[uint32]bool{}, hierarchies: map[uint32]bool{}}
	if err := p.Run(ctx, c); err != nil {
		t.Fatal(err)
	}

	for pid := range pids {
		if !c.killed[pid] || !c.marked[pid] {
			t.Errorf("process %d: got killed %v, marked %v, want both", pid, c.killed[pid], c.marked[pid])
		}
	}

	if len(pids) != kills || len(c.lostOther) != 0 {
		t.Errorf("got %d kills, lost records %v; want %d, none but stalls", len(pids), c.lostOther, kills)
	}

	// The constants that user space sets have reached the attached programs.
	if len(c.hierarchies) != 1 || !c.hierarchies[layout.HierarchyID] {
		t.Errorf("got victims in hierarchies %v, want %d", c.hierarchies, layout.HierarchyID)
	}

	var counted, triggered uint64

	for key, sum := range c.counted {
		counted += sum.Count
		if key.What == events.StallNodeReclaim {
			triggered += sum.Count
		}
	}

	// The kernel's own reclaim of a node counts as well, if it happens.
	if want := pairs.Load(); triggered < want || triggered > want+1000 {
		t.Errorf("got %d stalls of a node counted, want %d", triggered, want)
	}

	if sum := c.stalls + c.lostStalls; sum != counted {
		t.Errorf("got %d stalls delivered and %d lost, want %d together", c.stalls, c.lostStalls, counted)
	}

	t.Logf("%.1f M stalls a second; %d delivered, %d lost", float64(counted)/took.Seconds()/1e6, c.stalls, c.lostStalls)
}

// looped makes one program that calls a begin and an end so many times: calling each from
// user space would take longer than they do. Its type is one that bpf(BPF_PROG_RUN)
// supports, with the same context, an array of numbers.
func looped(t testing.TB, l *loader, times int32, begin, end string) *ebpf.Program {
	t.Helper()

	return loopedCalls(t, l, times, []string{begin, end}, asm.Instructions{asm.Mov.Reg(asm.R7, asm.R1)})
}

// loopedCalls makes one program that calls others so many times, with the context that setup
// leaves in R7.
func loopedCalls(t testing.TB, l *loader, times int32, names []string, setup asm.Instructions) *ebpf.Program {
	t.Helper()

	from, first := l.program(names[0])
	loop := first.Copy()
	loop.Name, loop.Type, loop.AttachType, loop.AttachTo = "looped", ebpf.RawTracepoint, ebpf.AttachNone, "sys_enter"
	proto := &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Void{}}}},
	}

	body := append(setup, asm.Mov.Imm(asm.R6, times))
	again := len(body)

	for _, name := range names {
		body = append(body, asm.Mov.Reg(asm.R1, asm.R7), asm.Call.Label(name))
	}

	body[again] = body[again].WithSymbol("again")
	body = append(body, asm.Sub.Imm(asm.R6, 1), asm.JNE.Imm(asm.R6, 0, "again"), asm.Mov.Imm(asm.R0, 0), asm.Return())
	// The kernel requires a source line for each function.
	body[0] = btf.WithFuncMetadata(body[0].WithSymbol("looped"), &btf.Func{Name: "looped", Type: proto}).
		WithSource(first.Instructions[0].Source())
	loop.Instructions = body

	for _, name := range names {
		_, callee := l.program(name)
		loop.Instructions = append(loop.Instructions, static(callee)...)
	}

	shared := maps.Clone(l.maps)
	maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return from.Maps[name] == nil })

	c, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Maps: from.Maps, Programs: map[string]*ebpf.ProgramSpec{loop.Name: loop}, Variables: from.Variables,
		Types: from.Types, ByteOrder: from.ByteOrder,
	}, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		t.Fatalf("%+v", err)
	}

	t.Cleanup(c.Close)

	return c.Programs[loop.Name]
}

// static makes a program a function that others can call with a context as an untyped
// pointer: the verifier checks the arguments of global functions by their types.
func static(p *ebpf.ProgramSpec) asm.Instructions {
	body := p.Copy().Instructions
	function := *btf.FuncMetadata(&body[0])
	function.Linkage = btf.StaticFunc
	body[0] = btf.WithFuncMetadata(body[0], &function)

	for i := range body {
		// It takes the context of a real event only.
		if body[i].IsBuiltinCall() && body[i].Constant == int64(asm.FnGetStack) {
			empty := asm.Mov.Imm(asm.R0, 0)
			empty.Metadata = body[i].Metadata
			body[i] = empty
		}
	}

	return body
}

// oomKill has the OOM killer kill a process at the limit of its cgroup, and returns its PID.
func oomKill(i int) (uint32, error) {
	scratch, err := host.NewScratch(fmt.Sprintf("oomtrace-flood-%d-%d", os.Getpid(), i), 8<<20)
	if err != nil {
		return 0, err
	}
	defer scratch.Close()

	return oomKillIn(scratch)
}

// oomKillIn is oomKill in a cgroup that has a limit of 8 MiB.
func oomKillIn(scratch *host.Scratch) (uint32, error) {
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
		return 0, err
	}

	if err := cmd.Wait(); err == nil {
		return 0, fmt.Errorf("process %d exited normally, want it killed", cmd.Process.Pid)
	}

	return uint32(cmd.Process.Pid), nil
}
