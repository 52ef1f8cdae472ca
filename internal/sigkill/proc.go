// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

const (
	// maxAncestors bounds the lineage.
	maxAncestors = 16
	// Bounds in bytes of files whose length a process chooses. A cgroup file has a
	// line per hierarchy.
	maxCommand = 256
	maxEnviron = 64 << 10
	maxStat    = 4 << 10
	maxCgroup  = 64 << 10
	maxPasswd  = 1 << 20
	// tickNS is a clock tick in /proc, USER_HZ.
	tickNS = 10e6
)

func readBounded(path string, limit int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil // the process has exited, or reading is not permitted
	}
	defer f.Close()

	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil
	}

	return text
}

// proc is a mount of /proc.
type proc struct{ root, passwd string }

func (p proc) path(pid int, name string) string {
	return filepath.Join(p.root, strconv.Itoa(pid), name)
}

// stat has fields of /proc/PID/stat.
type stat struct {
	comm    string
	parent  int
	tty     uint64
	startNS uint64 // since boot
}

// parseStat parses /proc/PID/stat. The name is in parentheses, and may contain some
// itself.
func parseStat(text []byte) (s stat, ok bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return s, false
	}
	s.comm = string(text[open+1 : end])
	// state ppid pgrp session tty_nr ... starttime is the 22nd of all.
	fields := strings.Fields(string(text[end+1:]))
	if len(fields) < 20 {
		return s, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	tty, err2 := strconv.ParseInt(fields[4], 10, 64)

	ticks, err3 := strconv.ParseUint(fields[19], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return s, false
	}
	s.parent, s.tty, s.startNS = parent, uint64(uint32(tty)), ticks*tickNS

	return s, true
}

// process reads a process that sent a signal at bootNS (CLOCK_BOOTTIME). It is not ok
// if the process has exited, or if a later one has its PID.
func (p proc) process(pid int, bootNS uint64) (out Process, parent int, ok bool) {
	s, ok := parseStat(readBounded(p.path(pid, "stat"), maxStat))
	if !ok || s.startNS > bootNS+tickNS {
		return out, 0, false
	}
	out = Process{PID: pid, Comm: s.comm, TTY: ttyName(s.tty)}

	out.Exe, _ = os.Readlink(p.path(pid, "exe"))
	for argument := range bytes.SplitSeq(bytes.TrimRight(readBounded(p.path(pid, "cmdline"), maxCommand), "\x00"), []byte{0}) {
		if len(argument) > 0 {
			out.Command = append(out.Command, string(argument))
		}
	}

	out.Cgroups = cgroupPaths(readBounded(p.path(pid, "cgroup"), maxCgroup))

	if owner, err := os.Stat(p.path(pid, "status")); err == nil {
		if s, ok := owner.Sys().(*syscall.Stat_t); ok {
			out.User = userName(p.passwd, s.Uid)
		}
	}

	for variable := range bytes.SplitSeq(readBounded(p.path(pid, "environ"), maxEnviron), []byte{0}) {
		if user, ok := bytes.CutPrefix(variable, []byte("SUDO_USER=")); ok {
			out.SudoUser = string(user[:min(len(user), 64)])
		}
	}

	return out, s.parent, true
}

// cgroupPaths returns the distinct paths of /proc/PID/cgroup, sorted: that of cgroup
// v2 and those of the controllers of v1. None if it does not parse.
func cgroupPaths(text []byte) []string {
	controllers, unified, err := cgroups.ParseCgroupFromReaderUnified(bytes.NewReader(text))
	if err != nil {
		return nil
	}

	paths := slices.Collect(maps.Values(controllers))
	if unified != "" {
		paths = append(paths, unified)
	}

	slices.Sort(paths)

	return slices.Compact(paths)
}

// ttyName returns the name of a terminal by its device number (Documentation/admin-guide/devices.txt).
func ttyName(device uint64) string {
	if device == 0 {
		return ""
	}

	major, minor := unix.Major(device), unix.Minor(device)
	switch {
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", minor+(major-136)*256)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}

	return fmt.Sprintf("tty %d:%d", major, minor)
}

// userName returns a user's name in a passwd file, empty if it is not there.
func userName(passwd string, uid uint32) string {
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range strings.Lines(string(readBounded(passwd, maxPasswd))) {
		if f := strings.SplitN(line, ":", 4); len(f) == 4 && f[2] == want {
			return f[0]
		}
	}

	return ""
}

// oomdKills returns the mark that systemd-oomd left on a cgroup or on an ancestor.
func oomdKills(mount, cgroup string) string {
	for path := cgroup; len(path) > 1; path = filepath.Dir(path) {
		var value [32]byte

		n, err := unix.Getxattr(filepath.Join(mount, path), "user.oomd_kill", value[:])
		if err == nil && n > 0 {
			return string(value[:n])
		}
	}

	return ""
}
