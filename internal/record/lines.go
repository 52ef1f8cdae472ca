// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// MaxLineBytes is the length of the longest line that is read. Longer lines count as
// damaged.
const MaxLineBytes = 4 << 20

// maxWindowBytes bounds the memory that decompressing a file may take.
const maxWindowBytes = 64 << 20

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// lineReader splits text into lines.
type lineReader struct {
	in   *bufio.Reader
	zstd *zstd.Decoder // nil: plain
	long []byte        // a line longer than the buffer of in; reused
}

// newLineReader reads plain or compressed text. It recognizes the format by the first
// bytes, not by a name.
func newLineReader(r io.Reader) (*lineReader, error) {
	in := bufio.NewReaderSize(r, 256<<10)

	magic, err := in.Peek(len(zstdMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}

	if !bytes.Equal(magic, zstdMagic) {
		return &lineReader{in: in}, nil
	}

	dec, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindowBytes))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}

	return &lineReader{in: bufio.NewReaderSize(dec, 256<<10), zstd: dec}, nil
}

// next returns a line without its newline, valid until the next call, and whether it was
// terminated by one. A line that is too long is nil. A last line without a newline may be
// returned together with an error other than io.EOF.
func (l *lineReader) next() (line []byte, terminated bool, err error) {
	l.long = l.long[:0]
	tooLong := false

	for {
		part, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if tooLong = tooLong || len(l.long)+len(part) > MaxLineBytes+1; !tooLong {
				l.long = append(l.long, part...)
			}

			continue
		}

		if len(l.long) > 0 {
			part = append(l.long, part...)
			l.long = part
		}

		if err == nil {
			part = part[:len(part)-1]
		}

		if tooLong || len(part) > MaxLineBytes {
			return nil, err == nil, eofAfterLine(err, 1)
		}

		return part, err == nil, eofAfterLine(err, len(part))
	}
}

// eofAfterLine defers io.EOF to the next call if a line of n bytes is still to be
// returned.
func eofAfterLine(err error, n int) error {
	if n > 0 && errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}

	return err
}

func (l *lineReader) close() {
	if l.zstd != nil {
		l.zstd.Close()
	}
}
