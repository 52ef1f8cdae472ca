// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// groups returns an ancestry of three memcgs, those at the given indexes with
// memory.oom.group.
func groups(indexes ...int) []kernel.Memcg {
	ancestry := leafToRoot(1000, 1000)
	for _, i := range indexes {
		ancestry[i].OOMGroup = true
	}

	return ancestry
}

func sameShortage(a, b shortage) bool {
	return a.scope == b.scope && a.limiter == b.limiter && a.group == b.group && slices.Equal(a.unsure, b.unsure)
}

func TestReadShortageIsTheKernels(t *testing.T) {
	for _, test := range []struct {
		name     string
		chosen   kernel.VictimChosen
		cgroupV1 bool
		want     shortage
	}{
		{"memcg", kernel.VictimChosen{Constraint: kernel.ConstraintMemcg, LimiterIndex: 1, Ancestry: groups()}, false,
			shortage{scope: events.ScopeMemcg, limiter: 1, group: -1}},
		{"node", kernel.VictimChosen{Constraint: kernel.ConstraintNone, LimiterIndex: -1, Ancestry: groups()}, false,
			shortage{scope: events.ScopeGlobal, limiter: -1, group: -1}},
		{"cpuset", kernel.VictimChosen{Constraint: kernel.ConstraintCpuset, LimiterIndex: -1}, false,
			shortage{scope: events.ScopeCpuset, limiter: -1, group: -1}},
		{"memory policy", kernel.VictimChosen{Constraint: kernel.ConstraintMempolicy, LimiterIndex: -1}, false,
			shortage{scope: events.ScopeMempolicy, limiter: -1, group: -1}},
		{"sysrq, whose constraint is none", kernel.VictimChosen{Sysrq: true, Constraint: kernel.ConstraintNone, LimiterIndex: -1}, false,
			shortage{scope: events.ScopeSysrq, limiter: -1, group: -1}},
		{"a constraint of a future kernel", kernel.VictimChosen{Constraint: "constraint_4", LimiterIndex: 0, Ancestry: groups()}, false,
			shortage{scope: "constraint_4", limiter: 0, group: -1}},
		{"the highest group below the limiter",
			kernel.VictimChosen{Constraint: kernel.ConstraintMemcg, LimiterIndex: 1, Ancestry: groups(0, 1, 2)}, false,
			shortage{scope: events.ScopeMemcg, limiter: 1, group: 1}},
		{"a group above the limiter", kernel.VictimChosen{Constraint: kernel.ConstraintMemcg, LimiterIndex: 0, Ancestry: groups(1)},
			false, shortage{scope: events.ScopeMemcg, limiter: 0, group: -1}},
		{"a group, if the node ran out", kernel.VictimChosen{Constraint: kernel.ConstraintNone, LimiterIndex: -1, Ancestry: groups(0, 1)},
			false, shortage{scope: events.ScopeGlobal, limiter: -1, group: 1}},
		{"no group on cgroup v1", kernel.VictimChosen{Constraint: kernel.ConstraintMemcg, LimiterIndex: 1, Ancestry: groups(0)},
			true, shortage{scope: events.ScopeMemcg, limiter: 1, group: -1}},
	} {
		if got := readShortage(&test.chosen, test.cgroupV1); !sameShortage(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestRoomOfACounterOverItsLimitIsNone(t *testing.T) {
	for _, test := range []struct {
		counter kernel.Counter
		want    uint64
	}{
		{kernel.Counter{Usage: 3, Max: 10}, 7},
		{kernel.Counter{Usage: 12, Max: 10}, 0},
		{kernel.Counter{Usage: 3, Max: kernel.NoLimit}, kernel.NoLimit},
	} {
		if got := room(test.counter); got != test.want {
			t.Errorf("%+v: got %d, want %d", test.counter, got, test.want)
		}
	}
}
