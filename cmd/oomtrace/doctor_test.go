// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestDoctorChecksThisMachine(t *testing.T) {
	rootAndTime(t)

	out, err := oomtrace("doctor").CombinedOutput()

	text := string(out)
	if err != nil || !strings.Contains(text, "oomtrace can trace on this machine") || !strings.Contains(text, "hook ") || !strings.Contains(text, "\nmemory ") {
		t.Errorf("got error %v and %s, want hooks and no problem", err, out)
	}
}

// In a PID namespace of its own, as in a pod without hostPID, what is hidden is printed by
// doctor and at the start of a trace.
func TestPIDNamespaceOfItsOwnIsReported(t *testing.T) {
	rootAndTime(t)

	unshare := testenv.Program(t, "unshare")

	self, err := os.Executable() // /proc/self/exe would be unshare
	if err != nil {
		t.Fatal(err)
	}

	for _, command := range [][]string{{"doctor"}, {"trace", "--duration", "1ms"}} {
		own := oomtrace(command...)
		args := append([]string{"--pid", "--fork", "--mount-proc", self}, own.Args[1:]...)

		cmd := exec.Command(unshare, args...)
		cmd.Env = own.Env

		out, err := cmd.CombinedOutput()
		if text := strings.Join(strings.Fields(string(out)), " "); err != nil || !strings.Contains(text, "PID namespace of its own") {
			t.Errorf("oomtrace %s: got error %v and %s, want the PID namespace named", command[0], err, out)
		}
	}
}
