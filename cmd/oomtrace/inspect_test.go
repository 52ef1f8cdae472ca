// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestUsageOfInspect(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"a", "b"}, exitUsage, "takes one argument"},
		{[]string{"-o", "yaml"}, exitUsage, "one of text, json"},
		{[]string{"--number", "0"}, exitUsage, "at least 1"},
		{[]string{"-n", "5"}, exitUsage, "unknown shorthand"}, // elsewhere it is a namespace
		{[]string{"--nonsense"}, exitUsage, "unknown flag"},
		{[]string{"no-such-thing"}, exitError, "no-such-thing"},
		{[]string{"/no/such\x1b[2J/cgroup"}, exitError, `\x1b`},
	} {
		var stdout, stderr bytes.Buffer
		if got := run(append([]string{"inspect"}, test.args...), &stdout, &stderr); got != test.status {
			t.Errorf("%q: got status %d, want %d", test.args, got, test.status)
		}

		got := stderr.String()
		if !strings.Contains(got, test.want) || stdout.Len() != 0 || strings.Contains(got, "\x1b") {
			t.Errorf("%q: got stdout %q and stderr %q, want only %q on stderr", test.args, &stdout, got, test.want)
		}
	}
}

// inspected runs inspect -o json and validates its output by the schema.
func inspected(t *testing.T, args ...string) *events.Inspection {
	t.Helper()

	var stdout, stderr bytes.Buffer
	if status := run(append([]string{"inspect", "-o", "json"}, args...), &stdout, &stderr); status != exitOK {
		t.Fatalf("got status %d and stderr %q, want status %d", status, &stderr, exitOK)
	}

	if n := bytes.Count(stdout.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("got %d lines, want 1", n)
	}

	schema, err := jsonschema.NewCompiler().Compile("../../docs/events.schema.json")
	if err != nil {
		t.Fatal(err)
	}

	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(stdout.Bytes()))
	if err != nil {
		t.Fatal(err)
	}

	if err := schema.Validate(value); err != nil {
		t.Errorf("got error %v, want a line of the schema:\n%s", err, &stdout)
	}

	var i events.Inspection
	if err := json.Unmarshal(stdout.Bytes(), &i); err != nil {
		t.Fatal(err)
	}

	return &i
}

func TestInspectShowsTheNode(t *testing.T) {
	i := inspected(t)
	if i.Kind != events.KindInspection || i.Cgroup != nil || len(i.Candidates) == 0 {
		t.Errorf("got %+v, want an inspection of the node with candidates", i)
	}

	if i.NodeState == nil || i.NodeState.TotalBytes == nil || len(i.NodeState.Zones) == 0 {
		t.Errorf("got node state %+v, want its memory and zones", i.NodeState)
	}

	var stdout, stderr bytes.Buffer
	if status := run([]string{"inspect", "--utc"}, &stdout, &stderr); status != exitOK || stdout.Len() == 0 {
		t.Errorf("got status %d, %q and %q, want text", status, &stdout, &stderr)
	}
}

func TestInspectKnowsThatNothingWouldBeKilled(t *testing.T) {
	testenv.Root(t)

	layout, err := host.Cgroups()
	if err != nil || layout.MemoryVersion != 1 {
		t.Skipf("the memory controller is of cgroup v2, which cannot disable the OOM killer (error %v)", err)
	}

	s, err := host.NewScratch(fmt.Sprintf("oomtrace-inspect-hang-%d", os.Getpid()), 20<<20)
	if err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(layout.MemoryMount, s.Path(), "memory.oom_control")

	// It doubles a string in its own memory: page faults of user mode, which wait.
	hog := exec.Command("/bin/sh", "-c", "read go; x=aaaaaaaa; while :; do x=$x$x; done")

	in, err := hog.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = hog.Process.Kill()
		_ = hog.Wait()

		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})

	if err := errors.Join(s.Add(hog.Process.Pid), os.WriteFile(control, []byte("1"), 0)); err != nil {
		t.Fatal(err)
	}

	i := inspected(t, s.Path())
	if !*i.Limiter.OOMKillDisable || *i.Limiter.UnderOOM || i.Wait != nil || len(i.Causes) == 0 || i.Causes[0].ID != "oom_kill_disabled" {
		t.Errorf("got limiter %+v, wait %+v, causes %+v, want a forecast that nothing is killed", i.Limiter, i.Wait, i.Causes)
	}

	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}

	for deadline := time.Now().Add(20 * time.Second); !(host.Reader{}).OOMWaits(hog.Process.Pid); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the hog does not wait for memory after 20 seconds")
		}
	}

	i = inspected(t, s.Path())
	if !*i.Limiter.UnderOOM || i.Wait == nil || len(i.Wait.Tasks) != 1 || i.Wait.Tasks[0].PID != hog.Process.Pid {
		t.Errorf("got limiter %+v, wait %+v, want sh[%d] that waits", i.Limiter, i.Wait, hog.Process.Pid)
	}

	var stdout, stderr bytes.Buffer
	if status := run([]string{"inspect", s.Path()}, &stdout, &stderr); status != exitOK || !strings.Contains(stdout.String(), "would be killed: none.") {
		t.Errorf("got status %d, stderr %q and text\n%s\nwant one without a process that would be killed", status, &stderr, &stdout)
	}
}

func TestInspectOfAProcessShowsItsCgroupAndLimit(t *testing.T) {
	testenv.Root(t)

	s, err := host.NewScratch(fmt.Sprintf("oomtrace-inspect-%d", os.Getpid()), 64<<20)
	if err != nil {
		t.Fatal(err)
	}

	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()

		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})

	if err := s.Add(sleep.Process.Pid); err != nil {
		t.Fatal(err)
	}

	i := inspected(t, strconv.Itoa(sleep.Process.Pid))
	if i.Cgroup.Path != s.Path() || i.Limiter.Cgroup == nil || i.Limiter.Cgroup.Path != s.Path() {
		t.Fatalf("got cgroup %+v and limiter %+v, want both %s", i.Cgroup, i.Limiter, s.Path())
	}

	const limit = 64 << 20
	if *i.Limiter.LimitBytes != limit || *i.HeadroomBytes+*i.Limiter.UsageBytes != limit {
		t.Errorf("got limiter %+v and headroom %d, want a limit of %d", i.Limiter, *i.HeadroomBytes, limit)
	}

	if len(i.Candidates) != 1 {
		t.Fatalf("got candidates %+v, want one", i.Candidates)
	}

	if c := i.Candidates[0]; c.PID != sleep.Process.Pid || c.Comm != "sleep" || c.Points == nil {
		t.Errorf("got candidate %+v, want sleep[%d] with its points", c, sleep.Process.Pid)
	}
}
