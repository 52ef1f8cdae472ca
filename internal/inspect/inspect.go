// SPDX-License-Identifier: Apache-2.0

// Package inspect looks at what still lives: whose limit is the nearest, who would
// die if it came to a kill now, and how far the node is from an eviction. It reads
// files alone, and takes what it may read.
package inspect

import (
	"context"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kubelet"
)

// Options say with what to look.
type Options struct {
	Reader  host.Reader
	Kubelet *kubelet.EvictionTracker // nil: there is no kubelet
	// Rules find the causes that a kill would have now; nil: no causes.
	Rules func(*events.Inspection) []events.Cause
	// Most is how many candidates, and how many shares, are listed.
	Most int
	// Envelope is that of the answer, Kind apart. Its Time is the instant.
	Envelope events.Envelope
}

// maxTime bounds the look at the processes.
const maxTime = 5 * time.Second

// Node looks at the whole machine.
func Node(ctx context.Context, o Options) *events.Inspection {
	i := &events.Inspection{Envelope: o.Envelope}
	o.node(i)
	limitByNode(i)
	o.finish(ctx, i)

	return i
}

// Cgroup looks at one cgroup, by its path in the hierarchy.
func Cgroup(ctx context.Context, o Options, path string) *events.Inspection {
	i := &events.Inspection{Envelope: o.Envelope}
	cgroup := o.Reader.Cgroup(path)

	i.Cgroup = &cgroup
	if o.Reader.Place != nil {
		i.Level, i.Workload = o.Reader.Place(path)
	}
	i.Ladder, i.Unknown = o.Reader.Ladder(path)
	i.Memory = o.Reader.Charge(path)
	i.Unknown = append(i.Unknown, missing(i.Memory)...)
	i.Events, i.OwnEvents = o.Reader.Events(path, false), o.Reader.Events(path, true)

	i.PSISome, i.PSIFull = o.Reader.PSI(path)
	if i.PSISome == nil {
		i.Unknown = append(i.Unknown, "psi_some", "psi_full") // cgroup v1 has none
	}

	o.node(i)
	limitByNode(i)
	limitByCgroup(i, o.Reader.Layout)
	o.finish(ctx, i)

	return i
}

// node reads the state of the machine, and names what it lacks.
func (o Options) node(i *events.Inspection) {
	s := o.Reader.State()

	i.NodeState = s
	for name, missing := range map[string]bool{
		"available_bytes": s.AvailableBytes == nil, "psi_some": s.PSISome == nil, "psi_full": s.PSIFull == nil,
		"zones": len(s.Zones) == 0, "slabs": len(s.Slabs) == 0, "transparent_hugepage": s.TransparentHuge == "",
		"cgroups": o.Reader.Layout.MemoryMount == "",
	} {
		if missing {
			i.Unknown = append(i.Unknown, "node_state."+name)
		}
	}

	slices.Sort(i.Unknown)
}

// missing names the parts of a charge that are not told: cgroup v1 does not split
// the kernel's own memory.
func missing(m *events.Memory) []string {
	if m == nil {
		return []string{"memory"}
	}
	var names []string

	for name, bytes := range map[string]*uint64{
		"anon": m.AnonBytes, "file": m.FileBytes, "shmem": m.ShmemBytes, "slab": m.SlabBytes,
		"kernel_stack": m.KernelStackBytes, "pagetables": m.PagetablesBytes, "sock": m.SockBytes,
	} {
		if bytes == nil {
			names = append(names, "memory."+name+"_bytes")
		}
	}

	return names
}

// limitByNode takes the node for the limiter: it has what is available and free
// swap before it comes to a kill.
func limitByNode(i *events.Inspection) {
	i.Limiter = &events.Limiter{Level: events.LevelNode, Which: string(events.LevelNode)}

	s := i.NodeState
	if s.AvailableBytes == nil {
		return
	}

	room := *s.AvailableBytes
	if s.SwapFreeBytes != nil {
		room += *s.SwapFreeBytes
	}
	i.HeadroomBytes = &room

	if s.TotalBytes != nil {
		used := *s.TotalBytes - min(*s.AvailableBytes, *s.TotalBytes)
		i.Limiter.UsageBytes = &used
	}
}

// limitByCgroup takes the rung with the least headroom, if it has less than the
// node. Of equal ones the lowest is reached first.
func limitByCgroup(i *events.Inspection, layout host.Layout) {
	for n := range i.Ladder {
		r := &i.Ladder[n]
		if r.MaxBytes == nil || r.UsageBytes == nil {
			continue
		}

		room := *r.MaxBytes - min(*r.UsageBytes, *r.MaxBytes)
		if i.HeadroomBytes != nil && room >= *i.HeadroomBytes {
			continue
		}
		i.HeadroomBytes = &room

		i.Limiter = &events.Limiter{
			Level: r.Level, Which: "memory.max", LimitBytes: r.MaxBytes, UsageBytes: r.UsageBytes,
			SwapLimitBytes: r.SwapMaxBytes, SwapUsageBytes: r.SwapUsageBytes, Cgroup: &r.Cgroup, Workload: r.Workload,
		}
		if layout.MemoryVersion == 1 {
			i.Limiter.Which = "memory.limit_in_bytes"
		}

		for below := range i.Ladder {
			i.Ladder[below].Below = below < n
		}
	}
}

// finish adds what depends on the limiter, and what an incident needs.
func (o Options) finish(ctx context.Context, i *events.Inspection) {
	i.V, i.Kind = events.Version, events.KindInspection

	path := ""
	if i.Limiter.Cgroup != nil {
		path = i.Limiter.Cgroup.Path
		i.Shares, i.SharesLeftOut = o.Reader.Shares(path, o.Most)
	}

	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()

	c, err := o.Reader.Candidates(ctx, path, o.Most)
	if err != nil {
		i.Unknown = append(i.Unknown, "candidates")
	}

	i.Candidates, i.CandidatesLeftOut, i.CandidatesUnread = c.List, c.LeftOut, c.Unread
	if c.TotalPages > 0 {
		i.TotalPages = &c.TotalPages
	}

	i.Eviction = o.Kubelet.Now(i.Time)
	if o.Rules != nil {
		i.Causes = o.Rules(i)
	}
}
