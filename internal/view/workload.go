// SPDX-License-Identifier: Apache-2.0

package view

import (
	"maps"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// owner is the workload in words; short is for identities beside which there is
// little space.
func owner(w *events.Workload, wide bool) string {
	if w == nil {
		return ""
	}

	id := shortID
	if wide {
		id = Sanitize
	}

	var parts []string
	if w.Pod != "" {
		parts = append(parts, byName(w, id))
	} else {
		parts = appendSet(parts, named("container", w.Container, id(w.ContainerID)), named("pod", "", id(w.PodUID)))
	}

	if len(parts) == 0 && w.Unit != "" {
		parts = append(parts, w.Unit)
	}

	if w.NodeContainerID != "" {
		parts = append(parts, "node container "+id(w.NodeContainerID))
	}

	return strings.Join(parts, " of ")
}

// byName is what people call it, namespace/pod/container, and the ids after.
func byName(w *events.Workload, id func(string) string) string {
	name := workloadName(w)

	var ids []string
	if w.ContainerID != "" {
		ids = append(ids, "container "+id(w.ContainerID))
	}

	if w.PodUID != "" {
		ids = append(ids, "pod "+id(w.PodUID))
	}

	if len(ids) > 0 {
		name += " (" + strings.Join(ids, " of ") + ")"
	}

	return name
}

// workloadName is namespace/pod/container, as far as they are known; empty
// without a pod's name.
func workloadName(w *events.Workload) string {
	if w == nil || w.Pod == "" {
		return ""
	}

	return strings.Join(appendSet(nil, w.Namespace, w.Pod, w.Container), "/")
}

func named(what, name, id string) string {
	switch {
	case name == "" && id == "":
		return ""
	case name == "":
		return what + " " + id
	case id == "":
		return what + " " + name
	}

	return what + " " + name + " (" + id + ")"
}

func imageOf(w *events.Workload) string {
	if w.Image == "" {
		return ""
	}

	return "image " + w.Image
}

func restarts(w *events.Workload) string {
	if w.RestartCount == nil {
		return ""
	}

	return plural(uint64(*w.RestartCount), "restart")
}

func labels(w *events.Workload) string {
	if len(w.Labels) == 0 {
		return ""
	}

	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(w.Labels)) {
		pairs = append(pairs, key+"="+w.Labels[key])
	}

	return "labels " + strings.Join(pairs, " ")
}
