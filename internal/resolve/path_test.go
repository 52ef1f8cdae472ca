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
)

// expand replaces the abbreviations of the table by ids.
var expand = strings.NewReplacer("<A>", idA, "<B>", idB, "<C>", idC, "<uid>", uid, "<uid_>", uid_, "<static>", static)

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
		events.Workload{ContainerID: idA, Runtime: "docker", Unit: "user@1000.service"}},
	{"docker's own", "/docker", "cgroup", events.Workload{}},
	{"another parent", "/batch/<A>", "container", events.Workload{ContainerID: idA}},

	// podman
	{"podman, cgroupfs", "/libpod_parent/libpod-<A>", "container", events.Workload{ContainerID: idA, Runtime: "podman"}},
	{"podman, systemd", "/machine.slice/libpod-<A>.scope", "container", events.Workload{ContainerID: idA, Runtime: "podman"}},
	{"podman, systemd, crun", "/machine.slice/libpod-<A>.scope/container", "container", events.Workload{ContainerID: idA, Runtime: "podman"}},
	{"podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<A>.scope/container", "container",
		events.Workload{ContainerID: idA, Runtime: "podman", Unit: "user@1000.service"}},
	{"podman, quadlet", "/system.slice/web.service/libpod-payload-<A>", "container", events.Workload{ContainerID: idA, Runtime: "podman", Unit: "web.service"}},
	{"podman monitor", "/machine.slice/libpod-conmon-<A>.scope", "service", events.Workload{Unit: "libpod-conmon-" + idA + ".scope"}},
	{"podman pod, cgroupfs", "/libpod_parent/<B>", "pod", events.Workload{PodUID: idB, Runtime: "podman"}},
	{"in a podman pod, cgroupfs", "/libpod_parent/<B>/libpod-<A>", "container", events.Workload{PodUID: idB, ContainerID: idA, Runtime: "podman"}},
	{"in a podman pod, systemd", "/machine.slice/machine-libpod_pod_<B>.slice/libpod-<A>.scope", "container", events.Workload{PodUID: idB, ContainerID: idA, Runtime: "podman"}},

	// nested nodes
	{"kind, cgroupfs", "/docker/<B>/kubelet/kubepods/besteffort/pod<uid>/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "besteffort", NodeContainerID: idB}},
	{"kind, systemd", "/system.slice/docker-<B>.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "containerd", NodeContainerID: idB}},
	{"kind, all pods", "/docker/<B>/kubelet/kubepods", "kubepods", events.Workload{NodeContainerID: idB}},
	{"kind, qos", "/system.slice/docker-<B>.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice", "qos", events.Workload{QoS: "burstable", NodeContainerID: idB}},
	{"kind, its kubelet", "/docker/<B>/kubelet", "cgroup", events.Workload{ContainerID: idB, Runtime: "docker"}},
	{"kind, a service of the node", "/system.slice/docker-<B>.scope/system.slice/containerd.service", "cgroup", events.Workload{ContainerID: idB, Runtime: "docker"}},
	{"k3d", "/docker/<B>/kubepods/burstable/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", NodeContainerID: idB}},
	{"docker in docker", "/docker/<B>/docker/<A>", "container", events.Workload{ContainerID: idA, Runtime: "docker", NodeContainerID: idB}},
	{"docker in a pod", "/kubepods/burstable/pod<uid>/<B>/docker/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "docker", NodeContainerID: idB}},
	{"kind in a pod", "/kubepods/burstable/pod<static>/<C>/docker/<B>/kubelet/kubepods/pod<uid>/<A>", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "guaranteed", NodeContainerID: idC}},

	// another --cgroup-root
	{"cgroup root, cgroupfs", "/x/kubepods/burstable/pod<uid>/<A>", "container", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},
	{"cgroup root, systemd", "/x.slice/x-kubepods.slice/x-kubepods-burstable.slice/x-kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope", "container",
		events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable", Runtime: "containerd"}},
	{"cgroup root, systemd, guaranteed", "/x.slice/x-kubepods.slice/x-kubepods-pod<uid_>.slice", "pod", events.Workload{PodUID: uid, QoS: "guaranteed"}},
	{"cgroup root, systemd, all pods", "/x.slice/x-kubepods.slice", "kubepods", events.Workload{}},

	// inside a container
	{"systemd in a container", "/kubepods/burstable/pod<uid>/<A>/init.scope", "cgroup", events.Workload{PodUID: uid, ContainerID: idA, QoS: "burstable"}},
	{"a service in a container", "/system.slice/docker-<A>.scope/system.slice/foo.service", "cgroup", events.Workload{ContainerID: idA, Runtime: "docker"}},
	{"burstable in a container", "/docker/<A>/burstable/pod<uid>", "cgroup", events.Workload{ContainerID: idA, Runtime: "docker"}},

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
	{"user service", "/user.slice/user-1000.slice/user@1000.service/app.slice/mail.service", "service", events.Workload{Unit: "mail.service"}},
	{"user's slice", "/user.slice/user-1000.slice/user@1000.service/app.slice", "slice", events.Workload{Unit: "app.slice"}},
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
	{"uid with misplaced dashes", "/kubepods/pod6ba0af167d2c-4f1e-9b3a-0c5d-8e2f1a47", "cgroup", events.Workload{}},
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
		events.LevelService: true, events.LevelSlice: true, events.LevelCgroup: true, events.LevelNode: true,
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
			case events.LevelContainer, events.LevelPod, events.LevelQoS, events.LevelService, events.LevelSlice:
				t.Errorf("got level %s without a workload, want one", p.Level)
			}
		} else if w.Source != SourcePath || reflect.DeepEqual(*w, events.Workload{Source: SourcePath}) {
			t.Errorf("got %+v, want a field and source %s", w, SourcePath)
		}

		for _, id := range []string{w.ContainerID, w.NodeContainerID} {
			if id != "" && (!IsContainerID(id) || !strings.Contains(path, id)) {
				t.Errorf("got id %q, want one of the path", id)
			}
		}

		if w.PodUID != "" && !strings.Contains(strings.ReplaceAll(path, "_", "-"), w.PodUID) {
			t.Errorf("got pod UID %q, want one of the path", w.PodUID)
		}

		if !strings.Contains(path, w.Unit) {
			t.Errorf("got unit %q, want one of the path", w.Unit)
		}

		if p.Level == events.LevelContainer && w.ContainerID == "" || p.Level == events.LevelPod && w.PodUID == "" ||
			p.Level == events.LevelQoS && w.QoS == "" {
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
