// SPDX-License-Identifier: Apache-2.0

package events

import (
	"reflect"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

func TestMergeReplacesKeysAndMergesVictims(t *testing.T) {
	start := time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC)
	java := Victim{
		Process: Process{PID: 4711, TID: 4711, Comm: "java"}, Role: RoleChosen, AnonRSSBytes: ptr(uint64(480)),
	}
	sh := Victim{Process: Process{PID: 4650, TID: 4650, Comm: "sh"}, Role: RoleGroup}

	into := Incident{
		Envelope: Envelope{V: Version, Kind: KindIncident, Time: start, BootID: "b", Node: "n"},
		ID:       "1", Scope: ScopeMemcg, Outcome: OutcomeKilled,
		Passes:  &Passes{Killed: 1, Waiting: 2},
		Victims: []Victim{java},
		Unknown: []string{"memory", "trigger"},
	}
	shared := into.Victims
	update := Incident{
		Envelope: Envelope{V: Version, Kind: KindIncidentUpdate, Time: start.Add(time.Second), BootID: "b", Node: "n"},
		ID:       "1",
		Passes:   &Passes{Killed: 1},
		Victims:  []Victim{{Process: Process{PID: 4711}, ExitAfterNS: ptr(uint64(31))}, sh},
		Audit:    &Audit{Victims: 2, Explained: true},
		Unknown:  []string{"memory"},
	}
	want := into
	want.Passes, want.Audit, want.Unknown = update.Passes, update.Audit, update.Unknown
	java.ExitAfterNS = ptr(uint64(31))
	want.Victims = []Victim{java, sh}

	Merge(&into, &update)

	if !reflect.DeepEqual(into, want) {
		t.Errorf("\n got %+v\nwant %+v", into, want)
	}

	if shared[0].ExitAfterNS != nil {
		t.Error("got victims changed in a copy of the incident, want them copied on write")
	}
}

func TestMergeOfAnEmptyUpdateChangesNothing(t *testing.T) {
	into := Incident{ID: "1", Victims: []Victim{{Process: Process{PID: 1}}}, Notes: []string{"x"}}
	want := into
	Merge(&into, &Incident{ID: "1"})

	if !reflect.DeepEqual(into, want) {
		t.Errorf("got %+v, want %+v", into, want)
	}
}

// TestUpdateCanLeaveNothingUnknown: an empty list of an update replaces that of its
// incident, also after it was written and read.
func TestUpdateCanLeaveNothingUnknown(t *testing.T) {
	line, err := Marshal(&Update{Change: &Incident{Envelope: Envelope{V: Version, Kind: KindIncidentUpdate}, Unknown: []string{}}})
	if err != nil {
		t.Fatal(err)
	}

	read, err := Decode(KindIncidentUpdate, line)
	if err != nil {
		t.Fatal(err)
	}

	into := Incident{Unknown: []string{"memory"}}
	Merge(&into, read.(*Update).Change)

	if len(into.Unknown) != 0 {
		t.Errorf("got %q unknown after %s, want nothing", into.Unknown, line)
	}
}

func TestLimitsOfCgroupV1AreRecognized(t *testing.T) {
	v1, v2 := &Cgroup{CgroupKey: CgroupKey{Hierarchy: 4, ID: 7}}, &Cgroup{CgroupKey: CgroupKey{ID: 7}}

	for _, test := range []struct {
		limiter *Limiter
		want    bool
	}{
		{nil, false},
		{&Limiter{Which: "memory.max", Cgroup: v2}, false},
		{&Limiter{Cgroup: v1}, true},
		{&Limiter{Which: "memory.limit_in_bytes"}, true}, // of a kernel log
		{&Limiter{Which: "memory.memsw.limit_in_bytes"}, true},
		{&Limiter{Which: "node"}, false},
	} {
		if got := test.limiter.V1(); got != test.want {
			t.Errorf("%+v: got %v, want %v", test.limiter, got, test.want)
		}
	}
}
