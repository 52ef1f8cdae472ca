// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Labels and annotations of the kubelet (pkg/kubelet/types/labels.go), which all
// runtimes keep.
const (
	labelNamespace = "io.kubernetes.pod.namespace"
	labelPod       = "io.kubernetes.pod.name"
	labelPodUID    = "io.kubernetes.pod.uid"
	labelContainer = "io.kubernetes.container.name"
	labelRestarts  = "io.kubernetes.container.restartCount"
)

// maxConfig bounds a container's configuration: a runtime spec of Kubernetes has
// some 20 KiB.
const maxConfig = 4 << 20

// disk reads what the runtimes keep of a container on disk.
type disk struct {
	root hostRoot

	// podman's index, as it was read last.
	mu     sync.Mutex
	podman map[string]podmanContainer
	read   time.Time
}

func newDisk(root hostRoot) *disk { return &disk{root: root} }

// lookup goes through the runtimes; one that the path names comes first.
func (d *disk) lookup(_ context.Context, ref Ref) (events.Workload, error) {
	if ref.ContainerID == "" || !isHex(ref.ContainerID) {
		return events.Workload{}, errUnknown
	}

	all := []struct {
		runtime string
		look    func(id string) (events.Workload, bool)
	}{
		{"containerd", d.containerd}, {"cri-o", d.crio}, {"docker", d.docker}, {"podman", d.libpod},
	}
	for _, first := range []bool{true, false} {
		for _, r := range all {
			if (r.runtime == ref.Runtime) != first {
				continue
			}

			if w, ok := r.look(ref.ContainerID); ok {
				w.ContainerID, w.Runtime, w.Source = ref.ContainerID, r.runtime, SourceDisk
				return w, nil
			}
		}
	}

	return events.Workload{}, errUnknown
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// spec is what is wanted of a runtime spec (config.json of the OCI).
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Process     struct {
		OOMScoreAdj *int `json:"oomScoreAdj"`
	} `json:"process"`
}

func (d *disk) spec(file string) (spec, bool) {
	var s spec
	text, err := d.root.read(file, maxConfig)

	return s, err == nil && json.Unmarshal(text, &s) == nil
}

// Where containerd has its state, by who runs it.
var containerdStates = []string{
	"/run/containerd", "/run/k3s/containerd", "/var/snap/microk8s/common/run/containerd", "/run/k0s/containerd",
	"/run/docker/containerd/daemon",
}

// containerd reads the bundle of a task. It is there before the container's cgroup
// is made, and goes with it.
func (d *disk) containerd(id string) (events.Workload, bool) {
	for _, state := range containerdStates {
		for _, namespace := range []string{"k8s.io", "default"} { // moby's bundles have no names
			s, ok := d.spec(path.Join(state, "io.containerd.runtime.v2.task", namespace, id, "config.json"))
			if !ok {
				continue
			}
			const cri = "io.kubernetes.cri."
			a := s.Annotations

			return events.Workload{
				Namespace: a[cri+"sandbox-namespace"], Pod: a[cri+"sandbox-name"], PodUID: a[cri+"sandbox-uid"],
				Container: first(a[cri+"container-name"], a["nerdctl/name"]), Image: a[cri+"image-name"], OOMScoreAdj: s.Process.OOMScoreAdj,
			}, true
		}
	}

	return events.Workload{}, false
}

// Where CRI-O and podman keep bundles: of what runs, and what stays over a boot.
var storages = []string{"/run/containers/storage", "/var/lib/containers/storage"}

// crio reads the bundle of CRI-O (internal/factory/container and
// pkg/annotations of 1.3x).
func (d *disk) crio(id string) (events.Workload, bool) {
	bundle := func(id string) (spec, bool) {
		for _, storage := range storages {
			if s, ok := d.spec(path.Join(storage, "overlay-containers", id, "userdata", "config.json")); ok {
				return s, true
			}
		}

		return spec{}, false
	}
	s, ok := bundle(id)

	const own = "io.kubernetes.cri-o."
	if !ok || s.Annotations[own+"ContainerType"] == "" {
		return events.Workload{}, false
	}
	a := s.Annotations

	w := events.Workload{
		Namespace: first(a[labelNamespace], a[own+"Namespace"]), Pod: first(a[labelPod], a[own+"KubeName"]), PodUID: a[labelPodUID],
		Image: a[own+"ImageName"], OOMScoreAdj: s.Process.OOMScoreAdj,
	}
	if a[own+"ContainerType"] == "sandbox" {
		w.Image, w.OOMScoreAdj = "", nil
		w.Labels = podLabels(a[own+"Labels"])

		return w, true
	}
	w.Container = a[labelContainer]
	w.RestartCount = count(a[labelRestarts])
	// The pod's labels are its sandbox's.
	if sandbox := a[own+"SandboxID"]; len(sandbox) == len(id) && isHex(sandbox) {
		if s, ok := bundle(sandbox); ok {
			w.Labels = podLabels(s.Annotations[own+"Labels"])
		}
	}

	return w, true
}

