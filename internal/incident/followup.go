// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
)

const (
	// updateNS is how long the changes of an incident are collected into one update.
	updateNS = 500e6
	// exitLateNS is how long a victim may take to exit before a note reports it.
	exitLateNS = 5e9
	// recentNS is how long an incident waits for the exits of its victims, and counts
	// later invocations of its limiter.
	recentNS = 60e9
	// overlapNS is how long after a kill the next one for the same limit is checked for
	// having come while the first victim still held its memory.
	overlapNS = 2e9
	// maxRecent bounds what else is remembered in a storm of kills.
	maxRecent = MaxOpen
)

// MaxOpen is how many incidents can still get updates from a Correlator: the last OOM
// invocations. SIGKILLs from user space get none.
const MaxOpen = 512

// followUp remembers emitted incidents for as long as the correlator can change them: for
// recentNS, and until the audit that they are in, the last MaxOpen of them. It collects the
// changes of each and emits them as updates.
type followUp struct {
	cfg   *Config
	build *builder
	out   Out
	now   uint64 // CLOCK_BOOTTIME

	recent []*reported // oldest first
	dying  map[uint32]dying
	// early holds exits that were read before the kill that they belong to: the two come
	// through different ring buffers.
	early map[uint32]ends
}

// reported is an emitted incident.
type reported struct {
	id         string
	outcome    events.Outcome
	limiter    events.CgroupKey // zero for the node
	ancestry   []events.CgroupKey
	timeNS     uint64
	lastNS     uint64 // of its last kill or repeat
	invocation uint64
	group      bool // a group kill
	passes     events.Passes
	unknown    []string
	notes      []string
	followed   []events.Consequence
	victims    []*victimState
	exiting    uint32 // TGID of the process that was exiting already; 0: none, or unknown
	// previous was killed for the same limiter shortly before, and had not released its
	// memory as far as was known.
	previous *victimState

	tally
	memcgDelta *uint64 // growth of the limiter's memory.events oom_kill

	changes      *events.Incident // not yet emitted
	changesNS    uint64           // since when
	exitsAwaited bool             // no note on missing exits was made yet
	auditAwaited bool             // in the window of the next audit
}

// victimState is a victim of an emitted incident.
type victimState struct {
	process events.Process
	killNS  uint64
	role    events.Role
	init    bool // of its pid namespace
	ends    ends
	// reapSkips are the attempts of the oom_reaper that took nothing.
	reapSkips int
	// memoryOf is the victim whose memory this one shares.
	memoryOf *victimState
}

// ends are the times of a process's exit, of the release of its memory, and of the oom_reaper
// having taken that; 0: not seen.
type ends struct{ exitNS, releasedNS, reapedNS uint64 }

// over reports whether the process is known to be gone.
func (e ends) over() bool { return e.exitNS != 0 || e.releasedNS != 0 }

// and returns e with those that were seen now.
func (e ends) and(seen ends) ends {
	return ends{
		cmp.Or(seen.exitNS, e.exitNS), cmp.Or(seen.releasedNS, e.releasedNS), cmp.Or(seen.reapedNS, e.reapedNS),
	}
}

// since returns the ends that were not before a kill: those were of an earlier process
// with the same pid.
func (e ends) since(killNS uint64) (own ends) {
	if e.exitNS >= killNS {
		own.exitNS = e.exitNS
	}

	if e.releasedNS >= killNS {
		own.releasedNS = e.releasedNS
	}

	if e.reapedNS >= killNS {
		own.reapedNS = e.reapedNS
	}

	return own
}

// dying is a victim that may not have exited yet, and its incident.
type dying struct {
	of     *reported
	victim *victimState
}

func newFollowUp(cfg *Config, build *builder, out Out) *followUp {
	return &followUp{cfg: cfg, build: build, out: out, dying: make(map[uint32]dying), early: make(map[uint32]ends)}
}

func (r *reported) victim(tgid uint32) *victimState {
	for _, v := range r.victims {
		if v.process.PID == int(tgid) {
			return v
		}
	}

	return nil
}

