// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// storm is a number of kills in one container, each some time after the one before.
func storm(kills int, every time.Duration) []events.Line {
	var lines []events.Line

	for i := range kills {
		inc := container()
		inc.ID, inc.Time = fmt.Sprintf("5f0c2c1e-%d", 100+i), start().Add(time.Duration(i)*every)
		inc.Victims[0].PID, inc.Victims[0].TID, inc.Victims[0].Comm = 5000+i, 5000+i, "python3"
		inc.Trigger = &inc.Victims[0].Process
		inc.Causes = []events.Cause{{
			ID: "own_limit", Brief: "anonymous memory is 94 % of it", Confidence: events.ConfidenceCertain, Text: "It reached its limit.",
			Advice: []events.Advice{{Layer: "kubernetes", Text: "Raise the limit, or find what grows."}},
		}}
		lines = append(lines, headline(inc), inc, &events.Explained{Incident: inc})
	}

	for _, l := range lines {
		if inc, ok := l.(*events.Incident); ok {
			lines = append(lines, events.FinalOf(inc))
		}
	}

	return lines
}

func TestBurst(t *testing.T) {
	for _, kills := range []int{4, 200} {
		for name, opts := range map[string]TextOptions{
			"80":  {Width: 80},
			"120": {Width: 120},
			"tty": {Width: 80, Terminal: true, Color: true},
		} {
			opts.Fold, opts.Location = true, time.UTC
			var out bytes.Buffer
			text := NewText(&out, opts)
			whole := sink.NewWhole(text)

			for _, l := range storm(kills, 40*time.Millisecond) {
				if err := whole.Write(l); err != nil {
					t.Fatal(err)
				}
			}

			if err := closeAll(whole, text); err != nil {
				t.Fatal(err)
			}

			testenv.Golden(t, fmt.Sprintf("burst%d.text-%s.golden", kills, name), out.Bytes(), *rewrite)

			if want := fmt.Sprintf("×%d", kills); !strings.Contains(out.String(), want) {
				t.Errorf("%d kills, %s: got no %q, want the count of all", kills, name, want)
			}
		}
	}
}

func closeAll(all ...sink.Closer) error {
	for _, c := range all {
		if err := c.Close(); err != nil {
			return err
		}
	}

	return nil
}

// Kills that can be read one by one are shown so, and so are those of different limits.
func TestFewKillsAreNotFolded(t *testing.T) {
	apart := storm(8, 4*time.Second)

	places := storm(8, time.Millisecond)
	for i, l := range places {
		if inc, ok := l.(*events.Incident); ok {
			limiter := *inc.Limiter
			limiter.Cgroup = cgroup(uint64(100+i), fmt.Sprintf("/c%d", i))
			inc.Limiter = &limiter
		}
	}

	for name, lines := range map[string][]events.Line{"4 s apart": apart[:6], "of eight limits": places} {
		var out bytes.Buffer
		text := NewText(&out, TextOptions{Width: 80, Fold: true, Location: time.UTC})

		incidents := 0

		for _, l := range lines {
			if _, ok := l.(*events.Incident); ok {
				incidents++
			}

			if err := text.Write(l); err != nil {
				t.Fatal(err)
			}
		}

		if got := strings.Count(out.String(), "held by    "); got != incidents {
			t.Errorf("%s: got %d blocks, want %d, one for each kill:\n%s", name, got, incidents, out.String())
		}
	}
}

// shownOf is what a text that folds prints of incidents of a container, one a millisecond.
func shownOf(t *testing.T, opts TextOptions, kills int, change func(i int, inc *events.Incident)) string {
	t.Helper()

	var out bytes.Buffer

	opts.Width, opts.Fold, opts.Location = 80, true, time.UTC
	text := NewText(&out, opts)

	for i := range kills {
		inc := container()
		inc.ID, inc.Time = fmt.Sprintf("5f0c2c1e-%d", 100+i), start().Add(time.Duration(i)*time.Millisecond)
		change(i, inc)

		if err := text.Write(inc); err != nil {
			t.Fatal(err)
		}
	}

	if err := text.Close(); err != nil {
		t.Fatal(err)
	}

	return out.String()
}

