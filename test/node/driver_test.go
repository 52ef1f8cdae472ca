// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/oomtrace/oomtrace/internal/host"
)

// driver makes the cgroups of pods as the kubelet does with its cgroupDriver of
// that name. Paths are those within the hierarchy.
type driver interface {
	// root is the cgroup of all pods.
	root() string
	pod(uid string) string
	// leaf is the name of a container's cgroup below its pod's.
	leaf(id string) string
	// create makes a pod's cgroup, before the runtime knows the pod. A limit of 0 is
	// none.
	create(pod string, limitBytes int) error
	remove(pod string) error
	// close removes what is above the pods.
	close() error
}

func newDriver(name string, layout host.Layout) (driver, error) {
	switch name {
	case "cgroupfs":
		return cgroupfs{layout, "/oomtrace-cri-" + strconv.Itoa(os.Getpid())}, nil
	case "systemd":
		d := systemd{layout}
		if layout.MemoryVersion != 2 {
			return nil, errors.New("the driver systemd needs cgroup v2")
		}

		if _, err := os.Stat(filepath.Join(layout.MemoryMount, d.root())); err == nil {
			return nil, fmt.Errorf("%s exists: this machine has pods of its own", d.root())
		}

		return d, nil
	}

	return nil, fmt.Errorf("unknown driver %q: use cgroupfs or systemd", name)
}

// cgroupfs has a parent that nobody else uses.
type cgroupfs struct {
	host.Layout
	parent string
}

func (d cgroupfs) root() string          { return d.parent }
func (d cgroupfs) pod(uid string) string { return d.parent + "/kubepods/burstable/pod" + uid }
func (d cgroupfs) leaf(id string) string { return id }

func (d cgroupfs) create(pod string, limitBytes int) error {
	dir := d.MemoryMount
	for part := range strings.SplitSeq(strings.Trim(pod, "/"), "/") {
		if d.MemoryVersion == 2 {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
				return err
			}
		}

		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}

	if limitBytes == 0 {
		return nil
	}

	file := "memory.limit_in_bytes"
	if d.MemoryVersion == 2 {
		file = "memory.max"
	}

	return os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(limitBytes)), 0)
}

// remove leaves pods to close: runc removes its own part some time later.
func (d cgroupfs) remove(string) error { return nil }

// close removes the parents of the pods, in every hierarchy. It fails at the cgroup of a
// container.
func (d cgroupfs) close() error {
	var errs []error

	for _, dir := range cgroupDirs(d.parent) {
		var all []string

		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				all = append(all, path)
			}

			return nil
		})
		for _, path := range slices.Backward(all) {
			if len(filepath.Base(path)) == 64 {
				err = errors.Join(err, fmt.Errorf("the cgroup of a container is left behind: %s", path))
			}
			err = errors.Join(err, syscall.Rmdir(path))
		}

		errs = append(errs, err)
	}

	return errors.Join(errs...)
}

// cgroupDirs are where a path is a cgroup: of cgroup v2, or of some of v1's
// hierarchies.
func cgroupDirs(path string) []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	if _, err := os.Stat("/sys/fs/cgroup" + path); err == nil {
		dirs = append(dirs, "/sys/fs/cgroup"+path)
	}

	return dirs
}

// systemd has a slice for each pod, and the runtime a scope for each container.
type systemd struct{ host.Layout }

func (systemd) root() string { return "/kubepods.slice" }

func (d systemd) pod(uid string) string {
	// A dash stands for a level of the hierarchy (systemd.slice(5)).
	return d.root() + "/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
}

func (systemd) leaf(id string) string { return "cri-containerd-" + id + ".scope" }

func (systemd) create(pod string, limitBytes int) error {
	slice := filepath.Base(pod)
	if err := systemctl("start", slice); err != nil || limitBytes == 0 {
		return err
	}

	return systemctl("set-property", "--runtime", slice, "MemoryMax="+strconv.Itoa(limitBytes))
}

func (systemd) remove(pod string) error {
	slice := filepath.Base(pod)
	if err := systemctl("stop", slice); err != nil {
		return err
	}

	return systemctl("revert", slice)
}

func (d systemd) close() error { return systemctl("stop", filepath.Base(d.root())) }

func systemctl(args ...string) error {
	if text, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, text)
	}

	return nil
}
