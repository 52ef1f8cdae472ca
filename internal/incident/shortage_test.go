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

func TestConcludedShortageNamesWhatItIsUnsureOf(t *testing.T) {
	// A memcg uses 1000 pages: it is full, or has room.
	const full, room = 1000, 2000

	const memcg, node = kernel.ReclaimMemcg, kernel.ReclaimGlobal

	ancestry := func(leafMax, parentMax uint64, everHit ...int) []kernel.Memcg {
		a := leafToRoot(leafMax, parentMax)
		for _, i := range everHit {
			a[i].OOMLocal = 1
		}

		return a
	}
	worker := kernel.Meta{Current: kernel.Task{Comm: "kworker/0:1", Kthread: true}}

	for _, test := range []struct {
		name   string
		chosen kernel.VictimChosen
		hits   []int
		want   shortage
	}{
		{"one limit was hit", kernel.VictimChosen{LastReclaim: memcg, Ancestry: ancestry(full, room)}, []int{1},
			shortage{scope: events.ScopeMemcg, limiter: 1, group: -1}},
		{"the node was reclaimed, whatever was hit", kernel.VictimChosen{LastReclaim: node, Ancestry: ancestry(full, room)}, []int{0},
			shortage{scope: events.ScopeGlobal, limiter: -1, group: -1, unsure: []string{"constraint"}}},
		{"two limits were hit, one is full", kernel.VictimChosen{LastReclaim: memcg, Ancestry: ancestry(room, full)}, []int{0, 1},
			shortage{scope: events.ScopeMemcg, limiter: 1, group: -1, unsure: []string{"limiter"}}},
		{"two limits were hit, both are full", kernel.VictimChosen{LastReclaim: memcg, Ancestry: ancestry(full, full)}, []int{0, 1},
			shortage{scope: events.ScopeMemcg, limiter: 0, group: -1, unsure: []string{"limiter"}}},
		{"two limits were hit, none is full", kernel.VictimChosen{LastReclaim: memcg, Ancestry: ancestry(room, room)}, []int{0, 1},
			shortage{scope: events.ScopeMemcg, limiter: -1, group: -1, unsure: []string{"limiter"}}},
		{"no new hit, an old one", kernel.VictimChosen{LastReclaim: memcg, Ancestry: ancestry(full, full, 1)}, nil,
			shortage{scope: events.ScopeMemcg, limiter: 1, group: -1, unsure: []string{"limiter"}}},
		{"a worker that did not reclaim", kernel.VictimChosen{Meta: worker}, nil,
			shortage{scope: events.ScopeSysrq, limiter: -1, group: -1}},
		{"nothing", kernel.VictimChosen{Ancestry: ancestry(full, full)}, nil,
			shortage{scope: events.ScopeUnknown, limiter: -1, group: -1, unsure: []string{"scope", "limiter"}}},
	} {
		if got := concludeShortage(&test.chosen, test.hits, false); !sameShortage(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestLimitHitsAreWhatGrew(t *testing.T) {
	key := func(id uint64) events.CgroupKey { return events.CgroupKey{ID: id} }
	counted := func(leaf, parent uint64) []kernel.Memcg {
		a := leafToRoot(1000, 2000)
		a[0].OOMLocal, a[1].OOMLocal = leaf, parent

		return a
	}
	l := newLimitHits(map[events.CgroupKey]uint64{key(50): 3})

	for _, test := range []struct {
		name   string
		before func()
		counts []kernel.Memcg
		want   []int
	}{
		{"an unknown count, and the limit is full", nil, counted(1, 3), []int{0}},
		{"nothing since", nil, counted(1, 3), nil},
		{"both", nil, counted(2, 4), []int{0, 1}},
		{"learnt otherwise", func() { l.learn(counted(5, 5)...) }, counted(5, 5), nil},
		{"a new cgroup with the same key", func() {
			l.observe(kernel.CgroupChange{Op: "rmdir", Key: key(100)})
			l.observe(kernel.CgroupChange{Op: "mkdir", Key: key(100)})
		}, counted(1, 5), []int{0}},
		{"an unknown count, but there is room", func() { l.observe(kernel.CgroupChange{Op: "rmdir", Key: key(50)}) }, counted(1, 9), nil},
	} {
		if test.before != nil {
			test.before()
		}

		if got := l.since(test.counts); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
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
