// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Passes that kill nobody come folded: a count for each limiter and outcome.
type foldKey struct {
	limiter    events.CgroupKey
	outcome    events.Outcome
	constraint kernel.Constraint
}

type fold struct {
	count  uint64
	lastNS uint64
	// incident is the one that these passes make by themselves, if any.
	incident *reported
	// after is the kill that they follow, followed how many of them did.
	after    *reported
	followed uint64
}

// folded takes in the new count of such passes. Those that follow a kill of
// the same limiter are its aftermath; others are an incident.
func (c *Correlator) folded(r kernel.OOMReturn) error {
	key := foldKey{r.Limiter, r.Outcome, r.Constraint}

	f := c.folds[key]
	if f == nil && !r.AllocKnown {
		return nil // only counted: its first record, which tells more, is on its way
	}

	if f == nil {
		if len(c.folds) >= maxRecent {
			clear(c.folds)
		}
		f = &fold{}
		c.folds[key] = f
	}

	grown := r.Count - f.count
	if r.Count < f.count {
		if r.LastNS <= f.lastNS {
			return nil // it was sent before the count was read that is known already
		}
		grown = r.Count // the kernel side forgot it meanwhile
	}

	if grown == 0 {
		return nil
	}

	f.count = r.Count
	if f.lastNS != 0 && r.FirstNS <= f.lastNS && r.LastNS-f.lastNS > followNS {
		r.FirstNS = r.LastNS // what was sent is of a run that is over
	}

	if f.incident != nil && r.LastNS-f.lastNS > followNS {
		f.incident = nil
	}

	f.lastNS = r.LastNS
	if f.incident == nil {
		if kill := c.followed(r); kill != nil {
			if f.after != kill {
				f.after, f.followed = kill, 0
			}

			f.followed += grown
			if r.Outcome != events.OutcomeNoKillable || f.followed <= followNoKillableCount {
				c.morePasses(kill, r.Outcome, grown)
				return nil
			}
		}

		return c.unkilled(f, r, grown)
	}

	c.morePasses(f.incident, r.Outcome, grown)

	return nil
}

// followed finds the kill that passes without one follow; one that waits may
// also follow a victim that was found exiting already.
func (c *Correlator) followed(r kernel.OOMReturn) *reported {
	window := uint64(followNS)
	if r.Outcome == events.OutcomeNoKillable {
		window = followNoKillableNS
	}

	for _, kill := range slices.Backward(c.reports.recent) {
		waits := kill.outcome == events.OutcomeAlreadyExiting && r.Outcome == events.OutcomeWaiting
		if kill.outcome != events.OutcomeKilled && !waits {
			continue
		}

		if r.LastNS > kill.timeNS && r.LastNS-kill.timeNS > window {
			return nil
		}

		switch {
		case kill.limiter == r.Limiter:
			return kill
		case r.Outcome == events.OutcomeNoKillable:
			// Somebody else's victim does not explain an empty cgroup.
		case r.Limiter.ID == 0, slices.Contains(kill.ladder, r.Limiter):
			return kill
		}
	}

	return nil
}

func count(p *events.Passes, outcome events.Outcome) *uint64 {
	switch outcome {
	case events.OutcomeNoKillable:
		return &p.NoKillable
	case events.OutcomeWaiting:
		return &p.Waiting
	case events.OutcomeAlreadyExiting:
		return &p.AlreadyExiting
	case events.OutcomeKilled:
		return &p.Killed
	}

	return &p.Skipped
}

func (c *Correlator) morePasses(r *reported, outcome events.Outcome, grown uint64) {
	r.lastNS = max(r.lastNS, c.now) // it goes on
	*count(&r.passes, outcome) += grown
	passes := r.passes
	c.newsOf(r).Passes = &passes
}

// unkilled makes an incident of passes that killed nobody.
func (c *Correlator) unkilled(f *fold, r kernel.OOMReturn, grown uint64) error {
	v := lostVerdict

	switch {
	case r.AllocKnown && r.Order == -1:
		v.scope = events.ScopeSysrq
	case r.Limiter.ID != 0:
		v.scope = events.ScopeMemcg
	default:
		v = c.judge(&kernel.VictimChosen{Constraint: r.Constraint, LimiterIndex: -1})
	}
	e := c.begin(r.Meta)
	e.verdict, e.end = v, &r
	// A verdict without a decision: what is read there is not there.
	e.decision = nil

	return c.reportUnkilled(f, e, r.Outcome, grown, r.FirstNS)
}

func (c *Correlator) reportUnkilled(f *fold, e *episode, outcome events.Outcome, grown, firstNS uint64) error {
	unknown := &unknowns{}
	inc := &events.Incident{
		Envelope: c.envelope(events.KindIncident, firstNS), ID: e.id, Scope: e.verdict.scope, Outcome: outcome,
		Tier: e.tier, Passes: &events.Passes{},
	}

	*count(inc.Passes, outcome) = grown
	if e.trigger.TID != 0 {
		inc.Trigger = pointer(c.process(e.trigger))
	} else {
		unknown.add("trigger")
	}

	if e.verdict.scope == events.ScopeCpuset || e.verdict.scope == events.ScopeMempolicy {
		e.decision = &kernel.VictimChosen{} // the nodes were not read
	}

	c.limiter(inc, e, unknown)
	e.decision = nil
	c.ladder(inc, e, unknown)
	inc.Allocation = c.allocation(e, unknown)
	unknown.add("memory")
	inc.Unknown = unknown.names

	r := &reported{
		id: e.id, outcome: outcome, timeNS: firstNS, lastNS: c.now, remarked: true, passes: *inc.Passes, unknown: inc.Unknown,
	}
	if e.end != nil {
		r.limiter = e.end.Limiter
	}

	c.incidents++
	c.reports.add(r)

	if f != nil {
		f.incident = r
	}

	return c.out.Incident(inc)
}

// markedOnly is a mark without a SIGKILL, where passes cannot be seen: its
// process was leaving by itself and only got access to the reserves.
func (c *Correlator) markedOnly(r kernel.Mark) error {
	for _, past := range slices.Backward(c.reports.recent) {
		if r.BootNS-past.timeNS > followNS {
			break
		}

		for _, v := range past.victims {
			if v.process.TID == int(r.PID) || v.process.PID == int(r.PID) || v.process.PID == int(r.Current.TGID) {
				c.morePasses(past, events.OutcomeAlreadyExiting, 1)
				return nil
			}
		}
	}

	if t := c.threads[r.Current.TID]; t != nil && t.open != nil {
		return nil // the aftermath of what is just being reported
	}

	e := c.begin(r.Meta)
	if err := c.reportUnkilled(nil, e, events.OutcomeAlreadyExiting, 1, r.BootNS); err != nil {
		return fmt.Errorf("reporting a victim that was already exiting: %w", err)
	}

	return nil
}
