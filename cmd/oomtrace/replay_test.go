// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
)

const (
	lineStart   = `{"v":1,"kind":"status","time":"2026-08-20T14:03:00Z","boot_id":"b","node":"n","phase":"start","tier":"fentry"}`
	lineA       = `{"v":1,"kind":"incident","time":"2026-08-20T14:03:07.5Z","boot_id":"b","node":"n","id":"b-1","scope":"memcg","outcome":"killed","limiter":{"level":"cgroup","cgroup":{"hierarchy":0,"id":7,"path":"/a"}},"victims":[{"pid":10,"tid":10,"comm":"ja\u001bva�ff"}],"new_key":{"x":1}}`
	lineB       = `{ "v":1, "kind":"incident","time":"2026-08-20T14:04:00Z","boot_id":"b","node":"n","id":"b-2","scope":"memcg","outcome":"killed","victims":[{"pid":11,"tid":11,"comm":"sh"}]}`
	lineUpdateA = `{"v":1,"kind":"incident_update","time":"2026-08-20T14:05:00Z","boot_id":"b","node":"n","id":"b-1","victims":[{"pid":10,"tid":10,"comm":"java","exit_after_ns":31000000}]}`
	lineFuture  = `{"v":2,"kind":"tomorrow","time":"2026-08-20T14:05:01Z","boot_id":"b","node":"n","what":"ever"}`
	lineLost    = `{"v":1,"kind":"lost","time":"2026-08-20T14:05:02Z","boot_id":"b","node":"n","what":"recording","count":3}`
)

// replayed runs replay on a file of these lines.
func replayed(t *testing.T, lines []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()

	path := filepath.Join(t.TempDir(), "x.jsonl")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	status = run(append([]string{"replay", path}, args...), &out, &errs)

	return out.String(), errs.String(), status
}

func TestReplayPrintsSelectedLinesAndCountsTheRest(t *testing.T) {
	all := []string{lineStart, lineA, lineB, "torn or what", lineUpdateA, lineFuture, lineLost}
	joined := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	const damaged = "oomtrace: damaged lines, skipped: 1\n"
	const newer = "oomtrace: lines of a later version than 1, shown without what is new in it: 1: " +
		"use a newer oomtrace\n"

	const unknown = "oomtrace: lines of an unknown kind, skipped: 1: use a newer oomtrace, or -o json\n"
	for _, test := range []struct {
		args, want, warnings string
		status               int
	}{
		{"-o json", joined(lineStart, lineA, lineB, lineUpdateA, lineFuture, lineLost), damaged + newer, exitOK},
		{
			"-o json --pid 10", joined(lineStart, lineA, lineUpdateA, lineLost),
			"oomtrace: 1 incident is hidden by --pid\n" + damaged + newer + unknown, exitOK,
		},
		{"-o json --id b-1", joined(lineA, lineUpdateA), damaged + newer, exitOK},
		{"-o json --id 1", joined(lineA, lineUpdateA), damaged + newer, exitOK},
		{"-o json --id b", "", `oomtrace: the ID "b" is ambiguous: it matches ["b-1" "b-2"]: use a longer prefix` + "\n", exitError},
		{"-o json --id b --until 2026-08-20T14:03:30Z", joined(lineA, lineUpdateA), damaged + newer, exitOK},
		{"-o json --since 2026-08-20T14:03:30Z --until 2026-08-20T14:04:00Z", joined(lineB), damaged + newer, exitOK},
		{"-o json --until 2020-01-01", "", damaged + newer + "oomtrace: no recorded line matches the selection\n", exitOK},
		{"-o json --id b-9", "", damaged + newer + "oomtrace: no incident in the selected time has the ID \"b-9\": oomtrace list prints the IDs\n", exitError},
		{"-o bcc --utc --id b-2", "14:04:00 Triggered by PID ? (\"?\"), OOM kill of PID 11 (\"sh\"), ? pages, loadavg: ?\n", damaged + newer, exitOK},
		{"--utc", `2026-08-20 14:03:00 start  attach mode fentry
2026-08-20 14:03:07 OOM KILL  java[10]  a  #1
  Cgroup a reached its limit; an unknown sender killed java[10].
2026-08-20 14:04:00 OOM KILL  sh[11]  #2
  A cgroup reached its limit (which one is unknown); an unknown sender killed
  sh[11].
2026-08-20 14:05:02 LOST  3 lines not recorded, output may be incomplete
`, damaged + newer + unknown, exitOK},
	} {
		stdout, stderr, status := replayed(t, all, strings.Fields(test.args)...)
		if stdout != test.want || stderr != test.warnings || status != test.status {
			t.Errorf("%s: got status %d\n%s\n%s\nwant status %d\n%s\n%s",
				test.args, status, stdout, stderr, test.status, test.want, test.warnings)
		}
	}
}

// An interrupted replay of a stream that goes on prints the incidents that wait for their final
// lines.
func TestAnInterruptedStreamIsPrinted(t *testing.T) {
	in, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()

	if _, err := write.WriteString(lineA + "\n" + lineB + "\n"); err != nil {
		t.Fatal(err)
	}

	var stdout, stderr bytes.Buffer

	p := newReplayer(&traceFlags{}, &stdout, &stderr)
	p.ids = events.NewIDFinder("")

	lines := 0

	for line, err := range record.NewReader(untilDone(ctx, in)).Lines() {
		if err != nil {
			t.Fatal(err)
		}

		if err := p.print(line); err != nil {
			t.Fatal(err)
		}

		if lines++; lines == 2 {
			interrupt()
		}
	}

	if err := closing(p.out, nil); err != nil || strings.Count(stdout.String(), "OOM KILL") != 2 {
		t.Errorf("got error %v and %q, want both kills", err, stdout.String())
	}

	if err := errors.Join(write.Close(), in.Close()); err != nil {
		t.Fatal(err)
	}
}

