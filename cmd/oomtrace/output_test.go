// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
)

// A format without a case of its own would print text. One that does not sanitize would let
// a process control the terminal by its name.
func TestEveryFormatHasItsOwnOutput(t *testing.T) {
	const name = "j\x1ba\nva"

	inc := &events.Incident{
		ID: "a", Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: events.Process{PID: 10, TID: 10, Comm: name}}},
	}
	formats := map[string]string{}

	for _, format := range outputs {
		var stdout bytes.Buffer

		out := newOutput(&traceFlags{formatFlags: formatFlags{output: format}}, nil, &stdout, io.Discard)
		if err := errors.Join(out.Write(inc), out.close()); err != nil {
			t.Fatal(err)
		}

		if other, ok := formats[stdout.String()]; ok || stdout.Len() == 0 {
			t.Errorf("%s: got %q as of %s, want a format of its own", format, &stdout, other)
		}
		formats[stdout.String()] = format

		for _, raw := range []string{"\x1b", "a\nva"} {
			if strings.Contains(stdout.String(), raw) {
				t.Errorf("%s: got %q with %q of the name %q, want it escaped", format, &stdout, raw, name)
			}
		}
	}
}

func TestEveryFormatShowsTheVictim(t *testing.T) {
	for _, format := range []string{"text", "table", "bcc"} {
		t.Run(format, func(t *testing.T) {
			cmd, lines := running(t, "-o", format)
			pid := oom(t, "oomtrace-test-"+format)

			time.Sleep(300 * time.Millisecond)
			cmd.Process.Signal(os.Interrupt)

			found := false
			for lines.Scan() {
				found = found || strings.Contains(lines.Text(), fmt.Sprint(pid))
			}

			if err := cmd.Wait(); err != nil || !found {
				t.Errorf("got victim shown %v and error %v, want the victim and no error", found, err)
			}
		})
	}
}

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

// What a trace held back is printed also if the trace ends with an error.
func TestAnErrorDoesNotHideAnIncident(t *testing.T) {
	var stdout, stderr bytes.Buffer

	out := newOutput(&traceFlags{}, nil, &stdout, &stderr)
	if err := out.Write(&events.Incident{ID: "b-1", Scope: events.ScopeGlobal, Outcome: events.OutcomeNoKillable}); err != nil {
		t.Fatal(err)
	}

	cause := errors.New("read the ring buffer")
	if err := closing(out, cause); !errors.Is(err, cause) || !strings.Contains(stdout.String(), "no process was killable") {
		t.Errorf("got error %v and %q, want the error, and the incident printed", err, stdout.String())
	}
}
