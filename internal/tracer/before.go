// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/probe"
)

// outlet hands on what the correlator finds, and remembers kills that want their
// past.
type outlet struct {
	Sink
	t *Tracer
}

func (o outlet) Incident(inc *events.Incident) error {
	if o.t.opts.Stalls && inc.Outcome == events.OutcomeKilled {
		o.t.kills = append(o.t.kills, inc)
	}

	if o.t.naming != nil {
		o.t.naming.hold(inc, probe.BootNS())
	}

	if err := o.Sink.Incident(inc); err != nil {
		return err
	}

	o.t.explainer.Take(inc)

	if diagnose.Explicable(inc) && !o.t.after.after(inc) {
		o.t.unlooked = append(o.t.unlooked, inc.ID)
	}

	return nil
}

func (o outlet) Update(inc *events.Incident) error {
	if o.t.naming != nil {
		o.t.naming.merge(inc)
	}

	o.t.explainer.Take(inc)

	return o.Sink.Update(inc)
}

// past gives kills what stalled before them. It comes after the verdict, as an
// update: reading the counts takes system calls.
func (t *Tracer) past() error {
	if len(t.kills) == 0 {
		return nil
	}

	counts, err := t.probe.Stalls()
	if err != nil {
		return err
	}

	if counts != nil {
		t.flight.Counts(*counts)
	}
	kills := t.kills

	t.kills = nil
	for _, inc := range kills {
		if err := t.told(&events.Incident{ID: inc.ID, Before: t.before(inc)}); err != nil {
			return err
		}
	}

	return nil
}

// before looks back at the limiter's subtree; where no cgroup limited, at the
// whole node.
func (t *Tracer) before(inc *events.Incident) *events.Before {
	in := func(flight.Who) bool { return true }

	if of := whole(inc); of != nil {
		limiter := *of
		below := func(key events.CgroupKey) bool {
			path, ok := t.tree.Path(key)
			return key == limiter.CgroupKey || ok && limiter.Path != "" && strings.HasPrefix(path, limiter.Path+"/")
		}
		// A task from elsewhere may pay for the limit: who lowers it.
		in = func(who flight.Who) bool { return below(who.Cgroup) || below(who.Owner) }
	}
	at := t.clock.BootNS(inc.Time)
	past := t.flight.Before(at, limiterKey(inc), in)
	out := &events.Before{WindowNS: flight.Seconds * 1e9, Stalls: []events.StallSum{}, Unseen: t.unseen()}

	page := uint64(t.page)
	for _, s := range past.Stalls {
		out.Stalls = append(out.Stalls, events.StallSum{
			What: string(s.What), Count: s.Count, Fruitless: s.Fruitless, TotalNS: s.TotalNS, MaxNS: s.MaxNS, ReclaimedBytes: s.ReclaimedPages * page,
		})
	}

	for _, s := range past.Seconds {
		row := events.StallSecond{BeforeNS: s.BeforeNS, Count: s.Count, TotalNS: s.TotalNS, HighNS: s.HighNS, ReclaimedBytes: s.ReclaimedPages * page}
		if s.Sample != nil {
			row.UsageBytes, row.LimitBytes = s.Sample.UsageBytes, s.Sample.LimitBytes
			row.MaxEvents, row.HighEvents = s.Sample.MaxEvents, s.Sample.HighEvents
			row.PSISomeNS, row.PSIFullNS = nanoseconds(s.Sample.PSISomeUS), nanoseconds(s.Sample.PSIFullUS)
		}

		out.Timeline = append(out.Timeline, row)
	}

	for _, s := range past.Long {
		line := t.stallLine(s)
		out.Longest = append(out.Longest, events.LongStall{
			What: line.What, BeforeNS: at - min(s.BootNS, at), DurationNS: line.DurationNS, ReclaimedBytes: line.ReclaimedBytes,
			Task: line.Task, Limiter: line.Limiter,
		})
	}
	out.Guardians = t.guardians(at)

	if limiterKey(inc).ID == 0 {
		for _, n := range past.Kswapd {
			out.Kswapd = append(out.Kswapd, events.Kswapd{Node: n.Node, Wakeups: n.Wakeups, AwakeNS: n.AwakeNS})
		}
		out.GaveUp = t.gaveUpOf(inc, at)
	}

	return out
}

// guardians sums up the stalls of the node's services before an instant.
func (t *Tracer) guardians(atNS uint64) []events.GuardianStall {
	units := make(map[string]uint64)

	for key, sums := range t.flight.Recent(atNS, flight.Seconds*1e9) {
		unit := t.Guardian(key)
		if unit == "" {
			continue
		}
		units[unit] += alert.Stalled(sums)
	}

	var out []events.GuardianStall
	for unit, total := range units {
		out = append(out, events.GuardianStall{Unit: unit, TotalNS: total})
	}

	slices.SortFunc(out, func(a, b events.GuardianStall) int {
		return cmp.Or(cmp.Compare(b.TotalNS, a.TotalNS), cmp.Compare(a.Unit, b.Unit))
	})

	return out
}

// gaveUpWithinNS is how old an answer may be to be the reason of a kill: the OOM
// killer is called in the same round.
const gaveUpWithinNS = 10e9

