// SPDX-License-Identifier: Apache-2.0

// Package perfetto writes incidents, and the stalls and warnings around them, as a trace for the
// Perfetto UI and its trace processor: a stream of TracePackets in protobuf.
//
// A node is a process, one for each of its boots. Below it is a track for each limiter or workload,
// with a slice for each kill: from the signal to the release of the memory, or an instant where that
// is not known. Its children are the stalls, by kind, and the counters of the minutes before its kills.
//
// Nothing is kept but what identifies tracks, within bounds, so a recording of any length can be
// written as it is read. Packets are not sorted by time: the trace processor does that.
//
// All input is hostile: each text is sanitized where it is encoded.
package perfetto

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Written counts what a trace holds, and what had no place in it.
type Written struct {
	Incidents, Stalls, Pressure, Lost uint64
	// Unplaced are incidents that have no time on the clock of the trace, or none at all; UnplacedLines are
	// other lines.
	Unplaced, UnplacedLines uint64
	// Uptime is true if the times of the trace are uptimes.
	Uptime bool
}

// Warnings are sentences about what the trace does not hold, or holds differently.
func (w Written) Warnings() []string {
	var all []string

	if w.Uptime {
		all = append(all, "the incidents have no wall-clock time: the trace counts from the boot")
	}

	const leftOut = " left out of the trace: no time, or another clock than the first"

	if w.Unplaced > 0 {
		all = append(all, phrase.Plural(w.Unplaced, "incident")+leftOut)
	}

	if w.UnplacedLines > 0 {
		all = append(all, phrase.Plural(w.UnplacedLines, "line")+" about stalls, warnings or losses"+leftOut)
	}

	return all
}

// Writer writes one trace. It belongs to one goroutine. After an error it must not be used.
type Writer struct {
	out     *bufio.Writer
	clock   uint64 // of all timestamps; 0: nothing was written
	written Written
	tracks  tracks
	seen    map[stall]uint64 // the end of stalls that were written
}

// NewWriter returns a Writer of a trace to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{out: bufio.NewWriter(w), seen: make(map[stall]uint64)}
}

// Close writes what is buffered, and returns what was written. It does not close the underlying
// writer. A trace without a packet is valid.
func (w *Writer) Close() (Written, error) {
	if err := w.out.Flush(); err != nil {
		return w.written, fmt.Errorf("write the trace: %w", err)
	}

	return w.written, nil
}

// Incident writes an incident with all its updates. The first one that has a time decides on the
// clock of the trace; one that has none on that clock is counted as unplaced.
func (w *Writer) Incident(inc *events.Incident) error {
	clock, at := incidentTime(inc)

	if !w.use(clock) {
		w.written.Unplaced++
		return nil
	}

	w.written.Incidents++
	node := w.node(&inc.Envelope)
	o := w.owner(node, ownerOf(inc))

	w.counters(o, inc, at)
	w.before(node, inc, at)
	w.kill(o, inc, at)

	return w.err()
}

// Line writes a stall, an early warning, or a count of lost records, and ignores other lines. One without
// a time on the clock of the trace is counted as unplaced.
func (w *Writer) Line(line events.Line) error {
	switch l := line.(type) {
	case *events.StallLine:
		if at, ok := w.place(&l.Envelope); ok {
			w.written.Stalls++
			w.stall(w.node(&l.Envelope), &events.LongStall{
				What: l.What, DurationNS: l.DurationNS, ReclaimedBytes: l.ReclaimedBytes, Task: l.Task, Limiter: l.Limiter,
			}, at, nil)
		}
	case *events.PressureLine:
		if at, ok := w.place(&l.Envelope); ok {
			w.written.Pressure++
			w.pressure(l, at)
		}
	case *events.Lost:
		if at, ok := w.place(&l.Envelope); ok {
			w.written.Lost++
			w.slice(w.track(w.node(&l.Envelope), trackOf{name: "lost records", rank: rankLost}), slice{
				begin: at, end: at, name: fmt.Sprintf("%d × %s", l.Count, l.What), category: "lost",
			})
		}
	}

	return w.err()
}

