// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/zstd"
)

// keep looks after finished segments whenever one comes to be. All it does can
// be cut off at any point, and be done again from what the directory holds.
func (w *Writer) keep() {
	defer w.tasks.Done()
	told := "" // the last trouble: not the same twice

	for {
		select {
		case <-w.stop:
			return
		case <-w.wake:
		}

		err := w.tidy()
		switch {
		case err == nil:
			told = ""
		case errors.Is(err, errStopped):
			return
		case err.Error() != told:
			told = err.Error()
			w.opts.Warn(fmt.Sprintf("recording: %v: finished segments stay as they are until the next one", err))
		}
	}
}

var errStopped = errors.New("the writer is closed")

// tidy bounds the total, and compresses what is finished.
func (w *Writer) tidy() error {
	l, err := list(w.root)
	if err != nil {
		return err
	}

	for _, name := range l.parts {
		if err := w.root.Remove(name); err != nil {
			return fmt.Errorf("remove an unfinished compression: %w", err)
		}
	}

	finished := l.segments
	for i, s := range finished {
		if s.seq > w.finished.Load() {
			finished = finished[:i]
			break
		}
	}

	finished, err = w.trim(finished)
	if err != nil {
		return err
	}

	for _, s := range finished {
		if !s.plain {
			continue
		}

		if err := w.pack(s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("compress %s: %w", s.stem, err)
		}
	}

	return nil
}

// trim removes the oldest segments, until the others and one that is full have
// room, and gives what is left.
func (w *Writer) trim(finished []segment) ([]segment, error) {
	var total int64
	for _, s := range finished {
		total += s.bytes
	}
	var removed int
	var freed int64

	for len(finished) > 0 && total > w.opts.TotalBytes-w.opts.SegmentBytes {
		s := finished[0]
		for _, suffix := range []string{plainSuffix, packedSuffix} {
			if err := w.root.Remove(s.stem + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("remove the oldest segment: %w", err)
			}
		}
		finished, total = finished[1:], total-s.bytes
		removed, freed = removed+1, freed+s.bytes
	}

	if removed > 0 {
		w.opts.Warn(fmt.Sprintf("recording: removed the oldest segments: %d, %d bytes, to stay within %d bytes", removed, freed, w.opts.TotalBytes))
	}

	return finished, nil
}

// pack replaces a segment by its compressed form: the original goes only once the
// other is on disk, under its name.
func (w *Writer) pack(s segment) error {
	if !s.packed {
		if err := w.compress(s.stem); err != nil {
			w.root.Remove(s.stem + partSuffix)
			return err
		}
	}
	// After a crash the name may be older than its way to the disk.
	if err := syncDir(w.root); err != nil {
		return err
	}

	return w.root.Remove(s.stem + plainSuffix)
}

func (w *Writer) compress(stem string) error {
	from, err := openRegular(w.root, stem+plainSuffix, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close()

	to, err := w.root.OpenFile(stem+partSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	// One thread and a small window: the node may be short of memory just now, and
	// this process keeps its own locked.
	enc, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(1<<20), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return err
	}

	if _, err = io.CopyBuffer(enc, w.untilStopped(from), make([]byte, 128<<10)); err != nil {
		enc.Close()
		return err
	}

	if err := enc.Close(); err != nil {
		return err
	}

	if err := to.Sync(); err != nil {
		return err
	}

	return w.root.Rename(stem+partSuffix, stem+packedSuffix)
}

// untilStopped reads until the writer is closed.
func (w *Writer) untilStopped(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		select {
		case <-w.stop:
			return 0, errStopped
		default:
			return r.Read(p)
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