// The totals at the end of a recording are those of all incidents.
func TestReplayUnderFilterShowsHowManyIncidentsMatched(t *testing.T) {
	end := strings.Replace(lineStart, `"phase":"start","tier":"fentry"`,
		`"phase":"end","incident_count":2,"victim_count":2,"lost_count":0`, 1)

	one := []string{lineStart, lineA, lineB, end}
	for args, want := range map[string]string{
		"":                  "end  2 incidents, 2 victims, 0 lost records\n",
		"--pid 10":          "end  1 of 2 incidents shown, 2 victims in total, 0 lost records\n",
		"--pid 99":          "end  0 of 2 incidents shown, 2 victims in total, 0 lost records\n",
		"--pid 10 -o json":  end + "\n",
		"--pid 10 -o table": "",
		"--pid 10 --id b-1": "an unknown sender killed ja\\x1bva\\xff[10].\n",
	} {
		stdout, stderr, status := replayed(t, append(one, one...), append(strings.Fields(args), "--utc")...)
		if !strings.HasSuffix(strings.Join(strings.Fields(stdout), " "), strings.Join(strings.Fields(want), " ")) || status != exitOK {
			t.Errorf("%s: got status %d and\n%swant status %d and the end %q", args, status, stdout, exitOK, want)
		}

		if strings.HasSuffix(args, "table") && !strings.Contains(stderr, "1 of 2 incidents shown") {
			t.Errorf("%s: got stderr %q, want 1 of 2 incidents shown", args, stderr)
		}
	}
}

// defaultRecordingIs makes another directory the default one until the end of the test.
func defaultRecordingIs(t *testing.T, dir string) {
	t.Helper()

	was := defaultRecording
	defaultRecording = dir

	t.Cleanup(func() { defaultRecording = was })
}

func TestTheDefaultRecordingIsRead(t *testing.T) {
	defaultRecordingIs(t, testFile(t, "x.jsonl", lineStart+"\n"+lineA+"\n"))

	for _, args := range []string{"replay", "report", "report --summary", "replay -o json --id 1"} {
		var stdout, stderr bytes.Buffer

		status := run(strings.Fields(args), &stdout, &stderr)
		if status != exitOK || stdout.Len() == 0 || stderr.Len() > 0 {
			t.Errorf("%s: got status %d, %q and %q, want the recording", args, status, stdout.String(), stderr.String())
		}
	}

	if got := completed(t, "report", "--id", ""); !slices.Equal(got, []string{"1"}) {
		t.Errorf("got ids %q, want those of the recording", got)
	}
}

func TestUsageOfRecordAndReplay(t *testing.T) {
	defaultRecordingIs(t, "/nonexistent")

	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"replay"}, exitUsage, "replay takes one argument: the directory or file of a recording, or - for stdin; /nonexistent"},
		{[]string{"replay", ""}, exitUsage, "replay takes one argument"},
		{[]string{"replay", "/a", "/b"}, exitUsage, "replay takes one argument"},
		{[]string{"replay", "/nowhere"}, exitError, "no such file"},
		{[]string{"replay", "/a", "--since", "whenever"}, exitUsage, `"10m ago"`},
		{[]string{"replay", "/a", "--until", "2026-99-99"}, exitUsage, "--until"},
		{[]string{"replay", "/a", "--since", "1m ago", "--until", "2m ago"}, exitUsage, "is before --since"},
		{[]string{"replay", "/a", "-o", "xml"}, exitUsage, "one of text, json"},
		{[]string{"replay", "--help"}, exitOK, "yesterday 03:00"},
		{[]string{"record", ""}, exitUsage, "record takes one argument"},
		{[]string{"record", "/a", "/b"}, exitUsage, "record takes one argument"},
		{[]string{"record", "--segment-size", "0"}, exitUsage, "larger than 0"},
		{[]string{"record", "/a", "--segment-size", "much"}, exitUsage, "write 512KiB"},
		{[]string{"record", "/a", "--segment-size", "0"}, exitUsage, "larger than 0"},
		{[]string{"record", "/a", "--segment-age", "1ms"}, exitUsage, "at least 1s"},
		{[]string{"record", "/a", "--total-size", "20MiB"}, exitUsage, "--segment-size 16MiB"},
		{[]string{"record", "--help"}, exitOK, "(default 1GiB)"},
		{[]string{"--record", "/a", "--segment-size", "-1k"}, exitUsage, "not a size"},
	} {
		var stdout, stderr bytes.Buffer

		status := run(test.args, &stdout, &stderr)
		if all := stdout.String() + stderr.String(); status != test.status || !strings.Contains(all, test.want) {
			t.Errorf("%q: got status %d and %q, want status %d and %q", test.args, status, all, test.status, test.want)
		}

		if status != exitOK && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%q: got %q, want one line", test.args, stderr.String())
		}
	}
}
