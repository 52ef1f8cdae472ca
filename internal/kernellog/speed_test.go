// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// noise has lines that every kernel log contains.
var noise = []string{
	"audit: type=1400 audit(1764037291.123:871): apparmor=\"DENIED\" operation=\"open\" profile=\"/usr/sbin/x\" pid=871 comm=\"x\"",
	"eth0: renamed from veth3f2a91c",
	"IPv6: ADDRCONF(NETDEV_CHANGE): cali6ba0af16: link becomes ready",
	"TCP: request_sock_TCP: Possible SYN flooding on port 443. Sending cookies. Check SNMP counters.",
	"EXT4-fs (sda1): re-mounted. Opts: errors=remount-ro",
	"nginx[4711]: segfault at 0 ip 00007f1c2d3e4f50 sp 00007ffc11223344 error 4 in libc.so.6[7f1c2d200000+195000]",
	"Call Trace:",
	" dump_stack_lvl+0x44/0x5c",
	"blk_update_request: I/O error, dev sdb, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0",
	"systemd-journald[311]: Received client request to flush runtime journal, and it will still be of use.",
}

// generate writes a log with n reports, each after 900 other lines.
func generate(t testing.TB, n int, v variant) (log []byte, lines int) {
	t.Helper()

	files, err := filepath.Glob("testdata/dmesg/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var out bytes.Buffer
	at := uint64(1e6)
	write := func(text string) {
		out.WriteString(v.write(lines, logLine{at, text}) + "\n")
		lines++
	}

	for i := range n {
		for j := range 900 {
			at += 700

			write(noise[j%len(noise)])
		}

		for _, l := range dmesgLines(t, files[i%len(files)]) {
			at += 5

			write(l.text)
		}
	}

	out.WriteString(v.end())

	return out.Bytes(), lines
}

// BenchmarkRead reads logs of some 100 000 records. Its metric is the time for one: a million
// takes as many milliseconds as one takes nanoseconds.
func BenchmarkRead(b *testing.B) {
	for _, c := range slices.Concat(formats, carriers) {
		switch c.name {
		case "dmesg", "kmsg", "journal short", "journal json", "RFC 5424",
			"stern", "compose, no times", "grep over files", "Loki", "dmesg -J", "logfmt":
		default:
			continue
		}

		b.Run(c.name, func(b *testing.B) {
			log, lines := generate(b, 100, c)
			b.SetBytes(int64(len(log)))
			b.ReportAllocs()
			found := 0

			for b.Loop() {
				stats, err := Read(bytes.NewReader(log), Options{Now: now}, func(*events.Incident) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
				found = stats.Incidents
			}

			if found < 100 {
				b.Fatalf("got %d incidents, want at least 100", found)
			}

			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(lines), "ns/line")
		})
	}
}

// TestEveryReportOfALongLogIsFound reads logs of 60 000 lines, which take some 50 ms. The
// bound on the time is wide: it shows only that no line is searched again and again.
func TestEveryReportOfALongLogIsFound(t *testing.T) {
	for _, c := range slices.Concat(formats[:1], carriers) {
		switch c.name {
		case "dmesg", "stern", "compose, no times", "grep over files", "Loki", "dmesg -J":
		default:
			continue
		}

		t.Run(c.name, func(t *testing.T) {
			log, lines := generate(t, 62, c)
			killed, start := 0, time.Now()

			if _, err := Read(bytes.NewReader(log), Options{Now: now}, func(inc *events.Incident) error {
				killed += len(inc.Victims)
				return nil
			}); err != nil {
				t.Fatal(err)
			}

			if took, limit := time.Since(start), time.Duration(lines)*100*time.Microsecond; took > limit {
				t.Errorf("%d lines took %v, want less than %v", lines, took, limit)
			}

			want := bytes.Count(log, []byte("Killed process")) - 5 // the chosen one of a group is logged twice
			if killed != want {
				t.Errorf("got %d victims, want %d", killed, want)
			}
		})
	}
}

// TestLongLineDoesNotDisturbOthers: a line of any length needs a bounded buffer and is
// counted.
func TestLongLineDoesNotDisturbOthers(t *testing.T) {
	long := strings.Repeat("x", 3*MaxLineBytes) + "\n"
	log := long + killOf("a", 1) + "[ 1.0] " + long + killOf("b", 2) + strings.Repeat("y", MaxLineBytes+1)
	var got []string

	stats, err := Read(strings.NewReader(log), Options{Now: now}, func(inc *events.Incident) error {
		got = append(got, inc.Victims[0].Comm)
		return nil
	})
	if err != nil || fmt.Sprint(got) != "[a b]" || stats.CutLines != 3 || stats.Lines != 5 {
		t.Errorf("got %v, %+v, error %v, want the incident and one cut line", got, stats, err)
	}
}

// TestListOnOneLine: log stores answer with all lines in one list, and some without a newline.
func TestListOnOneLine(t *testing.T) {
	report := readFile(t, "testdata/cases/carrier-plain.txt")
	plain := parse(t, report, Options{})

	maskFormat(plain[0])

	pad := strings.Repeat("a daemon writes a line\n", 2*MaxLineBytes/23)

	for name, answer := range map[string]struct{ start, line, next, end string }{
		"Loki":          {`{"status":"success","data":{"resultType":"streams","result":[{"stream":{"job":"k"},"values":[`, `["1795143845000100000",%s]`, ",", `]}],"stats":{}}}`},
		"Loki, labels":  {`{"data":{"result":[{"values":[`, `["1795143845000100000",%s,{"x":"y"}]`, ",", `]}]}}`},
		"Elasticsearch": {`{"hits":{"total":9,"hits":[`, `{"_id":"1","_source":{"@timestamp":"2026-11-20T03:04:05Z","message":%s}}`, ", ", `]}}`},
		"CloudWatch":    {`{ "events": [ `, `{ "timestamp": 1795143845000, "message": %s }`, ", ", ` ], "nextToken": "f/3" }`},
		"Graylog":       {`[`, `{"message":{"timestamp":"2026-11-20T03:04:05Z","message":%s}}`, ",", `]`},
	} {
		for _, padding := range []string{"", pad} {
			var lines []string

			for line := range strings.Lines(padding + report) {
				text, err := json.Marshal(strings.TrimSuffix(line, "\n"))
				if err != nil {
					t.Fatal(err)
				}

				lines = append(lines, fmt.Sprintf(answer.line, text))
			}

			got := parse(t, answer.start+strings.Join(lines, answer.next)+answer.end, Options{})
			if len(got) != 1 {
				t.Errorf("%s, %d bytes more: got %d incidents, want one", name, len(padding), len(got))
				continue
			}

			maskFormat(got[0])

			if !reflect.DeepEqual(got, plain) {
				t.Errorf("%s, %d bytes more: got and want differ:\n%s", name, len(padding), difference(show(t, got), show(t, plain)))
			}
		}
	}
}

// TestListWithAFault: what is too long or missing in a list is counted, and the rest is read.
func TestListWithAFault(t *testing.T) {
	kill := strings.TrimSpace(killOf("a", 1))
	other := strings.TrimSpace(killOf("b", 2))
	element := func(text string) string { return `{"message":` + quote(text) + `},` }
	daemons := strings.Repeat(element("a daemon writes a line"), MaxLineBytes/20)
	long := element(strings.Repeat("x", 3*MaxLineBytes))

	for name, test := range map[string]struct {
		log, want string
		cut       int
	}{
		"an element too long":    {`{"events":[` + element(kill) + long + daemons + element(other) + `{}]}` + "\n", "[a b]", 1},
		"the end is missing":     {`{"events":[` + element(kill) + daemons + element(other) + `{"mess`, "[a b]", 1},
		"no JSON behind it":      {`{"events":[` + element(kill) + daemons + element(other) + "<html>" + daemons + "\n" + killOf("c", 3), "[a b c]", 1},
		"none is in it":          {`{"output":` + quote(strings.Repeat("x", MaxLineBytes)) + "}\n" + killOf("c", 3), "[c]", 1},
		"a message, and a list":  {`{"ident":"agent","msg":"oom seen","events":[` + element(kill) + "{}]}\n", "[]", 0},
		"two strings, no time":   {`{"headers":[["User-Agent",` + quote(kill) + "]]}\n", "[]", 0},
		"brackets, and no value": {`{[{` + "\n" + killOf("c", 3), "[c]", 0},
	} {
		got := []string{}

		stats, err := Read(strings.NewReader(test.log), Options{Now: now}, func(inc *events.Incident) error {
			got = append(got, inc.Victims[0].Comm)
			return nil
		})
		if err != nil || fmt.Sprint(got) != test.want || stats.CutLines != test.cut {
			t.Errorf("%s: got %v, %+v, error %v, want %s and %d cut lines", name, got, stats, err, test.want, test.cut)
		}
	}
}

// TestWhatWasReadBeforeAnErrorIsReported: as of a truncated compressed file.
func TestWhatWasReadBeforeAnErrorIsReported(t *testing.T) {
	kill := strings.TrimSpace(killOf("a", 1))
	broken := errors.New("unexpected end")

	for name, log := range map[string]string{
		"between lines":  killOf("a", 1),
		"in a long line": killOf("a", 1) + strings.Repeat("x", 2*MaxLineBytes),
		"in a list":      `{"events":[{"message":` + quote(kill) + `},` + strings.Repeat(`{"message":"x"},`, MaxLineBytes/8),
	} {
		incidents := 0

		_, err := Read(io.MultiReader(strings.NewReader(log), iotest.ErrReader(broken)), Options{Now: now}, func(*events.Incident) error {
			incidents++
			return nil
		})
		if !errors.Is(err, broken) || incidents != 1 {
			t.Errorf("%s: got %d incidents and error %v, want one and %v", name, incidents, err, broken)
		}
	}
}