// killed takes in the incident of a pending OOM.
func (f *followUp) killed(p *pendingOOM, inc *events.Incident) *reported {
	r := &reported{
		id: p.id, outcome: inc.Outcome, timeNS: p.victims[0].kill.BootNS, passes: *inc.Passes,
		unknown: inc.Unknown, notes: inc.Notes, tally: p.tally,
		lastNS: p.lastNS, invocation: p.invocation, group: p.shortage.group >= 0, exitsAwaited: true,
	}
	if p.shortage.limiter >= 0 {
		memcg := p.chosen.Ancestry[p.shortage.limiter]
		r.limiter = memcg.Key
		// cgroup v1 and memory_localevents count a kill at the victim's memcg only
		// (include/linux/memcontrol.h: memcg_memory_event).
		counted := !f.cfg.CgroupV1 && !f.cfg.LocalEvents || p.shortage.limiter == 0
		if p.end != nil && p.end.Limiter == memcg.Key && memcg.OOMKillKnown && p.end.LimiterMemcg.OOMKillKnown && counted {
			r.memcgDelta = new(p.end.LimiterMemcg.OOMKill - memcg.OOMKill)
			if p.chosen.AtKill {
				*r.memcgDelta++
			}
		}
	}

	for _, a := range inc.Ladder {
		r.ancestry = append(r.ancestry, a.Cgroup.CgroupKey)
	}

	r.previous = f.stillDying(r.limiter, p.firstNS)
	for i, v := range p.victims {
		f.await(r, v, inc.Victims[i].Process)
	}

	f.add(r)

	return r
}

// noVictim takes in the incident of invocations that killed nobody.
func (f *followUp) noVictim(facts *facts, inc *events.Incident, limiter events.CgroupKey) *reported {
	r := &reported{
		id: facts.id, outcome: facts.outcome, limiter: limiter, timeNS: facts.timeNS, lastNS: f.now,
		passes: *inc.Passes, unknown: inc.Unknown,
	}
	if facts.exiting != nil {
		r.exiting = facts.exiting.TGID
	}

	f.add(r)

	return r
}

func (f *followUp) add(r *reported) {
	f.recent = append(f.recent, r)
	if len(f.recent) > MaxOpen {
		f.forget(f.recent[0])
		f.recent = slices.Delete(f.recent, 0, 1)
	}
}

func (f *followUp) forget(r *reported) {
	for _, v := range r.victims {
		if d, ok := f.dying[uint32(v.process.PID)]; ok && d.of == r {
			delete(f.dying, uint32(v.process.PID))
		}
	}
}

// last returns the newest incident that matches, nil if none does.
func (f *followUp) last(match func(*reported) bool) *reported {
	for _, r := range slices.Backward(f.recent) {
		if match(r) {
			return r
		}
	}

	return nil
}

// ofInvocation returns the incident of an invocation that was reported before its
// return.
func (f *followUp) ofInvocation(number uint64) *reported {
	return f.last(func(r *reported) bool { return r.invocation == number })
}

// isVictim reports whether the target of a SIGKILL is a victim of the OOM killer already.
func (f *followUp) isVictim(k kernel.Kill) bool {
	d, ok := f.dying[k.Target.TGID]
	return ok && k.StartBootNS <= d.victim.killNS // else a later process with its pid
}

// stillDying returns a victim of the same limiter, killed within overlapNS before, whose
// memory is not known to be released or taken.
func (f *followUp) stillDying(limiter events.CgroupKey, now uint64) *victimState {
	for _, r := range slices.Backward(f.recent) {
		if now-r.timeNS > overlapNS {
			return nil
		}

		if r.limiter != limiter || r.outcome != events.OutcomeKilled {
			continue
		}

		for _, v := range r.victims {
			if v.ends.releasedNS == 0 && v.ends.reapedNS == 0 {
				return v
			}
		}
	}

	return nil
}

// await starts to wait for the exit of a victim.
func (f *followUp) await(r *reported, v victim, p events.Process) {
	state := &victimState{process: p, killNS: v.kill.BootNS, role: v.role, init: v.kill.ContainerInit}

	if v.role == events.RoleSharedMM {
		for _, before := range r.victims {
			if before.role != events.RoleSharedMM {
				state.memoryOf = before // it is killed right after the one that it shares with
			}
		}
	}

	r.victims = append(r.victims, state)
	tgid := v.kill.Target.TGID
	f.dying[tgid] = dying{r, state}

	if early, ok := f.early[tgid]; ok {
		delete(f.early, tgid)

		early = early.since(state.killNS)
		if early != (ends{}) {
			f.end(r, state, early)
		}
	}
}

