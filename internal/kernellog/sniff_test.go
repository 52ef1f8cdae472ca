// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"compress/gzip"
	"io"
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
		"# A title\n\nSome text, and (1) a list.\n": false,
		"[    0.000000] Linux version 6.12\n":       true,
		"Nov 25 03:00:01 worker-3 kernel: hello\n":  true,
		"4,1,5,-;hello\n":                           true,
		"java invoked oom-killer: gfp_mask=0xcc0":   true,
		`{"MESSAGE":"hello","_TRANSPORT":"kernel"}`: true,
		`{"hello":"world"}`:                         false,
	} {
		if got := Looks([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, !got)
		}
	}
}

func TestOpenRefusesPackedAndBinaryFiles(t *testing.T) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte("[    1.000000] hello\n"))
	w.Close()
	random := make([]byte, 4096)

	rng := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}

	const log = "[    1.000000] hello\n"
	for name, test := range map[string]struct{ text, wantError string }{
		"a log":               {log, ""},
		"nothing":             {"", ""},
		"a short one":         {"hi\n", ""},
		"zeros after a crash": {strings.Repeat("\x00", 100) + log, ""},
		"gzip":                {packed.String(), "gzip: run zcat FILE | oomtrace report --kernel-log -"},
		"zstd":                {"\x28\xb5\x2f\xfd" + string(random), "zstdcat FILE |"},
		"xz":                  {"\xfd7zXZ\x00" + string(random), "xzcat FILE |"},
		"a journal":           {"LPKSHHRH" + string(random), "journalctl -k -o json --file FILE |"},
		"random bytes":        {string(random), "zcat FILE |"},
	} {
		in, err := Open(strings.NewReader(test.text), "FILE")
		if test.wantError != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantError) {
				t.Errorf("%s: got error %v, want one with %q", name, err, test.wantError)
			}

			continue
		}

		if err != nil {
			t.Errorf("%s: got error %v, want none", name, err)
			continue
		}

		if all, err := io.ReadAll(in); err != nil || string(all) != test.text {
			t.Errorf("%s: got %q, error %v, want the whole file", name, all, err)
		}
	}
}
