// SPDX-License-Identifier: Apache-2.0

// Package testenv says what a test needs of the machine.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Root skips a test that needs to be root. Under CI=true, where tests run as
// root, it fails instead: a skip would hide that they did not run.
func Root(t testing.TB) {
	t.Helper()

	if os.Geteuid() == 0 {
		return
	}

	if os.Getenv("CI") == "true" {
		t.Fatal("this test needs root, and CI must give it")
	}

	t.Skip("this test needs root")
}

// Program gives the path of the first of the named programs that is there, and
// skips the test if none is. Under CI=true it fails instead, as Root does.
func Program(t testing.TB, names ...string) string {
	t.Helper()

	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}

	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s, and CI must have it: scripts/setup.sh installs it", names[0])
	}

	t.Skipf("this test needs %s: scripts/setup.sh installs it", names[0])

	return ""
}
