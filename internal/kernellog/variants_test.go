// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// variant is a way by which a report comes to a reader.
type variant struct {
	name  string
	write func(i int, l logLine) string
}

// before puts a prefix that does not change before each line that the inner format writes.
func before(prefix string, inner func(i int, l logLine) string) func(i int, l logLine) string {
	return func(i int, l logLine) string {
		return prefix + strings.ReplaceAll(inner(i, l), "\n", "\n"+prefix)
	}
}

// counting puts a prefix made of the number of the line before each line.
func counting(prefix func(i int, l logLine) string, inner func(i int, l logLine) string) func(i int, l logLine) string {
	return func(i int, l logLine) string {
		return prefix(i, l) + strings.ReplaceAll(inner(i, l), "\n", "\n"+prefix(i, l))
	}
}

func dmesgStyle(_ int, l logLine) string {
	return each(l, func(text string) string { return stampOf(l) + text })
}

func syslogStyle(_ int, l logLine) string {
	return each(l, func(text string) string {
		return l.wall().Format("Jan _2 15:04:05 ") + "worker-3 kernel: " + stampOf(l) + text
	})
}

func alone(_ int, l logLine) string { return l.text }

func journalStyle(month string) func(int, logLine) string {
	return func(_ int, l logLine) string {
		return each(l, func(text string) string { return month + l.wall().Format(" _2 15:04:05 ") + "worker-3 kernel: " + text })
	}
}

func dmesgDateStyle(words, zone string) func(int, logLine) string {
	return func(_ int, l logLine) string {
		return each(l, func(text string) string {
			return "[" + words + l.wall().Format(" _2 15:04:05 2006") + zone + "] " + text
		})
	}
}

func jsonStyle(format string, stamped bool) func(int, logLine) string {
	return func(_ int, l logLine) string {
		return each(l, func(text string) string {
			if stamped {
				text = stampOf(l) + text
			}

			return fmt.Sprintf(format, quote(text))
		})
	}
}

