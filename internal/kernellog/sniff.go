// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// packings are formats in which logs and recordings come packed, by their first bytes.
var packings = []struct{ magic, name, cat string }{
	{"\x1f\x8b", "gzip", "zcat"},
	{"\x28\xb5\x2f\xfd", "zstd", "zstdcat"},
	{"\xfd7zXZ\x00", "xz", "xzcat"},
	{"BZh", "bzip2", "bzcat"},
	{"LPKSHHRH", "a systemd journal", "journalctl -k -o json --file"},
}

// Packed returns the name of the packed format that starts with these bytes, and the command
// that unpacks it to its output.
func Packed(start []byte) (name, cat string, ok bool) {
	for _, p := range packings {
		if bytes.HasPrefix(start, []byte(p.magic)) {
			return p.name, p.cat, true
		}
	}

	return "", "", false
}

// Looks reports whether text looks like a kernel log: a line has a prefix of one of its
// formats, or is the kernel's line of an OOM kill.
func Looks(text []byte) bool {
	d := newDecoder(Options{})

	for line := range bytes.Lines(text) {
		line = bytes.Trim(line, "\r\n\x00")
		if bytes.Contains(line, []byte("invoked oom-killer: ")) || bytes.Contains(line, []byte("Killed process ")) {
			return true
		}

		r := record{bare: true}
		if text, seen, ok := d.strip(&r, d.clean(string(line)), 0); ok && text != "" && (seen&fromKernel != 0 || find(text).kind != isNone) {
			return true
		}
	}

	return false
}

// Open returns a reader of a log after checking its start. It does not wait for more data
// than is available. A packed or binary file is an error: it would be read as a log without
// a kill. The name - stands for stdin.
func Open(r io.Reader, name string) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)

	what := name
	if name == "-" {
		what, name = "the input", "FILE"
	}

	start, err := in.Peek(8) // the length of the longest magic
	if err == nil {
		start, err = in.Peek(in.Buffered())
	}

	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the kernel log: %w", err)
	}

	if packing, cat, ok := Packed(start); ok {
		return nil, fmt.Errorf("%s is not text but %s: run %s %s | oomtrace report --kernel-log -", what, packing, cat, name)
	}
	// A log that was being written during a power cut has zeros, too.
	if bytes.IndexByte(start, 0) >= 0 && !Looks(start) {
		return nil, fmt.Errorf("%s is binary, not a kernel log: "+
			"if it is compressed, run zcat %s | oomtrace report --kernel-log -", what, name)
	}

	return in, nil
}
