// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestATraceEndsWhenItsReaderDoes(t *testing.T) {
	pipe := func() (*os.File, *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}

		return r, w
	}
	sockets := func() (*os.File, *os.File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}

		return os.NewFile(uintptr(fds[0]), "reader"), os.NewFile(uintptr(fds[1]), "writer")
	}

	for name, make := range map[string]func() (r, w *os.File){"pipe": pipe, "socket": sockets} {
		reader, stdout := make()

		ctx, cancel := whileRead(t.Context(), stdout)

		time.Sleep(20 * time.Millisecond)

		if ctx.Err() != nil {
			t.Errorf("%s: got the end while it is read, want none", name)
		}

		reader.Close()

		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Errorf("%s: got no end 10 s after the reader closed it, want one", name)
		}

		cancel()
		stdout.Close()
	}
}

func TestFilesAreNotWatched(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	for _, out := range []interface{ Write([]byte) (int, error) }{file, &bytes.Buffer{}} {
		ctx, cancel := whileRead(t.Context(), out)

		time.Sleep(20 * time.Millisecond)

		if ctx.Err() != nil {
			t.Errorf("%T: got the end, want none", out)
		}

		cancel()
	}
}

// timeout(1) signals the child and then its group.
func TestASecondSignalCountsAfterASecond(t *testing.T) {
	for name, test := range map[string]struct {
		after []time.Duration // of the signals after the first
		want  int             // how many of them are read
	}{
		"at once":      {[]time.Duration{time.Millisecond, 2 * time.Second}, 2},
		"a user's own": {[]time.Duration{1500 * time.Millisecond, 2 * time.Second}, 1},
	} {
		signals := make(chan os.Signal, len(test.after))
		for range test.after {
			signals <- os.Interrupt
		}

		start, read := time.Now(), -1

		awaitSecond(signals, func() time.Time {
			if read++; read == 0 {
				return start
			}

			return start.Add(test.after[read-1])
		})

		if read != test.want {
			t.Errorf("%s: got an end at signal %d after the first, want %d", name, read, test.want)
		}
	}
}