func podLabels(text string) map[string]string {
	var labels map[string]string
	if json.Unmarshal([]byte(text), &labels) != nil {
		return nil
	}

	return userLabels(labels)
}

// userLabels leaves out the kubelet's own, which say what is said elsewhere.
func userLabels(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		switch k {
		case labelNamespace, labelPod, labelPodUID, labelContainer, "io.kubernetes.docker.type", "io.kubernetes.sandbox.id":
		default:
			out[k] = v
		}
	}

	return out
}

// dockerConfig is Docker's config.v2.json.
type dockerConfig struct {
	Name   string
	Config struct {
		Image  string
		Labels map[string]string
	}
	State struct {
		Running, OOMKilled bool
		ExitCode           int
	}
}

func (d *disk) dockerConfig(id string) (dockerConfig, bool) {
	var c dockerConfig
	text, err := d.root.read(path.Join("/var/lib/docker/containers", id, "config.v2.json"), maxConfig)

	return c, err == nil && json.Unmarshal(text, &c) == nil
}

// docker reads what dockerd keeps; cri-dockerd puts Kubernetes's names into labels.
func (d *disk) docker(id string) (events.Workload, bool) {
	c, ok := d.dockerConfig(id)
	if !ok {
		return events.Workload{}, false
	}
	l := c.Config.Labels

	w := events.Workload{Namespace: l[labelNamespace], Pod: l[labelPod], PodUID: l[labelPodUID], Container: l[labelContainer], Image: c.Config.Image}
	switch {
	case l["io.kubernetes.docker.type"] == "podsandbox":
		w.Container, w.Image, w.Labels = "", "", userLabels(l)
	case w.Pod == "":
		w.Container = strings.TrimPrefix(c.Name, "/")
	}

	return w, true
}

// exit is what dockerd keeps of a container's end.
func (d *disk) exit(ref Ref) (exit, bool) {
	if ref.ContainerID == "" || !isHex(ref.ContainerID) {
		return exit{}, false
	}

	c, ok := d.dockerConfig(ref.ContainerID)
	if !ok {
		return exit{}, false
	}
	x := exit{state: stateExited, source: SourceDisk}

	switch {
	case c.State.Running:
		x.state = stateRunning
		return x, true
	case c.State.OOMKilled:
		x.reason = reasonOOMKilled
	case c.State.ExitCode != 0:
		x.reason = "Error"
	default:
		x.reason = "Completed"
	}
	x.code = &c.State.ExitCode

	return x, true
}

// podmanContainer is a container in the index of containers/storage.
type podmanContainer struct {
	ID       string   `json:"id"`
	Names    []string `json:"names"`
	Metadata string   `json:"metadata"`
}

const (
	// maxIndex bounds the index of all of podman's containers.
	maxIndex = 16 << 20
	// indexEvery is how often it is read at most.
	indexEvery = time.Second
)

// libpod reads the index of podman's storage: the bundle itself has no names.
func (d *disk) libpod(id string) (events.Workload, bool) {
	found := false
	for _, storage := range storages {
		found = found || d.root.exists(path.Join(storage, "overlay-containers", id))
	}

	if !found {
		return events.Workload{}, false
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	c, ok := d.podman[id]
	if !ok && time.Since(d.read) >= indexEvery {
		d.readPodman()
		c, ok = d.podman[id]
	}

	if !ok {
		return events.Workload{}, false
	}
	var meta struct {
		Image string `json:"image-name"`
		Name  string `json:"name"`
	}
	_ = json.Unmarshal([]byte(c.Metadata), &meta) // what it does not have stays empty

	w := events.Workload{Container: meta.Name, Image: meta.Image}
	if w.Container == "" && len(c.Names) > 0 {
		w.Container = c.Names[0]
	}

	return w, w.Container != "" || w.Image != ""
}

func (d *disk) readPodman() {
	d.podman, d.read = make(map[string]podmanContainer), time.Now()

	for _, storage := range storages {
		// The second has those of podman run --rm.
		for _, index := range []string{"containers.json", "volatile-containers.json"} {
			text, err := d.root.read(path.Join(storage, "overlay-containers", index), maxIndex)

			var all []podmanContainer
			if err != nil || json.Unmarshal(text, &all) != nil {
				continue
			}

			for _, c := range all {
				d.podman[c.ID] = c
			}
		}
	}
}

func first(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}

	return ""
}

func count(text string) *uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil
	}
	v := uint32(n)

	return &v
}
