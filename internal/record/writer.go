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

const (
	// syncInterval is how long a line other than an incident may wait to be synced.
	syncInterval = time.Second
	// warnInterval limits repeated warnings about a disk that keeps filling up.
	warnInterval = time.Minute
)

// Options configure a Writer. Zero values mean the defaults.
type Options struct {
	// SegmentBytes and SegmentAge are the size and the age at which a segment is
	// finished.
	SegmentBytes int64
	SegmentAge   time.Duration
	// TotalBytes bounds the size of all segments; the oldest are removed. It is at least
	// twice SegmentBytes. While a segment is being compressed, the part that is done takes
	// space in addition.
	TotalBytes int64
	// BootID is part of the names of segments, and with Node of the lines that the
	// writer adds.
	BootID, Node string
	// Warn takes warnings for users, from several goroutines; nil drops them.
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
		return fmt.Errorf("a total size of %d bytes has no room for two segments of %d bytes", o.TotalBytes, o.SegmentBytes)
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
	open     *openSegment // nil: the next line starts one
	seq      uint64       // of the newest segment
	closed   bool
	missing  uint64 // lines that were not recorded since the last lost line
	inOutage bool
	warned   time.Time // of the last outage

	finished atomic.Uint64 // sequence number up to which segments are not written to any more
	wake     chan struct{} // wakes the compactor
	stop     chan struct{}
	tasks    sync.WaitGroup
}

// Create opens a recording for writing. It creates the directory (mode 0700) and the parents
// that are missing (0755), locks it for this process and continues a recording that it holds.
// ErrLocked means that another process records into the directory.
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
	if err := w.resume(); err != nil {
		if w.lock != nil {
			w.lock.Close()
		}

		root.Close()

		return nil, err
	}

	w.tasks.Add(2)
	go w.runCompactor()
	go w.runSync()

	w.wake <- struct{}{} // compact what an earlier writer left

	return w, nil
}

// makeDir creates the directory and its parents, which others may read.
func makeDir(dir string) error {
	err := os.MkdirAll(filepath.Dir(filepath.Clean(dir)), 0o755)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}

	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil // os.OpenRoot fails if it is not a directory
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("create the directory of the recording: %w: run as root", err)
	}

	return fmt.Errorf("create the directory of the recording: %w", err)
}

// resume locks the directory and finds the number of its newest segment.
func (w *Writer) resume() error {
	var err error
	if w.lock, err = lock(w.root); err != nil {
		return err
	}

	if parent, err := os.Open(filepath.Dir(filepath.Clean(w.root.Name()))); err == nil {
		parent.Sync() // best effort: a directory that existed before is on disk already
		parent.Close()
	}

	l, err := list(w.root)
	if err != nil {
		return err
	}

	for _, name := range l.refused {
		w.opts.Warn(fmt.Sprintf("recording: %s/%s is not a regular file: ignoring it", w.root.Name(), name))
	}

	if n := len(l.segments); n > 0 {
		w.seq = l.segments[n-1].seq
	}

	w.finished.Store(w.seq)

	return nil
}

// Append records a line, which includes its newline. If durable, the line and all before
// it are on disk when Append returns. Append does not fail: lines that cannot be recorded
// are counted, reported by Options.Warn, and noted in the recording by a line of kind
// "lost" once it can be written to again.
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

// write appends a number of lines to the segment, preceded by a lost line if lines are
// missing.
func (w *Writer) write(line []byte, lines uint64) error {
	if s := w.open; s != nil && (s.bytes > 0 && s.bytes+int64(len(line)) > w.opts.SegmentBytes ||
		s.expired(w.opts.SegmentAge)) {
		w.rotate()
	}

	missing := w.missing
	if missing > 0 {
		lost, err := w.lostLine(missing)
		if err != nil {
			return err
		}

		line = append(lost, line...)
	}

	if w.open == nil {
		if err := w.newSegment(); err != nil {
			return err
		}
	}

	if err := w.open.write(line); err != nil {
		if errors.Is(err, errTorn) {
			w.finishSegment()
		}

		return err
	}

	// Missing lines count as written with their lost line: if that is not synced, they
	// are missing again.
	w.open.written += lines + missing
	w.missing = 0

	if w.inOutage {
		w.inOutage = false
		w.opts.Warn(fmt.Sprintf("recording: resumed; lines dropped: %d, as noted in the recording", missing))
	}

	return nil
}

