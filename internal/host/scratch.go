// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Scratch is a cgroup with a memory limit, for a demonstration. Close removes it.
type Scratch struct {
	path   string // in the hierarchy
	add    func(pid int) error
	remove func() error
}

// NewScratch makes a cgroup with a limit and without swap, as near to that of this
// process as the rules of the hierarchy permit.
func NewScratch(name string, limitBytes int64) (*Scratch, error) {
	layout, err := Cgroups()
	if err != nil {
		return nil, err
	}

	own, err := OwnCgroup(layout)
	if err != nil {
		return nil, err
	}
	// Where only a part of the hierarchy is mounted, paths start there.
	if rest, ok := strings.CutPrefix(own, strings.TrimSuffix(layout.MountRoot, "/")); ok && layout.MountRoot != "/" {
		own = "/" + strings.TrimPrefix(rest, "/")
	}
	s := &Scratch{}

	var group string
	if layout.MemoryVersion == 1 {
		group, err = s.v1(layout, path.Join(own, name), limitBytes)
	} else {
		group, err = s.v2(layout, own, name, limitBytes)
	}

	if err != nil {
		return nil, fmt.Errorf("create a cgroup for the demo: %w", err)
	}
	s.path = path.Join(layout.MountRoot, group)

	return s, nil
}

func (s *Scratch) v1(layout Layout, group string, limitBytes int64) (string, error) {
	if _, err := os.Stat(filepath.Join(layout.MemoryMount, path.Dir(group))); err != nil {
		group = "/" + path.Base(group) // our own cgroup is not mounted here
	}
	memory := func() ([]cgroup1.Subsystem, error) {
		return []cgroup1.Subsystem{cgroup1.NewMemory(path.Dir(layout.MemoryMount))}, nil
	}

	c, err := cgroup1.New(cgroup1.StaticPath(group), &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &limitBytes, Swappiness: new(uint64)},
	}, cgroup1.WithHierarchy(memory))
	if err != nil {
		return "", err
	}
	s.add = func(pid int) error { return c.AddProc(uint64(pid)) }
	s.remove = c.Delete

	return group, nil
}

// v2 uses the nearest ancestor that delegates the memory controller to its children,
// which a cgroup with processes cannot (Documentation/admin-guide/cgroup-v2.rst, "No
// Internal Process Constraint").
func (s *Scratch) v2(layout Layout, own, name string, limitBytes int64) (string, error) {
	parent := own
	for !delegates(filepath.Join(layout.MemoryMount, parent)) {
		if parent == "/" {
			return "", errors.New("no ancestor cgroup enables the memory controller for its children: " +
				"echo +memory > " + filepath.Join(layout.MemoryMount, "cgroup.subtree_control"))
		}
		parent = path.Dir(parent)
	}
	group := path.Join(parent, name)

	c, err := cgroup2.NewManager(layout.MemoryMount, group, &cgroup2.Resources{
		Memory: &cgroup2.Memory{Max: &limitBytes, Swap: new(int64)},
	})
	if err != nil {
		return "", err
	}
	s.add = func(pid int) error { return c.AddProc(uint64(pid)) }
	s.remove = c.Delete

	return group, nil
}

func delegates(dir string) bool {
	controllers, err := readSmall(filepath.Join(dir, "cgroup.subtree_control"))
	return err == nil && slices.Contains(strings.Fields(string(controllers)), "memory")
}

// Path returns the cgroup's path in its hierarchy.
func (s *Scratch) Path() string { return s.path }

// Add moves a process into the cgroup.
func (s *Scratch) Add(pid int) error {
	if err := s.add(pid); err != nil {
		return fmt.Errorf("put process %d into %s: %w", pid, s.path, err)
	}

	return nil
}

// Close removes the cgroup. It waits for up to a second until the kernel has released
// its processes.
func (s *Scratch) Close() error {
	var err error
	for range 50 {
		if err = s.remove(); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}

		if !errors.Is(err, syscall.EBUSY) && !strings.Contains(err.Error(), "busy") {
			break
		}

		time.Sleep(20 * time.Millisecond)
	}

	return fmt.Errorf("remove the cgroup %s: %w", s.path, err)
}
