// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Correlator is the state machine. Record and Idle return the errors of Out.
type Correlator struct {
	cfg Config
	out Out

	// passes are the decisions that are being made, by pass number. With
	// tracepoints only there are none, and threads hold what each trigger did.
	passes  map[uint64]*episode
	threads map[uint32]*thread

	local   localEvents
	folds   map[foldKey]*fold
	reports reports
	users   users
	audit   audit
	now     uint64 // of the newest record or Idle

	incidents, victims uint64
}

// New returns a correlator without a past.
func New(cfg Config, out Out) *Correlator {
	c := &Correlator{
		cfg: cfg, out: out,
		passes:  make(map[uint64]*episode),
		threads: make(map[uint32]*thread),
		folds:   make(map[foldKey]*fold),
		users:   newUsers(),
		local:   localEvents{last: maps.Clone(cfg.OOMLocal)},
	}
	if c.local.last == nil {
		c.local.last = make(map[events.CgroupKey]uint64)
	}
	c.reports.early, c.reports.dying = make(map[uint32]ends), make(map[uint32]dying)

	return c
}

// Totals tells how many incidents and victims there were so far.
func (c *Correlator) Totals() (incidents, victims uint64) { return c.incidents, c.victims }

// episode is a decision in the making: what will be an incident with victims.
type episode struct {
	id       string
	tier     events.Tier
	firstNS  uint64
	lastNS   uint64
	quiet    quiet
	pass     uint64
	trigger  kernel.Task
	decision *kernel.VictimChosen
	verdict  verdict
	charge   *kernel.Charge
	end      *kernel.OOMReturn
	victims  []victim
	// kernelKills counts SIGKILLs of __oom_kill_process; repeated are those to a
	// process that had one already.
	kernelKills, repeated uint64
	headlined             bool
}

type victim struct {
	kill kernel.Kill
	role events.Role
}

func (e *episode) victim(tgid uint32) bool {
	return slices.ContainsFunc(e.victims, func(v victim) bool { return v.kill.Target.TGID == tgid })
}

// thread is what a trigger did lately, where passes cannot be seen.
type thread struct {
	quiet    quiet
	charge   *kernel.Charge
	decision *kernel.VictimChosen
	kills    []kernel.Kill // kernel SIGKILLs that have no mark yet
	open     *episode
	// done is what open was, until its group can have no more members.
	done *reported
}

// Record takes in one record.
func (c *Correlator) Record(r kernel.Record) error {
	c.now = max(c.now, r.Header().BootNS)
	bracketed := c.cfg.Tier != events.TierTracepoint

	switch r := r.(type) {
	case kernel.VictimChosen:
		c.cfg.Cgroups.LearnChain(r.Ancestry, r.AncestryCut)

		if bracketed && r.Pass != 0 {
			e := c.pass(r.Meta)
			e.decision = &r
			e.verdict = c.judge(&r)
			c.local.learn(r.Ancestry...)

			return nil
		}

		if t := c.thread(r.Meta); t.decision == nil || !t.decision.AllocKnown || t.decision.Victim.TID != r.Victim.TID {
			t.decision = &r
		}
	case kernel.Charge:
		if bracketed {
			c.pass(r.Meta).charge = &r
			return nil
		}
		c.thread(r.Meta).charge = &r
	case kernel.TargetAncestry:
		c.cfg.Cgroups.LearnChain(r.Ancestry, r.AncestryCut)
		c.users.ladder(r)
	case kernel.Kill:
		if r.Sender != nil {
			if bracketed && r.FromKernel {
				c.maybeMissed(r)
			}

			return c.userKill(r)
		}

		switch {
		case !r.FromKernel, bracketed && r.Pass == 0 && !r.SharesMM:
			return nil // not the OOM killer's
		case r.Pass == 0: // there are no passes, or this one was missed
			return c.looseKill(r)
		}

		if done := c.reports.ofPass(r.Pass); done != nil {
			c.late(done, r)
			return nil
		}

		return c.killed(c.pass(r.Meta), r)
	case kernel.Mark:
		if bracketed && r.Pass != 0 {
			return nil // the pass tells more
		}

		c.markedUser(r)

		return c.mark(r)
	case kernel.OOMReturn:
		return c.passEnd(r)
	case kernel.Exit:
		return c.ended(r.TGID, r.BootNS, func(e *ends) *uint64 { return &e.exitNS })
	case kernel.Released:
		return c.ended(r.TGID, r.BootNS, func(e *ends) *uint64 { return &e.releasedNS })
	case kernel.CgroupChange:
		c.local.observe(r)
	case kernel.RecordsLost:
		c.audit.lost += r.Count
	}

	return nil
}

