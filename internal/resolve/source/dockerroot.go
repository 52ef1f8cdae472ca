// SPDX-License-Identifier: Apache-2.0

package source

import (
	"encoding/json"
	"path"
	"regexp"
	"sync"
	"time"
)

// daemonFiles are the configuration files of dockerd: of its packages, and of its snap.
var daemonFiles = []string{"/etc/docker/daemon.json", "/var/snap/docker/current/config/daemon.json"}

const (
	// maxDaemonFile bounds the configuration of dockerd in bytes.
	maxDaemonFile = 1 << 20
	// daemonEvery is the shortest time between two readings of it: every container that no
	// runtime knows asks for it.
	daemonEvery = time.Second
	// maxRemapped bounds the directory that holds those of remapped users.
	maxRemapped = 256
)

// dockerRoots are the directories of containers that dockerd was configured to use. It is
// safe for concurrent use.
type dockerRoots struct {
	mu   sync.Mutex
	read time.Time
	dirs []string
}

// daemonConfig is what daemon.json has of the place of dockerd's files; Graph is the name that
// data-root had before 17.05.
type daemonConfig struct {
	DataRoot    string `json:"data-root"`
	Graph       string `json:"graph"`
	UsernsRemap string `json:"userns-remap"`
}

// of returns the directories below root, beside the usual one.
func (d *dockerRoots) of(root Root, usual []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()

	if time.Since(d.read) < daemonEvery {
		return d.dirs
	}
	d.dirs, d.read = nil, time.Now()

	for _, file := range daemonFiles {
		var c daemonConfig

		text, err := root.Read(file, maxDaemonFile)
		if err == nil && json.Unmarshal(text, &c) == nil {
			d.dirs = append(d.dirs, c.dirs(root, usual)...)
		}
	}

	return d.dirs
}

func (c *daemonConfig) dirs(root Root, usual []string) []string {
	var dirs, roots []string

	for _, dataRoot := range []string{c.DataRoot, c.Graph} {
		if path.IsAbs(dataRoot) {
			roots = append(roots, dataRoot)
			dirs = append(dirs, path.Join(dataRoot, "containers"))
		}
	}

	if c.UsernsRemap == "" {
		return dirs
	}

	if len(roots) == 0 {
		for _, dir := range usual {
			roots = append(roots, path.Dir(dir))
		}
	}

	for _, dataRoot := range roots {
		dirs = append(dirs, remapped(root, dataRoot)...)
	}

	return dirs
}

// remappedName is the directory of a remapped user: its first user and group id.
var remappedName = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)

func remapped(root Root, dataRoot string) []string {
	var dirs []string

	names, _ := root.List(dataRoot, maxRemapped) // without names there are none
	for _, name := range names {
		if remappedName.MatchString(name) {
			dirs = append(dirs, path.Join(dataRoot, name, "containers"))
		}
	}

	return dirs
}
