// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// quietNS ends an incident if the return of out_of_memory is not seen: the members of
	// a group are killed within microseconds of each other.
	quietNS = 20e6
	// groupNS is how long members of a group may still follow a reported group kill: the
	// kernel writes a line to its log for each.
	groupNS = 5e9
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
	limitHits *limitHits
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
	// done is the last group kill, for as long as it can have more members.
	done *reported
}

func newThreads(cfg *Config, report *reporter, hits *limitHits, none *noVictims) threads {
	return threads{cfg: cfg, report: report, limitHits: hits, noVictims: none, byTID: make(map[uint32]*thread)}
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

func (ts *threads) charge(r *kernel.Charge) { ts.of(r.Meta).charge = r }

// kill takes in a SIGKILL by the kernel. The init of a pid namespace that ends sends the
// same, so it only counts with a mark, or as a part of an invocation that has one.
func (ts *threads) kill(k kernel.Kill) error {
	t := ts.of(k.Meta)
	if t.pending != nil && k.BootNS-t.pending.lastNS > quietNS {
		if err := ts.finish(t); err != nil {
			return err
		}
	}

	if t.done != nil && t.done.victim(k.Target.TGID) != nil {
		ts.report.late(t.done, k) // the chosen process of a group again: it is not marked twice
		return nil
	}

	if t.pending != nil && (k.SharesMM || t.pending.has(k.Target.TGID)) {
		return ts.report.killed(t.pending, k)
	}

	t.await(k)

	return nil
}

// await keeps a SIGKILL until its mark comes.
func (t *thread) await(k kernel.Kill) {
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

	i := slices.IndexFunc(t.unmarked, func(k kernel.Kill) bool { return k.Target.TID == r.PID })
	if i < 0 && ts.cfg.hooked() {
		return nil // the return of its invocation reports that nobody was killed
	}

	if i < 0 {
		return ts.noVictims.marked(r, t.pending != nil)
	}
	kill, chosen := t.unmarked[i], t.chosen
	t.unmarked = slices.Delete(t.unmarked, i, i+1)

	if chosen != nil && chosen.Victim.TID != r.PID {
		chosen = nil // of another victim: the record of this one was lost
	}
	shortage, hit := ts.shortage(chosen)

	if t.pending != nil {
		if !hit && t.pending.shortage.group >= 0 && shortage.group >= 0 {
			return ts.report.killed(t.pending, kill)
		}

		if err := ts.finish(t); err != nil {
			return err
		}
	}

	if d := t.done; d != nil && !hit && shortage.group >= 0 && kill.BootNS-d.lastNS <= groupNS {
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

// shortage returns the shortage of a choice, which may be nil. hit reports whether a limit
// was hit since the last one: if none was, this victim was not chosen but belongs to a
// group.
func (ts *threads) shortage(chosen *kernel.VictimChosen) (s shortage, hit bool) {
	switch {
	case chosen == nil:
		return unknownShortage, false
	case chosen.AllocKnown: // only the entry of its invocation was missed
		ts.limitHits.learn(chosen.Ancestry...)
		return readShortage(chosen, ts.cfg.CgroupV1), false
	}

	hits := ts.limitHits.since(chosen.Ancestry)

	return concludeShortage(chosen, hits, ts.cfg.CgroupV1), len(hits) > 0
}

// finish reports the pending OOM of a thread. If it is a group kill, more members may
// follow.
func (ts *threads) finish(t *thread) error {
	r, err := ts.report.incident(t.pending)

	t.pending, t.done = nil, nil
	if r.group {
		t.done = r
	}

	return err
}

// overdue reports what has been quiet for long enough, in the order of time. It returns
// whether something is still pending.
func (ts *threads) overdue(now uint64) (pending bool, err error) {
	ts.due = ts.due[:0]

	for _, t := range ts.byTID {
		if t.pending != nil && t.pending.quiet.forNS(now, quietNS) {
			ts.due = append(ts.due, t)
		}
	}

	if err := ts.finishAll(ts.due); err != nil {
		return true, err
	}

	for tid, t := range ts.byTID {
		pending = pending || t.pending != nil

		if t.pending == nil && t.quiet.forNS(now, t.patience()) {
			delete(ts.byTID, tid)
		}
	}

	return pending, nil
}

// patience is how long a thread without a pending OOM is remembered.
func (t *thread) patience() uint64 {
	if t.done != nil {
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
