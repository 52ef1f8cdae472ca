// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const podLimit = "../../internal/report/testdata/pod-limit.jsonl"

func TestUsageOfReport(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"--help"}, exitOK, "oomtrace report /var/log/oomtrace"},
		{nil, exitUsage, "report needs one source"},
		{[]string{"a", "b"}, exitUsage, "report needs one source"},
		{[]string{podLimit, "-o", "table"}, exitUsage, "one of text, json"},
		{[]string{podLimit, "--html", "x", "-o", "json"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--summary", "-o", "json"}, exitUsage, "cannot be combined"},
		{[]string{podLimit, "--max-incidents", "0"}, exitUsage, "at least 1"},
		{[]string{podLimit, "--kmsg"}, exitUsage, "report needs one source"},
		{[]string{"--kernel-log", "../../internal/kernellog/testdata/dmesg/6.12.117-memcg-leaf.txt"}, exitOK, "OOM KILL"},
		{[]string{podLimit, "--since", "whenever"}, exitUsage, "10m ago"},
		{[]string{podLimit, "--since", "1m ago", "--until", "2m ago"}, exitUsage, "is before --since"},
		{[]string{"/nowhere/x.json"}, exitError, "no such file"},
		{[]string{podLimit}, exitOK, "java[4711]"},
		{[]string{podLimit, "--id", "5f0c2c1e-18"}, exitOK, "java[4711]"},
		{[]string{podLimit, "--id", "5f0c2c1e"}, exitError, "no incident has the id"},
		{[]string{podLimit, "--until", "2026-08-20"}, exitOK, "no incidents"},
		{[]string{podLimit, "--summary"}, exitOK, "WORKLOAD"},
		{[]string{podLimit, "-o", "json"}, exitOK, `{"v":1,"kind":"incident",`},
		{[]string{podLimit, "--html", "-"}, exitOK, "<!DOCTYPE html>"},
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

// A file that is neither a recording nor a log must not look like a node without a kill.
func TestOtherFilesAreRefusedWithTheNextStep(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}

		return name
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	fmt.Fprintln(w, lineA)
	w.Close()
	random := make([]byte, 8192)
	rand.NewChaCha8([32]byte{1}).Read(random)
	log := "../../internal/kernellog/testdata/dmesg/6.12.117-memcg-leaf.txt"

	gz, bin := file("x.gz", packed.String()), file("bin", string(random))
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{log}, exitError, "use oomtrace report --kernel-log"},
		{[]string{file("text", "# A title\n\nSome text.\n")}, exitError, "none of 2 lines is an event: pass the"},
		{[]string{bin}, exitError, "is an event"},
		{[]string{gz}, exitError, "zcat " + gz + " | oomtrace report -"},
		{[]string{file("half", lineA[:100])}, exitError, "none of 1 lines"},
		{[]string{file("broken.zst", "\x28\xb5\x2f\xfd"+string(random))}, exitError, "open the recording"},
		{[]string{file("empty", "")}, exitOK, "no incidents"},
		{[]string{file("blank", "\n\n")}, exitOK, "no incidents"},
		{[]string{file("start", lineStart+"\nwhat\n")}, exitOK, "no incidents"},
		{[]string{"--kernel-log", gz}, exitError, "zcat " + gz + " | oomtrace report --kernel-log -"},
		{[]string{"--kernel-log", bin}, exitError, "binary"},
		{[]string{"--kernel-log", file("quiet", "[    1.000000] hello\n")}, exitOK, "no incidents"},
	} {
		commands := []string{"report", "replay"}
		if len(test.args) > 1 {
			commands = commands[:1]
		}

		for _, command := range commands {
			if command == "replay" && test.status == exitOK {
				continue // replay prints nothing then
			}
			var stdout, stderr bytes.Buffer

			status := run(append([]string{command}, test.args...), &stdout, &stderr)
			if all := stdout.String() + stderr.String(); status != test.status || !strings.Contains(all, test.want) {
				t.Errorf("%s %q: got status %d and %.500q, want status %d and %q",
					command, test.args, status, all, test.status, test.want)
			}

			if status != exitOK && (strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0) {
				t.Errorf("%s %q: got stdout %q and stderr %q, want one line on stderr",
					command, test.args, stdout.String(), stderr.String())
			}
		}
	}

	html := filepath.Join(dir, "out.html")
	if status := run([]string{"report", log, "--html", html}, io.Discard, io.Discard); status != exitError {
		t.Errorf("got status %d, want %d", status, exitError)
	}

	if _, err := os.Stat(html); err == nil {
		t.Errorf("got a report in %s, want none", html)
	}
}

func TestReportWarnsOfAnEmptyJournal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", dir)
	var stdout, stderr bytes.Buffer

	status := run([]string{"report", "--journal"}, &stdout, &stderr)
	if status != exitOK || !strings.Contains(stderr.String(), "use --kmsg") || stdout.String() != "no incidents\n" {
		t.Errorf("got status %d, %q and %q, want a warning and no incidents", status, stdout.String(), stderr.String())
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
	}

	var stdout, stderr bytes.Buffer
	if status := run([]string{"report", podLimit, "--cgroup", "kubepods"}, &stdout, &stderr); status != exitUsage {
		t.Errorf("got status %d and %s, want %d", status, stderr.String(), exitUsage)
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
