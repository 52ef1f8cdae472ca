// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// quietNS ends an incident if the return of out_of_memory is not seen.
	quietNS = 20e6
	// groupQuietNS is the same for a group kill: between two members the kernel writes a
	// line to its log, which takes some 10 ms on a serial console.
	groupQuietNS = 100e6
	// groupNS is how long members of a group may still follow a reported group kill.
	groupNS = 5e9
	// sharingNS is how long processes that share a victim's memory may still follow a reported
	// kill: the kernel writes a line to its log before it kills them, perhaps to a slow console.
	sharingNS = 1e9
	// markNS is how long a SIGKILL after a reported kill may be without a mark until it is taken
	// for one of those: a machine may be paused between the two, and an update can wait.
	markNS = 500e6
	// unmarkedNS is how long a SIGKILL waits for its mark.
	unmarkedNS = 1e9
	// maxUnmarked bounds the SIGKILLs of one thread that wait for their marks.
	maxUnmarked = 64
)

// threads joins OOM kills by the thread that sends them, if records carry no invocation
// number: with tracepoints only, and for an invocation whose entry the kernel did not
// report. A SIGKILL by the kernel is an OOM kill if the same thread then marks its
// target (oom:mark_victim).
type threads struct {
	cfg       *Config
	report    *reporter
	noVictims *noVictims
	byTID     map[uint32]*thread
	due       []*thread // reused by overdue
}

// thread is what one thread did lately.
type thread struct {
	quiet    quiet
	charge   *kernel.Charge
	chosen   *kernel.VictimChosen
	unmarked []kernel.Kill // SIGKILLs by the kernel without a mark so far
	pending  *pendingOOM
	// done is the last kill, for as long as it can have more victims, and doneKill what the
	// members of a group have in common.
	done     *reported
	doneKill groupKill
}

// groupKill is what the choices of all members of a group have in common: between two of them
// the thread does nothing but kill, so that its last reclaim is the same.
type groupKill struct {
	known     bool
	reclaimNS uint64
	group     events.CgroupKey
}

func newThreads(cfg *Config, report *reporter, none *noVictims) threads {
	return threads{cfg: cfg, report: report, noVictims: none, byTID: make(map[uint32]*thread)}
}

func (ts *threads) of(m kernel.Meta) *thread {
	t := ts.byTID[m.Current.TID]
	if t == nil {
		t = &thread{}
		ts.byTID[m.Current.TID] = t
	}
	t.quiet = 0

	return t
}

// victimChosen keeps what was read at mark_victim, unless more was read of the same
// victim at oom_kill_process.
func (ts *threads) victimChosen(r *kernel.VictimChosen) {
	t := ts.of(r.Meta)
	if t.chosen == nil || !t.chosen.AllocKnown || t.chosen.Victim.TID != r.Victim.TID {
		t.chosen = r
	}
}

// charge keeps the charge split at the first SIGKILL after a reclaim.
func (ts *threads) charge(r *kernel.Charge) { ts.of(r.Meta).charge = r }

// kill takes in a SIGKILL by the kernel. The init of a pid namespace that ends sends the
// same, so it only counts with a mark, or as a part of an invocation that has one.
func (ts *threads) kill(k kernel.Kill) error {
	t := ts.of(k.Meta)
	if t.pending != nil && k.BootNS-t.pending.lastNS > t.pending.patience() {
		if err := ts.finish(t); err != nil {
			return err
		}
	}

	if t.done != nil {
		if v := t.done.victim(k.Target.TGID); v != nil {
			if k.BootNS >= v.killNS { // else it is that kill, which was known by its mark
				ts.report.late(t.done, k) // the chosen process of a group again: it is not marked twice
			}

			return nil
		}
	}

	if t.pending != nil && (k.SharesMM || t.pending.has(k.Target.TGID)) {
		return ts.report.killed(t.pending, k)
	}

	if t.done != nil && k.SharesMM && k.BootNS-t.done.lastNS <= sharingNS {
		ts.report.late(t.done, k)
		return nil
	}

	t.await(k)

	return nil
}

// await keeps a SIGKILL until its mark comes.
func (t *thread) await(k kernel.Kill) {
	// A task that exits may send one twice: as the OOM killer's, and as somebody else's.
	if slices.ContainsFunc(t.unmarked, func(old kernel.Kill) bool { return old.Target.TID == k.Target.TID }) {
		return
	}

	if len(t.unmarked) == maxUnmarked {
		t.unmarked = slices.Delete(t.unmarked, 0, 1)
	}
	t.unmarked = append(t.unmarked, k)
}

