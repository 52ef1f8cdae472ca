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

// CriticalService returns the name of a cgroup if it is a critical service, else "": its
// unit, or its path where a system has no units, as Talos.
func (t *Tracer) CriticalService(key events.CgroupKey) string {
	place, path, _ := t.tree.Tree.Place(key)

	return criticalService(t.opts.CriticalServices, place.Workload, path)
}

// criticalService leaves out the services of guests and containers, which may have any name.
func criticalService(critical []string, w *events.Workload, path string) string {
	if path != "" && slices.Contains(critical, path) {
		return path
	}

	if w == nil || w.Unit == "" || w.Innermost() == events.LevelJob || inMachine(w) || !slices.Contains(critical, w.Unit) {
		return ""
	}

	return w.Unit
}

// inMachine reports whether a unit is within a container or a guest.
func inMachine(w *events.Workload) bool {
	return slices.ContainsFunc(w.Within, func(h events.Holder) bool {
		return h.Kind == events.HolderContainer || h.Kind == events.HolderGuest
	})
}
