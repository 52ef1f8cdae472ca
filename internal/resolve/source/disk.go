// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"encoding/json"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// maxConfig bounds a container's configuration in bytes: a runtime spec of Kubernetes
// has some 20 KiB.
const maxConfig = 4 << 20

// Disk reads the files that runtimes keep of a container.
type Disk struct {
	root      Root
	table     runtimes.Table
	dataRoots dockerRoots

	// podman is podman's index as of its last reading.
	mu     sync.Mutex
	podman map[string]podmanContainer
	read   time.Time
}

// NewDisk returns the source of the files below root, of the runtimes of a table.
func NewDisk(root Root, table runtimes.Table) *Disk { return &Disk{root: root, table: table} }

// Lookup implements Source. The runtime that ref names is tried first.
func (d *Disk) Lookup(_ context.Context, ref resolve.Ref) (events.Workload, error) {
	if ref.ContainerID == "" || !resolve.IsHex(ref.ContainerID) {
		return events.Workload{}, ErrUnknown
	}

	for _, first := range []bool{true, false} {
		for i := range d.table {
			row := &d.table[i]
			if (row.Name == ref.Runtime) != first {
				continue
			}

			if w, ok := d.lookup(row, ref.ContainerID); ok {
				w.ContainerID, w.Runtime, w.Source = ref.ContainerID, row.Name, NameDisk
				return w, nil
			}
		}
	}

	return events.Workload{}, ErrUnknown
}

func (d *Disk) lookup(row *runtimes.Runtime, id string) (events.Workload, bool) {
	switch row.Format {
	case runtimes.FormatBundle:
		return d.bundle(row, id)
	case runtimes.FormatDockerConfig:
		return d.docker(row, id)
	case runtimes.FormatPodmanIndex:
		return d.libpod(row, id)
	}

	return events.Workload{}, false
}

// spec has what is needed of an OCI runtime spec, config.json.
type spec struct {
	Annotations map[string]string `json:"annotations"`
	Process     struct {
		OOMScoreAdj *int `json:"oomScoreAdj"`
	} `json:"process"`
}

// annotation returns the first of the annotations that is set.
func (s *spec) annotation(keys []string) string {
	for _, key := range keys {
		if text := s.Annotations[key]; text != "" {
			return text
		}
	}

	return ""
}

// spec reads the first bundle of a container that there is.
func (d *Disk) spec(row *runtimes.Runtime, id string) (spec, bool) {
	for _, dir := range row.StateDirs {
		for _, file := range row.Bundle.Files {
			var s spec

			text, err := d.root.Read(path.Join(dir, strings.ReplaceAll(file, runtimes.ID, id)), maxConfig)
			if err == nil && json.Unmarshal(text, &s) == nil {
				return s, true
			}
		}
	}

	return spec{}, false
}

