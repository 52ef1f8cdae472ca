// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"fmt"
	"math"
	"unsafe"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// decoder makes kernel records of what the programs send. Any bytes result in a record
// or an error. It belongs to one goroutine.
type decoder struct {
	pageSize uint64
	stalls   stallDecoder

	// Records may be cut after any memcg, so that they are copied to a whole struct before they
	// are read. What lies behind the cut is of an earlier record.
	chosen bpf.VictimChosen
	split  bpf.Charge
	above  bpf.TargetAncestry
}

// as returns raw as a T, without a copy if it is aligned.
func as[T any](raw []byte) (*T, error) {
	var t *T // only for its type: a T here would be allocated for each record
	if uintptr(len(raw)) < unsafe.Sizeof(*t) {
		return nil, fmt.Errorf("got %d bytes, want %d of %T", len(raw), unsafe.Sizeof(*t), *new(T))
	}

	at := unsafe.Pointer(unsafe.SliceData(raw))
	if uintptr(at)%unsafe.Alignof(*t) != 0 {
		t = new(T)
		*t = *(*T)(unsafe.Pointer(unsafe.SliceData(append(make([]byte, 0, len(raw)+8), raw...))))

		return t, nil
	}

	return (*T)(at), nil
}

// record decodes one record. A *kernel.Stall is valid until the next call; every other
// record is a value.
func (d *decoder) record(raw []byte) (kernel.Record, error) {
	h, err := as[bpf.Header](raw)
	if err != nil {
		return nil, fmt.Errorf("decode a record: %w", err)
	}

	var record kernel.Record

	switch h.Kind {
	case bpf.KindVictimChosen:
		record, err = intoMemcgs(raw, &d.chosen, d.chosen.Memcgs[:], &d.chosen.MemcgCount, d.victimChosen)
	case bpf.KindCharge:
		record, err = intoMemcgs(raw, &d.split, d.split.Memcgs[:], &d.split.MemcgCount, d.charge)
	case bpf.KindKill:
		record, err = into(raw, d.kill)
	case bpf.KindUserKill:
		record, err = into(raw, d.userKill)
	case bpf.KindTargetAncestry:
		record, err = intoMemcgs(raw, &d.above, d.above.Memcgs[:], &d.above.MemcgCount, d.targetAncestry)
	case bpf.KindMark:
		record, err = into(raw, d.mark)
	case bpf.KindOOMReturn:
		record, err = into(raw, d.oomReturn)
	case bpf.KindExit:
		record, err = into(raw, d.exit)
	case bpf.KindReleased:
		record, err = into(raw, d.released)
	case bpf.KindLimitWrite:
		record, err = into(raw, d.limitWrite)
	case bpf.KindReaped, bpf.KindReapSkipped:
		record, err = into(raw, d.reaped)
	case bpf.KindCgroupChange:
		record, err = d.cgroupChange(raw)
	case bpf.KindStall:
		record, err = into(raw, d.stalls.decode)
	case bpf.KindGaveUp:
		record, err = into(raw, d.gaveUp)
	default:
		return nil, fmt.Errorf("decode a record: unknown kind %d", h.Kind)
	}

	if err != nil {
		return nil, fmt.Errorf("decode a record: %w", err)
	}

	return record, nil
}

func into[W any, R kernel.Record](raw []byte, decode func(*W) R) (kernel.Record, error) {
	w, err := as[W](raw)
	if err != nil {
		return nil, err
	}

	return decode(w), nil
}

// intoMemcgs copies raw, a W that may be cut after any of the memcgs at its end, to w, and
// bounds their count by what raw holds.
func intoMemcgs[W, M any, R kernel.Record](
	raw []byte, w *W, memcgs []M, count *uint32, decode func(*W) R,
) (kernel.Record, error) {
	size := unsafe.Sizeof(memcgs[0])
	head := int(unsafe.Sizeof(*w) - uintptr(len(memcgs))*size)

	if len(raw) < head {
		return nil, fmt.Errorf("got %d bytes, want %d before the memcgs of %T", len(raw), head, *w)
	}

	n := copy(unsafe.Slice((*byte)(unsafe.Pointer(w)), unsafe.Sizeof(*w)), raw)
	*count = min(*count, uint32((n-head)/int(size)))

	return decode(w), nil
}

// text is a C string in a fixed array, which may fill it.
func text(chars []byte) string {
	s, _, _ := bytes.Cut(chars, []byte{0})

	return string(s)
}

// comm is a task's name (TASK_COMM_LEN).
type comm = [16]byte

