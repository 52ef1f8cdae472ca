// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"math"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// decoder turns wire records into events. It is pure; any bytes are answered
// by a record or an error.
type decoder struct {
	pageSize uint64
}

// as looks at raw as a T, without copying.
func as[T any](raw []byte) (*T, error) {
	var t *T // of its type alone: a T here would be allocated for each record
	if uintptr(len(raw)) < unsafe.Sizeof(*t) {
		return nil, fmt.Errorf("a record of %d bytes where a %T has %d", len(raw), *new(T), unsafe.Sizeof(*t))
	}

	at := unsafe.Pointer(unsafe.SliceData(raw))
	if uintptr(at)%unsafe.Alignof(*t) != 0 {
		t = new(T)
		*t = *(*T)(unsafe.Pointer(unsafe.SliceData(append(make([]byte, 0, len(raw)+8), raw...))))

		return t, nil
	}

	return (*T)(at), nil
}

func (d decoder) record(raw []byte) (kernel.Record, error) {
	h, err := as[bpf.OomtraceWireHeader](raw)
	if err != nil {
		return nil, fmt.Errorf("decoding a record: %w", err)
	}
	var record kernel.Record

	switch kind := bpf.OomtraceWireKind(h.Kind); kind {
	case bpf.OomtraceWireKindWIRE_DECISION:
		record, err = into(raw, d.decision)
	case bpf.OomtraceWireKindWIRE_CHARGE:
		record, err = into(raw, d.charge)
	case bpf.OomtraceWireKindWIRE_KILL:
		record, err = into(raw, d.kill)
	case bpf.OomtraceWireKindWIRE_USER_KILL:
		record, err = into(raw, d.userKill)
	case bpf.OomtraceWireKindWIRE_LADDER:
		record, err = into(raw, d.ladder)
	case bpf.OomtraceWireKindWIRE_MARK:
		record, err = into(raw, d.mark)
	case bpf.OomtraceWireKindWIRE_PASS:
		record, err = into(raw, d.pass)
	case bpf.OomtraceWireKindWIRE_EXIT:
		record, err = into(raw, d.exit)
	case bpf.OomtraceWireKindWIRE_RELEASED:
		record, err = into(raw, d.released)
	case bpf.OomtraceWireKindWIRE_CGROUP:
		if len(raw) >= int(unsafe.Sizeof(bpf.OomtraceWireCgroupLong{})) {
			record, err = into(raw, d.cgroupLong)
		} else {
			record, err = into(raw, d.cgroup)
		}
	case bpf.OomtraceWireKindWIRE_STALL:
		record, err = into(raw, d.stall)
	case bpf.OomtraceWireKindWIRE_GAVE_UP:
		record, err = into(raw, d.gaveUp)
	default:
		return nil, fmt.Errorf("decoding a record: kind %d is not known", kind)
	}

	if err != nil {
		return nil, fmt.Errorf("decoding a record: %w", err)
	}

	return record, nil
}

func into[W any, R kernel.Record](raw []byte, f func(*W) R) (kernel.Record, error) {
	w, err := as[W](raw)
	if err != nil {
		return nil, err
	}

	return f(w), nil
}

// text is a C string in a fixed array; whole says that it ends within.
func text(chars []int8) (s string, whole bool) {
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(chars))), len(chars))
	for i, c := range bytes {
		if c == 0 {
			return string(bytes[:i]), true
		}
	}

	return string(bytes), false
}

// comm is a task's name as the kernel has it.
type comm = [16]int8

func commName(c *comm) string { return name(c[:]) }

func name(chars []int8) string { s, _ := text(chars); return s }

func key(hierarchy uint32, id uint64) events.CgroupKey {
	return events.CgroupKey{Hierarchy: hierarchy, ID: id}
}

func task(w *bpf.OomtraceWireTask) kernel.Task { return namedTask(w, commName) }

// namedTask takes the names from name.
func namedTask(w *bpf.OomtraceWireTask, name func(*comm) string) kernel.Task {
	return kernel.Task{
		TGID: w.Tgid, TID: w.Tid,
		Comm:       name(&w.Comm),
		LeaderComm: name(&w.LeaderComm),
		Kthread:    w.Flags&uint32(bpf.OomtraceWireTaskFlagWIRE_TASK_KTHREAD) != 0,
		Cgroup:     key(w.Hierarchy, w.CgroupId),
	}
}

