// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/usage"
)

const mib = 1 << 20

// fixed is a source with one snapshot.
type fixed struct{ snapshot *usage.Snapshot }

func (f fixed) Snapshot(time.Time, []uint64) *usage.Snapshot { return f.snapshot }
func (f fixed) Stalls(kernel.StallCounts)                    {}

var noon = time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC)

// tree builds a snapshot.
type tree struct{ usage.Snapshot }

// add adds a cgroup below a parent (-1: the root), with numbers in MiB, a limit of 0 for none
// and the growth per second in KiB. It returns its index.
func (t *tree) add(parent int, name string, used, limit, growth float64, names *events.Workload) int {
	path := "/" + name
	if parent >= 0 {
		path = t.Cgroups[parent].Path + path
	}

	place := resolve.ParsePath(path)
	if w := place.Workload; w != nil && names != nil {
		w.Namespace, w.Pod, w.Container = names.Namespace, names.Pod, names.Container
	}

	c := usage.Cgroup{
		Path: path, ID: uint64(1000 + len(t.Cgroups)), Parent: parent, Level: place.Level, Workload: place.Workload,
		UsedBytes: usage.Known(uint64(used * mib)), LimitBytes: usage.Known(uint64(limit * mib)), Limiter: -1,
		Growth: usage.Known(growth * 1024), Stalled: usage.Known(0.0), High: usage.Known(0.0),
	}
	if limit == 0 {
		c.LimitBytes.V = usage.NoLimit
	}

	if parent >= 0 {
		c.Limiter, c.HeadroomBytes = t.Cgroups[parent].Limiter, t.Cgroups[parent].HeadroomBytes
	}

	if room := c.LimitBytes.V - c.UsedBytes.V; limit > 0 && (c.Limiter < 0 || room <= c.HeadroomBytes) {
		c.Limiter, c.HeadroomBytes = len(t.Cgroups), room
	}
	t.Cgroups = append(t.Cgroups, c)
	at := len(t.Cgroups) - 1

	if l := c.Limiter; l >= 0 && t.Cgroups[l].Growth.V > 0 {
		seconds := float64(c.HeadroomBytes) / t.Cgroups[l].Growth.V
		t.Cgroups[at].ToLimit = usage.Known(time.Duration(seconds * float64(time.Second)))
	}
	t.Read = len(t.Cgroups)

	return at
}

func id(of byte) string { return fmt.Sprintf("%064x", of) }

// busyNode is a node with pods, units and what has no limit.
func busyNode() *usage.Snapshot {
	t := &tree{usage.Snapshot{Time: noon, Version: 2, Traced: true, TracedHigh: true, Node: usage.Node{
		TotalBytes: usage.Known[uint64](16 << 30), AvailableBytes: usage.Known[uint64](6 << 30),
		SwapTotalBytes: usage.Known[uint64](0), SwapFreeBytes: usage.Known[uint64](0), PSISome: usage.Known(0.0312),
	}}}

	pods := t.add(-1, "kubepods.slice", 3000, 0, 0, nil)
	burstable := t.add(pods, "kubepods-burstable.slice", 3000, 0, 0, nil)

	pod := func(n byte, namespace, name string, used, limit, growth float64, containers ...string) {
		uid := fmt.Sprintf("%08x_0000_0000_0000_%012x", n, n)
		at := t.add(burstable, "kubepods-burstable-pod"+uid+".slice", used, limit, growth,
			&events.Workload{Namespace: namespace, Pod: name})

		for i, container := range containers {
			t.add(at, "cri-containerd-"+id(n*16+byte(i))+".scope", used/float64(len(containers)), limit*2, growth,
				&events.Workload{Namespace: namespace, Pod: name, Container: container})
		}
	}
	pod(1, "shop", "cart-0", 62.5, 64, 300, "app", "sidecar")
	pod(2, "shop", "checkout-7d9c5b6f4-x2x9q", 410, 512, 900, "app")
	pod(3, "monitoring", "prometheus-0", 1800, 2048, -200, "prometheus", "config-reloader")

	system := t.add(-1, "system.slice", 900, 0, 2, nil)
	t.add(system, "web.service", 39.9, 40, 0, nil)
	t.add(system, "database.service", 300, 1024, 1, nil)
	t.add(system, "sshd.service", 6.5, 0, 0, nil)

	for i := range 12 {
		t.add(system, fmt.Sprintf("worker@%d.service", i), 20+float64(i), 256, 0, nil)
	}

	t.add(-1, "odd\x1b[31mname", 1, 0, 0, nil)

	t.Cgroups[3].Stalled, t.Cgroups[3].High = usage.Known(0.5), usage.Known(0.125)
	t.Cgroups[3].PSISome, t.Cgroups[3].Refaults = usage.Known(0.31), usage.Known(1234.0)
	t.Cgroups[11].Stalled = usage.Known(12.345)
	t.Cgroups[len(t.Cgroups)-2].UsedBytes = usage.Value[uint64]{}

	return &t.Snapshot
}

// kill lines are an incident, then what came of it.
func killLines() []events.Line {
	w := &events.Workload{Namespace: "shop", Pod: "cart-0", Container: "app", ContainerID: id(16), PodUID: "00000001-0000-0000-0000-000000000001"}
	cgroup := &events.Cgroup{CgroupKey: events.CgroupKey{ID: 1004}, Path: "/kubepods.slice/cart"}
	limit := uint64(64 * mib)

	incident := &events.Incident{
		Envelope: events.Envelope{V: 1, Kind: events.KindIncident, Time: noon.Add(-5 * time.Second)}, ID: "b-1", Scope: events.ScopeMemcg,
		Outcome: events.OutcomeKilled,
		Limiter: &events.Limiter{Level: events.LevelPod, LimitBytes: &limit, UsageBytes: &limit, Workload: w, Cgroup: cgroup},
		Victims: []events.Victim{{Process: events.Process{PID: 466, TID: 466, Comm: "hog", Cgroup: cgroup, Workload: w}}},
	}
	explained := *incident
	explained.Causes = []events.Cause{{ID: "ancestor_limit", Text: "The pod's limit was hit."}}

	other := *incident
	other.ID, other.Time = "b-2", noon.Add(-2*time.Second)

	other.Victims = append([]events.Victim(nil), incident.Victims...)
	other.Victims[0].Comm, other.Victims[0].PID = "py\x1b[2Jthon", 700
	other.Victims = append(other.Victims, events.Victim{Process: events.Process{PID: 701, Comm: "python"}})

	return []events.Line{
		&events.Status{Phase: events.PhaseStart, Tier: events.TierFentry},
		&events.Headline{Time: incident.Time, ID: "b-1", Scope: events.ScopeMemcg, PID: 466, Comm: "hog"}, incident,
		&events.Update{Change: &events.Incident{ID: "b-1"}, Before: incident, After: &explained},
		&other, &events.Headline{Time: noon.Add(-time.Second), ID: "b-3", PID: 900, Comm: "java"},
		&events.Lost{What: "stall", Count: 3},
	}
}

// options are those of a screen that shows the busy node.
func options() Options {
	return Options{
		Env: []string{"TERM=xterm-256color"}, Node: "node-1", Source: fixed{busyNode()}, Feed: NewFeed(), Interval: time.Hour,
		Order: "headroom", By: "cgroup", Location: time.UTC,
		Block: func(inc *events.Incident, width int) string {
			return fmt.Sprintf("\x1b[1mblock of %s\x1b[0m in %d columns\n%s", inc.ID, width, inc.Limiter.Level)
		},
	}
}
