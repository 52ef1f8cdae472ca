// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// flatten returns the keys and values of an incident. Elements of lists are named by what
// identifies them.
func flatten(t testing.TB, inc *events.Incident) map[string]string {
	t.Helper()

	line, err := events.Marshal(inc)
	if err != nil {
		t.Fatal(err)
	}

	var value any
	if err := json.Unmarshal(line, &value); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	var walk func(key string, v any)
	walk = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				walk(strings.TrimPrefix(key+"."+k, "."), inner)
			}
		case []any:
			for i, inner := range v {
				name := fmt.Sprint(i)

				if m, ok := inner.(map[string]any); ok {
					cgroup, _ := m["cgroup"].(map[string]any)
					switch {
					case m["pid"] != nil:
						name = fmt.Sprint(m["pid"])
					case m["zone"] != nil:
						name = fmt.Sprint(m["node"], m["zone"])
					case m["name"] != nil:
						name = fmt.Sprint(m["name"])
					case cgroup != nil:
						name = fmt.Sprint(cgroup["path"])
					}
				}

				walk(key+"["+name+"]", inner)
			}
		default:
			out[key] = fmt.Sprint(v)
		}
	}
	walk("", value)

	for key := range out {
		switch strings.TrimRight(strings.Split(key, "[")[0], "]") {
		case "id", "time", "v", "kind", "log.first_line", "log.last_line", "log.uptime_ns", "log.truncated", "notes", "unknown":
			delete(out, key)
		}
	}

	return out
}

// plain returns a key without the names of list elements, as unknown has it.
func plain(key string) string {
	var b strings.Builder
	depth := 0

	for _, c := range key {
		switch c {
		case '[':
			depth++
		case ']':
			depth--
		default:
			if depth == 0 {
				b.WriteRune(c)
			}
		}
	}

	return b.String()
}

// unsure reports whether a value is marked as concluded, or means nothing.
func unsure(inc *events.Incident, key, value string) bool {
	name := plain(key)
	for _, u := range inc.Unknown {
		if name == u || strings.HasPrefix(name, u+".") {
			return true
		}
	}

	noConstraint := slices.Contains(inc.Unknown, "constraint")
	switch {
	case noConstraint && (name == "scope" || name == "killer.path" || name == "allocation.class" || strings.HasPrefix(name, "limiter.")):
		return true
	case name == "scope" && value == string(events.ScopeUnknown), name == "killer.path" && value == "unknown":
		return true
	case name == "victims.role" && value == string(events.RoleUnknown):
		return true
	case strings.HasPrefix(name, "passes."):
		return true
	}

	return false
}

// gapTest checks that each incident of a log with gaps has no value that an incident of the
// whole log does not have.
type gapTest struct {
	whole []map[string]string
	// inherent are differences that no reader could notice.
	inherent func(key, got, want string) bool
}

func (h *gapTest) check(t *testing.T, what, log string) bool {
	t.Helper()

	for _, inc := range parse(t, log, Options{}) {
		got := flatten(t, inc)
		var why []string

		for _, want := range h.whole {
			var differs []string

			for key, value := range got {
				if full, ok := whatItWas(want, key, got["chosen.pid"]); full != value && !unsure(inc, key, value) && !h.inherent(key, value, full) {
					differs = append(differs, fmt.Sprintf("%s: got %q, want %q (known: %v)", key, value, full, ok))
				}
			}

			if why == nil || len(differs) < len(why) {
				why = differs
				if why == nil {
					why = []string{}
				}
			}
		}

		if len(why) > 0 {
			slices.Sort(why)
			t.Errorf("%s: got differences, notes %q and unknown %q, want the values of the whole log:\n%s",
				what, inc.Notes, inc.Unknown, strings.Join(why[:min(len(why), 5)], "\n"))

			return false
		}
	}

	return true
}

// sameKiB reports whether two numbers of bytes are less than a kB apart.
func sameKiB(got, want string) bool {
	var a, b float64
	_, err1 := fmt.Sscan(got, &a)
	_, err2 := fmt.Sscan(want, &b)

	return err1 == nil && err2 == nil && max(a, b)-min(a, b) < 1024
}

// whatItWas returns the value of a key in the whole log. The chosen process is among the victims
// there, if the kill was lost.
func whatItWas(whole map[string]string, key, chosen string) (value string, known bool) {
	if value, known = whole[key]; known || !strings.HasPrefix(key, "chosen.") {
		return value, known
	}
	value, known = whole[strings.Replace(key, "chosen", "victims["+chosen+"]", 1)]

	return value, known
}

func newGapTest(t testing.TB, log string) *gapTest {
	h := &gapTest{}

	legacy := strings.Contains(log, ": cache:")
	for _, inc := range parse(t, log, Options{}) {
		h.whole = append(h.whole, flatten(t, inc))
	}
	h.inherent = func(key, got, want string) bool {
		name := plain(key)
		switch {
		case name == "allocation.class": // a frame is missing
			return true
		case name == "killer.path": // the line that announces the group is missing
			return got == "memcg" && want == "group"
		case strings.HasPrefix(name, "node_state.hugetlb"): // one of several sizes
			return true
		case name == "victims.pgtables_bytes": // of the kill in kB, of the task table in bytes
			return sameKiB(got, want)
		case legacy && strings.HasPrefix(name, "memory."): // one of several cgroups
			return true
		}

		return false
	}

	return h
}

