// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// idSource has an incident of each id.
type idSource []string

func (s idSource) Incidents(do func(*events.Incident) error) error {
	for _, id := range s {
		if err := do(&events.Incident{ID: id}); err != nil {
			return err
		}
	}

	return nil
}

func (idSource) Warnings() []string { return nil }

func TestAnIncidentIsSelectedByAPartOfItsID(t *testing.T) {
	src := idSource{"b-10", "b-1", "c-1164701177599", "b-1", "c-1164701177600", "c-1164702000000"}

	for given, want := range map[string]struct {
		ids []string
		err string
	}{
		"":                {ids: src},
		"b-1":             {ids: []string{"b-1", "b-1"}},
		"1":               {ids: []string{"b-1", "b-1"}}, // the short id, though three others start so
		"b-10":            {ids: []string{"b-10"}},
		"c-1164702":       {ids: []string{"c-1164702000000"}},
		"1164702":         {ids: []string{"c-1164702000000"}},
		"1164701":         {err: `ambiguous: it matches ["c-1164701177599" "c-1164701177600"]`},
		"c-1164701177599": {ids: []string{"c-1164701177599"}},
		"d":               {err: `no incident in the selected time has the ID "d"`},
	} {
		var got []string

		o := Options{ID: given}
		_, err := o.each(src, func(inc *events.Incident) error {
			got = append(got, inc.ID)
			return nil
		})

		if !slices.Equal(got, want.ids) || (err != nil) != (want.err != "") {
			t.Errorf("%q: got %q, error %v, want %q, error %q", given, got, err, want.ids, want.err)
		}

		if err != nil && !strings.Contains(err.Error(), want.err) {
			t.Errorf("%q: got error %v, want %q", given, err, want.err)
		}
	}
}

func TestManyIncidentsOfOneIDAreAnError(t *testing.T) {
	o := Options{ID: "b-1"}
	src := idSource(slices.Repeat([]string{"b-1"}, maxWanted+1))

	_, err := o.each(src, func(*events.Incident) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "use a longer prefix") {
		t.Errorf("got error %v, want one with the next step", err)
	}
}
