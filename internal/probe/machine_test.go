// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// machine runs programs by bpf(BPF_PROG_RUN), on the maps of a loader: those of fentry and
// fexit, too, whatever this kernel permits to attach.
type machine struct {
	*loader
	t        *testing.T
	programs map[string]*ebpf.Program
}

// newMachine loads programs into one collection. The test stays on its thread: most state
// is kept by thread.
func newMachine(t *testing.T, programs ...string) *machine {
	t.Helper()
	testenv.Root(t)
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)

	l, err := newLoader(Options{PageSize: uint64(os.Getpagesize()), Stalls: true})
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { l.close() })

	from, _ := l.program(programs[0])
	spec := from.Copy()
	spec.Programs = make(map[string]*ebpf.ProgramSpec)

	for _, name := range programs {
		// The context of all these types is an array of numbers.
		program := from.Programs[name].Copy()
		program.Type, program.AttachType, program.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, "sys_enter"
		spec.Programs[name] = program
	}

	shared := maps.Clone(l.maps)
	maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return spec.Maps[name] == nil })

	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared, Cache: l.types})
	if err != nil {
		t.Fatalf("%+v", err)
	}

	l.kept = append(l.kept, c)

	return &machine{loader: l, t: t, programs: c.Programs}
}

func (m *machine) run(program string, arguments ...uint64) {
	m.t.Helper()

	if _, err := m.programs[program].Run(&ebpf.RunOptions{Context: append(arguments, make([]uint64, 6)...)[:6]}); err != nil {
		m.t.Fatalf("run %s: %v", program, err)
	}
}

// put sets an entry of a map.
func (m *machine) put(name string, key, value any) {
	m.t.Helper()

	if err := m.maps[name].Put(key, value); err != nil {
		m.t.Fatal(err)
	}
}

// lost returns how often a kind was counted as lost.
func (m *machine) lost(kind bpf.Kind) (count uint64) {
	m.t.Helper()

	if err := m.maps["lost"].Lookup(uint32(kind), &count); err != nil {
		m.t.Fatal(err)
	}

	return count
}

// records returns what is in a ring.
func (m *machine) records(ring string) (records []kernel.Record) {
	m.t.Helper()

	reader, err := ringbuf.NewReader(m.maps[ring])
	if err != nil {
		m.t.Fatal(err)
	}
	defer reader.Close()

	reader.SetDeadline(time.Unix(1, 0))

	d := decoder{pageSize: uint64(os.Getpagesize())}

	for {
		raw, err := reader.Read()
		if err != nil {
			return records
		}

		record, err := d.record(raw.RawSample)
		if err != nil {
			m.t.Fatal(err)
		}

		records = append(records, record)
	}
}

// The values of dying_mm, as in bpf/exit.h.
type dyingMemory struct {
	killedNS uint64
	tgid     uint32
	_        uint32
}

// An entry that was left over, since the kernel skipped the program that takes it out, must
// not report the memory of another process that got its address.
func TestReleaseIsThatOfTheVictim(t *testing.T) {
	const mm = uint64(0xffff888012345000)
	own, other := uint32(os.Getpid()), uint32(1)
	now := kernel.BootNS()

	for _, test := range []struct {
		name   string
		memory dyingMemory
		want   bool
	}{
		{"by the victim itself, however late", dyingMemory{killedNS: 1, tgid: own}, true},
		{"by another process that held it", dyingMemory{killedNS: now, tgid: other}, true},
		{"of a later process", dyingMemory{killedNS: 1, tgid: other}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, "fexit_exit_mmap")
			m.put("dying_mm", mm, test.memory)

			m.run("fexit_exit_mmap", mm)
			m.run("fexit_exit_mmap", mm) // it is reported once

			records := m.records("bulk")
			if got := len(records) == 1 && records[0].(kernel.Released).TGID == test.memory.tgid; got != test.want || len(records) > 1 {
				t.Errorf("got records %v, want one: %v", records, test.want)
			}
		})
	}
}

