// SPDX-License-Identifier: Apache-2.0

package events

import (
	"reflect"
	"slices"
)

// Workload is what runs in a cgroup, as far as it is known: the innermost workload, and in Within
// those that contain it.
type Workload struct {
	// Namespace is the namespace of the pod.
	Namespace string `json:"namespace,omitempty"`
	// Pod is the name of the pod.
	Pod string `json:"pod,omitempty"`
	// PodUID is the UID of the pod.
	PodUID string `json:"pod_uid,omitempty"`
	// Container is the name of the container in its pod.
	Container string `json:"container,omitempty"`
	// ContainerID is the id of the container, as the runtime has it; of a unit or job in a container,
	// that of the container.
	ContainerID string `json:"container_id,omitempty"`
	// Runtime is the container runtime, as the cgroup path names it, such as containerd.
	Runtime string `json:"runtime,omitempty"`
	// Sandbox is the virtual machine that the container runs in, as the cgroup path names it: kata.
	Sandbox string `json:"sandbox,omitempty"`
	// QoS is the QoS class of the pod: guaranteed, burstable, besteffort.
	QoS string `json:"qos,omitempty"`
	// Unit is the systemd unit; of a container outside of pods, or of a job, the service that it runs in.
	Unit string `json:"unit,omitempty"`
	// Service is a service of an operating system without systemd: of Talos, such as kubelet.
	Service string `json:"service,omitempty"`
	// NodeContainerID is the container that a nested node (kind, k3d) runs in.
	NodeContainerID string `json:"node_container_id,omitempty"`
	// Guest is the system container or virtual machine, if the workload is one.
	Guest *Guest `json:"guest,omitempty"`
	// Job is the job of a scheduler, if the workload is one or a part of one.
	Job *Job `json:"job,omitempty"`
	// Within holds what the workload is within, outermost first: at most eight.
	Within []Holder `json:"within,omitempty"`
	// Image is the image of the container, as the runtime names it.
	Image string `json:"image,omitempty"`
	// Labels are the labels of the pod, or of a container of Docker.
	Labels map[string]string `json:"labels,omitempty"`
	// RestartCount is how often the container was restarted in its pod.
	RestartCount *uint32 `json:"restart_count,omitempty"`
	// OOMScoreAdj is the oom_score_adj in the configuration of the container.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Source is the best source that answered: path, log_dir, disk, cri, kubelet.
	Source string `json:"source,omitempty"`
}

// Guest is a machine within the node: a system container or a virtual machine.
type Guest struct {
	// System is what runs it, as the cgroup path shows: lxc (Incus, LXD and Proxmox as well),
	// libvirt-lxc, nspawn, qemu, vmspawn, or machine, where the path does not show what kind it is.
	System string `json:"system"`
	// Name is its name, or its number where it has no name.
	Name string `json:"name"`
}

// Job is a job of a scheduler, or a part of one.
type Job struct {
	// Manager is the scheduler: slurm, htcondor, pbs, yarn, mesos, nomad, ecs, garden, buildkit.
	Manager string `json:"manager"`
	// Kind is what the manager calls it: job, slot, container, allocation, task, build_step.
	Kind string `json:"kind"`
	// ID is its id.
	ID string `json:"id"`
	// Step is the step of a Slurm job.
	Step string `json:"step,omitempty"`
	// Task is the task: of a Slurm step its number, of a Nomad allocation its name.
	Task string `json:"task,omitempty"`
	// User is the user id that it runs for.
	User string `json:"user,omitempty"`
}

// Holder is something that a workload is within.
type Holder struct {
	// Kind is the kind of the holder.
	Kind HolderKind `json:"kind"`
	// System is what runs it: as runtime of a container, system of a guest, manager of a job.
	System string `json:"system,omitempty"`
	// What is what the manager of a job calls it.
	What string `json:"what,omitempty"`
	// Name is its name: of a guest or a unit; of a container that the node's own runtime knows as well.
	Name string `json:"name,omitempty"`
	// ID is its id: of a container or a job.
	ID string `json:"id,omitempty"`
}

