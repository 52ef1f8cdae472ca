// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// syslog reads the prefix of a syslog line: of RFC 3164, of RFC 5424 after its priority, or
// of a text format of journalctl.
func (d *decoder) syslog(r *record, text string) (rest string, ok bool) {
	if after, found := strings.CutPrefix(text, "1 "); found {
		return d.rfc5424(r, after)
	}

	t, rest, tagged, ok := d.syslogTime(text)
	if tagged {
		if m := find(rest); m.certain() {
			d.dates = strings.Trim(rest[:m.at], " \t") == "" // "memory: usage" is no program
		}

		rest, ok = hostAndTag(r, rest, d.dates || t.IsZero())
	}

	if ok {
		r.wall = t
	}

	return rest, ok
}

// syslogTime reads the time at the start of a line of RFC 3164, journalctl, or dmesg
// --time-format iso. All but the last are tagged: a host and a program follow.
func (d *decoder) syslogTime(text string) (t time.Time, rest string, tagged, ok bool) {
	if t, rest, ok := d.monthTime(text); ok {
		return t, rest, true, true
	}

	if t, rest, ok := d.weekdayTime(text); ok {
		return t, rest, true, true
	}

	stamp, rest, found := strings.Cut(text, " ")
	if !found {
		return t, "", false, false
	}

	if len(rest) > 20 && rest[4] == '-' && isDateWord(stamp) {
		// journalctl -o short-full: Wed 2026-11-25 02:21:31 UTC host kernel: text
		date, rest, _ := strings.Cut(rest, " ")
		clock, rest, _ := strings.Cut(rest, " ")
		zone, rest, found := strings.Cut(rest, " ")
		t, ok := d.zonedTime(date+"T"+clock, zone)

		return t, rest, ok && found, ok && found
	}

	if len(stamp) == 10 && stamp[4] == '-' && len(rest) > 8 && rest[2] == ':' {
		clock, after, _ := strings.Cut(rest, " ")
		stamp, rest = stamp+"T"+clock, after
	}

	if t, ok := d.isoTime(stamp); ok {
		return t, rest, !strings.Contains(stamp, ","), true
	}

	// journalctl -o short-unix
	if ns, ok := seconds(stamp); ok && ns > 1e17 {
		return time.Unix(0, int64(ns)).UTC(), rest, true, true
	}

	return t, "", false, false
}

// rfc5424 reads "time host app procid msgid structured-data text".
func (d *decoder) rfc5424(r *record, text string) (rest string, ok bool) {
	var fields [5]string
	for i := range fields {
		var found bool
		if fields[i], text, found = strings.Cut(text, " "); !found {
			return "", false
		}
	}

	if t, ok := d.isoTime(fields[0]); ok {
		r.wall = t
	} else if fields[0] != "-" {
		return "", false
	}

	if fields[1] != "-" {
		r.host = fields[1]
	}

	if fields[2] != "kernel" {
		r.program = fields[2]
		r.pid, _ = strconv.Atoi(fields[3])
	}
	text, ok = structuredData(text)

	return strings.TrimPrefix(text, "\ufeff"), ok
}

// structuredData skips "-" or "[id key="value"]...", and the space after it.
func structuredData(text string) (rest string, ok bool) {
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		return strings.TrimPrefix(rest, " "), true
	}

	for strings.HasPrefix(text, "[") {
		quoted, end := false, -1
		for i := 1; i < len(text) && end < 0; i++ {
			switch c := text[i]; {
			case c == '\\' && quoted:
				i++
			case c == '"':
				quoted = !quoted
			case c == ']' && !quoted:
				end = i
			}
		}

		if end < 0 {
			return "", false
		}
		text, ok = text[end+1:], true
	}

	return strings.TrimPrefix(text, " "), ok
}

// seconds reads "123.456789", and needs the dot.
func seconds(s string) (ns uint64, ok bool) {
	whole, frac, found := strings.Cut(s, ".")
	if !found || len(whole) > 11 || !isDigits(whole) || !isDigits(frac) || len(frac) > 9 {
		return 0, false
	}

	sec, _ := strconv.ParseUint(whole, 10, 64)
	if sec > 1<<33 {
		return 0, false
	}

	sub, _ := strconv.ParseUint(frac, 10, 64)
	for range 9 - len(frac) {
		sub *= 10
	}

	return sec*1e9 + sub, true
}

