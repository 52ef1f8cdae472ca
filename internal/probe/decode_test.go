// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// wire are the records by their C names.
var wire = map[string]any{
	"wire_header": bpf.OomtraceWireHeader{}, "wire_task": bpf.OomtraceWireTask{}, "wire_level": bpf.OomtraceWireLevel{},
	"wire_decision": bpf.OomtraceWireDecision{}, "wire_charge": bpf.OomtraceWireCharge{}, "wire_kill": bpf.OomtraceWireKill{},
	"wire_mark": bpf.OomtraceWireMark{}, "wire_pass": bpf.OomtraceWirePass{}, "wire_exit": bpf.OomtraceWireExit{},
	"wire_user_kill": bpf.OomtraceWireUserKill{}, "wire_ancestor": bpf.OomtraceWireAncestor{}, "wire_ladder": bpf.OomtraceWireLadder{},
	"wire_cgroup": bpf.OomtraceWireCgroup{}, "wire_cgroup_long": bpf.OomtraceWireCgroupLong{},
}

// TestWireLayout compares the Go types with the C structures in the object, byte
// by byte: size, and offset of each field. No byte may be padding: it would carry
// what the kernel had there before.
func TestWireLayout(t *testing.T) {
	spec, err := bpf.LoadOomtrace()
	if err != nil {
		t.Fatal(err)
	}

	for name, value := range wire {
		var c *btf.Struct
		if err := spec.Types.TypeByName(name, &c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}

		g := reflect.TypeOf(value)
		if uintptr(c.Size) != g.Size() {
			t.Errorf("%s has %d bytes in C, %d in Go", name, c.Size, g.Size())
		}

		end := uint32(0)
		for _, member := range c.Members {
			if got := member.Offset.Bytes(); got != end {
				t.Errorf("%s has padding before %s", name, member.Name)
			}

			size, err := btf.Sizeof(member.Type)
			if err != nil {
				t.Fatal(err)
			}
			end = member.Offset.Bytes() + uint32(size)
			field := strings.ReplaceAll(member.Name, "_", "")

			f, ok := g.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, field) })
			if !ok || f.Offset != uintptr(member.Offset.Bytes()) {
				t.Errorf("%s.%s is at %d in C, in Go at %d", name, member.Name, member.Offset.Bytes(), f.Offset)
			}
		}

		if end != c.Size {
			t.Errorf("%s has padding at its end", name)
		}
	}
}

func raw[T any](v T) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v))...)
}

func chars(s string) (out [16]int8) {
	for i := range s {
		out[i] = int8(s[i])
	}

	return out
}

func TestDecodeDecision(t *testing.T) {
	w := bpf.OomtraceWireDecision{}
	w.H.Kind = uint32(bpf.OomtraceWireKindWIRE_DECISION)
	w.H.Pass, w.H.BootNs = 7, 99
	w.H.CurrentTask.Tgid, w.H.CurrentTask.Tid = 10, 11
	w.H.CurrentTask.Comm, w.H.CurrentTask.LeaderComm = chars("worker"), chars("exactly16letters")
	w.Tier = uint32(bpf.OomtraceWireTierWIRE_TIER_KPROBE)
	w.Flags = uint32(bpf.OomtraceWireDecisionFlagWIRE_DECISION_ALLOC | bpf.OomtraceWireDecisionFlagWIRE_DECISION_NODES)
	w.Constraint, w.Order, w.Gfp, w.TotalPages, w.Points = 2, -1, 0xcc0, 100, -5
	w.Nodes[0], w.Nodes[1] = 1<<3, 1
	w.Limiter, w.LevelCount, w.Frames = 1, 2, 1
	w.Stack[0] = 0xffffffff81000000
	w.Levels[1].Hierarchy, w.Levels[1].CgroupId = 4, 77
	w.Levels[1].Flags = uint32(bpf.OomtraceWireLevelFlagWIRE_LEVEL_MEMORY)
	w.Levels[1].Memory.Usage, w.Levels[1].Memory.Max, w.Levels[1].Memory.High = 5, 6, 1<<63/4096

	r, err := decoder{pageSize: 4096}.record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	d := r.(kernel.VictimChosen)
	if d.Pass != 7 || d.BootNS != 99 || d.Current.Comm != "worker" || d.Current.LeaderComm != "exactly16letters" {
		t.Errorf("header %+v", d.Meta)
	}

	if d.Tier != events.TierKprobe || d.Constraint != kernel.ConstraintMempolicy || !d.Sysrq || d.Points != -5 {
		t.Errorf("%+v", d)
	}

	if len(d.Nodes) != 2 || d.Nodes[0] != 3 || d.Nodes[1] != 64 || len(d.Stack) != 1 {
		t.Errorf("nodes %v, stack %v", d.Nodes, d.Stack)
	}

	l := d.Ancestry[1]
	if len(d.Ancestry) != 2 || l.Key != (events.CgroupKey{Hierarchy: 4, ID: 77}) || !l.Memory.Known || l.Memory.Usage != 5 ||
		l.Memory.Max != 6 || l.Memory.High != kernel.NoLimit || l.Swap.Known || l.EventsKnown {
		t.Errorf("chain %+v", d.Ancestry)
	}
}

