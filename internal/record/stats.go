// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Stats tells what a reader met, and what it could not give.
type Stats struct {
	Segments int   // begun to be read
	Lines    int   // that are whole, selected or not
	Bytes    int64 // of all lines, decompressed

	Damaged int    // lines that are no line of the contract, or longer than MaxLineBytes
	Torn    int    // last lines that were not written to their end: a crash, or a writer at work
	CutOff  int    // segments that could not be read to their end
	Missing int    // segments between others that are not there
	Earlier int    // segments before the first one, removed to bound the total
	Refused int    // symlinks and the like, named as segments
	Newer   int    // lines of a later version of the contract
	Lost    uint64 // records that did not reach the tracer, as it wrote (Incidents)
	Unkept  uint64 // lines that the writer could not record, as it wrote (Incidents)
	Late    int    // updates whose incident was not there, or had been given out (Incidents)

	cutOff error // the first
}

func (s *Stats) lose(l *Line) {
	if line, err := l.Decode(); err == nil {
		lost, ok := line.(*events.Lost)
		switch {
		case !ok:
		case lost.What == LostRecording:
			s.Unkept += lost.Count
		default:
			s.Lost += lost.Count
		}
	}
}

func (s *Stats) cutOffBy(err error) {
	s.CutOff++
	if s.cutOff == nil {
		s.cutOff = err
	}
}

// count tells from the numbers of a directory's segments what is not there.
func (s *Stats) count(l listing) {
	s.Refused = len(l.refused)
	const most = 1 << 30
	first, last := l.segments[0].seq, l.segments[0].seq
	s.Earlier = int(min(max(first, 1)-1, most))

	for _, seg := range l.segments[1:] {
		if seg.seq > last+1 {
			s.Missing += int(min(seg.seq-last-1, most))
		}
		last = seg.seq
	}
}

// Remarks says for people what is not as it should be, one sentence each.
func (s Stats) Remarks() []string {
	var all []string
	add := func(n int, what, more string) {
		if n > 0 {
			all = append(all, fmt.Sprintf("%s: %d%s", what, n, more))
		}
	}
	add(s.Earlier, "earlier segments, removed to bound the total size of the recording", "")
	add(s.Missing, "segments that are missing between others", "")
	add(s.CutOff, "segments that cannot be read to their end", fmt.Sprintf(", the first: %v", s.cutOff))
	add(s.Refused, "symlinks and the like that are named as segments, not followed", "")
	add(s.Damaged, "damaged lines, left out", "")
	add(s.Torn, "lines that were not written to their end, left out", "")
	add(s.Newer, fmt.Sprintf("lines of a later version than %d, of which only what is known here is shown", events.Version), ": use a newer oomtrace")

	if s.Lost > 0 {
		all = append(all, fmt.Sprintf("records that did not reach the tracer: %d: what is shown may be incomplete", s.Lost))
	}

	if s.Unkept > 0 {
		all = append(all, fmt.Sprintf("lines that could not be recorded, as the disk was full or refused them: %d: what is shown may be incomplete", s.Unkept))
	}

	add(s.Late, "updates whose incident is not there, left out", "")

	return all
}
