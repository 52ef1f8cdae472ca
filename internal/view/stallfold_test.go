// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func stallLine(ms int, pid int, what events.StallKind, reclaimed uint64) *events.StallLine {
	return &events.StallLine{
		Envelope: events.Envelope{Time: time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond)}, What: string(what),
		DurationNS: uint64(1+ms/100) * 1e6, ReclaimedBytes: reclaimed, Task: events.Process{PID: pid, TID: pid, Comm: "dd"},
	}
}

func TestStallsOfATaskAreOneLineASecond(t *testing.T) {
	var out bytes.Buffer
	f := NewStallFold(NewText(&out, TextOptions{Width: 80, Dates: true, Location: time.UTC}))

	first := stallLine(0, 1, events.StallThrottle, 0)
	write := func(lines ...events.Line) {
		t.Helper()

		for _, l := range lines {
			if err := f.Write(l); err != nil {
				t.Fatal(err)
			}
		}
	}

	write(first, stallLine(100, 1, events.StallThrottle, 0), stallLine(150, 2, events.StallMemcgReclaim, 4096),
		stallLine(200, 1, events.StallThrottle, 0), stallLine(300, 1, events.StallMemcgReclaim, 0),
		stallLine(400, 2, events.StallMemcgReclaim, 8192))

	if out.Len() > 0 {
		t.Errorf("got %q within the second, want it held back", out.String())
	}

	if err := f.Flush(first.Time.Add(999 * time.Millisecond)); err != nil || out.Len() > 0 {
		t.Errorf("got %q and error %v before the second is over", out.String(), err)
	}

	write(&events.Lost{Envelope: first.Envelope, What: "stall", Count: 1}) // another line does not wait

	write(stallLine(1160, 1, events.StallThrottle, 0)) // ends the second of the first two groups

	if err := f.Close(); err != nil || len(f.held) > 0 {
		t.Errorf("got error %v, and lines that are held back after the end: %v", err, len(f.held) > 0)
	}

	const want = `2027-01-15 08:00:00 LOST  1 record (stall), output may be incomplete
2027-01-15 08:00:00 stall  dd[1], throttle 6.0 ms in 3 stalls, longest 3.0 ms
2027-01-15 08:00:00 stall  dd[2], memcg reclaim 7.0 ms in 2 stalls,
             longest 5.0 ms, 12.0 KiB reclaimed
2027-01-15 08:00:00 stall  dd[1], memcg reclaim 4.0 ms, 0 B reclaimed
2027-01-15 08:00:01 stall  dd[1], throttle 12 ms
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}

	if first.DurationNS != 1e6 {
		t.Error("got a changed line, want a copy")
	}
}

func TestStallsThatAreHeldBackAreBounded(t *testing.T) {
	var lines collectedLines
	f := NewStallFold(&lines)

	for pid := range heldStalls + 1 {
		if err := f.Write(stallLine(0, pid+1, events.StallThrottle, 0)); err != nil {
			t.Fatal(err)
		}
	}

	if len(lines) != heldStalls || len(f.held) != 1 {
		t.Errorf("got %d lines written and %d held back, want %d and 1", len(lines), len(f.held), heldStalls)
	}

	if err := f.Flush(stallLine(0, 1, events.StallThrottle, 0).Time.Add(-time.Hour)); err != nil || len(f.held) > 0 {
		t.Errorf("got error %v, %d held back after the clock was set back, want the stall written", err, len(f.held))
	}

	if err := f.Write(stallLine(0, 1, events.StallThrottle, 0)); err != nil {
		t.Fatal(err)
	}

	end := &events.Status{Phase: events.PhaseEnd}
	if err := f.Write(end); err != nil || len(lines) != heldStalls+3 || lines[heldStalls+2] != end {
		t.Errorf("got error %v and %d lines, want the stalls before the end", err, len(lines))
	}
}

type collectedLines []events.Line

func (c *collectedLines) Write(l events.Line) error {
	*c = append(*c, l)
	return nil
}
