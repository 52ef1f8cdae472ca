// SPDX-License-Identifier: Apache-2.0

package view

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
)

const (
	// foldStalls is over which time stalls of one task are one line.
	foldStalls = time.Second
	// heldStalls bounds how many lines are held back.
	heldStalls = 512
)

// foldedStalls stands for several stalls of a task, of one kind and for one limit. The
// embedded line is the first; its duration and bytes are the sums.
type foldedStalls struct {
	*events.StallLine
	count     uint64
	longestNS uint64
}

// stallKey is what stalls are folded by.
type stallKey struct {
	pid, tid        int
	what            string
	cgroup, limiter events.CgroupKey
}

// StallFold is a sink in front of the text format. A task in reclaim stalls hundreds of times
// a second: it holds stalls back for a second, and then writes a line for each task. All
// other lines pass at once. It is not safe for concurrent use.
type StallFold struct {
	next sink.Sink
	held []*foldedStalls // in the order of their first stalls
	at   map[stallKey]int
}

// NewStallFold returns a StallFold in front of a text format. Flush must be called from time
// to time, since stalls may end at any time.
func NewStallFold(next sink.Sink) *StallFold {
	return &StallFold{next: next, at: map[stallKey]int{}}
}

// Write holds a stall back, and forwards any other line.
func (f *StallFold) Write(l events.Line) error {
	stall, ok := l.(*events.StallLine)
	if !ok {
		if st, ok := l.(*events.Status); ok && st.Phase == events.PhaseEnd {
			if err := f.Close(); err != nil {
				return err
			}
		}

		return f.next.Write(l)
	}

	if err := f.Flush(stall.Time); err != nil {
		return err
	}

	k := keyOfStall(stall)

	i, ok := f.at[k]
	if !ok {
		if len(f.held) == heldStalls {
			if err := f.Close(); err != nil {
				return err
			}
		}

		f.at[k] = len(f.held)
		f.held = append(f.held, &foldedStalls{StallLine: stall, count: 1, longestNS: stall.DurationNS})

		return nil
	}

	held := f.held[i]
	if held.count == 1 {
		held.StallLine = new(*held.StallLine) // a sink must not change a line
	}

	held.count++
	held.longestNS = max(held.longestNS, stall.DurationNS)
	held.DurationNS += stall.DurationNS
	held.ReclaimedBytes += stall.ReclaimedBytes

	return nil
}

func keyOfStall(l *events.StallLine) stallKey {
	k := stallKey{pid: l.Task.PID, tid: l.Task.TID, what: l.What}
	if l.Task.Cgroup != nil {
		k.cgroup = l.Task.Cgroup.CgroupKey
	}

	if l.Limiter != nil {
		k.limiter = l.Limiter.CgroupKey
	}

	return k
}

// Flush writes the lines whose first stall is a second old. It costs nothing where none is
// held back.
func (f *StallFold) Flush(now time.Time) error {
	due := 0
	for due < len(f.held) && apartBy(now, f.held[due].Time) >= foldStalls {
		due++
	}

	return f.write(due)
}

// Close writes all lines that are held back.
func (f *StallFold) Close() error { return f.write(len(f.held)) }

// write writes the first lines.
func (f *StallFold) write(n int) error {
	if n == 0 {
		return nil
	}

	for _, held := range f.held[:n] {
		var l events.Line = held
		if held.count == 1 {
			l = held.StallLine
		}

		if err := f.next.Write(l); err != nil {
			return err
		}
	}

	f.held = append(f.held[:0:0], f.held[n:]...)

	clear(f.at)

	for i, held := range f.held {
		f.at[keyOfStall(held.StallLine)] = i
	}

	return nil
}

// reclaims reports whether a stall of a kind reclaims memory itself: the others only wait, or
// move pages.
func reclaims(what string) bool {
	switch events.StallKind(what) {
	case events.StallThrottle, events.StallCompaction:
		return false
	}

	return true
}

// stallItems are the task and its stalls.
func stallItems(l *events.StallLine, count, longestNS uint64) []string {
	text := phrase.Stall(l.What) + " " + phrase.Duration(l.DurationNS)
	if count > 1 {
		text += " in " + phrase.Plural(count, "stall")
	}
	items := []string{phrase.Task(l.Task.Comm, l.Task.PID), text}

	if count > 1 {
		items = append(items, "longest "+phrase.Duration(longestNS))
	}

	if reclaims(l.What) {
		items = append(items, phrase.Size(l.ReclaimedBytes)+" reclaimed")
	}

	return items
}
