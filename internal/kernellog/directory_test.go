// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree writes files, whose names may have a directory, and returns their root.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()

	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	return dir
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer

	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	return b.String()
}

func TestADirectoryIsReadFromItsOldestLineOn(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"rotated by number": {
			map[string]string{"kern.log": "d\n", "kern.log.1": "c\n", "kern.log.2.gz": gzipped(t, "b\n"), "kern.log.10.gz": gzipped(t, "a\n"), "auth.log": "x\n"},
			"a b c d",
		},
		"rotated by date": {
			map[string]string{"messages": "c", "messages-20261122": "b", "messages-20261115": "a", "messages.txt": "x", "syslog": "x"},
			"a b c",
		},
		"EFI": {
			map[string]string{
				"dmesg-efi-163285726403001": "Panic#2 Part1\nc\n", "dmesg-efi-163285726402001": "Panic#2 Part2\nb\n", "dmesg-efi-163285726401001": "Panic#2 Part3\na\n",
			},
			"a b c",
		},
		"ten parts": {
			map[string]string{"dmesg-erst-1": "Oops#1 Part10\na\n", "dmesg-erst-2": "Oops#1 Part9\nb\n", "dmesg-erst-3": "Panic#2 Part1\nc\n"},
			"a b c",
		},
		"what systemd-pstore keeps": {
			map[string]string{
				"1632857264/001/dmesg.txt": "b\n", "1632857264/001/dmesg-efi-1": "Panic#2 Part1\nx\n", "1632857263/dmesg.txt": "a\n",
			},
			"a b",
		},
		"a record that the kernel could not decompress": {
			map[string]string{"dmesg-ramoops-0.enc.z": "x", "dmesg-ramoops-1": "Panic#1 Part1\na\n"}, "a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := OpenDir(context.Background(), tree(t, test.files))
			if err != nil {
				t.Fatal(err)
			}

			text, err := io.ReadAll(in)
			if got := strings.Join(strings.Fields(string(text)), " "); err != nil || got != test.want {
				t.Errorf("got %q and error %v, want %q", got, err, test.want)
			}

			if err := in.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDirectoriesWithoutLogsAreErrors(t *testing.T) {
	if _, err := OpenDir(context.Background(), tree(t, map[string]string{"auth.log": "x", "kern.logger": "x"})); !errors.Is(err, ErrNoLogs) {
		t.Errorf("got error %v, want %v", err, ErrNoLogs)
	}

	_, err := OpenDir(context.Background(), tree(t, map[string]string{"dmesg-ramoops-0.enc.z": "x"}))
	if err == nil || !strings.Contains(err.Error(), "mount pstore again") {
		t.Errorf("got error %v, want one with the next step", err)
	}

	if _, err := OpenDir(context.Background(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got error %v, want %v", err, os.ErrNotExist)
	}
}

// fakeJournalctl puts a journalctl into PATH that prints its arguments.
func fakeJournalctl(t *testing.T) {
	t.Helper()

	dir := tree(t, map[string]string{"journalctl": "#!/bin/sh\necho \"$@\"\n"})
	if err := os.Chmod(filepath.Join(dir, "journalctl"), 0o700); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestJournalctlReadsFilesOfAJournal(t *testing.T) {
	fakeJournalctl(t)
	dir := tree(t, map[string]string{"5f0c2c1e/system.journal": journalMagic})

	for path, want := range map[string]string{
		dir: "--directory=" + dir,
		filepath.Join(dir, "5f0c2c1e/system.journal"): "--file=" + filepath.Join(dir, "5f0c2c1e/system.journal"),
	} {
		in, err := OpenJournalFile(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}

		args, err := io.ReadAll(in)
		if err != nil || !slices.Contains(strings.Fields(string(args)), want) {
			t.Errorf("got arguments %q and error %v, want %s among them", args, err, want)
		}
	}
}

func TestWithoutJournalctlTheErrorNamesIt(t *testing.T) {
	t.Setenv("PATH", t.TempDir())

	_, err := OpenJournalFile(context.Background(), "/x/system.journal")
	if err == nil || !strings.Contains(err.Error(), "run journalctl -o json --file=/x/system.journal") {
		t.Errorf("got error %v, want one with the command", err)
	}
}
