// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// transcript is a sink that keeps a word for each line it gets.
type transcript struct{ words []string }

func (s *transcript) Write(l events.Line) error {
	word := fmt.Sprintf("%T", l)

	switch l := l.(type) {
	case *events.Headline:
		word = "headline " + l.ID
	case *events.Incident:
		word = "incident " + l.ID + l.Summary
	case *events.Update:
		word = "update " + l.Change.ID + l.Change.Summary
	case *events.Final:
		word = "final " + l.ID
	case *events.Explained:
		word = "explained " + l.Incident.ID
	case *events.Status:
		word = l.Phase
	case *events.Lost:
		word = "lost"
	}

	s.words = append(s.words, word)

	return nil
}

func incident(id, summary string) *events.Incident { return &events.Incident{ID: id, Summary: summary} }

func changed(id, summary string) *events.Update {
	return &events.Update{Change: incident(id, summary), Before: incident(id, ""), After: incident(id, summary)}
}

func TestWhole(t *testing.T) {
	lost, end := &events.Lost{}, &events.Status{Phase: events.PhaseEnd}
	start := &events.Status{Phase: events.PhaseStart}
	waits := changed("a", "1")
	waits.After.Wait, waits.After.Causes = &events.OOMWait{}, []events.Cause{{ID: "oom_kill_disabled"}}
	late := incident("a", "1")
	late.Causes = []events.Cause{{ID: "own_limit"}}
	head := func(id string) *events.Headline { return &events.Headline{ID: id} }
	explained := func(id, summary string) *events.Explained { return &events.Explained{Incident: incident(id, summary)} }
	final := func(id, summary string) *events.Final { return events.FinalOf(incident(id, summary)) }

	for name, test := range map[string]struct {
		lines           []events.Line
		atOnce, inOrder string
	}{
		"two kills at once": {
			[]events.Line{
				head("a"), incident("a", ""), head("b"), incident("b", ""), changed("a", "1"), changed("b", "1"),
				explained("b", "2"), explained("a", "2"), changed("a", "3"),
			},
			"headline a, headline b, incident b2, incident a2, update a3",
			"headline a, incident a2, headline b, incident b2, update a3",
		},
		"a recording, which has no line that reports the causes": {
			[]events.Line{incident("a", ""), changed("a", "1"), lost, final("a", "2"), changed("a", "3")},
			"lost, incident a2, final a, update a3",
			"incident a2, lost, final a, update a3",
		},
		"an older recording, without final lines": {
			[]events.Line{incident("a", ""), lost, incident("b", ""), changed("a", "1"), end},
			"lost, incident a1, incident b, end",
			"incident a1, lost, incident b, end",
		},
		"a recorder that was killed, and started again": {
			[]events.Line{incident("a", ""), start, lost, incident("b", ""), final("b", "1")},
			"incident a, start, lost, incident b1, final b",
			"incident a, start, lost, incident b1, final b",
		},
		"tasks that wait for memory": {
			[]events.Line{incident("a", ""), waits, lost, final("a", "2")},
			"lost, incident a2, final a",
			"incident a1, lost, final a",
		},
		"an incident that matches a filter since a late name": {
			[]events.Line{late, lost, final("a", "2")},
			"incident a1, lost, final a",
			"incident a2, lost, final a",
		},
		"an update of an incident that was never there": {
			[]events.Line{changed("x", "1")}, "update x1", "update x1",
		},
	} {
		for inOrder, want := range map[bool]string{false: test.atOnce, true: test.inOrder} {
			got := new(transcript)
			w := &Whole{next: got, inOrder: inOrder}

			for _, l := range test.lines {
				if err := w.Write(l); err != nil {
					t.Fatal(err)
				}
			}

			if err := w.Close(); err != nil {
				t.Fatal(err)
			}

			if words := strings.Join(got.words, ", "); words != want {
				t.Errorf("%s, in order %v: got  %s\nwant %s", name, inOrder, words, want)
			}
		}
	}
}

// What is held back has a bound, whatever a recording has.
func TestWholeHoldsABoundedNumberBack(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		got := new(transcript)
		w := &Whole{next: got, inOrder: inOrder}

		for i := range maxHeld + 10 {
			if err := w.Write(incident(fmt.Sprint(i), "")); err != nil {
				t.Fatal(err)
			}
		}

		if len(got.words) != 10 || got.words[0] != "incident 0" || len(w.held) != maxHeld {
			t.Errorf("in order %v: got %d forwarded and %d held back, want the oldest 10 forwarded", inOrder, len(got.words), len(w.held))
		}
	}
}