// A kretprobe reports the victim that the entry by the same thread has found, once.
func TestReleaseByKretprobe(t *testing.T) {
	m := newMachine(t, "kretprobe_exit_mmap")
	m.put("exiting_mm", uint32(unix.Gettid()), uint32(4711))

	m.run("kretprobe_exit_mmap")
	m.run("kretprobe_exit_mmap")

	records := m.records("bulk")
	if len(records) != 1 || records[0].(kernel.Released).TGID != 4711 {
		t.Errorf("got records %v, want one of 4711", records)
	}
}

func TestReaperIsReported(t *testing.T) {
	m := newMachine(t, "finish_task_reaping", "skip_task_reaping")
	m.run("skip_task_reaping", 4711)
	m.run("finish_task_reaping", 4712)

	var got []kernel.Reaped
	for _, r := range m.records("bulk") {
		got = append(got, kernel.Reaped{PID: r.(kernel.Reaped).PID, Skipped: r.(kernel.Reaped).Skipped})
	}

	if want := []kernel.Reaped{{PID: 4711, Skipped: true}, {PID: 4712}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A kill that began before all programs were attached is no invocation without a choice:
// its SIGKILL was not seen.
func TestInvocationThatBeganBeforeTheLastHook(t *testing.T) {
	m := newMachine(t, "fentry_out_of_memory", "fexit_out_of_memory", "fentry_oom_kill_process")

	m.run("fentry_out_of_memory", 0)
	m.run("fentry_oom_kill_process", 0)

	if err := m.complete(); err != nil {
		t.Fatal(err)
	}

	m.run("fexit_out_of_memory", 0, 1)

	if records := m.records("urgent"); len(records) != 0 {
		t.Errorf("got records %+v, want none", records)
	}

	m.run("fentry_out_of_memory", 0)
	m.run("fexit_out_of_memory", 0, 1)

	records := m.records("urgent")
	if len(records) != 1 || records[0].(kernel.OOMReturn).Outcome != events.OutcomeSkipped {
		t.Errorf("got records %+v, want one invocation that chose nobody", records)
	}
}

// Where oom_kill_process is inlined, the first SIGKILL of an invocation has the choice, with
// what is known of the allocation.
func TestSIGKILLStandsInForTheChoice(t *testing.T) {
	m := newMachine(t, "fentry_out_of_memory", "signal_generate")

	if err := m.complete(); err != nil {
		t.Fatal(err)
	}

	m.run("fentry_out_of_memory", 0xffff_8000_dead_0000) // no address of an oom_control: its fields read as 0
	m.run("signal_generate", uint64(unix.SIGKILL), 1 /* SEND_SIG_PRIV */, 0, 1, 0)
	m.run("signal_generate", uint64(unix.SIGKILL), 1, 0, 1, 0)

	var choices, kills int

	for _, r := range m.records("urgent") {
		switch r := r.(type) {
		case kernel.VictimChosen:
			choices++

			if !r.AllocKnown || r.Invocation == 0 {
				t.Errorf("got allocation known %v, invocation %d, want both", r.AllocKnown, r.Invocation)
			}
		case kernel.Kill:
			kills++
		}
	}

	if choices != 1 || kills != 2 {
		t.Errorf("got %d choices and %d SIGKILLs, want 1 and 2", choices, kills)
	}
}

// A sleep over memory.high whose end was not seen is counted when the thread is throttled
// again.
func TestSleepWithoutAnEndIsCounted(t *testing.T) {
	m := newMachine(t, "fentry_high", "fexit_high")

	thread, err := unix.PidfdOpen(unix.Gettid(), unix.PIDFD_THREAD)
	if err != nil {
		testenv.Lacks(t, "the kernel gives no pidfd of a thread (6.9)")
	}
	defer unix.Close(thread)

	var state [bpf.StallKinds]uint64 // begin_ns of struct stall_state
	state[bpf.StallMemoryHigh] = 1

	m.put("stall_storage", uint32(thread), state)
	m.run("fentry_high")
	m.run("fentry_high")
	m.run("fexit_high")

	if got := m.lost(bpf.KindStallEnd); got != 1 {
		t.Errorf("got %d stalls without an end counted, want 1", got)
	}
}