func commText(c *comm) string { return text(c[:]) }

func key(hierarchy uint32, id uint64) events.CgroupKey {
	return events.CgroupKey{Hierarchy: hierarchy, ID: id}
}

func task(w *bpf.Task) kernel.Task { return namedTask(w, commText) }

// namedTask is task with another function that makes text of a comm.
func namedTask(w *bpf.Task, text func(*comm) string) kernel.Task {
	return kernel.Task{
		TGID: w.TGID, TID: w.TID,
		Comm:       text(&w.Comm),
		LeaderComm: text(&w.LeaderComm),
		Kthread:    w.Flags&bpf.TaskKthread != 0,
		Exiting:    w.Flags&bpf.TaskExiting != 0,
		Cgroup:     key(w.Hierarchy, w.CgroupID),
	}
}

func meta(w *bpf.Header) kernel.Meta {
	return kernel.Meta{BootNS: w.BootNS, Invocation: w.Invocation, Current: task(&w.CurrentTask)}
}

// pages turns PAGE_COUNTER_MAX (LONG_MAX / PAGE_SIZE) into NoLimit.
func (d *decoder) pages(count uint64) uint64 {
	if count >= math.MaxInt64/max(d.pageSize, 1) {
		return kernel.NoLimit
	}

	return count
}

func (d *decoder) counter(w *bpf.Counter, known bool) kernel.Counter {
	if !known {
		return kernel.Counter{}
	}

	return kernel.Counter{
		Known: true, Usage: w.Usage, Max: d.pages(w.Max), High: d.pages(w.High), Watermark: w.Watermark,
	}
}

func (d *decoder) memcg(w *bpf.Memcg) kernel.Memcg {
	has := func(flag bpf.MemcgFlag) bool { return w.Flags&flag != 0 }

	return kernel.Memcg{
		Key:           key(w.Hierarchy, w.CgroupID),
		Name:          text(w.Name[:]),
		NameCut:       has(bpf.MemcgNameCut),
		Memory:        d.counter(&w.Memory, has(bpf.MemcgMemory)),
		Swap:          d.counter(&w.Swap, has(bpf.MemcgSwap)),
		OOMGroup:      has(bpf.MemcgOOMGroup),
		OOMGroupKnown: has(bpf.MemcgOOMGroupKnown),
		OOMKill:       w.OOMKill,
		OOMKillKnown:  has(bpf.MemcgOOMKill),
		Protection:    d.protection(&w.Protection, has(bpf.MemcgProtection)),
	}
}

func (d *decoder) protection(w *bpf.Protection, known bool) kernel.Protection {
	if !known {
		return kernel.Protection{}
	}

	return kernel.Protection{
		Known: true, Min: d.pages(w.Min), Low: d.pages(w.Low), ChildrenMin: w.ChildrenMin, ChildrenLow: w.ChildrenLow,
	}
}

func (d *decoder) ancestry(memcgs []bpf.Memcg, count uint32) []kernel.Memcg {
	ancestry := make([]kernel.Memcg, min(int(count), len(memcgs)))
	for i := range ancestry {
		ancestry[i] = d.memcg(&memcgs[i])
	}

	return ancestry
}

// constraints are enum oom_constraint (include/linux/oom.h).
var constraints = [...]kernel.Constraint{
	kernel.ConstraintNone, kernel.ConstraintCpuset, kernel.ConstraintMempolicy, kernel.ConstraintMemcg,
}

func constraint(number uint32) kernel.Constraint {
	if int(number) < len(constraints) {
		return constraints[number]
	}

	return kernel.Constraint(fmt.Sprintf("constraint_%d", number))
}

