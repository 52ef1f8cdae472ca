// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestGuestImportsLittle: the guest is started in machines with little memory, on two
// architectures, and what only the host needs is in files of tests.
func TestGuestImportsLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}

	const module = "github.com/oomtrace/oomtrace/"
	allowed := []string{
		module + "internal/events", module + "test/guest", module + "test/internal/must", module + "test/internal/qemu",
		module + "test/internal/trace", module + "test/node", module + "test/vm", module + "internal/testenv/deaths", "github.com/creack/pty", "golang.org/x/sys/unix",
	}

	for _, pkg := range strings.Fields(string(out)) {
		if !slices.Contains(allowed, pkg) {
			t.Errorf("the guest imports %s, want none but %q", pkg, allowed)
		}
	}
}
