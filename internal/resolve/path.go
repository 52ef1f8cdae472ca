// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// SourcePath is Workload.Source where nothing but the path is known.
const SourcePath = "path"

// Quality of service classes, as the kubelet's cgroups are named. A guaranteed
// pod has no level of its own.
const (
	qosGuaranteed = "guaranteed"
	qosBurstable  = "burstable"
	qosBestEffort = "besteffort"
)

// Place is what a cgroup's path states about it.
type Place struct {
	Level events.Level
	// Workload is nil where the path names none. Callers share it: copy it before
	// changing it.
	Workload *events.Workload
}

// Paths parses cgroup paths by a table of runtimes. It is safe for concurrent use.
type Paths struct{ table runtimes.Table }

// NewPaths returns a parser that knows the runtimes of a table.
func NewPaths(table runtimes.Table) Paths { return Paths{table: table} }

var knownPaths = NewPaths(runtimes.Known())

// ParsePath parses a path by the table of known runtimes; see Paths.Parse.
func ParsePath(path string) Place { return knownPaths.Parse(path) }

// Parse parses a cgroup's path, relative to the root of its hierarchy. It is a
// pure function; no input makes it fail, and what is unknown is left out. An empty
// path is of LevelCgroup without a workload.
//
// The rules:
//
//   - The innermost kubepods names the pod, and the innermost container within
//     is the container. Where containers nest (kind, k3d, docker in docker), the
//     outermost one is NodeContainerID, the one that the node's own runtime knows.
//   - A cgroup below a container's or a service's own is of LevelCgroup, with
//     the workload that it is part of: its limit is not the one that was given to
//     the container. The exception is the child "container" that crun makes: it
//     is the container.
//   - A container's monitor (conmon) belongs to the pod, not to the container.
//   - Unit is the innermost service, scope or slice of systemd on the host; of a
//     container outside of pods, the service that it runs in, if any.
//   - Names below a container are chosen by whoever may write there, and can
//     imitate another pod's or container's. NodeContainerID then holds the
//     container that they really belong to.
//
// Pod UIDs come with dashes, whatever the cgroup driver. A static pod's UID is
// the 32 digits of its configuration's hash.
func (paths Paths) Parse(path string) Place {
	p := parser{table: paths.table, level: events.LevelCgroup}
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
	table  runtimes.Table
	level  events.Level
	parent string // name of the directory above
	w      events.Workload

	service string // the innermost service or scope so far
	outer   string // the outermost container, once another one is within it
	inner   string // name of the child cgroup that is the container as well
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
		if IsContainerID(id) && p.kubeSlice(slice) {
			p.enter(p.table.ByCgroupPrefix(prefix), id)
			return
		}
	}

	switch {
	case name == "kubepods":
		p.kubepods()
	case p.kubeSlice(name), p.pod(name), p.container(name):
	case p.w.ContainerID != "":
		if p.level != events.LevelContainer || name != p.inner {
			p.level = events.LevelCgroup
		}
	case p.level == events.LevelKubepods && (name == qosBurstable || name == qosBestEffort):
		p.level, p.w.QoS = events.LevelQoS, name
	default:
		p.unit(name)
	}
}

// kubepods starts the tree of a kubelet: what was found so far contains it.
func (p *parser) kubepods() {
	p.leave()
	p.w = events.Workload{}
	p.service = ""
	p.level = events.LevelKubepods
}

// leave makes the current container, if any, the outer one.
func (p *parser) leave() {
	if p.outer == "" {
		p.outer = p.w.ContainerID
	}
}

// kubeSlice parses the slices of the kubelet's systemd driver, which repeat the
// names above them: [root-]kubepods[-qos][-poduid].slice.
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

// cutWord cuts "-word" off the start of s, at a word boundary.
func cutWord(s, word string) (string, bool) {
	after, ok := strings.CutPrefix(s, "-"+word)
	if !ok || after != "" && after[0] != '-' {
		return s, false
	}

	return after, true
}

// pod parses the pod's directory of the kubelet's cgroupfs driver, and pods of
// runtimes that have their own.
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

	runtime, id := p.runtimePod(name)
	if runtime == nil || !IsContainerID(id) {
		return false
	}
	p.w.PodUID, p.w.Runtime, p.level = id, runtime.Name, events.LevelPod
	p.w.Unit = p.service

	return true
}

// runtimePod returns the runtime whose pod a directory is by its name, and the
// text that should be the pod's id.
func (p *parser) runtimePod(name string) (runtime *runtimes.Runtime, id string) {
	if runtime := p.table.ByPodParent(p.parent); runtime != nil {
		return runtime, name
	}

	for i := range p.table {
		for _, prefix := range p.table[i].PodPrefixes {
			if _, after, ok := strings.Cut(name, prefix); ok {
				return &p.table[i], strings.TrimSuffix(after, ".slice")
			}
		}
	}

	return nil, ""
}

func (p *parser) container(name string) bool {
	name = strings.TrimSuffix(name, ".scope")
	if len(name) < idLen || !IsContainerID(name[len(name)-idLen:]) {
		return false
	}

	prefix, id := name[:len(name)-idLen], name[len(name)-idLen:]
	if prefix == "" {
		p.enter(p.table.ByCgroupParent(p.parent), id)
		return true
	}

	runtime := p.table.ByCgroupPrefix(strings.TrimSuffix(prefix, "-"))
	if runtime == nil || prefix[len(prefix)-1] != '-' {
		return false
	}

	p.enter(runtime, id)

	return true
}

// enter makes a container the current one. A nil runtime is unknown.
func (p *parser) enter(runtime *runtimes.Runtime, id string) {
	p.leave()

	p.w.Runtime, p.inner = "", ""
	if runtime != nil {
		p.w.Runtime, p.inner = runtime.Name, runtime.InnerCgroup
	}

	p.w.ContainerID = id
	p.level = events.LevelContainer
	p.w.Unit = p.service // a slice is merely the parent of the runtime's cgroups
}

// unit parses names that are neither of Kubernetes nor of a container.
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
		// The init.scope of a user's service manager, or of a service that is one, is
		// not the node's own.
		if name == "init.scope" && p.service != "" {
			p.w.Unit = p.service
			return
		}
		p.level, p.w.Unit, p.service = events.LevelService, name, name
	}
}

const idLen = 64

// IsContainerID reports whether s is 64 lower case hexadecimal digits.
func IsContainerID(s string) bool { return len(s) == idLen && IsHex(s) }

// podUID parses pod<uid>. Unit names of systemd cannot hold the dashes of a UUID,
// so the kubelet writes underscores, which no UID has.
func podUID(s string) (string, bool) {
	s, ok := strings.CutPrefix(s, "pod")
	if !ok {
		return "", false
	}

	switch len(s) {
	case 32:
		return s, IsHex(s)
	case 36:
		at := 0
		for _, n := range [...]int{8, 4, 4, 4, 12} {
			if !IsHex(s[at : at+n]) {
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
