// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// logLine is a parsed line of dmesg.
type logLine struct {
	uptimeUS uint64
	text     string
}

func (l logLine) wall() time.Time {
	return time.Date(2026, 11, 25, 2, 21, 31, 0, time.UTC).Add(time.Duration(l.uptimeUS) * time.Microsecond)
}

func dmesgLines(t testing.TB, name string) []logLine {
	t.Helper()
	var lines []logLine

	for line := range strings.Lines(readFile(t, name)) {
		line = strings.TrimSuffix(line, "\n")
		stamp, text, found := strings.Cut(strings.TrimPrefix(line, "["), "] ")

		ns, ok := seconds(strings.TrimSpace(stamp))
		if !found || !ok {
			lines[len(lines)-1].text += "\n" + line // of the same record
			continue
		}

		lines = append(lines, logLine{ns / 1000, text})
	}

	return lines
}

// records joins the lines that the kernel printed as one record: the counters of Mem-Info.
func records(lines []logLine) []logLine {
	var out []logLine
	for _, l := range lines {
		if strings.HasPrefix(l.text, " ") && strings.Contains(l.text, ":") && !strings.Contains(l.text, "+0x") &&
			len(out) > 0 && out[len(out)-1].uptimeUS == l.uptimeUS && strings.HasPrefix(out[len(out)-1].text, "active_anon:") {
			out[len(out)-1].text += "\n" + l.text
			continue
		}
		out = append(out, l)
	}

	return out
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func escapeKmsg(s string) string {
	var b strings.Builder

	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}

	return b.String()
}

func byteList(s string) string {
	var list []string
	for i := range len(s) {
		list = append(list, strconv.Itoa(int(s[i])))
	}

	return "[" + strings.Join(list, ",") + "]"
}

