// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

var (
	idA    = strings.Repeat("3f2a91c0", 8)
	idB    = strings.Repeat("0123456789abcdef", 4)
	idC    = strings.Repeat("c", 64)
	uid    = "6ba0af16-7d2c-4f1e-9b3a-0c5d8e2f1a47"
	uid_   = strings.ReplaceAll(uid, "-", "_")
	static = "1b7d3c0e9f8a4b5c6d7e8f9012345678"
	alloc  = "e4d70b6a-2f3c-8d1e-9b0a-5c6d7e8f9a0b"
	task   = "488fc5b8b77f4fb7984bdc4aba948f9f"
	step   = "x1y2z3abcdefghijklmnopqrs"
)

// expand replaces the abbreviations of the table by ids.
var expand = strings.NewReplacer("<A>", idA, "<B>", idB, "<C>", idC, "<uid>", uid, "<uid_>", uid_, "<static>", static,
	"<alloc>", alloc, "<task>", task, "<step>", step)

func within(holders ...events.Holder) []events.Holder { return holders }

func docker(id string) events.Holder {
	return events.Holder{Kind: events.HolderContainer, System: "docker", ID: id}
}

func lxc(name string) events.Holder {
	return events.Holder{Kind: events.HolderGuest, System: "lxc", Name: name}
}

func ecs(id string) events.Holder {
	return events.Holder{Kind: events.HolderJob, System: "ecs", What: "task", ID: id}
}

func service(name string) events.Holder {
	return events.Holder{Kind: events.HolderService, Name: name}
}

func guest(system, name string, holders ...events.Holder) events.Workload {
	return events.Workload{Guest: &events.Guest{System: system, Name: name}, Within: holders}
}

func unitGuest(system, name, unit string) events.Workload {
	w := guest(system, name)
	w.Unit = unit

	return w
}

func job(j events.Job, unit string, holders ...events.Holder) events.Workload {
	return events.Workload{Job: &j, Unit: unit, Within: holders}
}

type pathCase struct {
	name, path string
	level      events.Level
	want       events.Workload // without Source; the zero value: none
}

