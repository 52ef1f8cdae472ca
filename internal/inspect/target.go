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

// AmbiguousError tells that a name fits more than one cgroup.
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

	return text + ": give the path of one"
}

// shownMatches is how many matches an AmbiguousError lists.
const shownMatches = 8

// shortestID is how much of an id must be given.
const shortestID = 4

// Find gives the path of the cgroup that a name means, in the order of these
// forms: a path (of the hierarchy, or below its mount), a pid, a pod's UID, the
// begin of a container's id, a unit of systemd, namespace/pod or
// namespace/pod/container. Names of pods are those that Reader.Place tells, and
// those in the names of /var/log/pods and /var/log/containers below the reader's
// root.
func Find(r host.Reader, name string) (string, error) {
	switch {
	case r.Layout.MemoryMount == "":
		return "", fmt.Errorf("looking for %q: no cgroup hierarchy has the memory controller", name)
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
		return "", fmt.Errorf("nothing on this node is called %q: give a path below %s, a pid, a pod's UID, 4 digits or more of a container's id, "+
			"a unit of systemd, or namespace/pod[/container]", name, r.Layout.MemoryMount)
	case 1:
		return paths[0], nil
	}

	return "", &AmbiguousError{Name: name, Paths: paths[:min(len(paths), shownMatches)], Count: len(paths)}
}

func findPath(r host.Reader, name string) (string, error) {
	name = path.Clean(name)
	// Of two readings the one that exists holds: a cgroup may be called as the mount.
	if rest, ok := strings.CutPrefix(name, r.Layout.MemoryMount); ok && (rest == "" || rest[0] == '/') {
		at := path.Join("/", r.Layout.MountRoot, rest)
		if r.Cgroup(at).ID != 0 {
			return at, nil
		}
	}

	if r.Cgroup(name).ID != 0 {
		return name, nil
	}

	return "", fmt.Errorf("there is no cgroup %q below %s: it may have ended; a pod's or container's id finds it by name", name, r.Layout.MemoryMount)
}

// matcher compares cgroups with a name.
type matcher struct {
	reader     host.Reader
	name       string
	namespace  string // of namespace/pod[/container]
	pod        string
	container  string
	podUIDs    []string // that the log directories have for it
	containers []string // ids, likewise
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
		m.containers = logged(filepath.Join("/", r.Root, "var/log/containers"), m.pod+"_"+m.namespace+"_"+m.container+"-", ".log")

		return m
	}
	m.podUIDs = logged(filepath.Join("/", r.Root, "var/log/pods"), m.namespace+"_"+m.pod+"_", "")

	return m
}

// logged lists what stands between a begin and an end in the names of a directory.
func logged(dir, begin, end string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var found []string

	for _, entry := range entries {
		if rest, ok := strings.CutPrefix(entry.Name(), begin); ok {
			if rest, ok = strings.CutSuffix(rest, end); ok && rest != "" {
				found = append(found, rest)
			}
		}
	}

	return found
}

// scan compares all cgroups. Below one that matches none is looked for.
func (m *matcher) scan() []string {
	var paths []string

	if m.reader.Place == nil {
		return nil
	}
	mount := m.reader.Layout.MemoryMount
	// An error is of a cgroup that ended, or that we may not see.
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
	switch level {
	case events.LevelPod:
		return len(m.name) >= shortestID && w.PodUID == m.name || slices.Contains(m.podUIDs, w.PodUID) ||
			m.container == "" && m.pod != "" && w.Namespace == m.namespace && w.Pod == m.pod
	case events.LevelContainer:
		return len(m.name) >= shortestID && strings.HasPrefix(w.ContainerID, m.name) || slices.Contains(m.containers, w.ContainerID) ||
			m.container != "" && w.Namespace == m.namespace && w.Pod == m.pod && w.Container == m.container
	case events.LevelService, events.LevelSlice:
		return w.Unit == m.name || w.Unit == m.name+".service"
	}

	return false
}
