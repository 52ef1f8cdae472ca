// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// Lines that cannot be parsed are counted, unknown ones are returned; neither is an error.
func TestUnreadableLinesAreCounted(t *testing.T) {
	good := string(trimmed(incidentLine(t, "a", 1))[0])
	long := `{"kind":"x","time":"2026-08-20T14:03:07Z","pad":"` + strings.Repeat("y", MaxLineBytes) + `"}`

	future := `{"v":2,"kind":"incident_of_tomorrow","time":"2026-08-20T14:03:07Z","id":{"not":"text"},"new":[1,2,{}]}`
	for name, test := range map[string]struct {
		text  string
		want  []string
		stats Stats
	}{
		"nothing":       {"", nil, Stats{}},
		"empty lines":   {"\n\n \n" + good + "\n\n", []string{good}, Stats{Lines: 1}},
		"windows":       {good + "\r\n", []string{good + "\r"}, Stats{Lines: 1}},
		"a future kind": {future + "\n" + good + "\n", []string{future, good}, Stats{Lines: 2, Newer: 1}},
		"not JSON":      {"hello\n" + good + "\n", []string{good}, Stats{Lines: 1, Damaged: 1}},
		"JSON, not a line": {"3\n[]\n{}\nnull\n{\"kind\":7}\n{\"kind\":\"\"}\n" + good + "\n", []string{good},
			Stats{Lines: 1, Damaged: 6}},
		"an id, not a string": {`{"kind":"incident","id":7}` + "\n", nil, Stats{Damaged: 1}},
		"zeros after a crash": {good + "\n" + strings.Repeat("\x00", 5000), []string{good}, Stats{Lines: 1, Torn: 1}},
		"two lines in one":    {good[:40] + good + "\n" + good + "\n", []string{good}, Stats{Lines: 1, Damaged: 1}},
		"too long":            {long + "\n" + good + "\n", []string{good}, Stats{Lines: 1, Damaged: 1}},
		"too long, torn":      {good + "\n" + long, []string{good}, Stats{Lines: 1, Torn: 1}},
		"the maximum length": {long[:MaxLineBytes-2] + "\"}\n", []string{long[:MaxLineBytes-2] + `"}`},
			Stats{Lines: 1}},
		"no newline at end": {good, []string{good}, Stats{Lines: 1}},
	} {
		for _, form := range []string{plainSuffix, compressedSuffix} {
			t.Run(name+form, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "x") // the format is recognized without a suffix

				content := []byte(test.text)
				if form == compressedSuffix {
					content = compressed(t, content)
				}

				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				got, stats := readAll(t, path, Selection{})

				test.stats.Segments, test.stats.Bytes = 1, stats.Bytes
				if !slices.Equal(got, test.want) || stats != test.stats {
					t.Errorf("got %.200q, %+v, want %.200q, %+v", got, stats, test.want, test.stats)
				}
			})
		}
	}
}

func TestSelectionSelectsUpdatesWithTheirIncident(t *testing.T) {
	envelope := events.Envelope{V: 1, Kind: events.KindStatus, Time: testTime(4), BootID: testBoot}
	status := marshal(t, &events.Status{Envelope: envelope, Phase: "audit"})
	other := bytes.Replace(updateLine(t, "b", 9, "of another boot"), []byte(testBoot), []byte("0000"), 1)
	content := bytes.Join([][]byte{
		incidentLine(t, "a", 1), incidentLine(t, "b", 3), status, updateLine(t, "a", 5, "x"),
		updateLine(t, "b", 9, "y"), incidentLine(t, "c", 2 /* the clock was set back */), other,
	}, nil)

	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		s    Selection
		want string
	}{
		"all": {Selection{},
			"incident a, incident b, status , incident_update a, incident_update b, incident c, incident_update b"},
		"since": {Selection{Since: testTime(3)}, "incident b, status , incident_update b"},
		"until": {Selection{Until: testTime(3)},
			"incident a, incident b, incident_update a, incident_update b, incident c"},
		"between":      {Selection{Since: testTime(2), Until: testTime(2)}, "incident c"},
		"id":           {Selection{ID: "a"}, "incident a, incident_update a"},
		"id and since": {Selection{ID: "a", Since: testTime(2)}, ""},
		"no such id":   {Selection{ID: "z"}, ""},
	} {
		lines, _ := readAll(t, path, test.s)
		var got []string

		for _, line := range lines {
			l, err := parse([]byte(line))
			if err != nil {
				t.Fatal(err)
			}

			got = append(got, l.Kind+" "+l.ID)
		}

		if text := strings.Join(got, ", "); text != test.want {
			t.Errorf("%s: got %s, want %s", name, text, test.want)
		}
	}
}