// pass is the episode of a pass number; a record without one cannot be of the
// OOM path there.
func (c *Correlator) pass(m kernel.Meta) *episode {
	e := c.passes[m.Pass]
	if e == nil {
		e = c.begin(m)
		c.passes[m.Pass] = e
	}
	e.lastNS = max(e.lastNS, m.BootNS)
	e.quiet = 0

	return e
}

func (c *Correlator) begin(m kernel.Meta) *episode {
	return &episode{
		id:   fmt.Sprintf("%.8s-%d", c.cfg.BootID, m.BootNS),
		tier: c.cfg.Tier, firstNS: m.BootNS, lastNS: m.BootNS, pass: m.Pass, trigger: m.Current,
		verdict: lostVerdict,
	}
}

// quiet is since when nothing has come in, by the clock of Idle: records may be read
// long after they were made. 0: something came in since the last Idle.
type quiet uint64

// forNS tells whether it has been quiet for so long.
func (q *quiet) forNS(now, limit uint64) bool {
	if *q == 0 {
		*q = quiet(now)
	}

	return now-min(uint64(*q), now) >= limit
}

// killed adds a SIGKILL of the OOM path to its episode.
func (c *Correlator) killed(e *episode, r kernel.Kill) error {
	e.lastNS = max(e.lastNS, r.BootNS)

	e.quiet = 0
	if e.victim(r.Target.TGID) {
		// The chosen one of a group is met again among the members.
		e.kernelKills++
		e.repeated++

		return nil
	}

	v := victim{kill: r, role: e.role(r)}
	if v.role != events.RoleSharedMM {
		e.kernelKills++
	}

	e.victims = append(e.victims, v)
	if e.headlined {
		return nil
	}
	e.headlined = true
	inc := &events.Incident{Envelope: c.envelope(events.KindIncident, r.BootNS), ID: e.id, Scope: e.verdict.scope, Tier: e.tier}
	inc.Victims = []events.Victim{{Process: c.process(r.Target), Role: v.role}}

	return c.out.Headline(inc)
}

// role tells why a process died. Processes that share the victim's memory are
// killed after it, without a mark of their own (mm/oom_kill.c: __oom_kill_process).
func (e *episode) role(r kernel.Kill) events.Role {
	switch {
	case r.SharesMM:
		return events.RoleSharedMM
	case e.decision == nil:
		if len(e.victims) == 0 {
			return events.RoleChosen
		}

		return events.RoleUnknown
	case r.Target.TGID == e.decision.Victim.TGID:
		return events.RoleChosen
	case e.verdict.group >= 0:
		return events.RoleGroup
	}
	// No group and not the chosen one: only sharing its memory is left. The
	// kernel side sees no memory at a leader that has exited before its threads.
	return events.RoleSharedMM
}

func (c *Correlator) thread(m kernel.Meta) *thread {
	t := c.threads[m.Current.TID]
	if t == nil {
		t = &thread{}
		c.threads[m.Current.TID] = t
	}
	t.quiet = 0

	return t
}

// looseKill is a kernel SIGKILL where passes cannot be seen: a mark must tell
// that it is the OOM killer's. A dying pid namespace's init sends the same.
func (c *Correlator) looseKill(r kernel.Kill) error {
	t := c.thread(r.Meta)
	if t.open != nil && r.BootNS-t.open.lastNS > quietNS {
		if err := c.close(t); err != nil {
			return err
		}
	}

	if t.done != nil && t.done.victim(r.Target.TGID) != nil {
		c.late(t.done, r) // the chosen one of a group again: it gets no second mark
		return nil
	}

	if t.open != nil && (r.SharesMM || t.open.victim(r.Target.TGID)) {
		return c.killed(t.open, r)
	}

	t.keep(r)

	return nil
}

// keep keeps a kernel SIGKILL until a mark tells whose it was.
func (t *thread) keep(k kernel.Kill) {
	if len(t.kills) == 64 {
		t.kills = slices.Delete(t.kills, 0, 1)
	}
	t.kills = append(t.kills, k)
}

// maybeMissed is a kernel SIGKILL outside of any pass. If a mark by the same thread
// follows, it was the OOM killer's, and the kernel skipped the kprobe at the
// beginning of its pass: it is told as where passes cannot be seen. It skips one while
// a task inside of bpf() is preempted on that CPU (kernel/trace/bpf_trace.c:
// trace_call_bpf).
func (c *Correlator) maybeMissed(k kernel.Kill) {
	k.Sender = nil
	c.thread(k.Meta).keep(k)
}

