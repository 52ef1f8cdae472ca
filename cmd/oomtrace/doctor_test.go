// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestDoctorChecksThisMachine(t *testing.T) {
	rootAndTime(t)

	out, err := oomtrace("doctor").CombinedOutput()

	text := string(out)
	if err != nil || !strings.Contains(text, "oomtrace can trace on this machine") || !strings.Contains(text, "hook ") || !strings.Contains(text, "\nmemory ") {
		t.Errorf("got error %v and %s, want hooks and no problem", err, out)
	}
}
