// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
)

// AmbiguousError is the error of Find for a name that matches several cgroups.
type AmbiguousError struct {
	Name  string
	Paths []string // some of them
	Count int
}

func (e *AmbiguousError) Error() string {
	text := fmt.Sprintf("%q is ambiguous: %q", e.Name, e.Paths)
	if more := e.Count - len(e.Paths); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}

	return text + ": give the path of the cgroup"
}

// maxListedMatches is how many matches an AmbiguousError lists.
const maxListedMatches = 8

// minIDLength is the length of the shortest prefix of an id.
const minIDLength = 4

// Find returns the path of the cgroup that a name identifies. The first of these forms
// that matches is used: a path (in the hierarchy, or below its mount), a PID, the prefix of
// a pod's UID or of a container id, a systemd unit, the name of a guest or the id of a job,
// namespace/pod or namespace/pod/container.
// Names of pods come from Reader.Place, and from the file names of /var/log/pods and
// /var/log/containers below the reader's root.
//
// The error is an *AmbiguousError if several cgroups match.
func Find(r host.Reader, name string) (string, error) {
	switch {
	case r.Layout.MemoryMount == "":
		return "", fmt.Errorf("find %q: no cgroup hierarchy has the memory controller", name)
	case strings.HasPrefix(name, "/"):
		return findPath(r, name)
	}

	if pid, err := strconv.Atoi(name); err == nil && pid > 0 {
		if at, ok := r.CgroupOf(pid); ok {
			return at, nil
		}
	}
	m := newMatcher(r, name)

	paths := m.scan()
	switch len(paths) {
	case 0:
		return "", fmt.Errorf("no pod, container, cgroup, unit or PID matches %q: give a path below %s, a PID, "+
			"4 or more digits of a pod's UID or a container id, a systemd unit, a guest, the id of a job, or namespace/pod[/container]",
			name, r.Layout.MemoryMount)
	case 1:
		return paths[0], nil
	}

	return "", &AmbiguousError{Name: name, Paths: paths[:min(len(paths), maxListedMatches)], Count: len(paths)}
}

func findPath(r host.Reader, name string) (string, error) {
	name = path.Clean(name)
	// A path below the mount is tried first. If no such cgroup exists, the name is a path
	// in the hierarchy: a cgroup may have the same name as the mount.
	if rest, ok := strings.CutPrefix(name, r.Layout.MemoryMount); ok && (rest == "" || rest[0] == '/') {
		at := path.Join("/", r.Layout.MountRoot, rest)
		if r.Cgroup(at).ID != 0 {
			return at, nil
		}
	}

	if r.Cgroup(name).ID != 0 {
		return name, nil
	}

	return "", fmt.Errorf(
		"no cgroup %q below %s: it may have been removed; a pod's UID or a container id matches at any path",
		name, r.Layout.MemoryMount)
}

// matcher matches cgroups against a name.
type matcher struct {
	reader     host.Reader
	name       string
	namespace  string // of namespace/pod[/container]
	pod        string
	container  string
	podUIDs    []string // from /var/log/pods
	containers []string // ids, from /var/log/containers
}

func newMatcher(r host.Reader, name string) *matcher {
	m := &matcher{reader: r, name: name}

	parts := strings.Split(name, "/")
	if len(parts) != 2 && len(parts) != 3 {
		return m
	}

	m.namespace, m.pod = parts[0], parts[1]
	if len(parts) == 3 {
		m.container = parts[2]
		m.containers = namesBetween(filepath.Join("/", r.Root, "var/log/containers"),
			m.pod+"_"+m.namespace+"_"+m.container+"-", ".log")

		return m
	}
	m.podUIDs = namesBetween(filepath.Join("/", r.Root, "var/log/pods"), m.namespace+"_"+m.pod+"_", "")

	return m
}

// namesBetween lists the entries of a directory that have a prefix and a suffix, without
// both.
func namesBetween(dir, prefix, suffix string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []string

	for _, entry := range entries {
		if rest, ok := strings.CutPrefix(entry.Name(), prefix); ok {
			if rest, ok = strings.CutSuffix(rest, suffix); ok && rest != "" {
				found = append(found, rest)
			}
		}
	}

	return found
}

// scan returns the cgroups that match. It does not descend into a match.
func (m *matcher) scan() []string {
	var paths []string

	if m.reader.Place == nil {
		return nil
	}
	mount := m.reader.Layout.MemoryMount
	// Errors are ignored: the cgroup was removed meanwhile, or may not be read.
	_ = filepath.WalkDir(mount, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil
		}
		at := path.Join("/", m.reader.Layout.MountRoot, strings.TrimPrefix(dir, mount))

		level, workload := m.reader.Place(at)
		if workload == nil || !m.matches(level, workload) {
			return nil
		}

		paths = append(paths, at)

		return fs.SkipDir
	})

	return paths
}

func (m *matcher) matches(level events.Level, w *events.Workload) bool {
	if m.name == "" {
		return false
	}

	switch level {
	case events.LevelPod:
		return len(m.name) >= minIDLength && strings.HasPrefix(w.PodUID, m.name) || slices.Contains(m.podUIDs, w.PodUID) ||
			m.container == "" && m.pod != "" && w.Namespace == m.namespace && w.Pod == m.pod
	case events.LevelContainer:
		return len(m.name) >= minIDLength && strings.HasPrefix(w.ContainerID, m.name) ||
			slices.Contains(m.containers, w.ContainerID) ||
			m.container != "" && w.Namespace == m.namespace && w.Pod == m.pod && w.Container == m.container
	case events.LevelService, events.LevelSlice:
		return w.Unit == m.name || w.Unit == m.name+".service" || w.Service == m.name
	case events.LevelGuest:
		return w.Unit == m.name || w.Guest.Name == m.name
	case events.LevelJob:
		return w.Unit == m.name || w.Job.ID == m.name && w.Job.Step == ""
	}

	return false
}
