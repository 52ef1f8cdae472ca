// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestSanitize(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"tmux: server", "tmux: server"},
		{`dev-disk\x2duuid.swap`, `dev-disk\x2duuid.swap`},
		{"a\x1b[31m\n\t\x00\x7f", `a\x1b[31m\x0a\x09\x00\x7f`},
		{"\u0085\u009b", `\u0085\u009b`},
		{"\xff\xc3", `\xff\xc3`},
		{"\u202egpj", `\u202egpj`},
		{"a\u200bb\u00adc\ufeff", `a\u200bb\u00adc\ufeff`},
		{"e\u0301", `e\u0301`},
		{"a\u00a0b\u3000\u3164", `a\u00a0b\u3000\u3164`},
		{"\U000e0041", `\U000e0041`},
		{"\ufffd", "\ufffd"},
		{"Größe 日本 …·µ", "Größe 日本 …·µ"},
	}
	for _, tt := range tests {
		if got := Sanitize(tt.in); got != tt.want {
			t.Errorf("Sanitize(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("\x1b[2J\xff\u202e日本")
	f.Fuzz(func(t *testing.T, s string) {
		safe := Sanitize(s)
		if !utf8.ValidString(safe) {
			t.Errorf("not UTF-8: %q", safe)
		}

		for _, r := range safe {
			if !events.Printable(r) {
				t.Errorf("raw %U in %q", r, safe)
			}
		}

		if again := Sanitize(safe); again != safe {
			t.Errorf("not stable: %q, then %q", safe, again)
		}
	})
}

// FuzzText: nothing that a name holds makes a line longer than the width, or a
// line more.
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
			if width(line) > limit {
				t.Errorf("%d columns of %d: %q", width(line), limit, line)
			}

			for _, r := range line {
				if !events.Printable(r) {
					t.Errorf("raw %U in %q", r, line)
				}
			}
		}
	})
}

func TestFormat(t *testing.T) {
	tests := []struct{ got, want string }{
		{size(0), "0 B"},
		{size(1023), "1023 B"},
		{size(1024), "1.0 KiB"},
		{size(512 * mib), "512.0 MiB"},
		{size(gib - 1), "1.0 GiB"},
		{size(1<<64 - 1), "16.0 EiB"},
		{maybe(nil), "?"},
		{shortSize(ptr(uint64(1023 * mib))), "1023.0Mi"},
		{ratio(ptr(512*mib), ptr(600*mib), "max"), "512.0/600.0 MiB"},
		{ratio(ptr(3*gib), nil, "max"), "3.0 GiB/max"},
		{ratio(nil, ptr(gib), "max"), "?/1.0 GiB"},
		{ratio(ptr(100*mib), ptr(2*gib), "max"), "100.0 MiB/2.0 GiB"},
		{duration(350_000), "350 µs"},
		{duration(2_040_000), "2.0 ms"},
		{duration(31_200_000), "31 ms"},
		{duration(1_250_000_000), "1.2 s"},
		{duration(150_000_000_000), "2 min 30 s"},
		{ranges([]int{5, 0, 1, 3, 4, 1}), "0-1,3-5"},
		{ranges(nil), ""},
		{order(nil), "order ?"},
		{order(ptr(-1)), "order -1 (sysrq)"},
		{order(ptr(9)), "order 9 (512 pages)"},
		{shortPath(appPath, 67), "/kubepods.slice/…/cri-containerd-3f2a91c0….scope"},
		{shortPath(appPath, 20), "…erd-3f2a91c0….scope"},
		{shortPath("/a", 67), "/a"},
		{task("", 0), "?[?]"},
		{task("x] y", 1), `"x] y"[1]`},
	}
	for i, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%d: %q, want %q", i, tt.got, tt.want)
		}
	}
}

// brokenWriter takes some bytes, then fails.
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
		if cause == nil { // a writer that breaks the rules of io.Writer
			want = io.ErrShortWrite
		}

		for _, f := range formats() {
			t.Run(fmt.Sprintf("%s/%v", f.name, want), func(t *testing.T) {
				w := &brokenWriter{room: 30, err: cause}

				s := f.make(w)
				if err := s.Write(container()); !errors.Is(err, want) {
					t.Fatalf("error %v, want %v", err, want)
				}
				torn, writes := w.got.String(), w.n
				w.room = 1 << 20

				calls := []error{
					s.Write(headline(container())), s.Write(container()), s.Write(&events.Update{Change: update("1", 0)}),
					s.Write(&events.Lost{}), s.Write(&events.Status{}),
				}
				for i, err := range calls {
					if !errors.Is(err, want) {
						t.Errorf("call %d afterwards: %v, want %v", i, err, want)
					}
				}

				if w.got.String() != torn || w.n != writes {
					t.Errorf("wrote on after an error: %q", w.got.String()[len(torn):])
				}
			})
		}
	}
}

