// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// followNS is how long invocations without a kill belong to the kill before them: its
	// victim is still releasing memory.
	followNS = 10e9
	// After a kill, a limiter may have no killable task for a moment. Beyond these bounds
	// it is an incident of its own.
	followNoKillableNS    = 2e9
	followNoKillableCount = 100
)

// noVictims follows OOM invocations that killed nobody. The kernel side does not send
// each but counts them by limiter and outcome: a record is a repeat count.
type noVictims struct {
	cfg     *Config
	report  *reporter
	repeats map[kernel.RepeatKey]*repeat
	// lastMark is the last mark inside of an invocation.
	lastMark kernel.Mark
}

type repeat struct {
	outcome events.Outcome
	count   uint64
	lastNS  uint64
	// incident is the one that these invocations are by themselves, nil if they are none.
	incident *reported
	// after is the kill that they follow, followed how many of them did.
	after    *reported
	followed uint64
}

func newNoVictims(cfg *Config, report *reporter) noVictims {
	return noVictims{cfg: cfg, report: report, repeats: make(map[kernel.RepeatKey]*repeat)}
}

// returned takes in the new count of such invocations. Those that follow a kill of the
// same limiter are counted with it, others are an incident.
func (n *noVictims) returned(r kernel.OOMReturn) error {
	rep := n.repeat(&r)
	if rep == nil {
		return nil
	}

	more := rep.grow(&r)
	if more == 0 {
		return nil
	}
	r.Outcome = rep.outcome

	if rep.incident != nil {
		n.report.followUp.countReturns(rep.incident, r.Outcome, more)
		return nil
	}

	if kill := n.killBefore(&r); kill != nil {
		if rep.after != kill {
			rep.after, rep.followed = kill, 0
		}

		rep.followed += more
		if r.Outcome != events.OutcomeNoKillable || rep.followed <= followNoKillableCount {
			n.report.followUp.countReturns(kill, r.Outcome, more)
			return nil
		}
	}

	var err error
	rep.incident, err = n.report.noVictim(n.facts(&r, more), r.Limiter)

	return err
}

// repeat returns the repeat count that a record belongs to. It is nil if the record only
// has the count: the first one, which has the details, is still on its way.
func (n *noVictims) repeat(r *kernel.OOMReturn) *repeat {
	rep := n.repeats[r.Key()]
	if rep == nil && r.AllocKnown {
		if len(n.repeats) >= maxRecent {
			clear(n.repeats)
		}
		rep = &repeat{outcome: outcomeOf(r)}
		n.repeats[r.Key()] = rep
	}

	return rep
}

// outcomeOf returns the outcome of an invocation that killed nobody. One that looks for a
// victim determines the constraint first, which is that of a memcg where one is the
// limiter; and a node on which nothing is killable panics, unless sysrq-f asked for the
// kill (mm/oom_kill.c: out_of_memory, 5.10 to 7.3). So one that returned without either
// found the OOM killer turned off: suspend and hibernation do that while they freeze tasks
// (oom_killer_disable).
func outcomeOf(r *kernel.OOMReturn) events.Outcome {
	if r.Outcome == events.OutcomeNoKillable && r.Constraint == kernel.ConstraintNone && r.Order != -1 {
		return events.OutcomeSuspending
	}

	return r.Outcome
}

// grow takes in a new count and returns how many invocations it adds. It moves r.FirstNS
// to the first of the current run.
func (rep *repeat) grow(r *kernel.OOMReturn) (more uint64) {
	more = r.Count - rep.count
	if r.Count < rep.count {
		if r.LastNS <= rep.lastNS {
			return 0 // sent before the count that is known already was read
		}
		more = r.Count // the kernel side has forgotten it meanwhile
	}

	if more == 0 {
		return 0
	}

	rep.count = r.Count
	newRun := r.LastNS-rep.lastNS > followNS

	if rep.lastNS != 0 && r.FirstNS <= rep.lastNS && newRun {
		r.FirstNS = r.LastNS // FirstNS is of an earlier run
	}

	if newRun {
		rep.incident = nil
	}
	rep.lastNS = r.LastNS

	return more
}