var months = map[string]time.Month{
	"Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6, "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}

// monthTime reads "Nov  5 02:21:31[.123456] " at the start of text, in any language. Of a
// month that is not known the time is zero.
func (d *decoder) monthTime(text string) (t time.Time, rest string, ok bool) {
	word, rest, _ := strings.Cut(text, " ")
	dayText, rest, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	clock, rest, found := strings.Cut(rest, " ")

	if !found || len(dayText) > 2 || !isDigits(dayText) || !isDateWord(word) {
		return t, "", false
	}
	day, _ := strconv.Atoi(dayText)

	sinceMidnight, ok := clockTime(clock)
	if !ok || day < 1 || day > 31 {
		return t, "", false
	}

	month := monthOf(word)
	if month == 0 {
		return t, rest, true
	}

	t, ok = d.latest(month, day, sinceMidnight)

	return t, rest, ok
}

// latest returns the latest such time that is not in the future, with a day of grace for
// clocks that differ.
func (d *decoder) latest(month time.Month, day int, sinceMidnight time.Duration) (t time.Time, ok bool) {
	latest := d.now.Add(24 * time.Hour)
	for year := latest.In(d.location).Year(); year > latest.Year()-9; year-- {
		t = time.Date(year, month, day, 0, 0, 0, 0, d.location)
		if t.Month() != month || t.Day() != day { // 29 February
			continue
		}

		if t = at(t, sinceMidnight); !t.After(latest) {
			return t, true
		}
	}

	return t, false
}

// weekdayTime reads the "Fri Nov 20 03:04:05 2026 " of logread (BusyBox, OpenWrt).
func (d *decoder) weekdayTime(text string) (t time.Time, rest string, ok bool) {
	end := 0
	for range 5 {
		word, _, found := strings.Cut(strings.TrimLeft(text[end:], " "), " ")
		if !found {
			return t, "", false
		}
		end += len(text[end:]) - len(strings.TrimLeft(text[end:], " ")) + len(word)
	}

	t, ok = d.dayTime(strings.Fields(text[:end]))

	return t, text[end+1:], ok
}

// dayTime reads the words of "Fri Nov 20 03:04:05 2026", with or without a zone behind them,
// in any language. Of a month that is not known the time is zero.
func (d *decoder) dayTime(words []string) (t time.Time, ok bool) {
	if len(words) != 5 && len(words) != 6 || !isDateWord(words[0]) || !isDateWord(words[1]) || len(words[4]) != 4 {
		return t, false
	}
	day, err1 := strconv.Atoi(words[2])
	year, err2 := strconv.Atoi(words[4])

	clock, ok := clockTime(words[3])
	if err1 != nil || err2 != nil || !ok || day < 1 || day > 31 || year < 1970 {
		return t, false
	}

	month := monthOf(words[1])
	if month == 0 {
		return t, true
	}
	zone := ""

	if len(words) == 6 {
		zone = words[5]
	}

	midnight, ok := d.zonedTime(fmt.Sprintf("%04d-%02d-%02dT00:00:00", year, month, day), zone)
	if !ok {
		return t, false
	}

	return at(midnight, clock), true
}

// dateAlone reads a date at the start of a line that no host follows, as docker logs -t,
// kubectl logs --timestamps, ts and many programs write it.
func (d *decoder) dateAlone(text string) (t time.Time, rest string, ok bool) {
	if t, rest, _, ok := d.syslogTime(text); ok {
		return t, rest, !t.IsZero()
	}

	if len(text) > 10 && text[4] == '/' && text[7] == '/' {
		return d.dateAlone(strings.Replace(text, "/", "-", 2))
	}

	return t, "", false
}

// tai64n reads the "@40000000691e9d7d00018a9c " of multilog and svlogd. As tai64nlocal does,
// it takes TAI to be ten seconds ahead: these programs do not count leap seconds.
func tai64n(text string) (t time.Time, rest string, ok bool) {
	const label = 1<<62 + 10

	if len(text) < 26 || text[25] != ' ' {
		return t, "", false
	}

	sec, err1 := strconv.ParseUint(text[1:17], 16, 64)

	ns, err2 := strconv.ParseUint(text[17:25], 16, 32)
	if err1 != nil || err2 != nil || sec < label || sec > label+1<<33 || ns >= 1e9 {
		return t, "", false
	}

	return time.Unix(int64(sec-label), int64(ns)).UTC(), text[26:], true
}

