// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A flag has the same shorthand and the same name of its value in all commands. Of several
// values, a command may take fewer.
func TestFlagsAreTheSameInAllCommands(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)
	long, values := map[string]string{}, map[string]string{}

	for _, cmd := range append(root.Commands(), root) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Shorthand != "" {
				if other := long[f.Shorthand]; other != "" && other != f.Name {
					t.Errorf("%s: got -%s for --%s, want --%s as in other commands", cmd.Name(), f.Shorthand, f.Name, other)
				}
				long[f.Shorthand] = f.Name
			}

			value, _ := pflag.UnquoteUsage(f)

			other, seen := values[f.Name]
			if cmd.Name() == "list" && f.Name == "output" {
				return // a list is a table and nothing else
			}

			if seen && !strings.HasPrefix(value, other) && !strings.HasPrefix(other, value) {
				t.Errorf("%s: got --%s %s, want %s as in other commands", cmd.Name(), f.Name, value, other)
			}

			if len(value) > len(other) {
				values[f.Name] = value
			}
		})
	}
}

// An empty value comes from a shell variable that is not set: it must not select everything.
func TestEmptyValuesAreUsageErrors(t *testing.T) {
	for _, args := range []string{
		"--comm", "--container", "-n", "--namespace", "--pod", "--pod-uid", "--pod-label", "--qos", "--cgroup",
		"trace --comm", "--record", "replay /a --comm", "replay /a --id", "replay /a --since",
		"report /a --id", "report /a --until", "report /a --html", "report --kernel-log",
	} {
		var stdout, stderr bytes.Buffer

		status := run(append(strings.Fields(args), ""), &stdout, &stderr)

		const want = "must not be empty; see `oomtrace "
		if got := stderr.String(); status != exitUsage || !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: got status %d and %q, want status %d and one line with %q", args, status, got, exitUsage, want)
		}
	}
}
