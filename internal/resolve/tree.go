// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// DefaultRemembered is how many removed cgroups a Tree remembers at least.
const DefaultRemembered = 16384

// TreeOptions sets up a Tree. The zero value is useful.
type TreeOptions struct {
	// Remember is how many removed cgroups are remembered, the oldest forgotten
	// first; 0 is DefaultRemembered.
	Remember int
	// Hierarchies, unless empty, are the only ones whose changes are taken. On cgroup
	// v1 a container has a cgroup in each hierarchy.
	Hierarchies []uint32
}

// Tree remembers the cgroups of the node: their paths, and the places that they have by
// them.
//
// It belongs to one goroutine and takes no locks. The one part that may run
// elsewhere is Scan.Run:
//
//	scan := tree.NewScan(mount, hierarchy)   // owner, with the hooks attached
//	go func() { scan.Run(ctx); done <- scan }() // reads directories, not the tree
//	tree.Observe(change)                     // owner, meanwhile
//	tree.Merge(<-done)                       // owner
//
// The kernel's events are authoritative, and a scan adds what they lack, so neither
// their order nor their overlap matters: a cgroup that was removed stays removed; one
// that was renamed keeps its new path, also for cgroups that the scan found below it.
//
// A cgroup id is never reused before the next boot, so it identifies an entry.
type Tree struct {
	opts   TreeOptions
	cgroup map[events.CgroupKey]*entry
	seq    uint64 // counts changes, to find those that are older than a scan

	// removed holds the keys of removed cgroups, a ring once it is full; next is
	// the oldest then.
	removed   []events.CgroupKey
	next      int
	forgotten uint64
}

type entry struct {
	// path is the cgroup's own; if it was cut, that of the deepest known ancestor.
	path  string
	cut   bool
	gone  bool
	seq   uint64 // of its creation or last renaming
	place *Place // made by the first call of Tree.Place
}

// NewTree returns an empty tree.
func NewTree(opts TreeOptions) *Tree {
	if opts.Remember <= 0 {
		opts.Remember = DefaultRemembered
	}

	return &Tree{opts: opts, cgroup: make(map[events.CgroupKey]*entry)}
}

// Observe takes a cgroup's creation, removal or renaming. Other operations are
// ignored.
//
// A path that was cut at the record's size (PathCut) or that is empty leaves the
// cgroup's own path unknown, but not the ancestors that the record has: see Place.
// Learn, LearnAncestry or a scan can complete it.
func (t *Tree) Observe(c kernel.CgroupChange) {
	if len(t.opts.Hierarchies) > 0 && !slices.Contains(t.opts.Hierarchies, c.Key.Hierarchy) {
		return
	}

	path, cut := c.Path, c.PathCut || !strings.HasPrefix(c.Path, "/")
	if cut {
		path = parentOf(path) // the last name may be cut as well
	}

	e := t.cgroup[c.Key]
	switch c.Op {
	case "mkdir":
		// A known one was found by a scan, which may have seen a newer name.
		if e == nil {
			t.add(c.Key, path, cut)
		} else if e.cut && !cut {
			e.set(path, false)
		}
	case "rename":
		if e == nil {
			t.add(c.Key, path, cut)
		} else if !e.gone {
			t.rename(c.Key.Hierarchy, e, path, cut)
		}
	case "rmdir":
		if e == nil {
			e = t.add(c.Key, path, cut)
		} else if !cut {
			e.set(path, false)
		}

		t.remove(c.Key, e)
	}
}

// Learn sets the path of a cgroup whose events were lost or cut. A path that is known
// stays as it is.
func (t *Tree) Learn(key events.CgroupKey, path string) {
	if path == "" || path[0] != '/' {
		return
	}

	switch e := t.cgroup[key]; {
	case e == nil:
		t.add(key, path, false)
	case e.cut:
		e.set(path, false)
	}
}

// LearnAncestry learns paths from a memcg ancestry, leaf first: each name that is complete
// makes a path, below a known one or the root. Where all are known it does not
// allocate; cut is set if the ancestry does not reach the root.
func (t *Tree) LearnAncestry(ancestry []kernel.Memcg, cut bool) {
	above, known := "", false

	for i := len(ancestry) - 1; i >= 0; i-- {
		memcg := &ancestry[i]
		if path, ok := t.Path(memcg.Key); ok {
			above, known = path, true
			continue
		}

		switch {
		case i == len(ancestry)-1 && !cut && memcg.Name == "":
			above, known = "/", true
		case !known || memcg.Name == "" || memcg.NameCut:
			known = false
			continue
		default:
			above = join(above, memcg.Name)
		}

		t.Learn(memcg.Key, above)
	}
}