// carriers are the ways by which logs come, each around the formats that it is seen with.
var carriers = []variant{
	{"kubectl logs --prefix", before("[pod/dmesg-x7k2p/dmesg] ", dmesgStyle)},
	{"kubectl logs --prefix, no times", before("[pod/dmesg-x7k2p/dmesg] ", alone)},
	{"kubectl logs --timestamps", counting(func(_ int, l logLine) string { return l.wall().Format("2006-01-02T15:04:05.000000000Z ") }, dmesgStyle)},
	{"kubectl logs --timestamps, no times", counting(func(_ int, l logLine) string { return l.wall().Format("2006-01-02T15:04:05.000000000Z ") }, alone)},
	{"stern", before("dmesg-x7k2p dmesg ", dmesgStyle)},
	{"stern, no times", before("dmesg-x7k2p dmesg ", alone)},
	{"compose", before("dmesg-1  | ", dmesgStyle)},
	{"compose, no times", before("dmesg-1  | ", alone)},
	{"indented by four blanks", before("    ", dmesgStyle)},
	{"indented by two blanks", before("  ", dmesgStyle)},
	{"indented by a tab", before("\t", dmesgStyle)},
	{"indented, no times", before("    ", alone)},
	{"indented syslog", before("    ", syslogStyle)},
	{"quoted", before("> ", dmesgStyle)},
	{"quoted twice", before("> > ", dmesgStyle)},
	{"quoted tightly", before(">> ", syslogStyle)},
	{"quoted, no times", before("> ", alone)},
	{"quoted syslog", before("> ", syslogStyle)},
	{"a table of Markdown", before("| ", dmesgStyle)},
	{"a comment", before("# ", alone)},
	{"grep -n", counting(func(i int, _ logLine) string { return fmt.Sprintf("%d:", 998+i) }, dmesgStyle)},
	{"grep -n, no times", counting(func(i int, _ logLine) string { return fmt.Sprintf("%d:", 998+i) }, alone)},
	{"cat -n", counting(func(i int, _ logLine) string { return fmt.Sprintf("%6d\t", 998+i) }, dmesgStyle)},
	{"cat -n, no times", counting(func(i int, _ logLine) string { return fmt.Sprintf("%6d\t", 998+i) }, alone)},
	{"grep over files", before("kern.log:", syslogStyle)},
	{"grep over files with a path", before("/var/log/kern.log.1:", syslogStyle)},
	{"grep -n over files", counting(func(i int, _ logLine) string { return fmt.Sprintf("var/log/messages:%d:", 9998+i) }, syslogStyle)},
	{"grep over dmesg files", before("dmesg.0:", dmesgStyle)},
	{"grep over files, no times", before("node-1.txt:", alone)},
	{"zgrep with context", before("/var/log/kern.log.2.gz-", syslogStyle)},
	{"OpenWrt", counting(func(_ int, l logLine) string {
		return l.wall().Format("Mon Jan _2 15:04:05 2006") + " kern.warn kernel: "
	}, dmesgStyle)},
	{"BusyBox", counting(func(_ int, l logLine) string {
		return l.wall().Format("Jan _2 15:04:05") + " worker-3 kern.warn kernel: "
	}, dmesgStyle)},
	{"dmesg -T, German", dmesgDateStyle("Mi Nov", "")},
	{"dmesg -T, French", dmesgDateStyle("mer. nov.", "")},
	{"dmesg -T, Japanese", dmesgDateStyle("水 11月", "")},
	{"dmesg -T, Russian", dmesgDateStyle("Ср ноя", "")},
	{"dmesg -T, an unknown language", dmesgDateStyle("Xy zzzz.", "")},
	{"dmesg -T with a zone", dmesgDateStyle("Wed Nov", " UTC")},
	{"journal, French", journalStyle("nov.")},
	{"journal, Finnish", journalStyle("marras")},
	{"journal, an unknown language", journalStyle("zzzz.")},
	{"netconsole with the release", func(i int, l logLine) string {
		return fmt.Sprintf("6.8.0-45-generic,4,%d,%d,-;%s", 1000+i, l.uptimeUS, escapeKmsg(l.text))
	}},
	{"netconsole by way of a receiver", func(i int, l logLine) string {
		return fmt.Sprintf("10.0.0.7 6.8.0,4,%d,%d,-;%s", 1000+i, 1e9+l.uptimeUS, escapeKmsg(l.text))
	}},
	{"multilog", counting(func(_ int, l logLine) string {
		return fmt.Sprintf("@%016x%08x ", 1<<62+10+l.wall().Unix(), l.wall().Nanosecond())
	}, alone)},
	{"multilog, dmesg", counting(func(_ int, l logLine) string {
		return fmt.Sprintf("@%016x%08x ", 1<<62+10+l.wall().Unix(), l.wall().Nanosecond())
	}, dmesgStyle)},
	{"RingLogger", counting(func(_ int, l logLine) string { return l.wall().Format("15:04:05.000") + " [warn] " }, alone)},
	{"changing severities", counting(func(i int, l logLine) string {
		return l.wall().Format("15:04:05.000") + [...]string{" [warn] ", " [info] ", " [error] "}[i%3]
	}, alone)},
	{"Go's log package", counting(func(_ int, l logLine) string { return l.wall().Format("2006/01/02 15:04:05 ") }, alone)},
	{"klog", counting(func(_ int, l logLine) string { return l.wall().Format("I0102 15:04:05.000000       1 kmsg.go:12] ") }, alone)},
	{"logfmt", func(_ int, l logLine) string {
		return each(l, func(text string) string {
			return l.wall().Format("ts=15:04:05.000") + ` level=warn component=kmsg msg="` + strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`) + `"`
		})
	}},
	{"journalctl -o json-sse", func(i int, l logLine) string {
		return "data: " + jsonStyle(`{"MESSAGE":%s,"_TRANSPORT":"kernel"}`, false)(i, l)
	}},
	{"journalctl -o json-seq", func(i int, l logLine) string {
		return "\x1e" + jsonStyle(`{"MESSAGE":%s,"_TRANSPORT":"kernel"}`, false)(i, l)
	}},
	{"journalctl -o json-pretty", jsonStyle("{\n\t\"_TRANSPORT\" : \"kernel\",\n\t\"MESSAGE\" : %s\n}", false)},
	{"journalctl -o export", func(i int, l logLine) string {
		message := "MESSAGE=" + l.text
		if strings.Contains(l.text, "\n") {
			message = "MESSAGE\n" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(l.text)))) + l.text
		}

		return fmt.Sprintf("__CURSOR=s=5f0c;i=%x\n__REALTIME_TIMESTAMP=%d\n_BOOT_ID=5f0c2c1e8e0e4b579b1f3c8f0a4d2e61\n_TRANSPORT=kernel\n%s\nPRIORITY=4\n"+
			"_SOURCE_MONOTONIC_TIMESTAMP=%d\n", i, l.wall().UnixMicro(), message, l.uptimeUS)
	}},
	{"journalctl -o verbose", func(i int, l logLine) string {
		return l.wall().Format("Mon 2006-01-02 15:04:05.000000 MST") + fmt.Sprintf(" [s=5f0c;i=%x;b=5f0c]\n    PRIORITY=4\n    MESSAGE=%s\n    _TRANSPORT=kernel",
			i, strings.ReplaceAll(l.text, "\n", "\n            "))
	}},
	{"Elastic", jsonStyle(`{"@timestamp":"2026-11-20T03:04:05.000Z","message":%s,"host":{"name":"worker-3"}}`, true)},
	{"Elastic, an element of a list", jsonStyle(`{"_source":{"event":{"original":%s},"@timestamp":"2026-11-20T03:04:05.000Z"}},`, true)},
	{"fluent-bit", func(i int, l logLine) string {
		return each(l, func(text string) string {
			return fmt.Sprintf(`{"priority":4,"sequence":%d,"sec":%d,"usec":%d,"msg":%s}`, i, l.uptimeUS/1e6, l.uptimeUS%1e6, quote(text))
		})
	}},
	{"Google Cloud", jsonStyle(`{"jsonPayload":{"MESSAGE":%s,"SYSLOG_IDENTIFIER":"kernel","_TRANSPORT":"kernel"},"timestamp":"2026-11-20T03:04:05.000100Z"}`, false)},
	{"Google Cloud, text", jsonStyle("{\n  \"textPayload\": %s,\n  \"labels\": [ {\"a\": \"b\"}, {\"c\": 1} ],\n  \"timestamp\": \"2026-11-20T03:04:05Z\"\n}", true)},
	{"Loki", jsonStyle(`{"line":%s,"timestamp":"2026-11-20T03:04:05.000100Z"}`, true)},
	{"Loki, no times", jsonStyle(`{"labels":{"job":"kmsg"},"line":%s,"timestamp":"2026-11-20T03:04:05.000100Z"}`, false)},
	{"JSON with keys that nobody knows", jsonStyle(`{"zeit":"gestern","nachricht":%s}`, false)},
	{"dmesg -J", func(i int, l logLine) string {
		start := "      },{\n"
		if i == 0 {
			start = "{\n   \"dmesg\": [\n      {\n"
		}

		return start + fmt.Sprintf("         \"pri\": 4,\n         \"time\": %5d.%06d,\n         \"msg\": %s", l.uptimeUS/1e6, l.uptimeUS%1e6, quote(l.text))
	}},
	{"a byte order mark", func(i int, l logLine) string {
		if i == 0 {
			return "\ufeff" + dmesgStyle(i, l)
		}

		return dmesgStyle(i, l)
	}},
	{"blanks behind", func(i int, l logLine) string { return strings.ReplaceAll(dmesgStyle(i, l), "\n", "   \n") + "   " }},
	{"CRLF", func(i int, l logLine) string { return strings.ReplaceAll(dmesgStyle(i, l), "\n", "\r\n") + "\r" }},
	{"zeros behind", func(i int, l logLine) string { return dmesgStyle(i, l) + "\x00" }},
	{"escaped line ends", func(i int, l logLine) string { return syslogStyle(i, l) + "#012" }},
}

