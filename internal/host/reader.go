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

// Reader reads the memory of the machine, of its cgroups and of its processes.
// What cannot be read is absent in the answer. It keeps nothing open and
// remembers nothing, so it is safe for concurrent use.
type Reader struct {
	// Root is where /proc and /sys are; empty is "/".
	Root string
	// Layout is of the cgroups; the zero Layout has none.
	Layout Layout
	// Place tells level and workload of a cgroup by its path. Nil: nobody knows.
	Place func(path string) (events.Level, *events.Workload)
}

// in is a path of /proc or /sys.
func (r Reader) in(path string) string { return filepath.Join("/", r.Root, path) }

func (r Reader) place(path string) (events.Level, *events.Workload) {
	if r.Place == nil {
		return events.LevelCgroup, nil
	}

	return r.Place(path)
}

// Cgroup identifies a cgroup by its path in the hierarchy. Its id is the inode
// number of its directory (fs/kernfs), 0 if it is not there.
func (r Reader) Cgroup(path string) events.Cgroup {
	c := events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: r.Layout.HierarchyID}, Path: path}
	if info, err := os.Stat(r.Layout.dir(path)); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			c.ID = stat.Ino
		}
	}

	return c
}

// Shares returns the cgroups right below the one at path, the largest first, at
// most that many, and how many it left out.
func (r Reader) Shares(path string, most int) (shares []events.Share, leftOut int) {
	return largest(r.children(path), most)
}

// children has one share for each cgroup below path. It costs some 20 µs each.
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
			continue // gone meanwhile
		}
		share.Level, share.Workload = r.place(child)
		share.UsageBytes, share.MaxBytes = r.Layout.usage(child)
		shares = append(shares, share)
	}

	return shares
}

func largest(shares []events.Share, most int) (kept []events.Share, leftOut int) {
	slices.SortStableFunc(shares, func(a, b events.Share) int { return cmp.Compare(value(b.UsageBytes), value(a.UsageBytes)) })
	most = min(most, len(shares))

	return shares[:most:most], len(shares) - most
}

// value takes what is not known for nothing, to put it last.
func value(n *uint64) uint64 {
	if n == nil {
		return 0
	}

	return *n
}

// CgroupOf returns the path of a process in the memory hierarchy; false if there
// is no such process.
func (r Reader) CgroupOf(pid int) (path string, ok bool) {
	text, err := readSmall(r.in(filepath.Join("proc", strconv.Itoa(pid), "cgroup")))
	if err != nil {
		return "", false
	}

	return memoryPath(text, r.Layout)
}
