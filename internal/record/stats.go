// SPDX-License-Identifier: Apache-2.0

package record

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Stats counts what a reader read, and what it could not read.
type Stats struct {
	Segments int   // started
	Lines    int   // parsed, selected or not
	Bytes    int64 // of all lines, decompressed

	Damaged    int    // lines that are no line of the contract, or longer than MaxLineBytes
	Torn       int    // incomplete last lines: of a crash, or of a writer at work
	CutOff     int    // segments that could not be read to their end
	Missing    int    // segments between others that do not exist
	Earlier    int    // segments before the first one, removed to stay within the total size
	Refused    int    // symlinks and other special files that are named as segments
	Newer      int    // lines of a later version of the contract
	Lost       uint64 // records that did not reach the tracer (counted by Incidents)
	Unrecorded uint64 // lines that the writer could not record (counted by Incidents)
	Late       int    // updates whose incident is missing or was already reported (counted by Incidents)

	cutOff error // the first
}

func (s *Stats) addLost(l *Line) {
	line, err := l.Decode()
	if err != nil {
		return
	}

	lost, ok := line.(*events.Lost)
	switch {
	case !ok:
	case lost.What == events.LostRecording:
		s.Unrecorded += lost.Count
	default:
		s.Lost += lost.Count
	}
}

func (s *Stats) addCutOff(err error) {
	s.CutOff++
	if s.cutOff == nil {
		s.cutOff = err
	}
}

// countSegments counts the segments that are missing by the sequence numbers of the
// others.
func (s *Stats) countSegments(l listing) {
	const most = 1 << 30 // names may have any number

	s.Refused = len(l.refused)
	first, last := l.segments[0].seq, l.segments[0].seq
	s.Earlier = int(min(max(first, 1)-1, most))

	for _, seg := range l.segments[1:] {
		if seg.seq > last+1 {
			s.Missing += int(min(seg.seq-last-1, most))
		}
		last = seg.seq
	}
}

// Warnings returns a sentence for users about each kind of loss, empty if nothing is
// missing.
func (s Stats) Warnings() []string {
	var all []string
	add := func(n uint64, what, more string) {
		if n > 0 {
			all = append(all, fmt.Sprintf("%s: %d%s", what, n, more))
		}
	}

	add(uint64(s.Earlier), "earlier segments removed to stay within the total size", "")
	add(uint64(s.Missing), "segments missing between others", "")
	add(uint64(s.CutOff), "segments that could not be read to the end", fmt.Sprintf(", the first: %v", s.cutOff))
	add(uint64(s.Refused), "symlinks and special files named like segments, ignored", "")
	add(uint64(s.Damaged), "damaged lines, skipped", "")
	add(uint64(s.Torn), "incomplete lines, skipped", "")
	add(uint64(s.Newer),
		fmt.Sprintf("lines of a later version than %d, shown without what is new in it", events.Version), ": use a newer oomtrace")
	add(s.Lost, "records lost before they reached the tracer", ": the output may be incomplete")
	add(s.Unrecorded, "lines not recorded because the disk was full or failed", ": the output may be incomplete")
	add(uint64(s.Late), "updates without their incident, skipped", "")

	return all
}
