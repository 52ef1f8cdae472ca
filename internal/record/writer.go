// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Defaults of [Options].
const (
	DefaultSegmentBytes = 16 << 20
	DefaultSegmentAge   = 24 * time.Hour
	DefaultTotalBytes   = 1 << 30
)

// LostRecording is the "what" of the line that tells of lines which could not be
// recorded.
const LostRecording = "recording"

const (
	// syncEvery is how long a line that is no incident may wait for the disk.
	syncEvery = time.Second
	// sayEvery bounds how often a disk that is now full, now not is told of.
	sayEvery = time.Minute
)

// Options say how to record. Zero values mean the defaults.
type Options struct {
	// SegmentBytes is the size at which a segment is finished, SegmentAge the age.
	SegmentBytes int64
	SegmentAge   time.Duration
	// TotalBytes bounds all segments together; the oldest are removed. It is at
	// least twice SegmentBytes. While a segment is being compressed, what is done of
	// it comes on top.
	TotalBytes int64
	// BootID names segments, and with Node the lines of the recording's own.
	BootID, Node string
	// Warn takes remarks for people, from several goroutines; nil drops them.
	Warn func(text string)
}

func (o *Options) complete() error {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}

	if o.SegmentAge == 0 {
		o.SegmentAge = DefaultSegmentAge
	}

	if o.TotalBytes == 0 {
		o.TotalBytes = max(DefaultTotalBytes, 2*o.SegmentBytes)
	}

	if o.Warn == nil {
		o.Warn = func(string) {}
	}

	if o.SegmentBytes < 0 || o.SegmentAge < 0 || o.TotalBytes/2 < o.SegmentBytes {
		return fmt.Errorf("segments of %d bytes in %d bytes: the total must have room for two", o.SegmentBytes, o.TotalBytes)
	}

	return nil
}

// Writer appends lines to a recording. Its methods may be called from several
// goroutines.
type Writer struct {
	opts Options
	root *os.Root
	lock *os.File

	mu       sync.Mutex
	open     *openSegment // nil: the next line begins one
	seq      uint64       // of the newest segment
	closed   bool
	missing  uint64 // lines that were not recorded since the last line that says so
	inOutage bool
	said     time.Time // when an outage was last told

	finished atomic.Uint64 // segments up to this number are not written to any more
	wake     chan struct{} // for the keeper
	stop     chan struct{}
	tasks    sync.WaitGroup
}

// Create makes the directory (0700), but not its parents, if it is not there, takes
// it for this process and goes on with what is recorded there. A directory that has
// a writer gives ErrLocked.
func Create(dir string, opts Options) (*Writer, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}

	if err := makeDir(dir); err != nil {
		return nil, err
	}

	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory of the recording: %w", err)
	}

	w := &Writer{opts: opts, root: root, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	if err := w.begin(); err != nil {
		if w.lock != nil {
			w.lock.Close()
		}

		root.Close()

		return nil, err
	}

	w.tasks.Add(2)
	go w.keep()
	go w.tick()

	w.wake <- struct{}{} // for what an earlier writer left

	return w, nil
}

// makeDir makes the last element alone: parents that are missing may be a disk that
// is not mounted, or a slip of the keyboard.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil // that it is a directory, opening it tells
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("make the directory of the recording: %w: make its parent first: mkdir -p %s", err, filepath.Dir(filepath.Clean(dir)))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("make the directory of the recording: %w: run as root", err)
	}

	return fmt.Errorf("make the directory of the recording: %w", err)
}

func (w *Writer) begin() error {
	var err error
	if w.lock, err = lock(w.root); err != nil {
		return err
	}

	if parent, err := os.Open(filepath.Dir(filepath.Clean(w.root.Name()))); err == nil {
		parent.Sync() // best effort: the directory may be an old one, on another's disk
		parent.Close()
	}

	l, err := list(w.root)
	if err != nil {
		return err
	}

	for _, name := range l.refused {
		w.opts.Warn(fmt.Sprintf("recording: %s/%s is no regular file and is left alone", w.root.Name(), name))
	}

	if n := len(l.segments); n > 0 {
		w.seq = l.segments[n-1].seq
	}

	w.finished.Store(w.seq)

	return nil
}

// Append records a line, with its newline; with durable it returns only once it,
// and all before it, are on disk. It does not fail: what cannot be recorded is
// counted, told by Options.Warn, and said by a line of kind "lost" as soon as
// there is room again.
func (w *Writer) Append(line []byte, durable bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.closed {
		w.failed(os.ErrClosed, 1)
		return
	}

	if err := w.write(line, 1); err != nil {
		w.failed(err, 1)
		return
	}

	if durable {
		w.sync()
	}
}

