// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

const podLimit = "../../internal/report/testdata/pod-limit.jsonl"

func TestUsageOfReport(t *testing.T) {
	defaultRecordingIs(t, "/nonexistent")

	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--help"}, exitOK, "sudo oomtrace report "},
		{nil, exitUsage, "report needs one source"},
		{[]string{"a", "b"}, exitUsage, "report needs one source"},
		{[]string{podLimit, "-o", "table"}, exitUsage, "one of text, json"},
		{[]string{podLimit, "--html", "x", "-o", "json"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--summary", "-o", "json"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--perfetto", "x", "--html", "y"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--perfetto", "x", "-o", "json"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--perfetto", "x", "--summary"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--raw"}, exitUsage, "--raw needs --html"},
		{[]string{podLimit, "--max-incidents", "0"}, exitUsage, "at least 1"},
		{[]string{podLimit, "--kmsg"}, exitUsage, "report needs one source"},
		{[]string{"--kernel-log", "../../internal/kernellog/testdata/dmesg/6.12.117-memcg-leaf.txt"}, exitOK, "OOM KILL"},
		{[]string{podLimit, "--since", "whenever"}, exitUsage, "10m ago"},
		{[]string{podLimit, "--since", "1m ago", "--until", "2m ago"}, exitUsage, "is before --since"},
		{[]string{"/nowhere/x.json"}, exitError, "no such file"},
		{[]string{podLimit}, exitOK, "java[4711]"},
		{[]string{podLimit, "--id", "5f0c2c1e-18"}, exitOK, "java[4711]"},
		{[]string{podLimit, "--id", "5f0c2c1f"}, exitError, "no incident in the selected time has the ID"},
		{[]string{podLimit, "--until", "2026-08-20"}, exitOK, "no incidents"},
		{[]string{podLimit, "--summary"}, exitOK, "WORKLOAD"},
		{[]string{podLimit, "-o", "json"}, exitOK, `{"v":1,"kind":"incident",`},
		{[]string{podLimit, "--html", "-"}, exitOK, "<!DOCTYPE html>"},
		{[]string{podLimit, "--perfetto", "-"}, exitOK, "killed java[4711]"},
	} {
		var stdout, stderr bytes.Buffer

		status := run(append([]string{"report"}, test.args...), &stdout, &stderr)
		if all := stdout.String() + stderr.String(); status != test.status || !strings.Contains(all, test.want) {
			t.Errorf("%q: got status %d and %.300q, want status %d and %q",
				test.args, status, all, test.status, test.want)
		}

		if status != exitOK && (strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0) {
			t.Errorf("%q: got stdout %q and stderr %q, want one line on stderr",
				test.args, stdout.String(), stderr.String())
		}
	}
}

// What a block names for the rest can be typed as it is.
func TestReportNamesItsSourceForMore(t *testing.T) {
	log, err := os.ReadFile(podLimit)
	if err != nil {
		t.Fatal(err)
	}

	odd := testFile(t, "it's one.jsonl", string(log))
	t.Chdir(filepath.Dir(odd))
	defaultRecordingIs(t, filepath.Dir(odd))

	for name, want := range map[string]string{
		"it's one.jsonl":   `'it'\''s one.jsonl'`,
		"./it's one.jsonl": `'./it'\''s one.jsonl'`,
	} {
		var stdout, stderr bytes.Buffer
		if status := run([]string{"report", name}, &stdout, &stderr); status != exitOK {
			t.Fatalf("got status %d, want %d: %s", status, exitOK, &stderr)
		}

		got := strings.Join(strings.Fields(stdout.String()), " ")
		if i := strings.Index(got, "More: oomtrace show "); i < 0 || !strings.Contains(got[i:], want) {
			t.Errorf("report %s: got %s, want %s behind the ID", name, got, want)
		}
	}

	for _, test := range []struct {
		flags sourceFlags
		args  []string
		want  string
	}{
		{want: ""},
		{args: []string{defaultRecording}, want: ""},
		{args: []string{"-"}, want: "-"},
		{flags: sourceFlags{kmsg: true}, want: "--kmsg"},
		{flags: sourceFlags{journal: true}, want: "--journal"},
		{flags: sourceFlags{kernelLog: "a b"}, want: "--kernel-log 'a b'"},
	} {
		if got := test.flags.words(test.args); got != test.want {
			t.Errorf("%+v %q: got %q, want %q", test.flags, test.args, got, test.want)
		}
	}
}

// testFile writes a file and returns its name.
func testFile(t *testing.T, name, text string) string {
	t.Helper()

	name = filepath.Join(t.TempDir(), name)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	return name
}

func gzipped(text string) string {
	var b bytes.Buffer

	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()

	return b.String()
}

// utf16le is how PowerShell writes text.
func utf16le(text string) string {
	data := []byte("\xff\xfe")
	for _, unit := range utf16.Encode([]rune(text)) {
		data = binary.LittleEndian.AppendUint16(data, unit)
	}

	return string(data)
}

func random() string {
	bytes := make([]byte, 8192)
	rand.NewChaCha8([32]byte{1}).Read(bytes)

	return string(bytes)
}

const (
	logFile = "../../internal/kernellog/testdata/dmesg/6.12.117-memcg-leaf.txt"
	killed  = "Memory cgroup out of memory: Killed process 4711 (cart) total-vm:120000kB, anon-rss:62000kB, file-rss:1600kB, shmem-rss:0kB\n"
)

// TestReportFindsOutWhatAFileIs: a recording, a log, compressed or not, or a directory.
func TestReportFindsOutWhatAFileIs(t *testing.T) {
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}

	recorded, err := os.ReadFile(podLimit)
	if err != nil {
		t.Fatal(err)
	}

	logs := testFile(t, "kern.log.1", string(log))
	if err := os.WriteFile(filepath.Join(filepath.Dir(logs), "kern.log"), []byte("[  999.000000] quiet\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	journal := testFile(t, "journalctl", "#!/bin/sh\nprintf '%s\\n' '{\"MESSAGE\":\""+strings.TrimSpace(killed)+"\",\"_TRANSPORT\":\"kernel\"}'\n")
	if err := os.Chmod(journal, 0o700); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", filepath.Dir(journal))

	for name, test := range map[string]struct{ file, want string }{
		"a log":                        {logFile, "hogA["},
		"a compressed log":             {testFile(t, "kern.log.2.gz", gzipped(string(log))), "hogA["},
		"a recording":                  {podLimit, "java[4711]"},
		"a compressed recording":       {testFile(t, "oom.json.gz", gzipped(string(recorded))), "java[4711]"},
		"a directory of logs":          {filepath.Dir(logs), "hogA["},
		"records of pstore":            {filepath.Dir(testFile(t, "dmesg-efi-163285726401001", "Panic#2 Part1\n"+string(log))), "hogA["},
		"a file of a journal":          {testFile(t, "system.journal", "LPKSHHRH"+random()), "cart[4711]"},
		"a directory of a journal":     {filepath.Dir(testFile(t, "system.journal", "LPKSHHRH")), "cart[4711]"},
		"a log of an unknown prefix":   {testFile(t, "x", "hello\nwho are | "+killed+"there | "+killed+"[host-1] "+killed), "cart[4711]"},
		"a log in UTF-16":              {testFile(t, "x", utf16le(killed)), "cart[4711]"},
		"a log with a byte order mark": {testFile(t, "x", "\ufeff"+killed), "cart[4711]"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{"report", test.file}, {"report", test.file, "-o", "json"}} {
				var stdout, stderr bytes.Buffer

				want := test.want
				if len(args) > 2 {
					want = `"comm":"` + strings.TrimRight(want, "[4711]") + `"`
				}

				if status := run(args, &stdout, &stderr); status != exitOK || !strings.Contains(stdout.String(), want) {
					t.Errorf("%q: got status %d, %.300q and %q, want %d and %q", args, status, stdout.String(), stderr.String(), exitOK, want)
				}
			}
		})
	}
}

