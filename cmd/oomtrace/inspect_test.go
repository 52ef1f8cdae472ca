// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestInspectUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		text   string
	}{
		{[]string{"a", "b"}, exitUsage, "takes one argument"},
		{[]string{"-o", "yaml"}, exitUsage, "one of text, json"},
		{[]string{"--number", "0"}, exitUsage, "at least 1"},
		{[]string{"-n", "5"}, exitUsage, "unknown shorthand"}, // elsewhere it is a namespace
		{[]string{"--nonsense"}, exitUsage, "unknown flag"},
		{[]string{"no-such-thing"}, exitError, "nothing on this node is called"},
		{[]string{"/no/such\x1b[2J/cgroup"}, exitError, `\x1b`},
	} {
		var stdout, stderr bytes.Buffer
		if got := run(append([]string{"inspect"}, test.args...), &stdout, &stderr); got != test.status {
			t.Errorf("%q: status %d", test.args, got)
		}

		if !strings.Contains(stderr.String(), test.text) || stdout.Len() != 0 || strings.Contains(stderr.String(), "\x1b") {
			t.Errorf("%q: stdout %q, stderr %q", test.args, &stdout, &stderr)
		}
	}
}

// inspected runs inspect -o json and holds the answer against the schema.
func inspected(t *testing.T, args ...string) *events.Inspection {
	t.Helper()

	var stdout, stderr bytes.Buffer
	if status := run(append([]string{"inspect", "-o", "json"}, args...), &stdout, &stderr); status != exitOK {
		t.Fatalf("status %d: %s", status, &stderr)
	}

	if n := bytes.Count(stdout.Bytes(), []byte("\n")); n != 1 {
		t.Errorf("%d lines", n)
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
		t.Errorf("%v\n%s", err, &stdout)
	}

	var i events.Inspection
	if err := json.Unmarshal(stdout.Bytes(), &i); err != nil {
		t.Fatal(err)
	}

	return &i
}

func TestInspectNode(t *testing.T) {
	i := inspected(t)
	if i.Kind != events.KindInspection || i.NodeState == nil || i.NodeState.TotalBytes == nil || len(i.NodeState.Zones) == 0 ||
		len(i.Candidates) == 0 || i.Cgroup != nil {
		t.Errorf("%+v", i)
	}

	var stdout, stderr bytes.Buffer
	if status := run([]string{"inspect", "--utc"}, &stdout, &stderr); status != exitOK || !strings.Contains(stdout.String(), "next victims") {
		t.Errorf("status %d: %s%s", status, &stdout, &stderr)
	}
}

// TestInspectProcess finds a process's cgroup, its limit, and that it would die.
func TestInspectProcess(t *testing.T) {
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
	if i.Cgroup.Path != s.Path() || i.Limiter.Cgroup == nil || i.Limiter.Cgroup.Path != s.Path() || *i.Limiter.LimitBytes != 64<<20 ||
		*i.HeadroomBytes+*i.Limiter.UsageBytes != 64<<20 {
		t.Errorf("%+v, limiter %+v", i, i.Limiter)
	}

	if len(i.Candidates) != 1 || i.Candidates[0].PID != sleep.Process.Pid || i.Candidates[0].Comm != "sleep" || i.Candidates[0].Points == nil {
		t.Errorf("candidates %+v", i.Candidates)
	}
}
