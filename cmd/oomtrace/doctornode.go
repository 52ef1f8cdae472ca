// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

// surroundings checks what a trace finds on the node: sources of names and reasons, and a place for
// recordings. None of it prevents a trace.
func (c *checkup) surroundings() {
	const names = "names of pods and containers that the runtime's files do not have"

	config, err := kubelet.Find("/")

	var sockets []string

	for _, socket := range runtimes.Known().Sockets() {
		if _, err := os.Stat(socket); !errors.Is(err, fs.ErrNotExist) {
			sockets = append(sockets, socket)
		}
	}

	switch {
	case len(sockets) > 0:
		c.ok("CRI", "%s", strings.Join(sockets, ", "))
	case config != nil || err != nil:
		c.gap("CRI", "no socket at the usual paths", names, "set --cri-endpoint")
	default:
		c.ok("CRI", "no socket, and no kubelet that would need one")
	}

	switch {
	case err != nil:
		c.gap("kubelet", oneLine(err.Error()), "how far the kubelet was from an eviction", "run as root on the node")
	case config != nil:
		c.ok("kubelet", "found")
	default:
		c.ok("kubelet", "none on this node")
	}

	if _, err := exec.LookPath("journalctl"); err == nil {
		c.ok("journal", "journalctl found")
	} else {
		c.gap("journal", "no journalctl", "the kubelet's reasons for a kill, and report --journal",
			"install it, or use --kubelet-log and report --kmsg")
	}

	c.recording(defaultRecording)
}

// recording checks the room for a recording, in the directory or where it would be created.
func (c *checkup) recording(dir string) {
	at := dir
	for at != "/" {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}

		at = filepath.Dir(at)
	}

	text := dir
	if at != dir {
		text += " does not exist yet"
	}

	var disk unix.Statfs_t
	if err := unix.Statfs(at, &disk); err != nil {
		c.gap("recording", fmt.Sprintf("%s: %v", at, err), "", "")
		return
	}

	free := disk.Bavail * uint64(disk.Bsize)
	text += fmt.Sprintf(", %s free of at most %s that a recording takes", phrase.Size(free), phrase.Size(record.DefaultTotalBytes))

	if free < record.DefaultTotalBytes {
		c.gap("recording", text, "lines of a recording, once the disk is full", "free up space, or set --total-size")
		return
	}

	c.ok("recording", "%s", text)
}
