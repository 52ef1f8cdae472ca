// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// A filter by namespace or pod selects stalls by these names.
func TestStallLinesHaveTheNamesOfTheirWorkload(t *testing.T) {
	clock := host.NewBootClock()
	known := newFakeNames()
	known.learn(podUID, "checkout-7d9f")
	known.learn(appID, "app")

	stalls := &stallHistory{
		tree: resolve.NewNamedTree(tree(), known), clock: clock,
		envelope: func(kind string) events.Envelope { return events.Envelope{Kind: kind} },
	}
	stall := kernel.Stall{Meta: kernel.Meta{BootNS: 1e9, Current: kernel.Task{Cgroup: events.CgroupKey{ID: 2}}}}

	if w := stalls.line(stall).Task.Workload; w == nil || w.Pod != "checkout-7d9f" || w.Container != "app" {
		t.Errorf("got workload %+v, want container app of pod checkout-7d9f", w)
	}
}
