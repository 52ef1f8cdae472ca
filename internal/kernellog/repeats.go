// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	// afterKill is how long a limiter without a task to kill is the aftermath of a
	// kill: the victim's memory is not back yet.
	afterKill = 2 * time.Second
	// sameShortage is how far apart two reports of nobody to kill may be to be one
	// story: the kernel tries again with every charge.
	sameShortage = time.Minute
)

// fold counts a report of nobody to kill with the one before of the same limiter, as
// the live trace does. A report with gaps takes none in: it may lack its details.
func (p *parser) fold(r *report) bool {
	inc := r.made
	if inc.Outcome != events.OutcomeNoKillable || r.panicked != "" || inc.Limiter == nil || inc.Limiter.Cgroup == nil {
		return false
	}

	for _, before := range slices.Backward(p.done) {
		b := before.made
		if before.user || before.first.host != r.first.host || before.first.boot != r.first.boot ||
			b.Limiter == nil || b.Limiter.Cgroup == nil || b.Limiter.Cgroup.Path != inc.Limiter.Cgroup.Path {
			continue
		}

		within := sameShortage
		if b.Outcome == events.OutcomeKilled {
			within = afterKill
		}

		if b.Log.Truncated || b.Passes == nil || apart(before.last, r.first) > within || !before.last.uptime && before.last.wall.IsZero() {
			return false
		}

		b.Passes.NoKillable++
		before.last, b.Log.LastLine = r.last, r.last.line

		return true
	}

	return false
}