// write puts lines into the segment, after the one that tells what is missing.
func (w *Writer) write(line []byte, lines uint64) error {
	if s := w.open; s != nil && (s.bytes > 0 && s.bytes+int64(len(line)) > w.opts.SegmentBytes || s.stale(w.opts.SegmentAge)) {
		w.rotate()
	}

	missing := w.missing
	if missing > 0 {
		told, err := w.told(missing)
		if err != nil {
			return err
		}

		line = append(told, line...)
	}

	if w.open == nil {
		if err := w.next(); err != nil {
			return err
		}
	}

	if err := w.open.write(line); err != nil {
		if errors.Is(err, errTorn) {
			w.retire()
		}

		return err
	}
	// If they do not come to disk, those that this line told of are missing again.
	w.open.written += lines + missing

	w.missing = 0
	if w.inOutage {
		w.inOutage = false
		w.opts.Warn(fmt.Sprintf("recording: goes on; lines that are missing: %d (the recording says so)", missing))
	}

	return nil
}

// told is the line that tells of lines that were not recorded.
func (w *Writer) told(missing uint64) ([]byte, error) {
	return events.Marshal(&events.Lost{
		Envelope: events.Envelope{
			V: events.Version, Kind: events.KindLost, Time: time.Now(), BootID: w.opts.BootID, Node: w.opts.Node,
		},
		What: LostRecording, Count: missing,
	})
}

// sync waits for the disk. A segment that the disk refused once is not trusted
// any more: the kernel reports an error of writing back a single time, and drops
// the data (fsync(2)).
func (w *Writer) sync() {
	s := w.open
	if s == nil || s.written == s.synced {
		return
	}

	if err := s.sync(); err != nil {
		w.failed(err, s.written-s.synced)
		w.retire()

		return
	}
	s.synced = s.written
}

// rotate begins a segment and finishes the one before it. If none can be begun,
// the old one goes on.
func (w *Writer) rotate() {
	w.sync()

	old := w.open
	if old == nil || w.next() != nil {
		return
	}

	old.file.Close()
	w.retired(old)
}

// retire closes the segment; the next line begins another one.
func (w *Writer) retire() {
	if s := w.open; s != nil {
		w.open = nil

		s.file.Close()
		w.retired(s)
	}
}

func (w *Writer) retired(s *openSegment) {
	w.finished.Store(s.seq)

	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// next begins a segment.
func (w *Writer) next() error {
	s, err := beginSegment(w.root, w.seq+1, w.opts.BootID)
	if err != nil {
		return err
	}
	w.open, w.seq = s, w.seq+1

	return nil
}

// failed counts lines that are not recorded, and says so once.
func (w *Writer) failed(err error, lines uint64) {
	w.missing += lines
	if !w.inOutage && time.Since(w.said) > sayEvery {
		w.inOutage = true
		w.said = time.Now()
		w.opts.Warn(fmt.Sprintf("recording: %v: the trace goes on, lines are not recorded until this is over; make room in %s", err, w.root.Name()))
	}
}

// tick brings to disk what no incident does, and finishes a segment by its age.
func (w *Writer) tick() {
	defer w.tasks.Done()

	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()

	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}

		w.mu.Lock()
		if w.missing > 0 {
			_ = w.write(nil, 0) // there may be room again
		}

		s := w.open
		if s == nil {
			w.mu.Unlock()
			continue
		}
		written, synced := s.written, s.synced
		w.mu.Unlock()
		// Without the mutex: a slow disk must not keep a line from being written.
		var err error
		if written > synced {
			err = s.sync()
		}

		w.mu.Lock()
		if s == w.open {
			switch {
			case err != nil:
				w.failed(err, s.written-s.synced)
				w.retire()
			case s.removed(): // by somebody else: what is written there, nobody finds
				w.opts.Warn("recording: somebody removed the segment " + s.name + "; another one is begun")
				w.retire()
			default:
				s.synced = max(s.synced, written)
				if s.stale(w.opts.SegmentAge) {
					w.sync()
					w.retire()
				}
			}
		}
		w.mu.Unlock()
	}
}

// Close brings everything to disk and gives the directory back. A compression
// under way is given up, for the next writer to do. It tells how many lines could
// not be recorded.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}

	if w.missing > 0 {
		// The line that says so is the last chance to.
		_ = w.write(nil, 0)
	}

	w.sync()
	missing := w.missing
	w.retire()
	w.closed = true
	w.mu.Unlock()
	close(w.stop)
	w.tasks.Wait()
	w.lock.Close()
	w.root.Close()

	if missing > 0 {
		return fmt.Errorf("recording: %d lines were not recorded, and %s had no room to say so there", missing, w.root.Name())
	}

	return nil
}
