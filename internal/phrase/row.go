// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"cmp"

	"github.com/oomtrace/oomtrace/internal/events"
)

// RowName is what a row of a table about the cgroup is called: the container as
// namespace/pod/container, a pod, unit, guest or job by its name, each part by its id where
// it has no name; any other cgroup by its path. It is sanitized and as long as the names are.
func RowName(level events.Level, w *events.Workload, path string) string {
	name := ""

	if w != nil {
		switch level {
		case events.LevelContainer:
			name = containerRow(w)
		case events.LevelPod:
			name = cmp.Or(prefixed("pod ", unnamedPod(w)), QualifiedPod(w))
		case events.LevelService, events.LevelGuest, events.LevelJob:
			name = Join(" in ", Ancestor(level, w, path), Within(w))
		}
	}

	return Sanitize(cmp.Or(name, ShortIDs(path), "unknown path"))
}

func containerRow(w *events.Workload) string {
	if pod, container := QualifiedPod(w), Container(w); pod != "" && container != "" {
		return pod + "/" + container
	}

	return Join(" in ", prefixed("container ", Container(w)), Within(w))
}

// unnamedPod is the id of a pod without a name.
func unnamedPod(w *events.Workload) string {
	if w.Pod != "" {
		return ""
	}

	return ShortID(w.PodUID)
}
