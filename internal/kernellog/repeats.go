// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	// afterKill is how long a limiter without a killable task still follows from a kill:
	// the victim's memory is not released yet.
	afterKill = 2 * time.Second
	// sameShortage is how far apart two reports without a killable task may be to count as
	// one incident: the kernel tries again with every charge.
	sameShortage = time.Minute
)

// repeats counts a report without a killable task with the one before of the same limiter,
// as the live trace does. It reports whether it did. A report whose start is missing does not
// stand for one that has it.
func (p *parser) repeats(r *report) bool {
	inc := r.made
	if inc.Outcome != events.OutcomeNoKillable || r.panicked != "" || inc.Limiter == nil || inc.Limiter.Cgroup == nil {
		return false
	}

	for _, before := range slices.Backward(p.done) {
		b := before.made
		if before.user || before.sequel != nil || before.first.host != r.first.host || before.first.boot != r.first.boot ||
			b.Limiter == nil || b.Limiter.Cgroup == nil || b.Limiter.Cgroup.Path != inc.Limiter.Cgroup.Path {
			continue
		}

		within := sameShortage
		if b.Outcome == events.OutcomeKilled {
			within = afterKill
		}

		startless := b.Trigger == nil && inc.Trigger != nil
		timeless := !before.last.uptime && before.last.wall.IsZero()

		if b.Passes == nil || startless || timeless || apart(before.last, r.first) > within {
			return false
		}

		b.Passes.NoKillable++
		before.last, b.Log.LastLine = r.last, r.last.line

		return true
	}

	return false
}
