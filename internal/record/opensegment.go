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

// errTorn: a line was written in part, and could not be taken back.
var errTorn = errors.New("a line is torn")

// openSegment is the segment that is written to.
type openSegment struct {
	file  *os.File
	name  string
	seq   uint64
	bytes int64     // whole lines in it
	begun time.Time // monotonic: the wall clock may be set

	written, synced uint64 // lines

	syncing sync.Mutex
	refused error // the disk's, once and for ever; under syncing
}

// beginSegment makes an empty segment whose name is on disk when it returns.
func beginSegment(root *os.Root, seq uint64, bootID string) (*openSegment, error) {
	now := time.Now()
	name := stem(seq, now, bootID) + plainSuffix
	// O_EXCL neither follows a symlink nor takes a file that is there.
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin a segment: %w", err)
	}

	if err := syncDir(root); err != nil {
		file.Close()
		root.Remove(name)

		return nil, fmt.Errorf("begin a segment: %w", err)
	}

	return &openSegment{file: file, name: name, seq: seq, begun: now}, nil
}

func syncDir(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()

	return dir.Sync()
}

// write appends a line as a whole, or not at all.
func (s *openSegment) write(line []byte) error {
	n, err := s.file.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}

	if err == nil {
		s.bytes += int64(n)
		return nil
	}

	if n > 0 {
		// Its end is asked for: somebody may have emptied the file.
		info, cut := s.file.Stat()
		if cut == nil {
			cut = s.file.Truncate(info.Size() - int64(n))
		}

		if cut != nil {
			return fmt.Errorf("%w: %w, %w", errTorn, err, cut)
		}
	}

	return err
}

// sync waits until all that was written is on disk.
func (s *openSegment) sync() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()

	if s.refused != nil {
		return s.refused
	}

	raw, err := s.file.SyscallConn()
	if err == nil {
		var synced error
		err = raw.Control(func(fd uintptr) { synced = fdatasync(int(fd)) })
		err = errors.Join(err, synced)
	}

	if err != nil {
		s.refused = fmt.Errorf("bring %s to disk: %w", s.name, err)
	}

	return s.refused
}

func fdatasync(fd int) error {
	for {
		if err := unix.Fdatasync(fd); err != unix.EINTR {
			return err
		}
	}
}

func (s *openSegment) stale(age time.Duration) bool { return s.bytes > 0 && time.Since(s.begun) >= age }

// removed tells whether the file has no name any more.
func (s *openSegment) removed() bool {
	info, err := s.file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)

	return ok && stat.Nlink == 0
}
