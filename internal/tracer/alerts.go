// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// warn reports the early warnings that are due.
func (t *Tracer) warn(nowNS uint64) error {
	if t.alerts == nil {
		return nil
	}

	for _, w := range t.alerts.Check(nowNS, t.stalls.recorder) {
		place, path, _ := t.tree.Place(w.Cgroup)

		if err := t.opts.Sink.Write(&events.PressureLine{
			Envelope: t.envelope(events.KindPressure), What: w.What,
			Cgroup: events.Cgroup{CgroupKey: w.Cgroup, Path: path}, Workload: place.Workload,
			WindowNS: t.opts.Alerts.WindowNS, TotalNS: w.StalledNS, Count: w.Count, Fruitless: w.NoProgress,
		}); err != nil {
			return err
		}
	}

	return nil
}

// CriticalService returns the unit of a cgroup if it is a critical service, else "".
func (t *Tracer) CriticalService(key events.CgroupKey) string {
	place, path, _ := t.tree.Tree.Place(key)

	unit := ""

	switch {
	case path == "/init.scope":
		unit = "init.scope"
	case place.Workload != nil:
		unit = place.Workload.Unit
	}

	if slices.Contains(t.opts.CriticalServices, unit) {
		return unit
	}

	return ""
}
