// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLooksOnlyAcceptsKernelLogs(t *testing.T) {
	files, err := filepath.Glob("testdata/dmesg/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}

	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		if !Looks(text[:min(len(text), 4096)]) {
			t.Errorf("%s: got no kernel log, want one", file)
		}
	}

	for text, want := range map[string]bool{
		"": false,
		"# A title\n\nSome text, and (1) a list.\n":          false,
		"[    0.000000] Linux version 6.12\n":                true,
		"Nov 25 03:00:01 worker-3 kernel: hello\n":           true,
		"4,1,5,-;hello\n":                                    true,
		"java invoked oom-killer: gfp_mask=0xcc0":            true,
		`{"MESSAGE":"hello","_TRANSPORT":"kernel"}`:          true,
		`{"hello":"world"}`:                                  false,
		"dmesg-1  | memory: usage 1kB, limit 2kB, failcnt 0": true,
		`{"line":"memory: usage 1kB, limit 2kB, failcnt 0"}`: true,
		"2026-11-25 03:00:01 a program says hello\n":         false,
		"[mer. nov. 25 03:00:01 2026] hello\n":               true,
	} {
		if got := Looks([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, !got)
		}
	}
}

func TestOnlyBinaryFilesAreBinary(t *testing.T) {
	random := make([]byte, 4096)

	rng := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}

	const log = "[    1.000000] hello\n"
	for name, test := range map[string]struct {
		text    string
		binary  bool
		journal bool
	}{
		"a log":               {log, false, false},
		"nothing":             {"", false, false},
		"a short one":         {"hi\n", false, false},
		"zeros after a crash": {strings.Repeat("\x00", 100) + log, false, false},
		"a journal":           {"LPKSHHRH" + string(random), true, true},
		"random bytes":        {string(random), true, false},
	} {
		if got := IsBinary([]byte(test.text)); got != test.binary {
			t.Errorf("%s: got binary %v, want %v", name, got, test.binary)
		}

		if got := IsJournal([]byte(test.text)); got != test.journal {
			t.Errorf("%s: got journal %v, want %v", name, got, test.journal)
		}
	}
}
