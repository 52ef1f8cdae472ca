// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// packings are what logs and recordings come packed in, by their first bytes.
var packings = []struct{ magic, name, cat string }{
	{"\x1f\x8b", "gzip", "zcat"},
	{"\x28\xb5\x2f\xfd", "zstd", "zstdcat"},
	{"\xfd7zXZ\x00", "xz", "xzcat"},
	{"BZh", "bzip2", "bzcat"},
	{"LPKSHHRH", "a journal of systemd", "journalctl -k -o json --file"},
}

// Packed tells of what begins so how it is packed, and the command that unpacks it.
func Packed(begin []byte) (name, cat string, ok bool) {
	for _, p := range packings {
		if bytes.HasPrefix(begin, []byte(p.magic)) {
			return p.name, p.cat, true
		}
	}

	return "", "", false
}

// Looks tells whether a line of the text is carried as those of kernel logs are,
// or is the kernel's of an OOM kill.
func Looks(text []byte) bool {
	d := newDecoder(Options{})

	for line := range bytes.Lines(text) {
		line = bytes.Trim(line, "\r\n\x00")
		if bytes.Contains(line, []byte("invoked oom-killer: ")) || bytes.Contains(line, []byte("Killed process ")) {
			return true
		}

		if r, ok := d.decode(string(line), 0, true); ok && !r.bare && r.text != "" {
			return true
		}
	}

	return false
}

// Open looks at the beginning of a log, without waiting for more than there is. What
// is packed or binary is an error: it would be read as a log without a kill. A name
// of - is stdin.
func Open(r io.Reader, name string) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)

	what := name
	if name == "-" {
		what, name = "the input", "FILE"
	}

	begin, err := in.Peek(8) // as long as the longest magic
	if err == nil {
		begin, err = in.Peek(in.Buffered())
	}

	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the kernel's log: %w", err)
	}

	if packing, cat, ok := Packed(begin); ok {
		return nil, fmt.Errorf("%s is no text but %s: %s %s | oomtrace report --kernel-log -", what, packing, cat, name)
	}
	// A log that was being written when the power went has zeros, too.
	if bytes.IndexByte(begin, 0) >= 0 && !Looks(begin) {
		return nil, fmt.Errorf("%s is binary, no kernel's log: if it is packed, unpack it: zcat %s | oomtrace report --kernel-log -", what, name)
	}

	return in, nil
}