// TestOneWrite: a reader of the other end sees whole lines, at once.
func TestOneWrite(t *testing.T) {
	for _, f := range formats() {
		w := &brokenWriter{room: 1 << 20}

		s := f.make(w)
		if err := s.Write(&events.Status{Phase: "start"}); err != nil {
			t.Fatal(err)
		}
		before := w.n

		if err := s.Write(container()); err != nil {
			t.Fatal(err)
		}

		if w.n != before+1 {
			t.Errorf("%s: %d writes for an incident with one victim", f.name, w.n-before)
		}
	}
}

func TestEmptyTableHasAHeader(t *testing.T) {
	var out bytes.Buffer
	if err := NewTable(&out, TableOptions{}).Close(); err != nil {
		t.Fatal(err)
	}

	if !strings.HasPrefix(out.String(), "TIME ") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%q", out.String())
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
		t.Errorf("no colour in %q", coloured)
	}

	stripped := strings.NewReplacer("\x1b["+styleAlarm+"m", "", "\x1b["+styleLabel+"m", "", "\x1b[0m", "").Replace(coloured.String())
	if stripped != plain.String() {
		t.Errorf("colour changed the layout:\n%s", stripped)
	}
}

func TestUpdateOfAnUnknownIncidentNamesIt(t *testing.T) {
	var out bytes.Buffer

	late := update("3", time.Second)
	late.Victims = []events.Victim{{Process: events.Process{PID: 4711, TID: 4711, Comm: "java"}, ExitAfterNS: ptr(uint64(1e9))}}

	if err := NewText(&out, TextOptions{Width: 80, Location: time.UTC}).Write(&events.Update{Change: late}); err != nil {
		t.Fatal(err)
	}

	want := "14:03:08.412 LATER  of incident 3\n  victims  java[4711], dead after 1.0 s\n"
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

func TestWhen(t *testing.T) {
	for at, want := range map[time.Time]string{
		time.Date(2026, 7, 21, 14, 3, 7, 0, time.UTC): "14:03:07",
		time.Unix(32, 439271e3):                       "[32.439]", // of a log that has no wall clock
		time.Unix(0, 0):                               "[0.000]",
		time.Unix(400*24*3600, 0):                     "[34560000.000]",
		time.Date(1980, 6, 1, 1, 2, 3, 0, time.UTC):   "01:02:03",
		time.Date(1969, 12, 31, 1, 2, 3, 0, time.UTC): "01:02:03",
	} {
		if got := When(at, time.TimeOnly, time.UTC); got != want {
			t.Errorf("%s is %q, want %q", at, got, want)
		}
	}
}

// TestOfALog: a kernel log has paths of cgroups, and neither ids nor hierarchies.
func TestOfALog(t *testing.T) {
	for _, test := range []struct{ which, swap, other string }{
		{"memory.max", "swap 40.0 MiB/max", "memory+swap"},
		{"memory.limit_in_bytes", "memory+swap 40.0 MiB/max", " swap "},
	} {
		inc := &events.Incident{
			Envelope: events.Envelope{Kind: events.KindIncident}, ID: "log-1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled, Tier: events.TierKernelLog,
			Limiter: &events.Limiter{
				Level: events.LevelCgroup, Which: test.which, LimitBytes: new(uint64(40 << 20)), UsageBytes: new(uint64(40 << 20)),
				SwapUsageBytes: new(uint64(40 << 20)), Cgroup: &events.Cgroup{Path: "/b"},
			},
			Ladder:  []events.Rung{{Cgroup: events.Cgroup{Path: "/b/leaf"}, Level: events.LevelCgroup, Below: true}, {Cgroup: events.Cgroup{Path: "/b"}, Level: events.LevelCgroup, MaxBytes: new(uint64(40 << 20))}},
			Victims: []events.Victim{{Process: events.Process{PID: 267, Comm: "hog", Cgroup: &events.Cgroup{Path: "/b/leaf"}}, Role: events.RoleChosen}},
		}

		var out bytes.Buffer
		if err := NewText(&out, TextOptions{Location: time.UTC, Width: 80}).Write(inc); err != nil {
			t.Fatal(err)
		}

		text := out.String()
		if strings.Count(text, "<-") != 1 || !strings.Contains(text, "in /b/leaf") || !strings.Contains(text, test.swap) || strings.Contains(text, test.other) {
			t.Errorf("%s:\n%s", test.which, text)
		}
	}
}
