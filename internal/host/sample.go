// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
)

// Sample is a cgroup's memory at an instant. What could not be read is nil.
type Sample struct {
	UsageBytes, LimitBytes *uint64 // no limit: LimitBytes is nil
	// PSISomeUS and PSIFullUS are the time in which some task, or all, were stalled on
	// memory, in microseconds since the cgroup was made.
	PSISomeUS, PSIFullUS *uint64
	// MaxEvents counts since then how often its limit was reached, HighEvents how often
	// its tasks had to reclaim for memory.high.
	MaxEvents, HighEvents *uint64
}

// dir returns the directory of a cgroup.
func (l Layout) dir(path string) string {
	return filepath.Join(l.MemoryMount, strings.TrimPrefix(path, strings.TrimSuffix(l.MountRoot, "/")))
}

// Headroom returns how many bytes can be used until the first limit of a cgroup or of
// its ancestors is reached, and the path of the cgroup with that limit. It is not ok
// where none has a limit.
func Headroom(l Layout, path string) (bytes uint64, limiter string, ok bool) {
	for _, at := range l.Above(path) {
		s := SampleCgroup(l, at)
		if s.UsageBytes == nil || s.LimitBytes == nil {
			continue
		}

		if room := *s.LimitBytes - min(*s.UsageBytes, *s.LimitBytes); !ok || room < bytes {
			bytes, limiter, ok = room, at, true
		}
	}

	return bytes, limiter, ok
}

// SampleCgroup reads the files of a cgroup by its path in the hierarchy.
func SampleCgroup(l Layout, path string) Sample {
	dir := l.dir(path)
	var s Sample

	s.UsageBytes, s.LimitBytes = l.usage(path)
	if text, err := readSmall(filepath.Join(dir, "memory.pressure")); err == nil {
		s.PSISomeUS, s.PSIFullUS = psiTotal(text, "some"), psiTotal(text, "full")
	}

	if l.MemoryVersion == 1 {
		s.MaxEvents = readNumber(filepath.Join(dir, "memory.failcnt"))
	} else if text, err := readSmall(filepath.Join(dir, "memory.events")); err == nil {
		if n, ok := field(text, "max"); ok {
			s.MaxEvents = &n
		}

		if n, ok := field(text, "high"); ok {
			s.HighEvents = &n
		}
	}

	return s
}

// usage reads a cgroup's usage and its limit, nil if it has none.
func (l Layout) usage(path string) (usageBytes, limitBytes *uint64) {
	usage, limit := "memory.current", "memory.max"
	if l.MemoryVersion == 1 {
		usage, limit = "memory.usage_in_bytes", "memory.limit_in_bytes"
	}
	dir := l.dir(path)

	return readNumber(filepath.Join(dir, usage)), limited(readNumber(filepath.Join(dir, limit)))
}

// limited returns nil for the number that means no limit in cgroup v1.
func limited(n *uint64) *uint64 {
	if n != nil && *n >= 1<<62 {
		return nil
	}

	return n
}

// RefaultPages reads how many pages were reclaimed and faulted in again since the
// cgroup was made, nil if the kernel does not count them. It costs more than a sample:
// the kernel sums up the counters of all CPUs.
func RefaultPages(l Layout, path string) *uint64 {
	text, err := readSmall(filepath.Join(l.dir(path), "memory.stat"))
	if err != nil {
		return nil
	}

	return Refaults(text)
}

// Refaults returns how many pages of a memory.stat were reclaimed and faulted in again, nil
// if it does not have that. It adds up those of anonymous memory and of files; older kernels
// have one number. cgroup v1 has them including descendants as total_, or not at all.
func Refaults(stat []byte) *uint64 {
	var sum uint64
	known := false

	for _, name := range []string{"workingset_refault", "workingset_refault_anon", "workingset_refault_file"} {
		n, ok := field(stat, "total_"+name)
		if !ok {
			n, ok = field(stat, name)
		}
		sum, known = sum+n, known || ok
	}

	if !known {
		return nil
	}

	return &sum
}

func readNumber(path string) *uint64 {
	text, err := readSmall(path)
	if err != nil {
		return nil
	}

	return parseNumber(text)
}

func parseNumber(text []byte) *uint64 {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return nil // "max"
	}

	return &n
}

// psiTotal parses "full avg10=0.00 avg60=0.00 avg300=0.00 total=0".
func psiTotal(text []byte, kind string) *uint64 {
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == kind {
			value, ok := strings.CutPrefix(fields[len(fields)-1], "total=")

			n, err := strconv.ParseUint(value, 10, 64)
			if ok && err == nil {
				return &n
			}
		}
	}

	return nil
}
