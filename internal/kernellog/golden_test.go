// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestGolden compares whole incidents. The files in testdata/reports were written by hand
// from the kernels' sources, those in testdata/dmesg by real kernels.
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/reports/*.txt")
	for _, kernel := range []string{
		"5.10.0-32-memcg-oom-group", "6.1.0-56-memcg-v1-parent-limit", "6.12.117-mempolicy", "6.18.15-global", "7.3.4-memcg-no-killable",
		"7.3.4-sysrq-f",
	} {
		files = append(files, "testdata/dmesg/"+kernel+".txt")
	}

	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer

			for _, inc := range parse(t, readFile(t, file), Options{BootID: "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61", Node: "worker-3"}) {
				line, err := events.Marshal(inc)
				if err != nil {
					t.Fatal(err)
				}

				if err := json.Indent(&got, line, "", " "); err != nil {
					t.Fatal(err)
				}
			}

			golden := "testdata/golden/" + name + ".json"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			if want := readFile(t, golden); got.String() != want {
				t.Errorf("got\n%s\nwant %s", got.String(), golden)
			}
		})
	}
}
