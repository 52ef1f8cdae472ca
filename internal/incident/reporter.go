// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// Out takes what a Correlator finds. An incident belongs to Out once it was passed.
type Out interface {
	// Headline comes at the first victim, without waiting for anything. The incident has
	// an id, a time, a scope, the outcome "killed" and that victim.
	Headline(*events.Incident) error
	// Incident comes once for each id.
	Incident(*events.Incident) error
	// Update has the id, and the keys that are new or changed. Its envelope is empty: the
	// receiver sets it as it reports the update.
	Update(*events.Incident) error
	// Finding is a result of the audit that belongs to no incident.
	Finding(at time.Time, text string) error
}

// reporter is what the state machines share. It builds, emits and counts incidents, and
// hands them to the follow-up and the audit.
type reporter struct {
	out                Out
	build              *builder
	followUp           *followUp
	audit              *audit
	incidents, victims uint64 // emitted so far
}

// emit emits an incident with that many victims, which may be more than it lists.
func (rp *reporter) emit(inc *events.Incident, victims int) error {
	rp.incidents++
	rp.victims += uint64(victims)

	return rp.out.Incident(inc)
}

// killed adds a SIGKILL to a pending OOM, and emits the headline at the first.
func (rp *reporter) killed(p *pendingOOM, k kernel.Kill) error {
	if !p.add(k) {
		return nil
	}

	return rp.out.Headline(rp.build.headline(p))
}

// incident builds and emits the incident of a pending OOM.
func (rp *reporter) incident(p *pendingOOM) (*reported, error) {
	f := p.facts()
	inc := rp.build.oomIncident(&f)
	r := rp.followUp.killed(p, inc)
	rp.audit.count(r)

	return r, rp.emit(inc, len(p.victims))
}

// unmarked builds and emits the incident of a SIGKILL whose stack shows that the OOM killer
// sent it, if the other records of its invocation were lost.
func (rp *reporter) unmarked(k kernel.Kill) error {
	k.Sender = nil
	p := newPendingOOM(rp.build.cfg, k.Meta)
	p.tier = events.TierTracepoint

	if err := rp.killed(p, k); err != nil {
		return err
	}

	_, err := rp.incident(p)

	return err
}

// noVictim builds and emits the incident of invocations that killed nobody. limiter is
// zero for the node.
func (rp *reporter) noVictim(f *facts, limiter events.CgroupKey) (*reported, error) {
	inc := rp.build.oomIncident(f)
	r := rp.followUp.noVictim(f, inc, limiter)

	return r, rp.emit(inc, 0)
}

// late adds a SIGKILL to an incident that was emitted already.
func (rp *reporter) late(r *reported, k kernel.Kill) {
	r.lastNS = max(r.lastNS, k.BootNS)

	if r.victim(k.Target.TGID) != nil {
		var more tally

		more.repeat(k)
		r.tally.add(more)
		rp.audit.countLate(r, more)

		return
	}

	v := victim{kill: k, role: events.RoleUnknown}
	switch {
	case k.SharesMM:
		v.role = events.RoleSharedMM
	case r.group:
		v.role = events.RoleGroup
	}

	if v.role != events.RoleSharedMM {
		one := tally{kernelKills: 1}
		r.tally.add(one)
		rp.audit.countLate(r, one)
	}

	unknown := &oom.Unknowns{Names: slices.Clip(r.unknown)}
	shown := rp.build.victim(v, unknown)
	change := rp.followUp.change(r)
	change.Victims = append(change.Victims, shown)

	if len(unknown.Names) > len(r.unknown) {
		r.unknown, change.Unknown = unknown.Names, unknown.Names
	}

	rp.victims++
	rp.followUp.await(r, v, shown.Process)
}
