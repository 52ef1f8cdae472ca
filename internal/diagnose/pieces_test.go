// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// causeOf returns the cause of a rule, nil if it is silent.
func causeOf(causes []events.Cause, id string) *events.Cause {
	if i := slices.IndexFunc(causes, func(c events.Cause) bool { return c.ID == id }); i >= 0 {
		return &causes[i]
	}

	return nil
}

// fromLog makes a kill one of a kernel log: with the kernel's own times, with dates, or with none.
func fromLog(uptime bool, unknown ...string) func(*events.Incident) {
	return func(inc *events.Incident) {
		inc.Tier, inc.Log, inc.Unknown = events.TierKernelLog, &events.Log{FirstLine: 1, LastLine: 1}, unknown
		if uptime {
			inc.Log.UptimeNS = new(uint64(5e9))
		}
	}
}

// Nothing is claimed of an order or a distance that the times of a log do not show, or of a limit
// that it does not name.
func TestAftermathNeedsTimesAndALimiter(t *testing.T) {
	for name, test := range map[string]struct {
		gap    time.Duration
		change func(*events.Incident)
		want   bool
	}{
		"live":                       {time.Microsecond, nil, true},
		"the kernel's times":         {time.Microsecond, fromLog(true), true},
		"dates, in one second":       {0, fromLog(false), false},
		"no times":                   {0, fromLog(false, "time"), false},
		"the limiter is not known":   {time.Microsecond, fromLog(true, "limiter"), false},
		"the node or a NUMA node":    {time.Microsecond, fromLog(true, "constraint"), false},
		"another cgroup of the same": {time.Microsecond, func(inc *events.Incident) { inc.Limiter.Cgroup = cgroup(uint64(len(inc.ID)), "/x/"+inc.ID) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			var j Journal
			j.Add(killed("before", 0, test.change))
			now := killed("now", test.gap, test.change)

			if got := causeOf(j.Diagnose(now), "aftermath") != nil; got != test.want {
				t.Errorf("got an aftermath: %t, want %t", got, test.want)
			}
		})
	}
}

// What is as far apart as the dates of a log are exact is compared.
func TestKillsOfALogWithDatesAreCompared(t *testing.T) {
	for gap, want := range map[time.Duration]int{0: 0, time.Second: 1, time.Minute: 1} {
		var j Journal
		j.Add(killed("before", 0, fromLog(false)))

		if got := len(j.before(killed("now", gap, fromLog(false)))); got != want {
			t.Errorf("%s apart: got %d earlier kills, want %d", gap, got, want)
		}
	}
}

// A lone "Out of memory: Killed process" is the same for the node, for some of its NUMA nodes and for
// sysrq-f.
func TestALoneKillHasNoCertainCause(t *testing.T) {
	lone := func(change func(*events.Incident)) *events.Cause {
		inc := plainKill()
		inc.Scope, inc.Limiter, inc.Ladder, inc.Memory = events.ScopeGlobal, &events.Limiter{Level: events.LevelNode, Which: "node"}, nil, nil
		fromLog(true, "constraint")(inc)
		change(inc)

		return causeOf(Diagnose(inc, nil), "node_exhausted")
	}

	if c := lone(func(*events.Incident) {}); c == nil || c.Confidence != events.ConfidencePossible {
		t.Errorf("alone: got %+v, want a possible cause", c)
	}

	if c := lone(func(inc *events.Incident) { inc.Unknown = nil }); c == nil || c.Confidence == events.ConfidencePossible {
		t.Errorf("with its constraint: got %+v, want more than a possible cause", c)
	}
}

// Anonymous memory on its way to swap is under writeback, and no page cache.
func TestSwapOutIsNoDirtyPageCache(t *testing.T) {
	for name, test := range map[string]struct {
		file uint64
		want bool
	}{"without page cache": {0, false}, "with page cache": {200 * mib, true}} {
		inc := plainKill()
		inc.Memory = memory(300 * mib)
		inc.Memory.FileBytes, inc.Memory.ShmemBytes, inc.Memory.FileDirtyBytes = new(test.file), new(uint64(0)), new(uint64(0))
		inc.Memory.FileWritebackBytes = new(uint64(150 * mib))

		if got := causeOf(Diagnose(inc, nil), "page_cache_dirty") != nil; got != test.want {
			t.Errorf("%s: got page_cache_dirty: %t, want %t", name, got, test.want)
		}
	}
}

// Where nobody's command is known, there is still the limit itself.
func TestALimitOfAJobCanBeRaised(t *testing.T) {
	if _, advice := explained(jobKill()); !strings.Contains(advice, "raise its limit where it is set") {
		t.Errorf("got advice %q, want that on the limit", advice)
	}
}
