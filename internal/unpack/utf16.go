// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"encoding/binary"
	"errors"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// The byte order marks of UTF-16, in which PowerShell redirects the output of a program.
const (
	littleEndianMark = "\xff\xfe"
	bigEndianMark    = "\xfe\xff"
)

// utf16Text turns UTF-16 into UTF-8, without the byte order mark.
type utf16Text struct {
	in    io.Reader
	order binary.ByteOrder // nil before the mark
	half  rune             // the first half of a pair; 0: none
	left  []byte           // not returned yet
}

func (u *utf16Text) Read(p []byte) (int, error) {
	for len(u.left) == 0 {
		if err := u.fill(); err != nil {
			return 0, err
		}
	}

	n := copy(p, u.left)
	u.left = u.left[n:]

	return n, nil
}

// fill decodes one unit. The input is buffered.
func (u *utf16Text) fill() error {
	var unit [2]byte
	if _, err := io.ReadFull(u.in, unit[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return io.EOF // half a unit
		}

		return err
	}

	if u.order == nil {
		u.order = binary.BigEndian
		if string(unit[:]) == littleEndianMark {
			u.order = binary.LittleEndian
		}

		return nil
	}

	r := rune(u.order.Uint16(unit[:]))

	switch {
	case u.half != 0:
		r, u.half = utf16.DecodeRune(u.half, r), 0
	case utf16.IsSurrogate(r):
		u.half = r
		return nil
	}
	u.left = utf8.AppendRune(u.left[:0], r)

	return nil
}
