// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A new terminal reports 0 columns until something sets its size, as those of some serial
// consoles and containers always do.
func TestWidthOfATerminal(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()

	for columns, want := range map[uint16]int{0: 80, 135: 135} {
		size := unix.Winsize{Row: 24, Col: columns}
		if err := unix.IoctlSetWinsize(int(pty.Fd()), unix.TIOCSWINSZ, &size); err != nil {
			t.Fatal(err)
		}

		if got, _ := terminal(pty); got != want {
			t.Errorf("got width %d of a terminal that reports %d columns, want %d", got, columns, want)
		}
	}

	if got, color := terminal(&bytes.Buffer{}); got != 80 || color {
		t.Errorf("got width %d, color %v of a buffer, want width 80 without color", got, color)
	}
}
