// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"fmt"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// reported is an incident that was given out, and what is still awaited of it.
type reported struct {
	id      string
	outcome events.Outcome
	limiter events.CgroupKey // zero for the node
	ladder  []events.CgroupKey
	timeNS  uint64
	lastNS  uint64 // of its last kill
	pass    uint64
	group   bool // it is a group kill
	passes  events.Passes
	unknown []string
	notes   []string
	victims []*deceased
	// previous was killed for the same limiter shortly before, and was not seen
	// to be gone.
	previous *deceased

	kernelKills, repeated uint64
	memcgDelta            *uint64

	news     *events.Incident // not yet given out
	newsNS   uint64           // since when
	remarked bool             // that its victims are not gone
}

func (r *reported) victim(tgid uint32) *deceased {
	for _, v := range r.victims {
		if v.process.PID == int(tgid) {
			return v
		}
	}

	return nil
}

// deceased is a victim of a reported incident.
type deceased struct {
	process events.Process
	killNS  uint64
	role    events.Role
	init    bool // of its pid namespace
	ends    ends
	// memoryOf is the victim whose memory this one shares.
	memoryOf *deceased
}

// ends are the times of a process's end; 0: not seen.
type ends struct{ exitNS, releasedNS uint64 }

// reports remembers incidents for as long as something may come to be known.
type reports struct {
	recent []*reported
	dying  map[uint32]dying
	// early holds ends that were read before the kill they belong to: they come
	// through another ring.
	early map[uint32]ends
}

type dying struct {
	of     *reported
	victim *deceased
}

// maxRecent bounds what is remembered in a storm.
const maxRecent = 1024

func (c *Correlator) remember(e *episode, inc *events.Incident) *reported {
	r := &reported{
		id: e.id, outcome: inc.Outcome, timeNS: e.victims[0].kill.BootNS, passes: *inc.Passes,
		unknown: inc.Unknown, notes: inc.Notes, kernelKills: e.kernelKills, repeated: e.repeated,
		lastNS: e.lastNS, pass: e.pass, group: e.verdict.group >= 0,
	}
	if e.verdict.limiter >= 0 && e.decision != nil {
		level := e.decision.Ancestry[e.verdict.limiter]
		r.limiter = level.Key
		// cgroup v1 counts a kill at the victim's memcg only (memcg_memory_event).
		counted := !c.cfg.CgroupV1 || e.verdict.limiter == 0
		if e.end != nil && e.end.Limiter == level.Key && level.EventsKnown && e.end.LimiterLevel.EventsKnown && counted {
			r.memcgDelta = pointer(e.end.LimiterLevel.OOMKill - level.OOMKill)
		}
	}

	for _, rung := range inc.Ladder {
		r.ladder = append(r.ladder, rung.Cgroup.CgroupKey)
	}

	r.previous = c.reports.stillDying(r.limiter, e.firstNS)
	for i, v := range e.victims {
		c.await(r, v, inc.Victims[i].Process)
	}

	c.reports.add(r)

	return r
}

// await puts a victim among those whose end is awaited.
func (c *Correlator) await(r *reported, v victim, p events.Process) {
	d := &deceased{process: p, killNS: v.kill.BootNS, role: v.role, init: v.kill.ContainerInit}
	if v.role == events.RoleSharedMM {
		for _, before := range r.victims {
			if before.role != events.RoleSharedMM {
				d.memoryOf = before // it is killed right after the one it shares with
			}
		}
	}

	r.victims = append(r.victims, d)
	tgid := v.kill.Target.TGID

	c.reports.dying[tgid] = dying{r, d}
	if early, ok := c.reports.early[tgid]; ok {
		delete(c.reports.early, tgid)

		early = early.since(d.killNS)
		if early != (ends{}) {
			c.end(r, d, early)
		}
	}
}

// since leaves out what was before a kill: it is of an earlier process with the same id.
func (e ends) since(killNS uint64) (own ends) {
	if e.exitNS >= killNS {
		own.exitNS = e.exitNS
	}

	if e.releasedNS >= killNS {
		own.releasedNS = e.releasedNS
	}

	return own
}

// ofPass finds the incident of a pass that was reported before its end.
func (rs *reports) ofPass(pass uint64) *reported {
	for _, r := range slices.Backward(rs.recent) {
		if r.pass == pass {
			return r
		}
	}

	return nil
}

func (rs *reports) add(r *reported) {
	rs.recent = append(rs.recent, r)
	if len(rs.recent) > maxRecent {
		rs.forget(rs.recent[0])
		rs.recent = slices.Delete(rs.recent, 0, 1)
	}
}

func (rs *reports) forget(r *reported) {
	for _, v := range r.victims {
		if d, ok := rs.dying[uint32(v.process.PID)]; ok && d.of == r {
			delete(rs.dying, uint32(v.process.PID))
		}
	}
}

// stillDying finds a victim of the same limiter, killed in the last two
// seconds, that is not known to be gone.
func (rs *reports) stillDying(limiter events.CgroupKey, now uint64) *deceased {
	for _, r := range slices.Backward(rs.recent) {
		if now-r.timeNS > 2e9 {
			return nil
		}

		if r.limiter != limiter || r.outcome != events.OutcomeKilled {
			continue
		}

		for _, v := range r.victims {
			if v.ends.releasedNS == 0 {
				return v
			}
		}
	}

	return nil
}

