// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// pendingOOM holds the records of an OOM invocation that has not been reported yet. The
// machines fill it in; facts turns it into the input of build.go.
type pendingOOM struct {
	id         string
	tier       events.Tier // may be less than Config.Tier, if records were missed
	invocation uint64      // its number, 0 if it was not seen
	trigger    kernel.Task
	firstNS    uint64
	lastNS     uint64
	quiet      quiet
	chosen     *kernel.VictimChosen // nil: lost, or not seen yet
	shortage   shortage             // read or concluded from chosen
	charge     *kernel.Charge
	end        *kernel.OOMReturn
	victims    []victim
	// alreadyExiting counts marks by threads of the victims, which fail to allocate while
	// they exit.
	alreadyExiting uint64
	tally
}

type victim struct {
	kill kernel.Kill
	role events.Role
}

// newPendingOOM starts with the header of the first record.
func newPendingOOM(cfg *Config, m kernel.Meta) *pendingOOM {
	return &pendingOOM{
		id: cfg.incidentID(m.BootNS), tier: cfg.Tier, firstNS: m.BootNS, lastNS: m.BootNS,
		invocation: m.Invocation, trigger: m.Current, shortage: unknownShortage,
	}
}

func (p *pendingOOM) has(tgid uint32) bool {
	return slices.ContainsFunc(p.victims, func(v victim) bool { return v.kill.Target.TGID == tgid })
}

// add adds a SIGKILL of the OOM killer. It reports whether its target is the first
// victim.
func (p *pendingOOM) add(k kernel.Kill) (first bool) {
	p.lastNS = max(p.lastNS, k.BootNS)
	p.quiet = 0

	if p.has(k.Target.TGID) {
		p.repeat(k)
		return false
	}

	role := p.role(k)
	if !k.SharesMM && role != events.RoleSharedMM {
		p.kernelKills++
	}
	p.victims = append(p.victims, victim{kill: k, role: role})

	return len(p.victims) == 1
}

// role returns why a process is killed. Processes that share the victim's memory are
// killed after it, without a mark of their own (mm/oom_kill.c: __oom_kill_process).
func (p *pendingOOM) role(k kernel.Kill) events.Role {
	switch {
	case k.SharesMM && p.isMember(k):
		return events.RoleGroup // its own SIGKILL follows
	case k.SharesMM:
		return events.RoleSharedMM
	case p.chosen == nil && len(p.victims) == 0:
		return events.RoleChosen
	case p.chosen == nil:
		return events.RoleUnknown
	case k.Target.TGID == p.chosen.Victim.TGID:
		return events.RoleChosen
	case p.shortage.group >= 0:
		return events.RoleGroup
	}
	// Neither a group nor the chosen process: it shares the memory. The kernel side does
	// not see that if the leader of the target has exited before its threads.
	return events.RoleSharedMM
}

// isMember reports whether a process is known to be one of the group that is killed: it is
// in the group's cgroup, or in one between that and the chosen process, and not exempt
// (mm/oom_kill.c: oom_kill_memcg_member).
func (p *pendingOOM) isMember(k kernel.Kill) bool {
	if p.shortage.group < 0 || k.OOMScoreAdj == oom.ScoreAdjMin {
		return false
	}

	return slices.ContainsFunc(p.chosen.Ancestry[:p.shortage.group+1], func(m kernel.Memcg) bool { return m.Key == k.Target.Cgroup })
}

// facts returns the input of builder.oomIncident. There must be a victim.
func (p *pendingOOM) facts() facts {
	f := facts{
		id: p.id, timeNS: p.victims[0].kill.BootNS, tier: p.tier,
		outcome: events.OutcomeKilled, passes: events.Passes{Killed: 1, AlreadyExiting: p.alreadyExiting},
		trigger: &p.trigger, shortage: p.shortage, victims: p.victims,
	}

	if p.end != nil {
		f.allocation.setReturn(p.end)
	}

	if p.chosen != nil {
		f.setChosen(p.chosen, p.shortage)
	}

	switch {
	case f.limiter != nil:
		// The charge is only comparable with the usage at the same time.
		if p.charge != nil {
			f.charge = p.charge.Memcgs
		}
	case p.shortage.ofNode():
	case p.end != nil && p.end.Limiter.ID != 0:
		// The choice was lost. The return names the limiter; whether a group was killed
		// stays unknown.
		f.limiter, f.scopeOfReturn = &p.end.LimiterMemcg, events.ScopeMemcg
	}

	return f
}

// quiet is since when no record has come in, by the clock of Idle: all that was made until
// then has been read. 0: one came in since the last Idle.
type quiet uint64

// forNS reports whether no record has come in for that long.
func (q *quiet) forNS(now, limit uint64) bool {
	if *q == 0 {
		*q = quiet(now)
	}

	return now-min(uint64(*q), now) >= limit
}
