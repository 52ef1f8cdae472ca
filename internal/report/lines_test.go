// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func read(t testing.TB, r io.Reader) (ids []string, incidents []*events.Incident, remarks []string) {
	t.Helper()
	src := NewLines(r)
	if err := src.Incidents(func(inc *events.Incident) error {
		ids = append(ids, inc.ID)
		incidents = append(incidents, inc)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids, incidents, src.Remarks()
}

func TestLines(t *testing.T) {
	const (
		a       = `{"v":1,"kind":"incident","id":"a","outcome":"killed"}`
		b       = `{ "id":"b", "kind":"incident" }`
		updateA = `{"v":1,"kind":"incident_update","id":"a","notes":["later"]}`
		stall   = `{"v":1,"kind":"stall","what":"memory_high"}`
		lost    = `{"v":1,"kind":"lost","what":"exit","count":12}`
		broken  = `{"v":1,"kind":"incident","id":`
	)
	for _, test := range []struct {
		name    string
		lines   []string
		ids     string
		remarks []string
	}{
		{"nothing", nil, "", nil},
		{"one", []string{a, ""}, "a", nil},
		{"without an end", []string{a}, "a", nil},
		{"merged", []string{a, b, stall, updateA, ""}, "a b", nil},
		{"blank lines", []string{"", a, "  ", ""}, "a", nil},
		{"torn", []string{a, broken}, "a", []string{"the last line is torn, and was left out"}},
		{"broken", []string{"\x00\xff", broken, a, "null", "[]", ""}, "a", []string{"3 lines could not be read"}},
		{"lost", []string{lost, a, lost, ""}, "a", []string{"24 records did not reach the tracer: what is shown may be incomplete"}},
		{"an update of what is not there", []string{updateA, b, ""}, "b", []string{"1 update of incidents that are not in the recording, or long before, left out"}},
		{"too long", []string{`{"kind":"` + strings.Repeat("x", maxLineBytes) + `"}`, a, ""}, "a", []string{"1 line longer than 16.0 MiB passed over"}},
		{"too long, torn", []string{a, strings.Repeat("x", maxLineBytes+1)}, "a", []string{"1 line longer than 16.0 MiB passed over"}},
		{"another kind", []string{`{"v":9,"kind":"dream","id":"z"}`, a, ""}, "a", nil},
	} {
		ids, incidents, remarks := read(t, strings.NewReader(strings.Join(test.lines, "\n")))
		if strings.Join(ids, " ") != test.ids || !reflect.DeepEqual(remarks, test.remarks) {
			t.Errorf("%s: %q, %q", test.name, ids, remarks)
		}
		if test.name == "merged" && !reflect.DeepEqual(incidents[0].Notes, []string{"later"}) {
			t.Errorf("%s: %+v", test.name, incidents[0])
		}
	}
}

// TestLinesWindow: updates find their incident while no more than so many others
// came between.
func TestLinesWindow(t *testing.T) {
	var in bytes.Buffer
	for i := range 3 * openIncidents {
		fmt.Fprintf(&in, `{"v":1,"kind":"incident","id":"%d"}`+"\n", i)
		for _, back := range []int{openIncidents - 1, openIncidents + 1} {
			if i >= back {
				fmt.Fprintf(&in, `{"v":1,"kind":"incident_update","id":"%d","notes":["%d"]}`+"\n", i-back, back)
			}
		}
	}
	ids, incidents, remarks := read(t, &in)
	if len(ids) != 3*openIncidents || ids[7] != "7" {
		t.Errorf("%d incidents", len(ids))
	}
	if len(incidents[0].Notes) != 1 || incidents[0].Notes[0] != fmt.Sprint(openIncidents-1) {
		t.Errorf("%q", incidents[0].Notes)
	}
	if len(remarks) != 1 || !strings.HasPrefix(remarks[0], fmt.Sprint(2*openIncidents-1)+" updates") {
		t.Errorf("%q", remarks)
	}
}

type failing struct{ r io.Reader }

var errBad = errors.New("bad sector")

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = errBad
	}
	return n, err
}

func TestLinesReadError(t *testing.T) {
	src := NewLines(failing{strings.NewReader(`{"v":1,"kind":"incident","id":"a"}` + "\n")})
	if err := src.Incidents(func(*events.Incident) error { return nil }); !errors.Is(err, errBad) {
		t.Error(err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"v":1,"kind":"incident","id":"a"}` + "\n"))
	f.Add([]byte(`{"v":1,"kind":"lost","count":-1}` + "\nx"))
	text, _ := io.ReadAll(recording(f, "pod-limit", "node", "user-kill"))
	f.Add(text)
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if _, err := Text(&out, NewLines(bytes.NewReader(in)), fixed(Options{Width: 60})); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.String() {
			if r != '\n' && !events.Printable(r) {
				t.Fatalf("%U came through", r)
			}
		}
		html := renderHTML(t, NewLines(bytes.NewReader(in)), Options{})
		if n := bytes.Count(html, []byte("<script")); n != 1+bytes.Count(html, []byte(`<script type="application/json">`)) {
			t.Fatalf("%d scripts", n)
		}
	})
}
