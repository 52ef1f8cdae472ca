// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Reader reads a recording line by line, in the order of writing, from a writer's
// directory or from one file. Its memory does not grow with the recording. It
// belongs to one goroutine.
type Reader struct {
	root     *os.Root  // nil: one file
	file     io.Reader // that one, not yet begun
	segments []segment // not yet begun
	lines    *lineReader
	closer   io.Closer
	name     string          // of what is being read
	newest   uint64          // number of the last segment begun
	follow   context.Context // nil: to the end, and no further
	selector selector
	stats    Stats
	strange  []byte // the begin of what is no line of the contract
}

// Open opens a directory, a file of lines, plain or compressed, or "-", the
// standard input. A directory may have a writer: what it holds now is read, and
// what comes to its newest segment meanwhile.
func Open(path string) (*Reader, error) {
	if path == "-" {
		return NewReader(os.Stdin), nil
	}

	info, err := os.Stat(path)
	if err != nil {
		return nil, unopened(err)
	}

	if !info.IsDir() {
		file, err := os.Open(path)
		if err != nil {
			return nil, unopened(err)
		}

		return &Reader{name: path, file: file, closer: file}, nil
	}

	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, unopened(err)
	}

	l, err := listTwice(root)
	if err != nil {
		root.Close()
		return nil, unopened(err)
	}

	if len(l.segments) == 0 {
		root.Close()
		return nil, fmt.Errorf("%s: no recording: no file in it is named as a segment (00000001-...%s)", path, plainSuffix)
	}
	r := &Reader{root: root, segments: l.segments}
	r.stats.count(l)

	return r, nil
}

// unopened says what to do about a recording that may not be read.
func unopened(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open the recording: %w: run it as root: recordings are readable by root only", err)
	}

	return fmt.Errorf("open the recording: %w", err)
}

// NewReader reads lines, plain or compressed. Closing r is the caller's.
func NewReader(r io.Reader) *Reader { return &Reader{name: "the input", file: r} }

// begin looks at the first bytes: a file that is followed may have none yet.
func (r *Reader) begin(in io.Reader) error {
	var err error
	r.lines, err = newLineReader(in)

	r.stats.Segments++
	if t, ok := in.(*tail); ok && err == nil && r.lines.zstd != nil {
		t.finished = true // nothing is appended to what is compressed
	}

	return err
}

// Select leaves out all lines but those of the selection. It is called before the
// first line.
func (r *Reader) Select(s Selection) { r.selector = selector{Selection: s} }

// Stats tells what was met so far.
func (r *Reader) Stats() Stats { return r.stats }

// Lines gives the lines, each valid until the next one. What cannot be read is
// left out and counted (Stats); only an error that leaves nothing to go on with is
// given, as the last.
func (r *Reader) Lines() iter.Seq2[*Line, error] {
	return func(yield func(*Line, error) bool) {
		for {
			l, err := r.next()
			if errors.Is(err, io.EOF) {
				return
			}

			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// next gives the next line, and io.EOF after the last.
func (r *Reader) next() (*Line, error) {
	for {
		if r.lines == nil {
			if err := r.advance(); err != nil {
				return nil, err
			}

			continue
		}

		raw, whole, err := r.lines.next()
		if err != nil {
			r.ended(err, len(raw) > 0)
			continue
		}

		l, ok := r.take(raw, whole)
		if ok && r.selector.takes(&l) {
			return &l, nil
		}
	}
}

// take parses a line, or counts it as damaged.
func (r *Reader) take(raw []byte, whole bool) (Line, bool) {
	if raw != nil && len(bytes.TrimSpace(raw)) == 0 {
		return Line{}, false
	}
	r.stats.Bytes += int64(len(raw)) + 1

	l, err := Line{}, errTooLong
	if raw != nil {
		l, err = parse(raw)
	}

	switch {
	case err == nil:
		r.stats.Lines++
		if l.V > events.Version {
			r.stats.Newer++
		}

		return l, true
	case !whole:
		r.stats.Torn++
	default:
		r.stats.Damaged++
	}

	if room := maxStrange - len(r.strange); room > 0 && raw != nil {
		r.strange = append(append(r.strange, raw[:min(len(raw), room)]...), '\n')
	}

	return Line{}, false
}

// maxStrange is how much is kept to tell what it is.
const maxStrange = 4096

// NoEvents is the error if the input had something, and nothing of it was a line of
// the contract; with the begin of what it was. A directory whose first line was torn
// by a crash is a recording still. It is called after the last line.
func (r *Reader) NoEvents() (begin []byte, err error) {
	s := r.stats
	switch {
	case s.Lines > 0, s.Damaged+s.CutOff == 0 && (s.Torn == 0 || r.root != nil):
		return nil, nil
	case s.Damaged+s.Torn == 0:
		return nil, unopened(s.cutOff)
	}

	return r.strange, fmt.Errorf("read the recording: none of %d lines is an event", s.Damaged+s.Torn)
}

var errTooLong = fmt.Errorf("longer than %d bytes", MaxLineBytes)

// ended closes what has been read, to its end or as far as it can be.
func (r *Reader) ended(err error, torn bool) {
	if torn {
		r.stats.Torn++
	}

	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.stats.cutOffBy(fmt.Errorf("%s: %w", r.name, err))
	}

	r.closeFile()
}

func (r *Reader) closeFile() {
	if r.lines != nil {
		r.lines.close()
		r.lines = nil
	}

	if r.closer != nil {
		r.closer.Close()
		r.closer = nil
	}
}

// advance begins with the file, or with the next segment that can be opened.
func (r *Reader) advance() error {
	if file := r.file; file != nil {
		r.file = nil
		return r.beginFile(file, 0)
	}

	for len(r.segments) == 0 {
		if r.root == nil || r.follow == nil {
			return io.EOF
		}

		if err := r.relist(r.newest); err != nil {
			return err
		}

		if len(r.segments) == 0 && !r.wait() {
			return io.EOF
		}
	}
	s := r.segments[0]
	r.segments = r.segments[1:]
	r.newest = s.seq
	r.name = s.name()

	file, err := openRegular(r.root, r.name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && !s.packed {
		// It was compressed since the directory was read.
		s.packed = true
		r.name = s.name()
		file, err = openRegular(r.root, r.name, os.O_RDONLY)
	}

	switch {
	case errors.Is(err, fs.ErrNotExist): // removed since, to bound the total
		if r.stats.Segments == 0 {
			r.stats.Earlier++
		} else {
			r.stats.Missing++
		}

		return nil
	case err != nil:
		r.stats.cutOffBy(err)
		return nil
	}
	r.closer = file

	return r.beginFile(file, s.seq)
}

func (r *Reader) beginFile(in io.Reader, seq uint64) error {
	if file, ok := in.(*os.File); ok && r.follow != nil && file != os.Stdin {
		in = &tail{r: r, file: file, seq: seq}
	}

	if err := r.begin(in); err != nil {
		r.ended(err, false)
	}

	return nil
}

// Close closes what is open.
func (r *Reader) Close() error {
	r.closeFile()

	r.file, r.segments = nil, nil
	if r.root != nil {
		return r.root.Close()
	}

	return nil
}
