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
	// Hierarchies, where given, are the only ones that matter: changes of others
	// are ignored. On cgroup v1 a container has one cgroup in each hierarchy.
	Hierarchies []uint32
}

// Tree remembers the cgroups of the node: their paths, and what the paths say.
//
// It belongs to one goroutine and takes no locks. The one part that may run
// elsewhere is Scan.Run:
//
//	scan := tree.NewScan(mount, hierarchy)   // owner, with the hooks attached
//	go func() { scan.Run(); done <- scan }() // reads directories, not the tree
//	tree.Observe(change)                     // owner, meanwhile
//	tree.Merge(<-done)                       // owner
//
// The kernel's events are the truth and a scan fills what they left out, so
// neither their order nor their overlap matters: a cgroup seen to be removed
// stays removed, one seen to be renamed keeps its new path and passes it on to
// what the scan found below it.
//
// A cgroup id is never used again while the node is up, so an entry needs no
// more than its key.
type Tree struct {
	opts   TreeOptions
	cgroup map[events.CgroupKey]*entry
	seq    uint64 // counts changes, to tell what is older than a scan

	// removed holds the keys of removed cgroups, a ring once it is full; next is
	// the oldest then.
	removed   []events.CgroupKey
	next      int
	forgotten uint64
}

type entry struct {
	// path is the cgroup's; of a cut one, that of the deepest ancestor known.
	path  string
	cut   bool
	gone  bool
	seq   uint64 // of its creation or last renaming
	place *Place // made when first asked for
}

// NewTree returns an empty tree.
func NewTree(opts TreeOptions) *Tree {
	if opts.Remember <= 0 {
		opts.Remember = DefaultRemembered
	}

	return &Tree{opts: opts, cgroup: make(map[events.CgroupKey]*entry)}
}

// Observe takes in a cgroup's creation, removal or renaming. Other operations
// are ignored.
//
// A path that was cut by the record's size (PathCut, the path then being its
// beginning) or that is empty leaves the cgroup's own path unknown, but not what it is inside
// of: see Place. Learn, LearnChain or a scan can complete it.
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

// Learn gives the path of a cgroup whose events were lost or cut. What is known
// already stays as it is.
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

// LearnChain learns from a chain of cgroups, leaf first, as a kernel decision
// has it: each name that the kernel gave in full, below a known path or the
// root, makes a path. It does nothing, quickly, where all are known; cut says
// that the chain does not reach the root.
func (t *Tree) LearnChain(chain []kernel.Memcg, cut bool) {
	above, known := "", false

	for i := len(chain) - 1; i >= 0; i-- {
		l := &chain[i]
		if path, ok := t.Path(l.Key); ok {
			above, known = path, true
			continue
		}

		switch {
		case i == len(chain)-1 && !cut && l.Name == "":
			above, known = "/", true
		case !known || l.Name == "" || l.NameCut:
			known = false
			continue
		default:
			above = join(above, l.Name)
		}

		t.Learn(l.Key, above)
	}
}

// Path returns a cgroup's path; of a removed one, its last. It is not ok for a
// cgroup that is unknown or whose path was cut.
func (t *Tree) Path(key events.CgroupKey) (path string, ok bool) {
	if e := t.cgroup[key]; e != nil && !e.cut {
		return e.path, true
	}

	return "", false
}

// Place returns what a cgroup is and its path. It is not ok for an unknown one;
// its place is then that of an empty path.
//
// A cgroup with a cut path is ok, but its path is empty, its level LevelCgroup
// and its workload that of the nearest ancestor that the record still held: it
// is somewhere inside of that.
//
// The place is made once for each cgroup; asking again does not allocate.
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

// Live calls f with the place of each cgroup that exists, as far as is known, in no
// order.
func (t *Tree) Live(f func(Place)) {
	for key, e := range t.cgroup {
		if !e.gone {
			place, _, _ := t.Place(key)
			f(place)
		}
	}
}

// TreeStats counts what a Tree holds.
type TreeStats struct {
	Live      int    // cgroups that exist, as far as is known
	Removed   int    // removed ones that are remembered
	Forgotten uint64 // removed ones that were, since the start
}

// Stats returns the present counts.
func (t *Tree) Stats() TreeStats {
	return TreeStats{
		Live:      len(t.cgroup) - len(t.removed),
		Removed:   len(t.removed),
		Forgotten: t.forgotten,
	}
}

// Merge takes in a finished scan. Cgroups that were known before the scan was
// made, and that a complete scan of a whole hierarchy did not find, were
// removed without a record; they become removed ones.
//
// It returns false where so much happened meanwhile that another scan is
// needed to be sure of every path: a cgroup was renamed, which only cgroup v1
// can do, or so many were removed that some are forgotten already and may have
// come back to life.
func (t *Tree) Merge(s *Scan) bool {
	h := s.hierarchy
	sure := t.forgotten == s.forgotten
	seen := make(map[uint64]bool, len(s.found))

	paths := make([]string, len(s.found))
	for i, f := range s.found {
		seen[f.id] = true
		// A cgroup cannot move to another parent, and parents precede their
		// children here: only names can have changed.
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

// rename moves e and what lives below it. Removed cgroups keep the path that
// they had. Hardly anything renames cgroups: a walk over all is good enough.
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