// HolderKind is the kind of a holder.
type HolderKind string

// The kinds of holders.
const (
	HolderGuest     HolderKind = "guest"     // a system container or a virtual machine
	HolderContainer HolderKind = "container" // a container; one with a node inside is a node container
	HolderJob       HolderKind = "job"       // a job of a scheduler
	HolderService   HolderKind = "service"   // a systemd service or scope with cgroups of its own, such as a user's session
)

// IsZero reports whether nothing is known.
func (w *Workload) IsZero() bool { return reflect.ValueOf(*w).IsZero() }

// Nested reports whether container and pod belong to a machine within the node: a guest, or a container
// in which another runtime or kubelet runs. Whoever may write there chooses their names, and
// neither the node's kubelet nor its runtime knows them.
func (w *Workload) Nested() bool {
	if w == nil || w.NodeContainerID != "" {
		return w != nil
	}

	for _, h := range w.Within {
		switch h.Kind {
		case HolderGuest:
			return true
		case HolderContainer:
			return h.ID != w.ContainerID
		}
	}

	return false
}

// Innermost is the level of the innermost workload, LevelService for any unit; empty if none is known.
func (w *Workload) Innermost() Level {
	switch {
	case w == nil:
	case w.Job != nil:
		return LevelJob
	case w.Guest != nil:
		return LevelGuest
	case (w.Unit != "" || w.Service != "") && w.ofUnit():
		return LevelService
	case w.ContainerID != "" || w.Container != "":
		return LevelContainer
	case w.PodUID != "" || w.Pod != "":
		return LevelPod
	}

	return ""
}

// ofUnit reports whether the unit is within container and pod, or there are none. Otherwise it
// is the service that the container runs in.
func (w *Workload) ofUnit() bool {
	if w.ContainerID == "" && w.Container == "" {
		return w.PodUID == "" && w.Pod == ""
	}

	return slices.ContainsFunc(w.Within, func(h Holder) bool { return h.Kind == HolderContainer && h.ID == w.ContainerID })
}

// InPod reports whether it is a pod that the node's own kubelet runs, or a part of one.
func (w *Workload) InPod() bool { return w != nil && w.PodUID != "" && !w.Nested() }

// Same reports whether two workloads are known to be the same one: the same container, pod, unit,
// guest or job, within the same. Steps and tasks are parts of one job.
func (w *Workload) Same(o *Workload) bool {
	if w == nil || o == nil {
		return false
	}

	return w.ContainerID == o.ContainerID && w.PodUID == o.PodUID && w.Unit == o.Unit && w.Service == o.Service &&
		w.NodeContainerID == o.NodeContainerID && same(w.Guest, o.Guest) && sameJob(w.Job, o.Job) && w.SameHolders(o) && w.names()
}

// SameHolders reports whether two workloads are within the same. The name of a container may be
// known for one alone.
func (w *Workload) SameHolders(o *Workload) bool {
	return slices.EqualFunc(w.Within, o.Within, func(a, b Holder) bool {
		if a.Kind == HolderContainer && b.Kind == HolderContainer {
			return a.ID == b.ID
		}

		return a == b
	})
}

// names reports whether it identifies a workload: a QoS class alone does not.
func (w *Workload) names() bool {
	return w.ContainerID != "" || w.PodUID != "" || w.Unit != "" || w.Service != "" || w.Guest != nil || w.Job != nil
}

func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func sameJob(a, b *Job) bool { return a == b || a != nil && b != nil && a.Same(b) }

// Same reports whether two are the same job, or parts of it.
func (j *Job) Same(o *Job) bool {
	return j.Manager == o.Manager && j.ID == o.ID && (j.Manager != "nomad" || j.Task == o.Task)
}
