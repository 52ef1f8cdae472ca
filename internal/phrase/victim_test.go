// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestVictimWithoutAProcessIsWhatDied(t *testing.T) {
	named := events.Victim{Process: events.Process{PID: 5, Comm: "web", Workload: &events.Workload{Unit: "web.service"}}}
	unit := events.Victim{Process: events.Process{Workload: &events.Workload{Unit: "app-x.scope"}}}
	pod := events.Victim{Process: events.Process{Workload: &events.Workload{Namespace: "shop", Pod: "cart-1"}}}
	eviction := &events.Killer{Reason: events.ReasonEviction}

	for _, test := range []struct {
		v    events.Victim
		k    *events.Killer
		want string
	}{
		{named, eviction, "web[5]"},
		{unit, nil, "a process in app-x.scope"},
		{unit, &events.Killer{Processes: new(uint64(2104))}, "2104 processes in app-x.scope"},
		{unit, &events.Killer{Processes: new(uint64(1))}, "1 process in app-x.scope"},
		{pod, eviction, "pod shop/cart-1"},
		{pod, nil, "a process in pod shop/cart-1"},
		{events.Victim{}, eviction, "a process"},
		{events.Victim{Process: events.Process{PID: 5}}, nil, "?[5]"},
	} {
		if got := Victim(&test.v, test.k); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
