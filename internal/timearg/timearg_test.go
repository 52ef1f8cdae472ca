// SPDX-License-Identifier: Apache-2.0

package timearg

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the host may have no time zone database
)

func TestParseAcceptsTheGrammar(t *testing.T) {
	zone := time.FixedZone("test", 2*3600)
	now := time.Date(2026, 11, 25, 14, 30, 0, 0, zone)

	at := func(day, hour, minute, second int) time.Time {
		return time.Date(2026, 11, day, hour, minute, second, 0, zone)
	}
	for text, want := range map[string]time.Time{
		"now":                       now,
		" NOW ":                     now,
		"10m ago":                   at(25, 14, 20, 0),
		"10  m   ago":               at(25, 14, 20, 0),
		"-10m":                      at(25, 14, 20, 0),
		"- 10m":                     at(25, 14, 20, 0),
		"1h30m ago":                 at(25, 13, 0, 0),
		"1h 30 min ago":             at(25, 13, 0, 0),
		"2 days ago":                at(23, 14, 30, 0),
		"1w ago":                    at(18, 14, 30, 0),
		"45 seconds ago":            at(25, 14, 29, 15),
		"0s ago":                    now,
		"1h":                        at(25, 13, 30, 0),
		"30m":                       at(25, 14, 0, 0),
		"2d":                        at(23, 14, 30, 0),
		"1h 30m":                    at(25, 13, 0, 0),
		"now-1h":                    at(25, 13, 30, 0),
		"now - 1h30m":               at(25, 13, 0, 0),
		"-1h ago":                   at(25, 13, 30, 0),
		"last hour":                 at(25, 13, 30, 0),
		"last 2 hours":              at(25, 12, 30, 0),
		"last week":                 at(18, 14, 30, 0),
		"last 90s":                  at(25, 14, 28, 30),
		"Nov 24":                    at(24, 0, 0, 0),
		"Nov 24 03:00":              at(24, 3, 0, 0),
		"nov  4 03:00:07":           at(4, 3, 0, 7),
		"Nov 25 14:31":              time.Date(2025, 11, 25, 14, 31, 0, 0, zone), // not yet this year
		"Feb 29 12:00":              time.Date(2024, 2, 29, 12, 0, 0, 0, zone),
		"Wed Nov 25 03:00:00 2026":  at(25, 3, 0, 0),
		"1760000000":                time.Unix(1760000000, 0),
		"1760000000.25":             time.Unix(1760000000, 25e7),
		"03:00":                     at(25, 3, 0, 0),
		"3:00":                      at(25, 3, 0, 0),
		"14:30":                     now,
		"23:00":                     at(24, 23, 0, 0), // not yet today
		"03:00:05":                  at(25, 3, 0, 5),
		"today":                     at(25, 0, 0, 0),
		"today 16:00":               at(25, 16, 0, 0),
		"yesterday":                 at(24, 0, 0, 0),
		"yesterday 03:00":           at(24, 3, 0, 0),
		"2026-11-20":                at(20, 0, 0, 0),
		"2026-11-20 03:00":          at(20, 3, 0, 0),
		"2026-11-20T03:00:07":       at(20, 3, 0, 7),
		"2026-11-20 03:00:07.5":     at(20, 3, 0, 7).Add(500 * time.Millisecond),
		"2026-11-20T03:00:00Z":      at(20, 5, 0, 0),
		"2026-11-20 03:00Z":         at(20, 5, 0, 0),
		"2026-11-20T03:00:00+02:00": at(20, 3, 0, 0),
		"2026-11-20t03:00:00.25z":   at(20, 5, 0, 0).Add(250 * time.Millisecond),
		"@1760000000":               time.Unix(1760000000, 0),
		"@1760000000.5":             time.Unix(1760000000, 5e8),
		"@0":                        time.Unix(0, 0),
	} {
		got, err := Parse(text, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: got %v, error %v, want %v", text, got, err, want)
		}
	}
}

func TestParseRefusesOtherText(t *testing.T) {
	now := time.Date(2026, 11, 25, 14, 30, 0, 0, time.UTC)
	for _, text := range []string{
		"", " ", "-", "ago", " ago", "10 ago", "10x ago", "m ago", "-10", "10", "2026", "25:00", "12:60", "yesterday noon",
		"today 10m ago", "now 1h", "now ago", "now-", "nowadays", "last", "last 2", "last x", "last hours", "--1h", "-now",
		"Nov 31", "Feb 30 12:00", "Foo 1", "Nov 25 25:00", "Nov", "1760000000000",
		"2026-13-01", "2026-02-30", "2026-11-25 3pm", "@", "@x", "@1.", "@-5", "@99999999999999", "99999999999h ago",
		"999999999w ago", "tomorrow",
		"\x1b[2J", strings.Repeat("9999w", 10_000) + " ago", "2026-11-25T03:00:00Zulu",
	} {
		got, err := Parse(text, now)
		if err == nil {
			t.Errorf("%.80q: got %v, want an error", text, got)
			continue
		}

		if s := err.Error(); !strings.Contains(s, "10m ago") || strings.ContainsAny(s, "\x1b\n") || len(s) > 600 {
			t.Errorf("%.80q: got error %.600s, want a short line with examples", text, s)
		}
	}
}

func TestTimesOfADayHaveTheOffsetOfThatDay(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 10, 25, 12, 0, 0, 0, berlin) // summer time ended at 03:00

	got, err := Parse("yesterday 12:00", now)
	if err != nil || now.Sub(got) != 25*time.Hour {
		t.Errorf("got %v, error %v, want 25 hours before %v", got, err, now)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"10m ago", "yesterday 03:00", "@1.5", "2026-11-25T03:00:00Z", "-1w2d", "now-1h", "last 2 hours",
		"Feb 29 12:00", "1760000000"} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 25, 14, 30, 0, 0, time.UTC)

	f.Fuzz(func(t *testing.T, text string) {
		if got, err := Parse(text, now); err == nil && (got.Year() < 0 || got.Year() > 9999) {
			t.Errorf("%q: got %v, want a year of four digits or an error", text, got)
		}
	})
}