// A count is of incidents that ended in the same way.
func TestAnotherOutcomeIsNotCountedAsAKill(t *testing.T) {
	got := shownOf(t, TextOptions{}, 10, func(i int, inc *events.Incident) {
		if i%2 == 1 {
			inc.Outcome, inc.Victims = events.OutcomeNoKillable, nil
		}
	})

	if strings.Contains(got, "×10") || !strings.Contains(got, "OOM KILL ×5") {
		t.Errorf("got\n%s\nwant 5 kills, and what killed nothing counted apart", got)
	}
}

// Where no limiter is known, kills in different cgroups are not those of one limit.
func TestUnknownLimitersAreNotOneLimit(t *testing.T) {
	got := shownOf(t, TextOptions{}, 8, func(i int, inc *events.Incident) {
		inc.Limiter, inc.Ladder = nil, nil
		inc.Victims[0].Cgroup = cgroup(uint64(i), fmt.Sprintf("/c%d", i))
	})

	if strings.Contains(got, "×") {
		t.Errorf("got\n%s\nwant eight blocks: each cgroup may have reached a limit of its own", got)
	}
}

func TestABurstInSeveralPlacesNamesNone(t *testing.T) {
	got := shownOf(t, TextOptions{}, 6, func(i int, inc *events.Incident) {
		workload := *inc.Victims[0].Workload
		workload.Container = fmt.Sprintf("c%d", i)
		inc.Victims[0].Workload = &workload
	})

	if !strings.Contains(got, "since 14:03:07  several places") {
		t.Errorf("got\n%s\nwant a head that does not name the place of the latest victim alone", got)
	}
}

// A clock that is set back neither joins kills that are far apart nor hides a count until it has
// caught up.
func TestBurstsOutliveAClockThatIsSetBack(t *testing.T) {
	var out bytes.Buffer

	text := NewText(&out, TextOptions{Width: 80, Fold: true, Location: time.UTC})

	lines := storm(6, time.Millisecond)
	for _, l := range lines {
		if err := text.Write(l); err != nil {
			t.Fatal(err)
		}
	}

	if err := text.Flush(start().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}

	if !strings.Contains(out.String(), "×6") {
		t.Errorf("got\n%s\nwant all six counted after the clock was set back", out.String())
	}

	late := container()
	late.ID, late.Time = "5f0c2c1e-9", start().Add(-time.Hour)

	out.Reset()

	for _, l := range []events.Line{headline(late), late} {
		if err := text.Write(l); err != nil {
			t.Fatal(err)
		}
	}

	if strings.Contains(out.String(), "×") || !strings.Contains(out.String(), "OOM KILL") {
		t.Errorf("got\n%s\nwant a kill an hour away alone", out.String())
	}
}

// What has ended is shown before an incident that comes much later.
func TestABurstIsShownBeforeALaterIncident(t *testing.T) {
	got := shownOf(t, TextOptions{}, 7, func(i int, inc *events.Incident) {
		if i == 6 {
			limiter := *inc.Limiter
			limiter.Cgroup = cgroup(99, "/other")
			inc.Limiter, inc.Time = &limiter, start().Add(time.Hour)
		}
	})

	if all, later := strings.Index(got, "×6"), strings.Index(got, "15:03:07"); all < 0 || later < all {
		t.Errorf("got\n%s\nwant the count of all six before the kill an hour later", got)
	}
}

// The line with the date is not printed over.
func TestADateStaysAboveABurstOnATerminal(t *testing.T) {
	midnight := time.Date(2026, 8, 21, 0, 0, 0, 0, time.UTC)
	got := shownOf(t, TextOptions{Terminal: true}, 8, func(i int, inc *events.Incident) {
		inc.Time = midnight.Add(time.Duration(i-3) * time.Second)
	})

	_, after, _ := strings.Cut(got, "2026-08-21\n")
	before, again, _ := strings.Cut(after, "\x1b[")

	if up := fmt.Sprintf("%dA", strings.Count(before, "\n")); !strings.HasPrefix(again, up) {
		t.Errorf("got %q\nwant what is printed over to be the %s lines below the date", after, up)
	}
}
