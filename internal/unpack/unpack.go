// SPDX-License-Identifier: Apache-2.0

// Package unpack reads compressed files, and text in UTF-16, as streams. It recognizes a
// format by the first bytes, not by a name, and its memory is bounded whatever a file asks
// for.
package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

const (
	// maxWindowBytes bounds the memory that decompression may take: what zstd --long=26 and
	// xz -9 need.
	maxWindowBytes = 64 << 20
	bufferBytes    = 64 << 10
)

type format struct {
	name  string
	magic []string
	open  func(io.Reader) (io.Reader, error)
}

var formats = []format{
	{"gzip", []string{"\x1f\x8b"}, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"zstd", []string{"\x28\xb5\x2f\xfd"}, openZstd},
	{"xz", []string{"\xfd7zXZ\x00"}, func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxWindowBytes) }},
	{"bzip2", []string{"BZh"}, func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"UTF-16", []string{littleEndianMark, bigEndianMark}, func(r io.Reader) (io.Reader, error) { return &utf16Text{in: r}, nil }},
	// Blocks of lz4 have 4 MiB at most, those of its old format 8 MiB.
	{"lz4", []string{"\x04\x22\x4d\x18", "\x02\x21\x4c\x18"}, func(r io.Reader) (io.Reader, error) { return lz4.NewReader(r), nil }},
}

func openZstd(r io.Reader) (io.Reader, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindowBytes))
	if err != nil {
		return nil, err
	}

	return d.IOReadCloser(), nil
}

// Format returns the name of the format that starts with these bytes, "" if it is none that
// NewReader unpacks.
func Format(start []byte) string {
	if f := formatOf(start); f != nil {
		return f.name
	}

	return ""
}

func formatOf(start []byte) *format {
	for i, f := range formats {
		for _, magic := range f.magic {
			if bytes.HasPrefix(start, []byte(magic)) {
				return &formats[i]
			}
		}
	}

	return nil
}

// NewReader returns the content of r, unpacked, and the name of the format that it was in, ""
// if that is plain text or another format. It does not wait for more than the first bytes of r.
// It belongs to one goroutine; the caller closes r.
func NewReader(r io.Reader) (in *bufio.Reader, name string, err error) {
	in = bufio.NewReaderSize(r, bufferBytes)

	start, err := in.Peek(6) // the longest magic
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}

	f := formatOf(start)
	if f == nil {
		return in, "", nil
	}

	plain, err := f.open(in)
	if err != nil {
		return nil, f.name, fmt.Errorf("unpack %s: %w", f.name, err)
	}

	return bufio.NewReaderSize(&named{plain, f.name}, bufferBytes), f.name, nil
}

// named adds the format to errors.
type named struct {
	io.Reader
	format string
}

func (n *named) Read(p []byte) (int, error) {
	read, err := n.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("unpack %s: %w", n.format, err)
	}

	return read, err
}
