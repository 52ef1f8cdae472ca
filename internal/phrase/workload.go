// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Identity is a workload with its ids, and what it is within: "shop/cart-0/app (container
// 3f2a91c0… of pod 6ba0af16…)", "sshd.service in LXC container web1". It is empty where
// nothing is known. Whole keeps ids at full length.
func Identity(w *events.Workload, whole bool) string {
	if w == nil {
		return ""
	}

	id := ShortID
	if whole {
		id = Sanitize
	}

	return Join(" in ", innermost(w, id), holders(w, id, containerOrPod(w, id)))
}

// Innermost is [Place] without what the workload is within.
func Innermost(w *events.Workload) string {
	if w == nil {
		return ""
	}

	return innermost(w, ShortID)
}

// innermost is the innermost workload with its ids.
func innermost(w *events.Workload, id idPhrase) string {
	switch w.Innermost() {
	case events.LevelJob:
		return job(w.Job, id)
	case events.LevelGuest:
		return guest(w.Guest.System, w.Guest.Name)
	case events.LevelService:
		return unit(w)
	}

	return containerOrPod(w, id)
}

func containerOrPod(w *events.Workload, id idPhrase) string {
	if w.Pod != "" {
		return podIdentity(w, id)
	}

	return Join(" of ", containerIdentity(w, id), prefixed("pod ", id(w.PodUID)))
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
		if strings.Contains(w.ContainerID, "-") {
			return "container " + shortContainerID(w.ContainerID)
		}

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

	return cmp.Or(w.Container, shortContainerID(w.ContainerID))
}

// shortContainerID keeps the number of a container of Fargate, whose id starts with that of
// its task.
func shortContainerID(id string) string {
	task, number, ok := strings.Cut(id, "-")
	if !ok {
		return ShortID(id)
	}

	return ShortID(task) + "-" + ClipName(Sanitize(number))
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
// ids only where there is no name; or the unit, job or guest; and what that is within. The
// pod is left out if it is the one of known, which the sentence has named before. It is
// empty where nothing is known.
func Place(w, known *events.Workload) string {
	if w == nil {
		return ""
	}

	name := innermost(w, ShortID)
	if level := w.Innermost(); level == events.LevelContainer || level == events.LevelPod {
		name = containerOfPod(w, known)
	}

	return Join(" in ", name, holders(w, ShortID, containerOfPod(w, known)))
}

// containerOfPod leaves out the pod if it is the one of known.
func containerOfPod(w, known *events.Workload) string {
	container, pod := prefixed("container ", Container(w)), prefixed("pod ", QualifiedPod(w))

	if container != "" && known != nil && w.PodUID != "" && w.PodUID == known.PodUID {
		pod = ""
	}

	return Join(" of ", container, pod)
}

// Ancestor is a cgroup of a limiter's ancestry, or beside others, in as few words as
// distinguish it from its neighbours: the level, or the last name of its path.
func Ancestor(level events.Level, w *events.Workload, path string) string {
	switch level {
	case events.LevelQoS:
		if w != nil && w.QoS != "" {
			return w.QoS
		}
	case events.LevelGuest, events.LevelJob:
		switch name := lastName(path); {
		case w == nil:
		case name == "ns" || name == "payload" || name == "user": // the child that holds all of it
			return name
		case w.Guest != nil:
			return guest(w.Guest.System, w.Guest.Name)
		case w.Job != nil:
			return jobPart(w.Job, ShortID)
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
	switch s.Level {
	case events.LevelContainer:
		return cmp.Or(prefixed("container ", Container(s.Workload)), string(s.Level))
	case events.LevelPod:
		return cmp.Or(prefixed("pod ", Pod(s.Workload)), string(s.Level))
	}

	return Ancestor(s.Level, s.Workload, s.Cgroup.Path)
}

// Cgroup is a cgroup in a sentence, by the innermost name that is known, and what that is
// within: "container app", "pod shop/cart-0", "backup.service", "cgroup /a/b". Long names
// are clipped. The level is that of the cgroup itself; it is empty for the cgroup of a
// process, which is named by the workload that it is part of.
func Cgroup(level events.Level, w *events.Workload, c *events.Cgroup) string {
	name := clippedName(w)

	if name != "" && level == events.LevelCgroup && c != nil && c.Path != "" {
		return "cgroup " + ClipName(lastName(c.Path)) + " of " + name
	}

	if level == events.LevelService && besidesContainers(w) {
		return "unit " + ClipName(w.Unit) + " of " + name
	}

	switch {
	case name != "":
		return name
	case c == nil:
		return "a cgroup"
	case c.Path == "":
		return fmt.Sprintf("cgroup %d", c.ID)
	}

	return "cgroup " + ClipPath(c.Path)
}

func clippedName(w *events.Workload) string {
	if w == nil {
		return ""
	}
	name := ""

	switch w.Innermost() {
	case events.LevelContainer:
		name = "container " + ClipName(Container(w))
	case events.LevelPod:
		name = "pod " + ClipName(QualifiedPod(w))
	default:
		name = innermost(w, ShortID)
	}

	if name == "" {
		return ""
	}

	return Join(" in ", name, holders(w, ShortID, "container "+ClipName(Container(w))))
}

// Short is a workload in one word, to be distinguished from its neighbours: the name of the
// container, pod, unit, guest or job; empty where nothing is known.
func Short(w *events.Workload) string {
	switch w.Innermost() {
	case events.LevelJob:
		return wholeJob(w.Job.Manager, w.Job.Kind, w.Job.ID, ShortID)
	case events.LevelGuest:
		return guest(w.Guest.System, w.Guest.Name)
	case events.LevelService:
		return cmp.Or(w.Unit, w.Service)
	case events.LevelContainer:
		return Container(w)
	case events.LevelPod:
		return Pod(w)
	}

	return ""
}

// lastName is the part of a path after its last slash.
func lastName(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// Address is a workload for a column, as users of kubectl or systemctl type it: namespace/pod and
// container, unit, guest or job; else the last name of the cgroup's path. It is empty where
// nothing is known. Both may be nil.
func Address(w *events.Workload, c *events.Cgroup) string {
	switch w.Innermost() {
	case events.LevelContainer, events.LevelPod:
		return Join("/", QualifiedPod(w), Container(w))
	case events.LevelService, events.LevelGuest, events.LevelJob:
		return Short(w)
	}

	if c == nil {
		return ""
	}

	return cmp.Or(lastName(c.Path), c.Path)
}