// at returns a time of day as a wall clock shows it: a day may have 23 hours.
func at(day time.Time, sinceMidnight time.Duration) time.Time {
	y, m, d := day.Date()
	return time.Date(y, m, d, 0, 0, 0, int(sinceMidnight), day.Location())
}

// clockTime reads "02:21:31" with or without a fraction.
func clockTime(s string) (time.Duration, bool) {
	if len(s) < 8 || len(s) > 18 || s[2] != ':' || s[5] != ':' || !isDigits(s[:2]) || !isDigits(s[3:5]) || !isDigits(s[6:8]) {
		return 0, false
	}
	h, _ := strconv.Atoi(s[:2])

	m, _ := strconv.Atoi(s[3:5])
	if h > 23 || m > 59 {
		return 0, false
	}

	sec := s[6:]
	if len(sec) == 2 {
		sec += ".0"
	}

	ns, ok := seconds(strings.Replace(sec, ",", ".", 1))
	if !ok || ns > 61e9 {
		return 0, false
	}

	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(ns), true
}

// isoTime reads "2026-11-25T02:21:31.123456Z". The fraction is optional, its separator may
// be a comma, and the zone may have any usual form.
func (d *decoder) isoTime(s string) (time.Time, bool) {
	if len(s) < 19 || len(s) > 40 || s[4] != '-' || s[7] != '-' || s[10] != 'T' {
		return time.Time{}, false
	}

	clock, zone := s[11:], ""
	if i := strings.IndexAny(clock, "Z+-"); i >= 0 {
		clock, zone = clock[:i], clock[i:]
	}

	return d.zonedTime(s[:11]+clock, zone)
}

// zonedTime reads a date and time without a zone, and the zone: any name but that of UTC
// stands for Options.Location.
func (d *decoder) zonedTime(s, zone string) (t time.Time, ok bool) {
	if len(s) < 19 {
		return t, false
	}
	loc := d.location

	switch {
	case zone == "Z" || zone == "UTC" || zone == "GMT":
		loc = time.UTC
	case len(zone) > 1 && (zone[0] == '+' || zone[0] == '-'):
		digits := strings.ReplaceAll(zone[1:], ":", "")
		if !isDigits(digits) || len(digits) != 4 && len(digits) != 2 {
			return t, false
		}
		h, _ := strconv.Atoi(digits[:2])

		m := 0
		if len(digits) == 4 {
			m, _ = strconv.Atoi(digits[2:])
		}

		offset := h*3600 + m*60
		if zone[0] == '-' {
			offset = -offset
		}
		loc = time.FixedZone("", offset)
	}
	day, err := time.ParseInLocation("2006-01-02", s[:10], loc)

	clock, fine := clockTime(s[11:])
	if err != nil || !fine || day.Year() < 1970 || day.Year() > 9000 {
		return t, false
	}

	return at(day, clock), true
}

// dmesgDate reads the "Wed Nov 25 02:21:31 2026" of dmesg -T, or an ISO time.
func (d *decoder) dmesgDate(s string) (time.Time, bool) {
	if t, ok := d.isoTime(s); ok {
		return t, true
	}

	if len(s) < 20 || len(s) > 64 {
		return time.Time{}, false
	}

	return d.dayTime(strings.Fields(s))
}

// timeOrder counts how the times of the kernel's messages go on, by steps as they are within a
// report. Longer ones are those between boots, files and hosts.
type timeOrder struct {
	last     record
	up, down int
}

// longestStep is far above the time that a report takes on a slow console.
const longestStep = time.Minute

func (o *timeOrder) add(r record) {
	if r.program != "" || !r.uptime && r.wall.IsZero() {
		return
	}

	last := o.last
	o.last = r

	if r.host != last.host || r.boot != last.boot {
		return
	}

	var step time.Duration
	if !r.wall.IsZero() && !last.wall.IsZero() {
		step = r.wall.Sub(last.wall)
	}

	if step == 0 && r.uptime && last.uptime {
		step = time.Duration(r.uptimeNS - last.uptimeNS)
	}

	switch {
	case 0 < step && step < longestStep:
		o.up++
	case -longestStep < step && step < 0:
		o.down++
	}
}

// descends reports whether most steps lead back.
func (o *timeOrder) descends() bool { return o.down > 1 && o.down > o.up }
