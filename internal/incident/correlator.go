// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Correlator dispatches records to the state machines of this package. Its methods
// return the errors of Out. It is not safe for concurrent use.
type Correlator struct {
	cfg *Config
	now uint64 // CLOCK_BOOTTIME of the newest record or Idle

	invocations invocations
	threads     threads
	noVictims   noVictims
	waits       waits
	userKills   userKills

	report   *reporter
	followUp *followUp
	audit    *audit
}

// New returns a correlator that has seen no record.
func New(cfg Config, out Out) *Correlator {
	build := &builder{cfg: &cfg}
	followUp := newFollowUp(&cfg, build, out)
	audit := &audit{read: cfg.KernelKills}
	report := &reporter{out: out, build: build, followUp: followUp, audit: audit}

	c := &Correlator{
		cfg:         &cfg,
		invocations: newInvocations(&cfg, report),
		noVictims:   newNoVictims(&cfg, report),
		waits:       newWaits(&cfg, report),
		userKills:   newUserKills(&cfg, report),
		report:      report,
		followUp:    followUp,
		audit:       audit,
	}
	c.threads = newThreads(&cfg, report, &c.noVictims)

	return c
}

// Totals returns how many incidents and victims were reported so far.
func (c *Correlator) Totals() (incidents, victims uint64) {
	return c.report.incidents, c.report.victims
}

// Record takes in one record.
func (c *Correlator) Record(r kernel.Record) error {
	c.advance(r.Header().BootNS)

	switch r := r.(type) {
	case kernel.VictimChosen:
		c.cfg.Cgroups.LearnAncestry(r.Ancestry, r.AncestryCut)

		if c.cfg.hooked() && r.Invocation != 0 {
			c.invocations.victimChosen(&r)
		} else {
			c.threads.victimChosen(&r)
		}
	case kernel.Charge:
		if c.cfg.hooked() {
			c.invocations.charge(&r)
		} else {
			c.threads.charge(&r)
		}
	case kernel.TargetAncestry:
		c.cfg.Cgroups.LearnAncestry(r.Ancestry, r.AncestryCut)
		c.userKills.targetAncestry(&r)
	case kernel.Kill:
		return c.kill(r)
	case kernel.Mark:
		if c.cfg.hooked() && r.Invocation != 0 {
			c.noVictims.markedIn(r)

			return c.invocations.marked(r)
		}

		if r.Killed {
			c.userKills.mark(r)
		}

		return c.threads.mark(r)
	case kernel.OOMReturn:
		if r.Outcome == events.OutcomeKilled {
			return c.invocations.returned(&r)
		}

		c.invocations.drop(r.Invocation) // its victim was already exiting

		return c.noVictims.returned(r)
	case kernel.OOMWait:
		return c.waits.seen(r)
	case kernel.Exit:
		c.followUp.ended(r.TGID, ends{exitNS: r.BootNS})
	case kernel.Released:
		c.followUp.ended(r.TGID, ends{releasedNS: r.BootNS})
	case kernel.Reaped:
		c.followUp.reaped(r)
	case kernel.CgroupChange: // Config.Cgroups takes these
	case kernel.RecordsLost:
		if !r.Throttled { // no OOM kill is
			c.audit.window.lost += r.Count
		}
	}

	return nil
}

// kill finds the machine for a SIGKILL.
func (c *Correlator) kill(k kernel.Kill) error {
	switch {
	case k.Sender != nil: // not the OOM killer's, as far as the kernel side knows
		// Without hooks, a SIGKILL that may be the OOM killer's has come already, but not
		// one by a task that exits.
		if k.FromKernel && (c.cfg.hooked() || k.Current.Exiting) {
			c.threads.maybeMissed(k)
		}

		return c.userKills.kill(k)
	case !k.FromKernel, c.cfg.hooked() && k.Invocation == 0 && !k.SharesMM:
		return nil // not the OOM killer's
	case k.Invocation == 0: // nothing is hooked, or the entry of this invocation was missed
		return c.threads.kill(k)
	}

	return c.invocations.kill(k)
}

// idleInterval is how long Idle can wait if nothing is pending, pendingInterval if
// something is.
const (
	idleInterval    = 250 * time.Millisecond
	pendingInterval = quietNS * time.Nanosecond / 2
)

// Idle does what is due by time. Every record that was made before readNS was passed to
// Record. caughtUp means that none was waiting: only then the kernel's own count can be
// compared with what was seen. It returns how long the caller can wait with the next call if
// no record comes.
func (c *Correlator) Idle(readNS uint64, caughtUp bool) (time.Duration, error) {
	c.advance(readNS)

	pending, err := c.invocations.overdue(readNS)
	if err != nil {
		return 0, err
	}

	inThreads, err := c.threads.overdue(readNS)
	if err != nil {
		return 0, err
	}

	// The kernel's counter is never read between a kill and its incident.
	pending = pending || inThreads
	if caughtUp && !pending {
		if err := c.audited(c.audit.run(readNS)); err != nil {
			return 0, err
		}
	}

	if err := c.userKills.overdue(readNS, false); err != nil {
		return 0, err
	}

	if err := c.followUp.flush(false); err != nil {
		return 0, err
	}

	if pending {
		return pendingInterval, nil
	}

	return idleInterval, nil
}

// Close reports what is pending, and all updates.
func (c *Correlator) Close() error {
	if err := c.invocations.close(); err != nil {
		return err
	}

	if err := c.threads.close(); err != nil {
		return err
	}

	if err := c.userKills.overdue(c.now, true); err != nil {
		return err
	}

	if err := c.audited(c.audit.close(c.now)); err != nil {
		return err
	}

	return c.followUp.flush(true)
}

func (c *Correlator) advance(bootNS uint64) {
	c.now = max(c.now, bootNS)
	c.followUp.now = c.now
}

// audited adds the result of an audit to its incidents. It is nil if there is none.
func (c *Correlator) audited(result *auditResult) error {
	if result == nil {
		return nil
	}

	for _, r := range result.reported {
		c.followUp.change(r).Audit = result.of(r)
	}

	if text := result.finding(); text != "" {
		return c.report.out.Finding(c.cfg.WallClock(c.now), text)
	}

	return nil
}
