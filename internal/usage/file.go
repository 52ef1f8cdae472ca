// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"bytes"
	"errors"

	"golang.org/x/sys/unix"
)

// file is a file that is read again and again. The zero value is closed.
type file struct {
	fd   int
	open bool
}

// read reads the file of a directory from its start into buf. It opens the file if it is
// closed, and leaves it open if keep. The result is valid until buf is used again.
func (f *file) read(dir, name string, buf []byte, keep bool) ([]byte, error) {
	if !f.open {
		fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		f.fd, f.open = fd, true
	}

	n, err := unix.Pread(f.fd, buf, 0)
	if err != nil || !keep {
		f.close()
	}

	if err != nil {
		return nil, err
	}

	return buf[:n], nil
}

func (f *file) close() {
	if f.open {
		_ = unix.Close(f.fd) // nothing was written
	}
	*f = file{}
}

// gone reports whether an error shows that the cgroup was removed.
func gone(err error) bool { return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) }

// noLimitV1 is the least number that means no limit in cgroup v1: it depends on the size of
// a page.
const noLimitV1 = 1 << 62

// number parses the content of a file with one number, or max.
func number(text []byte) Value[uint64] {
	if bytes.HasPrefix(text, []byte("max")) {
		return Known[uint64](NoLimit)
	}

	n := digits(text)
	if n.Known && n.V >= noLimitV1 {
		n.V = NoLimit
	}

	return n
}

// digits parses the number at the start of text. It does not allocate.
func digits(text []byte) Value[uint64] {
	var n uint64
	at := 0

	for at < len(text) && '0' <= text[at] && text[at] <= '9' {
		d := uint64(text[at] - '0')
		if n > (NoLimit-d)/10 {
			return Value[uint64]{}
		}
		n = n*10 + d
		at++
	}

	return Value[uint64]{n, at > 0}
}

// key returns the number of the line that starts with name and blanks.
func key(text []byte, name string) Value[uint64] {
	for len(text) > 0 {
		line := text
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			line, text = text[:end], text[end+1:]
		} else {
			text = nil
		}

		if len(line) <= len(name) || string(line[:len(name)]) != name || line[len(name)] != ' ' {
			continue
		}

		return digits(bytes.TrimLeft(line[len(name):], " "))
	}

	return Value[uint64]{}
}

// pressureTotal returns the microseconds in which some task stalled: total= of the first
// line of memory.pressure.
func pressureTotal(text []byte) Value[uint64] {
	const before = "total="

	line, _, _ := bytes.Cut(text, []byte("\n"))

	at := bytes.Index(line, []byte(before))
	if at < 0 || !bytes.HasPrefix(line, []byte("some ")) {
		return Value[uint64]{}
	}

	return digits(line[at+len(before):])
}

// pressureAvg10 returns the share of the last ten seconds of the first line.
func pressureAvg10(text []byte) Value[float64] {
	const before = "some avg10="
	if !bytes.HasPrefix(text, []byte(before)) {
		return Value[float64]{}
	}

	whole := digits(text[len(before):])
	_, rest, _ := bytes.Cut(text[len(before):], []byte("."))

	hundredths := digits(rest)
	if !whole.Known || !hundredths.Known {
		return Value[float64]{}
	}

	return Known((float64(whole.V) + float64(hundredths.V)/100) / 100)
}