// maybeMissed takes in a SIGKILL by the kernel outside of any invocation that was seen.
// If a mark by the same thread follows, it was an OOM kill and the kernel skipped the
// kprobe on the entry of its invocation, as it does while a task inside of bpf() is
// preempted on that CPU (kernel/trace/bpf_trace.c: trace_call_bpf).
func (ts *threads) maybeMissed(k kernel.Kill) {
	k.Sender = nil
	ts.of(k.Meta).await(k)
}

// mark joins oom:mark_victim with the SIGKILL just before it by the same thread.
func (ts *threads) mark(r kernel.Mark) error {
	t := ts.of(r.Meta)

	chosen := t.chosen
	if chosen != nil && chosen.Victim.TID != r.PID {
		chosen = nil // of another victim: the record of this one was lost
	}

	kill, sent := t.take(r)
	if kill.Lost && sent && t.killed(r.Task.TGID) {
		return nil // another thread of a member: its SIGKILL was counted as it came
	}

	switch {
	case !sent, chosen != nil && chosen.ReclaimNS > kill.BootNS:
		// Or it was killed otherwise, by RLIMIT_CPU for example, and then failed to allocate.
		return ts.markedOnly(r, chosen)
	case chosen == nil && !t.killed(r.Task.TGID) && ts.isOfVictim(r, kill):
		// The SIGKILL of a victim was read after its mark, and this mark is by the victim itself: with
		// tracepoints, a choice comes with each mark but those of a process that is already dying.
		return ts.markedOnly(r, nil)
	}

	shortage := ts.shortage(chosen)
	next := groupKillOf(chosen, shortage)

	if p := t.pending; p != nil {
		if groupKillOf(p.chosen, p.shortage).continues(next) {
			return ts.report.killed(p, kill)
		}

		if err := ts.finish(t); err != nil {
			return err
		}
	}

	if d := t.done; d != nil && t.doneKill.continues(next) && kill.BootNS-d.lastNS <= groupNS {
		ts.report.late(d, kill)
		return nil
	}

	p := newPendingOOM(ts.cfg, kill.Meta)
	p.chosen, p.shortage, p.charge = chosen, shortage, t.charge

	if chosen == nil || !chosen.AllocKnown {
		p.tier = events.TierTracepoint // nothing more is known of it
	}
	t.pending, t.done, t.chosen, t.charge = p, nil, nil, nil

	return ts.report.killed(p, kill)
}

// isOfVictim reports whether a mark and its SIGKILL are of a process that is a victim already, and
// not of a later one with its pid.
func (ts *threads) isOfVictim(r kernel.Mark, kill kernel.Kill) bool {
	before := ts.noVictims.exitingIn(r)

	return before != nil && (kill.Lost || kill.StartBootNS <= before.timeNS)
}

// take returns the SIGKILL that a mark belongs to, and false if the marked task got none.
func (t *thread) take(r kernel.Mark) (kill kernel.Kill, sent bool) {
	i := slices.IndexFunc(t.unmarked, func(k kernel.Kill) bool { return k.Target.TID == r.PID })
	if i < 0 {
		return killOf(r), r.Killed
	}

	kill = t.unmarked[i]
	t.unmarked = slices.Delete(t.unmarked, i, i+1)

	return kill, true
}

// killed reports whether a process is a victim of the thread's pending or last kill.
func (t *thread) killed(tgid uint32) bool {
	return t.pending != nil && t.pending.has(tgid) || t.done != nil && t.done.victim(tgid) != nil
}

// killOf returns the SIGKILL before a mark if its record was lost.
func killOf(r kernel.Mark) kernel.Kill {
	return kernel.Kill{Meta: r.Meta, Target: r.Task, FromKernel: true, Lost: true}
}

// markedOnly takes in a mark of a task that got no SIGKILL: it was exiting already.
func (ts *threads) markedOnly(r kernel.Mark, chosen *kernel.VictimChosen) error {
	if ts.cfg.hooked() {
		return nil // the return of its invocation reports that nobody was killed
	}

	for _, t := range ts.byTID {
		if t.pending != nil && t.pending.has(r.Task.TGID) {
			t.pending.alreadyExiting++
			return nil
		}
	}

	return ts.noVictims.marked(r, chosen, ts.shortage(chosen))
}