// bundle reads the names in the annotations of a bundle.
func (d *Disk) bundle(row *runtimes.Runtime, id string) (events.Workload, bool) {
	b := row.Bundle

	s, ok := d.spec(row, id)
	if !ok || b.Required != "" && s.Annotations[b.Required] == "" {
		return events.Workload{}, false
	}

	w := events.Workload{Namespace: s.annotation(b.Namespace), Pod: s.annotation(b.Pod), PodUID: s.annotation(b.PodUID)}
	if b.KindKey != "" && s.Annotations[b.KindKey] == b.KindSandbox {
		w.Labels = podLabels(s.Annotations[b.Labels])
		return w, true
	}

	w.Container, w.Image, w.OOMScoreAdj = s.annotation(b.Container), s.annotation(b.Image), s.Process.OOMScoreAdj
	w.RestartCount = count(s.annotation(b.Restarts))

	// The pod's labels are in its sandbox's bundle.
	if sandbox := s.Annotations[b.Sandbox]; len(sandbox) == len(id) && resolve.IsHex(sandbox) {
		if s, ok := d.spec(row, sandbox); ok {
			w.Labels = podLabels(s.Annotations[b.Labels])
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

// Labels of dockershim and cri-dockerd.
const (
	dockerLabelType    = "io.kubernetes.docker.type"
	dockerLabelSandbox = "io.kubernetes.sandbox.id"
)

// userLabels leaves out the labels of the kubelet and of cri-dockerd, which other
// fields of a workload hold.
func userLabels(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))

	for k, v := range labels {
		switch k {
		case runtimes.LabelNamespace, runtimes.LabelPod, runtimes.LabelPodUID, runtimes.LabelContainer, dockerLabelType, dockerLabelSandbox:
		default:
			out[k] = v
		}
	}

	return out
}

// dockerConfig is dockerd's config.v2.json.
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

func (d *Disk) dockerConfig(row *runtimes.Runtime, id string) (dockerConfig, bool) {
	for _, dir := range row.StateDirs {
		if c, ok := d.dockerFile(dir, id); ok {
			return c, true
		}
	}

	for _, dir := range d.dataRoots.of(d.root, row.StateDirs) {
		if c, ok := d.dockerFile(dir, id); ok {
			return c, true
		}
	}

	return dockerConfig{}, false
}

func (d *Disk) dockerFile(dir, id string) (c dockerConfig, ok bool) {
	text, err := d.root.Read(path.Join(dir, id, "config.v2.json"), maxConfig)

	return c, err == nil && json.Unmarshal(text, &c) == nil
}

// docker reads the files of dockerd; cri-dockerd puts the names of Kubernetes into
// labels. The labels of a container outside of pods name its service: of Compose, or the
// task of Amazon ECS.
func (d *Disk) docker(row *runtimes.Runtime, id string) (events.Workload, bool) {
	c, ok := d.dockerConfig(row, id)
	if !ok {
		return events.Workload{}, false
	}
	l := c.Config.Labels

	w := events.Workload{
		Namespace: l[runtimes.LabelNamespace], Pod: l[runtimes.LabelPod], PodUID: l[runtimes.LabelPodUID],
		Container: l[runtimes.LabelContainer], Image: c.Config.Image,
	}
	switch {
	case l[dockerLabelType] == "podsandbox":
		w.Container, w.Image, w.Labels = "", "", userLabels(l)
	case w.Pod == "":
		w.Container = strings.TrimPrefix(c.Name, "/")
		if len(l) > 0 {
			w.Labels = userLabels(l)
		}
	}

	return w, true
}

// Exit returns the state of a container that is in a runtime's files, which only
// dockerd keeps; it is not ok for any other container.
func (d *Disk) Exit(containerID string) (x Exit, ok bool) {
	if containerID == "" || !resolve.IsHex(containerID) {
		return Exit{}, false
	}

	for i := range d.table {
		if d.table[i].Format != runtimes.FormatDockerConfig {
			continue
		}

		if c, ok := d.dockerConfig(&d.table[i], containerID); ok {
			return c.exit(), true
		}
	}

	return Exit{}, false
}

func (c *dockerConfig) exit() Exit {
	x := Exit{State: StateExited, Code: &c.State.ExitCode, Source: NameDisk}

	switch {
	case c.State.Running:
		return Exit{State: StateRunning, Source: NameDisk}
	case c.State.OOMKilled:
		x.Reason = ReasonOOMKilled
	case c.State.ExitCode != 0:
		x.Reason = "Error"
	default:
		x.Reason = "Completed"
	}

	return x
}

// podmanContainer is a container in the index of containers/storage.
type podmanContainer struct {
	ID       string   `json:"id"`
	Names    []string `json:"names"`
	Metadata string   `json:"metadata"`
}

const (
	// maxIndex bounds the index of all of podman's containers in bytes.
	maxIndex = 16 << 20
	// indexEvery is the shortest time between two readings of it.
	indexEvery = time.Second
)

// libpod reads the index of podman's storage; the bundle itself has no names.
func (d *Disk) libpod(row *runtimes.Runtime, id string) (events.Workload, bool) {
	found := false
	for _, storage := range row.StateDirs {
		found = found || d.root.Exists(path.Join(storage, "overlay-containers", id))
	}

	if !found {
		return events.Workload{}, false
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	c, ok := d.podman[id]
	if !ok && time.Since(d.read) >= indexEvery {
		d.readPodman(row)
		c, ok = d.podman[id]
	}

	if !ok {
		return events.Workload{}, false
	}

	var meta struct {
		Image string `json:"image-name"`
		Name  string `json:"name"`
	}
	_ = json.Unmarshal([]byte(c.Metadata), &meta) // fields that it lacks stay empty

	w := events.Workload{Container: meta.Name, Image: meta.Image}
	if w.Container == "" && len(c.Names) > 0 {
		w.Container = c.Names[0]
	}

	return w, w.Container != "" || w.Image != ""
}

func (d *Disk) readPodman(row *runtimes.Runtime) {
	d.podman, d.read = make(map[string]podmanContainer), time.Now()

	for _, storage := range row.StateDirs {
		// The second has the containers of podman run --rm.
		for _, index := range []string{"containers.json", "volatile-containers.json"} {
			text, err := d.root.Read(path.Join(storage, "overlay-containers", index), maxIndex)

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

// count parses a number of restarts; nil if it is none.
func count(text string) *uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil
	}
	v := uint32(n)

	return &v
}
