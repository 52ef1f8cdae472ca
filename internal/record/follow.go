// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"
)

// followInterval is the time between two attempts to read what was appended.
const followInterval = 200 * time.Millisecond

// Follow makes Lines wait at the end for lines that are appended to a directory or to a
// plain file, until ctx is done. Standard input is still read to its end only. Follow is
// called before Lines.
func (r *Reader) Follow(ctx context.Context) { r.follow = ctx }

// tail reads a segment that may grow. Its end is final once a newer segment exists: a
// writer appends to the newest one only.
type tail struct {
	r     *Reader
	file  io.Reader
	seq   uint64
	final bool
}

func (t *tail) Read(p []byte) (int, error) {
	for {
		n, err := t.file.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) || t.final {
			return n, err
		}

		if t.r.root != nil {
			if err := t.r.relist(t.seq); err != nil {
				return 0, err
			}

			// Read once more: lines may have come between the read and the listing.
			if t.final = len(t.r.segments) > 0; t.final {
				continue
			}
		}

		if !t.r.wait() {
			return 0, io.EOF
		}
	}
}

// wait waits until the next attempt, and reports false once following has ended.
func (r *Reader) wait() bool {
	select {
	case <-r.follow.Done():
		return false
	case <-time.After(followInterval):
		return true
	}
}

// relist queues the segments after the one with sequence number seq.
func (r *Reader) relist(seq uint64) error {
	l, err := listStable(r.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	for i, s := range l.segments {
		if s.seq > seq {
			r.segments = l.segments[i:]
			break
		}
	}

	return nil
}
