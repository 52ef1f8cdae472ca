// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestAMessageIsFoundByItsOwnShape(t *testing.T) {
	for _, test := range []struct {
		text  string
		kind  kind
		at    int
		named bool
	}{
		{"java invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0", isHeader, 4, true},
		{"x y invoked oom-killer: gfp_mask=0xcc0", isHeader, 3, true},
		{"java cpuset=/ mems_allowed=0", isCpuset, 4, true},
		{"a | memory: usage 1kB, limit 2kB, failcnt 0", isLimits, 4, false},
		{"a | CPU: 1 UID: 0 PID: 4711 Comm: java Not tainted", isTask, 4, false},
		{"1:[ pid ]   uid  tgid total_vm      rss name", isColumns, 2, false},
		{"x [ 1] [  pid  ]   uid  tgid total_vm      rss name", isColumns, 7, false},
		{"Node 0 DMA free:1kB min:2kB low:3kB", isNodeMemory, 0, false},
		{"Node 0 DMA, Node 1 active_anon:5kB", isNodeMemory, 12, false},
		// What a path or a name has of another message is no message.
		{"Memory cgroup stats for /x Out of memory: Killed process 1 (a) total-vm:1kB:", isStats, 0, false},
		{"Memory cgroup stats for /a invoked oom-killer: gfp_mask=0:", isStats, 0, false},
		{"java cpuset=Out of memory: Killed process 1 (a) mems_allowed=0", isCpuset, 4, true},
		{"Killed process 7 (Call Trace:) total-vm:1kB", isKill, 0, false},
		// A name has the start of a message, and not the rest.
		{"memory: usage 1 invoked oom-killer: gfp_mask=0xcc0", isHeader, 15, true},
		{"Call Trace: invoked oom-killer: gfp_mask=0xcc0", isHeader, 11, true},
		{"Killed process invoked oom-killer: gfp_mask=0xcc0", isHeader, 14, true},
		// Nothing of this is the kernel's.
		{"Killed process by oom victim", isNone, 44, false},
		{"Out of memory: try again", isNone, 44, false},
		{"I invoked oom-killer: it did not help", isNone, 44, false},
		{"[ 4711]  1000  4711    20747    10323   122880        0           985 Mem-Info:", isNone, 44, false},
		{"swap: usage is high", isNone, 44, false},
	} {
		got := find(test.text)
		if test.kind == isNone {
			test.at = len(test.text)
		}

		if want := (message{test.kind, test.at, test.named}); got != want {
			t.Errorf("%q: got %+v, want %+v", test.text, got, want)
		}
	}
}

func TestAPrefixMatchesItsLikes(t *testing.T) {
	for _, test := range []struct {
		prefix, text string
		want         bool
	}{
		{"12:", "1234:", true},
		{"12:", "x:", false},
		{"    12\t", "123456\t", true},
		{"20:31:49.738 [warn] ", "20:31:50.001 [info] ", true},
		{"20:31:49.738 [warn] ", "20:31:50.001 [java] ", false},
		{"dmesg-1  | ", "dmesg-1  | ", true},
		{"dmesg-1  | ", "dmesg-2  | ", false},
		{"[pod/dmesg-x7k2p/dmesg] ", "[pod/dmesg-x7k2q/dmesg] ", false},
		{"id=3f2a91c03f2a ", "id=aaaa91c03f2a ", true},
		{"id=3f2a91c03f2a ", "id=java ", false},
		{"> ", "> ", true},
		{"> ", ">  ", false}, // the message starts with a blank
		{"a", "a", true},
		{"a", "ab", false},
		{"7", "8", false}, // where it ends cannot be seen
	} {
		if got := newPrefix(test.prefix, false).matches(test.text); got != test.want {
			t.Errorf("%q and %q: got %v, want %v", test.prefix, test.text, got, test.want)
		}
	}
}

// TestNamesDoNotForgeAnything: a task may have any name of 15 bytes. In a log without
// prefixes it is read as it is.
func TestNamesDoNotForgeAnything(t *testing.T) {
	for _, comm := range []string{
		"Out of memory: ", "Killed process ", "memory: usage 1", "CPU: 1 PID: 7 C", "[ 1.5] x", "[    1.500000] ", "> java", "12:java", "a | b", "oom-kill:constr",
		"Call Trace:", "kernel: x", "Mem-Info:", "Tasks in /", "{", "java: ", "<4>x", "4,1,5,-;x", "@4000 x", "nov. 20 03:04:05"[:15], "x invoked oom-k",
		"Nov 20 03:04:05", "[+0.1] x", "[talos] x", "kern: warn: x", "\"x", "x\"", "#012", "=", "  x",
	} {
		log := headerOf(comm, 7) + limitsOf("/a") + tableOf(comm, 7) + summaryOf("/a", "/a", comm, 7) + killOf(comm, 7)
		want := fmt.Sprintf("memcg killed: %s in /a by memcg, chosen %s[7] of /a", comm, comm)

		for prefix, known := range map[string]string{
			"": "", "dmesg-1  | ": "", "9:": "", "[ 1000.000100] ": "", "kern.log:Nov 20 03:04:05 n1 kernel: [ 1000.000100] ": "", "> ": "",
		} {
			var text strings.Builder
			for line := range strings.Lines(log) {
				text.WriteString(prefix + line)
			}

			list := parse(t, text.String(), Options{})
			for _, inc := range list {
				if inc.Trigger != nil && !strings.HasSuffix(comm, inc.Trigger.Comm) {
					t.Errorf("%q behind %q: got trigger %q, want the name or its end", comm, prefix, inc.Trigger.Comm)
				}
			}

			last := list[len(list)-1]
			if got := brief(list); prefix == known && got != want && comm != "[ 1.5] x" ||
				len(last.Victims) != 1 || last.Victims[0].PID != 7 || last.Victims[0].Comm != comm {
				t.Errorf("%q behind %q: got\n%s\nwant\n%s", comm, prefix, got, want)
			}
		}
	}
}

