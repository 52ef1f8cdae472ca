// SPDX-License-Identifier: Apache-2.0

// Package lab has what the tests on whole machines need of the host that runs them.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Root is the directory of the repository, seen from a test two directories below.
const Root = "../.."

// Require skips a test that takes minutes and a machine of its own, unless
// OOMTRACE_LAB=1 requests it, as the targets of the Makefile do. Then it fails, never
// skips, if one of the programs is missing.
func Require(t testing.TB, programs ...string) {
	t.Helper()

	if os.Getenv("OOMTRACE_LAB") != "1" {
		t.Skip("takes minutes and whole machines: set OOMTRACE_LAB=1, or run make vm-test, test-machines, test-cri or test-runtimes")
	}

	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v: sudo scripts/setup.sh installs what the tests need", err)
		}
	}
}

// Context returns a context that ends with the test, when the test is interrupted, and
// some time before -timeout: package testing would drop what was found until then.
func Context(t *testing.T) context.Context {
	t.Helper()

	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	t.Cleanup(stop)

	if deadline, ok := t.Deadline(); ok {
		ctx, stop = context.WithDeadlineCause(ctx, deadline.Add(-reportTime), errors.New("-timeout is near"))
		t.Cleanup(stop)
	}

	return ctx
}

// reportTime is for what a test does after its context has ended.
const reportTime = 2 * time.Minute

// Logf prints at once what is worth reading even if the test passes. Without -v, it
// bypasses package testing, which prints only the logs of failed tests, at the end: so a
// run ends with its failures alone.
func Logf(t testing.TB, format string, args ...any) {
	t.Helper()

	if testing.Verbose() {
		t.Logf(format, args...)
	} else {
		fmt.Fprintf(os.Stderr, "%s: %s\n", t.Name(), fmt.Sprintf(format, args...))
	}
}

// Logger returns [Logf] for one test.
func Logger(t testing.TB) func(format string, args ...any) {
	return func(format string, args ...any) {
		t.Helper()
		Logf(t, format, args...)
	}
}

// Rerun runs the tests that a pattern selects in another process, with OOMTRACE_LAB=1, and
// returns what they print. They must fail before they run a program: those in PATH are
// empty files.
func Rerun(t testing.TB, programs []string, pattern string, args ...string) (output string) {
	t.Helper()

	path := t.TempDir()
	for _, name := range programs {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}

	cmd := exec.Command(os.Args[0], append([]string{"-test.run", pattern}, args...)...)
	cmd.Env = append(os.Environ(), "OOMTRACE_LAB=1", "PATH="+path)

	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("pattern %s: got a test that passes, want one that fails", pattern)
	}

	return string(out)
}

// Build builds a static program of the repository for an architecture.
func Build(arch, pkg, out string) error {
	return goTool(arch, "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
}

// BuildTest builds the tests of a package as a static program for this architecture.
func BuildTest(pkg, out string) error {
	return goTool("", "test", "-c", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
}

func goTool(arch string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = Root

	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+arch)
	}

	return run(cmd)
}

// Run runs a program, whose output is part of the error.
func Run(name string, args ...string) error { return run(exec.Command(name, args...)) }

func run(cmd *exec.Cmd) error {
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, text)
	}

	return nil
}
