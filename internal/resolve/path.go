// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// SourcePath is Workload.Source of what the path alone told.
const SourcePath = "path"

// Quality of service classes, as the kubelet's cgroups are named. A guaranteed
// pod has no level of its own.
const (
	qosGuaranteed = "guaranteed"
	qosBurstable  = "burstable"
	qosBestEffort = "besteffort"
)

// Runtimes that a path can name. A bare container id names none.
const (
	runtimeContainerd = "containerd"
	runtimeCRIO       = "cri-o"
	runtimeDocker     = "docker"
	runtimePodman     = "podman"
)

// Place is what a cgroup's path says about it.
type Place struct {
	Level events.Level
	// Workload is nil where the path names none. It is shared by all who ask
	// for the same cgroup: copy it before changing it.
	Workload *events.Workload
}

// ParsePath reads a cgroup's path, relative to the root of its hierarchy. It is
// a pure function; no input makes it fail, and what it does not know it leaves
// out. An empty path is of LevelCgroup without a workload.
//
// The rules:
//
//   - The innermost kubepods names the pod, and the innermost container within
//     is the container. Where containers nest (kind, k3d, docker in docker), the
//     outermost one is NodeContainerID: it is the one that the node's own
//     runtime knows.
//   - A cgroup below a container's or a service's own is of LevelCgroup, with
//     the workload of what it is inside of: its limit is not the one that was
//     given to the container. The exception is the child "container" that crun
//     makes: it is the container.
//   - A container's monitor (conmon) belongs to the pod, not to the container.
//   - Unit is the innermost service, scope or slice of systemd on the host; of a
//     container outside of pods, the service that it runs in, if any.
//   - Names below a container are chosen by whoever may write there. They can
//     pose as another pod's or container's; NodeContainerID then tells where
//     they really are.
//
// Pod UIDs come with dashes, whatever the cgroup driver. A static pod's UID is
// the 32 digits of its configuration's hash.
func ParsePath(path string) Place {
	var p parser

	p.level = events.LevelCgroup
	if path == "/" {
		p.level = events.LevelNode
	}

	for rest := path; rest != ""; {
		var name string

		name, rest, _ = strings.Cut(rest, "/")
		if name == "" || name == ".." { // ".." comes from outside a cgroup namespace
			continue
		}

		p.step(name)
		p.parent = name
	}

	return p.place()
}

// parser walks a path from the root down. After each step it holds the place
// of the cgroup reached.
type parser struct {
	level  events.Level
	parent string // name of the directory above
	w      events.Workload

	service string // the innermost service or scope so far
	outer   string // the outermost container, once there is one inside of it
}

func (p *parser) place() Place {
	w := p.w

	w.NodeContainerID = p.outer
	if w.IsZero() {
		return Place{Level: p.level}
	}
	w.Source = SourcePath

	return Place{Level: p.level, Workload: &w}
}

func (p *parser) step(name string) {
	// A runtime with the cgroupfs driver under a kubelet with the systemd driver
	// takes "slice:prefix:id" for a directory's name.
	if strings.Count(name, ":") == 2 {
		slice, id, _ := strings.Cut(name, ":")

		prefix, id, _ := strings.Cut(id, ":")
		if isContainerID(id) && p.kubeSlice(slice) {
			p.enter(runtimes[prefix], id)
			return
		}
	}

	switch {
	case name == "kubepods":
		p.kubepods()
	case p.kubeSlice(name), p.pod(name), p.container(name):
	case p.w.ContainerID != "":
		crun := p.level == events.LevelContainer && name == "container" &&
			(p.w.Runtime == runtimeCRIO || p.w.Runtime == runtimePodman)
		if !crun {
			p.level = events.LevelCgroup
		}
	case p.level == events.LevelKubepods && (name == qosBurstable || name == qosBestEffort):
		p.level, p.w.QoS = events.LevelQoS, name
	default:
		p.unit(name)
	}
}

// kubepods begins the tree of a kubelet: what was found so far is around it.
func (p *parser) kubepods() {
	p.leave()
	p.w = events.Workload{}
	p.service = ""
	p.level = events.LevelKubepods
}

// leave makes the present container, if any, the outer one.
func (p *parser) leave() {
	if p.outer == "" {
		p.outer = p.w.ContainerID
	}
}

