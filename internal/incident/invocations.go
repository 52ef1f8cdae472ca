// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"maps"
	"slices"

	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// lostReturnNS is how long an invocation with a victim waits for its return, which
	// may be late rather than lost: the kernel may be writing its report to a slow
	// console.
	lostReturnNS = 2e9
	// noKillNS is how long a choice waits for its kill, for the same reason.
	noKillNS = 60e9
)

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

// returned reports an invocation that killed.
func (v *invocations) returned(r *kernel.OOMReturn) error {
	p := v.of(r.Meta)
	p.end = r
	v.drop(r.Invocation)

	if len(p.victims) == 0 {
		return nil // reported already, or its kill was lost: the audit will show it
	}
	_, err := v.report.incident(p)

	return err
}

func (v *invocations) drop(number uint64) { delete(v.pending, number) }

// overdue reports invocations whose return did not come in time, in their order. It
// returns whether one with a victim is still pending.
func (v *invocations) overdue(now uint64) (pending bool, err error) {
	v.numbers = slices.AppendSeq(v.numbers[:0], maps.Keys(v.pending))
	slices.Sort(v.numbers)

	for i, number := range v.numbers {
		p := v.pending[number]

		patience := uint64(lostReturnNS)
		if len(p.victims) == 0 {
			patience = noKillNS
		}

		// All but the newest have returned: invocations do not overlap.
		if i == len(v.numbers)-1 && !p.quiet.forNS(now, patience) {
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
