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
	case kernel.CgroupChange:
		t.cgroupChange(r)
	case kernel.RecordsLost:
		t.lost += r.Count

		lost := &events.Lost{Envelope: t.envelope(events.KindLost), What: r.What, Count: r.Count}
		if err := t.opts.Sink.Write(lost); err != nil {
			return err
		}
	}

	return t.correlator.Record(r)
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
	t.stalls.sample(c.BootNS)
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

	if c.Op == "rmdir" {
		t.stalls.removed(c.Key, c.BootNS)
	}
}

// Idle runs the work that is due between records. It implements probe.Handler.
func (t *Tracer) Idle(bootNS uint64, caughtUp bool) (time.Duration, error) {
	select {
	case scan := <-t.scanned:
		t.merge(scan)
	default:
	}

	t.clock.Sync()
	t.stalls.forget(bootNS)

	sleep, err := t.correlator.Idle(bootNS, caughtUp)
	if err != nil {
		return 0, err
	}

	if err := t.followUp.advance(bootNS, caughtUp); err != nil {
		return 0, err
	}

	return sleep, t.stalls.err
}

// correlated handles the output of the correlator. It implements incident.Out.
type correlated struct{ t *Tracer }

func (c correlated) Headline(inc *events.Incident) error {
	if h, ok := events.HeadlineOf(inc); ok {
		return c.t.opts.Sink.Write(h)
	}

	return nil
}

func (c correlated) Incident(inc *events.Incident) error {
	return c.t.followUp.incident(inc, kernel.BootNS())
}

func (c correlated) Update(change *events.Incident) error {
	keepCompletion(change, c.t.followUp.current(change.ID))
	return c.t.followUp.update(change)
}

func (c correlated) Finding(_ time.Time, text string) error {
	return c.t.opts.Sink.Write(&events.Status{Envelope: c.t.envelope(events.KindStatus), Phase: events.PhaseAudit, Text: text})
}
