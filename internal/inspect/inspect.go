// SPDX-License-Identifier: Apache-2.0

// Package inspect examines a running cgroup, or the whole node: its nearest memory limits,
// the most likely victims of an OOM kill, or that tasks would wait instead (cgroup v1), and
// how far the node is from an eviction. It only reads files, and lists as unknown what it may not read.
package inspect

import (
	"context"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
)

// Options configure an inspection.
type Options struct {
	Reader  host.Reader
	Kubelet *kubelet.EvictionTracker // nil: the node has no kubelet
	// ProcessesHidden is whether /proc is that of another PID namespace: the processes that it has
	// are not those that the kernel chooses from.
	ProcessesHidden bool
	// Most bounds the number of candidates, that of shares, and that of nearest limits.
	Most int
	// Envelope is the envelope of the inspection without V and Kind. Its Time is the time
	// of the inspection.
	Envelope events.Envelope
}

// candidatesTimeout bounds the time for reading all processes.
const candidatesTimeout = 5 * time.Second

// Node inspects the whole node. It does not fail: what cannot be read is unknown.
func Node(ctx context.Context, o Options) *events.Inspection {
	i := &events.Inspection{Envelope: o.Envelope}
	o.node(i)
	limitByNode(i)
	o.nearestLimits(i)
	o.finish(ctx, i)

	return i
}

// Cgroup inspects the cgroup at a path of the hierarchy. It does not fail: what cannot be
// read is unknown.
func Cgroup(ctx context.Context, o Options, path string) *events.Inspection {
	i := &events.Inspection{Envelope: o.Envelope}
	cgroup := o.Reader.Cgroup(path)

	i.Cgroup = &cgroup
	if o.Reader.Place != nil {
		i.Level, i.Workload = o.Reader.Place(path)
	}
	i.Ladder, i.Unknown = o.Reader.Ancestry(path)
	i.Memory = o.Reader.Charge(path)
	i.Unknown = append(i.Unknown, missing(i.Memory)...)
	i.Events, i.OwnEvents = o.Reader.Events(path, false), o.Reader.Events(path, true)
	i.ScannedBytes, i.ScannedProactivelyBytes = o.Reader.Scanned(path)

	i.PSISome, i.PSIFull = o.Reader.PSI(path)
	if i.PSISome == nil {
		i.Unknown = append(i.Unknown, "psi_some", "psi_full") // cgroup v1 has none
	}

	o.node(i)
	limitByNode(i)
	o.limitByCgroup(i)
	o.limitByWaiting(ctx, i, path)
	o.finish(ctx, i)

	return i
}

// node adds the state of the node, and the parts of it that are unknown.
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
}

// missing returns the parts of a charge that are unknown: cgroup v1 does not split kernel
// memory.
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

// limitByNode makes the node the limiter. Its headroom is the available memory and the
// free swap.
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

// limitByCgroup makes the ancestor with the least headroom the limiter, if it has less
// than the node. Of two with the same headroom, the lower one is charged first.
func (o Options) limitByCgroup(i *events.Inspection) {
	for n := range i.Ladder {
		l := o.Reader.Limiter(&i.Ladder[n])
		if l.LimitBytes == nil || l.UsageBytes == nil {
			continue
		}

		room := *l.LimitBytes - min(*l.UsageBytes, *l.LimitBytes)
		if i.HeadroomBytes == nil || room < *i.HeadroomBytes {
			i.HeadroomBytes = &room
			limitBy(i, n, l)
		}
	}
}

func limitBy(i *events.Inspection, n int, l *events.Limiter) {
	i.Limiter = l
	for below := range i.Ladder {
		i.Ladder[below].Below = below < n
	}
}

