// SPDX-License-Identifier: Apache-2.0

package unpack

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const text = "[    1.000000] hello\n[    2.000000] world\n"

// packed returns text in each format. No package at hand writes xz and bzip2: these bytes
// are of the programs of that name.
func packed(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{"": []byte(text)}

	for name, open := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"lz4":  func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				t.Fatal(err)
			}

			return z
		},
	} {
		var b bytes.Buffer
		w := open(&b)
		io.WriteString(w, text)

		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[name] = b.Bytes()
	}

	for name, digits := range map[string]string{
		"xz":    "fd377a585a000004e6d6b4460200210116000000742fe5a3e00029001d5d002d88304622e19ffae55120b73ce8ec025d86d90e12b9f563f3b4e983a00000000090f6a292c8bde56f0001392a47f1b9f51fb6f37d010000000004595a",
		"bzip2": "425a68393141592653593264cfdc00000e5b80501040017000000a064490802000212a0036a320a1a69800a9719ea498432c9246c421dd4458f45fe2ee48a70a12064c99fb80",
	} {
		data, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = data
	}

	return all
}

func TestEveryFormatIsRead(t *testing.T) {
	for name, data := range packed(t) {
		in, format, err := NewReader(bytes.NewReader(data))
		if err != nil || format != name || Format(data) != name {
			t.Errorf("%q: got format %q, %q and error %v, want the format and none", name, format, Format(data), err)
			continue
		}

		if got, err := io.ReadAll(in); err != nil || string(got) != text {
			t.Errorf("%q: got %q and error %v, want %q", name, got, err, text)
		}

		// Two files, one after the other, are one.
		in, _, err = NewReader(bytes.NewReader(append(bytes.Clone(data), data...)))
		if err != nil {
			t.Errorf("%q, twice: got error %v, want none", name, err)
			continue
		}

		if got, err := io.ReadAll(in); err != nil || string(got) != text+text {
			t.Errorf("%q, twice: got %q and error %v, want both", name, got, err)
		}
	}
}

// TestACutFileIsAnError: what was decompressed before is returned.
func TestACutFileIsAnError(t *testing.T) {
	for name, data := range packed(t) {
		if name == "" {
			continue
		}

		in, _, err := NewReader(bytes.NewReader(data[:len(data)-1]))
		if err == nil {
			_, err = io.ReadAll(in)
		}

		if err == nil || !strings.Contains(err.Error(), "unpack "+name) {
			t.Errorf("%s: got error %v, want one that names the format", name, err)
		}
	}
}

// TestMemoryIsBounded has headers that ask for windows of more than a gigabyte, as xz and
// zstd --long write them.
func TestMemoryIsBounded(t *testing.T) {
	for name, digits := range map[string]string{
		"xz": "fd377a585a000004e6d6b44602002101250000003b787b41e00029001d5d002d88304622e19ffae55120b73ce8ec025d86d90e12b9f563f3b4e983a000000000" +
			"90f6a292c8bde56f0001392a47f1b9f51fb6f37d010000000004595a",
		"zstd": "28b52ffd04a8ecae030ecf0eb21909c03b647b535815a70713193c1aef19349e69bcd278a4f180c6fb8c57331ecd7833e3c98c17339e67bcce789cf1",
	} {
		data, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}

		in, _, err := NewReader(bytes.NewReader(data))
		if err == nil {
			_, err = io.ReadAll(in)
		}

		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: got error %v, want one about the size of the window", name, err)
		}
	}
}

func TestUTF16IsText(t *testing.T) {
	const want = "[ 1.0] häß \U0001f600\n"

	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		var data []byte
		for _, unit := range utf16.Encode([]rune("\ufeff" + want)) {
			data = order.AppendUint16(data, unit)
		}

		in, format, err := NewReader(bytes.NewReader(append(data, 'x'))) // half a unit at the end
		if err != nil || format != "UTF-16" {
			t.Fatalf("%v: got format %q and error %v, want UTF-16", order, format, err)
		}

		if got, err := io.ReadAll(in); err != nil || string(got) != want {
			t.Errorf("%v: got %q and error %v, want %q", order, got, err, want)
		}
	}
}
