// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// lateNames knows a pod's name only some time after it was asked.
type lateNames struct {
	after time.Duration
	asked time.Time
	count int
}

func (n *lateNames) Seen(resolve.Ref) {}
func (n *lateNames) Gone(resolve.Ref) {}

func (n *lateNames) Found(resolve.Ref) {
	n.asked = time.Now()
	n.count++
}

func (n *lateNames) Fill(w *events.Workload) *events.Workload {
	if n.asked.IsZero() || time.Since(n.asked) < n.after || w.PodUID == "" {
		return w
	}

	named := *w
	named.Namespace, named.Pod = "shop", "cart-0"

	return &named
}

func TestAnInspectionWaitsForNamesForAWhile(t *testing.T) {
	pod := func() *events.Workload { return &events.Workload{PodUID: "6ba0af16-1c3e-4d1c-a9a4-1f2e3d4c5b6a"} }
	inspection := func() *events.Inspection {
		return &events.Inspection{
			Workload: pod(), Limiter: &events.Limiter{Level: events.LevelNode},
			NearestLimits: []events.NearLimit{{Workload: pod()}, {Workload: &events.Workload{Unit: "web.service"}}},
			Candidates:    []events.Candidate{{Process: events.Process{Workload: pod()}}, {}},
		}
	}

	names := &lateNames{after: 30 * time.Millisecond}
	i := inspection()

	nameWorkloads(context.Background(), i, names)

	if i.Workload.Pod != "cart-0" || i.NearestLimits[0].Workload.Pod != "cart-0" || i.Candidates[0].Workload.Pod != "cart-0" {
		t.Errorf("got %+v, want the pod's name everywhere", i)
	}

	if names.count != 1 || i.NearestLimits[1].Workload.Pod != "" {
		t.Errorf("got %d look-ups, unit %+v, want one, and the unit as it was", names.count, i.NearestLimits[1].Workload)
	}

	i = inspection()
	began := time.Now()

	nameWorkloads(context.Background(), i, &lateNames{after: time.Hour})

	if took := time.Since(began); took < namesTimeout || i.Workload.Pod != "" {
		t.Errorf("got pod %q after %s, want none after %s", i.Workload.Pod, took, namesTimeout)
	}

	names = &lateNames{}
	nameWorkloads(context.Background(), &events.Inspection{Workload: &events.Workload{Unit: "web.service"}}, names)

	if names.count != 0 {
		t.Errorf("got %d look-ups of a unit, want none", names.count)
	}
}
