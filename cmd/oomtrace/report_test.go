// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const podLimit = "../../internal/report/testdata/pod-limit.jsonl"

func TestReportUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--help"}, exitOK, "oomtrace report /var/log/oomtrace"},
		{nil, exitUsage, "report needs one source"},
		{[]string{"a", "b"}, exitUsage, "report needs one source"},
		{[]string{podLimit, "-o", "table"}, exitUsage, "one of text, json"},
		{[]string{podLimit, "--html", "x", "-o", "json"}, exitUsage, "exclude each other"},
		{[]string{podLimit, "--summary", "-o", "json"}, exitUsage, "for text only"},
		{[]string{podLimit, "--max-incidents", "0"}, exitUsage, "at least 1"},
		{[]string{podLimit, "--kmsg"}, exitUsage, "report needs one source"},
		{[]string{"--kernel-log", "../../internal/kernellog/testdata/dmesg/6.12.117-memcg-leaf.txt"}, exitOK, "OOM KILL"},
		{[]string{podLimit, "--since", "whenever"}, exitUsage, "10m ago"},
		{[]string{podLimit, "--since", "1m ago", "--until", "2m ago"}, exitUsage, "is before --since"},
		{[]string{"/nowhere/x.json"}, exitError, "no such file"},
		{[]string{podLimit}, exitOK, "java[4711]"},
		{[]string{podLimit, "--id", "5f0c2c1e-18"}, exitOK, "java[4711]"},
		{[]string{podLimit, "--id", "5f0c2c1e"}, exitOK, "no incidents"},
		{[]string{podLimit, "--until", "2026-08-20"}, exitOK, "no incidents"},
		{[]string{podLimit, "--summary"}, exitOK, "WORKLOAD"},
		{[]string{podLimit, "-o", "json"}, exitOK, `{"v":1,"kind":"incident",`},
		{[]string{podLimit, "--html", "-"}, exitOK, "<!DOCTYPE html>"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(append([]string{"report"}, test.args...), &stdout, &stderr)
		if all := stdout.String() + stderr.String(); status != test.status || !strings.Contains(all, test.says) {
			t.Errorf("%q: status %d, says %.300q", test.args, status, all)
		}
		if status != exitOK && (strings.Count(stderr.String(), "\n") != 1 || stdout.Len() > 0) {
			t.Errorf("%q: %q, %q", test.args, stdout.String(), stderr.String())
		}
	}
}

func TestReportFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.html")
	var stdout, stderr bytes.Buffer
	if status := run([]string{"report", podLimit, "--html", file}, &stdout, &stderr); status != exitOK || stdout.Len() > 0 {
		t.Fatal(status, stdout.String(), stderr.String())
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o600 || info.Size() < 50_000 {
		t.Error(info, err)
	}
	if !strings.Contains(stderr.String(), "1 incidents, 1 in detail") {
		t.Errorf("%q", stderr.String())
	}
}

// TestWriteFileLeavesTheOldOne: where writing fails, what was there is there
// still, and nothing else is.
func TestWriteFileLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "out.html")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	err := writeFile(file, func(w io.Writer) error { fmt.Fprint(w, "half"); return broken })
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "old" {
		t.Errorf("%q %v", text, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := writeFile(filepath.Join(dir, "none", "x"), func(io.Writer) error { return nil }); err == nil {
		t.Error("written into a directory that is not there")
	}
	if err := writeFile("/dev/null", func(w io.Writer) error { _, err := fmt.Fprint(w, "x"); return err }); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Error("a device was replaced")
	}
}
