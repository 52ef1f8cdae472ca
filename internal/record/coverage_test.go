// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// statusLine returns the status line of a phase.
func statusLine(t testing.TB, node, phase string, n int) []byte {
	return marshal(t, &events.Status{
		Envelope: events.Envelope{V: 1, Kind: events.KindStatus, Time: testTime(n), BootID: testBoot, Node: node},
		Phase:    phase, Tier: events.TierFentry, KernelRelease: "6.12.0",
	})
}

func TestCoverage(t *testing.T) {
	start := func(n int) []byte { return statusLine(t, "n", events.PhaseStart, n) }
	end := func(n int) []byte { return statusLine(t, "n", events.PhaseEnd, n) }
	other := func(phase string, n int) []byte { return statusLine(t, "m", phase, n) }

	for _, test := range []struct {
		lines [][]byte
		want  string // node, seconds of begin and end, s: started, e: ended
	}{
		{nil, ""},
		{[][]byte{incidentLine(t, "a", 1), incidentLine(t, "b", 2)}, ""},
		{[][]byte{start(0), incidentLine(t, "a", 5), end(9)}, "n 0-9 se"},
		{[][]byte{start(0), incidentLine(t, "a", 5), start(20), updateLine(t, "a", 25, "x")}, "n 0-5 s,n 20-25 s"},
		{[][]byte{incidentLine(t, "a", 5), updateLine(t, "a", 7, "x")}, "n 5-7 "},
		{[][]byte{incidentLine(t, "a", 5), end(9)}, "n 5-9 e"},
		{[][]byte{start(3), other(events.PhaseStart, 1), end(4), other(events.PhaseEnd, 6)}, "m 1-6 se,n 3-4 se"},
	} {
		r := NewReader(bytes.NewReader(append(bytes.Join(test.lines, []byte("\n")), '\n')))
		if err := Incidents(r, func(*events.Incident) error { return nil }); err != nil {
			t.Fatal(err)
		}

		var got []string

		for _, run := range r.Coverage().Runs {
			text := fmt.Sprintf("%s %.0f-%.0f ", run.Node, run.Begin.Sub(testTime(0)).Seconds(), run.End.Sub(testTime(0)).Seconds())
			if run.Started {
				text += "s"
			}

			if run.Ended {
				text += "e"
			}

			got = append(got, text)
		}

		if strings.Join(got, ",") != test.want {
			t.Errorf("got runs %q, want %q", strings.Join(got, ","), test.want)
		}
	}
}

func TestCoverageIsBounded(t *testing.T) {
	var c Coverage

	for i := range 3 * maxRuns {
		for _, node := range []string{"n", fmt.Sprint(i)} {
			l, err := parse(statusLine(t, node, events.PhaseStart, i))
			if err != nil {
				t.Fatal(err)
			}

			c.add(&l)
		}
	}

	c.finish()

	if len(c.open) != 0 || len(c.Runs) > maxRuns || c.Omitted == 0 {
		t.Errorf("got %d open, %d runs, %d omitted, want none, at most %d, some", len(c.open), len(c.Runs), c.Omitted, maxRuns)
	}
}