// killBefore returns the kill that invocations without one follow, nil if there is none.
// Those that wait for a victim may also follow one that was found exiting already.
func (n *noVictims) killBefore(r *kernel.OOMReturn) *reported {
	if r.Outcome == events.OutcomeSuspending {
		return nil // no kill explains it
	}

	window := uint64(followNS)
	if r.Outcome == events.OutcomeNoKillable {
		window = followNoKillableNS
	}

	return n.report.followUp.last(func(kill *reported) bool {
		waits := kill.outcome == events.OutcomeAlreadyExiting && r.Outcome == events.OutcomeWaiting
		if kill.outcome != events.OutcomeKilled && !waits || r.LastNS > kill.timeNS && r.LastNS-kill.timeNS > window {
			return false
		}

		if r.Outcome == events.OutcomeNoKillable || kill.limiter == r.Limiter {
			// A victim of another limiter does not explain an empty cgroup.
			return kill.limiter == r.Limiter
		}

		return r.Limiter.ID == 0 || slices.Contains(kill.ancestry, r.Limiter)
	})
}

func (n *noVictims) facts(r *kernel.OOMReturn, count uint64) *facts {
	f := newNoVictimFacts(n.cfg, r.Meta, r.Outcome, r.FirstNS)
	*returnCount(&f.passes, r.Outcome) = count
	f.allocation.setReturn(r)

	if r.Outcome == events.OutcomeAlreadyExiting && r.AllocKnown && n.lastMark.Invocation == r.Invocation {
		f.setExiting(n.lastMark)
	}

	switch {
	case r.AllocKnown && r.Order == -1:
		f.shortage.scope = events.ScopeSysrq
	case r.Limiter.ID != 0:
		limiter := r.LimiterMemcg // a copy: r must not move to the heap
		limiter.Key = r.Limiter   // a count that was read afterwards has no more of it
		f.shortage.scope, f.limiter = events.ScopeMemcg, &limiter
	default:
		f.shortage.scope = scopeOf(r.Constraint)
	}

	return f
}

// markedIn keeps a mark inside of an invocation: if that returns without a kill, the marked
// task is the one that was exiting already. Invocations do not overlap.
func (n *noVictims) markedIn(r kernel.Mark) { n.lastMark = r }

// marked takes in a mark without a SIGKILL, if invocations are not seen: its process was
// already exiting, and only got access to the memory reserves. Each thread that fails to
// allocate while it exits marks itself (mm/oom_kill.c: out_of_memory, task_will_free_mem).
// chosen may be nil.
func (n *noVictims) marked(r kernel.Mark, chosen *kernel.VictimChosen, s shortage) error {
	if before := n.exitingIn(r); before != nil {
		n.report.followUp.countReturns(before, events.OutcomeAlreadyExiting, 1)
		return nil
	}

	f := newNoVictimFacts(n.cfg, r.Meta, events.OutcomeAlreadyExiting, r.BootNS)
	f.passes.AlreadyExiting = 1
	f.setExiting(r)

	var limiter events.CgroupKey

	if chosen != nil {
		f.setChosen(chosen, s)

		if f.limiter != nil {
			limiter = f.limiter.Key
		}
	}

	_, err := n.report.noVictim(f, limiter)

	return err
}

// exitingIn returns the recent incident of which the marked process is a victim, or the one
// that was exiting already; nil if there is none. The process is the one that marks if it
// is not known.
func (n *noVictims) exitingIn(r kernel.Mark) *reported {
	tgid := cmp.Or(r.Task.TGID, r.Current.TGID)

	return n.report.followUp.last(func(before *reported) bool {
		if r.BootNS-min(before.timeNS, r.BootNS) > recentNS {
			return false
		}

		return before.exiting == tgid || slices.ContainsFunc(before.victims, func(v *victimState) bool {
			same := v.process.PID == int(tgid) || v.process.TID == int(r.PID)
			return same && (v.ends.exitNS == 0 || v.ends.exitNS >= r.BootNS) // else a later process with its pid
		})
	})
}

// newNoVictimFacts returns facts whose shortage is not known yet.
func newNoVictimFacts(cfg *Config, m kernel.Meta, outcome events.Outcome, timeNS uint64) *facts {
	f := &facts{id: cfg.incidentID(m.BootNS), timeNS: timeNS, tier: cfg.Tier, outcome: outcome, shortage: unknownShortage}
	if m.Current.TID != 0 {
		f.trigger = &m.Current
	}

	return f
}

// returnCount returns the counter of an outcome.
func returnCount(p *events.Passes, outcome events.Outcome) *uint64 {
	switch outcome {
	case events.OutcomeNoKillable:
		return &p.NoKillable
	case events.OutcomeWaiting:
		return &p.Waiting
	case events.OutcomeAlreadyExiting:
		return &p.AlreadyExiting
	case events.OutcomeKilled:
		return &p.Killed
	case events.OutcomeSuspending:
		return &p.Suspending
	}

	return &p.Skipped
}