// gaveUpOf is why the trigger of a kill found no memory.
func (t *Tracer) gaveUpOf(inc *events.Incident, atNS uint64) *events.GaveUpLine {
	if inc.Trigger == nil {
		return nil
	}
	page := uint64(t.page)

	near := func(ns uint64) bool { return max(atNS, ns)-min(atNS, ns) < gaveUpWithinNS }
	for _, g := range slices.Backward(t.gaveUp) {
		if int(g.Current.TID) != inc.Trigger.TID || !near(g.BootNS) {
			continue
		}

		var line events.GaveUpLine
		if r := g.Reclaim; r != nil && near(r.BootNS) {
			line.Reclaim = &events.ReclaimAnswer{
				BeforeNS: atNS - min(r.BootNS, atNS), Order: r.Order, Zone: r.Zone, Node: r.Node, ReclaimableBytes: r.ReclaimablePages * page,
				AvailableBytes: r.AvailablePages * page, MinWatermarkBytes: r.MinWatermarkPages * page,
				NoProgressLoops: r.NoProgressLoops, WatermarkOK: r.WatermarkOK,
			}
		}

		if c := g.Compact; c != nil && near(c.BootNS) {
			line.Compact = &events.CompactAnswer{
				BeforeNS: atNS - min(c.BootNS, atNS), Order: c.Order, Priority: c.Priority, Result: c.Result,
				Retries: c.Retries, MaxRetries: c.MaxRetries, Again: c.Again,
			}
		}

		if line.Reclaim != nil || line.Compact != nil {
			return &line
		}
	}

	return nil
}

func nanoseconds(us *uint64) *uint64 {
	if us == nil {
		return nil
	}
	ns := *us * 1000

	return &ns
}

// whole is the cgroup that a kill is about, nil for the node: whose limit was hit,
// or where the victim of a user was.
func whole(inc *events.Incident) *events.Cgroup {
	switch {
	case inc.Limiter != nil:
		return inc.Limiter.Cgroup
	case inc.Scope == events.ScopeUser && len(inc.Victims) > 0:
		return inc.Victims[0].Cgroup
	}

	return nil
}

func limiterKey(inc *events.Incident) events.CgroupKey {
	if of := whole(inc); of != nil {
		return of.CgroupKey
	}

	return events.CgroupKey{}
}

// samplesASecond bounds the files that are read while many cgroups stall.
const samplesASecond = 64

// sample reads the files of cgroups in which something stalled just now. Quiet ones
// cost nothing.
func (t *Tracer) sample(atNS uint64) {
	for _, key := range t.flight.Active(atNS, samplesASecond) {
		path, ok := t.tree.Path(key)
		if !ok {
			continue
		}
		s := host.SampleCgroup(t.layout, path)
		t.flight.Sample(key, flight.Sample{
			BootNS: atNS, UsageBytes: s.UsageBytes, LimitBytes: s.LimitBytes,
			PSISomeUS: s.PSISomeUS, PSIFullUS: s.PSIFullUS, MaxEvents: s.MaxEvents, HighEvents: s.HighEvents,
		})
	}
}

// unseen returns the kinds of stall that no attached hook reports.
func (t *Tracer) unseen() []string {
	var names []string
	for _, kind := range t.probe.UnseenStalls() {
		names = append(names, string(kind))
	}

	return names
}

// stallLine makes the published line of a stall.
func (t *Tracer) stallLine(s kernel.Stall) *events.StallLine {
	process := func(task kernel.Task) events.Process {
		p := events.Process{PID: int(task.TGID), TID: int(task.TID), Comm: task.LeaderComm, IsKernel: task.Kthread}
		if task.Comm != task.LeaderComm {
			p.Thread = task.Comm
		}
		p.Cgroup = t.cgroup(task.Cgroup)
		place, _, _ := t.tree.Place(task.Cgroup)
		p.Workload = place.Workload

		return p
	}

	return &events.StallLine{
		Envelope: events.Envelope{
			V: events.Version, Kind: events.KindStall, Time: t.clock.Time(s.BootNS).UTC(), BootID: t.ident.bootID, Node: t.ident.node,
		},
		What: string(s.What), DurationNS: s.DurationNS, ReclaimedBytes: s.ReclaimedPages * uint64(t.page),
		Task: process(s.Current), Limiter: t.cgroup(s.Owner),
	}
}

func (t *Tracer) cgroup(key events.CgroupKey) *events.Cgroup {
	if key.ID == 0 {
		return nil
	}
	path, _ := t.tree.Path(key)

	return &events.Cgroup{CgroupKey: key, Path: path}
}

// warn gives out what the watch finds due.
func (t *Tracer) warn(nowNS uint64) error {
	if t.watch == nil {
		return nil
	}

	for _, w := range t.watch.Check(nowNS, t.flight) {
		place, path, _ := t.places().Place(w.Cgroup)
		if err := t.opts.Sink.Pressure(&events.PressureLine{
			Envelope: t.envelope(events.KindPressure), What: w.What,
			Cgroup: events.Cgroup{CgroupKey: w.Cgroup, Path: path}, Workload: place.Workload,
			WindowNS: t.opts.Pressure.WindowNS, TotalNS: w.StalledNS, Count: w.Count, Fruitless: w.Fruitless,
		}); err != nil {
			return err
		}
	}

	return nil
}

// Guardian names the service of a cgroup if the node depends on it.
func (t *Tracer) Guardian(key events.CgroupKey) string {
	place, path, _ := t.tree.Place(key)
	unit := ""

	switch {
	case path == "/init.scope":
		unit = "init.scope"
	case place.Workload != nil:
		unit = place.Workload.Unit
	}

	if slices.Contains(t.opts.Guardians, unit) {
		return unit
	}

	return ""
}