var gapLogs = []string{
	"dmesg/7.3.4-memcg-oom-group", "dmesg/5.10.0-32-memcg-parent-limit", "dmesg/6.12.117-cpuset", "dmesg/6.1.0-56-mempolicy", "dmesg/7.3.4-sysrq-f",
	"dmesg/6.1.0-56-memcg-v1-parent-limit", "dmesg/6.18.44-nokprobes-memcg-v1-parent-limit",
	"reports/3.10-memcg-child", "reports/3.10-sysrq", "reports/4.4-global", "reports/4.14-memcg-tree", "reports/4.18-rhel8-memcg",
	"reports/5.0-memcg-constraint-none", "reports/5.15-panic", "reports/6.12-deadlock-pstore", "reports/rate-limited",
}

// TestGapsCostFieldsAndChangeNone removes lines: at the end, at the start, ranges, single and
// random ones; and bytes of the end.
func TestGapsCostFieldsAndChangeNone(t *testing.T) {
	for _, name := range gapLogs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := readFile(t, "testdata/"+name+".txt")
			lines := strings.SplitAfter(log, "\n")
			h := newGapTest(t, log)

			n := len(lines)
			for i := 0; i < n; i += thin(7) {
				if !h.check(t, fmt.Sprintf("the first %d lines", i), strings.Join(lines[:i], "")) ||
					!h.check(t, fmt.Sprintf("from line %d on", i+1), strings.Join(lines[i:], "")) {
					return
				}

				for _, size := range []int{1, 2, 7, 30} {
					if i+size > n || i%((size+3)/2) != 0 {
						continue
					}

					if !h.check(t, fmt.Sprintf("without lines %d to %d", i+1, i+size), strings.Join(lines[:i], "")+strings.Join(lines[i+size:], "")) {
						return
					}
				}
			}

			for i := 0; i < len(log); i += 31 * thin(7) {
				if !h.check(t, fmt.Sprintf("the first %d bytes", i), log[:i]) {
					return
				}
			}

			random := rand.New(rand.NewPCG(1, 2))
			for round := range 60 / thin(6) {
				keep := random.Float64()
				var some strings.Builder

				for _, line := range lines {
					if random.Float64() < keep {
						some.WriteString(line)
					}
				}

				if !h.check(t, fmt.Sprintf("random lines, round %d", round), some.String()) {
					return
				}
			}
		})
	}
}

// thin returns by how much a test is thinned out with -short.
func thin(short int) int {
	if testing.Short() {
		return short
	}

	return 1
}

// shift moves all times of a dmesg log.
func shift(t testing.TB, log string, seconds float64) string {
	t.Helper()
	var out strings.Builder

	for line := range strings.Lines(log) {
		stamp, rest, found := strings.Cut(line, "]")

		var at float64
		if _, err := fmt.Sscanf(strings.TrimLeft(stamp, "[ "), "%f", &at); err != nil || !found {
			out.WriteString(line)
			continue
		}

		fmt.Fprintf(&out, "[%12.6f]%s", at+seconds, rest)
	}

	return out.String()
}

// TestGapsAcrossReportsDoNotMixThem removes ranges from a log of several reports, so that the
// start of one comes before the end of another.
func TestGapsAcrossReportsDoNotMixThem(t *testing.T) {
	testenv.Slow(t, "parses thousands of cut logs")

	log := ""

	for i, name := range []string{"7.3.4-memcg-oom-group", "6.12.117-memcg-leaf", "6.1.0-56-global", "7.3.4-sysrq-f", "6.12.117-memcg-parent-limit"} {
		one := readFile(t, "testdata/dmesg/"+name+".txt")
		first := parse(t, one, Options{})[0]
		log += shift(t, one, float64(100+20*i)-float64(*first.Log.UptimeNS)/1e9)
	}
	lines := strings.SplitAfter(log, "\n")

	h := newGapTest(t, log)
	if len(h.whole) != 6 {
		t.Fatalf("got %d incidents, want those of all reports", len(h.whole))
	}

	random := rand.New(rand.NewPCG(3, 4))
	for range 300 / thin(10) {
		from := random.IntN(len(lines))

		to := min(from+random.IntN(200), len(lines))
		if !h.check(t, fmt.Sprintf("without lines %d to %d", from+1, to), strings.Join(lines[:from], "")+strings.Join(lines[to:], "")) {
			return
		}
	}
}

