// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Record routes a record of the kernel side. It implements probe.Handler.
func (t *Tracer) Record(r kernel.Record) error {
	switch r := r.(type) {
	case *kernel.Stall:
		return t.stall(*r)
	case kernel.GaveUp:
		t.stalls.add(r)
		return nil
	case kernel.StallCounts:
		return t.stallCounts(r)
	case kernel.LimitWrite:
		t.limits.saw(r)
		return nil
	case kernel.CgroupChange:
		t.cgroupChange(r)
	case kernel.RecordsLost:
		if err := t.recordsLost(r); err != nil {
			return err
		}
	}

	return t.correlator.Record(r)
}

func (t *Tracer) recordsLost(r kernel.RecordsLost) error {
	t.lost += r.Count

	if r.CgroupChanges {
		t.scans.want()
	}

	lost := &events.Lost{Envelope: t.envelope(events.KindLost), What: r.What, Count: r.Count}
	if r.Tenant.ID != 0 {
		path, _ := t.tree.Path(r.Tenant)
		lost.Cgroup = &events.Cgroup{CgroupKey: r.Tenant, Path: path}
	}

	return t.opts.Sink.Write(lost)
}

func (t *Tracer) stall(s kernel.Stall) error {
	t.stalls.recorder.Stall(s)

	if t.opts.StallLines {
		return t.opts.Sink.Write(t.stalls.line(s))
	}

	return nil
}

// stallCounts handles the counts, which are read once a second while tasks stall.
func (t *Tracer) stallCounts(c kernel.StallCounts) error {
	t.stalls.recorder.Counts(c)
	t.stalls.sample(c.BootNS, t.programs.look)
	t.host.sampleKubelet(t.clock.Time(c.BootNS))

	if err := t.warn(c.BootNS); err != nil {
		return err
	}

	if t.opts.Counts != nil {
		return t.opts.Counts(c)
	}

	return nil
}

func (t *Tracer) cgroupChange(c kernel.CgroupChange) {
	t.tree.Observe(c)

	switch c.Op {
	case "mkdir":
		if path, ok := t.tree.Path(c.Key); ok {
			t.programs.created(path, c.BootNS)
		}
	case "rmdir":
		t.stalls.removed(c.Key, c.BootNS)
	}
}

// Idle runs the work that is due between records. It implements probe.Handler.
func (t *Tracer) Idle(readNS uint64, caughtUp bool) (time.Duration, error) {
	if err := t.rescan(readNS); err != nil {
		return 0, err
	}

	t.clock.Sync()
	t.stalls.forget(readNS)
	t.programs.due(readNS)

	sleep, err := t.correlator.Idle(readNS, caughtUp)
	if err != nil {
		return 0, err
	}

	if err := t.oomWaiting(readNS, false); err != nil {
		return 0, err
	}

	if err := t.followUp.advance(readNS, caughtUp); err != nil {
		return 0, err
	}

	if t.opts.Idle != nil {
		if err := t.opts.Idle(); err != nil {
			return 0, err
		}
	}

	return sleep, t.stalls.err
}

// correlated handles the output of the correlator. It implements incident.Out.
type correlated struct{ t *Tracer }

func (c correlated) Headline(inc *events.Incident) error {
	h, ok := events.HeadlineOf(inc)
	if !ok {
		return nil
	}

	if err := c.t.opts.Sink.Write(h); err != nil {
		return err
	}

	c.t.programs.seen(inc)

	return nil
}

func (c correlated) Incident(inc *events.Incident) error {
	return c.t.followUp.incident(inc, kernel.BootNS())
}

func (c correlated) Update(change *events.Incident) error {
	keepCompletion(change, c.t.followUp.current(change.ID))
	return c.t.followUp.changed(change)
}

func (c correlated) Finding(_ time.Time, text string) error {
	return c.t.opts.Sink.Write(&events.Status{Envelope: c.t.envelope(events.KindStatus), Phase: events.PhaseAudit, Text: text})
}