func meta(w *bpf.OomtraceWireHeader) kernel.Meta {
	return kernel.Meta{BootNS: w.BootNs, Pass: w.Pass, Current: task(&w.CurrentTask)}
}

// pages maps PAGE_COUNTER_MAX (LONG_MAX / PAGE_SIZE) to NoLimit.
func (d decoder) pages(count uint64) uint64 {
	if count >= math.MaxInt64/max(d.pageSize, 1) {
		return kernel.NoLimit
	}

	return count
}

func (d decoder) counter(w *bpf.OomtraceWireCounter, known bool) kernel.Counter {
	if !known {
		return kernel.Counter{}
	}

	return kernel.Counter{
		Known: true, Usage: w.Usage, Max: d.pages(w.Max), High: d.pages(w.High), Watermark: w.Watermark,
	}
}

func (d decoder) level(w *bpf.OomtraceWireLevel) kernel.Memcg {
	has := func(flag bpf.OomtraceWireLevelFlag) bool { return w.Flags&uint32(flag) != 0 }

	return kernel.Memcg{
		Key:           key(w.Hierarchy, w.CgroupId),
		Name:          name(w.Name[:]),
		NameCut:       has(bpf.OomtraceWireLevelFlagWIRE_LEVEL_NAME_CUT),
		Memory:        d.counter(&w.Memory, has(bpf.OomtraceWireLevelFlagWIRE_LEVEL_MEMORY)),
		Swap:          d.counter(&w.Swap, has(bpf.OomtraceWireLevelFlagWIRE_LEVEL_SWAP)),
		OOMGroup:      has(bpf.OomtraceWireLevelFlagWIRE_LEVEL_OOM_GROUP),
		OOMGroupKnown: has(bpf.OomtraceWireLevelFlagWIRE_LEVEL_GROUP_KNOWN),
		OOMLocal:      w.OomLocal,
		OOMKill:       w.OomKill,
		EventsKnown:   has(bpf.OomtraceWireLevelFlagWIRE_LEVEL_EVENTS),
	}
}

func (d decoder) chain(levels []bpf.OomtraceWireLevel, count uint32) []kernel.Memcg {
	chain := make([]kernel.Memcg, min(int(count), len(levels)))
	for i := range chain {
		chain[i] = d.level(&levels[i])
	}

	return chain
}

// constraint is enum oom_constraint (include/linux/oom.h).
func constraint(value uint32) kernel.Constraint {
	switch value {
	case 0:
		return kernel.ConstraintNone
	case 1:
		return kernel.ConstraintCpuset
	case 2:
		return kernel.ConstraintMempolicy
	case 3:
		return kernel.ConstraintMemcg
	}

	return kernel.Constraint(fmt.Sprintf("constraint_%d", value))
}

var tiers = map[uint32]events.Tier{
	uint32(bpf.OomtraceWireTierWIRE_TIER_FENTRY):     events.TierFentry,
	uint32(bpf.OomtraceWireTierWIRE_TIER_KPROBE):     events.TierKprobe,
	uint32(bpf.OomtraceWireTierWIRE_TIER_TRACEPOINT): events.TierTracepoint,
}

