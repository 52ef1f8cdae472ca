// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// FuzzText: no name, path or note makes a line longer than the width, adds a line, or puts
// an unprintable rune on the terminal.
func FuzzText(f *testing.F) {
	f.Add("java", "/a/b", "a note", uint8(80))
	f.Add("\x1b日本", "/日本語/"+strings.Repeat("x/", 99), strings.Repeat("日", 99), uint8(1))
	f.Fuzz(func(t *testing.T, comm, path, note string, columns uint8) {
		inc := container()
		inc.Victims[0].Comm, inc.Limiter.Cgroup.Path, inc.Notes = comm, path, []string{note}
		inc.Allocation.GFPFlags = []string{note}

		var out bytes.Buffer
		if err := NewText(&out, TextOptions{Width: int(columns) + 1, Location: time.UTC}).Write(inc); err != nil {
			t.Fatal(err)
		}
		limit := max(int(columns)+1, minWidth)

		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if phrase.Width(line) > limit {
				t.Errorf("got a line of %d columns, want at most %d: %q", phrase.Width(line), limit, line)
			}

			for _, r := range line {
				if !events.Printable(r) {
					t.Errorf("got unprintable %U in %q", r, line)
				}
			}
		}
	})
}

func TestOrder(t *testing.T) {
	for want, o := range map[string]*int{
		"order ?": nil, "order -1 (sysrq)": new(-1), "order 0": new(0), "order 9 (512 pages)": new(9), "order 99": new(99),
	} {
		if got := order(o); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// brokenWriter accepts some bytes, then fails.
type brokenWriter struct {
	room int
	err  error
	got  bytes.Buffer
	n    int
}

func (w *brokenWriter) Write(p []byte) (int, error) {
	w.n++
	if len(p) <= w.room {
		w.room -= len(p)
		return w.got.Write(p)
	}
	n, _ := w.got.Write(p[:w.room])
	w.room = 0

	return n, w.err
}

func TestWriteErrors(t *testing.T) {
	for _, cause := range []error{syscall.EPIPE, syscall.ENOSPC, nil} {
		want := cause
		if cause == nil { // a writer that violates the contract of io.Writer
			want = io.ErrShortWrite
		}

		for _, f := range formats() {
			t.Run(fmt.Sprintf("%s/%v", f.name, want), func(t *testing.T) {
				w := &brokenWriter{room: 30, err: cause}

				s := f.make(w)
				if err := s.Write(container()); !errors.Is(err, want) {
					t.Fatalf("got error %v, want %v", err, want)
				}
				torn, writes := w.got.String(), w.n
				w.room = 1 << 20

				calls := []error{
					s.Write(headline(container())), s.Write(container()), s.Write(&events.Update{Change: update("1", 0)}),
					s.Write(&events.Lost{}), s.Write(&events.Status{}),
				}
				for i, err := range calls {
					if !errors.Is(err, want) {
						t.Errorf("call %d after the error: got %v, want %v", i, err, want)
					}
				}

				if w.got.String() != torn || w.n != writes {
					t.Errorf("got %q written after an error, want nothing", w.got.String()[len(torn):])
				}
			})
		}
	}
}

// TestEachLineIsOneWrite: a reader at the other end of a pipe sees whole lines, at once.
func TestEachLineIsOneWrite(t *testing.T) {
	for _, f := range formats() {
		w := &brokenWriter{room: 1 << 20}

		s := f.make(w)
		if err := s.Write(&events.Status{Phase: "start"}); err != nil {
			t.Fatal(err)
		}
		before := w.n
		inc := container()
		inc.Time = time.Now() // so that no line with the date comes before

		if err := s.Write(inc); err != nil {
			t.Fatal(err)
		}

		if w.n != before+1 {
			t.Errorf("%s: got %d writes for an incident with one victim, want 1", f.name, w.n-before)
		}
	}
}

func TestTableKeepsToItsWidth(t *testing.T) {
	inc := container()
	inc.Limiter.Level, inc.Limiter.LimitBytes = events.LevelContainer, new(uint64(1000<<20))
	inc.Causes = []events.Cause{{
		ID: "ancestor_limit", Brief: "container app has a higher limit, which never applies", Confidence: events.ConfidenceCertain,
	}}

	for _, opts := range []TableOptions{{Width: 60}, {Width: 71, Dates: true}, {Width: 80}, {Width: 80, Dates: true}, {Width: 120}} {
		var out bytes.Buffer

		table := NewTable(&out, opts)
		if err := errors.Join(table.Write(inc), table.Close()); err != nil {
			t.Fatal(err)
		}

		for line := range strings.Lines(out.String()) {
			if got := phrase.Width(strings.TrimSpace(line)); got > opts.Width {
				t.Errorf("%+v: got a line of %d columns, want at most %d: %s", opts, got, opts.Width, line)
			}
		}

		for _, want := range []string{"1000.0M", "ancesto"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v: got no %q, want it:\n%s", opts, want, out.String())
			}
		}
	}
}

func TestEmptyTableHasAHeader(t *testing.T) {
	var out bytes.Buffer
	if err := NewTable(&out, TableOptions{}).Close(); err != nil {
		t.Fatal(err)
	}

	if !strings.HasPrefix(out.String(), "ID ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("got %q, want the header alone", out.String())
	}
}

func TestColourTakesNoColumns(t *testing.T) {
	plain, coloured := &bytes.Buffer{}, &bytes.Buffer{}
	for out, color := range map[*bytes.Buffer]bool{plain: false, coloured: true} {
		if err := containerScript()(NewText(out, TextOptions{Width: 80, Color: color, Location: time.UTC})); err != nil {
			t.Fatal(err)
		}
	}

	if !strings.Contains(coloured.String(), "\x1b[1;31mOOM KILL\x1b[0m") {
		t.Errorf("got no colour in %q", coloured)
	}

	stripped := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(coloured.String(), "")
	if stripped != plain.String() {
		t.Errorf("got another layout with colour:\n%s\nwant\n%s", stripped, plain)
	}
}

func TestUpdateOfAnUnknownIncidentNamesIt(t *testing.T) {
	var out bytes.Buffer

	late := update("3", time.Second)
	late.Victims = []events.Victim{{Process: events.Process{PID: 4711, TID: 4711, Comm: "java"}, ExitAfterNS: new(uint64(1e9))}}

	if err := NewText(&out, TextOptions{Width: 80, Location: time.UTC}).Write(&events.Update{Change: late}); err != nil {
		t.Fatal(err)
	}

	want := "2026-08-20\n14:03:08 UPDATE  to incident 3\n  exit       exited after 1.0 s\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestUpdateWithoutNewsIsSilent(t *testing.T) {
	inc := container()
	same := update(inc.ID, time.Second)
	same.Limiter, same.Victims = inc.Limiter, inc.Victims

	var alone, out bytes.Buffer
	if err := feed(inc)(NewText(&alone, TextOptions{Width: 80})); err != nil {
		t.Fatal(err)
	}

	if err := feed(inc, same)(NewText(&out, TextOptions{Width: 80})); err != nil {
		t.Fatal(err)
	}

	if out.String() != alone.String() {
		t.Errorf("got %q, want nothing after the incident", strings.TrimPrefix(out.String(), alone.String()))
	}
}

// TestIncidentOfAKernelLog: it has paths of cgroups, but neither ids nor hierarchies.
func TestIncidentOfAKernelLog(t *testing.T) {
	for _, test := range []struct{ which, swap, other string }{
		{"memory.max", "swap 40.0 MiB/max", "memory+swap"},
		{"memory.limit_in_bytes", "memory+swap 40.0 MiB/max", " swap "},
	} {
		inc := &events.Incident{
			Envelope: events.Envelope{Kind: events.KindIncident}, ID: "log-1", Scope: events.ScopeMemcg,
			Outcome: events.OutcomeKilled, Tier: events.TierKernelLog,
			Limiter: &events.Limiter{
				Level: events.LevelCgroup, Which: test.which, LimitBytes: new(uint64(40 << 20)), UsageBytes: new(uint64(40 << 20)),
				SwapUsageBytes: new(uint64(40 << 20)), Cgroup: &events.Cgroup{Path: "/b"},
			},
			Ladder: []events.Rung{
				{Cgroup: events.Cgroup{Path: "/b/leaf"}, Level: events.LevelCgroup, Below: true},
				{Cgroup: events.Cgroup{Path: "/b"}, Level: events.LevelCgroup, MaxBytes: new(uint64(40 << 20))},
			},
			Victims: []events.Victim{{
				Process: events.Process{PID: 267, Comm: "hog", Cgroup: &events.Cgroup{Path: "/b/leaf"}},
				Role:    events.RoleChosen,
			}},
		}

		var out bytes.Buffer
		if err := NewText(&out, TextOptions{Location: time.UTC, Width: 80, Full: true}).Write(inc); err != nil {
			t.Fatal(err)
		}

		text := out.String()
		if strings.Count(text, "<-") != 1 || !strings.Contains(text, "in /b/leaf") ||
			!strings.Contains(text, test.swap) || strings.Contains(text, test.other) {
			t.Errorf("%s: want one \"<-\", \"in /b/leaf\" and %q, got\n%s", test.which, test.swap, text)
		}
	}
}
