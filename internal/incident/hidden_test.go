// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// TestCandidatesThatNobodyReadsAreUnknown: in a PID namespace, /proc has other processes.
func TestCandidatesThatNobodyReadsAreUnknown(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		m := newHost(t, events.TierFentry, func(c *Config) { c.ProcessesHidden = hidden })
		hog := proc(10, "hog")
		ancestry := leafToRoot(1000, kernel.NoLimit)
		m.invocation = 1
		m.chooses(hog, hog, ancestry, 0, kernel.ConstraintMemcg)
		m.kill(hog, hog, true, false)
		m.mark(hog, hog)
		m.returns(hog, events.OutcomeKilled, ancestry[0])
		m.settle()

		inc := m.one()
		if got := slices.Contains(inc.Unknown, "candidates"); got != hidden {
			t.Errorf("got unknown %v, want candidates in it: %v", inc.Unknown, hidden)
		}
	}
}
