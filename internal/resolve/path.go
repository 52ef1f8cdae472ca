// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// SourcePath is Workload.Source where nothing but the path is known.
const SourcePath = "path"

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
// A path is a list of levels, outermost first: a slice, a service, a pod, a
// container, a guest, a job. Each name of the path is recognized by one of the
// families (kubernetes, containers, jobs, guests, units), or is a plain cgroup.
// The rules:
//
//   - A plain cgroup below a level is of LevelCgroup, with the workload that it is
//     part of: its limit is not the one that was given to the workload. The
//     exception is the child that holds all of it, such as "container" of crun and
//     "ns" of LXC: it is the workload.
//   - The workload is the innermost one. Within has the services, containers, guests
//     and jobs around it.
//   - A guest or container may be a machine of its own: its units and pods are its
//     own, not the host's. The outermost container with another one or a kubelet
//     inside (kind, k3d, docker in docker) is NodeContainerID, the one that the
//     node's own runtime knows.
//   - A container's monitor (conmon) belongs to the pod, not to the container.
//   - Unit is the innermost service, scope or slice of systemd; of a container
//     outside of pods, and of a job, the service that it runs in, if any.
//   - Names below a container or a guest are chosen by whoever may write there, and
//     can imitate another pod's or container's. Within, and NodeContainerID, hold
//     what they really belong to.
//
// Pod UIDs come with dashes, whatever the cgroup driver.
func (paths Paths) Parse(path string) Place {
	if path == "/" {
		return Place{Level: events.LevelNode}
	}

	w := walk{table: paths.table, plain: true}

	for rest := path; rest != ""; {
		var name string

		name, rest, _ = strings.Cut(rest, "/")
		if name == "" || name == ".." { // ".." comes from outside a cgroup namespace
			continue
		}

		w.step(name)
		w.above, w.parent = w.parent, name
	}

	return placeOf(w.levels[:w.depth], w.plain)
}

// kind is the kind of a level.
type kind uint8

const (
	kindSlice     kind = iota
	kindService        // a service or scope of systemd, or a service of Talos
	kindKubepods       // the root of a kubelet's tree
	kindQoS            // a QoS class
	kindPod            // a pod
	kindContainer      // a container
	kindGuest          // a system container or a virtual machine
	kindJob            // a job of a scheduler
)

var publishedLevels = [...]events.Level{
	kindSlice: events.LevelSlice, kindService: events.LevelService, kindKubepods: events.LevelKubepods, kindQoS: events.LevelQoS,
	kindPod: events.LevelPod, kindContainer: events.LevelContainer, kindGuest: events.LevelGuest, kindJob: events.LevelJob,
}

// level is one level of a path.
type level struct {
	kind kind
	// name is a unit, a QoS class, a pod's UID, or a container's id.
	name string
	// system is the runtime of a pod or container, or what has a service.
	system string
	// sandbox is the virtual machine of a container.
	sandbox string
	// inner is the name of the child that holds all of it, and is the same level.
	inner string

	guest *events.Guest
	job   *events.Job
}

// maxLevels bounds the levels of a path. Of more than that the outermost count, which nobody
// can imitate, and the innermost.
const maxLevels = 12

// walk recognizes the levels of a path from the root down.
type walk struct {
	table runtimes.Table
	// parent and above are the names of the directory above, and of the one above that.
	parent, above string

	levels [maxLevels]level
	depth  int  // how many levels there are
	plain  bool // the cgroup reached is a plain one, below the last level

	below int // how many names the cgroup is below the root of its machine: the host, a container, a guest

	slurm     bool   // below a directory of Slurm
	slurmUser string // the user id there
}

func (w *walk) step(name string) {
	if w.isInner(name) {
		w.below = 0
		return
	}

	w.below++

	w.plain = !(w.kubernetes(name) || w.containers(name) || w.jobs(name) || w.guests(name) || w.units(name))
	if w.at(kindContainer) || w.at(kindGuest) {
		w.below = 0
	}
}

// sysboxRoot is the child that Sysbox makes the root of a container's cgroups (cgroup v1).
const sysboxRoot = "syscont-cgroup-root"

// isInner reports whether a name is that of a child that holds all of the level above.
func (w *walk) isInner(name string) bool {
	last := w.last()
	return last != nil && !w.plain && (name == last.inner || last.kind == kindContainer && name == sysboxRoot)
}

// last is the innermost level so far, nil if there is none.
func (w *walk) last() *level {
	if w.depth == 0 {
		return nil
	}

	return &w.levels[w.depth-1]
}

// at reports whether the cgroup reached is a level of that kind itself.
func (w *walk) at(k kind) bool {
	last := w.last()
	return last != nil && !w.plain && last.kind == k
}

// enter adds a level. A slice repeats the slices above in its name, and is the parent of
// cgroups only: the last one counts.
func (w *walk) enter(l level) bool {
	last := w.last()
	if last == nil || w.depth < maxLevels && (last.kind != kindSlice || l.kind != kindSlice) {
		w.depth++
	}
	w.levels[w.depth-1] = l

	return true
}

// onHost reports whether the path has not yet entered a container or a guest.
func (w *walk) onHost() bool {
	for i := range w.depth {
		if k := w.levels[i].kind; k == kindContainer || k == kindGuest {
			return false
		}
	}

	return true
}

// inside reports whether the innermost machine has a level of that kind so far.
func (w *walk) inside(k kind) bool {
	for i := w.depth - 1; i >= 0; i-- {
		switch w.levels[i].kind {
		case k:
			return true
		case kindContainer, kindGuest:
			return false
		}
	}

	return false
}