func TestDecodeLimitsWhatCountsSay(t *testing.T) {
	w := bpf.OomtraceWireDecision{}
	w.H.Kind = uint32(bpf.OomtraceWireKindWIRE_DECISION)
	w.LevelCount, w.Frames, w.Limiter = 1<<31, 1<<31, 1000

	r, err := decoder{}.record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	d := r.(kernel.VictimChosen)
	if len(d.Ancestry) != len(w.Levels) || len(d.Stack) != len(w.Stack) || d.LimiterIndex != kernel.LimiterUnknown {
		t.Errorf("%d levels, %d frames, limiter %d", len(d.Ancestry), len(d.Stack), d.LimiterIndex)
	}
}

func TestDecodeChargeUnits(t *testing.T) {
	w := bpf.OomtraceWireCharge{LevelCount: 1}

	w.H.Kind = uint32(bpf.OomtraceWireKindWIRE_CHARGE)
	for i := range w.Levels[0].Items {
		w.Levels[0].Items[i] = 10
	}
	w.Levels[0].Known = 1<<bpf.OomtraceWireChargeItemWIRE_ANON | 1<<bpf.OomtraceWireChargeItemWIRE_KERNEL_STACK |
		1<<bpf.OomtraceWireChargeItemWIRE_SLAB_RECLAIMABLE | 1<<bpf.OomtraceWireChargeItemWIRE_SLAB_UNRECLAIMABLE

	r, err := decoder{pageSize: 4096}.record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	m := r.(kernel.Charge).Levels[0].Memory
	if *m.AnonBytes != 40960 || *m.KernelStackBytes != 10240 || *m.SlabBytes != 20 || m.FileBytes != nil || m.SockBytes != nil ||
		*m.SlabReclaimableBytes != 10 || m.AnonTHPBytes != nil || m.PercpuBytes != nil {
		t.Errorf("%+v", m)
	}
}

// TestDecodeHugePages: older kernels count them one by one, newer ones their pages.
func TestDecodeHugePages(t *testing.T) {
	for item, want := range map[bpf.OomtraceWireChargeItem]uint64{
		bpf.OomtraceWireChargeItemWIRE_ANON_THP: 10 * 4096, bpf.OomtraceWireChargeItemWIRE_ANON_HUGEPAGES: 10 * 2 << 20,
	} {
		w := bpf.OomtraceWireCharge{LevelCount: 1}
		w.H.Kind = uint32(bpf.OomtraceWireKindWIRE_CHARGE)
		w.Levels[0].Items[item], w.Levels[0].Known = 10, 1<<item

		r, err := decoder{pageSize: 4096}.record(raw(w))
		if err != nil {
			t.Fatal(err)
		}

		if got := r.(kernel.Charge).Levels[0].Memory.AnonTHPBytes; got == nil || *got != want {
			t.Errorf("item %d: %v, want %d", item, got, want)
		}
	}
}

func TestDecodeUserKill(t *testing.T) {
	w := bpf.OomtraceWireUserKill{Uid: 1000, LoginUid: 1001, SessionId: 3, TermNs: 77, AncestorCount: 1 << 30}
	w.Kill.H.Kind = uint32(bpf.OomtraceWireKindWIRE_USER_KILL)
	w.Kill.Target.Tgid = 9
	copy(w.Exe[:], []int8{'r', 'u', 'n', 'c'})
	w.TermSender.Comm, w.Ancestors[0] = chars("runc"), bpf.OomtraceWireAncestor{Tgid: 5, Comm: chars("containerd-shim")}

	r, err := decoder{}.record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	k := r.(kernel.Kill)
	if s := k.Sender; k.Target.TGID != 9 || k.FromKernel || s == nil || s.UID != 1000 || s.Exe != "runc" || s.LoginKnown || s.LoginUID != 0 ||
		s.TermNS != 0 || s.SamePIDNS || len(s.Ancestors) != len(w.Ancestors) || s.Ancestors[0] != (kernel.ProcessName{TGID: 5, Comm: "containerd-shim"}) {
		t.Errorf("%+v %+v", k, k.Sender)
	}

	w.Flags = uint32(bpf.OomtraceWireSenderFlagWIRE_SENDER_LOGIN | bpf.OomtraceWireSenderFlagWIRE_SENDER_TERM | bpf.OomtraceWireSenderFlagWIRE_SENDER_INIT)
	if r, err = (decoder{}).record(raw(w)); err != nil {
		t.Fatal(err)
	}

	if s := r.(kernel.Kill).Sender; !s.LoginKnown || s.LoginUID != 1001 || s.TermNS != 77 || s.TermSender.Comm != "runc" || !s.NamespaceInit {
		t.Errorf("%+v", s)
	}
}

