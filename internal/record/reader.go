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
// directory or from one file. Its memory does not grow with the recording. It belongs to
// one goroutine.
type Reader struct {
	root     *os.Root  // nil: one file
	file     io.Reader // the one file, until it is started
	segments []segment // not yet started
	lines    *lineReader
	closer   io.Closer
	name     string          // of the file that is being read
	newest   uint64          // sequence number of the last segment that was started
	follow   context.Context // nil: read to the end
	selector selector
	stats    Stats
	coverage Coverage
	unparsed []byte // the start of the lines that could not be parsed
}

// Open opens a directory, a file of lines, plain or compressed, or "-", the standard
// input. A directory may have a writer: its lines up to now are read, and those that are
// appended to its newest segment meanwhile.
func Open(path string) (*Reader, error) {
	if path == "-" {
		return NewReader(os.Stdin), nil
	}

	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(err)
	}

	if !info.IsDir() {
		file, err := os.Open(path)
		if err != nil {
			return nil, openError(err)
		}

		return &Reader{name: path, file: file, closer: file}, nil
	}

	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, openError(err)
	}

	l, err := listStable(root)
	if err != nil {
		root.Close()
		return nil, openError(err)
	}

	if len(l.segments) == 0 {
		root.Close()

		return nil, fmt.Errorf("%s is not a recording: it has no segments (files named 00000001-...%s)",
			path, plainSuffix)
	}

	r := &Reader{root: root, segments: l.segments}
	r.stats.countSegments(l)

	return r, nil
}

// openError adds the next step to the error of a recording that could not be opened.
func openError(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("open the recording: %w: run as root: recordings are readable by root only", err)
	}

	return fmt.Errorf("open the recording: %w", err)
}

// NewReader returns a Reader of lines, plain or compressed. The caller closes r.
func NewReader(r io.Reader) *Reader { return &Reader{name: "the input", file: r} }

// Select restricts Lines to a selection. It is called before Lines.
func (r *Reader) Select(s Selection) { r.selector = selector{Selection: s} }

// Stats returns what was read so far, and what could not be.
func (r *Reader) Stats() Stats { return r.stats }

// Lines returns the selected lines, each valid until the next one. What cannot be read
// is skipped and counted in Stats. An error ends the iteration: it means that nothing more
// can be read.
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

// next returns the next selected line, and io.EOF after the last.
func (r *Reader) next() (*Line, error) {
	for {
		if r.lines == nil {
			if err := r.nextFile(); err != nil {
				return nil, err
			}

			continue
		}

		raw, terminated, err := r.lines.next()
		if err != nil {
			r.endFile(err, len(raw) > 0)
			continue
		}

		l, ok := r.parse(raw, terminated)
		if ok && r.selector.selects(&l) {
			return &l, nil
		}
	}
}

// parse returns a parsed line. It counts one that is no line of the contract: as torn if
// it was not terminated, else as damaged.
func (r *Reader) parse(raw []byte, terminated bool) (Line, bool) {
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
	case !terminated:
		r.stats.Torn++
	default:
		r.stats.Damaged++
	}

	if room := maxUnparsed - len(r.unparsed); room > 0 && raw != nil {
		r.unparsed = append(append(r.unparsed, raw[:min(len(raw), room)]...), '\n')
	}

	return Line{}, false
}

var errEmpty = errors.New("read the recording: it is empty")

var errTooLong = fmt.Errorf("longer than %d bytes", MaxLineBytes)

// maxUnparsed bounds the input that is kept to recognize its format.
const maxUnparsed = 4096

// NoEvents returns an error if the input had no line of the contract, together with its
// start, by which the caller may recognize it. A directory whose segments are empty, or whose
// only line was torn by a crash, is a recording still. It is called after the last line.
func (r *Reader) NoEvents() (start []byte, err error) {
	s := r.stats
	switch {
	case s.Lines > 0, s.Damaged+s.CutOff == 0 && r.root != nil:
		return nil, nil
	case s.Damaged+s.CutOff+s.Torn == 0:
		return nil, errEmpty
	case s.Damaged+s.Torn == 0:
		return nil, openError(s.cutOff)
	}

	return r.unparsed, fmt.Errorf("read the recording: none of %d lines is an event", s.Damaged+s.Torn)
}

// nextFile starts the file, or the next segment that can be opened.
func (r *Reader) nextFile() error {
	if file := r.file; file != nil {
		r.file = nil
		r.startFile(file, 0)

		return nil
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

	if file := r.openSegment(s); file != nil {
		r.closer = file
		r.startFile(file, s.seq)
	}

	return nil
}

// openSegment opens a segment. It returns nil for one that cannot be opened, and counts
// it.
func (r *Reader) openSegment(s segment) *os.File {
	r.name = s.name()

	file, err := openRegular(r.root, r.name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) && !s.compressed {
		// It was compressed after the directory had been listed.
		s.compressed = true
		r.name = s.name()
		file, err = openRegular(r.root, r.name, os.O_RDONLY)
	}

	switch {
	case err == nil:
		return file
	case !errors.Is(err, fs.ErrNotExist):
		r.stats.addCutOff(err)
	case r.stats.Segments == 0: // removed after the listing, to stay within the total size
		r.stats.Earlier++
	default:
		r.stats.Missing++
	}

	return nil
}

func (r *Reader) startFile(in io.Reader, seq uint64) {
	if file, ok := in.(*os.File); ok && r.follow != nil && file != os.Stdin {
		in = &tail{r: r, file: file, seq: seq}
	}

	if err := r.start(in); err != nil {
		r.endFile(err, false)
	}
}

// start reads the first bytes to recognize the format. It waits for them if the file is
// followed.
func (r *Reader) start(in io.Reader) error {
	var err error
	r.lines, err = newLineReader(in)
	r.stats.Segments++

	if t, ok := in.(*tail); ok && err == nil && r.lines.zstd != nil {
		t.final = true // nothing is appended to a compressed file
	}

	return err
}

// endFile closes the file, which was read to its end or up to an error.
func (r *Reader) endFile(err error, torn bool) {
	if torn {
		r.stats.Torn++
	}

	if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.stats.addCutOff(fmt.Errorf("%s: %w", r.name, err))
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

// Close closes the files. The input of NewReader stays open.
func (r *Reader) Close() error {
	r.closeFile()

	r.file, r.segments = nil, nil
	if r.root != nil {
		return r.root.Close()
	}

	return nil
}