func (d *decoder) victimChosen(w *bpf.VictimChosen) kernel.VictimChosen {
	has := func(flag bpf.VictimChosenFlag) bool { return w.Flags&flag != 0 }

	r := kernel.VictimChosen{
		Meta:         meta(&w.H),
		AncestryCut:  has(bpf.VictimChosenCut),
		LimiterIndex: int(w.Limiter),
		Victim:       task(&w.Victim),
		AllocKnown:   has(bpf.VictimChosenAlloc),
		NodesKnown:   has(bpf.VictimChosenNodes),
		PolicyNodes:  has(bpf.VictimChosenPolicy),
		Hardwall:     has(bpf.VictimChosenHardwall),
		AtKill:       has(bpf.VictimChosenAtKill),
		LastReclaim:  kernel.Reclaim(w.LastReclaim),
		ReclaimNS:    w.ReclaimNS,
	}
	if r.AllocKnown {
		r.Constraint = constraint(w.Constraint)
		r.Order, r.GFP, r.TotalPages, r.Points = w.Order, w.GFP, w.TotalPages, w.Points
		r.Sysrq = w.Order == -1 // mm/oom_kill.c: is_sysrq_oom
	}

	r.Ancestry = d.ancestry(w.Memcgs[:], w.MemcgCount)
	if r.LimiterIndex < kernel.LimiterUnknown || r.LimiterIndex >= len(r.Ancestry) {
		r.LimiterIndex = kernel.LimiterUnknown
	}

	r.Stack = append(r.Stack, w.Stack[:min(int(w.Frames), len(w.Stack))]...)

	if r.NodesKnown {
		for i, word := range w.Nodes {
			for bit := range 64 {
				if word&(1<<bit) != 0 {
					r.Nodes = append(r.Nodes, i*64+bit)
				}
			}
		}
	}

	return r
}

// charge converts to bytes: the kernel counts pages, but slab and percpu memory in
// bytes, stacks in KiB, and before 5.12 anonymous huge pages one by one.
func (d *decoder) charge(w *bpf.Charge) kernel.Charge {
	r := kernel.Charge{Meta: meta(&w.H)}

	for i := range min(int(w.MemcgCount), len(w.Memcgs)) {
		m := &w.Memcgs[i]
		item := func(which bpf.ChargeItem, unit uint64) *uint64 {
			if m.Known&(1<<which) == 0 {
				return nil
			}

			bytes := uint64(max(m.Items[which], 0)) * unit

			return &bytes
		}

		memory := events.Memory{
			AnonBytes:        item(bpf.ChargeAnon, d.pageSize),
			FileBytes:        item(bpf.ChargeFile, d.pageSize),
			ShmemBytes:       item(bpf.ChargeShmem, d.pageSize),
			KernelStackBytes: item(bpf.ChargeKernelStack, 1024),
			PagetablesBytes:  item(bpf.ChargePagetables, d.pageSize),
			SockBytes:        item(bpf.ChargeSock, d.pageSize),

			FileDirtyBytes:         item(bpf.ChargeFileDirty, d.pageSize),
			FileWritebackBytes:     item(bpf.ChargeWriteback, d.pageSize),
			ActiveFileBytes:        item(bpf.ChargeActiveFile, d.pageSize),
			InactiveFileBytes:      item(bpf.ChargeInactiveFile, d.pageSize),
			UnevictableBytes:       item(bpf.ChargeUnevictable, d.pageSize),
			AnonTHPBytes:           item(bpf.ChargeAnonTHP, d.pageSize),
			SlabReclaimableBytes:   item(bpf.ChargeSlabReclaimable, 1),
			SlabUnreclaimableBytes: item(bpf.ChargeSlabUnreclaimable, 1),
			PercpuBytes:            item(bpf.ChargePercpu, 1),
		}
		if huge := item(bpf.ChargeHugetlb, d.pageSize); huge != nil && *huge > 0 {
			memory.HugetlbBytes = huge
		}

		if memory.AnonTHPBytes == nil {
			memory.AnonTHPBytes = item(bpf.ChargeAnonHugepages, d.hugePageSize())
		}

		if memory.SlabReclaimableBytes != nil && memory.SlabUnreclaimableBytes != nil {
			slab := *memory.SlabReclaimableBytes + *memory.SlabUnreclaimableBytes
			memory.SlabBytes = &slab
		}

		r.Memcgs = append(r.Memcgs, kernel.MemcgCharge{Key: key(m.Hierarchy, m.CgroupID), Memory: memory})
	}

	return r
}

// hugePageSize is the size that an entry of the second level of page tables maps: a
// table is a page of entries of 8 bytes.
func (d *decoder) hugePageSize() uint64 { return d.pageSize * (d.pageSize / 8) }

func (d *decoder) kill(w *bpf.Kill) kernel.Kill {
	has := func(flag bpf.KillFlag) bool { return w.Flags&flag != 0 }
	count := func(v int64) uint64 { return uint64(max(v, 0)) }

	return kernel.Kill{
		Meta:          meta(&w.H),
		Target:        task(&w.Target),
		FromKernel:    has(bpf.KillFromKernel),
		SharesMM:      has(bpf.KillSharesMM),
		Code:          w.Code,
		Group:         has(bpf.KillGroup),
		MemoryKnown:   has(bpf.KillMemory),
		AnonPages:     count(w.AnonPages),
		FilePages:     count(w.FilePages),
		ShmemPages:    count(w.ShmemPages),
		SwapPages:     count(w.SwapPages),
		TotalVMPages:  w.TotalVMPages,
		PgtablesBytes: w.PgtablesBytes,
		OOMScoreAdj:   int16(w.OOMScoreAdj),
		UID:           w.UID,
		StartBootNS:   w.StartBootNS,
		ContainerInit: has(bpf.KillContainerInit),
	}
}

