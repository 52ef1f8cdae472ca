// SPDX-License-Identifier: Apache-2.0

package kernellog

import "bytes"

// journalMagic starts the files of systemd's journal (src/libsystemd/sd-journal:
// journal-def.h).
const journalMagic = "LPKSHHRH"

// IsJournal reports whether a file that starts with these bytes is one of systemd's journal.
func IsJournal(start []byte) bool { return bytes.HasPrefix(start, []byte(journalMagic)) }

// IsBinary reports whether a file that starts with these bytes is no text. A log that was
// being written during a power cut has zeros, too.
func IsBinary(start []byte) bool { return bytes.IndexByte(start, 0) >= 0 && !Looks(start) }

// Looks reports whether text looks like a kernel log: a line has a prefix of one of its
// formats, or is the kernel's line of an OOM kill.
func Looks(text []byte) bool {
	d := newDecoder(Options{})

	for line := range bytes.Lines(text) {
		line = bytes.Trim(line, "\r\n\x00")
		if bytes.Contains(line, []byte("invoked oom-killer: ")) || bytes.Contains(line, []byte("Killed process ")) {
			return true
		}

		text, seen, ok := d.strip(&record{}, d.clean(string(line)), 0)
		if ok && text != "" && (seen&fromKernel != 0 || find(text).kind != isNone) {
			return true
		}
	}

	return false
}
