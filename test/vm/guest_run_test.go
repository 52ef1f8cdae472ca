// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/test/internal/trace"
)

// TestLinesBetweenCasesBelongToTheCaseBefore: what is printed late must not vanish.
func TestLinesBetweenCasesBelongToTheCaseBefore(t *testing.T) {
	const lost = `{"kind":"lost","what":"mark_victim","count":1}`
	const late = `{"kind":"incident","id":"a","time":"2026-01-01T00:00:00Z"}`

	program := filepath.Join(t.TempDir(), "oomtrace")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nprintf '%s\\n' '"+lost+"' '"+late+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}

	start := func() *trace.Process {
		p, err := trace.Start(program, t.TempDir(), "trace")
		if err != nil {
			t.Fatal(err)
		}

		if err := <-p.Done; err != nil {
			t.Fatal(err)
		}

		return p
	}

	r := &runner{tracers: map[string]*trace.Process{tierFentry: start()}, result: Result{Tracers: map[string]Tracer{}}}
	r.takeLate()

	if got, want := r.result.Tracers[tierFentry].Start, []string{lost, late}; !slices.Equal(got, want) {
		t.Errorf("before the first case: got lines %q, want %q", got, want)
	}

	run := &Run{Lines: map[string][]string{tierFentry: {"of the case"}}, DelaysMS: map[string]map[string]float64{tierFentry: {}}}
	r.result.Runs, r.tracers[tierFentry] = []*Run{run}, start()
	r.takeLate()

	if got, want := run.Lines[tierFentry], []string{"of the case", lost, late}; !slices.Equal(got, want) {
		t.Errorf("after a case: got lines %q, want %q", got, want)
	}

	if len(run.DelaysMS[tierFentry]) != 1 || run.DelaysMS[tierFentry]["a"] <= 0 {
		t.Errorf("after a case: got delays %v, want one of incident a", run.DelaysMS[tierFentry])
	}
}