// TestGapsBetweenCloseReportsDoNotMixThem has one report right after the other: only their
// content distinguishes them.
func TestGapsBetweenCloseReportsDoNotMixThem(t *testing.T) {
	testenv.Slow(t, "parses thousands of cut logs")

	a := readFile(t, "testdata/dmesg/6.12.117-memcg-leaf.txt")
	for _, name := range []string{"6.12.117-memcg-parent-limit", "6.1.0-56-mempolicy", "7.3.4-memcg-oom-group"} {
		b := readFile(t, "testdata/dmesg/"+name+".txt")
		end, begin := parse(t, a, Options{})[0], parse(t, b, Options{})[0]
		b = shift(t, b, float64(*end.Log.UptimeNS)/1e9-float64(*begin.Log.UptimeNS)/1e9+0.5)
		h := newGapTest(t, a+b)
		first, second := strings.SplitAfter(a, "\n"), strings.SplitAfter(b, "\n")

		table := slices.IndexFunc(first, func(s string) bool { return strings.Contains(s, "Tasks state") })
		for i := table + 1; i < len(first); i++ {
			for j := i % 3; j < len(second); j += 3 {
				what := fmt.Sprintf("%s: %d lines of the first, the second from line %d on", name, i, j+1)
				if !h.check(t, what, strings.Join(first[:i], "")+strings.Join(second[j:], "")) {
					return
				}
			}
		}
	}
}

// TestInterleavedReportsAreSeparatedByTheirCaller has two CPUs write at once.
func TestInterleavedReportsAreSeparatedByTheirCaller(t *testing.T) {
	files := []string{"6.12.117-memcg-leaf", "6.12.117-memcg-parent-limit", "7.3.4-memcg-oom-group"}
	var logs [][]string
	var want []map[string]string

	for i, name := range files {
		text := readFile(t, "testdata/dmesg/"+name+".txt")
		want = append(want, flatten(t, parse(t, text, Options{})[0]))
		at := parse(t, text, Options{})[0].Log.UptimeNS

		var lines []string
		for line := range strings.Lines(shift(t, text, 500-float64(*at)/1e9)) {
			lines = append(lines, strings.Replace(line, "]", fmt.Sprintf("][ T%d]", 900+i), 1))
		}

		logs = append(logs, lines)
	}
	random := rand.New(rand.NewPCG(5, 6))

	for range 50 {
		var mixed strings.Builder
		next := make([]int, len(logs))

		for left := true; left; {
			left = false

			for i := range logs {
				for n := random.IntN(4); n > 0 && next[i] < len(logs[i]); n-- {
					mixed.WriteString(logs[i][next[i]])
					next[i]++
				}
				left = left || next[i] < len(logs[i])
			}
		}

		got := parse(t, mixed.String(), Options{})
		if len(got) != len(files) {
			t.Fatalf("got %d incidents, want one for each caller", len(got))
		}

		for _, inc := range got {
			one := flatten(t, inc)
			if !slices.ContainsFunc(want, func(w map[string]string) bool { return maps.Equal(w, one) }) {
				t.Fatalf("got values of the other report: %v, want none", one)
			}
		}
	}
}

// TestNewestLineFirst: log stores and journalctl -r print in that order.
func TestNewestLineFirst(t *testing.T) {
	files, err := filepath.Glob("testdata/dmesg/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("got %d files and error %v, want real logs", len(files), err)
	}

	newestFirst := func(lines []string) bool {
		stats, err := Read(strings.NewReader(strings.Join(lines, "\n")), Options{Now: now}, func(*events.Incident) error { return nil })
		if err != nil {
			t.Fatal(err)
		}

		return stats.NewestFirst
	}

	seen := 0

	for _, file := range files {
		lines := strings.Split(readFile(t, file), "\n")
		if newestFirst(lines) {
			t.Errorf("%s: got it as newest first, want oldest first", file)
		}

		slices.Reverse(lines)

		// Three times are needed: of two, the second may be of another boot.
		got := newestFirst(lines)
		if want := len(uptimesIn(lines)) > 2; got != want {
			t.Errorf("%s, reversed: got newest first %v, want %v", file, got, want)
		}

		if got {
			seen++
		}
	}

	if seen < len(files)/2 {
		t.Errorf("got %d of %d logs as newest first, want most", seen, len(files))
	}

	kill := "Out of memory: Killed process 7 (a) total-vm:4kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0"
	report := strings.Split(readFile(t, files[0]), "\n")

	for name, lines := range map[string][]string{
		"boots, one kill each": {
			"2026-11-20T03:00:00Z vm kernel: [ 900.0] " + kill, "2026-11-20T04:00:00Z vm kernel: [ 800.0] " + kill,
			"2026-11-20T05:00:00Z vm kernel: [ 700.0] " + kill, "2026-11-20T06:00:00Z vm kernel: [ 600.0] " + kill,
		},
		"boots, uptimes alone": {"[ 900.0] " + kill, "[ 800.0] " + kill, "[ 700.0] " + kill, "[ 600.0] " + kill},
		"the newest file first": slices.Concat(report, []string{
			"[ 30.0] " + kill, "[ 31.0] " + kill, "[ 20.0] " + kill, "[ 21.0] " + kill, "[ 10.0] " + kill, "[ 11.0] " + kill,
		}),
	} {
		if newestFirst(lines) {
			t.Errorf("%s: got it as newest first, want oldest first", name)
		}
	}
}

func uptimesIn(lines []string) map[string]bool {
	times := map[string]bool{}

	for _, line := range lines {
		if time, _, found := strings.Cut(line, "]"); found {
			times[time] = true
		}
	}

	return times
}
