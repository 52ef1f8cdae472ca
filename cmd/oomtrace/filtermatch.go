// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// workload matches the fields that describe a workload against a single one: the name of
// one pod and the label of another do not match.
func (f *filter) workload(w *events.Workload) bool {
	if w == nil {
		w = &events.Workload{}
	}

	return (f.namespace == "" || f.namespace.match(w.Namespace)) &&
		(f.pod == "" || f.pod.match(w)) &&
		(f.container == "" || f.ofContainer(w)) &&
		(!f.selector.set() || f.selector.match(w)) &&
		(f.qos == "" || strings.EqualFold(w.QoS, f.qos)) &&
		(f.podUID == "" || sameUID(w.PodUID, f.podUID)) &&
		(f.unit == "" || f.ofUnit(w))
}

// ofContainer matches a container by its name or a prefix of its id, also one that the workload
// is within.
func (f *filter) ofContainer(w *events.Workload) bool {
	id := strings.ToLower(string(f.container))
	hasID := func(given string) bool { return f.container.isHex() && strings.HasPrefix(given, id) }

	return f.container.match(w.Container) || hasID(w.ContainerID) || hasID(w.NodeContainerID) ||
		slices.ContainsFunc(w.Within, func(h events.Holder) bool {
			return h.Kind == events.HolderContainer && (f.container.match(h.Name) || hasID(h.ID))
		})
}

// ofUnit matches a unit, also one that the workload is within.
func (f *filter) ofUnit(w *events.Workload) bool {
	is := func(unit string) bool { return f.unit.match(unit) || (f.unit + ".service").match(unit) }

	return is(w.Unit) || is(w.Service) || slices.ContainsFunc(w.Within, func(h events.Holder) bool {
		return h.Kind == events.HolderService && is(h.Name)
	})
}

// sameUID compares pod UIDs, which are written with dashes, or with the underscores of a
// systemd slice.
func sameUID(a, b string) bool {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	return a != "" && plain(a) == plain(b)
}

func anyWorkload(inc *events.Incident, match func(*events.Workload) bool) bool {
	if inc.Limiter != nil && inc.Limiter.Workload != nil && match(inc.Limiter.Workload) {
		return true
	}

	return anyProcess(inc, func(p *events.Process) bool { return p.Workload != nil && match(p.Workload) })
}

// anyProcess reports whether a victim matches, or a task that waits for memory.
func anyProcess(inc *events.Incident, match func(*events.Process) bool) bool {
	return slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return match(&v.Process) }) ||
		inc.Wait != nil && slices.ContainsFunc(inc.Wait.Tasks, func(p events.Process) bool { return match(&p) })
}

func (f *filter) below(c *events.Cgroup) bool { return c != nil && f.cgroup.contains(c.Path) }

func (f *filter) anyCgroup(inc *events.Incident) bool {
	return inc.Limiter != nil && f.below(inc.Limiter.Cgroup) ||
		anyProcess(inc, func(p *events.Process) bool { return f.below(p.Cgroup) })
}
