// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// TestReportOfAnOlderRecordingHasTheOOMKillBefore: also where only the later kill is selected.
func TestReportOfAnOlderRecordingHasTheOOMKillBefore(t *testing.T) {
	const recording = "../../internal/diagnose/testdata/systemd-stop.json"

	for _, args := range [][]string{{}, {"--id", "5f0c2c1e-2"}} {
		var out, errs strings.Builder
		if code := run(append([]string{"report", "--full", "--utc", recording}, args...), &out, &errs); code != 0 {
			t.Fatalf("%v: got exit %d, %s", args, code, errs.String())
		}

		got := strings.Join(strings.Fields(out.String()), " ")
		for _, want := range []string{
			"it followed the OOM kill of worker[711] 1 min 30 s earlier", "incident 5f0c2c1e-1", "systemd then stopped the unit", "OOMPolicy=continue",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%v: got %q, want %q in it", args, got, want)
			}
		}

		if strings.Contains(got, "Memory was not the reason") {
			t.Errorf("%v: got %q, want no denial of memory", args, got)
		}
	}
}
