// SPDX-License-Identifier: Apache-2.0

package view

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestNewsOfVictims: facts that an update adds are put to the right victim, whatever its
// name looks like in print.
func TestNewsOfVictims(t *testing.T) {
	victims := func(exits ...uint64) *events.Incident {
		inc := &events.Incident{}

		for i, ns := range exits {
			v := events.Victim{Process: events.Process{PID: 10 + i, Comm: "a] b"}, AnonRSSBytes: new(mib)}
			if ns > 0 {
				v.ExitAfterNS = new(ns)
			}

			inc.Victims = append(inc.Victims, v)
		}

		return inc
	}

	for _, test := range []struct {
		name          string
		before, after *events.Incident
		want          []string // label: line
	}{
		{"an exit of the second", victims(0, 0), victims(0, 1e9), []string{`exit: "a] b"[11] exited after 1.0 s`}},
		{"one more victim", victims(0), victims(0, 0), []string{`victims: "a] b"[11], anon 1.0 MiB`}},
		{"nothing new", victims(1e9), victims(1e9), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			sections := func(inc *events.Incident) []section { return newBlock(inc, nil).sections() }
			var got []string

			for _, s := range difference(sections(test.before), sections(test.after)) {
				for _, g := range s.groups {
					line := s.label + ": "

					for i, item := range g.items {
						if i > 0 {
							line += g.sep
						}
						line += item
					}

					got = append(got, line)
				}
			}

			if len(got) != len(test.want) || len(got) > 0 && got[0] != test.want[0] {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
