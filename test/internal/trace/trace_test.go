// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTraceMergesUpdates(t *testing.T) {
	var tr Trace
	tr.Add(
		`{"v":1,"kind":"incident","id":"a","victims":[{"pid":1,"comm":"a\\x1bb"}]}`,
		`{"v":1,"kind":"status","phase":"start"}`,
		`{"v":1,"kind":"incident","id":"b","victims":[{"pid":2,"workload":{"pod":"cart"}}]}`,
	)
	before := tr.Incident("a")

	tr.Add(`{"v":1,"kind":"incident_update","id":"a","notes":["later"]}`)

	if len(tr.Problems) > 0 {
		t.Fatalf("got problems %q, want none", tr.Problems)
	}

	a := tr.Incident("a")
	if len(tr.Incidents) != 2 || !slices.Equal(a.Notes, []string{"later"}) || len(before.Notes) > 0 {
		t.Errorf("got %d incidents, notes %q, before the update %q; want 2, [later], none", len(tr.Incidents), a.Notes, before.Notes)
	}

	if tr.Named["a"] || !tr.Named["b"] {
		t.Errorf("got named %v, want b only", tr.Named)
	}

	if got := tr.Of(2); len(got) != 1 || got[0].ID != "b" {
		t.Errorf("got %d incidents of pid 2, want incident b", len(got))
	}
}

func TestTraceReportsLinesOutOfPlaceAndLostRecords(t *testing.T) {
	var tr Trace
	tr.Add(
		`{"v":1,"kind":"incident","id":"a"}`,
		`{"v":1,"kind":"incident","id":"a"}`,
		`{"v":1,"kind":"incident_update","id":"b"}`,
		`{"v":1,`,
		`{"v":1,"kind":"lost","what":"victim","count":2}`,
	)

	want := []string{"incident a came twice", "update of incident b, which was not reported", "unexpected end of JSON input", "records were lost"}
	if len(tr.Problems) != len(want) {
		t.Fatalf("got problems %q, want %q", tr.Problems, want)
	}

	for i := range want {
		if !strings.HasPrefix(tr.Problems[i], want[i]) {
			t.Errorf("got problem %q, want one that starts with %q", tr.Problems[i], want[i])
		}
	}
}

func TestLinesReturnsWholeLinesOnce(t *testing.T) {
	p := &Process{base: filepath.Join(t.TempDir(), "trace")}

	for _, step := range []struct {
		content string
		want    []string
	}{
		{"", nil},
		{"one\ntw", []string{"one"}},
		{"one\ntwo\nthree\n", []string{"two", "three"}},
		{"one\ntwo\nthree\n", nil},
	} {
		if err := os.WriteFile(p.file("jsonl"), []byte(step.content), 0o600); err != nil {
			t.Fatal(err)
		}

		if got := p.Lines(); !slices.Equal(got, step.want) {
			t.Errorf("with %q: got lines %q, want %q", step.content, got, step.want)
		}
	}
}
