// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// raw are the bytes of a wire struct, as they come out of a ring buffer.
func raw[T any](v T) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))...)
}

func chars(s string) (out [16]byte) {
	copy(out[:], s)

	return out
}

// decode decodes a wire struct with pages of 4 KiB, and fails the test if that is not an R.
func decode[R kernel.Record, W any](t *testing.T, w W) R {
	t.Helper()

	record, err := (&decoder{pageSize: 4096}).record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	r, ok := record.(R)
	if !ok {
		t.Fatalf("got a %T, want a %T", record, r)
	}

	return r
}

func check(t *testing.T, what string, got, want any) {
	t.Helper()

	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

func TestDecodeVictimChosen(t *testing.T) {
	w := bpf.VictimChosen{}
	w.H.Kind = bpf.KindVictimChosen
	w.H.Invocation, w.H.BootNS = 7, 99
	w.H.CurrentTask.TGID, w.H.CurrentTask.TID = 10, 11
	w.H.CurrentTask.Comm, w.H.CurrentTask.LeaderComm = chars("worker"), chars("exactly16letters")
	w.Flags = bpf.VictimChosenAlloc | bpf.VictimChosenNodes
	w.Constraint, w.Order, w.GFP, w.TotalPages, w.Points = 2, -1, 0xcc0, 100, -5
	w.Nodes[0], w.Nodes[1] = 1<<3, 1
	w.Limiter, w.MemcgCount, w.Frames = 1, 2, 1
	w.Stack[0] = 0xffffffff81000000
	w.Memcgs[1].Hierarchy, w.Memcgs[1].CgroupID = 4, 77
	w.Memcgs[1].Flags = bpf.MemcgMemory | bpf.MemcgProtection
	w.Memcgs[1].Protection = bpf.Protection{Min: 1 << 63 / 4096, Low: 3, ChildrenMin: 4, ChildrenLow: 5}
	w.Memcgs[1].Memory.Usage, w.Memcgs[1].Memory.Max, w.Memcgs[1].Memory.High = 5, 6, 1<<63/4096

	r := decode[kernel.VictimChosen](t, w)

	check(t, "header", r.Meta, kernel.Meta{
		BootNS: 99, Invocation: 7, Current: kernel.Task{TGID: 10, TID: 11, Comm: "worker", LeaderComm: "exactly16letters"},
	})
	check(t, "constraint", r.Constraint, kernel.ConstraintMempolicy)
	check(t, "sysrq", r.Sysrq, true)
	check(t, "points", r.Points, int64(-5))
	check(t, "nodes", r.Nodes, []int{3, 64})
	check(t, "stack", r.Stack, []uint64{0xffffffff81000000})
	check(t, "limiter", r.LimiterIndex, 1)
	check(t, "ancestry", r.Ancestry, []kernel.Memcg{{}, {
		Key:        events.CgroupKey{Hierarchy: 4, ID: 77},
		Memory:     kernel.Counter{Known: true, Usage: 5, Max: 6, High: kernel.NoLimit},
		Protection: kernel.Protection{Known: true, Min: kernel.NoLimit, Low: 3, ChildrenMin: 4, ChildrenLow: 5},
	}})
}

func TestDecodeBoundsCounts(t *testing.T) {
	w := bpf.VictimChosen{MemcgCount: 1 << 31, Frames: 1 << 31, Limiter: 1000}
	w.H.Kind = bpf.KindVictimChosen

	r := decode[kernel.VictimChosen](t, w)

	check(t, "memcgs", len(r.Ancestry), len(w.Memcgs))
	check(t, "frames", len(r.Stack), len(w.Stack))
	check(t, "limiter", r.LimiterIndex, kernel.LimiterUnknown)
}

// A record ends after the memcgs that it has room for; those of an earlier record are none of its own.
func TestDecodeRecordsOfFewMemcgs(t *testing.T) {
	chosen := bpf.VictimChosen{MemcgCount: 24}
	chosen.H.Kind = bpf.KindVictimChosen
	split := bpf.Charge{MemcgCount: 24}
	split.H.Kind = bpf.KindCharge
	above := bpf.TargetAncestry{MemcgCount: 24}
	above.H.Kind = bpf.KindTargetAncestry

	for i := range chosen.Memcgs {
		id := uint64(i + 1)
		chosen.Memcgs[i].CgroupID, split.Memcgs[i].CgroupID, above.Memcgs[i].CgroupID = id, id, id
	}

	ids := func(r kernel.Record) (ids []uint64) {
		switch r := r.(type) {
		case kernel.VictimChosen:
			for i := range r.Ancestry {
				ids = append(ids, r.Ancestry[i].Key.ID)
			}
		case kernel.Charge:
			for i := range r.Memcgs {
				ids = append(ids, r.Memcgs[i].Key.ID)
			}
		case kernel.TargetAncestry:
			for i := range r.Ancestry {
				ids = append(ids, r.Ancestry[i].Key.ID)
			}
		}

		return ids
	}

	var want24 []uint64
	for id := range uint64(24) {
		want24 = append(want24, id+1)
	}

	for _, test := range []struct {
		whole       []byte
		head, memcg uintptr
	}{
		{raw(chosen), unsafe.Offsetof(chosen.Memcgs), unsafe.Sizeof(chosen.Memcgs[0])},
		{raw(split), unsafe.Offsetof(split.Memcgs), unsafe.Sizeof(split.Memcgs[0])},
		{raw(above), unsafe.Offsetof(above.Memcgs), unsafe.Sizeof(above.Memcgs[0])},
	} {
		d := &decoder{pageSize: 4096}
		records := map[int]kernel.Record{}

		for _, count := range []int{24, 8, 1, 0} {
			b := slices.Clone(test.whole[:test.head+uintptr(count)*test.memcg])

			r, err := d.record(b)
			if err != nil {
				t.Fatal(err)
			}

			records[count] = r

			clear(b) // its memory is the ring's
		}

		// Each is right after all others were read by the same decoder.
		for count, r := range records {
			check(t, fmt.Sprintf("memcgs of a %T with %d", r, count), slices.Equal(ids(r), want24[:count]), true)
		}

		if r, err := d.record(test.whole[:test.head-1]); err == nil {
			t.Errorf("a record that ends before its memcgs: got %+v, want an error", r)
		}
	}
}

func TestDecodeConvertsChargeToBytes(t *testing.T) {
	w := bpf.Charge{MemcgCount: 1}
	w.H.Kind = bpf.KindCharge

	for i := range w.Memcgs[0].Items {
		w.Memcgs[0].Items[i] = 10
	}

	w.Memcgs[0].Known = 1<<bpf.ChargeAnon | 1<<bpf.ChargeKernelStack |
		1<<bpf.ChargeSlabReclaimable | 1<<bpf.ChargeSlabUnreclaimable

	bytes := func(n uint64) *uint64 { return &n }

	check(t, "charge", decode[kernel.Charge](t, w).Memcgs[0].Memory, events.Memory{
		AnonBytes: bytes(40960), KernelStackBytes: bytes(10240),
		SlabBytes: bytes(20), SlabReclaimableBytes: bytes(10), SlabUnreclaimableBytes: bytes(10),
	})
}

// Older kernels count anonymous huge pages one by one, newer ones their pages.
func TestDecodeConvertsHugePagesToBytes(t *testing.T) {
	for item, want := range map[bpf.ChargeItem]uint64{bpf.ChargeAnonTHP: 10 * 4096, bpf.ChargeAnonHugepages: 10 * 2 << 20} {
		w := bpf.Charge{MemcgCount: 1}
		w.H.Kind = bpf.KindCharge
		w.Memcgs[0].Items[item], w.Memcgs[0].Known = 10, 1<<item

		got := decode[kernel.Charge](t, w).Memcgs[0].Memory.AnonTHPBytes
		if got == nil || *got != want {
			t.Errorf("item %d: got %v, want %d", item, got, want)
		}
	}
}

func TestDecodeLeavesOutHugePagesThatAreNotCharged(t *testing.T) {
	for pages, want := range map[int64]uint64{0: 0, 512: 2 << 20} {
		w := bpf.Charge{MemcgCount: 1}
		w.H.Kind = bpf.KindCharge
		w.Memcgs[0].Items[bpf.ChargeHugetlb], w.Memcgs[0].Known = pages, 1<<bpf.ChargeHugetlb

		got := decode[kernel.Charge](t, w).Memcgs[0].Memory.HugetlbBytes
		if (got != nil) != (want > 0) || got != nil && *got != want {
			t.Errorf("%d pages: got %v, want %d bytes, nil for none", pages, got, want)
		}
	}
}

func TestDecodeUserKill(t *testing.T) {
	w := bpf.UserKill{UID: 1000, LoginUID: 1001, TermNS: 77, AncestorCount: 1 << 30}
	w.Kill.H.Kind = bpf.KindUserKill
	w.Kill.Target.TGID = 9
	copy(w.Exe[:], "runc")
	w.TermSender.Comm, w.Ancestors[0] = chars("runc"), bpf.Ancestor{TGID: 5, Comm: chars("containerd-shim")}

	ancestors := make([]kernel.ProcessName, len(w.Ancestors))
	ancestors[0] = kernel.ProcessName{TGID: 5, Comm: "containerd-shim"}

	r := decode[kernel.Kill](t, w)
	check(t, "target", r.Target.TGID, uint32(9))
	check(t, "from the kernel", r.FromKernel, false)
	check(t, "sender without flags", *r.Sender, kernel.Sender{UID: 1000, Exe: "runc", Ancestors: ancestors})

	for name, test := range map[string]struct {
		frames uint32
		want   []uint64
	}{
		"two frames": {2, []uint64{7, 8}}, "more than a record has": {1 << 30, slices.Concat([]uint64{7, 8}, make([]uint64, len(w.Stack)-2))},
	} {
		w.Stack[0], w.Stack[1], w.Frames = 7, 8, test.frames
		check(t, "stack, "+name, decode[kernel.Kill](t, w).Sender.Stack, test.want)
	}
	w.Frames = 0

	w.Flags = bpf.SenderLogin | bpf.SenderTerm | bpf.SenderInit
	check(t, "sender with flags", *decode[kernel.Kill](t, w).Sender, kernel.Sender{
		UID: 1000, Exe: "runc", Ancestors: ancestors, LoginKnown: true, LoginUID: 1001,
		TermNS: 77, TermSender: kernel.ProcessName{Comm: "runc"}, NamespaceInit: true,
	})
}

func TestDecodeTargetAncestry(t *testing.T) {
	w := bpf.TargetAncestry{Hierarchy: 4, CgroupID: 77, Cut: 1, MemcgCount: 2}
	w.H.Kind = bpf.KindTargetAncestry

	check(t, "ancestry", decode[kernel.TargetAncestry](t, w), kernel.TargetAncestry{
		Target: events.CgroupKey{Hierarchy: 4, ID: 77}, AncestryCut: true, Ancestry: make([]kernel.Memcg, 2),
	})
}

func TestDecodeRefusesWhatIsNoRecord(t *testing.T) {
	short := raw(bpf.Kill{H: bpf.Header{Kind: bpf.KindKill}})
	unknown := raw(bpf.Header{Kind: 200})

	for name, b := range map[string][]byte{"nothing": nil, "a truncated record": short[:len(short)-1], "an unknown kind": unknown} {
		if r, err := new(decoder).record(b); err == nil {
			t.Errorf("%s: got %+v, want an error", name, r)
		}
	}
}

func TestDecodeCgroupPaths(t *testing.T) {
	short := bpf.CgroupChange{Op: bpf.CgroupOpMkdir}
	short.H.Kind = bpf.KindCgroupChange
	copy(short.Path[:], "/a")

	head := unsafe.Offsetof(short.Path)

	// A record ends with its path, or before it if that could not be read.
	for size, path := range map[uintptr]string{head + 3: "/a", head: "", unsafe.Sizeof(short): "/a"} {
		r, err := new(decoder).record(raw(short)[:size])
		if want := (kernel.CgroupChange{Op: "mkdir", Path: path}); err != nil || r != want {
			t.Errorf("%d bytes: got %+v, %v, want %+v", size, r, err, want)
		}
	}

	if r, err := new(decoder).record(raw(short)[:head-1]); err == nil {
		t.Errorf("got %+v of a truncated record, want an error", r)
	}

	long := bpf.CgroupChange{Op: bpf.CgroupOpRmdir}
	long.H.Kind = bpf.KindCgroupChange

	for i := range long.Path[:1023] {
		long.Path[i] = 'x'
	}

	r := decode[kernel.CgroupChange](t, long)
	check(t, "operation", r.Op, "rmdir")
	check(t, "path length", len(r.Path), 1023)
	check(t, "path truncated", r.PathCut, true)
}

func TestDecodeGaveUp(t *testing.T) {
	w := bpf.GaveUp{ReclaimNS: 5, Zone: chars("Normal"), Node: 1, AvailablePages: 9, NoProgressLoops: 16, WatermarkOK: 1}
	w.H.Kind, w.H.BootNS, w.H.CurrentTask.TID = bpf.KindGaveUp, 7, 42

	check(t, "reclaim", decode[kernel.GaveUp](t, w), kernel.GaveUp{
		Meta:    kernel.Meta{BootNS: 7, Current: kernel.Task{TID: 42}},
		Reclaim: &kernel.ReclaimRetry{BootNS: 5, Zone: "Normal", Node: 1, AvailablePages: 9, NoProgressLoops: 16, WatermarkOK: true},
	})

	w.ReclaimNS, w.CompactNS = 0, 6
	for number, want := range map[uint32]string{3: "no_suitable_page", 99: "result_99"} {
		w.CompactResult = number

		r := decode[kernel.GaveUp](t, w)
		check(t, "reclaim", r.Reclaim, (*kernel.ReclaimRetry)(nil))
		check(t, "compaction", r.Compact, &kernel.CompactRetry{BootNS: 6, Result: want})
	}
}

func TestDecodeStall(t *testing.T) {
	w := bpf.Stall{Kind: bpf.StallMemoryHigh, Hierarchy: 4, OwnerID: 77, DurationNS: 5, ReclaimedPages: 6}
	w.H.Kind, w.H.CurrentTask.Comm = bpf.KindStall, chars("worker")

	check(t, "stall", decode[*kernel.Stall](t, w), &kernel.Stall{
		Meta: kernel.Meta{Current: kernel.Task{Comm: "worker"}}, What: events.StallMemoryHigh,
		DurationNS: 5, ReclaimedPages: 6, Owner: events.CgroupKey{Hierarchy: 4, ID: 77},
	})
}

func TestDecodeStallDoesNotAllocate(t *testing.T) {
	w := bpf.Stall{Kind: bpf.StallMemcgReclaim}
	w.H.Kind, w.H.CurrentTask.Comm = bpf.KindStall, chars("worker")
	b := raw(w)
	d := &decoder{pageSize: 4096}

	allocs := testing.AllocsPerRun(100, func() {
		if _, err := d.record(b); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("got %v allocations for each stall, want 0", allocs)
	}
}

// neverSent are kinds that only count losses.
var neverSent = []bpf.Kind{bpf.KindState, bpf.KindStallState, bpf.KindStallCount, bpf.KindStallEnd}

// largestRecord is as large as any record.
const largestRecord = unsafe.Sizeof(bpf.VictimChosen{})

func TestDecodeEveryKind(t *testing.T) {
	for kind := bpf.Kind(1); kind < bpf.KindCount; kind++ {
		b := make([]byte, largestRecord)
		copy(b, raw(kind))

		_, err := new(decoder).record(b)
		if want := !slices.Contains(neverSent, kind); (err == nil) != want {
			t.Errorf("kind %d (%s): got %v, want decoded: %v", kind, lostNames[kind], err, want)
		}
	}
}

// FuzzDecode: any bytes are an error, or a record that can be encoded as JSON.
func FuzzDecode(f *testing.F) {
	for kind := range bpf.KindCount {
		for _, size := range []uintptr{unsafe.Sizeof(bpf.Header{}), unsafe.Sizeof(bpf.Kill{}), largestRecord} {
			b := make([]byte, size)
			copy(b, raw(kind))
			f.Add(b)

			for i := int(unsafe.Sizeof(kind)); i < len(b); i++ {
				b[i] = 0xff
			}

			f.Add(b)
		}
	}

	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := (&decoder{pageSize: 4096}).record(b)
		if err != nil {
			return
		}

		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
