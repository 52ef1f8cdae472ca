// SPDX-License-Identifier: Apache-2.0

// Package timearg parses points in time as users write them on a command line.
package timearg

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Grammar is the help text about what Parse accepts.
const Grammar = `Times:
  1h, 30m ago, -2d, now-1h30m before now: s, m, h, d (24 hours), w
  last hour, last 2 days
  now, today, yesterday       today and yesterday start at midnight
  03:00, 03:00:05             the most recent 03:00
  yesterday 03:00
  Nov 25, Nov 25 03:00        the most recent one; dmesg -T's form as well
  2026-11-25, 2026-11-25 03:00, 2026-11-25 03:00:05.25
  2026-11-25T03:00:00Z, 2026-11-25T03:00:00+02:00
  1760000000, @1760000000.5   seconds since 1970
Times are local unless they end in Z or an offset.`

// Parse parses a point in time, relative to now, and in the location of now if the text
// has no zone. The error is one line with examples.
func Parse(text string, now time.Time) (time.Time, error) {
	words := strings.Fields(strings.ToLower(text))
	if t, ok := parse(strings.Join(words, " "), now); ok {
		return t, nil
	}

	return time.Time{}, fmt.Errorf(`%.80q is not a time: use "1h", "10m ago", "03:00", "yesterday 03:00", `+
		`"Nov 25 03:00", "2026-11-25 03:00", "2026-11-25T03:00:00Z" or "1760000000"`, text)
}

func parse(text string, now time.Time) (time.Time, bool) {
	switch {
	case text == "now":
		return now, true
	case strings.HasPrefix(text, "@"):
		return unix(text[1:], now.Location())
	case bareEpoch.MatchString(text):
		return unix(text, now.Location())
	case strings.HasPrefix(text, "last "):
		return last(strings.TrimPrefix(text, "last "), now)
	}

	span := strings.TrimPrefix(strings.TrimPrefix(text, "now"), " ")
	if span == text || strings.HasPrefix(span, "-") { // "now 1h" is no time
		span = strings.TrimSuffix(strings.TrimPrefix(span, "-"), " ago")
		if t, ok := before(span, now); ok {
			return t, true
		}
	}

	if day, clock, _ := strings.Cut(text, " "); day == "today" || day == "yesterday" {
		date := now
		if day == "yesterday" {
			date = now.AddDate(0, 0, -1)
		}

		if clock == "" {
			clock = "00:00"
		}

		return onDay(date, clock)
	}

	if t, ok := onDay(now, text); ok {
		if t.After(now) {
			t, ok = onDay(now.AddDate(0, 0, -1), text)
		}

		return t, ok
	}

	if t, ok := inYear(text, now); ok {
		return t, true
	}

	return absolute(strings.ToUpper(text), now.Location())
}

// time.Parse accepts a fraction after the seconds of any layout.
var (
	clockLayouts = []string{"15:04", "15:04:05"}
	localLayouts = []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04",
		"2006-01-02T15:04:05", "Mon Jan 2 15:04:05 2006"}
	// As syslog and people write them, without a year.
	yearlessLayouts = []string{"Jan 2", "Jan 2 15:04", "Jan 2 15:04:05"}
	zoneLayouts     = []string{"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04Z07:00",
		"2006-01-02 15:04Z07:00"}
)

// onDay parses a time of day, on the day of date.
func onDay(date time.Time, clock string) (time.Time, bool) {
	for _, layout := range clockLayouts {
		if t, err := time.Parse(layout, clock); err == nil {
			year, month, day := date.Date()
			return time.Date(year, month, day, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), date.Location()), true
		}
	}

	return time.Time{}, false
}

// inYear parses a date without a year. It is of the latest year in which the date exists
// and is not after now.
func inYear(text string, now time.Time) (time.Time, bool) {
	const leapYears = 8 // the most between two of them, as 1896 and 1904

	for _, layout := range yearlessLayouts {
		parsed, err := time.Parse(layout, text)
		if err != nil {
			continue
		}

		for year := now.Year(); year >= now.Year()-leapYears; year-- {
			t := time.Date(year, parsed.Month(), parsed.Day(),
				parsed.Hour(), parsed.Minute(), parsed.Second(), parsed.Nanosecond(), now.Location())
			if t.Day() == parsed.Day() && !t.After(now) {
				return t, true
			}
		}
	}

	return time.Time{}, false
}

func absolute(text string, loc *time.Location) (time.Time, bool) {
	for _, layout := range zoneLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}

	for _, layout := range localLayouts {
		if t, err := time.ParseInLocation(layout, text, loc); err == nil {
			return t, true
		}
	}

	return time.Time{}, false
}

var units = map[string]time.Duration{
	"s": time.Second, "sec": time.Second, "second": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute,
	"h": time.Hour, "hour": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour,
	"w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour,
}

var amount = regexp.MustCompile(`^([0-9]{1,9}) ?([a-z]+) ?`)

// before parses a span such as 1h30m or "2 days", and returns the time that long before
// now.
func before(span string, now time.Time) (time.Time, bool) {
	const most = 100 * 366 * 24 * time.Hour
	var total time.Duration

	for rest := strings.TrimSpace(span); ; {
		match := amount.FindStringSubmatch(rest)
		if match == nil {
			return now.Add(-total), rest == "" && span != ""
		}
		n, _ := strconv.ParseInt(match[1], 10, 64) // nine digits do not overflow

		unit, known := units[match[2]]
		if !known {
			unit, known = units[strings.TrimSuffix(match[2], "s")]
		}

		if !known || time.Duration(n) > most/unit {
			return time.Time{}, false
		}

		if total += time.Duration(n) * unit; total > most {
			return time.Time{}, false
		}
		rest = rest[len(match[0]):]
	}
}

// last parses what follows "last": a span, or a unit alone.
func last(span string, now time.Time) (time.Time, bool) {
	if _, ok := units[span]; ok {
		span = "1 " + span
	}

	return before(span, now)
}

// bareEpoch is a number of seconds without @, from 1973 on: a shorter number is more likely
// a span without its unit.
var bareEpoch = regexp.MustCompile(`^[0-9]{9,11}(?:\.[0-9]{1,9})?$`)

var seconds = regexp.MustCompile(`^([0-9]{1,11})(?:\.([0-9]{1,9}))?$`)

func unix(text string, loc *time.Location) (time.Time, bool) {
	match := seconds.FindStringSubmatch(text)
	if match == nil {
		return time.Time{}, false
	}
	sec, _ := strconv.ParseInt(match[1], 10, 64)
	ns, _ := strconv.ParseInt((match[2] + "000000000")[:9], 10, 64)

	return time.Unix(sec, ns).In(loc), true
}
