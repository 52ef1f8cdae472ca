// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// reporter is what the state machines share. It builds and emits incidents, and hands
// them to the follow-up and the audit.
type reporter struct {
	build    *builder
	emit     *emitter
	followUp *followUp
	audit    *audit
}

// killed adds a SIGKILL to a pending OOM, and emits the headline at the first.
func (rp *reporter) killed(p *pendingOOM, k kernel.Kill) error {
	if !p.add(k) {
		return nil
	}

	return rp.emit.headline(rp.build.headline(p))
}

// incident builds and emits the incident of a pending OOM.
func (rp *reporter) incident(p *pendingOOM) (*reported, error) {
	f := p.facts()
	inc := rp.build.oomIncident(&f)
	r := rp.followUp.killed(p, inc)
	rp.audit.count(r)

	return r, rp.emit.incident(inc, len(p.victims))
}

// noVictim builds and emits the incident of invocations that killed nobody. limiter is
// zero for the node.
func (rp *reporter) noVictim(f *facts, limiter events.CgroupKey) (*reported, error) {
	inc := rp.build.oomIncident(f)
	r := rp.followUp.noVictim(f, inc, limiter)

	return r, rp.emit.incident(inc, 0)
}

// late adds a SIGKILL to an incident that was emitted already.
func (rp *reporter) late(r *reported, k kernel.Kill) {
	r.lastNS = max(r.lastNS, k.BootNS)

	if r.victim(k.Target.TGID) != nil {
		r.kernelKills++
		r.repeated++
		rp.audit.countLate(r)

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
		r.kernelKills++
		rp.audit.countLate(r)
	}

	unknown := &oom.Unknowns{Names: slices.Clip(r.unknown)}
	shown := rp.build.victim(v, unknown)
	change := rp.followUp.change(r)
	change.Victims = append(change.Victims, shown)

	if len(unknown.Names) > len(r.unknown) {
		r.unknown, change.Unknown = unknown.Names, unknown.Names
	}

	rp.emit.victims++
	rp.followUp.await(r, v, shown.Process)
}
