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

// runCompactor compacts the recording whenever a segment is finished. Every step may be
// interrupted at any point: the next run continues from the files that exist.
func (w *Writer) runCompactor() {
	defer w.tasks.Done()
	lastError := "" // the same error is reported once

	for {
		select {
		case <-w.stop:
			return
		case <-w.wake:
		}

		err := w.compact()
		switch {
		case err == nil:
			lastError = ""
		case errors.Is(err, errStopped):
			return
		case err.Error() != lastError:
			lastError = err.Error()
			w.opts.Warn(fmt.Sprintf("recording: %v: trying again when the next segment is finished", err))
		}
	}
}

var errStopped = errors.New("the writer is closed")

// compact removes the oldest segments beyond the total size, and compresses the finished
// ones.
func (w *Writer) compact() error {
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

	finished, err = w.removeOldest(finished)
	if err != nil {
		return err
	}

	for _, s := range finished {
		if !s.plain {
			continue
		}

		if err := w.replace(s); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("compress %s: %w", s.stem, err)
		}
	}

	return nil
}

// removeOldest removes segments until the others and one full segment fit into the total
// size, and returns those that remain.
func (w *Writer) removeOldest(finished []segment) ([]segment, error) {
	var total int64
	for _, s := range finished {
		total += s.bytes
	}

	var removed int
	var freed int64

	for len(finished) > 0 && total > w.opts.TotalBytes-w.opts.SegmentBytes {
		s := finished[0]
		for _, suffix := range []string{plainSuffix, compressedSuffix} {
			if err := w.root.Remove(s.stem + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("remove the oldest segment: %w", err)
			}
		}

		finished, total = finished[1:], total-s.bytes
		removed, freed = removed+1, freed+s.bytes
	}

	if removed > 0 {
		w.opts.Warn(fmt.Sprintf("recording: removed the oldest segments to stay within %d bytes: %d segments, %d bytes",
			w.opts.TotalBytes, removed, freed))
	}

	return finished, nil
}

// replace replaces a plain segment by its compressed form. The original is removed only
// when the compressed form and its name are on disk.
func (w *Writer) replace(s segment) error {
	if !s.compressed {
		if err := w.compress(s.stem); err != nil {
			w.root.Remove(s.stem + partSuffix)
			return err
		}
	}

	// Also for a compressed form that an earlier writer left: the crash may have come
	// between its rename and the sync of the directory.
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

	// One thread and a small window: the node may be short of memory right now, and this
	// process locks its own.
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

	return w.root.Rename(stem+partSuffix, stem+compressedSuffix)
}

// untilStopped returns a reader of r that fails once the writer is closed.
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
