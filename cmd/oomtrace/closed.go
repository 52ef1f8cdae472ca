// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// whileRead returns a context that is canceled once nobody reads out any more: the reader of the
// pipe or socket has closed it. Otherwise a trace would learn that at the next kill. A terminal or a
// file is not watched. The caller calls cancel, which ends the goroutine that waits.
func whileRead(ctx context.Context, out io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)

	file, ok := out.(*os.File)
	if !ok {
		return ctx, cancel
	}

	info, err := file.Stat()
	if err != nil || info.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
		return ctx, cancel
	}

	ended, end, err := os.Pipe() // wakes the goroutine
	if err != nil {
		return ctx, cancel
	}

	context.AfterFunc(ctx, func() { end.Close() })

	go func() {
		defer cancel()
		defer ended.Close()

		// Without events to wait for, poll reports POLLERR and POLLHUP alone.
		fds := []unix.PollFd{{Fd: int32(file.Fd())}, {Fd: int32(ended.Fd())}}

		for {
			if _, err := unix.Poll(fds, -1); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()

	return ctx, cancel
}
