// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// pieceLogs are whole reports: made ones, and those of real kernels.
var pieceLogs = append(slices.Clone(gapLogs), "cases/report-v1", "cases/report-v2", "cases/report-node", "dmesg/6.12.117-memcg-leaf",
	"dmesg/6.18.15-global", "dmesg/7.3.4-memcg-tmpfs", "dmesg/5.10.0-32-memcg-multithread")

// habits are the patterns by which people search logs for OOM kills.
var habits = []string{
	`oom`, `(?i)kill`, `invoked|Killed`, `memory`, `oom-kill:`, `Task in|Killed`, `oom|kill`, `Killed`, `oom-kill|Killed`, `(?i)out of memory`,
	`(?i)oom|killed`,
}

// pieceTest compares what is left of a log with the whole log.
type pieceTest struct {
	*gapTest
	incidents int
	victims   map[int]bool
}

func newPieceTest(t testing.TB, log string) *pieceTest {
	h := &pieceTest{gapTest: newGapTest(t, log), victims: map[int]bool{}}

	list := parse(t, log, Options{})
	h.incidents = len(list)

	for _, v := range victimsOf(list) {
		h.victims[v.PID] = true
	}

	return h
}

func victimsOf(list []*events.Incident) []events.Victim {
	var all []events.Victim
	for _, inc := range list {
		all = append(all, inc.Victims...)
	}

	return all
}

// check reports whether no value of a log differs from the whole log, no incident becomes
// several, and no kill is reported twice or invented.
func (h *pieceTest) check(t *testing.T, what, log string) bool {
	t.Helper()

	if !h.gapTest.check(t, what, log) {
		return false
	}

	list := parse(t, log, Options{})
	if len(list) > h.incidents {
		t.Errorf("%s: got %d incidents, want at most %d:\n%s", what, len(list), h.incidents, brief(list))
		return false
	}

	seen := map[int]bool{}

	for _, v := range victimsOf(list) {
		if !h.victims[v.PID] || seen[v.PID] {
			t.Errorf("%s: got victim %d, want each of %v once", what, v.PID, h.victims)
			return false
		}

		seen[v.PID] = true
	}

	return true
}

// underSyslog puts the prefix of a syslog file before each line.
func underSyslog(log string) string {
	return "Nov 20 03:04:05 n1 kernel: " + strings.ReplaceAll(strings.TrimSuffix(log, "\n"), "\n", "\nNov 20 03:04:05 n1 kernel: ") + "\n"
}

// eachPieceLog runs a test for each log.
func eachPieceLog(t *testing.T, test func(t *testing.T, log string, h *pieceTest)) {
	t.Helper()

	for i := 0; i < len(pieceLogs); i += thin(3) {
		name := pieceLogs[i]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := readFile(t, "testdata/"+name+".txt")
			test(t, log, newPieceTest(t, log))
		})
	}
}

// grep returns the lines that match a pattern.
func grep(pattern, log string) string {
	matches := regexp.MustCompile(pattern)
	var out strings.Builder

	for line := range strings.Lines(log) {
		if matches.MatchString(line) {
			out.WriteString(line)
		}
	}

	return out.String()
}

func TestAGrepLeavesOneIncident(t *testing.T) {
	eachPieceLog(t, func(t *testing.T, log string, h *pieceTest) {
		for _, pattern := range habits {
			h.check(t, pattern, grep(pattern, log))
		}
	})
}

func TestALineLessLeavesOneIncident(t *testing.T) {
	eachPieceLog(t, func(t *testing.T, log string, h *pieceTest) {
		lines := strings.SplitAfter(log, "\n")
		for i := 0; i < len(lines); i += thin(5) {
			h.check(t, fmt.Sprintf("without line %d", i+1), strings.Join(lines[:i], "")+strings.Join(lines[i+1:], ""))
		}
	})
}

// cutLines cuts lines at a width. A pager puts its mark into the last column.
func cutLines(log string, width int, mark string) string {
	var out strings.Builder

	for line := range strings.Lines(log) {
		if text := strings.TrimSuffix(line, "\n"); len(text) > width {
			line = text[:width-len(mark)] + mark + "\n"
		}

		out.WriteString(line)
	}

	return out.String()
}

func TestCutLinesAreNotBelieved(t *testing.T) {
	eachPieceLog(t, func(t *testing.T, log string, h *pieceTest) {
		syslog := underSyslog(log)
		other := newPieceTest(t, syslog)

		for width := 60; width <= 160; width += thin(13) {
			for _, mark := range []string{">", ""} {
				h.check(t, fmt.Sprintf("%d columns, mark %q", width, mark), cutLines(log, width, mark))
				other.check(t, fmt.Sprintf("syslog, %d columns, mark %q", width, mark), cutLines(syslog, width, mark))
			}
		}
	})
}

// wrapLines breaks lines at a width.
func wrapLines(log string, width int) string {
	var out strings.Builder

	for line := range strings.Lines(log) {
		for len(line) > width+1 {
			out.WriteString(line[:width] + "\n")
			line = line[width:]
		}

		out.WriteString(line)
	}

	return out.String()
}

func TestWrappedLinesAreJoinedOrCut(t *testing.T) {
	eachPieceLog(t, func(t *testing.T, log string, h *pieceTest) {
		for _, width := range []int{80, 100, 120} {
			h.check(t, fmt.Sprintf("%d columns", width), wrapLines(log, width))
		}
	})
}

// A line that was cut is not continued by the next, and a line that only looks like a rest is none.
func TestACutLineIsNotContinued(t *testing.T) {
	log := stamped(t, 10, headerOf("hog", 7)+limitsOf("/a")+tableOf("hog", 7, 8)+summaryOf("/a", "/a", "hog", 7)+killOf("hog", 7))

	for name, test := range map[string]struct{ log, want string }{
		"cut, with times": {cutLines(log, 80, ""), "memcg killed: hog in /a by memcg, chosen hog[7]"},
		"cut, no times":   {cutLines(killOf("hog", 7)+"usb 1-1: new device\n", 60, ""), "memcg killed: - in - by memcg, unknown [7]"},
		"two kills":       {cutLines(killOf("hog", 7)+killOf("hog", 8), 70, ""), "memcg killed: - in - by memcg, unknown hog[7]\nmemcg killed: - in - by memcg, unknown hog[8]"},
		"wrapped, no times": {
			wrapLines(killOf("hog", 7)+killOf("hog", 8), 70), "memcg killed: - in - by memcg, unknown hog[7]\nmemcg killed: - in - by memcg, unknown hog[8]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := brief(parse(t, test.log, Options{})); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}
