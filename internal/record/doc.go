// SPDX-License-Identifier: Apache-2.0

// Package record keeps the lines of a trace on disk, and reads them back.
//
// A recording is a directory of segments:
//
//	00000041-20261124T030000Z-5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61.jsonl.zst
//	00000042-20261125T030000Z-5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61.jsonl
//	lock
//
// A segment holds lines of the event contract and nothing else: what `zstd -dc`
// and cat give of all of them, in the order of their names, is what `-o json`
// would have printed. The name has a number that counts up in the directory,
// when the segment was begun (UTC), and the boot id. The number is the order in
// which they were written, though the clock may have been set back in between;
// a gap in it is a segment that is missing.
//
// Only the last segment is appended to, and only by the writer that began it:
// so a line that a crash tore is the end of its segment for ever. What is
// finished is compressed by the way: to a temporary file, which is synced and
// renamed before the original is removed. After a crash at any instant a segment
// is there in one form or in both, and never counts twice.
//
// What counts as on disk: an incident when [Writer.Append] returns; other lines
// a second later, or with the next incident. If the process is killed, and the
// machine goes on, nothing that was appended is lost.
package record
