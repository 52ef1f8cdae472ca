// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
)

// cgroup is a directory of the hierarchy.
type cgroup struct {
	name     string
	path     string // in the hierarchy
	dir      string
	id       uint64
	parent   *cgroup
	children []*cgroup
	// links is st_nlink: kernfs counts two and each child (fs/kernfs/inode.c:
	// kernfs_refresh_inode). So a child that was made or removed shows without reading the
	// directory.
	links uint64
	index int    // in Sampler.all; -1: it is gone
	born  uint64 // the tick at which it was found

	level    events.Level
	workload *events.Workload

	current  file
	used     Value[uint64]
	limit    Value[uint64]
	limitDue uint64 // the tick at which it is read again
	history  history
	detail   *detail // nil: nobody looks at it

	// Of the snapshot that is being made.
	headroom      Value[uint64] // not known: no limit
	limiter       *cgroup
	growth        Value[float64]
	stalled, high float64
	read          bool
	leftOut       int // children beyond the bound
}

// maxCgroups bounds how many cgroups are kept, in memory of some 700 bytes each.
const maxCgroups = 1 << 16

const (
	// leafTurns is in how many ticks each cgroup without children is looked at for new ones.
	leafTurns = 16
	// youngTicks is for how long a new cgroup is looked at each time: what is made in it mostly
	// follows at once.
	youngTicks = 30
)

// refresh looks for cgroups that were made or removed.
func (s *Sampler) refresh() {
	changed := s.dirty
	s.dirty = false

	if s.look(s.root) {
		changed = true
	}

	for _, c := range s.all {
		young := c.born > 1 && s.ticks-c.born < youngTicks
		if len(c.children) == 0 && c.links != 0 && !young && (s.ticks+uint64(c.index))%leafTurns != 0 {
			continue
		}

		if s.look(c) {
			changed = true
		}
	}

	if changed {
		s.flatten()
	}
}

// look compares the number of links of a cgroup, and reads its directory if it has changed.
// It reports whether the tree changed.
func (s *Sampler) look(c *cgroup) bool {
	if c.index < 0 {
		return false
	}

	var stat unix.Stat_t
	if err := unix.Stat(c.dir, &stat); err != nil {
		return gone(err) && c.parent != nil && s.remove(c)
	}

	if c.id != 0 && c.id != stat.Ino && c.parent != nil { // removed, and made again
		return s.remove(c)
	}

	if c.id = stat.Ino; uint64(stat.Nlink) == c.links && c.links >= 2 && !c.stale() {
		return false
	}
	c.links = uint64(stat.Nlink)

	return s.list(c)
}

// stale reports whether the number of children that are known is another than the kernel's.
func (c *cgroup) stale() bool { return uint64(len(c.children)+c.leftOut)+2 != c.links }

// list reads the directory of a cgroup and adds its new children, with all below them.
func (s *Sampler) list(c *cgroup) bool {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return false // it shows when the cgroup is looked at again
	}

	s.leftOut -= c.leftOut
	c.leftOut = 0

	known := make(map[string]*cgroup, len(c.children))
	for _, child := range c.children {
		known[child.name] = child
	}
	changed := false

	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}

		if known[entry.Name()] != nil {
			delete(known, entry.Name())
			continue
		}

		if s.count >= maxCgroups {
			s.leftOut++
			c.leftOut++

			continue
		}

		child := &cgroup{
			name: entry.Name(), path: path.Join(c.path, entry.Name()), dir: c.dir + "/" + entry.Name(), parent: c, born: s.ticks,
		}
		s.place(child)
		s.count++

		c.children = append(c.children, child)
		changed = true

		s.look(child)
	}

	for _, child := range known {
		changed = s.remove(child) || changed
	}

	return changed
}

// remove takes a cgroup out of the tree, with all below it.
func (s *Sampler) remove(c *cgroup) bool {
	if c.index < 0 {
		return false
	}

	siblings := c.parent.children[:0]
	for _, child := range c.parent.children {
		if child != c {
			siblings = append(siblings, child)
		}
	}
	c.parent.children = siblings
	c.parent.links = 0 // another may have come in its place
	s.forget(c)

	return true
}

func (s *Sampler) forget(c *cgroup) {
	c.index = -1
	s.count--
	s.leftOut -= c.leftOut
	s.closeFiles(c)

	for _, child := range c.children {
		s.forget(child)
	}
}

// flatten lists the tree, each cgroup after its parent.
func (s *Sampler) flatten() {
	s.all = s.all[:0]
	clear(s.byID)

	var add func(*cgroup)

	add = func(c *cgroup) {
		for _, child := range c.children {
			child.index = len(s.all)
			s.all = append(s.all, child)
			s.byID[child.id] = child
			add(child)
		}
	}
	add(s.root)
}

func (s *Sampler) place(c *cgroup) {
	if s.opts.Place != nil {
		c.level, c.workload = s.opts.Place(c.path)
	}
}

func (s *Sampler) closeFiles(c *cgroup) {
	if c.current.open {
		s.open--
	}

	c.current.close()

	if c.detail != nil {
		c.detail.close()
		c.detail = nil
	}
}
