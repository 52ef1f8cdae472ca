// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"cmp"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Instance is one run of a workload: the innermost container, pod, unit, guest or job, else a
// cgroup. Two are equal if they are known to be the same. The zero value is none.
type Instance struct {
	container, pod, unit string
	guest                events.Guest
	job                  string
	within               string // what the unit, guest or job is in
	path                 string
	cgroup               events.CgroupKey
}

// InstanceOf returns the instance that a process ran in, the zero value if that is not known.
func InstanceOf(w *events.Workload, c *events.Cgroup) Instance {
	path := ""
	if c != nil {
		path = c.Path
	}

	switch w.Innermost() {
	case events.LevelContainer:
		if w.ContainerID != "" {
			return Instance{container: w.ContainerID}
		}
	case events.LevelPod:
		if w.PodUID != "" {
			return Instance{pod: w.PodUID}
		}
	case events.LevelJob:
		return Instance{job: w.Job.Manager + " " + w.Job.ID, within: outerOf(w)}
	case events.LevelGuest:
		return Instance{guest: *w.Guest, within: outerOf(w)}
	case events.LevelService:
		name := cmp.Or(w.Unit, w.Service)
		return Instance{unit: name, within: outerOf(w) + pathTo(path, name)}
	}

	if c != nil && c.ID != 0 {
		return Instance{cgroup: c.CgroupKey}
	}

	return Instance{path: path}
}

// outerOf names what a workload is within, as a key.
func outerOf(w *events.Workload) string {
	key := ""
	for _, h := range w.Within {
		key += string(h.Kind) + " " + h.System + " " + cmp.Or(h.ID, h.Name) + "/"
	}

	return key
}

// pathTo is a path up to a name: each user's manager, and each guest, may have a unit of the
// same name, and recordings of older versions have no holders.
func pathTo(path, name string) string {
	if at := strings.LastIndex(path, name); at >= 0 {
		return path[:at]
	}

	return path
}

// IsContainer reports whether the instance is a container.
func (i Instance) IsContainer() bool { return i.container != "" }
