// SPDX-License-Identifier: Apache-2.0

// Package testenv skips tests on machines that lack what they need, creates cgroups, builds the trees of
// files that they read, and compares their output with golden files.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Slow skips a test under -short; why names what takes the time. With CI=true it fails the
// test instead: CI must run everything.
func Slow(t testing.TB, why string) {
	t.Helper()

	if !testing.Short() {
		return
	}

	if os.Getenv("CI") == "true" {
		t.Fatal("-short leaves this test out, and CI must run it: " + why)
	}

	t.Skip("skipped by -short: " + why)
}

// Root skips a test that needs root, as Lacks does.
func Root(t testing.TB) {
	t.Helper()
	Slow(t, "it works on this machine's kernel")

	if os.Geteuid() == 0 {
		return
	}

	Lacks(t, "this test needs root")
}

// Lacks skips a test on a machine without what it needs; why names that. With CI=true it
// fails the test instead: CI's machine has everything, and a skip would hide a test that
// never runs.
func Lacks(t testing.TB, why string) {
	t.Helper()

	if os.Getenv("CI") == "true" {
		t.Fatal(why + "; CI must run it")
	}

	t.Skip(why)
}

// Program returns the path of the first of the named programs that is installed. It skips
// the test if none is, as Lacks does.
func Program(t testing.TB, names ...string) string {
	t.Helper()

	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}

	Lacks(t, fmt.Sprintf("this test needs %s: install it by scripts/setup.sh", names[0]))

	return ""
}