// A file that is neither a recording nor a log must not look like a node without a kill.
func TestOtherFilesAreRefusedWithTheNextStep(t *testing.T) {
	gz, bin := testFile(t, "x.gz", gzipped(lineA+"\n")), testFile(t, "bin", random())
	text, journal := testFile(t, "text", "# A title\n\nSome text.\n"), testFile(t, "x.journal.gz", gzipped("LPKSHHRH"))
	none := filepath.Dir(text)
	emptyLogs := filepath.Dir(testFile(t, "kern.log", ""))

	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"report", text}, exitError, "none of 3 lines is an event or of a kernel log: pass the"},
		{[]string{"report", bin}, exitError, "binary, neither a recording nor a kernel log"},
		{[]string{"report", testFile(t, "half", lineA[:100])}, exitError, "none of 1 lines"},
		{[]string{"report", testFile(t, "broken.zst", "\x28\xb5\x2f\xfd"+random())}, exitError, "unpack zstd"},
		{[]string{"report", testFile(t, "cut.gz", gzipped(lineA + "\n")[:60])}, exitError, "unpack gzip"},
		{[]string{"report", testFile(t, "x.tar", strings.Repeat("x", 257)+"ustar"+strings.Repeat("x", 300))}, exitError, "tar archive"},
		{[]string{"report", journal}, exitError, "systemd's journal: decompress it to a file"},
		{[]string{"report", none}, exitError, "is not a recording"},
		{[]string{"report", none}, exitError, "kern.log, messages, syslog"},
		{[]string{"report", testFile(t, "empty", "")}, exitError, "empty is empty: pass the output of oomtrace record"},
		{[]string{"report", testFile(t, "blank", "\n \n")}, exitError, "blank is empty: pass the output of oomtrace record"},
		{[]string{"report", "/dev/null"}, exitError, "is empty"},
		{[]string{"report", "--kernel-log", testFile(t, "empty", "")}, exitError, "is empty"},
		{[]string{"report", emptyLogs}, exitError, "the logs in " + emptyLogs + " are empty"},
		{[]string{"replay", testFile(t, "empty", "")}, exitError, "read the recording: it is empty: pass the output"},
		{[]string{"replay", "/dev/null"}, exitError, "it is empty"},
		{[]string{"report", testFile(t, "start", lineStart+"\nwhat\n")}, exitOK, "no incidents"},
		{[]string{"report", testFile(t, "quiet", "[    1.000000] hello\n")}, exitOK, "no incidents"},
		{[]string{"report", "--kernel-log", bin}, exitError, "binary"},
		{[]string{"report", "--kernel-log", none}, exitError, "kern.log, messages, syslog"},
		{[]string{"report", "--kernel-log", "/nowhere/x"}, exitError, "no such file"},
		{[]string{"report", "--kernel-log", text}, exitOK, "no incidents"},
		{[]string{"replay", logFile}, exitError, "use oomtrace report " + logFile},
		{[]string{"replay", text}, exitError, "none of 2 lines is an event: pass the"},
		{[]string{"replay", bin}, exitError, "is an event"},
		{[]string{"replay", gz}, exitError, "compressed (gzip): use oomtrace report " + gz},
	} {
		var stdout, stderr bytes.Buffer

		status := run(test.args, &stdout, &stderr)
		if all := stdout.String() + stderr.String(); status != test.status || !strings.Contains(all, test.want) {
			t.Errorf("%q: got status %d and %.500q, want status %d and %q", test.args, status, all, test.status, test.want)
		}

		if status != exitOK && (strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0) {
			t.Errorf("%q: got stdout %q and stderr %q, want one line on stderr", test.args, stdout.String(), stderr.String())
		}
	}

	html := filepath.Join(t.TempDir(), "out.html")
	if status := run([]string{"report", text, "--html", html}, io.Discard, io.Discard); status != exitError {
		t.Errorf("got status %d, want %d", status, exitError)
	}

	if _, err := os.Stat(html); err == nil {
		t.Errorf("got a report in %s, want none", html)
	}
}