func TestDecodedLinesAreWrittenUnchanged(t *testing.T) {
	envelope := func(kind string) events.Envelope {
		return events.Envelope{V: 1, Kind: kind, Time: testTime(1), BootID: testBoot, Node: "n"}
	}

	hostile := "a\xff\x1b[2J\u202e\ufffdff"
	for _, want := range []events.Line{
		&events.Incident{Envelope: envelope(events.KindIncident), ID: "a", Trigger: &events.Process{Comm: hostile},
			Notes: []string{hostile}},
		&events.Update{Change: &events.Incident{Envelope: envelope(events.KindIncidentUpdate), ID: "a"}},
		&events.Lost{Envelope: envelope(events.KindLost), What: "x", Count: 3},
		&events.Status{Envelope: envelope(events.KindStatus), Phase: "end"},
		&events.StallLine{Envelope: envelope(events.KindStall), Task: events.Process{Comm: hostile}},
		&events.PressureLine{Envelope: envelope(events.KindPressure), What: "y"},
	} {
		raw := bytes.TrimSuffix(marshal(t, want), []byte("\n"))

		l, err := parse(raw)
		if err != nil {
			t.Fatal(err)
		}

		got, err := l.Decode()
		if err != nil || fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) {
			t.Fatalf("got %T, error %v, want %T", got, err, want)
		}

		if again := bytes.TrimSuffix(marshal(t, got), []byte("\n")); !bytes.Equal(again, raw) {
			t.Errorf("\n got %s\nwant %s", again, raw)
		}

		if inc, ok := got.(*events.Incident); ok && inc.Trigger != nil &&
			(inc.Trigger.Comm != hostile || inc.Notes[0] != hostile) {
			t.Errorf("got comm %q, notes %q, want %q", inc.Trigger.Comm, inc.Notes, hostile)
		}
	}
}

