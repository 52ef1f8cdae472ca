// SPDX-License-Identifier: Apache-2.0

// Package lab has what the tests on whole machines need of the host that runs them.
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Root is the directory of the repository, seen from a test two directories below.
const Root = "../.."

// Require skips a test that takes minutes and a machine of its own, unless
// OOMTRACE_LAB=1 requests it, as the targets of the Makefile do. Then it fails, never
// skips, if one of the programs is missing.
func Require(t testing.TB, programs ...string) {
	t.Helper()

	if os.Getenv("OOMTRACE_LAB") != "1" {
		t.Skip("takes minutes and whole machines: set OOMTRACE_LAB=1, or run make vm-test, test-machines or test-cri")
	}

	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v: sudo scripts/setup.sh installs what the tests need", err)
		}
	}
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
