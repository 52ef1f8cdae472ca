// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"
)

// followEvery is how often is looked for what is new.
const followEvery = 200 * time.Millisecond

// Follow lets Lines wait at the end for what is written next to a directory or to
// a plain file, until ctx is done; the end of the standard input remains its end.
// It is called before the first line.
func (r *Reader) Follow(ctx context.Context) { r.follow = ctx }

// tail reads a segment that may grow. Its end is where it ends when a newer one
// has been seen: then nobody writes to it any more.
type tail struct {
	r        *Reader
	file     io.Reader
	seq      uint64
	finished bool
}

func (t *tail) Read(p []byte) (int, error) {
	for {
		n, err := t.file.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) || t.finished {
			return n, err
		}

		if t.r.root != nil {
			if err := t.r.relist(t.seq); err != nil {
				return 0, err
			}

			if t.finished = len(t.r.segments) > 0; t.finished {
				continue
			}
		}

		if !t.r.wait() {
			return 0, io.EOF
		}
	}
}

// wait tells whether there is still a reason to look for more.
func (r *Reader) wait() bool {
	select {
	case <-r.follow.Done():
		return false
	case <-time.After(followEvery):
		return true
	}
}

// relist looks for segments that came after the one of this number.
func (r *Reader) relist(seq uint64) error {
	l, err := listTwice(r.root)
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