// shortage returns the shortage of a choice, which may be nil.
func (ts *threads) shortage(chosen *kernel.VictimChosen) shortage {
	switch {
	case chosen == nil:
		return unknownShortage
	case chosen.AllocKnown: // only the entry of its invocation was missed
		return readShortage(chosen, ts.cfg.CgroupV1)
	}

	return ts.cfg.concludeShortage(chosen)
}

// groupKillOf returns what a choice has in common with others of the same group. group is
// zero for a choice outside of one.
func groupKillOf(chosen *kernel.VictimChosen, s shortage) groupKill {
	if chosen == nil {
		return groupKill{}
	}

	c := groupKill{known: true, reclaimNS: chosen.ReclaimNS}
	if s.group >= 0 {
		c.group = chosen.Ancestry[s.group].Key
	}

	return c
}

// continues reports whether next is another member of the same group kill.
func (c groupKill) continues(next groupKill) bool {
	if c.group == (events.CgroupKey{}) {
		return false
	}

	// If its record was lost: several marks of one thread in a row are a group's.
	return !next.known || c == next
}

// finish reports the pending OOM of a thread. If it is a group kill, more members may
// follow.
func (ts *threads) finish(t *thread) error {
	if err := ts.addSharing(t); err != nil {
		return err
	}

	r, err := ts.report.incident(t.pending)
	common := groupKillOf(t.pending.chosen, t.pending.shortage)

	t.pending, t.done, t.doneKill = nil, r, groupKill{}
	if r.group {
		t.doneKill = common
	}

	return err
}

// addSharing adds the SIGKILLs that share a victim's memory to a pending OOM.
func (ts *threads) addSharing(t *thread) error {
	for _, k := range t.sharingSince(t.pending.firstNS) {
		if err := ts.report.killed(t.pending, k); err != nil {
			return err
		}
	}

	return nil
}

// addLateSharing adds those that came after their kill was reported.
func (ts *threads) addLateSharing(t *thread) {
	for _, k := range t.sharingSince(t.done.timeNS) {
		if k.BootNS-t.done.lastNS <= sharingNS {
			ts.report.late(t.done, k)
		}
	}
}

// sharingSince takes the SIGKILLs after a kill that got no mark themselves: their targets
// share a victim's memory. The kernel side does not see that of a process whose leader has
// exited. A task that exits kills by itself: those that it traces, for example. And a task
// may be killed in its own context: by RLIMIT_CPU, or a BPF program.
func (t *thread) sharingSince(ns uint64) (sharing []kernel.Kill) {
	for _, k := range t.unmarked {
		if k.BootNS >= ns && !k.Current.Exiting && k.Current.TGID != k.Target.TGID {
			k.SharesMM = true
			sharing = append(sharing, k)
		}
	}

	t.unmarked = nil

	return sharing
}

// overdue reports what has been quiet for long enough, in the order of time. It returns
// whether something is still pending.
func (ts *threads) overdue(now uint64) (pending bool, err error) {
	ts.due = ts.due[:0]

	for _, t := range ts.byTID {
		if t.pending != nil && t.pending.quiet.forNS(now, t.pending.patience()) {
			ts.due = append(ts.due, t)
		}
	}

	if err := ts.finishAll(ts.due); err != nil {
		return true, err
	}

	for tid, t := range ts.byTID {
		if t.pending == nil && t.done != nil && len(t.unmarked) > 0 && t.quiet.forNS(now, markNS) {
			ts.addLateSharing(t)
		}

		pending = pending || t.pending != nil || t.done != nil && len(t.unmarked) > 0

		if t.pending == nil && t.quiet.forNS(now, t.patience()) {
			delete(ts.byTID, tid)
		}
	}

	return pending, nil
}

// patience is how long more victims may follow.
func (p *pendingOOM) patience() uint64 {
	if p.shortage.group >= 0 {
		return groupQuietNS
	}

	return quietNS
}

// patience is how long a thread without a pending OOM is remembered.
func (t *thread) patience() uint64 {
	if t.done != nil && t.done.group {
		return groupNS
	}

	return unmarkedNS
}

func (ts *threads) finishAll(list []*thread) error {
	slices.SortFunc(list, func(a, b *thread) int { return cmp.Compare(a.pending.firstNS, b.pending.firstNS) })

	for _, t := range list {
		if err := ts.finish(t); err != nil {
			return err
		}
	}

	return nil
}

func (ts *threads) close() error {
	var open []*thread

	for _, t := range ts.byTID {
		if t.pending != nil {
			open = append(open, t)
		}
	}

	clear(ts.byTID)

	return ts.finishAll(open)
}
