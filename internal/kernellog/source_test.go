// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestKmsgReadsToTheEnd reads records from a pipe, whose end is EAGAIN as that of the kernel's
// buffer.
func TestKmsgReadsToTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kmsg")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}

	in, err := openKmsg(path)
	if err != nil {
		t.Fatal(err)
	}

	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()

	want := "4,1,5,-;a\n4,2,6,-;b\n"
	if _, err := writer.WriteString(want); err != nil {
		t.Fatal(err)
	}

	got, err := io.ReadAll(in)
	if err != nil || string(got) != want {
		t.Errorf("got %q, error %v, want %q and no error", got, err, want)
	}

	if err := in.Close(); err != nil {
		t.Errorf("close: got error %v, want none", err)
	}
}

func TestMissingKmsgNamesTheNextStep(t *testing.T) {
	_, err := openKmsg(filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "give the log as a file") {
		t.Errorf("got error %v, want one that names the next step", err)
	}
}

func TestMissingJournalctlNamesTheNextStep(t *testing.T) {
	t.Setenv("PATH", t.TempDir())

	if _, err := OpenJournal(context.Background(), false); err == nil || !strings.Contains(err.Error(), "/dev/kmsg") {
		t.Errorf("got error %v, want one that names the next step", err)
	}
}

// TestFailedJournalctlIsAnErrorAtTheEnd: the error has its stderr and comes after its output.
func TestFailedJournalctlIsAnErrorAtTheEnd(t *testing.T) {
	dir := t.TempDir()

	script := "#!/bin/sh\necho '{\"MESSAGE\":\"hello\"}'\necho no journal files >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}

	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	in, err := OpenJournal(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}

	got, err := io.ReadAll(in)
	if !strings.Contains(string(got), "hello") || err == nil || !strings.Contains(err.Error(), "no journal files") {
		t.Errorf("got %q, error %v, want its output, then an error with its stderr", got, err)
	}

	if err := in.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseKillsTheProgram(t *testing.T) {
	in, err := openCommand(context.Background(), testenv.Program(t, "sleep"), "1000")
	if err != nil {
		t.Fatal(err)
	}

	if err := in.Close(); err != nil {
		t.Error(err)
	}

	if got, want := in.(*command).cmd.ProcessState.String(), "signal: killed"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