// ended takes in the exit of a process that was sent SIGKILL, or the release of its memory.
func (f *followUp) ended(tgid uint32, seen ends) {
	d, ok := f.dying[tgid]
	if !ok {
		if len(f.early) >= maxRecent {
			clear(f.early)
		}
		f.early[tgid] = f.early[tgid].and(seen)

		return
	}

	e := d.victim.ends.and(seen)
	f.end(d.of, d.victim, e)

	for _, other := range d.of.victims {
		// Memory that is shared is released once.
		if e.releasedNS != 0 && other.memory() == d.victim.memory() && other.ends.releasedNS == 0 {
			f.end(d.of, other, other.ends.and(ends{releasedNS: e.releasedNS}))
		}
	}
}

// memory returns the victim that stands for all with the same memory.
func (v *victimState) memory() *victimState { return cmp.Or(v.memoryOf, v) }

// reapAttempts is how often the oom_reaper tries to take a victim's memory (mm/oom_kill.c:
// MAX_OOM_REAP_RETRIES).
const reapAttempts = 10

// reaped takes in an attempt of the oom_reaper. The marked thread need not be the leader.
func (f *followUp) reaped(a kernel.Reaped) {
	d, ok := f.dying[a.PID]
	if !ok {
		for _, other := range f.dying {
			if other.victim.process.TID == int(a.PID) {
				d, ok = other, true
				break
			}
		}
	}

	switch {
	case !a.Skipped && ok:
		f.end(d.of, d.victim, d.victim.ends.and(ends{reapedNS: a.BootNS}))
	case !a.Skipped:
		f.ended(a.PID, ends{reapedNS: a.BootNS})
	case ok:
		if d.victim.reapSkips++; d.victim.reapSkips == reapAttempts && d.victim.ends == (ends{}) {
			f.note(d.of, fmt.Sprintf("the kernel's oom_reaper gave up on %s[%d], whose mmap_lock was taken in each of %d attempts: "+
				"its memory comes back when it exits", d.victim.process.Comm, d.victim.process.PID, reapAttempts))
		}
	}
}

func (f *followUp) end(r *reported, v *victimState, e ends) {
	after := func(ns uint64) *uint64 {
		if ns == 0 {
			return nil
		}

		return new(ns - min(v.killNS, ns))
	}
	v.ends = e

	// Updates are matched by pid, and repeat who it is.
	shown := events.Victim{Process: events.Process{PID: v.process.PID, TID: v.process.TID, Comm: v.process.Comm}}
	shown.ExitAfterNS, shown.ReleasedAfterNS, shown.ReapedAfterNS = after(e.exitNS), after(e.releasedNS), after(e.reapedNS)

	change := f.change(r)
	if i := slices.IndexFunc(change.Victims, func(v events.Victim) bool { return v.PID == shown.PID }); i >= 0 {
		old := &change.Victims[i]
		old.ExitAfterNS, old.ReleasedAfterNS, old.ReapedAfterNS = shown.ExitAfterNS, shown.ReleasedAfterNS, shown.ReapedAfterNS
	} else {
		change.Victims = append(change.Victims, shown)
	}

	if !r.exitsAwaited {
		f.nameMissedEnds(r)
	}

	f.noteOverlaps(v)
}

// noteOverlaps adds a note to kills that came while an earlier victim still held its
// memory: the kernel does not always wait for it (seen on 6.18 and 7.3).
func (f *followUp) noteOverlaps(v *victimState) {
	gone := max(v.ends.exitNS, v.ends.releasedNS)

	for _, r := range f.recent {
		if r.previous == v && gone > r.timeNS {
			r.previous = nil
			f.note(r, fmt.Sprintf(
				"%s[%d], killed %s earlier for the same limit, was still exiting: its exit was complete %s later",
				v.process.Comm, v.process.PID, milliseconds(r.timeNS-v.killNS), milliseconds(gone-r.timeNS)))
		}
	}
}

