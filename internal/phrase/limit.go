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
			return "the limit of all " + ClipName(l.Workload.QoS) + " pods"
		}

		return "the limit of a QoS class"
	case events.LevelKubepods:
		return "the limit of all pods (node allocatable)"
	case events.LevelNode:
		return "the node's memory"
	}

	return "the limit of " + Cgroup(l.Workload, l.Cgroup)
}

// LimitOwner is whose limit it is, as the subject of a sentence: "pod shop/cart-0".
func LimitOwner(l *events.Limiter) string {
	switch l.Level {
	case events.LevelQoS:
		if l.Workload != nil && l.Workload.QoS != "" {
			return "the cgroup of all " + l.Workload.QoS + " pods"
		}

		return "the cgroup of a QoS class"
	case events.LevelKubepods:
		return "the cgroup of all pods"
	}

	if name := Place(l.Workload, nil); name != "" {
		if name == l.Workload.Unit {
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
