// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/host"
)

// completed returns what the shell offers after a command line.
func completed(t *testing.T, args ...string) []string {
	t.Helper()

	var stdout bytes.Buffer
	if status := run(append([]string{"__complete"}, args...), &stdout, io.Discard); status != exitOK {
		t.Fatalf("%q: got status %d, want %d", args, status, exitOK)
	}

	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")

	return lines[:len(lines)-1] // the last is a directive
}

func TestChoicesAreCompleted(t *testing.T) {
	for line, want := range map[string][]string{
		"-o ":            outputs,
		"trace -o ":      outputs,
		"report -o ":     {"text", "json"},
		"trace --tier ":  tiers,
		"--qos ":         qosClasses,
		"completion ba":  {"bash\tGenerate the autocompletion script for bash"},
		"record --tier ": tiers,
	} {
		if got := completed(t, strings.Split(line, " ")...); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestNamesOfTheNodeAreCompleted(t *testing.T) {
	root := t.TempDir()
	id := strings.Repeat("3f2a91c0", 8)
	layout := host.Layout{MemoryMount: filepath.Join(root, "mnt"), MountRoot: "/"}

	for _, dir := range []string{
		"mnt/system.slice/web.service", "mnt/docker/" + id, "mnt/bad\x1bname",
		"var/log/pods/shop_cart-0_6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b", "var/log/pods/other",
		"var/log/containers/cart-0_shop_app-" + id + ".log",
	} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	n := findNames(t.Context(), root, layout)
	for name, test := range map[string]struct {
		got  set
		want []string
	}{
		"namespaces": {n.namespaces, []string{"shop"}},
		"pods":       {n.pods, []string{"shop/cart-0"}},
		"containers": {n.containers, []string{id, "app"}},
		"units":      {n.units, []string{"system.slice", "web.service"}},
		"cgroups":    {n.cgroups, []string{"/", "/docker", "/docker/" + id, "/system.slice", "/system.slice/web.service"}},
	} {
		var got []string
		for value := range test.got {
			got = append(got, value)
		}

		if got := offered(got, ""); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}

	if got := offered([]string{"b", "ab", "a b", "aa"}, "a"); !slices.Equal(got, []string{"aa", "ab"}) {
		t.Errorf("got %q, want aa and ab: what starts as typed and needs no quotes", got)
	}
}

func TestIDsOfARecordingAreCompleted(t *testing.T) {
	file := testFile(t, "x.jsonl", lineA+"\n"+lineB+"\n"+lineUpdateA+"\n")

	for start, want := range map[string][]string{"": {"1", "2"}, "b": {"b-1", "b-2"}, "2": {"2"}, "x": {}} {
		if got := completed(t, "report", file, "--id", start); !slices.Equal(got, want) {
			t.Errorf("--id %s: got %q, want %q", start, got, want)
		}
	}

	if got := completed(t, "report", "/nonexistent", "--id", ""); len(got) != 0 {
		t.Errorf("got %q of a recording that does not exist, want nothing", got)
	}
}
