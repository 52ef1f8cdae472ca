// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Lines of a console at which the fake emulator hangs, or waits for two seconds.
const hangs, waits = "HANG\n", "WAIT\n"

// fakeEmulator puts an emulator into PATH that prints a console for each boot, one after
// the other. It returns how often it was started.
func fakeEmulator(t *testing.T, consoles ...string) (boots func() int) {
	t.Helper()

	dir := t.TempDir()
	script := "#!/bin/sh\necho >> " + dir + "/boots\nwhile IFS= read -r line || [ -n \"$line\" ]; do\n" +
		"case $line in HANG) exec sleep 60 ;; WAIT) sleep 2 ;; *) printf '%s\\n' \"$line\" ;; esac\n" +
		"done < " + dir + "/console$(wc -l < " + dir + "/boots)\n"

	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}

	for i, text := range consoles {
		if err := os.WriteFile(filepath.Join(dir, "console"+string(rune('1'+i))), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	return func() int {
		text, _ := os.ReadFile(filepath.Join(dir, "boots"))
		return len(text)
	}
}

func TestResultBootsAgainOnlyAfterACrash(t *testing.T) {
	result, failure := bytes.NewBufferString(MarkStart+"\n"), bytes.NewBufferString(MarkStart+"\n")

	if err := errors.Join(Send(result, "done"), SendError(failure, errors.New("no disk"))); err != nil {
		t.Fatal(err)
	}

	const (
		crash = MarkStart + "\nBUG: kernel"
		died  = MarkStart + "\r\npanic: no such key\r\n" + MarkDied + "\r\n"
	)

	// What is long is cut before its end.
	panicked := strings.Replace(died, "key", "key"+strings.Repeat("\r\ngoroutine 7", 100), 1)

	for _, test := range []struct {
		name     string
		consoles []string
		boots    int
		want     string // in the error; "" for a result
	}{
		{"a result", []string{result.String()}, 1, ""},
		{"a result after a crash", []string{crash, result.String()}, 2, ""},
		{"crashes only", []string{crash, crash, "", crash}, Boots, "the guest did not finish"},
		{"an error", []string{failure.String(), result.String()}, 1, "the guest failed: no disk"},
		{"an error, and an end that follows from it", []string{failure.String() + MarkDied, result.String()}, 1, "the guest failed: no disk"},
		{"a panic", []string{died, result.String()}, 1, "the guest failed: its program died"},
		{"a long panic", []string{panicked, result.String()}, 1, "no such key"},
		{"an error after a crash", []string{crash, failure.String(), result.String()}, 2, "the guest failed: no disk"},
	} {
		t.Run(test.name, func(t *testing.T) {
			boots := fakeEmulator(t, test.consoles...)

			var got string

			err := Machine{Arch: "amd64"}.Result(t.Context(), time.Minute, "", t.Logf, &got)
			if boots() != test.boots {
				t.Errorf("got %d boots, want %d", boots(), test.boots)
			}

			if test.want == "" && (err != nil || got != "done") {
				t.Errorf("got result %q, error %v; want done", got, err)
			}

			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

// A machine whose guest does not start is given up long before the limit of a boot; one that has
// started may take all of that.
func TestMachineThatHangsAtTheStartIsBootedAgain(t *testing.T) {
	before := startLimit
	startLimit = time.Second

	t.Cleanup(func() { startLimit = before })

	result := bytes.NewBufferString(MarkStart + "\n" + waits)
	if err := Send(result, "done"); err != nil {
		t.Fatal(err)
	}

	boots := fakeEmulator(t, hangs, "SeaBIOS\n"+hangs, result.String())

	var got string

	began := time.Now()

	if err := (Machine{Arch: "amd64"}).Result(t.Context(), time.Minute, "", t.Logf, &got); err != nil || boots() != 3 || got != "done" {
		t.Errorf("got %q, error %v after %d boots, want a result of the third", got, err, boots())
	}

	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("got the result after %v, want it soon after two start limits", took)
	}
}

func TestResultReturnsWhyItStopped(t *testing.T) {
	fakeEmulator(t, MarkStart)

	want := errors.New("-timeout is near")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(want)

	if err := (Machine{Arch: "amd64"}).Result(ctx, time.Minute, "", t.Logf, new(any)); !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}