// limitByWaiting makes the ancestor the limiter for whose limit tasks wait now, whatever
// its headroom: the charge that failed may have been larger, and it may be of another task.
func (o Options) limitByWaiting(ctx context.Context, i *events.Inspection, path string) {
	at, ok := o.Reader.OOMWaitLimiter(path)
	n := slices.IndexFunc(i.Ladder, func(r events.Rung) bool { return r.Cgroup.Path == at })

	if !ok || n < 0 {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, candidatesTimeout)
	defer cancel()

	waiters := o.Reader.OOMWaiters(ctx, at, o.Most)
	if len(waiters.Tasks) == 0 {
		return // a kill of an ancestor is under way
	}

	l := o.Reader.Limiter(&i.Ladder[n])
	if l.LimitBytes != nil && l.UsageBytes != nil {
		i.HeadroomBytes = new(*l.LimitBytes - min(*l.UsageBytes, *l.LimitBytes))
	}

	limitBy(i, n, l)

	i.Wait = &events.OOMWait{TasksLeftOut: waiters.LeftOut, TasksUnread: waiters.Unread}
	i.Unknown = append(i.Unknown, "wait.since")

	for _, t := range waiters.Tasks {
		i.Wait.Tasks = append(i.Wait.Tasks, o.process(t))
	}
}

func (o Options) process(t kernel.Task) events.Process {
	p := t.Process()

	if at, ok := o.Reader.CgroupOf(p.TID); ok {
		p.Cgroup = new(o.Reader.Cgroup(at))
		if o.Reader.Place != nil {
			_, p.Workload = o.Reader.Place(at)
		}
	}

	return p
}

// finish adds what depends on the limiter: shares, candidates and causes.
func (o Options) finish(ctx context.Context, i *events.Inspection) {
	i.V, i.Kind = events.Version, events.KindInspection

	path := ""
	if i.Limiter.Cgroup != nil {
		path = i.Limiter.Cgroup.Path
		i.Shares, i.SharesLeftOut = o.Reader.Shares(path, o.Most)
	}

	i.Limiter.ProtectedMinBytes, i.Limiter.ProtectedLowBytes = o.Reader.Protected(path)

	if o.ProcessesHidden {
		i.Unknown = append(i.Unknown, "candidates")
	} else {
		o.candidates(ctx, i, path)
	}

	slices.Sort(i.Unknown)

	i.Eviction = o.Kubelet.Now(i.Time)
	i.Causes = diagnose.Prospect(i)
}

func (o Options) candidates(ctx context.Context, i *events.Inspection, path string) {
	ctx, cancel := context.WithTimeout(ctx, candidatesTimeout)
	defer cancel()

	c, err := o.Reader.Candidates(ctx, path, o.Most)
	if err != nil {
		i.Unknown = append(i.Unknown, "candidates")
	}

	if i.Cgroup != nil && i.Cgroup.Path != path {
		o.addOwn(ctx, &c, i.Cgroup.Path)
	}

	i.Candidates, i.CandidatesLeftOut, i.CandidatesUnread = c.List, c.LeftOut, c.Unread
	if c.TotalPages > 0 {
		i.TotalPages = &c.TotalPages
	}

	i.PageSizeBytes = host.PageSize()
}

// mostOwn bounds how many processes of the inspected cgroup are listed behind likelier ones.
const mostOwn = 3

// addOwn adds the likeliest processes of the inspected cgroup, if its own limit does not make
// their badness another.
func (o Options) addOwn(ctx context.Context, all *host.Candidates, path string) {
	own, err := o.Reader.Candidates(ctx, path, min(mostOwn, o.Most))
	if err != nil || own.TotalPages != all.TotalPages {
		return
	}

	for _, c := range own.List {
		if c.Unkillable || slices.ContainsFunc(all.List, func(l events.Candidate) bool { return l.PID == c.PID }) {
			continue
		}

		at := slices.IndexFunc(all.List, func(l events.Candidate) bool { return l.Unkillable })
		if at < 0 {
			at = len(all.List)
		}

		all.List = slices.Insert(all.List, at, c)
		all.LeftOut = max(all.LeftOut-1, 0)
	}
}
