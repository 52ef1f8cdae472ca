// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// audit compares the kernel's own count of OOM kills with the SIGKILLs that
// were seen. The kernel counts in __oom_kill_process, just before it sends one:
// members of a group each, the chosen one of a group perhaps twice, processes
// that share the victim's memory never (mm/oom_kill.c).
//
// The counter is only read when it is quiet, never between a kill and its
// verdict.
type audit struct {
	base   uint64 // oom_kill at the end of the last window
	known  bool
	baseNS uint64 // of the first reading
	window []*reported
	// incidents is how many the window had: in a storm, window keeps the last.
	incidents int
	kills     uint64 // seen in the window
	// quietNS is since when no kill has come in, by the clock: records may be
	// read late. 0: one has just come.
	quietNS uint64
	tries   int
	lost    uint64 // records, since the last window
	nextNS  uint64
}

const (
	auditAfterNS = 100e6 // of quiet
	auditTries   = 10
	auditEveryNS = 10e9 // where nothing happens
)

// count puts a reported incident into the window.
func (c *Correlator) count(r *reported) {
	a := &c.audit
	if r.timeNS < a.baseNS {
		return // before the first reading: the hooks were attached already
	}

	a.add(r)
	a.kills += r.kernelKills
	a.quietNS, a.nextNS, a.tries = 0, 0, 0
}

func (a *audit) add(r *reported) {
	a.incidents++
	if len(a.window) >= maxRecent {
		a.window = slices.Delete(a.window, 0, 1)
	}
	a.window = append(a.window, r)
}

// countLate counts one more kill of a reported incident.
func (c *Correlator) countLate(r *reported) {
	a := &c.audit
	if r.timeNS < a.baseNS {
		return
	}

	a.kills++

	a.quietNS, a.nextNS, a.tries = 0, 0, 0
	if !slices.Contains(a.window, r) {
		a.add(r)
	}
}

func (c *Correlator) runAudit() error {
	a := &c.audit
	if a.quietNS == 0 {
		a.quietNS = c.now
	}

	quiet := len(a.window) == 0 || c.now-a.quietNS >= auditAfterNS
	if c.cfg.KernelKills == nil || !quiet || c.now < a.nextNS {
		return nil
	}

	return c.readAudit(false)
}

func (c *Correlator) closeAudit() error {
	if c.cfg.KernelKills == nil || !c.audit.known {
		return nil
	}

	return c.readAudit(true)
}

func (c *Correlator) readAudit(last bool) error {
	a := &c.audit

	now, err := c.cfg.KernelKills()
	if err != nil {
		a.nextNS = c.now + auditEveryNS
		return nil // doctor tells why; an incident without an audit says so
	}

	if !a.known {
		a.base, a.known, a.baseNS = now, true, c.now
		a.nextNS = c.now + auditEveryNS

		return nil
	}

	delta := now - a.base
	if delta != a.kills && a.tries < auditTries && !last {
		a.tries++ // a kill may be on its way through the ring
		a.nextNS = c.now + auditAfterNS

		return nil
	}

	for _, r := range a.window {
		c.newsOf(r).Audit = c.auditOf(r, delta)
	}

	if delta != a.kills {
		text := fmt.Sprintf("the kernel counted %d OOM kills, %d were seen", delta, a.kills)
		if a.lost > 0 {
			text += fmt.Sprintf("; %d records were lost", a.lost)
		}

		if err := c.out.Finding(c.cfg.WallClock(c.now), text); err != nil {
			return err
		}
	}
	*a = audit{base: now, known: true, baseNS: a.baseNS, quietNS: c.now, nextNS: c.now + auditEveryNS}

	return nil
}

func (c *Correlator) auditOf(r *reported, delta uint64) *events.Audit {
	a := &c.audit
	out := &events.Audit{
		Victims: len(r.victims), KernelKills: r.kernelKills,
		VMStatDelta: &delta, Incidents: a.incidents, WindowKills: a.kills,
		MemcgDelta: r.memcgDelta,
	}
	out.Explained = delta == a.kills && (r.memcgDelta == nil || *r.memcgDelta == r.kernelKills)
	shared := 0

	for _, v := range r.victims {
		if v.role == events.RoleSharedMM {
			shared++
		}
	}

	out.Text = plural(len(r.victims), "victim")
	if a.incidents == 1 {
		out.Text += fmt.Sprintf("; oom_kill +%d", delta)
	} else {
		out.Text += fmt.Sprintf("; oom_kill +%d over %d incidents", delta, a.incidents)
		if delta == a.kills {
			out.Text += ", as seen"
		}
	}

	if r.repeated > 0 {
		out.Text += " (the kernel counts the chosen one of a group twice)"
	}

	if shared > 0 {
		out.Text += fmt.Sprintf(" (%d shared its memory: the kernel does not count those)", shared)
	}

	if r.memcgDelta != nil && *r.memcgDelta != r.kernelKills {
		out.Text += fmt.Sprintf("; the limiter's memory.events +%d", *r.memcgDelta)
	}

	if delta != a.kills {
		out.Text += fmt.Sprintf("; %d kills were seen: not explained", a.kills)
	}

	return out
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}

	return fmt.Sprintf("%d %ss", n, noun)
}