// ended takes in a victim's exit, or the return of its memory.
func (c *Correlator) ended(tgid uint32, bootNS uint64, which func(*ends) *uint64) error {
	d, ok := c.reports.dying[tgid]
	if !ok {
		if len(c.reports.early) >= maxRecent {
			clear(c.reports.early)
		}
		e := c.reports.early[tgid]
		*which(&e) = bootNS
		c.reports.early[tgid] = e

		return nil
	}
	e := d.victim.ends
	*which(&e) = bootNS
	c.end(d.of, d.victim, e)

	for _, other := range d.of.victims {
		// One memory, one return of it.
		if e.releasedNS != 0 && other.memoryOf == d.victim && other.ends.releasedNS == 0 {
			shared := other.ends
			shared.releasedNS = e.releasedNS
			c.end(d.of, other, shared)
		}
	}

	return nil
}

func (c *Correlator) end(r *reported, d *deceased, e ends) {
	after := func(ns uint64) *uint64 {
		if ns == 0 {
			return nil
		}

		return pointer(ns - min(d.killNS, ns))
	}
	d.ends = e
	// Updates are matched by pid, and repeat who it is.
	u := events.Victim{Process: events.Process{PID: d.process.PID, TID: d.process.TID, Comm: d.process.Comm}}
	u.ExitAfterNS, u.ReleasedAfterNS = after(e.exitNS), after(e.releasedNS)

	n := c.newsOf(r)
	if i := slices.IndexFunc(n.Victims, func(v events.Victim) bool { return v.PID == u.PID }); i >= 0 {
		n.Victims[i].ExitAfterNS, n.Victims[i].ReleasedAfterNS = u.ExitAfterNS, u.ReleasedAfterNS
	} else {
		n.Victims = append(n.Victims, u)
	}

	c.overlaps(d)
}

// overlaps tells of kills that happened while an earlier victim still had its
// memory: the kernel does not wait for it in every case (seen on 6.18 and 7.3).
func (c *Correlator) overlaps(d *deceased) {
	gone := max(d.ends.exitNS, d.ends.releasedNS)
	for _, r := range c.reports.recent {
		if r.previous == d && gone > r.timeNS {
			r.previous = nil
			r.notes = append(slices.Clone(r.notes), fmt.Sprintf(
				"%s[%d], killed %s before for the same limit, was still dying: it was gone %s later",
				d.process.Comm, d.process.PID, milliseconds(r.timeNS-d.killNS), milliseconds(gone-r.timeNS)))
			c.newsOf(r).Notes = r.notes
		}
	}
}

func milliseconds(ns uint64) string {
	return time.Duration(ns).Round(100 * time.Microsecond).String()
}

func (c *Correlator) newsOf(r *reported) *events.Incident {
	if r.news == nil {
		r.news, r.newsNS = &events.Incident{ID: r.id}, c.now
	}

	return r.news
}

// complete tells that nothing more is awaited of an incident.
func (c *Correlator) complete(r *reported) bool {
	for _, v := range r.victims {
		if v.ends.exitNS == 0 || v.ends.releasedNS == 0 && c.cfg.Tier != events.TierTracepoint {
			return false
		}
	}

	return true
}

// remark tells of victims that are not gone, or whose memory was not seen to come
// back, after a time in which they should be.
func (c *Correlator) remark(r *reported) {
	r.remarked = true
	unended, unreleased := false, false
	var notes []string

	for _, v := range r.victims {
		unended = unended || v.ends.exitNS == 0
		unreleased = unreleased || v.ends.releasedNS == 0 && c.cfg.Tier != events.TierTracepoint
		// The kernel may have skipped the program that tells of its end.
		dead := v.ends.exitNS != 0 || v.ends.releasedNS != 0 || c.cfg.Gone != nil && c.cfg.Gone(v.process.PID)
		if !dead {
			notes = append(notes, fmt.Sprintf("%s[%d] was not dead %s after its SIGKILL", v.process.Comm, v.process.PID, milliseconds(awaitNS)))
		}
	}

	if !unended && !unreleased {
		return
	}

	unknown := &unknowns{names: slices.Clone(r.unknown)}
	if len(notes) > 0 {
		c.newsOf(r).Notes = append(slices.Clone(r.notes), notes...)
	}

	if unended {
		unknown.add("victims.exit_after_ns")
	}

	if unreleased {
		unknown.add("victims.released_after_ns")
	}
	r.unknown = unknown.names
	c.newsOf(r).Unknown = unknown.names
}

// flush gives out news that are complete or old enough, and forgets incidents of
// which no more is to be expected.
func (c *Correlator) flush(all bool) error {
	for _, r := range c.reports.recent {
		if !r.remarked && c.now-min(r.lastNS, c.now) >= awaitNS {
			c.remark(r)
		}

		if r.news == nil {
			continue
		}

		audited := r.news.Audit != nil || c.cfg.KernelKills == nil || r.outcome != events.OutcomeKilled
		if all || c.now-r.newsNS >= updateNS || audited && c.complete(r) {
			r.news.Envelope = c.envelope(events.KindIncidentUpdate, c.now)
			news := r.news

			r.news = nil
			if err := c.out.Update(news); err != nil {
				return err
			}
		}
	}

	old := 0
	for old < len(c.reports.recent) && c.now-min(c.reports.recent[old].lastNS, c.now) > recentNS && c.reports.recent[old].news == nil {
		c.reports.forget(c.reports.recent[old])
		old++
	}
	c.reports.recent = slices.Delete(c.reports.recent, 0, old)

	return nil
}
