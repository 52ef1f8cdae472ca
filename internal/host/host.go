// SPDX-License-Identifier: Apache-2.0

// Package host reads /proc, /sys and the cgroup mounts of this machine.
//
// All text in these files is treated as hostile: reads are bounded, and what does not
// parse is an error or is left out. The package starts no goroutine, and keeps no file
// open; only Scratch has to be closed.
//
// It parses by hand instead of with a library such as prometheus/procfs, for three
// reasons. It runs for each kill and each second of reclaim on a node that is out of
// memory, so processes are read into one reused buffer and files up to a bound. It
// distinguishes a field that a kernel does not have from zero. And a file that lacks a
// field, as those of old kernels do, must not be an error. Of containerd/cgroups it uses the parser of
// /proc/PID/cgroup and the managers of cgroups; the rest of that library does not fit:
// cgroups.Mode examines /sys/fs/cgroup alone, while Cgroups has to find the hierarchy
// with the memory controller wherever it is mounted, and Stat of a manager reads all
// controllers to report one number.
package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/oom"
)

// maxFile bounds small files, in bytes.
const maxFile = 1 << 20

func readSmall(path string) ([]byte, error) { return readUpTo(path, maxFile) }

// readUpTo reads a file; what is beyond limit bytes is left out.
func readUpTo(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	return io.ReadAll(io.LimitReader(file, limit))
}

// BootID returns /proc/sys/kernel/random/boot_id, empty if it cannot be read.
func BootID() string {
	text, err := readSmall("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}

	return strings.TrimSpace(string(text))
}

// ProcessGone reports whether no process has that PID in the initial PID namespace. It
// returns false where that cannot be determined: in any other namespace.
func ProcessGone(pid int) bool {
	if initial, _ := initialPIDNamespace("/"); !initial {
		return false
	}

	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))

	return errors.Is(err, os.ErrNotExist)
}

// Hostname returns the machine's host name, empty if it is unknown.
func Hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}

	return name
}

// KernelRelease returns the release that uname -r prints.
func KernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}

	return unix.ByteSliceToString(name.Release[:])
}

// Arch returns the architecture, as GOARCH.
func Arch() string { return runtime.GOARCH }

// PageSize returns the size of a page in bytes.
func PageSize() int { return os.Getpagesize() }

// Memory returns MemTotal and SwapTotal of /proc/meminfo, in bytes.
func Memory() (ram, swap uint64, err error) {
	text, err := readSmall("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("read the size of memory: %w", err)
	}
	ram, okRAM := field(text, "MemTotal:")

	swap, okSwap := field(text, "SwapTotal:")
	if !okRAM || !okSwap {
		return 0, 0, errors.New("read the size of memory: /proc/meminfo lacks MemTotal or SwapTotal")
	}

	return ram * 1024, swap * 1024, nil
}

// field returns the number after a name at the start of a line.
func field(text []byte, name string) (value uint64, found bool) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name))
		if !ok || len(rest) == 0 || rest[0] != ' ' && rest[0] != '\t' {
			continue
		}

		words := bytes.Fields(rest)
		if len(words) == 0 {
			return 0, false
		}
		value, err := strconv.ParseUint(string(words[0]), 10, 64)

		return value, err == nil
	}

	return 0, false
}

// VMStatOOMKill returns oom_kill of /proc/vmstat: how often the kernel's OOM
// killer sent SIGKILL since boot (mm/oom_kill.c: __oom_kill_process, 4.13).
func VMStatOOMKill() (uint64, error) {
	text, err := readSmall("/proc/vmstat")
	if err != nil {
		return 0, fmt.Errorf("read the kernel's count of OOM kills: %w", err)
	}

	kills, ok := field(text, "oom_kill")
	if !ok {
		return 0, errors.New("read the kernel's count of OOM kills: /proc/vmstat has no oom_kill")
	}

	return kills, nil
}

// fieldText returns the rest of the line that starts with name, without blanks.
func fieldText(text []byte, name string) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(rest))
		}
	}

	return ""
}

// MemoryNodes returns the NUMA nodes with memory (N_MEMORY, include/linux/nodemask.h). A
// kernel without CONFIG_NUMA has only node 0.
func MemoryNodes() ([]int, error) {
	text, err := readSmall("/sys/devices/system/node/has_memory")
	if errors.Is(err, fs.ErrNotExist) {
		return []int{0}, nil
	}

	if err != nil {
		return nil, fmt.Errorf("read the NUMA nodes with memory: %w", err)
	}

	nodes := oom.NodeList(strings.TrimSpace(string(text)))
	if nodes == nil {
		return nil, fmt.Errorf("read the NUMA nodes with memory: got %q, want a list such as 0-1", text)
	}

	return nodes, nil
}
