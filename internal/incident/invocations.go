// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"maps"
	"slices"

	"github.com/oomtrace/oomtrace/internal/kernel"
)

// lostReturnNS is how long an invocation with a victim waits for its return, which may be
// late rather than lost: the kernel may be writing its report to a slow console. A choice
// waits for its kill until the next invocation: the report comes between the two, and is as
// long as the machine has processes.
const lostReturnNS = 2e9

// invocations joins records by the number of their OOM invocation, which the hooks on
// the entry and the return of out_of_memory assign. Invocations never overlap: the
// kernel holds oom_lock (mm/oom_kill.c).
type invocations struct {
	cfg     *Config
	report  *reporter
	pending map[uint64]*pendingOOM
	numbers []uint64 // reused by overdue
}

func newInvocations(cfg *Config, report *reporter) invocations {
	return invocations{cfg: cfg, report: report, pending: make(map[uint64]*pendingOOM)}
}

// of returns the invocation of a record.
func (v *invocations) of(m kernel.Meta) *pendingOOM {
	p := v.pending[m.Invocation]
	if p == nil {
		p = newPendingOOM(v.cfg, m)
		v.pending[m.Invocation] = p
	}
	p.lastNS = max(p.lastNS, m.BootNS)
	p.quiet = 0

	return p
}

func (v *invocations) victimChosen(r *kernel.VictimChosen) {
	p := v.of(r.Meta)
	p.chosen, p.shortage = r, readShortage(r, v.cfg.CgroupV1)
}

func (v *invocations) charge(r *kernel.Charge) { v.of(r.Meta).charge = r }

func (v *invocations) kill(k kernel.Kill) error {
	if done := v.report.followUp.ofInvocation(k.Invocation); done != nil {
		v.report.late(done, k)
		return nil
	}

	return v.report.killed(v.of(k.Meta), k)
}

// marked takes in a mark: it stands in for a SIGKILL whose record was lost.
func (v *invocations) marked(r kernel.Mark) error {
	if !r.Killed {
		return nil
	}

	if done := v.report.followUp.ofInvocation(r.Invocation); done != nil {
		if done.victim(r.Task.TGID) == nil {
			v.report.late(done, killOf(r))
		}

		return nil
	}

	p := v.of(r.Meta)
	if p.has(r.Task.TGID) {
		return nil
	}

	return v.report.killed(p, killOf(r))
}

// returned reports an invocation that killed.
func (v *invocations) returned(r *kernel.OOMReturn) error {
	p := v.of(r.Meta)
	p.end = r
	v.drop(r.Invocation)

	if len(p.victims) == 0 {
		if v.report.followUp.ofInvocation(r.Invocation) != nil {
			return nil // reported before its return
		}

		if err := v.report.killed(p, lostKill(p, r)); err != nil {
			return err
		}
	}

	_, err := v.report.incident(p)

	return err
}

// lostKill returns the SIGKILL of an invocation that killed, of which no record came in but
// that of its return.
func lostKill(p *pendingOOM, r *kernel.OOMReturn) kernel.Kill {
	k := kernel.Kill{Meta: r.Meta, Target: kernel.Task{TGID: r.Chosen, TID: r.Chosen}, FromKernel: true, Lost: true}
	if p.chosen != nil {
		k.Target = p.chosen.Victim
	}

	return k
}

func (v *invocations) drop(number uint64) { delete(v.pending, number) }

// overdue reports invocations whose return did not come in time, in their order. It
// returns whether one with a victim is still pending.
func (v *invocations) overdue(now uint64) (pending bool, err error) {
	v.numbers = slices.AppendSeq(v.numbers[:0], maps.Keys(v.pending))
	slices.Sort(v.numbers)

	for i, number := range v.numbers {
		p := v.pending[number]

		// All but the newest have returned: invocations do not overlap.
		if i == len(v.numbers)-1 && (len(p.victims) == 0 || !p.quiet.forNS(now, lostReturnNS)) {
			pending = pending || len(p.victims) > 0
			continue
		}

		v.drop(number)

		if len(p.victims) > 0 {
			if _, err := v.report.incident(p); err != nil {
				return pending, err
			}
		}
	}

	return pending, nil
}

func (v *invocations) close() error {
	for _, number := range slices.Sorted(maps.Keys(v.pending)) {
		if p := v.pending[number]; len(p.victims) > 0 {
			if _, err := v.report.incident(p); err != nil {
				return err
			}
		}
	}

	clear(v.pending)

	return nil
}