// mark joins oom:mark_victim with the SIGKILL just before it by the same thread.
func (c *Correlator) mark(r kernel.Mark) error {
	t := c.thread(r.Meta)

	i := slices.IndexFunc(t.kills, func(k kernel.Kill) bool { return k.Target.TID == r.PID })
	if i < 0 && c.cfg.Tier != events.TierTracepoint {
		return nil // the end of its pass tells that nobody was killed
	}

	if i < 0 {
		return c.markedOnly(r)
	}
	kill, decision := t.kills[i], t.decision
	t.kills = slices.Delete(t.kills, i, i+1)

	if decision != nil && decision.Victim.TID != r.PID {
		decision = nil // it was lost: this one is of another victim
	}
	v := lostVerdict
	grown := false

	switch {
	case decision == nil:
	case decision.AllocKnown:
		v = c.judge(decision) // of a pass of which only the beginning was missed
		c.local.learn(decision.Ancestry...)
	default:
		v, grown = c.local.judge(c, decision)
	}

	if t.open != nil {
		if !grown && t.open.verdict.group >= 0 && v.group >= 0 {
			return c.killed(t.open, kill)
		}

		if err := c.close(t); err != nil {
			return err
		}
	}

	if d := t.done; d != nil && !grown && v.group >= 0 && kill.BootNS-d.lastNS <= groupNS {
		c.late(d, kill)
		return nil
	}
	t.done = nil
	t.open = c.begin(kill.Meta)

	t.open.decision, t.open.verdict, t.open.charge = decision, v, t.charge
	if decision == nil || !decision.AllocKnown {
		t.open.tier = events.TierTracepoint // no more is known of it
	}
	t.decision, t.charge = nil, nil

	return c.killed(t.open, kill)
}

// close reports what a thread is doing. If it is a group's end, more of it may
// follow.
func (c *Correlator) close(t *thread) error {
	r, err := c.report(t.open)

	t.open, t.done = nil, nil
	if r.group {
		t.done = r
	}

	return err
}

// passEnd closes the episode of a pass that killed; the others are folded.
func (c *Correlator) passEnd(r kernel.OOMReturn) error {
	c.local.learn(r.LimiterLevel)

	if r.Outcome != events.OutcomeKilled {
		delete(c.passes, r.Pass) // of a victim that was already exiting
		return c.folded(r)
	}
	e := c.pass(r.Meta)
	e.end = &r
	delete(c.passes, r.Pass)

	if len(e.victims) == 0 {
		return nil // it was reported, or its kill was lost: the audit will say so
	}
	_, err := c.report(e)

	return err
}

// Idle does what is due by time. caughtUp says that there are no records which
// were not given to Record yet. It returns how long it can wait for the next call
// if none comes.
func (c *Correlator) Idle(bootNS uint64, caughtUp bool) (time.Duration, error) {
	c.now = max(c.now, bootNS)

	if !caughtUp {
		return quietNS * time.Nanosecond / 2, nil // what seems overdue may be among them
	}

	open, err := c.overdue(bootNS)
	if err != nil {
		return 0, err
	}

	if !open {
		if err := c.runAudit(); err != nil {
			return 0, err
		}
	}

	if err := c.overdueUsers(bootNS, false); err != nil {
		return 0, err
	}

	if err := c.flush(false); err != nil {
		return 0, err
	}

	if open {
		return quietNS * time.Nanosecond / 2, nil
	}

	return 100 * time.Millisecond, nil
}

// overdue reports what has been quiet for long enough. It tells whether something
// is still open.
func (c *Correlator) overdue(now uint64) (open bool, err error) {
	var newest uint64
	for number := range c.passes {
		newest = max(newest, number)
	}

	for number, e := range c.passes {
		patience := uint64(lostEndNS)
		if len(e.victims) == 0 {
			patience = noKillNS
		}
		// Passes do not overlap: what is not the newest has ended.
		if number == newest && !e.quiet.forNS(now, patience) {
			open = open || len(e.victims) > 0
			continue
		}

		delete(c.passes, number)

		if len(e.victims) > 0 {
			if _, err := c.report(e); err != nil {
				return open, err
			}
		}
	}

	for tid, t := range c.threads {
		if t.open != nil && t.open.quiet.forNS(now, quietNS) {
			if err := c.close(t); err != nil {
				return open, err
			}
		}
		open = open || t.open != nil

		patience := uint64(looseNS)
		if t.done != nil {
			patience = groupNS
		}

		if t.open == nil && t.quiet.forNS(now, patience) {
			delete(c.threads, tid)
		}
	}

	return open, nil
}

// Close reports what is open, and all news.
func (c *Correlator) Close() error {
	for _, number := range slices.Sorted(maps.Keys(c.passes)) {
		if e := c.passes[number]; len(e.victims) > 0 {
			if _, err := c.report(e); err != nil {
				return err
			}
		}
	}

	clear(c.passes)

	for _, tid := range slices.Sorted(maps.Keys(c.threads)) {
		if t := c.threads[tid]; t.open != nil {
			if err := c.close(t); err != nil {
				return err
			}
		}
	}

	clear(c.threads)

	if err := c.overdueUsers(c.now, true); err != nil {
		return err
	}

	if err := c.closeAudit(); err != nil {
		return err
	}

	return c.flush(true)
}