// kubeSlice reads the slices of the kubelet's systemd driver, which repeat what
// is above them: [root-]kubepods[-qos][-poduid].slice.
func (p *parser) kubeSlice(name string) bool {
	name, ok := strings.CutSuffix(name, ".slice")
	if !ok {
		return false
	}

	at := strings.LastIndex(name, "kubepods")
	if at < 0 || at > 0 && name[at-1] != '-' {
		return false
	}
	rest := name[at+len("kubepods"):]
	qos := ""

	for _, q := range [...]string{qosBurstable, qosBestEffort} {
		if after, ok := cutWord(rest, q); ok {
			qos, rest = q, after
			break
		}
	}

	uid := ""
	if rest != "" {
		if uid, ok = podUID(strings.TrimPrefix(rest, "-")); !ok || rest[0] != '-' {
			return false
		}

		if qos == "" {
			qos = qosGuaranteed
		}
	}

	p.kubepods()

	p.w.QoS, p.w.PodUID = qos, uid
	switch {
	case uid != "":
		p.level = events.LevelPod
	case qos != "":
		p.level = events.LevelQoS
	}

	return true
}

// cutWord cuts "-word" off the front of s, at a boundary.
func cutWord(s, word string) (string, bool) {
	after, ok := strings.CutPrefix(s, "-"+word)
	if !ok || after != "" && after[0] != '-' {
		return s, false
	}

	return after, true
}

// pod reads the pod's directory of the kubelet's cgroupfs driver, and podman's
// pods of both drivers.
func (p *parser) pod(name string) bool {
	if p.w.ContainerID != "" || p.w.PodUID != "" {
		return false
	}

	if uid, ok := podUID(name); ok {
		if p.w.QoS == "" && p.level == events.LevelKubepods {
			p.w.QoS = qosGuaranteed
		}
		p.w.PodUID, p.w.Unit, p.level = uid, "", events.LevelPod
		p.service = ""

		return true
	}

	id := name
	if p.parent != "libpod_parent" {
		_, after, ok := strings.Cut(name, "libpod_pod_")
		if !ok {
			return false
		}
		id = strings.TrimSuffix(after, ".slice")
	}

	if !isContainerID(id) {
		return false
	}
	p.w.PodUID, p.w.Runtime, p.level = id, runtimePodman, events.LevelPod
	p.w.Unit = p.service

	return true
}

// runtimes are the prefixes of container ids.
var runtimes = map[string]string{
	"cri-containerd": runtimeContainerd,
	"nerdctl":        runtimeContainerd,
	"crio":           runtimeCRIO,
	"docker":         runtimeDocker,
	"libpod":         runtimePodman,
	"libpod-payload": runtimePodman, // podman --cgroups=split, as units made by quadlet have it
}

func (p *parser) container(name string) bool {
	name = strings.TrimSuffix(name, ".scope")
	if len(name) < idLen || !isContainerID(name[len(name)-idLen:]) {
		return false
	}

	prefix, id := name[:len(name)-idLen], name[len(name)-idLen:]
	if prefix == "" {
		runtime := ""
		if p.parent == "docker" {
			runtime = runtimeDocker
		}

		p.enter(runtime, id)

		return true
	}

	runtime, ok := runtimes[strings.TrimSuffix(prefix, "-")]
	if !ok || prefix[len(prefix)-1] != '-' {
		return false
	}

	p.enter(runtime, id)

	return true
}

func (p *parser) enter(runtime, id string) {
	p.leave()
	p.w.Runtime, p.w.ContainerID = runtime, id
	p.level = events.LevelContainer
	p.w.Unit = p.service // a slice is only where the runtime puts its cgroups
}

// unit reads what is neither of Kubernetes nor a container.
func (p *parser) unit(name string) {
	p.level = events.LevelCgroup

	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 {
		return
	}

	switch name[dot:] {
	case ".slice":
		p.level, p.w.Unit = events.LevelSlice, name
	case ".service", ".scope", ".socket", ".mount", ".swap":
		// The init.scope of a user's manager, or of a service that is one, is not
		// the node's own.
		if name == "init.scope" && p.service != "" {
			p.w.Unit = p.service
			return
		}
		p.level, p.w.Unit, p.service = events.LevelService, name, name
	}
}

const idLen = 64

// isContainerID tells 64 lower case hexadecimal digits.
func isContainerID(s string) bool { return len(s) == idLen && isHex(s) }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}

	return true
}

// podUID reads pod<uid>. Systemd's names cannot hold the dashes of a UUID, so
// the kubelet writes underscores, which no UID has.
func podUID(s string) (string, bool) {
	s, ok := strings.CutPrefix(s, "pod")
	if !ok {
		return "", false
	}

	switch len(s) {
	case 32:
		return s, isHex(s)
	case 36:
		at := 0
		for _, n := range [...]int{8, 4, 4, 4, 12} {
			if !isHex(s[at : at+n]) {
				return "", false
			}

			at += n
			if at < len(s) {
				if s[at] != '-' && s[at] != '_' {
					return "", false
				}

				at++
			}
		}

		return strings.ReplaceAll(s, "_", "-"), true
	}

	return "", false
}
