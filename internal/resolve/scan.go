// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxDepth bounds the depth of a scan: each level has an open directory.
const maxDepth = 256

// Scan finds the cgroups that exist, by reading the mount of their hierarchy.
// Tree.NewScan makes a scan, Tree.Merge takes the result.
type Scan struct {
	// Base is the path within the hierarchy of the mounted directory; empty is "/".
	// It differs where only a part of the hierarchy is mounted.
	Base string
	// Gone are the cgroups that were removed without a record, as Tree.Merge has found.
	Gone []events.CgroupKey

	dir       string
	hierarchy uint32
	since     uint64 // Tree.seq when the scan was made
	forgotten uint64

	found    []found
	dev      uint64
	complete bool
	errs     []error
}

type found struct {
	id     uint64
	parent int // index in Scan.found, -1 of the top
	name   string
}

// NewScan returns a scan of a hierarchy (0 is cgroup v2) that is mounted at dir. The
// hook that feeds Observe must be attached before the scan runs, or cgroups that are
// made in between are missed.
func (t *Tree) NewScan(dir string, hierarchy uint32) *Scan {
	return &Scan{dir: dir, hierarchy: hierarchy, since: t.seq, forgotten: t.forgotten}
}

// Run reads the mount. It may run in a goroutine of its own, and accesses nothing but
// the scan. A cgroup's id is the inode number of its directory (fs/kernfs; 64-bit
// kernels since 5.5).
//
// Directories that are removed meanwhile are not errors. Others that cannot be read are
// skipped and reported together; the result can be merged all the same. Once ctx is done,
// Run returns its error, with what was found until then.
func (s *Scan) Run(ctx context.Context) error {
	s.found, s.errs = nil, nil

	top, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("scan cgroups: %w", err)
	}

	base := s.Base
	if base == "" {
		base = "/"
	}
	s.complete = true
	s.walk(ctx, top, -1, base, 0)

	if err := ctx.Err(); err != nil {
		s.complete = false
		return fmt.Errorf("scan cgroups of %s: %w", s.dir, err)
	}

	if len(s.errs) > 0 {
		return fmt.Errorf("scan cgroups of %s: %w", s.dir, errors.Join(s.errs...))
	}

	return nil
}

// walk records a directory and its descendants. It follows open directories, not paths,
// so that a renaming meanwhile loses nothing.
func (s *Scan) walk(ctx context.Context, dir *os.Root, parent int, name string, depth int) {
	defer dir.Close()

	self, err := dir.Open(".")
	if err != nil {
		s.fail(dir.Name(), err)
		return
	}
	defer self.Close()

	info, err := self.Stat()
	if err != nil {
		s.fail(dir.Name(), err)
		return
	}

	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		s.fail(dir.Name(), errors.New("no inode number"))
		return
	}

	if parent < 0 {
		s.dev = uint64(st.Dev)
	} else if uint64(st.Dev) != s.dev { // another file system is mounted here
		return
	}
	index := len(s.found)
	s.found = append(s.found, found{id: st.Ino, parent: parent, name: name})

	list, err := self.ReadDir(-1)
	if err != nil {
		s.fail(dir.Name(), err)
	}

	for _, d := range list {
		if ctx.Err() != nil {
			return
		}

		if !d.IsDir() {
			continue
		}

		if depth == maxDepth {
			s.fail(dir.Name(), fmt.Errorf("more than %d levels below the mount", maxDepth))
			return
		}

		child, err := dir.OpenRoot(d.Name())
		if err != nil {
			s.fail(d.Name(), err)
			continue
		}

		s.walk(ctx, child, index, d.Name(), depth+1)
	}
}

// maxErrors bounds the errors that a scan reports.
const maxErrors = 8

func (s *Scan) fail(name string, err error) {
	// kernfs returns ENODEV for a directory that is being removed.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return
	}

	s.complete = false
	if len(s.errs) < maxErrors {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
	}
}
