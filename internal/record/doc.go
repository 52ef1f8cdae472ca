// SPDX-License-Identifier: Apache-2.0

// Package record writes the lines of a trace to disk and reads them back.
//
// A recording is a directory of segments:
//
//	00000041-20261124T030000Z-5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61.jsonl.zst
//	00000042-20261125T030000Z-5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61.jsonl
//	lock
//
// A segment holds published lines (package events) and nothing else: `zstd -dc` and cat
// of all segments, in the order of their names, print what `-o json` would have printed.
// A name has the segment's sequence number in the directory, the time at which it was
// started (UTC), and the boot id. The sequence number gives the order of writing even if
// the clock was set back; a gap in it is a missing segment.
//
// Only the last segment is appended to, and only by the writer that started it, so a
// line that was torn by a crash is always the last one of its segment. Finished segments
// are compressed in the background: into a temporary file, which is synced and renamed
// before the original is removed. After a crash at any point, a segment exists in one
// form or in both, and is read once.
//
// An incident is on disk when [Writer.Append] returns; other lines are within a second,
// or together with the next incident. If only the process is killed and the machine
// keeps running, nothing that was appended is lost.
package record