func (d *decoder) userKill(w *bpf.UserKill) kernel.Kill {
	has := func(flag bpf.SenderFlag) bool { return w.Flags&flag != 0 }
	process := func(w *bpf.Ancestor) kernel.ProcessName {
		return kernel.ProcessName{TGID: w.TGID, Comm: text(w.Comm[:])}
	}

	s := &kernel.Sender{
		UID:           w.UID,
		Exe:           text(w.Exe[:]),
		LoginKnown:    has(bpf.SenderLogin),
		SamePIDNS:     has(bpf.SenderSamePIDNS),
		NamespaceInit: has(bpf.SenderInit),
		NoInfo:        has(bpf.SenderNoInfo),
		MoreAncestors: has(bpf.SenderMore),
	}
	if s.LoginKnown {
		s.LoginUID = w.LoginUID
	}

	if has(bpf.SenderTerm) {
		s.TermNS, s.TermSender = w.TermNS, process(&w.TermSender)
		s.TermIgnored = has(bpf.SenderTermIgnored)
	}

	for i := range min(int(w.AncestorCount), len(w.Ancestors)) {
		s.Ancestors = append(s.Ancestors, process(&w.Ancestors[i]))
	}
	s.Stack = append(s.Stack, w.Stack[:min(int(w.Frames), len(w.Stack))]...)

	k := d.kill(&w.Kill)
	k.Sender = s

	return k
}

func (d *decoder) targetAncestry(w *bpf.TargetAncestry) kernel.TargetAncestry {
	return kernel.TargetAncestry{
		Meta: meta(&w.H), Target: key(w.Hierarchy, w.CgroupID),
		Ancestry: d.ancestry(w.Memcgs[:], w.MemcgCount), AncestryCut: w.Cut != 0,
	}
}

func (d *decoder) limitWrite(w *bpf.LimitWrite) kernel.LimitWrite {
	return kernel.LimitWrite{Meta: meta(&w.H), Memcg: d.memcg(&w.Memcg), File: text(w.File[:]), Text: text(w.Text[:])}
}

func (d *decoder) mark(w *bpf.Mark) kernel.Mark {
	return kernel.Mark{Meta: meta(&w.H), PID: w.PID, Task: task(&w.Task), Killed: w.Flags&bpf.MarkKilled != 0}
}

func (d *decoder) oomReturn(w *bpf.OOMReturn) kernel.OOMReturn {
	r := kernel.OOMReturn{
		Meta:       meta(&w.H),
		Outcome:    outcome(w.Outcome),
		Constraint: constraint(w.Constraint),
		Chosen:     w.Chosen,
		Count:      w.Count, FirstNS: w.FirstNS, LastNS: w.LastNS,
		Order: w.Order, GFP: w.GFP, AllocKnown: true,
	}
	if w.Global == 0 {
		r.LimiterMemcg = d.memcg(&w.Limiter)
		r.Limiter = r.LimiterMemcg.Key
	}

	return r
}

func outcome(value bpf.Outcome) events.Outcome {
	switch value {
	case bpf.OutcomeKilled:
		return events.OutcomeKilled
	case bpf.OutcomeNoKillable:
		return events.OutcomeNoKillable
	case bpf.OutcomeWaiting:
		return events.OutcomeWaiting
	case bpf.OutcomeAlreadyExiting:
		return events.OutcomeAlreadyExiting
	}

	return events.OutcomeSkipped
}

func (d *decoder) exit(w *bpf.Exit) kernel.Exit {
	return kernel.Exit{Meta: meta(&w.H), TGID: w.TGID}
}

func (d *decoder) released(w *bpf.Exit) kernel.Released {
	return kernel.Released{Meta: meta(&w.H), TGID: w.TGID}
}

func (d *decoder) reaped(w *bpf.Exit) kernel.Reaped {
	return kernel.Reaped{Meta: meta(&w.H), PID: w.TGID, Skipped: w.H.Kind == bpf.KindReapSkipped}
}