// Path returns a cgroup's path, its last one if it was removed. It is not ok for a
// cgroup that is unknown or whose path was cut.
func (t *Tree) Path(key events.CgroupKey) (path string, ok bool) {
	if e := t.cgroup[key]; e != nil && !e.cut {
		return e.path, true
	}

	return "", false
}

// Place returns a cgroup's place and path. It is not ok for an unknown cgroup, whose
// place is that of an empty path.
//
// A cgroup with a cut path is ok, but its path is empty, its level LevelCgroup and its
// workload that of the nearest ancestor in the record, which contains it.
//
// The place is made once for each cgroup; later calls do not allocate.
func (t *Tree) Place(key events.CgroupKey) (place Place, path string, ok bool) {
	e := t.cgroup[key]
	if e == nil {
		return Place{Level: events.LevelCgroup}, "", false
	}

	if e.place == nil {
		p := ParsePath(e.path)
		if e.cut {
			p.Level = events.LevelCgroup
		}
		e.place = &p
	}

	if e.cut {
		return *e.place, "", true
	}

	return *e.place, e.path, true
}

// Live calls f with the place of each cgroup that is known to exist, in no order.
func (t *Tree) Live(f func(Place)) {
	for key, e := range t.cgroup {
		if !e.gone {
			place, _, _ := t.Place(key)
			f(place)
		}
	}
}

// Merge takes a finished scan. Cgroups that were known before the scan was made, and
// that a complete scan of a whole hierarchy did not find, were removed without a
// record, and count as removed: Scan.Gone has them then.
//
// It returns false if another scan is needed for every path to be certain: a cgroup was
// renamed meanwhile, which is possible in cgroup v1 only, or so many were removed that
// some are forgotten and may have been added again by the scan.
func (t *Tree) Merge(s *Scan) bool {
	h := s.hierarchy
	sure := t.forgotten == s.forgotten
	seen := make(map[uint64]bool, len(s.found))

	paths := make([]string, len(s.found))
	for i, f := range s.found {
		seen[f.id] = true
		// A cgroup cannot move to another parent, and parents precede their children
		// in a scan: only names can have changed.
		place := func(name string) string {
			if f.parent < 0 {
				return f.name
			}

			return join(paths[f.parent], name)
		}
		paths[i] = place(f.name)
		key := events.CgroupKey{Hierarchy: h, ID: f.id}

		e := t.cgroup[key]
		if e == nil {
			t.add(key, paths[i], false)
			continue
		}

		if e.gone && !e.cut {
			continue
		}

		if !e.cut && e.seq > s.since {
			newer := place(nameOf(e.path))
			sure = sure && newer == paths[i]
			paths[i] = newer
		}

		e.set(paths[i], false)
	}

	if s.complete && paths[0] == "/" {
		for key, e := range t.cgroup {
			if key.Hierarchy == h && !e.gone && e.seq <= s.since && !seen[key.ID] {
				t.remove(key, e)
				s.Gone = append(s.Gone, key)
			}
		}
	}

	return sure
}

func (t *Tree) add(key events.CgroupKey, path string, cut bool) *entry {
	t.seq++
	e := &entry{path: path, cut: cut, seq: t.seq}
	t.cgroup[key] = e

	return e
}

func (t *Tree) remove(key events.CgroupKey, e *entry) {
	if e.gone {
		return
	}
	e.gone = true

	if len(t.removed) < t.opts.Remember {
		t.removed = append(t.removed, key)
		return
	}

	delete(t.cgroup, t.removed[t.next])
	t.forgotten++
	t.removed[t.next] = key
	t.next = (t.next + 1) % len(t.removed)
}

// rename moves e and its live descendants. Removed cgroups keep their last path.
// Cgroups are rarely renamed, so it may visit all.
func (t *Tree) rename(hierarchy uint32, e *entry, to string, cut bool) {
	from, unknown := e.path, e.cut
	t.seq++
	e.seq = t.seq
	e.set(to, cut)

	if unknown || from == to || from == "/" {
		return
	}

	for key, c := range t.cgroup {
		if c == e || key.Hierarchy != hierarchy || c.gone {
			continue
		}

		below, ok := strings.CutPrefix(c.path, from)
		switch {
		case !ok || below != "" && below[0] != '/' || below == "" && !c.cut:
		case cut:
			c.set(to, true)
		default:
			c.set(to+below, c.cut)
		}
	}
}

func (e *entry) set(path string, cut bool) {
	if e.path != path || e.cut != cut {
		e.path, e.cut, e.place = path, cut, nil
	}
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}

	return dir + "/" + name
}

// nameOf returns the last name of a path.
func nameOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// parentOf returns the path without its last name.
func parentOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}

	return "/"
}
