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