// place is the time of a line that is not about an incident. It returns false, and counts the line, if it has no
// place in the trace.
func (w *Writer) place(e *events.Envelope) (uint64, bool) {
	at, ok := wall(e)
	if !ok || !w.use(clockRealtime) {
		w.written.UnplacedLines++
		return 0, false
	}

	return at, true
}

func (w *Writer) err() error {
	if _, err := w.out.Write(nil); err != nil { // the error of an earlier write
		return fmt.Errorf("write the trace: %w", err)
	}

	return nil
}

// maxTime keeps the sum of a time and a duration within the 63 bits of the trace processor.
const maxTime = math.MaxInt64 / 2

// wall is the time of a line in nanoseconds since 1970.
func wall(e *events.Envelope) (uint64, bool) {
	ns := e.Time.UnixNano()
	if e.Time.Unix() < 0 || e.Time.Unix() > maxTime/1_000_000_000 { // UnixNano is undefined far from 1970
		return 0, false
	}

	return uint64(ns), ns > 0
}

// incidentTime is when an incident happened, and by which clock: wall-clock time, else the uptime of
// a kernel log. The clock is 0 if neither is known.
//
// A line has no time of CLOCK_BOOTTIME: what its id has is that of the first record, which may be
// milliseconds before the kill. So the clock of a trace is the wall clock, by which the trace
// processor can also merge it with a trace of the system.
func incidentTime(inc *events.Incident) (clock, ns uint64) {
	if !slices.Contains(inc.Unknown, "time") {
		if ns, ok := wall(&inc.Envelope); ok {
			return clockRealtime, ns
		}

		return 0, 0
	}

	if inc.Log != nil && inc.Log.UptimeNS != nil && *inc.Log.UptimeNS < maxTime {
		return clockMonotonic, *inc.Log.UptimeNS
	}

	return 0, 0
}

// use reports whether the clock is that of the trace. The first one becomes it.
func (w *Writer) use(clock uint64) bool {
	if clock == 0 || w.clock != 0 && w.clock != clock {
		return false
	}

	if w.clock == 0 {
		w.clock = clock
		w.written.Uptime = clock == clockMonotonic
		w.start()
	}

	return true
}

// start writes which clock all times are of.
func (w *Writer) start() {
	zero := message{}.uint(clockID, w.clock).uint(clockTimestamp, 0)
	snapshot := message{}.message(snapshotClocks, zero).uint(snapshotPrimaryClock, w.clock)

	w.packet(message{}.uint(packetSequenceFlags, stateCleared).message(packetClockSnapshot, snapshot))
}

// sequenceID is that of all packets: they have one writer.
const sequenceID = 1

// packet writes a TracePacket. Its error is kept by the buffer: see err.
func (w *Writer) packet(fields message) {
	fields = fields.uint(packetSequenceID, sequenceID)
	head := protowire.AppendVarint(protowire.AppendTag(nil, tracePacket, protowire.BytesType), uint64(len(fields)))

	_, _ = w.out.Write(head)
	_, _ = w.out.Write(fields)
}

// event writes a TrackEvent.
func (w *Writer) event(at uint64, fields message) {
	w.packet(message{}.uint(packetTimestamp, at).uint(packetTimestampClock, w.clock).message(packetTrackEvent, fields))
}

// slice is something that took time, or none: then it is an instant.
type slice struct {
	begin, end     uint64
	name, category string
	args           args
}

// slice writes a slice on a track, or on another lane of it where it would overlap with an earlier one:
// slices of one lane must be nested.
func (w *Writer) slice(t *track, s slice) {
	lane := w.lane(t, s.begin, s.end)

	fields := message{}.uint(eventTrack, lane).text(eventName, s.name).text(eventCategories, s.category)
	for _, a := range s.args {
		fields = fields.message(eventAnnotations, message(a))
	}

	if s.begin == s.end {
		w.event(s.begin, fields.uint(eventType, typeInstant))
		return
	}

	w.event(s.begin, fields.uint(eventType, typeSliceBegin))
	w.event(s.end, message{}.uint(eventTrack, lane).uint(eventType, typeSliceEnd))
}

// since is the time that is ns earlier.
func since(at, ns uint64) uint64 { return at - min(at, ns) }

// after is the time that is ns later.
func after(at, ns uint64) uint64 { return at + min(ns, maxTime) }
