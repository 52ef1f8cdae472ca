// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
)

// settleWithin is how long a report whose first kill was read may get further lines: those
// of the other members of a group. It is not extended by lines, so that a chatty kernel
// delays no report.
const settleWithin = 50 * time.Millisecond

// Follower reads OOM reports from the kernel's buffer while they are written. It is used by
// one goroutine, but for Overwritten and Close.
type Follower struct {
	in          device
	parser      *parser
	next        uint64    // the number of the next record; 0: not known yet
	due         time.Time // when the settled reports are emitted; zero: there are none
	overwritten atomic.Uint64
}

// device is /dev/kmsg: each read returns one record, or waits for the next one.
type device interface {
	Read([]byte) (int, error)
	SetReadDeadline(time.Time) error
	Close() error
}

// Follow opens /dev/kmsg at its end: records that are written from now on wait there until
// Run reads them, or until newer ones overwrite them. It needs root or CAP_SYSLOG if
// kernel.dmesg_restrict is set.
func Follow(opt Options) (*Follower, error) {
	const path = "/dev/kmsg"

	fd, err := openKmsgFD(path)
	if err != nil {
		return nil, err
	}

	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("seek to the end of %s: %w", path, err)
	}

	f := newFollower(os.NewFile(uintptr(fd), path), opt)
	if err := f.in.SetReadDeadline(time.Time{}); err != nil {
		_ = f.in.Close()
		return nil, fmt.Errorf("wait for records of %s: %w", path, err)
	}

	return f, nil
}

func newFollower(in device, opt Options) *Follower {
	return &Follower{in: in, parser: newParser(opt, nil)}
}

// Run passes each report that ends with a kill to emit, about 50 ms after it was written.
// It returns when ctx is done or the Follower is closed, without an error, or when
// reading fails.
func (f *Follower) Run(ctx context.Context, emit func(*events.Incident)) error {
	defer context.AfterFunc(ctx, func() { _ = f.in.Close() })()

	f.parser.emit = func(inc *events.Incident) error {
		emit(inc)
		return nil
	}

	// A record has at most 8 KiB (include/linux/printk.h: CONSOLE_EXT_LOG_MAX, 5.10 and 6.1;
	// kernel/printk/internal.h has 2 KiB in 6.12).
	buf := make([]byte, 16<<10)

	for {
		_ = f.in.SetReadDeadline(f.due) // it fails if the device is closed, as the read then does

		n, err := f.in.Read(buf)
		switch {
		case err == nil:
			if err := f.record(buf[:n]); err != nil {
				return err
			}
		case errors.Is(err, fs.ErrClosed):
			return nil
		// EPIPE: records were overwritten before they were read, and the next read returns
		// the oldest that is left (kernel/printk/printk.c: devkmsg_read).
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
		default:
			return fmt.Errorf("follow the kernel's log: %w", err)
		}

		if err := f.settle(time.Now()); err != nil {
			return err
		}
	}
}

// record takes in "prio,seq,microseconds,flags;text", and leaves out the lines of its
// dictionary (Documentation/ABI/testing/dev-kmsg).
func (f *Follower) record(text []byte) error {
	line, _, _ := bytes.Cut(text, []byte("\n"))

	_, rest, _ := bytes.Cut(line, []byte(","))

	digits, _, _ := bytes.Cut(rest, []byte(","))
	if seq, err := strconv.ParseUint(string(digits), 10, 64); err == nil {
		if f.next != 0 && seq > f.next {
			f.overwritten.Add(seq - f.next)
		}

		f.next = seq + 1
	}

	return f.parser.line(line, false)
}

// settle emits the reports that have had their time.
func (f *Follower) settle(now time.Time) error {
	switch {
	case !f.parser.hasSettled():
		f.due = time.Time{}
	case f.due.IsZero():
		f.due = now.Add(settleWithin)
	case !now.Before(f.due):
		f.due = time.Time{}

		clear(f.parser.builder.ids) // they distinguish the incidents of a whole log

		return f.parser.closeReports((*report).settled)
	}

	return nil
}

// Overwritten returns how many records were overwritten before they were read. It is safe
// for concurrent use.
func (f *Follower) Overwritten() uint64 { return f.overwritten.Load() }

// Close ends Run. It is safe for concurrent use.
func (f *Follower) Close() error {
	if err := f.in.Close(); !errors.Is(err, fs.ErrClosed) {
		return err
	}

	return nil
}

// hasSettled reports whether a report needs nothing but further kills, or is closed.
func (p *parser) hasSettled() bool {
	if len(p.done) > 0 {
		return true
	}

	for _, s := range p.streams {
		if s.open != nil && s.open.settled() {
			return true
		}
	}

	return false
}