// formats write a record in each log format.
var formats = []variant{
	{"dmesg", func(_ int, l logLine) string {
		return each(l, func(text string) string { return stampOf(l) + text })
	}},
	{"dmesg, continued by spaces", func(_ int, l logLine) string { return stampOf(l) + l.text }},
	{"dmesg -T", func(_ int, l logLine) string {
		return each(l, func(text string) string { return l.wall().Format("[Mon Jan _2 15:04:05 2006] ") + text })
	}},
	{"dmesg --time-format iso", func(_ int, l logLine) string {
		return each(l, func(text string) string {
			return strings.Replace(l.wall().Format("2006-01-02T15:04:05.000000-07:00 "), ".", ",", 1) + text
		})
	}},
	{"dmesg -x", func(_ int, l logLine) string {
		return each(l, func(text string) string { return "kern  :warn  : " + stampOf(l) + text })
	}},
	{"dmesg -d", func(_ int, l logLine) string {
		return each(l, func(text string) string { return strings.TrimSuffix(stampOf(l), "] ") + " <    0.000012>] " + text })
	}},
	{"dmesg -H", func(i int, l logLine) string {
		return each(l, func(text string) string {
			if i == 0 {
				return "[Nov25 02:21] " + text
			}

			return "[  +0.000012] " + text
		})
	}},
	{"dmesg --color=always", func(_ int, l logLine) string {
		return each(l, func(text string) string { return "\x1b[32m" + stampOf(l) + "\x1b[0m\x1b[33m" + text + "\x1b[0m" })
	}},
	{"dmesg, caller", func(_ int, l logLine) string {
		return each(l, func(text string) string { return strings.TrimSuffix(stampOf(l), " ") + "[  T417] " + text })
	}},
	{"no times", func(_ int, l logLine) string { return l.text }},
	{"kmsg", func(i int, l logLine) string {
		return fmt.Sprintf("4,%d,%d,-;%s\n SUBSYSTEM=cpu\n DEVICE=+cpu:0", 1000+i, l.uptimeUS, escapeKmsg(l.text))
	}},
	{"kmsg, caller", func(i int, l logLine) string {
		return fmt.Sprintf("4,%d,%d,-,caller=T417;%s", 1000+i, l.uptimeUS, escapeKmsg(l.text))
	}},
	{"serial console", func(_ int, l logLine) string {
		return each(l, func(text string) string { return "\r<4>" + stampOf(l) + text + "\r" })
	}},
	{"journal short", func(_ int, l logLine) string {
		return indented(l.wall().Format("Jan _2 15:04:05 ")+"worker-3 kernel: ", l.text)
	}},
	{"journal short-precise", func(_ int, l logLine) string {
		return indented(l.wall().Format("Jan _2 15:04:05.000000 ")+"worker-3 kernel: ", l.text)
	}},
	{"journal short-iso", func(_ int, l logLine) string {
		return indented(l.wall().Format("2006-01-02T15:04:05-0700 ")+"worker-3 kernel: ", l.text)
	}},
	{"journal short-iso-precise", func(_ int, l logLine) string {
		return indented(l.wall().Format("2006-01-02T15:04:05.000000-07:00 ")+"worker-3 kernel: ", l.text)
	}},
	{"journal short-full", func(_ int, l logLine) string {
		return indented(l.wall().Format("Mon 2006-01-02 15:04:05 MST ")+"worker-3 kernel: ", l.text)
	}},
	{"journal short-unix", func(_ int, l logLine) string {
		return indented(fmt.Sprintf("%d.%06d worker-3 kernel: ", l.wall().Unix(), l.wall().Nanosecond()/1000), l.text)
	}},
	{"journal short-monotonic", func(_ int, l logLine) string { return indented(stampOf(l)+"worker-3 kernel: ", l.text) }},
	{"journal json", func(_ int, l logLine) string {
		return fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"%d","_SOURCE_MONOTONIC_TIMESTAMP":"%d","_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"kernel",`+
			`"_BOOT_ID":"5f0c2c1e8e0e4b579b1f3c8f0a4d2e61","_HOSTNAME":"worker-3","PRIORITY":"4","MESSAGE":%s}`,
			l.wall().UnixMicro(), l.uptimeUS, quote(l.text))
	}},
	{"journal json, bytes", func(_ int, l logLine) string {
		return fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"%d","_TRANSPORT":"kernel","_HOSTNAME":"worker-3","MESSAGE":%s}`, l.wall().UnixMicro(), byteList(l.text))
	}},
	{"RFC 3164", func(_ int, l logLine) string {
		return "<4>" + l.wall().Format("Jan _2 15:04:05 ") + "worker-3 kernel: " + stampOf(l) + strings.ReplaceAll(l.text, "\n", "#012")
	}},
	{"RFC 3164, no priority", func(_ int, l logLine) string {
		return l.wall().Format("Jan _2 15:04:05 ") + "worker-3 kernel: " + stampOf(l) + strings.ReplaceAll(l.text, "\n", "#012")
	}},
	{"RFC 5424", func(_ int, l logLine) string {
		return "<4>1 " + l.wall().Format("2006-01-02T15:04:05.000000Z07:00 ") + `worker-3 kernel - - [meta sequenceId="1" x="\"]"] ` + stampOf(l) +
			strings.ReplaceAll(l.text, "\n", "#012")
	}},
	{"RFC 5424, no data", func(_ int, l logLine) string {
		return "<4>1 " + l.wall().Format("2006-01-02T15:04:05Z07:00 ") + "worker-3 kernel - - - " + strings.ReplaceAll(l.text, "\n", "#012")
	}},
	{"rsyslog file format", func(_ int, l logLine) string {
		return l.wall().Format("2006-01-02T15:04:05.000000-07:00 ") + "worker-3 kernel: " + stampOf(l) + strings.ReplaceAll(l.text, "\n", "#012")
	}},
	{"CRI, dmesg within", func(_ int, l logLine) string {
		return each(l, func(text string) string {
			return l.wall().Format("2006-01-02T15:04:05.000000000Z07:00 ") + "stdout F " + stampOf(l) + text
		})
	}},
	{"docker, syslog within", func(_ int, l logLine) string {
		return each(l, func(text string) string {
			return fmt.Sprintf(`{"log":%s,"stream":"stdout","time":%q}`,
				quote(l.wall().Format("Jan _2 15:04:05 ")+"worker-3 kernel: "+stampOf(l)+text+"\n"), l.wall().Format(time.RFC3339Nano))
		})
	}},
}

func stampOf(l logLine) string { return fmt.Sprintf("[%5d.%06d] ", l.uptimeUS/1e6, l.uptimeUS%1e6) }

func each(l logLine, write func(string) string) string {
	var out []string
	for text := range strings.SplitSeq(l.text, "\n") {
		out = append(out, write(text))
	}

	return strings.Join(out, "\n")
}

// indented writes a message of several lines as journalctl does.
func indented(head, text string) string {
	return head + strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", len(head)))
}

// TestFormatsOnlyAddTheirPrefix reads the same report in every log format: the incidents
// differ only in what the format adds.
func TestFormatsOnlyAddTheirPrefix(t *testing.T) {
	for _, name := range []string{
		"dmesg/7.3.4-global", "dmesg/5.10.0-32-memcg-oom-group", "dmesg/6.12.117-memcg-parent-limit", "dmesg/6.18.15-sysrq-f",
		"reports/4.18-rhel8-memcg", "reports/3.10-memcg-child", "reports/4.4-global",
	} {
		lines := records(dmesgLines(t, "testdata/"+name+".txt"))
		var want []*events.Incident

		for _, c := range formats {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				var log strings.Builder
				for i, l := range lines {
					log.WriteString(c.write(i, l) + "\n")
				}

				got := parse(t, log.String(), Options{})
				for _, inc := range got {
					checkTime(t, c.name, inc, lines)
					maskFormat(inc)
				}

				if want == nil {
					want = got
				}

				if !reflect.DeepEqual(got, want) {
					t.Errorf("got and want differ:\n%s", difference(show(t, got), show(t, want)))
				}
			})
		}
	}
}

func checkTime(t *testing.T, format string, inc *events.Incident, lines []logLine) {
	t.Helper()
	unknown := slices.Contains(inc.Unknown, "time")

	dated := !strings.HasPrefix(format, "dmesg") && !strings.HasPrefix(format, "kmsg") && format != "no times" && format != "serial console" &&
		format != "journal short-monotonic" || format == "dmesg -T" || format == "dmesg --time-format iso"
	if dated == unknown {
		t.Errorf("got time in unknown: %v, want the opposite of a dated log: %v", unknown, dated)
	}

	first, last := lines[0].wall().Truncate(time.Second), lines[len(lines)-1].wall()
	if dated && (inc.Time.Before(first) || inc.Time.After(last)) {
		t.Errorf("got time %v, want one from %v to %v", inc.Time, first, last)
	}

	if strings.Contains(format, "journal") && inc.Node != "worker-3" {
		t.Errorf("got node %q, want the host of the log", inc.Node)
	}

	if format == "journal json" && inc.BootID != "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61" {
		t.Errorf("got boot id %q, want that of the log", inc.BootID)
	}
}

// maskFormat removes what differs between log formats.
func maskFormat(inc *events.Incident) {
	inc.Time, inc.ID, inc.Node, inc.BootID = time.Time{}, "", "", ""
	inc.Log.FirstLine, inc.Log.LastLine, inc.Log.UptimeNS = 0, 0, nil
	inc.Unknown = remove(inc.Unknown, "time")
	var notes []string

	for _, note := range inc.Notes { // the reaper's delay
		if !strings.Contains(note, "reaper") {
			notes = append(notes, note)
		}
	}
	inc.Notes = notes
}

func remove(list []string, name string) (out []string) {
	for _, s := range list {
		if s != name {
			out = append(out, s)
		}
	}

	return out
}

func show(t testing.TB, list []*events.Incident) string {
	var b strings.Builder

	for _, inc := range list {
		line, err := events.Marshal(inc)
		if err != nil {
			t.Fatal(err)
		}

		b.Write(line)
	}

	return b.String()
}

// difference shows two texts from their first difference on.
func difference(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	from := max(0, i-80)

	return "got  ..." + got[from:min(len(got), i+200)] + "\nwant ..." + want[from:min(len(want), i+200)]
}

func TestTimesOfEveryFormat(t *testing.T) {
	zone := time.FixedZone("", 3600)

	for _, test := range []struct{ now, line, want string }{
		{"2026-11-25T12:00:00Z", "Nov 25 02:21:31 h kernel: ", "2026-11-25T01:21:31Z"},
		{"2026-01-02T12:00:00Z", "Dec 31 23:59:59 h kernel: ", "2025-12-31T22:59:59Z"},
		{"2026-01-01T00:10:00Z", "Jan  2 00:20:00 h kernel: ", "2026-01-01T23:20:00Z"}, // a clock that is ahead
		{"2026-11-25T12:00:00Z", "Feb 29 02:21:31 h kernel: ", "2024-02-29T01:21:31Z"},
		{"2026-11-25T12:00:00Z", "2026-02-03T04:05:06.5-0800 h kernel: ", "2026-02-03T12:05:06.5Z"},
		{"2026-11-25T12:00:00Z", "2026-02-03T04:05:06,5+05:30 ", "2026-02-02T22:35:06.5Z"},
		{"2026-11-25T12:00:00Z", "2026-02-03 04:05:06 h kernel: ", "2026-02-03T03:05:06Z"},
		{"2026-11-25T12:00:00Z", "[Tue Feb  3 04:05:06 2026] ", "2026-02-03T03:05:06Z"},
		{"2026-11-25T12:00:00Z", "<4>Feb  3 04:05:06 h kernel: [ 1.5] ", "2026-02-03T03:05:06Z"},
		{"2026-11-25T12:00:00Z", "[    1.500000] ", "2026-11-25T10:00:01.5Z"},
	} {
		at, _ := time.Parse(time.RFC3339, test.now)
		boot := time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

		list := parse(t, test.line+killOf("a", 1), Options{Now: at, Location: zone, BootTime: boot})
		if len(list) != 1 || list[0].Time.Format(time.RFC3339Nano) != test.want || slices.Contains(list[0].Unknown, "time") {
			t.Errorf("line %q: got %s, want one incident at %v", test.line, show(t, list), test.want)
		}
	}
}

// TestEscapedNamesAreRestored: what a log format escapes is restored, and does not end a line.
func TestEscapedNamesAreRestored(t *testing.T) {
	name := "a\n)\\\xff\x1b[b"

	kill := strings.TrimSuffix(killOf(name, 1), "\n")
	for format, line := range map[string]string{
		"kmsg":        "4,1,5,-;" + escapeKmsg(kill),
		"json, bytes": `{"_TRANSPORT":"kernel","MESSAGE":` + byteList(kill) + `}`,
	} {
		list := parse(t, line+"\n", Options{})
		if len(list) != 1 || list[0].Victims[0].Comm != name {
			t.Errorf("format %s: got %s, want the hostile name", format, show(t, list))
		}
	}
}
