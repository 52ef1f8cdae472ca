// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"slices"
	"strings"
	"testing"
	"time"
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

func TestTraceComparesFinalLines(t *testing.T) {
	var tr Trace
	tr.Add(
		`{"v":1,"kind":"incident","id":"a"}`,
		`{"v":1,"kind":"incident","id":"b"}`,
		`{"v":1,"kind":"incident","id":"c"}`,
		`{"v":1,"kind":"incident_update","id":"a","notes":["later"]}`,
		`{"v":1,"kind":"incident_final","id":"a","notes":["later"]}`,
		`{"v":1,"kind":"incident_update","id":"a","notes":["much later"]}`,
	)

	if len(tr.Problems) > 0 {
		t.Fatalf("got problems %q, want none", tr.Problems)
	}

	if got := tr.WithoutFinal(); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("got %q without a final line, want b and c", got)
	}

	tr.Add(
		`{"v":1,"kind":"incident_final","id":"a"}`,
		`{"v":1,"kind":"incident_final","id":"b","notes":["in no update"]}`,
		`{"v":1,"kind":"incident_final","id":"d"}`,
	)

	want := []string{"the final line of incident a came twice", "final line: got", "incident_final of incident d, which was not reported"}
	if len(tr.Problems) != len(want) {
		t.Fatalf("got problems %q, want %q", tr.Problems, want)
	}

	for i := range want {
		if !strings.HasPrefix(tr.Problems[i], want[i]) {
			t.Errorf("got problem %q, want one that starts with %q", tr.Problems[i], want[i])
		}
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

	want := []string{"incident a came twice", "incident_update of incident b, which was not reported", "unexpected end of JSON input", "records were lost"}
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
	p, began := new(Process), time.Now()

	for _, step := range []struct {
		printed string
		want    []string
	}{
		{"", nil},
		{"one\ntw", []string{"one"}}, // the rest is of one that was killed
		{"two\nthree\n", []string{"two", "three"}},
		{"", nil},
	} {
		p.read(strings.NewReader(step.printed))

		var got []string

		for _, line := range p.Timed() {
			got = append(got, line.Text)

			if line.At.Before(began) || line.At.After(time.Now()) {
				t.Errorf("line %s: got time %v, want that of the test", line.Text, line.At)
			}
		}

		if !slices.Equal(got, step.want) {
			t.Errorf("after %q: got lines %q, want %q", step.printed, got, step.want)
		}
	}

	p.read(strings.NewReader(`{"v":1,"kind":"lost","what":"cgroup","count":2}` + "\n"))

	if got := p.Count(); got != 3 {
		t.Errorf("got a count of %d lines, want 3, without that of a loss", got)
	}

	if got := len(p.Lines()); got != 1 {
		t.Errorf("got %d lines, want that of the loss", got)
	}
}
