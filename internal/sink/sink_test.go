// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"errors"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// collected is a sink that collects its lines.
type collected []events.Line

func (c *collected) Write(l events.Line) error {
	*c = append(*c, l)
	return nil
}

func TestTeeStopsAtTheFirstError(t *testing.T) {
	full := errors.New("full")
	var before, after collected

	s := Tee(&before, Func(func(events.Line) error { return full }), &after)
	if err := s.Write(&events.Lost{}); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}

	if len(before) != 1 || len(after) != 0 {
		t.Errorf("got %d lines before and %d after the failed sink, want 1 and 0", len(before), len(after))
	}
}

func comm(name string) *events.Incident {
	return &events.Incident{ID: name, Victims: []events.Victim{{Process: events.Process{PID: 1, Comm: name}}}}
}

func matchJava(inc *events.Incident) bool {
	return slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.Comm == "java" })
}

func write(t *testing.T, s Sink, lines ...events.Line) {
	t.Helper()

	for _, l := range lines {
		if err := s.Write(l); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilterForwardsMatchingLines(t *testing.T) {
	java, sh, late := comm("java"), comm("sh"), comm("java")
	late.ID = "sh"
	lost := &events.Lost{}
	ofJava := &events.Update{Change: java, Before: java, After: java}

	var got collected
	f := NewFilter(Match{Incident: matchJava}, &got)
	write(t, f,
		&events.Headline{}, java, sh, lost, ofJava,
		&events.Update{Change: sh, Before: sh, After: sh}, // still no match
		&events.Update{Change: late, Before: sh, After: late},
		&events.Update{Change: java}, // of an unknown incident
	)

	if want := (collected{java, lost, ofJava, late}); !slices.Equal(got, want) {
		t.Errorf("got %d lines %v, want %d lines %v", len(got), got, len(want), want)
	}
}

func TestFilterCountsForwardedIncidents(t *testing.T) {
	var got collected
	f := NewFilter(Match{Incident: matchJava}, &got)
	start, end := &events.Status{Phase: "start"}, &events.Status{Phase: "end"}
	write(t, f, start, comm("java"), comm("sh"), end, start, end)

	var shown []uint64

	for _, l := range got {
		if st, ok := l.(*events.Status); ok && st.Phase == "end" {
			shown = append(shown, *st.Shown)
		}
	}

	if want := []uint64{1, 0}; !slices.Equal(shown, want) {
		t.Errorf("got %v incidents shown, want %v: each trace of a recording counts anew", shown, want)
	}

	if end.Shown != nil {
		t.Error("got a changed line, want a copy")
	}
}

func TestFilterCountsUndecidedIncidents(t *testing.T) {
	unnamed := func(inc *events.Incident) bool { return !matchJava(inc) && inc.Victims[0].Comm == "" }
	first, second, third := comm(""), comm(""), comm("")

	var got collected
	f := NewFilter(Match{Incident: matchJava, Undecided: unnamed}, &got)
	write(t, f, first, second, third,
		&events.Update{Change: comm("java"), Before: first, After: comm("java")},
		&events.Update{Change: comm("sh"), Before: second, After: comm("sh")},
	)

	if f.Undecided() != 1 || f.Hidden() != 1 {
		t.Errorf("got %d undecided and %d hidden incidents, want 1 and 1", f.Undecided(), f.Hidden())
	}

	late := comm("java")
	write(t, f, comm("sh"), comm("sh"), &events.Update{Change: late, Before: comm("sh"), After: late})

	if f.Hidden() != 2 {
		t.Errorf("got %d hidden incidents, want 2: one of three matches since its update", f.Hidden())
	}
}