// incidents reads the incidents of a file.
func incidents(t *testing.T, content []byte, fn func(*events.Incident) error) (Stats, error) {
	t.Helper()

	r := &Reader{name: "test"}
	if err := r.start(bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	err := Incidents(r, fn)

	return r.Stats(), err
}

// Other lines come as they are read; an incident waits for its updates, to the end of this file.
func TestWalkReturnsOtherLines(t *testing.T) {
	envelope := func(kind string, n int) events.Envelope {
		return events.Envelope{V: 1, Kind: kind, Time: testTime(n), BootID: testBoot, Node: "n"}
	}
	content := bytes.Join([][]byte{
		incidentLine(t, "a", 1), marshal(t, &events.StallLine{Envelope: envelope(events.KindStall, 2), What: "x"}),
		updateLine(t, "a", 3, "1"), marshal(t, events.FinalOf(&events.Incident{Envelope: envelope(events.KindIncident, 1), ID: "a"})),
		[]byte(`{"kind":"stall","what":3}` + "\n"), []byte(`{"kind":"later"}` + "\n"),
		marshal(t, &events.Lost{Envelope: envelope(events.KindLost, 4), What: "y", Count: 1}),
	}, nil)

	var got []string

	r := NewReader(bytes.NewReader(content))

	err := Walk(r, func(inc *events.Incident) error {
		got = append(got, inc.ID+" "+strings.Join(inc.Notes, ","))
		return nil
	}, func(line events.Line) error {
		got = append(got, fmt.Sprintf("%T", line))
		return nil
	})
	if want := []string{"*events.StallLine", "*events.Lost", "a 1"}; err != nil || !slices.Equal(got, want) || r.Stats().Damaged != 1 {
		t.Errorf("got %q, error %v and %d damaged lines, want %q and one", got, err, r.Stats().Damaged, want)
	}

	broken := errors.New("broken")
	if err := Walk(NewReader(bytes.NewReader(content)), nil, func(events.Line) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got error %v, want %v", err, broken)
	}
}

func TestIncidentsAreMergedWithTheirUpdates(t *testing.T) {
	content := bytes.Join([][]byte{
		incidentLine(t, "a", 1), incidentLine(t, "b", 2), updateLine(t, "b", 3, "1"), updateLine(t, "a", 3, "2"),
		updateLine(t, "gone", 3, "3"), updateLine(t, "b", 4, "4"),
		[]byte(`{"kind":"incident","id":"bad","victims":3}` + "\n"),
		marshal(t, &events.Lost{Envelope: events.Envelope{V: 1, Kind: events.KindLost}, What: "x", Count: 1}),
	}, nil)
	var got []string

	stats, err := incidents(t, content, func(inc *events.Incident) error {
		got = append(got, fmt.Sprintf("%s %s %d %s", inc.Kind, inc.ID, inc.Victims[0].PID, inc.Notes))
		return nil
	})
	if want := []string{"incident a 1 [2]", "incident b 2 [4]"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, error %v, want %q", got, err, want)
	}

	if stats.Late != 1 || stats.Damaged != 1 {
		t.Errorf("got %+v, want one late update and one damaged line", stats)
	}

	stop := errors.New("enough")
	if _, err := incidents(t, content, func(*events.Incident) error { return stop }); err != stop {
		t.Errorf("got error %v, want %v", err, stop)
	}
}

// As many incidents wait for updates as the bounds permit, and no more.
func TestOpenIncidentsAreBounded(t *testing.T) {
	testenv.Slow(t, "decodes 100 MiB")

	for _, test := range []struct {
		name    string
		n, pad  int
		updated func(i int) bool
	}{
		{"number", OpenIncidents.Incidents + 10, 0, func(i int) bool { return i >= 10 }},
		{"bytes", 100, 1 << 20, func(i int) bool { return i >= 100-OpenIncidents.Bytes>>20+1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, w := io.Pipe()

			go func() {
				for i := range test.n {
					line := incidentLine(t, fmt.Sprint(i), i)

					line = slices.Concat(line[:len(line)-2], []byte(`,"pad":"`), bytes.Repeat([]byte("x"), test.pad),
						[]byte("\"}\n"))
					if _, err := w.Write(line); err != nil {
						return
					}
				}

				for i := range test.n {
					if _, err := w.Write(updateLine(t, fmt.Sprint(i), i, "late")); err != nil {
						return
					}
				}

				w.Close()
			}()

			reader := &Reader{}
			if err := reader.start(r); err != nil {
				t.Fatal(err)
			}
			i, late := 0, 0

			err := Incidents(reader, func(inc *events.Incident) error {
				if inc.ID != fmt.Sprint(i) || (len(inc.Notes) > 0) != test.updated(i) {
					t.Errorf("got incident %s with notes %q, want %d, updated: %t",
						inc.ID, inc.Notes, i, test.updated(i))
				}

				if len(inc.Notes) == 0 {
					late++
				}

				i++

				return nil
			})
			if err != nil || i != test.n || reader.Stats().Late != late || late == 0 {
				t.Errorf("got %d incidents, %d without their update, %+v, error %v, want %d",
					i, late, reader.Stats(), err, test.n)
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	line := []byte(`{"v":1,"kind":"incident","time":"2026-08-20T14:03:07Z","boot_id":"b","node":"n","id":"a","victims":[{"pid":1,"tid":1,"comm":"x"}]}` + "\n")
	f.Add(line)
	f.Add(bytes.Repeat(line, 3)[:len(line)*2+20])
	f.Add(compressed(f, bytes.Repeat(line, 50)))
	f.Add(compressed(f, line)[:20])
	f.Add([]byte("{\"v\":2,\"kind\":\"incident_update\",\"id\":\"a\",\"notes\":[\"\\ufffdff\"]}\n\x00\x00\n{}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		read := func() *Reader {
			r := &Reader{name: "fuzz"}
			if r.start(bytes.NewReader(content)) != nil {
				t.Skip()
			}

			return r
		}

		r := read()
		defer r.Close()
		lines := 0

		for l, err := range r.Lines() {
			if err != nil {
				t.Fatal(err)
			}

			lines++

			if bytes.ContainsRune(l.Raw, '\n') || len(l.Raw) > MaxLineBytes || l.Kind == "" {
				t.Errorf("got line %q, want one line of a kind", l.Raw)
			}

			if decoded, err := l.Decode(); err == nil && decoded != nil {
				if _, err := events.Marshal(decoded); err != nil {
					t.Errorf("got error %v for %q, want none", err, l.Raw)
				}
			}
		}

		if r.Stats().Lines != lines {
			t.Errorf("got %d lines, want %+v", lines, r.Stats())
		}

		r.Stats().Warnings()

		if err := Incidents(read(), func(*events.Incident) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// The writer rotates and compresses, and another one continues after a crash.
func TestFollowReturnsEachLineOnce(t *testing.T) {
	testenv.Slow(t, "waits for the reader's timer")

	dir := t.TempDir()
	w := create(t, dir, Options{SegmentBytes: 2 << 10})
	w.Append(incidentLine(t, "0", 0), true)

	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	r.Follow(ctx)

	const n = 400
	go func() {
		for i := 1; i < n; i++ {
			if i == n/2 {
				// A writer that was killed leaves a torn line.
				if _, err := w.open.file.WriteString(`{"v":1,"ki`); err != nil {
					t.Error(err)
				}

				w.Close()

				w, err = Create(dir, Options{SegmentBytes: 2 << 10})
				if err != nil {
					t.Error(err)
					cancel()

					return
				}
			}

			w.Append(incidentLine(t, fmt.Sprint(i), i), false)

			if i%100 == 0 {
				time.Sleep(followInterval)
			}
		}
	}()

	for i := range n {
		l, err := r.next()
		if err != nil || l.ID != fmt.Sprint(i) {
			t.Fatalf("got %+v, error %v, want incident %d", l, err, i)
		}
	}

	cancel()

	if l, err := r.next(); err != io.EOF {
		t.Errorf("got %+v, error %v after the end, want io.EOF", l, err)
	}

	if s := r.Stats(); s.Torn != 1 || s.Damaged+s.Missing+s.CutOff != 0 {
		t.Errorf("got %+v, want one torn line alone", s)
	}

	w.Close()
}

func TestFollowDoesNotWaitForMoreOfACompressedFile(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, segmentFile(1, compressedSuffix), compressed(t, incidentLine(t, "a", 1)))

	for _, path := range []string{dir, filepath.Join(dir, segmentFile(1, compressedSuffix))} {
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx, cancel := context.WithCancel(t.Context())
		r.Follow(ctx)

		if l, err := r.next(); err != nil || l.ID != "a" {
			t.Errorf("got %+v, error %v, want incident a", l, err)
		}

		cancel()

		if _, err := r.next(); err != io.EOF {
			t.Errorf("got error %v, want io.EOF", err)
		}
	}
}

func TestFollowWaitsForTheRestOfALine(t *testing.T) {
	testenv.Slow(t, "waits for the reader's timer")

	path := filepath.Join(t.TempDir(), "x")

	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	r.Follow(t.Context())
	go func() {
		line := incidentLine(t, "a", 1)
		for _, part := range [][]byte{line[:2], line[2:30], line[30:]} {
			time.Sleep(followInterval)
			file.Write(part)
		}
	}()

	if l, err := r.next(); err != nil || l.ID != "a" {
		t.Errorf("got %+v, error %v, want incident a", l, err)
	}
}

func TestLostAndUnrecordedLinesAreCountedApart(t *testing.T) {
	r := NewReader(strings.NewReader(`{"v":1,"kind":"lost","what":"recording","count":11}
{"v":1,"kind":"lost","what":"victim_signal","count":2}
`))
	if err := Incidents(r, func(*events.Incident) error { return nil }); err != nil {
		t.Fatal(err)
	}

	if s := r.Stats(); s.Unrecorded != 11 || s.Lost != 2 {
		t.Errorf("got %+v, want 11 unrecorded and 2 lost", s)
	}

	warnings := strings.Join(r.Stats().Warnings(), "\n")
	for _, words := range []string{
		"records lost before they reached the tracer: 2:", "lines not recorded because the disk was full or failed: 11:",
	} {
		if !strings.Contains(warnings, words) {
			t.Errorf("got warnings %q, want %q", warnings, words)
		}
	}
}