// note adds notes to an incident. An update replaces all notes, so each has those before it.
func (f *followUp) note(r *reported, texts ...string) {
	r.notes = append(slices.Clone(r.notes), texts...)
	f.change(r).Notes = r.notes
}

// followed adds what came of an incident's kill. An update has the whole list.
func (f *followUp) followed(r *reported, more events.Consequence) {
	if len(r.followed) == oom.MaxConsequences {
		return
	}

	r.followed = append(slices.Clip(r.followed), more)
	f.change(r).Followed = r.followed
}

// countReturns adds later invocations to an incident.
func (f *followUp) countReturns(r *reported, outcome events.Outcome, more uint64) {
	r.lastNS = max(r.lastNS, f.now)
	*returnCount(&r.passes, outcome) += more

	passes := r.passes
	f.change(r).Passes = &passes
}

// change returns the update of an incident that is being collected.
func (f *followUp) change(r *reported) *events.Incident {
	if r.changes == nil {
		r.changes, r.changesNS = &events.Incident{ID: r.id}, f.now
	}

	return r.changes
}

// complete reports whether all ends of an incident's victims were seen.
func (f *followUp) complete(r *reported) bool {
	for _, v := range r.victims {
		if v.ends.exitNS == 0 || f.missesRelease(v) {
			return false
		}
	}

	return true
}

// missesRelease reports whether the release of a victim's memory can be seen, and was not.
func (f *followUp) missesRelease(v *victimState) bool {
	return v.ends.releasedNS == 0 && f.cfg.hooked()
}

// noteMissingEnds notes which victims have not exited, after a time in which they should
// have.
func (f *followUp) noteMissingEnds(r *reported) {
	r.exitsAwaited = false
	var notes []string

	for _, v := range r.victims {
		// The kernel may have skipped the program on its exit.
		exited := v.ends.over() || f.cfg.Gone != nil && f.cfg.Gone(v.process.PID)
		if !exited {
			notes = append(notes, fmt.Sprintf("%s[%d] had not exited %s after its SIGKILL",
				v.process.Comm, v.process.PID, milliseconds(exitLateNS)))
		}
	}

	if len(notes) > 0 {
		f.note(r, notes...)
	}

	f.nameMissedEnds(r)
}

// nameMissedEnds names as unknown the ends that were not seen, and takes out those that
// came late.
func (f *followUp) nameMissedEnds(r *reported) {
	noExit, noRelease := false, !f.cfg.hooked()
	for _, v := range r.victims {
		noExit = noExit || v.ends.exitNS == 0
		noRelease = noRelease || f.missesRelease(v)
	}

	unknown := oom.Unknowns{Names: slices.Clone(r.unknown)}
	unknown.Set("victims.exit_after_ns", !noExit)
	unknown.Set("victims.released_after_ns", !noRelease)

	if !slices.Equal(unknown.Names, r.unknown) {
		r.unknown = unknown.Names
		f.change(r).Unknown = unknown.Names
	}
}

// flush emits updates that are complete or old enough, with all every update, and forgets
// incidents that are not expected to change any more.
func (f *followUp) flush(all bool) error {
	for _, r := range f.recent {
		if r.exitsAwaited && f.age(r) >= exitLateNS {
			f.noteMissingEnds(r)
		}

		if r.changes == nil || !all && !f.due(r) {
			continue
		}

		change := r.changes
		r.changes = nil

		if err := f.out.Update(change); err != nil {
			return err
		}
	}

	old := 0
	for old < len(f.recent) && f.age(f.recent[old]) > recentNS && f.recent[old].settled() {
		f.forget(f.recent[old])
		old++
	}
	f.recent = slices.Delete(f.recent, 0, old)

	return nil
}

// settled reports whether nothing is known to follow: in a long burst the audit comes
// later than recentNS after the first kills.
func (r *reported) settled() bool { return r.changes == nil && !r.auditAwaited }

// due reports whether the changes of an incident are old enough, or nothing more is
// expected.
func (f *followUp) due(r *reported) bool {
	if f.now-r.changesNS >= updateNS {
		return true
	}
	audited := r.changes.Audit != nil || f.cfg.KernelKills == nil || r.outcome != events.OutcomeKilled

	return audited && f.complete(r)
}

func (f *followUp) age(r *reported) uint64 { return f.now - min(r.lastNS, f.now) }
