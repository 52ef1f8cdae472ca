// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Identity is a workload with its ids: "shop/cart-0/app (container 3f2a91c0… of pod
// 6ba0af16…)". It is empty where nothing is known. Whole keeps ids at full length.
func Identity(w *events.Workload, whole bool) string {
	if w == nil {
		return ""
	}

	id := ShortID
	if whole {
		id = Sanitize
	}

	var parts []string
	if w.Pod != "" {
		parts = append(parts, podIdentity(w, id))
	} else {
		parts = NonEmpty(containerIdentity(w, id), prefixed("pod ", id(w.PodUID)))
	}

	if len(parts) == 0 && w.Unit != "" {
		parts = append(parts, w.Unit)
	}

	if w.NodeContainerID != "" {
		parts = append(parts, "node container "+id(w.NodeContainerID))
	}

	return strings.Join(parts, " of ")
}

// podIdentity has the names first, as kubectl writes them, then the ids.
func podIdentity(w *events.Workload, id func(string) string) string {
	name := Join("/", w.Namespace, w.Pod, w.Container)

	ids := Join(" of ", prefixed("container ", id(w.ContainerID)), prefixed("pod ", id(w.PodUID)))
	if ids != "" {
		name += " (" + ids + ")"
	}

	return name
}

func containerIdentity(w *events.Workload, id func(string) string) string {
	if w.Container == "" {
		return prefixed("container ", id(w.ContainerID))
	}

	name := "container " + w.Container
	if w.ContainerID != "" {
		name += " (" + id(w.ContainerID) + ")"
	}

	return name
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}

	return prefix + s
}

// Container is a container's name, else the start of its id.
func Container(w *events.Workload) string {
	if w == nil {
		return ""
	}

	return cmp.Or(w.Container, ShortID(w.ContainerID))
}

// Pod is a pod's name, else the start of its UID.
func Pod(w *events.Workload) string {
	if w == nil {
		return ""
	}

	return cmp.Or(w.Pod, ShortID(w.PodUID))
}

// QualifiedPod is namespace/name of a pod, else the start of its UID.
func QualifiedPod(w *events.Workload) string {
	if w == nil || w.Pod == "" || w.Namespace == "" {
		return Pod(w)
	}

	return w.Namespace + "/" + w.Pod
}

// Place is where a process runs, in a sentence: "container app of pod shop/cart-0", by
// ids only where there is no name, or the unit. The pod is left out if it is the one of
// known, which the sentence has named before. It is empty where nothing is known.
func Place(w, known *events.Workload) string {
	if w == nil {
		return ""
	}

	container := prefixed("container ", Container(w))
	pod := prefixed("pod ", QualifiedPod(w))

	if container != "" && known != nil && w.PodUID != "" && w.PodUID == known.PodUID {
		pod = ""
	}

	return cmp.Or(Join(" of ", container, pod), w.Unit)
}

// Ancestor is a cgroup of a limiter's ancestry, or beside others, in as few words as
// distinguish it from its neighbours: the level, or the last name of its path.
func Ancestor(level events.Level, w *events.Workload, path string) string {
	switch level {
	case events.LevelQoS:
		if w != nil && w.QoS != "" {
			return w.QoS
		}
	case events.LevelService, events.LevelSlice, events.LevelCgroup:
		if path == "/" {
			return "root"
		}

		if path != "" {
			return lastName(path)
		}
	}

	return string(level)
}

// Sharer is a cgroup that shares a limit with others: the container or pod that it is,
// or [Ancestor].
func Sharer(s *events.Share) string {
	return cmp.Or(prefixed("container ", Container(s.Workload)), prefixed("pod ", Pod(s.Workload)),
		Ancestor(s.Level, s.Workload, s.Cgroup.Path))
}

// Cgroup is a cgroup in a sentence, by the innermost name that is known: "container
// app", "pod shop/cart-0", "backup.service", "cgroup /a/b". Long names are clipped.
func Cgroup(w *events.Workload, c *events.Cgroup) string {
	if w != nil {
		switch {
		case w.Container != "" || w.ContainerID != "":
			return "container " + ClipName(Container(w))
		case w.Pod != "" || w.PodUID != "":
			return "pod " + ClipName(QualifiedPod(w))
		case w.Unit != "":
			return ClipName(w.Unit)
		}
	}

	switch {
	case c == nil:
		return "a cgroup"
	case c.Path == "":
		return fmt.Sprintf("cgroup %d", c.ID)
	}

	return "cgroup " + ClipPath(c.Path)
}

// lastName is the part of a path after its last slash.
func lastName(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}
