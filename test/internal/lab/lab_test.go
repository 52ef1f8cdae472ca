// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os"
	"strings"
	"testing"
)

func TestLogfPrintsOnce(t *testing.T) {
	const (
		text  = "logged by a test that fails"
		rerun = "OOMTRACE_LAB_RERUN"
	)

	if os.Getenv(rerun) == "1" {
		Logger(t)("%s", text)
		t.Fail()

		return
	}

	t.Setenv(rerun, "1")

	for _, args := range [][]string{nil, {"-test.v"}} {
		got := Rerun(t, nil, "^TestLogfPrintsOnce$", args...)
		if n := strings.Count(got, text); n != 1 {
			t.Errorf("with %q: got it %d times, want once, in %s", args, n, got)
		}
	}
}