func (d decoder) decision(w *bpf.OomtraceWireDecision) kernel.VictimChosen {
	has := func(flag bpf.OomtraceWireDecisionFlag) bool { return w.Flags&uint32(flag) != 0 }

	r := kernel.VictimChosen{
		Meta:         meta(&w.H),
		Tier:         tiers[w.Tier],
		AncestryCut:  has(bpf.OomtraceWireDecisionFlagWIRE_DECISION_CUT),
		LimiterIndex: int(w.Limiter),
		Victim:       task(&w.Victim),
		AllocKnown:   has(bpf.OomtraceWireDecisionFlagWIRE_DECISION_ALLOC),
		NodesKnown:   has(bpf.OomtraceWireDecisionFlagWIRE_DECISION_NODES),
		LastReclaim:  kernel.Reclaim(w.LastReclaim),
	}
	if r.AllocKnown {
		r.Constraint = constraint(w.Constraint)
		r.Order, r.GFP, r.TotalPages, r.Points = w.Order, w.Gfp, w.TotalPages, w.Points
		r.Sysrq = w.Order == -1 // mm/oom_kill.c: is_sysrq_oom
	}

	r.Ancestry = d.chain(w.Levels[:], w.LevelCount)
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

// charge gives bytes: the kernel counts pages, but slab and percpu memory in bytes,
// stacks in KiB, and before 5.12 huge pages one by one.
func (d decoder) charge(w *bpf.OomtraceWireCharge) kernel.Charge {
	r := kernel.Charge{Meta: meta(&w.H)}
	for i := range min(int(w.LevelCount), len(w.Levels)) {
		l := &w.Levels[i]
		item := func(which bpf.OomtraceWireChargeItem, unit uint64) *uint64 {
			if l.Known&(1<<which) == 0 {
				return nil
			}
			bytes := uint64(max(l.Items[which], 0)) * unit

			return &bytes
		}

		memory := events.Memory{
			AnonBytes:        item(bpf.OomtraceWireChargeItemWIRE_ANON, d.pageSize),
			FileBytes:        item(bpf.OomtraceWireChargeItemWIRE_FILE, d.pageSize),
			ShmemBytes:       item(bpf.OomtraceWireChargeItemWIRE_SHMEM, d.pageSize),
			KernelStackBytes: item(bpf.OomtraceWireChargeItemWIRE_KERNEL_STACK, 1024),
			PagetablesBytes:  item(bpf.OomtraceWireChargeItemWIRE_PAGETABLES, d.pageSize),
			SockBytes:        item(bpf.OomtraceWireChargeItemWIRE_SOCK, d.pageSize),

			FileDirtyBytes:         item(bpf.OomtraceWireChargeItemWIRE_FILE_DIRTY, d.pageSize),
			FileWritebackBytes:     item(bpf.OomtraceWireChargeItemWIRE_WRITEBACK, d.pageSize),
			ActiveFileBytes:        item(bpf.OomtraceWireChargeItemWIRE_ACTIVE_FILE, d.pageSize),
			InactiveFileBytes:      item(bpf.OomtraceWireChargeItemWIRE_INACTIVE_FILE, d.pageSize),
			UnevictableBytes:       item(bpf.OomtraceWireChargeItemWIRE_UNEVICTABLE, d.pageSize),
			AnonTHPBytes:           item(bpf.OomtraceWireChargeItemWIRE_ANON_THP, d.pageSize),
			SlabReclaimableBytes:   item(bpf.OomtraceWireChargeItemWIRE_SLAB_RECLAIMABLE, 1),
			SlabUnreclaimableBytes: item(bpf.OomtraceWireChargeItemWIRE_SLAB_UNRECLAIMABLE, 1),
			PercpuBytes:            item(bpf.OomtraceWireChargeItemWIRE_PERCPU, 1),
		}
		if memory.AnonTHPBytes == nil {
			memory.AnonTHPBytes = item(bpf.OomtraceWireChargeItemWIRE_ANON_HUGEPAGES, d.hugePageSize())
		}

		if memory.SlabReclaimableBytes != nil && memory.SlabUnreclaimableBytes != nil {
			slab := *memory.SlabReclaimableBytes + *memory.SlabUnreclaimableBytes
			memory.SlabBytes = &slab
		}
		r.Levels = append(r.Levels, kernel.MemcgCharge{Key: key(l.Hierarchy, l.CgroupId), Memory: memory})
	}

	return r
}

// hugePageSize is what an entry of the second level of page tables maps: a table is
// a page of entries of 8 bytes.
func (d decoder) hugePageSize() uint64 { return d.pageSize * (d.pageSize / 8) }

func (d decoder) kill(w *bpf.OomtraceWireKill) kernel.Kill {
	has := func(flag bpf.OomtraceWireKillFlag) bool { return w.Flags&uint32(flag) != 0 }
	count := func(v int64) uint64 { return uint64(max(v, 0)) }

	return kernel.Kill{
		Meta:          meta(&w.H),
		Target:        task(&w.Target),
		FromKernel:    has(bpf.OomtraceWireKillFlagWIRE_KILL_FROM_KERNEL),
		SharesMM:      has(bpf.OomtraceWireKillFlagWIRE_KILL_SHARES_MM),
		Code:          w.Code,
		Group:         has(bpf.OomtraceWireKillFlagWIRE_KILL_GROUP),
		Result:        w.Result,
		MemoryKnown:   has(bpf.OomtraceWireKillFlagWIRE_KILL_MEMORY),
		AnonPages:     count(w.AnonPages),
		FilePages:     count(w.FilePages),
		ShmemPages:    count(w.ShmemPages),
		SwapPages:     count(w.SwapPages),
		TotalVMPages:  w.TotalVmPages,
		PgtablesBytes: w.PgtablesBytes,
		OOMScoreAdj:   int16(w.OomScoreAdj),
		UID:           w.Uid,
		StartBootNS:   w.StartBootNs,
		ContainerInit: has(bpf.OomtraceWireKillFlagWIRE_KILL_CONTAINER_INIT),
	}
}

func (d decoder) userKill(w *bpf.OomtraceWireUserKill) kernel.Kill {
	has := func(flag bpf.OomtraceWireSenderFlag) bool { return w.Flags&uint32(flag) != 0 }
	process := func(w bpf.OomtraceWireAncestor) kernel.ProcessName {
		return kernel.ProcessName{TGID: w.Tgid, Comm: name(w.Comm[:])}
	}

	s := &kernel.Sender{
		UID:           w.Uid,
		Exe:           name(w.Exe[:]),
		LoginKnown:    has(bpf.OomtraceWireSenderFlagWIRE_SENDER_LOGIN),
		SamePIDNS:     has(bpf.OomtraceWireSenderFlagWIRE_SENDER_SAME_PIDNS),
		NamespaceInit: has(bpf.OomtraceWireSenderFlagWIRE_SENDER_INIT),
		Exiting:       has(bpf.OomtraceWireSenderFlagWIRE_SENDER_EXITING),
		NoInfo:        has(bpf.OomtraceWireSenderFlagWIRE_SENDER_NO_INFO),
		TargetGone:    has(bpf.OomtraceWireSenderFlagWIRE_SENDER_TARGET_GONE),
		MoreAncestors: has(bpf.OomtraceWireSenderFlagWIRE_SENDER_MORE),
	}
	if s.LoginKnown {
		s.LoginUID, s.AuditSession = w.LoginUid, w.SessionId
	}

	if has(bpf.OomtraceWireSenderFlagWIRE_SENDER_TERM) {
		s.TermNS, s.TermSender = w.TermNs, process(w.TermSender)
		s.TermIgnored = has(bpf.OomtraceWireSenderFlagWIRE_SENDER_TERM_IGNORED)
	}

	for _, a := range w.Ancestors[:min(int(w.AncestorCount), len(w.Ancestors))] {
		s.Ancestors = append(s.Ancestors, process(a))
	}
	k := d.kill(&w.Kill)
	k.Sender = s

	return k
}

func (d decoder) ladder(w *bpf.OomtraceWireLadder) kernel.TargetAncestry {
	return kernel.TargetAncestry{
		Meta: meta(&w.H), Target: key(w.Hierarchy, w.CgroupId),
		Ancestry: d.chain(w.Levels[:], w.LevelCount), AncestryCut: w.Cut != 0,
	}
}

func (d decoder) mark(w *bpf.OomtraceWireMark) kernel.Mark {
	return kernel.Mark{Meta: meta(&w.H), PID: w.Pid}
}

func (d decoder) pass(w *bpf.OomtraceWirePass) kernel.OOMReturn {
	r := kernel.OOMReturn{
		Meta:       meta(&w.H),
		Outcome:    outcome(w.Outcome),
		Constraint: constraint(w.Constraint),
		Count:      w.Count, FirstNS: w.FirstNs, LastNS: w.LastNs,
		Order: w.Order, GFP: w.Gfp, AllocKnown: true,
		Chosen: w.Chosen,
	}
	if w.Global == 0 {
		r.LimiterLevel = d.level(&w.Limiter)
		r.Limiter = r.LimiterLevel.Key
	}

	return r
}

func outcome(value uint32) events.Outcome {
	switch bpf.OomtraceWireOutcome(value) {
	case bpf.OomtraceWireOutcomeWIRE_KILLED:
		return events.OutcomeKilled
	case bpf.OomtraceWireOutcomeWIRE_NO_KILLABLE:
		return events.OutcomeNoKillable
	case bpf.OomtraceWireOutcomeWIRE_WAITING:
		return events.OutcomeWaiting
	case bpf.OomtraceWireOutcomeWIRE_ALREADY_EXITING:
		return events.OutcomeAlreadyExiting
	}

	return events.OutcomeSkipped
}

func (d decoder) exit(w *bpf.OomtraceWireExit) kernel.Exit {
	return kernel.Exit{Meta: meta(&w.H), TGID: w.Tgid}
}

func (d decoder) released(w *bpf.OomtraceWireExit) kernel.Released {
	return kernel.Released{Meta: meta(&w.H), TGID: w.Tgid}
}

func (d decoder) cgroup(w *bpf.OomtraceWireCgroup) kernel.CgroupChange {
	return change(&w.H, w.Hierarchy, w.CgroupId, w.Op, w.Path[:])
}

// cgroupLong is cut where the path fills the kernel's own buffer.
func (d decoder) cgroupLong(w *bpf.OomtraceWireCgroupLong) kernel.CgroupChange {
	r := change(&w.H, w.Hierarchy, w.CgroupId, w.Op, w.Path[:])
	r.PathCut = len(r.Path) >= len(w.Path)-1

	return r
}

var cgroupOps = map[uint32]string{
	uint32(bpf.OomtraceWireCgroupOpWIRE_MKDIR):  "mkdir",
	uint32(bpf.OomtraceWireCgroupOpWIRE_RMDIR):  "rmdir",
	uint32(bpf.OomtraceWireCgroupOpWIRE_RENAME): "rename",
}

func change(h *bpf.OomtraceWireHeader, hierarchy uint32, id uint64, op uint32, path []int8) kernel.CgroupChange {
	return kernel.CgroupChange{Meta: meta(h), Op: cgroupOps[op], Key: key(hierarchy, id), Path: name(path)}
}

func lostName(kind bpf.OomtraceWireKind) string {
	switch kind {
	case bpf.OomtraceWireKindWIRE_DECISION:
		return "decision"
	case bpf.OomtraceWireKindWIRE_CHARGE:
		return "charge"
	case bpf.OomtraceWireKindWIRE_KILL:
		return "sigkill"
	case bpf.OomtraceWireKindWIRE_MARK:
		return "mark_victim"
	case bpf.OomtraceWireKindWIRE_PASS:
		return "out_of_memory"
	case bpf.OomtraceWireKindWIRE_EXIT:
		return "exit"
	case bpf.OomtraceWireKindWIRE_RELEASED:
		return "released"
	case bpf.OomtraceWireKindWIRE_CGROUP:
		return "cgroup"
	case bpf.OomtraceWireKindWIRE_STALL:
		return "stall"
	case bpf.OomtraceWireKindWIRE_STALL_STATE:
		return "stalls of further cgroups"
	case bpf.OomtraceWireKindWIRE_GAVE_UP:
		return "why the allocator gave up"
	case bpf.OomtraceWireKindWIRE_USER_KILL:
		return "user_kill"
	case bpf.OomtraceWireKindWIRE_LADDER:
		return "ladder"
	}

	return "state"
}

// foldPoll asks the kernel side for passes that it counted and did not send,
// as long as there were any lately.
type foldPoll struct {
	sent  map[foldKey]uint64 // counts, of what a record was seen of
	armed int                // polls left
}

// foldKey is what passes are folded by.
type foldKey struct {
	outcome    events.Outcome
	constraint kernel.Constraint
	limiter    events.CgroupKey
}

const foldPolls = 5

func (f *foldPoll) saw(pass kernel.OOMReturn) {
	if pass.Outcome == events.OutcomeKilled {
		return
	}

	f.armed = foldPolls
	if f.sent == nil {
		f.sent = make(map[foldKey]uint64)
	}
	f.sent[foldKey{pass.Outcome, pass.Constraint, pass.Limiter}] = pass.Count
}

func (f *foldPoll) poll(folds *ebpf.Map, m kernel.Meta) []kernel.OOMReturn {
	if f.armed == 0 {
		return nil
	}

	f.armed--

	var (
		passes []kernel.OOMReturn
		k      bpf.OomtraceWireFoldKey
		fold   bpf.OomtraceWireFold
		still  = make(map[foldKey]uint64)
	)
	for all := folds.Iterate(); all.Next(&k, &fold); {
		pass := kernel.OOMReturn{
			Meta: m, Outcome: outcome(k.Outcome), Constraint: constraint(k.Constraint),
			Count: fold.Count, FirstNS: fold.FirstNs, LastNS: fold.LastNs,
		}
		if k.Global == 0 {
			pass.Limiter = key(k.Hierarchy, k.CgroupId)
		}
		key := foldKey{pass.Outcome, pass.Constraint, pass.Limiter}

		sent, seen := f.sent[key]
		if !seen {
			continue // its first record, which tells more, is on its way
		}

		still[key] = fold.Count
		if sent != fold.Count {
			passes = append(passes, pass)
		}
	}
	f.sent = still

	return passes
}

// BootNS reads CLOCK_BOOTTIME.
func BootNS() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}

	return uint64(t.Nano())
}
