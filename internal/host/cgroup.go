// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	containerd "github.com/containerd/cgroups/v3"
)

// Layout describes where the memory controller is mounted.
type Layout struct {
	Mode          string // v1, v2, or hybrid: both are mounted
	MemoryVersion int    // of the hierarchy with the memory controller: 1 or 2
	HierarchyID   uint32 // of it: 0 for cgroup v2
	MemoryMount   string // where it is mounted
	// MountRoot is the path within the hierarchy that is mounted; not "/" in a
	// container that sees only its own part.
	MountRoot string
	// LocalEvents is whether memory.events of a cgroup has no events of its descendants
	// (mount option memory_localevents of cgroup v2).
	LocalEvents bool
}

// mount has fields of a line of mountinfo.
type mount struct{ root, point, fsType, options string }

// Cgroups finds the memory controller. Its errors state what to do.
func Cgroups() (Layout, error) { return cgroups("/") }

func cgroups(root string) (Layout, error) {
	text, err := readSmall(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return Layout{}, fmt.Errorf("read the mounts: %w: is /proc mounted?", err)
	}
	var v1, v2 []mount

	for _, m := range parseMounts(text) {
		switch m.fsType {
		case "cgroup":
			v1 = append(v1, m)
		case "cgroup2":
			v2 = append(v2, m)
		}
	}
	layout := Layout{Mode: "hybrid"}

	switch {
	case len(v1) == 0 && len(v2) == 0:
		return Layout{}, errors.New("no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")
	case len(v1) == 0:
		layout.Mode = "v2"
	case len(v2) == 0:
		layout.Mode = "v1"
	}

	for _, m := range v1 {
		if !slices.Contains(strings.Split(m.options, ","), "memory") {
			continue
		}

		id, err := memoryHierarchy(root)
		if err != nil {
			return Layout{}, err
		}
		layout.MemoryVersion, layout.HierarchyID = 1, id
		layout.MemoryMount, layout.MountRoot = m.point, m.root

		return layout, nil
	}

	for _, m := range v2 {
		controllers, err := readSmall(filepath.Join(root, m.point, "cgroup.controllers"))
		if err != nil || !slices.Contains(strings.Fields(string(controllers)), "memory") {
			continue
		}
		layout.MemoryVersion = 2
		layout.MemoryMount, layout.MountRoot = m.point, m.root
		layout.LocalEvents = slices.Contains(strings.Split(m.options, ","), "memory_localevents")

		return layout, nil
	}

	return Layout{}, errors.New("no mounted cgroup hierarchy has the memory controller: " +
		"if it was disabled at boot, add cgroup_enable=memory to the kernel's command line")
}

// memoryHierarchy returns the number of the v1 hierarchy with the memory controller,
// which is also in the kernel's cgroup_root. The parser of containerd/cgroups drops
// it.
func memoryHierarchy(root string) (uint32, error) {
	text, err := readSmall(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0, fmt.Errorf("read the cgroups of oomtrace: %w", err)
	}

	for line := range strings.Lines(string(text)) {
		id, rest, _ := strings.Cut(line, ":")

		controllers, _, _ := strings.Cut(rest, ":")
		if !slices.Contains(strings.Split(controllers, ","), "memory") {
			continue
		}

		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("read the cgroups of oomtrace: %w", err)
		}

		return uint32(n), nil
	}

	return 0, errors.New("a cgroup v1 memory hierarchy is mounted, but /proc/self/cgroup lacks it")
}

// parseMounts parses /proc/PID/mountinfo (Documentation/filesystems/proc.rst,
// 3.5): a variable number of fields, a dash, and three more.
func parseMounts(text []byte) []mount {
	var mounts []mount

	for line := range bytes.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimRight(string(line), "\n"), " - ")
		if !ok {
			continue
		}

		fields, tail := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(tail) < 3 {
			continue
		}
		mounts = append(mounts, mount{
			root: unescapeMount(fields[3]), point: unescapeMount(fields[4]), fsType: tail[0], options: tail[2],
		})
	}

	return mounts
}

// unescapeMount reverts the octal escapes of space, tab, newline and backslash.
func unescapeMount(s string) string {
	var b strings.Builder

	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3

				continue
			}
		}

		b.WriteByte(s[i])
	}

	return b.String()
}

// vanished reports whether a cgroup was removed, or has no such file.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

// OwnCgroup returns the path of this process in the memory hierarchy.
func OwnCgroup(l Layout) (string, error) {
	text, err := readSmall("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("read the cgroup of oomtrace: %w", err)
	}

	path, ok := memoryPath(text, l)
	if !ok {
		return "", errors.New("read the cgroup of oomtrace: /proc/self/cgroup lacks the memory hierarchy")
	}

	return path, nil
}

// memoryPath returns the path in the memory hierarchy of a /proc/PID/cgroup.
func memoryPath(text []byte, l Layout) (path string, ok bool) {
	controllers, unified, err := containerd.ParseCgroupFromReaderUnified(bytes.NewReader(text))
	if err != nil {
		return "", false
	}

	if l.MemoryVersion == 2 {
		return unified, unified != ""
	}

	path, ok = controllers["memory"]

	return path, ok
}