var pathCases = []pathCase{
	// containerd
	{"containerd cgroupfs", "/kubepods/burstable/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},
	{"containerd cgroupfs, besteffort", "/kubepods/besteffort/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "besteffort"}},
	{"containerd cgroupfs, guaranteed", "/kubepods/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed"}},
	{"containerd systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "containerd"}},
	{"containerd systemd, guaranteed", "/kubepods.slice/kubepods-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", Runtime: "containerd"}},
	{"containerd cgroupfs under a systemd kubelet", "/system.slice/containerd.service/kubepods-besteffort-pod<uid_>.slice:cri-containerd:<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "besteffort", Runtime: "containerd"}},
	{"nerdctl", "/system.slice/nerdctl-<A>.scope", "container", events.Workload{ContainerID: idA, Runtime: "containerd"}},
	{"nerdctl or ctr, cgroupfs", "/default/<A>", "container", events.Workload{ContainerID: idA}},

	// levels above a container
	{"pod, cgroupfs", "/kubepods/burstable/pod<uid>", "pod", events.Workload{PodUID: uid, QoS: "burstable"}},
	{"pod, cgroupfs, guaranteed", "/kubepods/pod<uid>", "pod", events.Workload{PodUID: uid, QoS: "guaranteed"}},
	{"pod, systemd", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<uid_>.slice", "pod", events.Workload{PodUID: uid, QoS: "besteffort"}},
	{"pod, systemd, guaranteed", "/kubepods.slice/kubepods-pod<uid_>.slice", "pod", events.Workload{PodUID: uid, QoS: "guaranteed"}},
	{"static pod, cgroupfs", "/kubepods/burstable/pod<static>/<A>", "container", events.Workload{PodUID: static, ContainerID: idA, QoS: "burstable"}},
	{"static pod, systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<static>.slice", "pod", events.Workload{PodUID: static, QoS: "burstable"}},
	{"qos, cgroupfs", "/kubepods/burstable", "qos", events.Workload{QoS: "burstable"}},
	{"qos, systemd", "/kubepods.slice/kubepods-besteffort.slice", "qos", events.Workload{QoS: "besteffort"}},
	{"kubepods, cgroupfs", "/kubepods", "kubepods", events.Workload{}},
	{"kubepods, systemd", "/kubepods.slice", "kubepods", events.Workload{}},
	{"unknown below kubepods", "/kubepods/other", "cgroup", events.Workload{}},
	{"unknown below a pod", "/kubepods/burstable/pod<uid>/helper", "cgroup", events.Workload{PodUID: uid, QoS: "burstable"}},
	{"pod without what is above", "/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA}},
	{"pod slice without what is above", "/kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "containerd"}},
	{"from outside a cgroup namespace", "/../../kubepods/burstable/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},

	// CRI-O
	{"cri-o cgroupfs", "/kubepods/burstable/pod<uid>/crio-<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "cri-o"}},
	{"cri-o systemd", "/kubepods.slice/kubepods-pod<uid_>.slice/crio-<A>.scope", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", Runtime: "cri-o"}},
	{"cri-o with crun", "/kubepods.slice/kubepods-pod<uid_>.slice/crio-<A>.scope/container", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", Runtime: "cri-o"}},
	{"below crun's child", "/kubepods.slice/kubepods-pod<uid_>.slice/crio-<A>.scope/container/x", "cgroup", events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", Runtime: "cri-o"}},
	{"a deeper container is not crun's", "/kubepods.slice/kubepods-pod<uid_>.slice/crio-<A>.scope/x/container", "cgroup", events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", Runtime: "cri-o"}},
	{"cri-o monitor, cgroupfs", "/kubepods/burstable/pod<uid>/crio-conmon-<A>", "cgroup", events.Workload{PodUID: uid, QoS: "burstable"}},
	{"cri-o monitor, systemd", "/kubepods.slice/kubepods-pod<uid_>.slice/crio-conmon-<A>.scope", "service",
		events.Workload{PodUID: uid, QoS: "guaranteed", Unit: "crio-conmon-" + idA + ".scope"}},

	// Docker
	{"cri-dockerd, systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/docker-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "docker"}},
	{"docker, cgroupfs", "/docker/<A>", "container", events.Workload{ContainerID: idA, Runtime: "docker"}},
	{"docker, systemd", "/system.slice/docker-<A>.scope", "container", events.Workload{ContainerID: idA, Runtime: "docker"}},
	{"docker, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-<A>.scope", "container",
		events.Workload{ContainerID: idA, Runtime: "docker", Unit: "user@1000.service", Within: within(service("user@1000.service"))}},
	{"docker's own", "/docker", "cgroup", events.Workload{}},
	{"another parent", "/batch/<A>", "container", events.Workload{ContainerID: idA}},

	// podman
	{"podman, cgroupfs", "/libpod_parent/libpod-<A>", "container", events.Workload{ContainerID: idA, Runtime: "podman"}},
	{"podman, systemd", "/machine.slice/libpod-<A>.scope", "container", events.Workload{ContainerID: idA, Runtime: "podman"}},
	{"podman, systemd, crun", "/machine.slice/libpod-<A>.scope/container", "container", events.Workload{ContainerID: idA, Runtime: "podman"}},
	{"podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<A>.scope/container", "container",
		events.Workload{ContainerID: idA, Runtime: "podman", Unit: "user@1000.service", Within: within(service("user@1000.service"))}},
	{"podman, quadlet", "/system.slice/web.service/libpod-payload-<A>", "container", events.Workload{ContainerID: idA, Runtime: "podman", Unit: "web.service", Within: within(service("web.service"))}},
	{"cri-o monitor, cgroupfs below systemd", "/system.slice/kubepods-pod<uid_>.slice:crio-conmon:<A>", "cgroup", events.Workload{Unit: "system.slice"}},
	{"podman monitor", "/machine.slice/libpod-conmon-<A>.scope", "service", events.Workload{Unit: "libpod-conmon-" + idA + ".scope"}},
	{"podman pod, cgroupfs", "/libpod_parent/<B>", "pod", events.Workload{PodUID: idB, Runtime: "podman"}},
	{"in a podman pod, cgroupfs", "/libpod_parent/<B>/libpod-<A>", "container", events.Workload{PodUID: idB, ContainerID: idA, Runtime: "podman"}},
	{"in a podman pod, systemd", "/machine.slice/machine-libpod_pod_<B>.slice/libpod-<A>.scope", "container", events.Workload{PodUID: idB, ContainerID: idA, Runtime: "podman"}},

	// nested nodes
	{"kind, cgroupfs", "/docker/<B>/kubelet/kubepods/besteffort/pod<uid>/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "besteffort", NodeContainerID: idB, Within: within(docker(idB))}},
	{"kind, systemd", "/system.slice/docker-<B>.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "containerd", NodeContainerID: idB,
			Within: within(docker(idB))}},
	{"kind, all pods", "/docker/<B>/kubelet/kubepods", "kubepods", events.Workload{NodeContainerID: idB, Within: within(docker(idB))}},
	{"kind, qos", "/system.slice/docker-<B>.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice", "qos",
		events.Workload{QoS: "burstable", NodeContainerID: idB, Within: within(docker(idB))}},
	{"kind, its kubelet", "/docker/<B>/kubelet", "cgroup", events.Workload{ContainerID: idB, Runtime: "docker"}},
	{"kind, a service of the node", "/system.slice/docker-<B>.scope/system.slice/containerd.service", "service",
		events.Workload{ContainerID: idB, Runtime: "docker", Unit: "containerd.service", Within: within(docker(idB))}},
	{"kind, its kubelet's slice", "/system.slice/docker-<B>.scope/kubelet.slice", "slice",
		events.Workload{ContainerID: idB, Runtime: "docker", Unit: "kubelet.slice", Within: within(docker(idB))}},
	{"k3d", "/docker/<B>/kubepods/burstable/pod<uid>/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", NodeContainerID: idB, Within: within(docker(idB))}},
	{"minikube", "/docker/<B>/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/docker-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "docker", NodeContainerID: idB, Within: within(docker(idB))}},
	{"docker in docker", "/docker/<B>/docker/<A>", "container",
		events.Workload{ContainerID: idA, Runtime: "docker", NodeContainerID: idB, Within: within(docker(idB))}},
	{"docker in a service of a container", "/docker/<B>/system.slice/docker.service/docker/<A>", "container",
		events.Workload{ContainerID: idA, Runtime: "docker", Unit: "docker.service", NodeContainerID: idB,
			Within: within(docker(idB), service("docker.service"))}},
	{"sysbox", "/docker/<B>/syscont-cgroup-root", "container", events.Workload{ContainerID: idB, Runtime: "docker"}},
	{"below sysbox", "/docker/<B>/syscont-cgroup-root/x", "cgroup", events.Workload{ContainerID: idB, Runtime: "docker"}},
	{"sysbox, a container inside", "/docker/<B>/syscont-cgroup-root/docker/<A>", "container",
		events.Workload{ContainerID: idA, Runtime: "docker", NodeContainerID: idB, Within: within(docker(idB))}},
	{"sysbox, its processes", "/docker/<B>/init.scope", "cgroup", events.Workload{ContainerID: idB, Runtime: "docker"}},
	{"docker in a pod", "/kubepods/burstable/pod<uid>/<B>/docker/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "docker", NodeContainerID: idB,
			Within: within(events.Holder{Kind: events.HolderContainer, ID: idB})}},
	{"kind in a pod", "/kubepods/burstable/pod<static>/<C>/docker/<B>/kubelet/kubepods/pod<uid>/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", NodeContainerID: idC,
			Within: within(events.Holder{Kind: events.HolderContainer, ID: idC}, docker(idB))}},

	// another --cgroup-root
	{"cgroup root, cgroupfs", "/x/kubepods/burstable/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},
	{"cgroup root, systemd", "/x.slice/x-kubepods.slice/x-kubepods-burstable.slice/x-kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "containerd"}},
	{"cgroup root, systemd, guaranteed", "/x.slice/x-kubepods.slice/x-kubepods-pod<uid_>.slice", "pod", events.Workload{PodUID: uid, QoS: "guaranteed"}},
	{"cgroup root, systemd, all pods", "/x.slice/x-kubepods.slice", "kubepods", events.Workload{}},

	// inside a container
	{"systemd in a container", "/kubepods/burstable/pod<uid>/<A>/init.scope", "cgroup", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},
	{"a service in a container", "/system.slice/docker-<A>.scope/system.slice/foo.service", "service",
		events.Workload{ContainerID: idA, Runtime: "docker", Unit: "foo.service", Within: within(docker(idA))}},
	{"a service in a container of a pod", "/kubepods/burstable/pod<uid>/<A>/system.slice/foo.service", "service",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Unit: "foo.service",
			Within: within(events.Holder{Kind: events.HolderContainer, ID: idA})}},
	{"below a service in a container", "/docker/<A>/system.slice/foo.service/x", "cgroup",
		events.Workload{ContainerID: idA, Runtime: "docker", Unit: "foo.service", Within: within(docker(idA))}},
	{"burstable in a container", "/docker/<A>/burstable/pod<uid>", "cgroup", events.Workload{ContainerID: idA, Runtime: "docker"}},

	// a pod that a manifest names
	{"static pod, any name", "/kubepods/burstable/podmy-static-uid/<A>", "container", events.Workload{PodUID: "my-static-uid", ContainerID: idA, QoS: "burstable"}},
	{"static pod, any name, guaranteed", "/kubepods/podmy-static-uid", "pod", events.Workload{PodUID: "my-static-uid", QoS: "guaranteed"}},
	{"static pod, any name, systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podmy_static_uid.slice/crio-<A>.scope", "container",
		events.Workload{PodUID: "my-static-uid", ContainerID: idA, QoS: "burstable", Runtime: "cri-o"}},
	{"any name, not below kubepods", "/podmy-static-uid/<A>", "container", events.Workload{ContainerID: idA}},
	{"no name at all", "/kubepods/burstable/pod/<A>", "container", events.Workload{ContainerID: idA, QoS: "burstable"}},
	{"a name that is none", "/kubepods/burstable/pod..%2f", "cgroup", events.Workload{QoS: "burstable"}},

	// Kata
	{"kata, cgroupfs", "/kubepods/burstable/pod<uid>/kata_<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, Sandbox: "kata", QoS: "burstable"}},
	{"kata, containerd, cgroupfs below systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice:cri-containerd:kata_<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, Sandbox: "kata", QoS: "burstable", Runtime: "containerd"}},
	{"kata, systemd", "/system.slice/cri-containerd-kata_<A>.scope", "container", events.Workload{ContainerID: idA, Sandbox: "kata", Runtime: "containerd"}},
	{"kata, cri-o", "/kubepods.slice/kubepods-pod<uid_>.slice/crio-kata_<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, Sandbox: "kata", QoS: "guaranteed", Runtime: "cri-o"}},
	{"kata, overhead", "/kata_overhead/<A>", "container", events.Workload{ContainerID: idA}},
	{"kata, without an id", "/kubepods/burstable/pod<uid>/kata_x", "cgroup", events.Workload{PodUID: uid, QoS: "burstable"}},

	// guests
	{"lxc, v1", "/lxc/web1", "guest", guest("lxc", "web1")},
	{"lxc, v2", "/lxc.payload.web1", "guest", guest("lxc", "web1")},
	{"lxc, 4.0", "/lxc.payload/web1", "guest", guest("lxc", "web1")},
	{"lxc, its monitor", "/lxc.monitor.web1", "cgroup", events.Workload{}},
	{"lxc, its monitor, 4.0", "/lxc.monitor/web1", "cgroup", events.Workload{}},
	{"lxc, namespace", "/lxc/202/ns", "guest", guest("lxc", "202")},
	{"lxc, below the namespace", "/lxc/202/ns/x", "cgroup", guest("lxc", "202")},
	{"lxc, the manager of a guest", "/lxc.payload.web1/init.scope", "cgroup", guest("lxc", "web1")},
	{"lxc, a unit inside", "/lxc.payload.web1/system.slice/sshd.service", "service", events.Workload{Unit: "sshd.service", Within: within(lxc("web1"))}},
	{"lxc, a slice inside", "/lxc/202/ns/system.slice", "slice", events.Workload{Unit: "system.slice", Within: within(lxc("202"))}},
	{"lxc, a container inside", "/lxc/202/ns/system.slice/docker-<A>.scope", "container",
		events.Workload{ContainerID: idA, Runtime: "docker", Within: within(lxc("202"))}},
	{"lxc, a pod inside", "/lxc.payload.k3s/kubepods/burstable/pod<uid>/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Within: within(lxc("k3s"))}},
	{"lxc, all pods inside", "/lxc.payload.k3s/kubepods", "kubepods", events.Workload{Within: within(lxc("k3s"))}},
	{"lxc, a user's session inside", "/lxc.payload.web1/user.slice/user-0.slice/session-3.scope", "service",
		events.Workload{Unit: "session-3.scope", Within: within(lxc("web1"))}},
	{"lxc in lxc", "/lxc.payload.web1/lxc.payload.inner", "guest", guest("lxc", "inner", lxc("web1"))},
	{"lxc in a container", "/docker/<A>/lxc.payload.web1/system.slice/sshd.service", "service",
		events.Workload{ContainerID: idA, Runtime: "docker", Unit: "sshd.service", Within: within(docker(idA), lxc("web1"))}},
	{"incus, with a project", "/lxc.payload.prod_web1", "guest", guest("lxc", "prod_web1")},
	{"osctl", "/osctl/pool.tank/group.default/user.alice/ct.ct1/user-owned/lxc.payload.ct1", "guest", guest("lxc", "ct1")},
	{"all of lxc", "/lxc", "cgroup", events.Workload{}},
	{"lxc without a name", "/lxc.payload.", "cgroup", events.Workload{}},
	{"nspawn", "/machine.slice/systemd-nspawn@web1.service", "guest", unitGuest("nspawn", "web1", "systemd-nspawn@web1.service")},
	{"nspawn, payload", "/machine.slice/systemd-nspawn@web1.service/payload", "guest", unitGuest("nspawn", "web1", "systemd-nspawn@web1.service")},
	{"nspawn, supervisor", "/machine.slice/systemd-nspawn@web1.service/supervisor", "cgroup", unitGuest("nspawn", "web1", "systemd-nspawn@web1.service")},
	{"nspawn, a unit inside", "/machine.slice/systemd-nspawn@web1.service/payload/system.slice/sshd.service", "service",
		events.Workload{Unit: "sshd.service", Within: within(events.Holder{Kind: events.HolderGuest, System: "nspawn", Name: "web1"})}},
	{"nspawn, escaped", `/machine.slice/systemd-nspawn@a\x2db.service`, "guest", unitGuest("nspawn", "a-b", `systemd-nspawn@a\x2db.service`)},
	{"vmspawn", "/machine.slice/systemd-vmspawn@win.service", "guest", unitGuest("vmspawn", "win", "systemd-vmspawn@win.service")},
	{"machined", "/machine.slice/machine-web1.scope", "guest", unitGuest("machine", "web1", "machine-web1.scope")},
	{"libvirt", `/machine.slice/machine-qemu\x2d3\x2dweb\x2d1.scope/libvirt/emulator`, "cgroup", unitGuest("qemu", "web-1", `machine-qemu\x2d3\x2dweb\x2d1.scope`)},
	{"libvirt, lxc", `/machine.slice/machine-lxc\x2d3\x2dweb.scope/system.slice/sshd.service`, "service",
		events.Workload{Unit: "sshd.service", Within: within(events.Holder{Kind: events.HolderGuest, System: "libvirt-lxc", Name: "web"})}},
	{"libvirt, cgroupfs", "/machine/qemu-3-web.libvirt-qemu/vcpu0", "cgroup", guest("qemu", "web")},
	{"libvirt, cgroupfs, old", "/machine/web.libvirt-lxc", "guest", guest("libvirt-lxc", "web")},
	{"libvirt, 2012", "/libvirt/qemu/web", "guest", guest("qemu", "web")},
	{"libvirt, lxc, 2012", "/libvirt/lxc/web", "guest", guest("libvirt-lxc", "web")},
	{"a user's VM", `/user.slice/user-1000.slice/user@1000.service/app.slice/machine-qemu\x2d1\x2dvm.scope`, "guest",
		events.Workload{Guest: &events.Guest{System: "qemu", Name: "vm"}, Unit: `machine-qemu\x2d1\x2dvm.scope`, Within: within(service("user@1000.service"))}},
	{"proxmox, VM", "/qemu.slice/100.scope", "guest", unitGuest("qemu", "100", "100.scope")},
	{"proxmox, no VM", "/qemu.slice/x.scope", "service", events.Workload{Unit: "x.scope"}},
	{"an escape that is none", `/machine.slice/machine-a\x0ab\xzz.scope`, "guest", unitGuest("machine", `a\x0ab\xzz`, `machine-a\x0ab\xzz.scope`)},

	// jobs
	{"slurm, v1", "/slurm/uid_1000/job_7", "job", job(events.Job{Manager: "slurm", Kind: "job", ID: "7", User: "1000"}, "")},
	{"slurm, v1, a task", "/slurm/uid_1000/job_7/step_0/task_0", "job", job(events.Job{Manager: "slurm", Kind: "job", ID: "7", User: "1000", Step: "0", Task: "0"}, "")},
	{"slurm, v1, several on a node", "/slurm_n1/uid_1000/job_7/step_batch", "job", job(events.Job{Manager: "slurm", Kind: "job", ID: "7", User: "1000", Step: "batch"}, "")},
	{"slurm, v1, a user", "/slurm/uid_1000", "cgroup", events.Workload{}},
	{"slurm, v2", "/system.slice/slurmstepd.scope/job_8/step_2/user/task_0", "job",
		job(events.Job{Manager: "slurm", Kind: "job", ID: "8", Step: "2", Task: "0"}, "slurmstepd.scope", service("slurmstepd.scope"))},
	{"slurm, v2, the processes of a step", "/system.slice/slurmstepd.scope/job_8/step_2/user", "job",
		job(events.Job{Manager: "slurm", Kind: "job", ID: "8", Step: "2"}, "slurmstepd.scope", service("slurmstepd.scope"))},
	{"slurm, v2, the daemon of a step", "/system.slice/slurmstepd.scope/job_8/step_2/slurm", "cgroup",
		job(events.Job{Manager: "slurm", Kind: "job", ID: "8", Step: "2"}, "slurmstepd.scope", service("slurmstepd.scope"))},
	{"slurm, v2, several on a node", "/system.slice/n1_slurmstepd.scope/job_8", "job",
		job(events.Job{Manager: "slurm", Kind: "job", ID: "8"}, "n1_slurmstepd.scope", service("n1_slurmstepd.scope"))},
	{"slurm, v2, the scope", "/system.slice/slurmstepd.scope/system", "cgroup", events.Workload{Unit: "slurmstepd.scope"}},
	{"a job of nobody", "/batch/job_7", "cgroup", events.Workload{}},
	{"below a task of slurm", "/slurm/uid_1000/job_7/step_0/task_0/x.service", "cgroup",
		job(events.Job{Manager: "slurm", Kind: "job", ID: "7", User: "1000", Step: "0", Task: "0"}, "")},
	{"condor", "/system.slice/condor.service/condor_slot1_3", "job",
		job(events.Job{Manager: "htcondor", Kind: "slot", ID: "slot1_3"}, "condor.service", service("condor.service"))},
	{"condor, v1", "/htcondor/condor_var_lib_condor_execute_slot1_3@n1.example.org", "job", job(events.Job{Manager: "htcondor", Kind: "slot", ID: "slot1_3"}, "")},
	{"condor, a static slot", "/htcondor/condor_scratch_slot12", "job", job(events.Job{Manager: "htcondor", Kind: "slot", ID: "slot12"}, "")},
	{"condor, no slot", "/htcondor/condor_slots", "cgroup", events.Workload{}},
	{"pbs, v1", "/pbs_jobs.service/jobid/1234.pbs0", "job",
		job(events.Job{Manager: "pbs", Kind: "job", ID: "1234.pbs0"}, "pbs_jobs.service", service("pbs_jobs.service"))},
	{"pbs, v2", "/pbs_jobs.service/jobs/1234.pbs0", "job",
		job(events.Job{Manager: "pbs", Kind: "job", ID: "1234.pbs0"}, "pbs_jobs.service", service("pbs_jobs.service"))},
	{"pbs professional", "/pbspro.service/jobid/7[3].n1", "job", job(events.Job{Manager: "pbs", Kind: "job", ID: "7[3].n1"}, "pbspro.service", service("pbspro.service"))},
	{"torque", "/torque/1234.n1", "job", job(events.Job{Manager: "torque", Kind: "job", ID: "1234.n1"}, "")},
	{"yarn", "/hadoop-yarn/container_e17_1700000000000_0042_01_000003", "job",
		job(events.Job{Manager: "yarn", Kind: "container", ID: "container_e17_1700000000000_0042_01_000003"}, "")},
	{"yarn, without an epoch", "/yarn/container_1700000000000_0042_01_000003", "job",
		job(events.Job{Manager: "yarn", Kind: "container", ID: "container_1700000000000_0042_01_000003"}, "")},
	{"not of yarn", "/x/container_1700000000000_0042_01", "cgroup", events.Workload{}},
	{"mesos", "/mesos/1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9", "job",
		job(events.Job{Manager: "mesos", Kind: "container", ID: "1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9"}, "")},
	{"nomad, v1", "/nomad/<alloc>", "job", job(events.Job{Manager: "nomad", Kind: "allocation", ID: alloc}, "")},
	{"nomad, v1, a task", "/nomad/share/<alloc>.api", "job", job(events.Job{Manager: "nomad", Kind: "task", ID: alloc, Task: "api"}, "")},
	{"nomad", "/nomad.slice/share.slice/<alloc>.api.scope", "job",
		job(events.Job{Manager: "nomad", Kind: "task", ID: alloc, Task: "api"}, alloc+".api.scope")},
	{"nomad, with cores of its own", "/nomad.slice/reserve.slice/<alloc>.my.api.scope", "job",
		job(events.Job{Manager: "nomad", Kind: "task", ID: alloc, Task: "my.api"}, alloc+".my.api.scope")},
	{"nomad, 1.3", "/nomad.slice/<alloc>.api.scope", "job", job(events.Job{Manager: "nomad", Kind: "task", ID: alloc, Task: "api"}, alloc+".api.scope")},
	{"not of nomad", "/system.slice/<alloc>.api.scope", "service", events.Workload{Unit: alloc + ".api.scope"}},
	{"ecs", "/ecs/<task>", "job", job(events.Job{Manager: "ecs", Kind: "task", ID: task}, "")},
	{"ecs, a container", "/ecs/<task>/<A>", "container", events.Workload{ContainerID: idA, Within: within(ecs(task))}},
	{"fargate", "/ecs/<task>/<task>-1234567890", "container", events.Workload{ContainerID: task + "-1234567890", Within: within(ecs(task))}},
	{"ecs, systemd", "/ecstasks.slice/ecstasks-<task>.slice", "job", job(events.Job{Manager: "ecs", Kind: "task", ID: task}, "ecstasks-"+task+".slice")},
	{"ecs, systemd, a container", "/ecstasks.slice/ecstasks-<task>.slice/docker-<A>.scope", "container",
		events.Workload{ContainerID: idA, Runtime: "docker", Within: within(ecs(task))}},
	{"ecs, below a task", "/ecs/<task>/x", "cgroup", job(events.Job{Manager: "ecs", Kind: "task", ID: task}, "")},
	{"all of ecs", "/ecstasks.slice", "slice", events.Workload{Unit: "ecstasks.slice"}},
	{"garden", "/garden/4f3e2d1c-0b9a-4887-6655-443322110f0e", "job",
		job(events.Job{Manager: "garden", Kind: "container", ID: "4f3e2d1c-0b9a-4887-6655-443322110f0e"}, "")},
	{"garden, with a CPU share", "/garden/good/h1", "job", job(events.Job{Manager: "garden", Kind: "container", ID: "h1"}, "")},
	{"buildkit, systemd", "/system.slice/docker-<step>.scope", "job", job(events.Job{Manager: "buildkit", Kind: "build_step", ID: step}, "docker-"+step+".scope")},
	{"buildkit, cgroupfs below systemd", "/system.slice/system.slice:docker:<step>", "job", job(events.Job{Manager: "buildkit", Kind: "build_step", ID: step}, "")},
	{"buildkit, cgroupfs", "/docker/buildkit/<step>", "job", job(events.Job{Manager: "buildkit", Kind: "build_step", ID: step}, "")},
	{"buildkit in a pod", "/kubepods/burstable/pod<uid>/<A>/buildkit/<step>", "job",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Job: &events.Job{Manager: "buildkit", Kind: "build_step", ID: step},
			Within: within(events.Holder{Kind: events.HolderContainer, ID: idA})}},
	{"a container below systemd", "/system.slice/system.slice:docker:<A>", "container", events.Workload{ContainerID: idA, Runtime: "docker"}},

	// Talos
	{"talos", "/system/apid", "service", events.Workload{Service: "apid"}},
	{"talos, its kubelet", "/podruntime/kubelet", "service", events.Workload{Service: "kubelet"}},
	{"talos, an extension", "/system/extensions/ext-tailscale", "service", events.Workload{Service: "ext-tailscale"}},
	{"talos in docker", "/docker/<A>/podruntime/kubelet", "service",
		events.Workload{ContainerID: idA, Runtime: "docker", Service: "kubelet", Within: within(docker(idA))}},
	{"not of talos", "/system/other", "cgroup", events.Workload{}},
	{"not at the root", "/a/podruntime/kubelet", "cgroup", events.Workload{}},

	// imitations: what really holds them is named
	{"another pod's name in a container", "/kubepods/burstable/pod<uid>/<A>/kubepods/pod<static>/<B>", "container",
		events.Workload{PodUID: static, ContainerID: idB, QoS: "guaranteed", NodeContainerID: idA,
			Within: within(events.Holder{Kind: events.HolderContainer, ID: idA})}},
	{"another guest's name in a container", "/docker/<A>/lxc/web1", "guest",
		events.Workload{ContainerID: idA, Runtime: "docker", Guest: &events.Guest{System: "lxc", Name: "web1"}, Within: within(docker(idA))}},
	{"another job's name in a container", "/docker/<A>/slurm/uid_0/job_7", "job",
		events.Workload{ContainerID: idA, Runtime: "docker", Job: &events.Job{Manager: "slurm", Kind: "job", ID: "7", User: "0"},
			Within: within(docker(idA))}},
	{"a critical service's name in a guest", "/lxc.payload.web1/system.slice/kubelet.service", "service",
		events.Workload{Unit: "kubelet.service", Within: within(lxc("web1"))}},

	// the host
	{"node", "/", "node", events.Workload{}},
	{"service", "/system.slice/sshd.service", "service", events.Workload{Unit: "sshd.service"}},
	{"templated service", "/system.slice/system-getty.slice/getty@tty1.service", "service", events.Workload{Unit: "getty@tty1.service"}},
	{"escaped service", `/system.slice/a\x2db.service`, "service", events.Workload{Unit: `a\x2db.service`}},
	{"below a service", "/system.slice/foo.service/workers", "cgroup", events.Workload{Unit: "foo.service"}},
	{"mount", "/system.slice/tmp.mount", "service", events.Workload{Unit: "tmp.mount"}},
	{"systemd itself", "/init.scope", "service", events.Workload{Unit: "init.scope"}},
	{"session", "/user.slice/user-1000.slice/session-3.scope", "service", events.Workload{Unit: "session-3.scope"}},
	{"user manager", "/user.slice/user-1000.slice/user@1000.service", "service", events.Workload{Unit: "user@1000.service"}},
	{"user manager's own", "/user.slice/user-1000.slice/user@1000.service/init.scope", "cgroup", events.Workload{Unit: "user@1000.service"}},
	{"user service", "/user.slice/user-1000.slice/user@1000.service/app.slice/mail.service", "service",
		events.Workload{Unit: "mail.service", Within: within(service("user@1000.service"))}},
	{"user's slice", "/user.slice/user-1000.slice/user@1000.service/app.slice", "slice",
		events.Workload{Unit: "app.slice", Within: within(service("user@1000.service"))}},
	{"slice", "/system.slice", "slice", events.Workload{Unit: "system.slice"}},
	{"nested slice", "/user.slice/user-1000.slice", "slice", events.Workload{Unit: "user-1000.slice"}},
	{"kubelet's service", "/system.slice/kubelet.service", "service", events.Workload{Unit: "kubelet.service"}},
	{"any other", "/batch/job-7", "cgroup", events.Workload{}},

	// garbage
	{"empty", "", "cgroup", events.Workload{}},
	{"slashes", "///", "cgroup", events.Workload{}},
	{"no leading slash", "kubepods/burstable/pod<uid>/<A>/", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},
	{"dots", "/../..", "cgroup", events.Workload{}},
	{"63 digits", "/docker/" + idA[1:], "cgroup", events.Workload{}},
	{"65 digits", "/docker/a" + idA, "cgroup", events.Workload{}},
	{"upper case", "/docker/" + strings.ToUpper(idA), "cgroup", events.Workload{}},
	{"unknown prefix", "/system.slice/other-<A>.scope", "service", events.Workload{Unit: "other-" + idA + ".scope"}},
	{"empty prefix", "/docker/-<A>", "cgroup", events.Workload{}},
	{"not a uid", "/kubepods/burstable/pod-x", "cgroup", events.Workload{QoS: "burstable"}},
	{"uid with misplaced dashes", "/pod6ba0af167d2c-4f1e-9b3a-0c5d-8e2f1a47", "cgroup", events.Workload{}},
	{"not quite kubepods", "/xkubepods.slice", "slice", events.Workload{Unit: "xkubepods.slice"}},
	{"not a qos", "/kubepods-bursty.slice", "slice", events.Workload{Unit: "kubepods-bursty.slice"}},
	{"slice of nothing", "/.slice/.service", "cgroup", events.Workload{}},
	{"colons", "/a:b:c/::/:", "cgroup", events.Workload{}},
	{"control characters", "/\x1b[31m\n\x00.service", "service", events.Workload{Unit: "\x1b[31m\n\x00.service"}},
	{"invalid UTF-8", "/\xff\xfe", "cgroup", events.Workload{}},
}

func TestParsePath(t *testing.T) {
	for _, c := range pathCases {
		t.Run(c.name, func(t *testing.T) {
			got := ParsePath(expand.Replace(c.path))

			var want *events.Workload
			if !c.want.IsZero() {
				c.want.Source = SourcePath
				want = &c.want
			}

			if got.Level != c.level || !reflect.DeepEqual(got.Workload, want) {
				t.Errorf("ParsePath(%q)\n got %s %+v\nwant %s %+v", c.path, got.Level, got.Workload, c.level, want)
			}
		})
	}
}

func TestLongPathsAreParsed(t *testing.T) {
	deep := strings.Repeat("/x", 1<<16)
	if got := ParsePath(deep); got.Level != events.LevelCgroup || got.Workload != nil {
		t.Errorf("got %+v, want %s without a workload", got, events.LevelCgroup)
	}

	got := ParsePath(strings.Repeat("/"+idA, 1000) + "/" + idB)
	if got.Workload == nil || got.Workload.ContainerID != idB || got.Workload.NodeContainerID != idA {
		t.Errorf("got %+v, want container %s in %s", got.Workload, idB, idA)
	}
}

func FuzzParsePath(f *testing.F) {
	for _, c := range pathCases {
		f.Add(expand.Replace(c.path))
	}
	levels := map[events.Level]bool{
		events.LevelContainer: true, events.LevelPod: true, events.LevelQoS: true, events.LevelKubepods: true,
		events.LevelService: true, events.LevelSlice: true, events.LevelGuest: true, events.LevelJob: true,
		events.LevelCgroup: true, events.LevelNode: true,
	}

	f.Fuzz(func(t *testing.T, path string) {
		p := ParsePath(path)
		if !levels[p.Level] || (p.Level == events.LevelNode) != (path == "/") {
			t.Errorf("got level %q, want one of the published ones", p.Level)
		}

		w := p.Workload
		if w == nil {
			w = &events.Workload{}

			switch p.Level {
			case events.LevelContainer, events.LevelPod, events.LevelQoS, events.LevelService, events.LevelSlice,
				events.LevelGuest, events.LevelJob:
				t.Errorf("got level %s without a workload, want one", p.Level)
			}
		} else if w.Source != SourcePath || reflect.DeepEqual(*w, events.Workload{Source: SourcePath}) {
			t.Errorf("got %+v, want a field and source %s", w, SourcePath)
		}

		if again := ParsePath(path); !reflect.DeepEqual(again, p) {
			t.Errorf("got %+v, then %+v of the same path", p, again)
		}

		for _, id := range []string{w.ContainerID, w.NodeContainerID} {
			if id != "" && !strings.Contains(path, id) {
				t.Errorf("got id %q, want one of the path", id)
			}
		}

		if ref, ok := RefOf(w); ok && (ref.ContainerID != "" && !IsContainerID(ref.ContainerID) || w.Nested()) {
			t.Errorf("got %+v to look up of %+v, want ids of this node's runtime", ref, w)
		}

		if len(w.Within) > maxHolders {
			t.Errorf("got %d holders, want %d at most", len(w.Within), maxHolders)
		}

		if w.PodUID != "" && !strings.Contains(strings.ReplaceAll(path, "_", "-"), strings.ReplaceAll(w.PodUID, "_", "-")) {
			t.Errorf("got pod UID %q, want one of the path", w.PodUID)
		}

		if !strings.Contains(path, w.Unit) {
			t.Errorf("got unit %q, want one of the path", w.Unit)
		}

		if p.Level == events.LevelContainer && w.ContainerID == "" || p.Level == events.LevelPod && w.PodUID == "" ||
			p.Level == events.LevelQoS && w.QoS == "" || p.Level == events.LevelGuest && w.Guest == nil ||
			p.Level == events.LevelJob && w.Job == nil || p.Level == events.LevelService && w.Unit == "" && w.Service == "" {
			t.Errorf("got level %s of %+v, want its id", p.Level, w)
		}
		// The cgroups in a container stay in its pod, unless they are those of a nested
		// node.
		if p.Level == events.LevelContainer && utf8.ValidString(path) {
			below := ParsePath(path + "/x")
			if below.Level != events.LevelCgroup || !reflect.DeepEqual(below.Workload, w) {
				t.Errorf("got %s %+v below, want %s %+v", below.Level, below.Workload, events.LevelCgroup, w)
			}
		}
	})
}

func BenchmarkParsePath(b *testing.B) {
	path := expand.Replace("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope")

	b.ReportAllocs()

	for b.Loop() {
		ParsePath(path)
	}
}