// FuzzPrefix puts any text before each line of a report: fields may be lost, and none may
// change.
func FuzzPrefix(f *testing.F) {
	var reports [][]logLine
	for _, name := range []string{"dmesg/7.3.4-memcg-oom-group", "dmesg/6.12.117-memcg-parent-limit", "dmesg/5.10.0-32-global", "reports/3.10-memcg-child"} {
		reports = append(reports, records(dmesgLines(f, "testdata/"+name+".txt")))
	}

	for i, prefix := range []string{
		"", " ", "\t", "> ", "12:", "a", "1", "dmesg-1  | ", "[pod/x/y] ", "20:31:49.738 [warn] ", "kern.log:", "@40000000691e9d7d00018a9c ", "{", "{\"a\":\"",
		"msg=\"", "<4>", "4,1,5,-;", "[", "Nov 20 03:04:05 n1 kernel: ", "nov. 20 03:04:05 n1 x[1]: ", "6.8.0,4,1234,1000000100,-;", "2026-11-20T03:04:05Z ", "some words ",
		"\x1b[31m", "\r", "\ufeff", "#012", "kern  :warn  : ", "Fri Nov 20 03:04:05 2026 ", "[Fr Nov 20 03:04:05 2026] ",
	} {
		f.Add(prefix, byte(i))
		f.Add(prefix, byte(i)|128)
	}

	f.Fuzz(func(t *testing.T, prefix string, which byte) {
		lines := reports[int(which&127)%len(reports)]

		inner := alone
		if which&128 != 0 {
			inner = dmesgStyle
		}

		if len(prefix) > maxPrefix || hasWords(prefix, lines) || takesLetters(prefix) || endsBehindFormat(prefix, lines[0].text) {
			t.Skip("the line is another message with it, not the same one behind a prefix")
		}

		want := parse(t, variant{"", inner}.written(lines), Options{})

		got := parse(t, variant{"", before(prefix, inner)}.written(lines), Options{})
		// Of a prefix that runs into the message, lines may be lost in the middle.
		if len(got) > len(want) && (prefix == "" || !isAlnum(prefix[len(prefix)-1])) {
			t.Errorf("prefix %q: got %d incidents, want no more than %d:\n%s", prefix, len(got), len(want), brief(got))
		}

		for _, inc := range got {
			if !slices.ContainsFunc(want, func(whole *events.Incident) bool { return partOf(inc, whole) }) {
				t.Errorf("prefix %q: got %s\nwant a part of\n%s", prefix, brief([]*events.Incident{inc}), brief(want))
			}
		}
	})
}

// hasWords reports whether a prefix has words of the kernel, or makes some of a line.
func hasWords(prefix string, lines []logLine) bool {
	if find(prefix).kind != isNone || looksLikeKill(prefix) || strings.Contains(prefix, "ill") || strings.Contains(prefix, "oom") {
		return true
	}

	return slices.ContainsFunc(lines, func(l logLine) bool {
		alone, behind := find(l.text), find(prefix+l.text)
		return behind.kind != alone.kind || alone.kind != isNone && behind.at != alone.at+len(prefix)
	})
}

// takesLetters reports whether a prefix does not end before the message: it starts another
// line, or a control sequence of a terminal.
func takesLetters(prefix string) bool {
	return strings.Contains(prefix, "\n") || !strings.HasPrefix(stripColors(prefix+"@@"), stripColors(prefix)+"@@")
}

// endsBehindFormat reports whether a prefix goes on behind one of a known format, where the
// message starts, whatever it is.
func endsBehindFormat(prefix, message string) bool {
	d := newDecoder(Options{})

	for i := range prefix {
		kinds := 0
		if i > 0 {
			kinds = behind
		}

		rest, seen, _ := d.strip(&record{}, d.clean(prefix[i:]+message), kinds)
		if seen&fromKernel != 0 && !strings.HasSuffix(message, rest) {
			return true
		}
	}

	return false
}

// partOf reports whether an incident has no value that the whole one has not.
func partOf(inc, whole *events.Incident) bool {
	a, b := facts(inc), facts(whole)
	for key := range maps.Keys(a) {
		if a[key] != b[key] {
			return false
		}
	}

	return true
}

// facts returns who triggered, who died, and for which limit.
func facts(inc *events.Incident) map[string]string {
	all := map[string]string{}

	if inc.Trigger != nil {
		all["trigger"] = inc.Trigger.Comm
	}

	for _, v := range inc.Victims {
		all[fmt.Sprint("victim ", v.PID)] = v.Comm
		if v.AnonRSSBytes != nil {
			all[fmt.Sprint("anon ", v.PID)] = fmt.Sprint(*v.AnonRSSBytes)
		}
	}

	if l := inc.Limiter; l != nil {
		if l.Cgroup != nil {
			all["limiter"] = l.Cgroup.Path
		}

		if l.LimitBytes != nil {
			all["limit"] = fmt.Sprint(*l.LimitBytes)
		}

		if l.UsageBytes != nil {
			all["usage"] = fmt.Sprint(*l.UsageBytes)
		}
	}

	for _, c := range inc.Candidates {
		all[fmt.Sprint("candidate ", c.PID)] = c.Comm
	}

	return all
}