func TestDecodeLadder(t *testing.T) {
	w := bpf.OomtraceWireLadder{Hierarchy: 4, CgroupId: 77, Cut: 1, LevelCount: 2}
	w.H.Kind = uint32(bpf.OomtraceWireKindWIRE_LADDER)

	r, err := decoder{}.record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	if l := r.(kernel.TargetAncestry); l.Target != (events.CgroupKey{Hierarchy: 4, ID: 77}) || !l.AncestryCut || len(l.Ancestry) != 2 {
		t.Errorf("%+v", l)
	}
}

func TestDecodeRefuses(t *testing.T) {
	short := raw(bpf.OomtraceWireKill{H: bpf.OomtraceWireHeader{Kind: uint32(bpf.OomtraceWireKindWIRE_KILL)}})

	unknown := raw(bpf.OomtraceWireHeader{Kind: 200})
	for name, b := range map[string][]byte{"nothing": nil, "a cut record": short[:len(short)-1], "an unknown kind": unknown} {
		if r, err := (decoder{}).record(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCgroupPaths(t *testing.T) {
	short := bpf.OomtraceWireCgroup{Op: uint32(bpf.OomtraceWireCgroupOpWIRE_MKDIR)}
	short.H.Kind = uint32(bpf.OomtraceWireKindWIRE_CGROUP)
	copy(short.Path[:], []int8{'/', 'a'})
	long := bpf.OomtraceWireCgroupLong{Op: uint32(bpf.OomtraceWireCgroupOpWIRE_RMDIR)}

	long.H.Kind = uint32(bpf.OomtraceWireKindWIRE_CGROUP)
	for i := range long.Path[:1023] {
		long.Path[i] = 'x'
	}

	for _, test := range []struct {
		raw  []byte
		op   string
		size int
		cut  bool
	}{{raw(short), "mkdir", 2, false}, {raw(long), "rmdir", 1023, true}} {
		r, err := decoder{}.record(test.raw)
		if err != nil {
			t.Fatal(err)
		}

		if c := r.(kernel.CgroupChange); c.Op != test.op || len(c.Path) != test.size || c.PathCut != test.cut {
			t.Errorf("%s, %d bytes, cut %v", c.Op, len(c.Path), c.PathCut)
		}
	}
}

// FuzzDecode: any bytes are a record that can be told as JSON, or an error.
func FuzzDecode(f *testing.F) {
	for kind := range uint32(bpf.OomtraceWireKindWIRE_KINDS) {
		for _, value := range wire {
			b := make([]byte, reflect.TypeOf(value).Size())
			b[0] = byte(kind)
			f.Add(b)

			for i := 8; i < len(b); i++ {
				b[i] = 0xff
			}

			f.Add(b)
		}
	}

	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decoder{pageSize: 4096}.record(b)
		if err != nil {
			return
		}

		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}

func TestDecodeGaveUp(t *testing.T) {
	w := bpf.StallsWireGaveUp{ReclaimNs: 5, Zone: chars("Normal"), Node: 1, AvailablePages: 9, NoProgressLoops: 16, WatermarkOk: 1}
	w.H.Kind, w.H.BootNs, w.H.CurrentTask.Tid = uint32(bpf.OomtraceWireKindWIRE_GAVE_UP), 7, 42

	got, err := decoder{}.record(raw(w))
	if err != nil {
		t.Fatal(err)
	}

	g := got.(kernel.GaveUp)
	if g.BootNS != 7 || g.Current.TID != 42 || g.Compact != nil || g.Reclaim == nil ||
		*g.Reclaim != (kernel.ReclaimRetry{BootNS: 5, Zone: "Normal", Node: 1, AvailablePages: 9, NoProgressLoops: 16, WatermarkOK: true}) {
		t.Errorf("%+v", g)
	}

	w.ReclaimNs, w.CompactNs, w.CompactResult = 0, 6, 3
	if got, err = (decoder{}).record(raw(w)); err != nil {
		t.Fatal(err)
	}

	if g := got.(kernel.GaveUp); g.Reclaim != nil || g.Compact == nil || g.Compact.Result != "no_suitable_page" {
		t.Errorf("%+v", g)
	}

	w.CompactResult = 99
	if got, _ = (decoder{}).record(raw(w)); got.(kernel.GaveUp).Compact.Result != "result_99" {
		t.Errorf("%+v", got)
	}
}
