// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// The kernel does not always compare processes, and then its points are no badness
// (mm/oom_kill.c: out_of_memory, oom_evaluate_task).
func TestPointsAreThoseOfAComparison(t *testing.T) {
	a, b := proc(10, "a"), proc(11, "b")

	for name, test := range map[string]struct {
		trigger    kernel.Task
		constraint kernel.Constraint
		points     int64
		known      bool
		chosenBy   events.ChosenBy
		note       string
	}{
		"badness":                  {b, kernel.ConstraintNone, 900, true, "", ""},
		"of the trigger itself":    {a, kernel.ConstraintNone, 900, true, "", ""},
		"negative":                 {a, kernel.ConstraintNone, -20, true, "", ""},
		"oom_kill_allocating_task": {a, kernel.ConstraintNone, 0, false, events.ChosenByAllocation, "vm.oom_kill_allocating_task"},
		"and a cpuset":             {a, kernel.ConstraintCpuset, 0, false, events.ChosenByAllocation, "vm.oom_kill_allocating_task"},
		"0 of another process":     {b, kernel.ConstraintNone, 0, true, "", ""},
		"0 at a limit":             {a, kernel.ConstraintMemcg, 0, true, "", ""},
		"swapoff":                  {b, kernel.ConstraintNone, math.MaxInt64, false, events.ChosenByOrigin, "swapoff"},
		"swapoff at a limit":       {b, kernel.ConstraintMemcg, math.MaxInt64, false, events.ChosenByOrigin, "swapoff"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newHost(t, events.TierFentry)
			m.invocation++
			c := leafToRoot(1000, kernel.NoLimit)
			m.record(kernel.VictimChosen{
				Meta: m.meta(test.trigger), Ancestry: c, LimiterIndex: 0, Constraint: test.constraint, Victim: a,
				AllocKnown: true, Points: test.points,
			})
			m.kill(test.trigger, a, true, false)
			m.returns(test.trigger, events.OutcomeKilled, c[0])

			inc := m.one()
			v := inc.Victims[0]

			if (v.Points != nil) != test.known || test.known && *v.Points != test.points {
				t.Errorf("got points %v, want %d, known %t", v.Points, test.points, test.known)
			}

			if slices.Contains(inc.Unknown, "victims.points") == test.known {
				t.Errorf("got unknown %q, want victims.points in it: %t", inc.Unknown, !test.known)
			}

			if v.ChosenBy != test.chosenBy {
				t.Errorf("got chosen by %q, want %q", v.ChosenBy, test.chosenBy)
			}

			if notes := strings.Join(inc.Notes, "\n"); (notes != "") != (test.note != "") || !strings.Contains(notes, test.note) {
				t.Errorf("got notes %q, want one on %q", notes, test.note)
			}
		})
	}
}
