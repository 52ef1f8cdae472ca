// SPDX-License-Identifier: Apache-2.0

package events

import (
	"errors"
	"slices"
	"testing"
)

func TestShortID(t *testing.T) {
	for id, want := range map[string]string{
		"c893c4a0-1164701177599":   "1164701",
		"c893c4a0-999999":          "999999",
		"-1164701177599":           "1164701", // the boot is not known
		"log-3f2a91c07d4e1122":     "3f2a91c0",
		"log-3f2a91c07d4e1122-2":   "3f2a91c07d4e1122-2",
		"b-1":                      "1",
		"nodash":                   "nodash",
		"":                         "",
		"c893c4a0-11647011775990x": "11647011775990x",
	} {
		if got := ShortID(id); got != want {
			t.Errorf("%s: got %q, want %q", id, got, want)
		}

		if short := ShortID(id); short != "" && !MatchesID(id, short) {
			t.Errorf("%s: got no match of its short id %q, want one", id, short)
		}
	}

	if n := testing.AllocsPerRun(100, func() { ShortID("c893c4a0-1164701177599") }); n != 0 {
		t.Errorf("got %v allocations, want none: it is part of a headline", n)
	}
}

func TestIDFinder(t *testing.T) {
	all := []string{
		"b-10", "b-1", "b-1", "b-11", "c893c4a0-1164701177599", "c893c4a0-1164701277599", "c893c4a0-1164888177599",
		"log-3f2a91c07d4e1122", "log-3f2a91c07d4e1122-2",
	}

	for given, want := range map[string]struct {
		id        string
		ambiguous []string
	}{
		"b-1":                    {id: "b-1"}, // not b-10
		"1":                      {id: "b-1"},
		"10":                     {id: "b-10"},
		"1164888":                {id: "c893c4a0-1164888177599"},
		"11648":                  {id: "c893c4a0-1164888177599"},
		"c893c4a0-11648":         {id: "c893c4a0-1164888177599"},
		"1164701":                {ambiguous: all[4:6]},
		"116":                    {ambiguous: all[4:7]},
		"3f2a91c0":               {id: "log-3f2a91c07d4e1122"},
		"3f2":                    {ambiguous: all[7:]},
		"3f2a91c07d4e1122-2":     {id: "log-3f2a91c07d4e1122-2"},
		"b":                      {ambiguous: []string{"b-10", "b-1", "b-11"}},
		"x":                      {},
		"":                       {},
		"c893c4a0-1164701177599": {id: "c893c4a0-1164701177599"},
	} {
		f := NewIDFinder(given)
		for _, id := range all {
			f.Add(id)
		}

		id, err := f.ID()

		var ambiguous *AmbiguousIDError
		if errors.As(err, &ambiguous) != (want.ambiguous != nil) || id != want.id {
			t.Errorf("%q: got %q, error %v, want %q, ambiguous %q", given, id, err, want.id, want.ambiguous)
			continue
		}

		if ambiguous != nil && !slices.Equal(ambiguous.IDs, want.ambiguous) {
			t.Errorf("%q: got candidates %q, want %q", given, ambiguous.IDs, want.ambiguous)
		}
	}
}

func TestAmbiguousIDListsFive(t *testing.T) {
	f := NewIDFinder("b")
	for _, id := range []string{"b-1", "b-2", "b-3", "b-4", "b-5", "b-\x1b", "b-7"} {
		f.Add(id)
	}

	const want = `the ID "b" is ambiguous: it matches ["b-1" "b-2" "b-3" "b-4" "b-5" and others]: use a longer prefix`
	if _, err := f.ID(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
