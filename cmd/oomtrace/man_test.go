// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestManPagesHaveTheTextOfTheHelp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "man1")

	var stderr bytes.Buffer
	if status := run([]string{"man", dir}, io.Discard, &stderr); status != exitOK {
		t.Fatalf("got status %d and %s, want %d", status, stderr.String(), exitOK)
	}

	for _, cmd := range newRoot(io.Discard, io.Discard).Commands() {
		if cmd.Name() == "help" {
			continue
		}

		name := "oomtrace-" + cmd.Name() + ".1"

		page, err := os.ReadFile(filepath.Join(dir, name))
		if cmd.Hidden != os.IsNotExist(err) {
			t.Errorf("%s: got error %v, want a page of each command that is not hidden", name, err)
		}

		if err == nil && !bytes.Contains(page, []byte(cmd.Short)) {
			t.Errorf("%s: got a page without %q, want it", name, cmd.Short)
		}
	}

	page, err := os.ReadFile(filepath.Join(dir, "oomtrace-report.1"))
	if err != nil {
		t.Fatal(err)
	}

	if table := ".EX\n  1h, 30m ago, -2d"; !bytes.Contains(page, []byte(table)) {
		t.Errorf("got a page without %q, want tables as they are: %.2000s", table, page)
	}

	text := strings.ReplaceAll(string(page), `\`, "")
	for _, want := range []string{".TH", "--since", "dmesg | oomtrace report -", "it sums up many incidents"} {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			t.Errorf("got a page without %q, want it", want)
		}
	}
}
