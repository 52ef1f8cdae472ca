// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestPanels(t *testing.T) {
	inc := kill("a", 0, "p")
	inc.Ladder = []events.Rung{
		{Cgroup: events.Cgroup{CgroupKey: events.CgroupKey{ID: 1}}, Level: events.LevelContainer, MaxBytes: new(100 * mib), Below: true},
		{Cgroup: *inc.Limiter.Cgroup, Level: events.LevelPod, MaxBytes: new(512 * mib), HighBytes: new(500 * mib)},
		{Cgroup: events.Cgroup{CgroupKey: events.CgroupKey{ID: 3}}, Level: events.LevelQoS, MaxBytes: new(700 * mib)},
		{Cgroup: events.Cgroup{CgroupKey: events.CgroupKey{ID: 4}}, Level: events.LevelKubepods, MaxBytes: new(9000 * mib)},
	}
	// The rows are not in order, and one is outside of the window.
	inc.Before = &events.Before{WindowNS: 60e9, Timeline: []events.StallSecond{
		{BeforeNS: 0, TotalNS: 4e9, HighNS: 1e9, UsageBytes: new(512 * mib), PSISomeNS: new(uint64(3e9)),
			PSIFullNS: new(uint64(1e9)), MaxEvents: new(uint64(30))},
		{BeforeNS: 70e9, TotalNS: 1},
		{BeforeNS: 4e9, TotalNS: 1e9, UsageBytes: new(400 * mib), PSISomeNS: new(uint64(1e9)),
			PSIFullNS: new(uint64(1e9)), MaxEvents: new(uint64(10))},
		{BeforeNS: 9e9, TotalNS: 5e8, PSISomeNS: new(uint64(2e9))}, // the total decreased: another cgroup
	}}
	all := panels(inc)

	var titles []string
	for _, p := range all {
		titles = append(titles, strings.Fields(p.Title)[0])
		if len(p.Ticks) < 2 || p.Max <= 0 || p.Begin != -60 {
			t.Errorf("%s: got %+v, want two ticks, a positive maximum and a start at -60", p.Title, p)
		}

		for _, s := range p.Series {
			if s.Kind != "limit" && len(s.Y) != len(p.X) {
				t.Errorf("%s: got %d values, want one at each of %d times", p.Title, len(s.Y), len(p.X))
			}
		}

		if _, err := json.Marshal(p); err != nil {
			t.Error(err)
		}

		checkSVG(t, p.Title, p.SVG())
	}

	// Nothing was reclaimed.
	if want := []string{"Memory", "Time", "Tasks", "Limit"}; !slices.Equal(titles, want) {
		t.Fatalf("got panels %q, want %q", titles, want)
	}

	memory, stalls, psi, limit := all[0], all[1], all[2], all[3]
	if len(memory.X) != 2 || *memory.X[0] != -4 || *memory.X[1] != 0 {
		t.Errorf("memory: got %+v, want values at -4 and 0", memory)
	}

	var limits []string
	for _, s := range memory.Series[1:] {
		limits = append(limits, s.Label+" "+s.Text)
	}

	if want := []string{"container memory.max 512.0 MiB", "pod memory.high 500.0 MiB", "qos limit 700.0 MiB"}; !slices.Equal(limits, want) {
		t.Errorf("got limits %q, want %q", limits, want)
	}

	beyond := []string{"container limit 100.0 MiB (descendant)", "kubepods limit 8.8 GiB (above the chart)"}
	if !slices.Equal(memory.Beyond, beyond) {
		t.Errorf("got limits beyond the chart %q, want %q", memory.Beyond, beyond)
	}

	if len(stalls.Series) != 2 || stalls.Series[0].Text != "at most 4.0 s" || stalls.Series[1].Text != "at most 1.0 s" || *stalls.X[2] != -0.5 {
		t.Errorf("stalls: got %+v, want series of at most 4.0 s and 1.0 s, and their third value at -0.5", stalls)
	}

	if len(psi.X) != 1 || *psi.Series[0].Y[0] != 50 || *psi.Series[1].Y[0] != 0 {
		t.Errorf("PSI: got %+v, want one value of 50 and 0 percent", psi)
	}

	if len(limit.X) != 1 || *limit.Series[0].Y[0] != 20 {
		t.Errorf("limit: got %+v, want one value of 20", limit)
	}
}

// checkSVG checks that everything is within the picture.
func checkSVG(t *testing.T, title string, s SVG) {
	t.Helper()

	inside := func(x, y float64) {
		if math.IsNaN(x+y) || x < 0 || x > s.Width || y < 0 || y > s.Height {
			t.Errorf("%s: got a point at %v, %v, want it within %v, %v", title, x, y, s.Width, s.Height)
		}
	}
	for _, b := range s.Bars {
		inside(b.X, b.Y)
		inside(b.X+b.W, b.Y+b.H)
	}

	for _, m := range s.Limits {
		inside(s.Left, m.At)
	}

	for _, m := range s.Grid {
		inside(s.Left, m.At)
	}

	inside(s.Kill, s.Bottom)
}

func TestPanelsOfHostileNumbers(t *testing.T) {
	const most = math.MaxUint64
	for _, before := range []*events.Before{
		nil,
		{},
		{WindowNS: 60e9},
		{Timeline: []events.StallSecond{{TotalNS: 1}}},
		{WindowNS: 1, Timeline: []events.StallSecond{{TotalNS: 1}}},
		{WindowNS: most, Timeline: []events.StallSecond{
			{TotalNS: most, BeforeNS: most, ReclaimedBytes: most, UsageBytes: new(uint64(most))}, {TotalNS: most},
		}},
		{WindowNS: 60e9, Timeline: make([]events.StallSecond, 5000)},
		{WindowNS: 60e9, Timeline: []events.StallSecond{{UsageBytes: new(uint64(0)), LimitBytes: new(uint64(0))}}},
	} {
		inc := kill("a", 0, "p")

		inc.Before = before
		for _, p := range panels(inc) {
			if len(p.X) > maxTimeline || len(p.Ticks) > 12 {
				t.Errorf("got %d values and %d ticks, want at most %d and 12", len(p.X), len(p.Ticks), maxTimeline)
			}

			if s := p.SVG(); len(s.Times) > 70 {
				t.Errorf("got %d time marks, want at most 70", len(s.Times))
			}

			if _, err := json.Marshal(p); err != nil {
				t.Error(err)
			}
		}

		renderHTML(t, list{incidents: []*events.Incident{inc}}, Options{})
	}
}
