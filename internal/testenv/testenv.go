// SPDX-License-Identifier: Apache-2.0

// Package testenv says what a test needs of the machine.
package testenv

import (
	"os"
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
