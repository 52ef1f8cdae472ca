// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Names knows the names of containers and pods. *names.Resolver implements it; none of its
// methods waits, and Fill is safe for concurrent use.
type Names interface {
	Seen(Ref)
	Found(Ref)
	Gone(Ref)
	Fill(*events.Workload) *events.Workload
}

// NamedTree is a Tree whose places have the names that are known so far: from a
// cgroup's id to a named workload. It belongs to one goroutine, like the tree.
type NamedTree struct {
	*Tree
	names Names
}

// NewNamedTree returns a tree with names; nil names leave ids.
func NewNamedTree(tree *Tree, names Names) NamedTree { return NamedTree{tree, names} }

// Observe is Tree.Observe. It also has the names of a new container or pod looked up.
func (n NamedTree) Observe(c kernel.CgroupChange) {
	n.Tree.Observe(c)

	if n.names == nil {
		return
	}

	place, _, _ := n.Tree.Place(c.Key)

	switch c.Op {
	case "mkdir":
		lookUp(place, n.names.Seen)
	case "rmdir":
		lookUp(place, n.names.Gone)
	}
}

// Merge is Tree.Merge. It also has the names of all containers and pods looked up.
func (n NamedTree) Merge(s *Scan) bool {
	sure := n.Tree.Merge(s)

	if n.names != nil {
		n.Live(func(place Place) { lookUp(place, n.names.Found) })
	}

	return sure
}

// Place is Tree.Place, with names.
func (n NamedTree) Place(key events.CgroupKey) (place Place, path string, ok bool) {
	place, path, ok = n.Tree.Place(key)
	if n.names != nil {
		place.Workload = n.names.Fill(place.Workload)
	}

	return place, path, ok
}

// Placer returns a function from a cgroup's path to its level and its workload, with the
// names that are known when it is called; nil names leave ids. The function is safe for
// concurrent use.
func Placer(names Names) func(path string) (events.Level, *events.Workload) {
	return func(path string) (events.Level, *events.Workload) {
		place := ParsePath(path)
		if names != nil {
			place.Workload = names.Fill(place.Workload)
		}

		return place.Level, place.Workload
	}
}

// lookUp passes on the ids of a cgroup that is a container's or a pod's own.
func lookUp(place Place, to func(Ref)) {
	ref, ok := RefOf(place.Workload)
	if ok && (place.Level == events.LevelContainer || place.Level == events.LevelPod) {
		to(ref)
	}
}