// wholeReports are the names of logs with whole reports, each without ".txt".
func wholeReports(t testing.TB) []string {
	t.Helper()

	files, err := filepath.Glob("testdata/dmesg/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}

	names := []string{"testdata/reports/4.18-rhel8-memcg", "testdata/reports/3.10-memcg-child", "testdata/reports/4.4-global"}
	for _, file := range files {
		names = append(names, strings.TrimSuffix(file, ".txt"))
	}

	return names
}

// written returns a report in the format of a variant.
func (v variant) written(lines []logLine) string {
	var log strings.Builder
	for i, l := range lines {
		log.WriteString(v.write(i, l) + "\n")
	}

	return log.String() + v.end()
}

// end returns what ends a log of the variant.
func (v variant) end() string {
	if v.name == "dmesg -J" {
		return "      }\n   ]\n}\n"
	}

	return ""
}

// TestCarriersOnlyAddTheirPrefix reads whole reports by way of every carrier: the incidents
// differ only in what the carrier adds.
func TestCarriersOnlyAddTheirPrefix(t *testing.T) {
	for i, name := range wholeReports(t) {
		if i%thin(6) != 0 {
			continue
		}

		lines := records(dmesgLines(t, name+".txt"))
		timed := masked(parse(t, variant{"", dmesgStyle}.written(lines), Options{}))
		timeless := masked(parse(t, variant{"", alone}.written(lines), Options{}))

		for _, carrier := range carriers {
			t.Run(filepath.Base(name)+"/"+carrier.name, func(t *testing.T) {
				got := parse(t, carrier.written(lines), Options{})

				want := timed
				if len(got) > 0 && got[0].Log.UptimeNS == nil && slices.Contains(got[0].Unknown, "time") {
					want = timeless // what follows from times is not known
				}

				masked(got)

				if !reflect.DeepEqual(got, want) {
					t.Errorf("got %d incidents, want %d; they differ:\n%s", len(got), len(want), difference(show(t, got), show(t, want)))
				}
			})
		}
	}
}

func masked(list []*events.Incident) []*events.Incident {
	for _, inc := range list {
		maskFormat(inc)
	}

	return list
}

// TestTwoSourcesInOneLogAreKeptApart has two containers write at once.
func TestTwoSourcesInOneLogAreKeptApart(t *testing.T) {
	a := records(dmesgLines(t, "testdata/dmesg/6.12.117-memcg-leaf.txt"))
	b := records(dmesgLines(t, "testdata/dmesg/7.3.4-memcg-oom-group.txt"))

	for _, prefixes := range [][2]string{
		{"[pod/dmesg-x7k2p/dmesg] ", "[pod/dmesg-b9q4z/dmesg] "}, {"dmesg-1  | ", "dmesg-2  | "}, {"node-1.txt:", "node-2.txt:"},
	} {
		first, second := variant{"", before(prefixes[0], alone)}, variant{"", before(prefixes[1], alone)}
		want := append(masked(parse(t, first.written(a), Options{})), masked(parse(t, second.written(b), Options{}))...)

		var mixed strings.Builder

		for i := range max(len(a), len(b)) {
			if i < len(a) {
				mixed.WriteString(first.write(i, a[i]) + "\n")
			}

			if i < len(b) {
				mixed.WriteString(second.write(i, b[i]) + "\n")
			}
		}

		got := masked(parse(t, mixed.String(), Options{}))
		byTrigger := func(a, b *events.Incident) int {
			return strings.Compare(brief([]*events.Incident{a}), brief([]*events.Incident{b}))
		}
		slices.SortFunc(got, byTrigger)
		slices.SortFunc(want, byTrigger)

		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got and want differ:\n%s", prefixes, difference(show(t, got), show(t, want)))
		}
	}
}
