// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"fmt"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func incident(id string) *events.Incident { return &events.Incident{ID: id, Notes: []string{"first"}} }

func note(id, text string) *events.Incident { return &events.Incident{ID: id, Notes: []string{text}} }

func mustOpen(t *testing.T, l *Ledger, inc *events.Incident, size int) {
	t.Helper()

	if err := l.Open(inc, size); err != nil {
		t.Fatal(err)
	}
}

func TestApplyCopiesOnWrite(t *testing.T) {
	l := New(Limits{}, nil)
	inc := incident("a")
	mustOpen(t, l, inc, 0)

	first := l.Apply(note("a", "second"), 0)
	second := l.Apply(note("a", "third"), 0)

	if inc.Notes[0] != "first" || first.Before != inc || first.After.Notes[0] != "second" {
		t.Errorf("got %q, then %q, want first, then second", inc.Notes, first.After.Notes)
	}

	if second.Before != first.After || second.After != l.Get("", "a") || second.After.Notes[0] != "third" {
		t.Errorf("got %+v, want the second change on top of the first", second)
	}
}

func TestChangesOfUnknownIncidentsAreCounted(t *testing.T) {
	l := New(Limits{}, nil)

	other := incident("a")
	other.BootID = "another boot"
	mustOpen(t, l, other, 0)

	if u := l.Apply(note("a", "x"), 0); u.Before != nil || u.After != nil || u.Change == nil {
		t.Errorf("got %+v, want the change alone", u)
	}

	if l.Late() != 1 || l.Get("", "a") != nil {
		t.Errorf("got %d late changes, want 1", l.Late())
	}
}

func TestTheOldestAreEvictedWithTheirChanges(t *testing.T) {
	for _, limits := range []Limits{{Incidents: 2}, {Bytes: 25}} {
		t.Run(fmt.Sprintf("%+v", limits), func(t *testing.T) {
			var got []string

			l := New(limits, func(inc *events.Incident) error {
				got = append(got, inc.ID+" "+inc.Notes[0])
				return nil
			})
			mustOpen(t, l, incident("a"), 10)
			mustOpen(t, l, incident("b"), 10)
			l.Apply(note("a", "changed"), 1)
			mustOpen(t, l, incident("c"), 10)

			if want := []string{"a changed"}; !slices.Equal(got, want) {
				t.Errorf("got %q evicted, want %q", got, want)
			}

			if err := l.Close(); err != nil {
				t.Fatal(err)
			}

			if want := []string{"a changed", "b first", "c first"}; !slices.Equal(got, want) {
				t.Errorf("got %q at the end, want %q", got, want)
			}
		})
	}
}

// A recording that was concatenated by hand may have an incident twice.
func TestASecondIncidentOfTheSameIDTakesTheUpdates(t *testing.T) {
	l := New(Limits{Incidents: 2}, nil)
	mustOpen(t, l, incident("a"), 0)
	second := incident("a")
	mustOpen(t, l, second, 0)
	mustOpen(t, l, incident("b"), 0)

	if u := l.Apply(note("a", "x"), 0); u.Before != second {
		t.Errorf("got a change of %p, want of the second incident %p", u.Before, second)
	}
}

func TestAChangeMayBeAppliedWhileEvicted(t *testing.T) {
	var l *Ledger
	var last *events.Incident

	l = New(Limits{Incidents: 1}, func(inc *events.Incident) error {
		last = l.Apply(note(inc.ID, "last"), 0).After
		return nil
	})
	mustOpen(t, l, incident("a"), 0)
	mustOpen(t, l, incident("b"), 0)

	if last == nil || last.ID != "a" || last.Notes[0] != "last" || l.Late() != 0 {
		t.Errorf("got %+v and %d late changes, want the last change of a", last, l.Late())
	}
}
