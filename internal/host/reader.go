// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Reader reads the memory of the machine, of its cgroups and of its processes. What
// cannot be read is absent in the result. It has no state, so it is safe for
// concurrent use.
type Reader struct {
	// Root is the directory of /proc and /sys; empty is "/".
	Root string
	// Layout is that of the cgroups; the zero Layout has none.
	Layout Layout
	// Place returns level and workload of a cgroup by its path, and is safe for concurrent
	// use. Nil: both are unknown.
	Place func(path string) (events.Level, *events.Workload)
}

// in returns the path of a file in /proc or /sys.
func (r Reader) in(path string) string { return filepath.Join("/", r.Root, path) }

func (r Reader) place(path string) (events.Level, *events.Workload) {
	if r.Place == nil {
		return events.LevelCgroup, nil
	}

	return r.Place(path)
}

// Cgroup identifies a cgroup by its path in the hierarchy. Its id is the inode number
// of its directory (fs/kernfs), 0 if it does not exist.
func (r Reader) Cgroup(path string) events.Cgroup {
	c := events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: r.Layout.HierarchyID}, Path: path}
	if info, err := os.Stat(r.Layout.dir(path)); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			c.ID = stat.Ino
		}
	}

	return c
}

// Shares returns the children of the cgroup at path, the largest first, at most limit,
// and how many it left out.
func (r Reader) Shares(path string, limit int) (shares []events.Share, leftOut int) {
	return largest(r.children(path), limit)
}

// children returns a share for each child of the cgroup at path. It costs some 20 µs
// each.
func (r Reader) children(path string) []events.Share {
	if r.Layout.MemoryMount == "" {
		return nil
	}

	entries, err := os.ReadDir(r.Layout.dir(path))
	if err != nil {
		return nil
	}
	var shares []events.Share

	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		child := filepath.Join(path, entry.Name())

		share := events.Share{Cgroup: r.Cgroup(child)}
		if share.Cgroup.ID == 0 {
			continue // removed meanwhile
		}
		share.Level, share.Workload = r.place(child)
		share.UsageBytes, share.MaxBytes = r.Layout.usage(child)
		shares = append(shares, share)
	}

	return shares
}

// largest sorts shares by their usage, and cuts the list.
func largest(shares []events.Share, limit int) (kept []events.Share, leftOut int) {
	slices.SortStableFunc(shares, func(a, b events.Share) int { return cmp.Compare(value(b.UsageBytes), value(a.UsageBytes)) })
	limit = min(limit, len(shares))

	return slices.Clone(shares[:limit]), len(shares) - limit // without what an incident would keep of the others
}

// value returns 0 for an unknown number, which sorts it last.
func value(n *uint64) uint64 {
	if n == nil {
		return 0
	}

	return *n
}

// CgroupOf returns the path of a process in the memory hierarchy. It is not ok if there
// is no such process.
func (r Reader) CgroupOf(pid int) (path string, ok bool) {
	text, err := readSmall(r.in(filepath.Join("proc", strconv.Itoa(pid), "cgroup")))
	if err != nil {
		return "", false
	}

	return memoryPath(text, r.Layout)
}
