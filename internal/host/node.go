// SPDX-License-Identifier: Apache-2.0

// Package host tells what /proc, /sys and the cgroup mounts say of this
// machine. What it reads is hostile text: reads are bounded, and what does not
// parse is an error or left out, never a panic.
package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds what is read of a small file.
const maxFile = 1 << 20

func readSmall(path string) ([]byte, error) { return readUpTo(path, maxFile) }

func readUpTo(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	return io.ReadAll(io.LimitReader(file, most))
}

// BootID returns /proc/sys/kernel/random/boot_id, empty if it cannot be read.
func BootID() string {
	text, err := readSmall("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}

	return strings.TrimSpace(string(text))
}

// ProcessGone tells for certain that there is no process with that pid in the
// kernel's own pid namespace; false where that cannot be told from here.
func ProcessGone(pid int) bool {
	// PROC_PID_INIT_INO (include/linux/proc_ns.h) is the first namespace's number.
	if own, err := os.Readlink("/proc/self/ns/pid"); err != nil || own != fmt.Sprintf("pid:[%d]", 0xEFFFFFFC) {
		return false
	}
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))

	return errors.Is(err, os.ErrNotExist)
}

// Hostname returns the node's name, empty if there is none.
func Hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}

	return name
}

// KernelRelease returns what uname -r prints.
func KernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}

	return unix.ByteSliceToString(name.Release[:])
}

// Arch returns Go's name of the architecture.
func Arch() string { return runtime.GOARCH }

// PageSize returns the size of a page in bytes.
func PageSize() int { return os.Getpagesize() }

// Memory returns MemTotal and SwapTotal of /proc/meminfo, in bytes.
func Memory() (ram, swap uint64, err error) {
	text, err := readSmall("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("reading the size of memory: %w", err)
	}
	ram, okRAM := field(text, "MemTotal:")

	swap, okSwap := field(text, "SwapTotal:")
	if !okRAM || !okSwap {
		return 0, 0, errors.New("reading the size of memory: /proc/meminfo does not tell it")
	}

	return ram * 1024, swap * 1024, nil
}

// field finds the number after a name at the beginning of a line.
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
		return 0, fmt.Errorf("reading the kernel's count of OOM kills: %w", err)
	}

	kills, ok := field(text, "oom_kill")
	if !ok {
		return 0, errors.New("reading the kernel's count of OOM kills: /proc/vmstat has no oom_kill")
	}

	return kills, nil
}

// fieldText is the rest of the line that begins with name, without blanks.
func fieldText(text []byte, name string) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(rest))
		}
	}

	return ""
}