// TestKillsThatWereNotUnderstoodAreReported: a log with the kernel's words and no incident
// is an error, in every format; beside others such lines are a warning.
func TestKillsThatWereNotUnderstoodAreReported(t *testing.T) {
	strange := "a program saw \x1b[31mthis: " + killed

	for _, test := range []struct {
		log    string
		status int
		want   string
	}{
		{"[ 1.0] x\n" + strange + strange, exitError, "2 lines with the kernel's words about an OOM kill could not be understood; the first is line 2: a program saw \\x1b[31m"},
		{killed + strange, exitOK, "1 line with the kernel's words"},
		{killed, exitOK, ""},
	} {
		file := testFile(t, "x.log", test.log)

		for _, args := range [][]string{{file}, {"--kernel-log", file}, {file, "-o", "json"}} {
			var stdout, stderr bytes.Buffer

			status := run(append([]string{"report"}, args...), &stdout, &stderr)

			all := strings.Join(strings.Fields(stdout.String()+stderr.String()), " ")
			if status != test.status || !strings.Contains(all, test.want) || test.want == "" && strings.Contains(all, "understood") {
				t.Errorf("%q: got status %d and %.500q, want %d and %q", args, status, all, test.status, test.want)
			}
		}
	}
}

func TestAJournalWithoutMessagesIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", dir)
	var stdout, stderr bytes.Buffer

	status := run([]string{"report", "--journal"}, &stdout, &stderr)
	if status != exitError || !strings.Contains(stderr.String(), "use --kmsg") || stdout.Len() > 0 {
		t.Errorf("got status %d, %q and %q, want an error alone", status, stdout.String(), stderr.String())
	}
}

func TestReportShowsIncidentsThatMatch(t *testing.T) {
	for _, test := range []struct {
		args  []string
		shown bool
	}{
		{nil, true},
		{[]string{"-n", "shop"}, true},
		{[]string{"-n", "shop", "--pod", "cart-7d9f8c6b5-x2x8q"}, true},
		{[]string{"-n", "sh*", "--cgroup", "kubepods*"}, true},
		{[]string{"-n", "other"}, false},
		{[]string{"--comm", "nosuch"}, false},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(append([]string{"report", podLimit}, test.args...), &stdout, &stderr); status != exitOK {
			t.Fatalf("%q: got status %d and %s, want %d", test.args, status, stderr.String(), exitOK)
		}

		text := stdout.String()
		if shown := strings.Contains(text, "OOM KILL"); shown != test.shown {
			t.Errorf("%q: got incident shown %v, want %v: %s", test.args, shown, test.shown, text)
		}

		if hidden := strings.Contains(text, "1 incident is hidden by --"); hidden == test.shown {
			t.Errorf("%q: got the hidden incident reported %v, want %v: %s", test.args, hidden, !test.shown, text)
		}
	}
}

func TestReportFileIsReadableByItsOwnerOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.html")

	var stdout, stderr bytes.Buffer
	if status := run([]string{"report", podLimit, "--html", file}, &stdout, &stderr); status != exitOK || stdout.Len() > 0 {
		t.Fatalf("got status %d, output %q and %s, want %d without output", status, stdout.String(), stderr.String(), exitOK)
	}

	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 || info.Size() < 50_000 {
		t.Errorf("got %v and error %v, want mode 0600 and at least 50000 bytes", info, err)
	}

	if !strings.Contains(stderr.String(), "1 incident, 1 in detail") {
		t.Errorf("got %q, want the number of incidents", stderr.String())
	}
}

func TestReportWritesATraceToAFile(t *testing.T) {
	stall := func(pid int, second string) string {
		return fmt.Sprintf(`{"v":1,"kind":"stall","time":"2026-08-20T14:03:%sZ","boot_id":"b","node":"n","what":"memcg_reclaim",`+
			`"duration_ns":1000,"task":{"pid":%d,"tid":1,"comm":"stalled"}}`+"\n", second, pid)
	}
	recorded := testFile(t, "oom.json", stall(1, "06")+lineA+"\n"+stall(2, "08"))
	file := filepath.Join(t.TempDir(), "out.pftrace")

	for _, test := range []struct {
		args []string
		want []string // of both incident and stalls
	}{
		{nil, []string{"[10]", "stalled[1]", "stalled[2]"}},
		{[]string{"--since", "2026-08-20T14:03:07Z"}, []string{"[10]", "stalled[2]"}},
		{[]string{"--until", "2026-08-20T14:03:07Z"}, []string{"stalled[1]"}},
		{[]string{"--pid", "2"}, []string{"stalled[2]"}},
		{[]string{"--id", "b-1"}, []string{"[10]"}},
	} {
		var stdout, stderr bytes.Buffer

		args := append([]string{"report", recorded, "--perfetto", file}, test.args...)
		if status := run(args, &stdout, &stderr); status != exitOK || stdout.Len() > 0 || !strings.Contains(stderr.String(), "ui.perfetto.dev") {
			t.Fatalf("%q: got status %d, output %q and %q, want %d and where to open it", test.args, status, stdout.String(), stderr.String(), exitOK)
		}

		trace, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		var got []string

		for _, name := range []string{"[10]", "stalled[1]", "stalled[2]"} {
			if bytes.Contains(trace, []byte(name+":")) || bytes.Contains(trace, []byte(name+" ")) || bytes.Contains(trace, []byte(name+".")) {
				got = append(got, name)
			}
		}

		if !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q in the trace, want %q", test.args, got, test.want)
		}
	}

	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v and error %v, want mode 0600", info, err)
	}
}

// A kernel log has no other lines than incidents, and may have no wall-clock time.
func TestReportWritesATraceOfAKernelLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.pftrace")

	for name, test := range map[string]struct{ log, want string }{
		"uptime":  {"[   31.669000] " + killed, "count"},
		"no time": {killed, "1 incident left out"},
	} {
		var stdout, stderr bytes.Buffer

		status := run([]string{"report", testFile(t, "kern.log", test.log), "--perfetto", file}, &stdout, &stderr)
		if status != exitOK || !strings.Contains(stderr.String(), test.want) {
			t.Errorf("%s: got status %d and %q, want %d and %q", name, status, stderr.String(), exitOK, test.want)
		}
	}
}

func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()

	file := filepath.Join(dir, "out.html")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")

	err := writeFile(file, func(w io.Writer) error { fmt.Fprint(w, "half"); return broken })
	if !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}

	if text, err := os.ReadFile(file); err != nil || string(text) != "old" {
		t.Errorf("got %q and error %v, want the old text", text, err)
	}

	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("got files %v, want only the old one", left)
	}

	if err := writeFile(filepath.Join(dir, "none", "x"), func(io.Writer) error { return nil }); err == nil {
		t.Error("got no error for a directory that does not exist, want one")
	}

	if err := writeFile("/dev/null", func(w io.Writer) error { _, err := fmt.Fprint(w, "x"); return err }); err != nil {
		t.Error(err)
	}

	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Error("got a regular file for /dev/null, want the device")
	}
}
