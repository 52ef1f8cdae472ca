// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"io"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/record"
)

// lines is a source of lines as -o json writes them.
func lines(r io.Reader) Source { return Recording(record.NewReader(r)) }

func FuzzLines(f *testing.F) {
	f.Add([]byte(`{"v":1,"kind":"incident","id":"a"}` + "\n"))
	f.Add([]byte(`{"v":1,"kind":"lost","count":-1}` + "\nx"))
	text, _ := io.ReadAll(fixture(f, "pod-limit", "node", "user-kill"))
	f.Add(text)
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if _, err := Text(&out, lines(bytes.NewReader(in)), fixed(Options{Width: 60})); err != nil {
			t.Fatal(err)
		}

		for _, r := range out.String() {
			if r != '\n' && !events.Printable(r) {
				t.Fatalf("got unprintable %U", r)
			}
		}

		if _, err := Perfetto(io.Discard, lines(bytes.NewReader(in)), fixed(Options{})); err != nil {
			t.Fatal(err)
		}

		html := renderHTML(t, lines(bytes.NewReader(in)), Options{})
		if n := bytes.Count(html, []byte("<script")); n != 1+bytes.Count(html, []byte(`<script type="application/json"`)) {
			t.Fatalf("got %d scripts beside those with data, want 1", n)
		}
	})
}

func read(t testing.TB, r io.Reader) (ids []string, incidents []*events.Incident, warnings []string) {
	t.Helper()

	source := lines(r)
	if err := source.Incidents(func(inc *events.Incident) error {
		ids = append(ids, inc.ID)
		incidents = append(incidents, inc)

		return nil
	}); err != nil {
		t.Fatal(err)
	}

	return ids, incidents, source.Warnings()
}