// cgroupChange decodes a record that ends with its path. One that fills the kernel's own
// buffer is reported as truncated.
func (d *decoder) cgroupChange(raw []byte) (kernel.Record, error) {
	var w bpf.CgroupChange
	if want := unsafe.Offsetof(w.Path); uintptr(len(raw)) < want {
		return nil, fmt.Errorf("got %d bytes, want %d before the path of %T", len(raw), want, w)
	}

	copy(unsafe.Slice((*byte)(unsafe.Pointer(&w)), unsafe.Sizeof(w)), raw)
	path := text(w.Path[:])

	return kernel.CgroupChange{
		Meta: meta(&w.H), Op: cgroupOps[w.Op], Key: key(w.Hierarchy, w.CgroupID), Path: path, PathCut: len(path) >= len(w.Path)-1,
	}, nil
}

var cgroupOps = map[bpf.CgroupOp]string{
	bpf.CgroupOpMkdir:  "mkdir",
	bpf.CgroupOpRmdir:  "rmdir",
	bpf.CgroupOpRename: "rename",
}

func (d *decoder) gaveUp(w *bpf.GaveUp) kernel.GaveUp {
	out := kernel.GaveUp{Meta: meta(&w.H)}
	if w.ReclaimNS != 0 {
		out.Reclaim = &kernel.ReclaimRetry{
			BootNS: w.ReclaimNS, Order: w.Order, Zone: text(w.Zone[:]), Node: w.Node,
			ReclaimablePages: w.ReclaimablePages, AvailablePages: w.AvailablePages, MinWatermarkPages: w.MinWatermarkPages,
			NoProgressLoops: w.NoProgressLoops, WatermarkOK: w.WatermarkOK != 0,
		}
	}

	if w.CompactNS != 0 {
		out.Compact = &kernel.CompactRetry{
			BootNS: w.CompactNS, Order: w.CompactOrder, Priority: w.CompactPriority, Result: compactResult(w.CompactResult),
			Retries: w.CompactRetries, MaxRetries: w.CompactMaxRetries, Again: w.CompactAgain != 0,
		}
	}

	return out
}

// compactResults are enum compact_result (include/linux/compaction.h), the same from
// 5.10 to 7.x.
var compactResults = [...]string{
	"not_suitable_zone", "skipped", "deferred", "no_suitable_page", "continue", "complete", "partial_skipped", "contended", "success",
}

func compactResult(number uint32) string {
	if int(number) < len(compactResults) {
		return compactResults[number]
	}

	return fmt.Sprintf("result_%d", number)
}

// stallKinds are the kinds by the programs' number.
var stallKinds = [...]events.StallKind{
	bpf.StallMemcgReclaim:  events.StallMemcgReclaim,
	bpf.StallDirectReclaim: events.StallDirectReclaim,
	bpf.StallNodeReclaim:   events.StallNodeReclaim,
	bpf.StallMemoryHigh:    events.StallMemoryHigh,
	bpf.StallCompaction:    events.StallCompaction,
	bpf.StallThrottle:      events.StallThrottle,
	bpf.StallAfterKill:     events.StallAfterKill,
}

func stallKind(number bpf.StallKind) events.StallKind {
	if int(number) < len(stallKinds) {
		return stallKinds[number]
	}

	return events.StallKind(fmt.Sprintf("kind_%d", number))
}

// limitOwner is zero where no owner is known.
func limitOwner(hierarchy uint32, id uint64) events.CgroupKey {
	if id == 0 {
		return events.CgroupKey{}
	}

	return key(hierarchy, id)
}

// stallDecoder decodes stalls without allocating: there can be tens of thousands a
// second, of the same few tasks.
type stallDecoder struct {
	stall kernel.Stall
	texts [64]struct {
		comm comm
		text string
	}
}

// decode returns a stall that is valid until the next call.
func (d *stallDecoder) decode(w *bpf.Stall) *kernel.Stall {
	d.stall = kernel.Stall{
		Meta: kernel.Meta{BootNS: w.H.BootNS, Invocation: w.H.Invocation, Current: namedTask(&w.H.CurrentTask, d.text)},
		What: stallKind(w.Kind), DurationNS: w.DurationNS, ReclaimedPages: w.ReclaimedPages,
		Owner: limitOwner(w.Hierarchy, w.OwnerID),
	}

	return &d.stall
}

func (d *stallDecoder) text(c *comm) string {
	var sum uint8
	for _, char := range c {
		sum = sum*31 + char
	}

	known := &d.texts[sum%uint8(len(d.texts))]
	if known.comm != *c {
		known.comm, known.text = *c, commText(c)
	}

	return known.text
}