// lostLine returns the line that counts lines which were not recorded.
func (w *Writer) lostLine(missing uint64) ([]byte, error) {
	return events.Marshal(&events.Lost{
		Envelope: events.Envelope{
			V: events.Version, Kind: events.KindLost, Time: time.Now(), BootID: w.opts.BootID, Node: w.opts.Node,
		},
		What: events.LostRecording, Count: missing,
	})
}

// sync waits until the segment is on disk. A segment whose sync failed is finished: the
// kernel reports an error of writing back once only, and drops the data (fsync(2)).
func (w *Writer) sync() {
	s := w.open
	if s == nil || s.written == s.synced {
		return
	}

	if err := s.sync(); err != nil {
		w.failed(err, s.written-s.synced)
		w.finishSegment()

		return
	}

	s.synced = s.written
}

// rotate starts a segment and finishes the one before it, which goes on if none can be
// started.
func (w *Writer) rotate() {
	w.sync()

	old := w.open
	if old == nil || w.newSegment() != nil {
		return
	}

	old.file.Close()
	w.wakeCompactor(old)
}

// finishSegment closes the segment; the next line starts another one.
func (w *Writer) finishSegment() {
	if s := w.open; s != nil {
		w.open = nil

		s.file.Close()
		w.wakeCompactor(s)
	}
}

// wakeCompactor has the segments up to s compacted.
func (w *Writer) wakeCompactor(s *openSegment) {
	w.finished.Store(s.seq)

	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// newSegment starts a segment.
func (w *Writer) newSegment() error {
	s, err := startSegment(w.root, w.seq+1, w.opts.BootID)
	if err != nil {
		return err
	}
	w.open, w.seq = s, w.seq+1

	return nil
}

// failed counts lines that are not recorded, and warns once per outage.
func (w *Writer) failed(err error, lines uint64) {
	w.missing += lines
	if !w.inOutage && time.Since(w.warned) > warnInterval {
		w.inOutage = true
		w.warned = time.Now()
		w.opts.Warn(fmt.Sprintf(
			"recording: %v: the trace continues, and its lines are dropped until this is fixed: free space in %s", err, w.root.Name()))
	}
}

// runSync syncs lines that no incident syncs, and finishes segments by their age.
func (w *Writer) runSync() {
	defer w.tasks.Done()

	ticker := time.NewTicker(syncInterval)
	defer ticker.Stop()

	for {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
			w.syncNow()
		}
	}
}

// syncNow syncs without holding the mutex: a slow disk must not block Append.
func (w *Writer) syncNow() {
	w.mu.Lock()
	if w.missing > 0 {
		_ = w.write(nil, 0) // the disk may have room again
	}

	s := w.open
	if s == nil {
		w.mu.Unlock()
		return
	}
	written, synced := s.written, s.synced
	w.mu.Unlock()

	var err error
	if written > synced {
		err = s.sync()
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	if s != w.open {
		return
	}

	switch {
	case err != nil:
		w.failed(err, s.written-s.synced)
		w.finishSegment()
	case s.removed(): // by another process: what is written to it cannot be read
		w.opts.Warn("recording: another process removed the segment " + s.name + ": starting a new one")
		w.finishSegment()
	default:
		s.synced = max(s.synced, written)
		if s.expired(w.opts.SegmentAge) {
			w.sync()
			w.finishSegment()
		}
	}
}

// Close syncs everything and unlocks the directory. It interrupts a compression, which
// the next writer repeats. The error is the number of lines that were not recorded and
// are not counted in the recording either.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}

	if w.missing > 0 {
		_ = w.write(nil, 0) // the last chance to count them in the recording
	}

	w.sync()
	missing := w.missing
	w.finishSegment()
	w.closed = true
	w.mu.Unlock()

	close(w.stop)
	w.tasks.Wait()
	w.lock.Close()
	w.root.Close()

	if missing > 0 {
		return fmt.Errorf("recording: %d lines were dropped, and %s has no room to note how many",
			missing, w.root.Name())
	}

	return nil
}
