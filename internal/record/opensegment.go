// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errTorn means that a line was written in part, and could not be removed again.
var errTorn = errors.New("a line is torn")

// openSegment is the segment that lines are appended to.
type openSegment struct {
	file    *os.File
	name    string
	seq     uint64
	bytes   int64     // of complete lines
	started time.Time // monotonic: the wall clock may be set

	written, synced uint64 // lines

	syncing sync.Mutex
	syncErr error // the first error of sync, which is final; guarded by syncing
}

// startSegment creates an empty segment, whose name is on disk when it returns.
func startSegment(root *os.Root, seq uint64, bootID string) (*openSegment, error) {
	now := time.Now()
	name := stem(seq, now, bootID) + plainSuffix

	// O_EXCL neither follows a symlink nor opens an existing file.
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start a segment: %w", err)
	}

	if err := syncDir(root); err != nil {
		file.Close()
		root.Remove(name)

		return nil, fmt.Errorf("start a segment: %w", err)
	}

	return &openSegment{file: file, name: name, seq: seq, started: now}, nil
}

func syncDir(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()

	return dir.Sync()
}

// write appends lines as a whole, or not at all.
func (s *openSegment) write(lines []byte) error {
	n, err := s.file.Write(lines)
	if err == nil && n < len(lines) {
		err = io.ErrShortWrite
	}

	if err == nil {
		s.bytes += int64(n)
		return nil
	}

	if n > 0 {
		// The size is read from the file: another process may have truncated it.
		info, truncateErr := s.file.Stat()
		if truncateErr == nil {
			truncateErr = s.file.Truncate(info.Size() - int64(n))
		}

		if truncateErr != nil {
			return fmt.Errorf("%w: %w, %w", errTorn, err, truncateErr)
		}
	}

	return err
}

// sync waits until everything written is on disk. It may be called while write runs.
func (s *openSegment) sync() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()

	if s.syncErr != nil {
		return s.syncErr
	}

	raw, err := s.file.SyscallConn()
	if err == nil {
		var synced error
		err = raw.Control(func(fd uintptr) { synced = fdatasync(int(fd)) })
		err = errors.Join(err, synced)
	}

	if err != nil {
		s.syncErr = fmt.Errorf("sync %s: %w", s.name, err)
	}

	return s.syncErr
}

func fdatasync(fd int) error {
	for {
		if err := unix.Fdatasync(fd); err != unix.EINTR {
			return err
		}
	}
}

// expired reports whether the segment has lines and reached its maximum age.
func (s *openSegment) expired(age time.Duration) bool {
	return s.bytes > 0 && time.Since(s.started) >= age
}

// removed reports whether the file was unlinked.
func (s *openSegment) removed() bool {
	info, err := s.file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)

	return ok && stat.Nlink == 0
}
