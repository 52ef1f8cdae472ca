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
	// PSISomeUS and PSIFullUS are the time in which some task, or all, stood still
	// for memory, in microseconds since the cgroup was made.
	PSISomeUS, PSIFullUS *uint64
	// MaxEvents is how often its limit was reached since then; HighEvents how often
	// memory.high made its tasks reclaim.
	MaxEvents, HighEvents *uint64
}

// dir is where the files of a cgroup are.
func (l Layout) dir(path string) string {
	return filepath.Join(l.MemoryMount, strings.TrimPrefix(path, strings.TrimSuffix(l.MountRoot, "/")))
}

// Headroom is how much can be used until the tightest limit over a cgroup is reached,
// its own or an ancestor's, and the path of the cgroup that has it; ok is false where
// none is limited.
func Headroom(l Layout, path string) (bytes uint64, limiter string, ok bool) {
	root := strings.TrimSuffix(l.MountRoot, "/")
	for at := path; at != root && at != "/" && at != "." && at != ""; at = filepath.Dir(at) {
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

// usage reads what a cgroup uses and its limit, nil where it has none.
func (l Layout) usage(path string) (usageBytes, limitBytes *uint64) {
	usage, limit := "memory.current", "memory.max"
	if l.MemoryVersion == 1 {
		usage, limit = "memory.usage_in_bytes", "memory.limit_in_bytes"
	}
	dir := l.dir(path)

	return readNumber(filepath.Join(dir, usage)), limited(readNumber(filepath.Join(dir, limit)))
}

// limited is nil for cgroup v1's way to say that there is no limit.
func limited(n *uint64) *uint64 {
	if n != nil && *n >= 1<<62 {
		return nil
	}

	return n
}

// RefaultPages reads how many pages were reclaimed and needed again, since the cgroup
// was made; nil where the kernel does not tell. It costs more than a sample: the
// kernel sums up all CPUs first.
func RefaultPages(l Layout, path string) *uint64 {
	text, err := readSmall(filepath.Join(l.dir(path), "memory.stat"))
	if err != nil {
		return nil
	}

	return refaults(text)
}

// refaults sums up those of anonymous memory and of files; older kernels tell one
// number. cgroup v1 has them with its descendants' as total_, or not at all.
func refaults(stat []byte) *uint64 {
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

// psiTotal reads "full avg10=0.00 avg60=0.00 avg300=0.00 total=0".
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
