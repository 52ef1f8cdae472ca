// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// The fields that are written, by message. Their numbers are those of the files in
// protos/perfetto/trace of Perfetto.
const (
	tracePacket = 1 // of Trace

	packetClockSnapshot   = 6 // of TracePacket
	packetTimestamp       = 8
	packetSequenceID      = 10
	packetTrackEvent      = 11
	packetSequenceFlags   = 13
	packetTimestampClock  = 58
	packetTrackDescriptor = 60

	snapshotClocks       = 1 // of ClockSnapshot
	snapshotPrimaryClock = 2
	clockID              = 1 // of ClockSnapshot.Clock
	clockTimestamp       = 2

	trackUUID           = 1 // of TrackDescriptor
	trackName           = 2
	trackProcess        = 3
	trackParent         = 5
	trackCounter        = 8
	trackChildOrdering  = 11
	trackRank           = 12
	trackDescription    = 14
	trackMergeBehavior  = 15
	trackMergeKey       = 16
	processPID          = 1 // of ProcessDescriptor
	processName         = 6
	counterUnit         = 3 // of CounterDescriptor
	counterUnitName     = 6
	counterShareAxisKey = 7

	eventAnnotations  = 4 // of TrackEvent
	eventType         = 9
	eventTrack        = 11
	eventCategories   = 22
	eventName         = 23
	eventDoubleValue  = 44
	annotationBool    = 2 // of DebugAnnotation
	annotationUint    = 3
	annotationInt     = 4
	annotationText    = 6
	annotationName    = 10
	annotationEntries = 11
	annotationValues  = 12
)

// Values of enumerations.
const (
	typeSliceBegin = 1 // TrackEvent.Type
	typeSliceEnd   = 2
	typeInstant    = 3
	typeCounter    = 4

	clockRealtime  = 1 // BuiltinClock
	clockMonotonic = 3

	unitTimeNS = 1 // CounterDescriptor.Unit
	unitCount  = 2
	unitBytes  = 3

	orderExplicit = 3 // TrackDescriptor.ChildTracksOrdering
	mergeByKey    = 3 // TrackDescriptor.SiblingMergeBehavior

	stateCleared = 1 // TracePacket.SequenceFlags
)

// message is a protobuf message that is being encoded. Each method appends a field.
type message []byte

func (m message) uint(field protowire.Number, v uint64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, field, protowire.VarintType), v)
}

func (m message) int(field protowire.Number, v int64) message { return m.uint(field, uint64(v)) }

func (m message) bool(field protowire.Number, v bool) message {
	return m.uint(field, protowire.EncodeBool(v))
}

func (m message) double(field protowire.Number, v float64) message {
	return protowire.AppendFixed64(protowire.AppendTag(m, field, protowire.Fixed64Type), math.Float64bits(v))
}

// text appends a string, sanitized and limited to maxTextBytes.
func (m message) text(field protowire.Number, s string) message {
	return protowire.AppendString(protowire.AppendTag(m, field, protowire.BytesType), safe(s))
}

func (m message) message(field protowire.Number, sub message) message {
	return protowire.AppendBytes(protowire.AppendTag(m, field, protowire.BytesType), sub)
}

// maxTextBytes is how much of one text is written.
const maxTextBytes = 2000

// safe makes a text fit for display. A very long one is cut, with a note.
func safe(s string) string {
	s = phrase.Sanitize(s)
	if len(s) <= maxTextBytes {
		return s
	}

	at := maxTextBytes
	for !utf8.RuneStart(s[at]) {
		at--
	}

	return fmt.Sprintf("%s… (%d bytes more)", s[:at], len(s)-at)
}
