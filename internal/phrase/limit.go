// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"cmp"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Limit is a limit in a sentence, by its owner: "the pod's limit".
func Limit(l *events.Limiter) string {
	switch l.Level {
	case events.LevelContainer:
		return "the container's limit"
	case events.LevelPod:
		return "the pod's limit"
	case events.LevelQoS:
		if l.Workload != nil && l.Workload.QoS != "" {
			return Join(" in ", "the limit of all "+ClipName(l.Workload.QoS)+" pods", Within(l.Workload))
		}

		return "the limit of a QoS class"
	case events.LevelKubepods:
		return Join(" in ", "the limit of all pods (node allocatable)", Within(l.Workload))
	case events.LevelNode:
		return "the node's memory"
	}

	return "the limit of " + Cgroup(l.Level, l.Workload, l.Cgroup)
}

// LimitOwner is whose limit it is, as the subject of a sentence: "pod shop/cart-0".
func LimitOwner(l *events.Limiter) string {
	switch l.Level {
	case events.LevelQoS:
		return Join(" in ", qosOwner(l.Workload), Within(l.Workload))
	case events.LevelKubepods:
		return Join(" in ", "the cgroup of all pods", Within(l.Workload))
	case events.LevelCgroup:
		if l.Cgroup != nil && l.Cgroup.Path != "" {
			return Join(" of ", "cgroup "+cmp.Or(lastName(l.Cgroup.Path), l.Cgroup.Path), Place(l.Workload, nil))
		}
	case events.LevelService:
		if besidesContainers(l.Workload) {
			return "unit " + ClipPath(Sanitize(l.Workload.Unit)) + " of " + Place(l.Workload, nil)
		}
	}

	if name := Place(l.Workload, nil); name != "" {
		if l.Workload.Innermost() == events.LevelService && l.Workload.Unit != "" {
			return "unit " + name
		}

		return name
	}

	level := cmp.Or(string(l.Level), "cgroup")
	if l.Cgroup != nil && l.Cgroup.Path != "" {
		return level + " " + cmp.Or(lastName(l.Cgroup.Path), l.Cgroup.Path)
	}

	return "a " + level
}

// besidesContainers reports whether a unit is one of a pod beside its containers, such as that of
// a container's monitor.
func besidesContainers(w *events.Workload) bool {
	return w != nil && w.Unit != "" && w.Innermost() == events.LevelPod
}

func qosOwner(w *events.Workload) string {
	if w != nil && w.QoS != "" {
		return "the cgroup of all " + w.QoS + " pods"
	}

	return "the cgroup of a QoS class"
}

// Within is what a workload is within, the nearest first; empty if that is the node.
func Within(w *events.Workload) string {
	if w == nil {
		return ""
	}

	return holders(w, ShortID, containerOfPod(w, nil))
}
