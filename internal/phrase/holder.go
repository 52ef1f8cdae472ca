// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// idPhrase writes an id: [ShortID] or [Sanitize].
type idPhrase func(string) string

var guestNouns = map[string]string{
	"lxc": "LXC container", "libvirt-lxc": "LXC container", "nspawn": "nspawn container", "qemu": "VM", "vmspawn": "VM",
}

// guest is a system container or a virtual machine: "LXC container web1", "VM 100".
func guest(system, name string) string {
	return cmp.Or(guestNouns[system], "machine") + " " + ClipName(name)
}

var managerNames = map[string]string{
	"slurm": "Slurm", "htcondor": "HTCondor", "pbs": "PBS", "torque": "Torque", "yarn": "YARN", "mesos": "Mesos", "nomad": "Nomad",
	"ecs": "ECS", "garden": "Garden", "buildkit": "BuildKit",
}

// job is a job, or the part of one, with its manager: "job 7 (Slurm, user 1000)", "step 2 of
// job 8 (Slurm)".
func job(j *events.Job, id idPhrase) string {
	parts := []string{wholeJob(j.Manager, j.Kind, j.ID, id)}
	if j.Manager == "nomad" && j.Task != "" {
		parts = []string{"task " + ClipName(j.Task), "allocation " + id(j.ID)}
	} else {
		parts = append(NonEmpty(prefixed("task ", ClipName(j.Task)), prefixed("step ", ClipName(j.Step))), parts...)
	}

	return strings.Join(parts, " of ") + " (" + Join(", ", managerName(j.Manager), prefixed("user ", ClipName(j.User))) + ")"
}

// jobPart is the innermost part of a job, without its manager.
func jobPart(j *events.Job, id idPhrase) string {
	switch {
	case j.Task != "":
		return "task " + ClipName(j.Task)
	case j.Step != "":
		return "step " + ClipName(j.Step)
	}

	return wholeJob(j.Manager, j.Kind, j.ID, id)
}

// wholeJob is the job itself. An id that is no random number has what distinguishes it at
// its end.
func wholeJob(manager, kind, jobID string, id idPhrase) string {
	switch manager {
	case "yarn", "htcondor":
		if strings.HasPrefix(jobID, kind) {
			return ClipName(jobID)
		}

		return ClipName(kind) + " " + ClipName(jobID)
	case "slurm", "pbs", "torque":
		return ClipName(kind) + " " + ClipName(jobID)
	}

	return Spaced(ClipName(kind)) + " " + id(jobID)
}

func managerName(manager string) string { return cmp.Or(managerNames[manager], ClipName(manager)) }

// unit is a unit of systemd, or a service of a system without it.
func unit(w *events.Workload) string {
	if w.Unit != "" {
		return ClipName(w.Unit)
	}

	return prefixed("service ", ClipName(w.Service))
}

// holders is what a workload is within, the nearest first: "LXC container web1 in node
// container 3f2a91c0…". Of several the nearest and the outermost are named. A service is
// left out unless a unit is within it, such as that of a user's session. The workload's own
// container, which a unit or job may be within, has a name already.
func holders(w *events.Workload, id idPhrase, container string) string {
	var names []string

	for _, h := range slices.Backward(w.Within) {
		if h.Kind != events.HolderService || w.Innermost() == events.LevelService {
			names = append(names, holder(w, h, id, container))
		}
	}

	if w.NodeContainerID != "" && !slices.ContainsFunc(w.Within, func(h events.Holder) bool { return h.ID == w.NodeContainerID }) {
		names = append(names, "node container "+id(w.NodeContainerID))
	}

	if n := len(names); n > 2 {
		names = []string{names[0], "…", names[n-1]}
	}

	return Join(" in ", names...)
}

func holder(w *events.Workload, h events.Holder, id idPhrase, container string) string {
	switch h.Kind {
	case events.HolderGuest:
		return guest(h.System, h.Name)
	case events.HolderJob:
		return wholeJob(h.System, h.What, h.ID, id) + " (" + managerName(h.System) + ")"
	case events.HolderContainer:
		switch {
		case h.ID == w.NodeContainerID:
			return "node container " + containerHolder(h, id)
		case h.ID == w.ContainerID:
			return container
		}

		return "container " + containerHolder(h, id)
	}

	return ClipName(h.Name)
}

func containerHolder(h events.Holder, id idPhrase) string {
	if h.Name == "" {
		return id(h.ID)
	}

	return ClipName(h.Name) + " (" + id(h.ID) + ")"
}
