// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	// limitWriteWithinNS is how long before a kill a limit must have been written to be
	// reported with it.
	limitWriteWithinNS = 60e9
	// maxLimitWrites bounds the writes that are remembered, the last of each file.
	maxLimitWrites = 1024
)

// limitWrites is the enricher that reports who lowered the limit that was hit. The records
// come in the order of the kernel's, so those before a kill are known when it is reported.
type limitWrites struct {
	tree  resolve.NamedTree
	clock *host.BootClock
	page  uint64 // bytes

	last  []kernel.LimitWrite // of each file; oldest first
	found []finding
}

// saw remembers a write. Of one file the last counts, unless it changes nothing: it is
// refused, or the limit is the same.
func (l *limitWrites) saw(w kernel.LimitWrite) {
	if !l.changes(w) {
		return
	}

	l.last = slices.DeleteFunc(l.last, func(old kernel.LimitWrite) bool {
		return old.Memcg.Key == w.Memcg.Key && old.File == w.File
	})
	if len(l.last) == maxLimitWrites {
		l.last = slices.Delete(l.last, 0, 1)
	}

	l.last = append(l.last, w)
}

func (l *limitWrites) start(inc *events.Incident) bool {
	if len(l.last) == 0 || inc.Limiter == nil || inc.Limiter.Cgroup == nil {
		return false
	}

	var changes []events.LimitChange

	at := l.clock.BootNS(inc.Time)
	for _, w := range l.last {
		if w.Memcg.Key != inc.Limiter.Cgroup.CgroupKey || w.BootNS > at || at-w.BootNS > limitWriteWithinNS {
			continue
		}

		if change, ok := l.change(w, at); ok && inForce(inc, &change) {
			changes = append(changes, change)
		}
	}

	if len(changes) == 0 {
		return false
	}

	l.found = append(l.found, finding{&events.Incident{ID: inc.ID, LimitChanges: changes}, true})

	return true
}

func (l *limitWrites) findings(uint64, bool) []finding {
	found := l.found
	l.found = nil

	return found
}

func (l *limitWrites) dropped() (string, uint64) { return "limit_write", 0 }

// written returns the counter whose limit is written, the limit before and the new one, in
// pages; ok is false if the text is none.
func (l *limitWrites) written(w kernel.LimitWrite) (counter kernel.Counter, old, pages uint64, ok bool) {
	counter = w.Memcg.Memory
	if strings.HasPrefix(w.File, "memory.memsw.") {
		counter = w.Memcg.Swap
	}

	old = counter.Max
	if w.File == "memory.high" {
		old = counter.High
	}

	bytes, ok := parseLimit(w.Text)

	return counter, old, bytes / l.page, ok
}

// changes reports whether a write sets another limit.
func (l *limitWrites) changes(w kernel.LimitWrite) bool {
	counter, old, pages, ok := l.written(w)

	switch text := strings.TrimSpace(w.Text); {
	case text == "max", text == "-1":
		return !counter.Known || old != kernel.NoLimit
	case !ok:
		return false
	}

	return !counter.Known || pages != old
}

// change returns what a write changed; ok is false if it lowered nothing.
func (l *limitWrites) change(w kernel.LimitWrite, atNS uint64) (change events.LimitChange, ok bool) {
	counter, old, pages, ok := l.written(w)
	// A first limit that has room for the usage is how every container starts.
	if !ok || !counter.Known || pages >= old || old == kernel.NoLimit && counter.Usage <= pages {
		return change, false
	}

	change = events.LimitChange{
		File: w.File, BeforeNS: atNS - w.BootNS, NewBytes: pages * l.page, UsageBytes: counter.Usage * l.page,
		Writer: l.process(w.Current),
	}
	if old != kernel.NoLimit {
		change.OldBytes = new(old * l.page)
	}

	return change, true
}

func (l *limitWrites) process(task kernel.Task) events.Process {
	p := task.Process()

	place, path, _ := l.tree.Place(task.Cgroup)
	p.Cgroup, p.Workload = &events.Cgroup{CgroupKey: task.Cgroup, Path: path}, place.Workload

	return p
}

// inForce reports whether a limit was what the write had set when the kill came: the kernel
// may refuse a write, and another one may have followed.
func inForce(inc *events.Incident, c *events.LimitChange) bool {
	is := func(bytes *uint64) bool { return bytes != nil && *bytes == c.NewBytes }

	switch {
	case c.File == "memory.high":
		return slices.ContainsFunc(inc.Ladder, func(a events.Rung) bool {
			return a.Cgroup.CgroupKey == inc.Limiter.Cgroup.CgroupKey && is(a.HighBytes)
		})
	case strings.HasPrefix(c.File, "memory.memsw."):
		return is(inc.Limiter.SwapLimitBytes)
	case c.File == "memory.max", c.File == "memory.limit_in_bytes":
		return is(inc.Limiter.LimitBytes)
	}

	return false // of the kernel's or of TCP's memory, or a soft limit: no OOM kill
}

// parseLimit parses a limit as the kernel does (lib/cmdline.c: memparse, mm/page_counter.c:
// page_counter_memparse). Limits that are none are not ok: they lower nothing.
func parseLimit(text string) (bytes uint64, ok bool) {
	text = strings.TrimSpace(text)
	shift := 0

	if n := len(text); n > 0 {
		if i := strings.IndexByte("kmgtpe", text[n-1]|0x20); i >= 0 && !strings.HasPrefix(text, "0x") {
			text, shift = text[:n-1], 10*(i+1)
		}
	}

	bytes, err := strconv.ParseUint(text, 0, 64)
	if err != nil || strings.ContainsAny(text, "_oObB") || bytes<<shift>>shift != bytes {
		return 0, false
	}

	return bytes << shift, true
}
