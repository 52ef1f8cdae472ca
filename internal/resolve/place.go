// SPDX-License-Identifier: Apache-2.0

package resolve

import "github.com/oomtrace/oomtrace/internal/events"

// maxHolders bounds Workload.Within. The outermost count: whoever owns an inner level
// chose the names below it.
const maxHolders = 8

// placeOf makes a place of the levels of a path. With plain, the cgroup is one below the
// last level.
func placeOf(levels []level, plain bool) Place {
	place := Place{Level: events.LevelCgroup}
	if len(levels) == 0 {
		return place
	}

	if !plain {
		place.Level = publishedLevels[levels[len(levels)-1].kind]
	}

	var n naming
	for i := range levels {
		n.add(&levels[i])
	}

	if n.named() {
		n.w.Source = SourcePath
		place.Workload = new(n.w)
	}

	return place
}

// naming makes a workload of levels, which are added outermost first.
type naming struct {
	w events.Workload
	// current is the last level that what follows is within, a service, container, guest
	// or job; its kind is empty if there is none.
	current events.Holder
	// service is the innermost service of the machine so far.
	service string
}

// named reports whether the path names something, or something that contains it.
func (n *naming) named() bool {
	w := &n.w

	return w.PodUID != "" || w.ContainerID != "" || w.QoS != "" || w.Unit != "" || w.Service != "" || w.Guest != nil || w.Job != nil ||
		w.NodeContainerID != "" || len(w.Within) > 0
}

func (n *naming) add(l *level) {
	switch l.kind {
	case kindSlice:
		n.hold()
		n.w.Unit = l.name
	case kindService:
		n.unit(l)
	case kindKubepods:
		n.kubepods()
	case kindQoS:
		n.w.QoS = l.name
	case kindPod:
		n.pod(l)
	case kindContainer:
		n.container(l)
	case kindGuest:
		n.guest(l)
	case kindJob:
		n.job(l)
	}
}

// hold makes the current level a holder of the next one, which is a workload of its own.
func (n *naming) hold() {
	if n.current.Kind != "" && len(n.w.Within) < maxHolders {
		n.w.Within = append(n.w.Within, n.current)
	}
	n.current = events.Holder{}

	n.w.Guest, n.w.Job, n.w.Service = nil, nil, ""
}

// forgetService drops the current level if it is a service: only its cgroup happens to be
// above.
func (n *naming) forgetService() {
	if n.current.Kind == events.HolderService {
		n.current = events.Holder{}
	}
	n.service = ""
}

func (n *naming) unit(l *level) {
	n.hold()
	n.current = events.Holder{Kind: events.HolderService, System: l.system, Name: l.name}

	if l.system != "" {
		n.w.Service, n.w.Unit, n.service = l.name, "", ""
		return
	}
	n.w.Unit, n.service = l.name, l.name
}

// kubepods starts the tree of a kubelet: what was found so far contains it, and none of
// its names are the pods'.
func (n *naming) kubepods() {
	n.forgetService()
	n.hold()
	n.leaveContainer()

	n.w.PodUID, n.w.ContainerID, n.w.Runtime, n.w.Sandbox, n.w.QoS, n.w.Unit = "", "", "", "", "", ""
}

// leaveContainer makes the container so far, if any, the outer one.
func (n *naming) leaveContainer() {
	if n.w.NodeContainerID == "" {
		n.w.NodeContainerID = n.w.ContainerID
	}
}

func (n *naming) pod(l *level) {
	if l.system == "" { // the kubelet's
		n.forgetService()
	}
	n.w.PodUID, n.w.Runtime, n.w.Unit = l.name, l.system, n.service
}

func (n *naming) container(l *level) {
	n.hold()
	n.leaveContainer()

	n.w.ContainerID, n.w.Runtime, n.w.Sandbox = l.name, l.system, l.sandbox
	n.w.Unit = n.service // a slice is merely the parent of the runtime's cgroups
	n.current, n.service = events.Holder{Kind: events.HolderContainer, System: l.system, ID: l.name}, ""
}

func (n *naming) guest(l *level) {
	n.hold()

	n.w.Guest, n.w.Unit = l.guest, l.name
	n.current = events.Holder{Kind: events.HolderGuest, System: l.guest.System, Name: l.guest.Name}
	n.service = ""
}

func (n *naming) job(l *level) {
	n.hold()

	n.w.Job, n.w.Unit = l.job, n.service
	if l.name != "" {
		n.w.Unit = l.name
	}
	n.current = events.Holder{Kind: events.HolderJob, System: l.job.Manager, What: l.job.Kind, ID: l.job.ID}
}
