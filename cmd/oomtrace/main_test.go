// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestMain runs oomtrace itself, or churn, where an environment variable asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("OOMTRACE_TEST_MAIN") == "1" {
		main()
	}

	if os.Getenv("OOMTRACE_TEST_CHURN") == "1" {
		churn(os.Args[1])
	}

	os.Setenv("LC_ALL", "C.UTF-8") // goldens draw with more than ASCII

	os.Exit(m.Run())
}

// oomtrace returns the command that runs this test binary as oomtrace.
func oomtrace(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)

	cmd.Env = append(os.Environ(), "OOMTRACE_TEST_MAIN=1")

	return cmd
}

func TestUsageErrorsAreOneLineWithStatus2(t *testing.T) {
	defaultRecordingIs(t, "/nonexistent")

	for _, test := range []struct {
		args   string
		status int
		want   string
	}{
		{"version", exitOK, "oomtrace "},
		{"--version", exitOK, "oomtrace "},
		{"-V", exitOK, "oomtrace "},
		{"trce", exitUsage, "unknown command \"trce\" (did you mean trace?); see `oomtrace --help`"},
		{"help reprot", exitUsage, "(did you mean report?)"},
		{"--namspace x", exitUsage, "unknown flag: --namspace (did you mean --namespace?); see `oomtrace --help`"},
		{"report --utl", exitUsage, "(did you mean --utc?)"},
		{"--help", exitOK, "sudo oomtrace "},
		{"nonsense", exitUsage, "unknown command \"nonsense\"; see `oomtrace --help`"},
		{"report", exitUsage, "see `oomtrace report --help`"},
		{"report --nonsense", exitUsage, "see `oomtrace report --help`"},
		{"--pid -4", exitUsage, "see `oomtrace --help`"},
		{"trace --pid -4", exitUsage, "see `oomtrace trace --help`"},
		{"help nosuch", exitUsage, "unknown command \"nosuch\"; see `oomtrace --help`"},
		{"help", exitOK, "sudo oomtrace "},
		{"help report", exitOK, "report explains each incident"},
		{"trace nonsense", exitUsage, "takes no arguments"},
		{"--nonsense", exitUsage, "unknown flag: --nonsense"},
		{"-o xml", exitUsage, "one of text, json, table, bcc"},
		{"demo -o table", exitUsage, "one of text, json"},
		{"--tier perf", exitUsage, "one of auto, fentry"},
		{"--duration -1s", exitUsage, "negative"},
		{"--duration soon", exitUsage, "invalid argument"},
		{"--pid x", exitUsage, "invalid argument"},
		{"--pid -4", exitUsage, "negative"},
		{"--comm [a", exitUsage, `write \[ for a [`},
		{"--pod a]/[b", exitUsage, `write \[ for a [`},
		{"--cgroup /a/[b/c]", exitUsage, `write \[ for a [`},
		{"--qos best", exitUsage, "one of guaranteed"},
		{"--pod-label app(", exitUsage, "key=value"},
		{"-l !", exitUsage, "key in (a,b)"},
		{"--no-names -n shop", exitUsage, "--no-names cannot be combined with --namespace"},
		{"--cri-endpoint run/c.sock", exitUsage, "unix:///run"},
		{"--cri-endpoint tcp://1.2.3.4:5", exitUsage, "unix:///run"},
		{"--kubelet-endpoint 127.0.0.1", exitUsage, "https://"},
		{"--kubelet-endpoint http://127.0.0.1:10255 --kubelet-token-file /t", exitUsage, "without TLS"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(strings.Fields(test.args), &stdout, &stderr)

		all := stdout.String() + stderr.String()
		if status != test.status || !strings.Contains(all, test.want) {
			t.Errorf("%s: got status %d and %q, want status %d and %q", test.args, status, all, test.status, test.want)
		}

		if status != exitOK && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: got %q, want one line", test.args, stderr.String())
		}
	}
}

func TestFullDiskIsReported(t *testing.T) {
	for _, args := range []string{
		"--help", "help report", "report --help", "version", "report " + podLimit, "replay " + podLimit, "inspect",
	} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		status := run(strings.Fields(args), full, &stderr)
		full.Close()

		const want = "no space left on device: free up space, or write elsewhere\n"
		if got := stderr.String(); status != exitError || !strings.Contains(got, want) {
			t.Errorf("%s: got status %d and %q, want status %d and %q", args, status, got, exitError, want)
		}
	}
}

// rootAndTime skips a test that traces this machine without root, and under -short.
func rootAndTime(t *testing.T) {
	t.Helper()
	testenv.Slow(t, "it attaches to the kernel, and most tests trigger OOM kills")
	testenv.Root(t)
}

// stderr returns what a command that failed wrote to stderr.
func stderr(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}

	return ""
}

// running starts a trace and waits until it is ready.
func running(t *testing.T, args ...string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	rootAndTime(t)
	ready := filepath.Join(t.TempDir(), "ready")
	cmd = oomtrace(append(args, "--ready-file", ready)...)
	cmd.Stderr = os.Stderr

	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { cmd.Process.Kill() })

	awaitReady(t, ready)
	lines = bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)

	return cmd, lines
}

// awaitReady waits for the file of --ready-file.
func awaitReady(t *testing.T, file string) {
	t.Helper()

	for range 500 {
		if _, err := os.Stat(file); err == nil {
			return
		}

		time.Sleep(20 * time.Millisecond)
	}

	t.Fatal("got no ready file within 10 s, want one")
}

// oom triggers an OOM kill in a new cgroup, and returns the PID of the victim.
func oom(t *testing.T, name string) int {
	t.Helper()

	scratch, err := host.NewScratch(fmt.Sprintf("%s-%d", name, os.Getpid()), 16<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	child := oomtrace("allocate", "--bytes=134217728")

	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := child.Start(); err != nil {
		t.Fatal(err)
	}

	if err := scratch.Add(child.Process.Pid); err != nil {
		t.Fatal(err)
	}

	in.Write([]byte{1})

	if err := child.Wait(); !killedBySIGKILL(err) {
		t.Fatalf("got %v from the child, want SIGKILL", err)
	}

	return child.Process.Pid
}
