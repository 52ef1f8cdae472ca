// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestDoctorChecksThisMachine(t *testing.T) {
	rootAndTime(t)

	out, err := oomtrace("doctor", "--wide").CombinedOutput()

	text := string(out)
	if err != nil || !strings.Contains(text, "oomtrace can trace on this machine") || !strings.Contains(text, "hook ") || !strings.Contains(text, " memory  ") {
		t.Errorf("got error %v and %s, want hooks and no problem", err, out)
	}
}

func exampleCheckup() *checkup {
	c := &checkup{}
	c.ok("kernel", "6.18.44 amd64, 4 KiB pages")
	c.gap("privileges", "no CAP_SYSLOG", "the allocation class", "run as root")
	c.gap("symbols", "not readable", "the allocation class", "run as root")
	c.hooks = []hookFinding{
		{Hook: events.Hook{Name: "oom_kill_process", Tier: events.TierFentry}},
		{Hook: events.Hook{Name: "vfs_write", Why: "fentry: not permitted\x1b"}, Lost: "who lowered the limit", Remedy: "kprobes"},
		{Hook: events.Hook{Name: "exit_mmap", Why: "kprobe: no"}, Lost: "when the memory was freed", Remedy: "kprobes"},
	}

	return c
}

func TestDoctorPrintsTheVerdictFirst(t *testing.T) {
	const short = `oomtrace can trace on this machine; 3 things are lost.

lost        the allocation class
to get it   run as root

lost        who lowered the limit; when the memory was freed
to get it   kprobes

✓ kernel      6.18.44 amd64, 4 KiB pages
! privileges  no CAP_SYSLOG
! symbols     not readable

`
	const hooks = `✓ hook        oom_kill_process: fentry
! hook        vfs_write: not attached
                reason: fentry: not permitted\x1b
! hook        exit_mmap: not attached
                reason: kprobe: no
`

	ascii := strings.NewReplacer("✓", "ok", "! ", "!! ").Replace(short)

	for _, test := range []struct {
		locale string
		wide   bool
		want   string
	}{
		{"en_US.UTF-8", false, short + "doctor --wide shows how each hook is attached.\n"},
		{"en_US.UTF-8", true, short + hooks},
		{"C", false, ascii + "doctor --wide shows how each hook is attached.\n"},
	} {
		t.Setenv("LC_ALL", test.locale)

		var out bytes.Buffer
		if err := exampleCheckup().text(&out, test.wide); err != nil || out.String() != test.want {
			t.Errorf("%s, wide %v: got error %v and\n%swant\n%s", test.locale, test.wide, err, out.String(), test.want)
		}
	}
}

func TestVerdictOfDoctor(t *testing.T) {
	fine, refused := &checkup{}, &checkup{}
	refused.check("BTF", errors.New("this kernel\nhas no BTF"))

	for want, c := range map[string]*checkup{
		"oomtrace can trace on this machine, and nothing is lost.":       fine,
		"oomtrace cannot trace on this machine: this kernel; has no BTF": refused,
		"oomtrace can trace on this machine; 3 things are lost.":         exampleCheckup(),
	} {
		if got := c.verdict(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestDoctorAsJSON(t *testing.T) {
	var out bytes.Buffer
	if err := exampleCheckup().json(&out, false); err != nil {
		t.Fatal(err)
	}

	var got struct {
		Verdict  string
		Traces   bool
		Findings []map[string]string
		Hooks    []map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("got error %v and %s, want one line of JSON", err, out.String())
	}

	if !got.Traces || got.Verdict == "" || len(got.Findings) != 3 || got.Findings[1]["remedy"] != "run as root" ||
		got.Findings[0]["state"] != "ok" || len(got.Hooks) != 3 || got.Hooks[0]["tier"] != "fentry" || got.Hooks[1]["lost"] == "" {
		t.Errorf("got %s, want every finding and hook", out.String())
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
