// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
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
	inc.Memory = &events.Memory{AnonBytes: new(400 * mib), FileBytes: new(80 * mib), ShmemBytes: new(60 * mib), SlabBytes: new(20 * mib)}
	c := newCharts(inc)

	if want := []float64{-9, -4, 0}; !slices.Equal(c.X, want) || c.Begin != -10 || c.Marker != "kill" {
		t.Errorf("got seconds %v from %v with the marker %q, want %v from -10 with \"kill\"", c.X, c.Begin, c.Marker, want)
	}

	if want := []float64{-10, -8, -6, -4, -2, 0}; !slices.Equal(c.Times, want) {
		t.Errorf("got time marks %v, want %v", c.Times, want)
	}

	var titles []string

	for _, f := range c.Figures() {
		titles = append(titles, strings.Fields(f.Title)[0])
		if len(f.Ticks) < 2 || f.Max <= 0 {
			t.Errorf("%s: got %+v, want two ticks and a positive maximum", f.Title, f.panel)
		}

		for _, s := range f.Series {
			if s.Kind != kindLimit && len(s.Y) != len(c.X) {
				t.Errorf("%s: got %d values, want one at each of %d times", f.Title, len(s.Y), len(c.X))
			}
		}

		checkSVG(t, f.Title, c.draw(&f.panel))
	}

	if _, err := json.Marshal(c); err != nil {
		t.Error(err)
	}

	// Nothing was reclaimed.
	if want := []string{"Memory", "Time", "Tasks", "Limit"}; !slices.Equal(titles, want) {
		t.Fatalf("got panels %q, want %q", titles, want)
	}

	memory, stalls, psi, limit := c.Panels[0], c.Panels[1], c.Panels[2], c.Panels[3]
	if used := memory.Series[0]; used.Y[0] != nil || *used.Y[1] != 400<<10 || *used.Y[2] != 512<<10 {
		t.Errorf("memory: got %+v, want no value, 400 and 512 MiB", used)
	}

	var limits []string
	for _, s := range memory.Series[1:] {
		limits = append(limits, s.Label+" "+s.Text)
	}

	if want := []string{"container memory.max 512.0 MiB", "pod memory.high 500.0 MiB", "qos limit 700.0 MiB"}; !slices.Equal(limits, want) {
		t.Errorf("got limits %q, want %q", limits, want)
	}

	beyond := []string{"container limit 100.0 MiB (of a part)", "kubepods limit 8.8 GiB (above the chart)"}
	if !slices.Equal(memory.Beyond, beyond) {
		t.Errorf("got limits beyond the chart %q, want %q", memory.Beyond, beyond)
	}

	// File without shmem; what is in no counter comes last.
	want := []panelPart{{"anon", 400 << 10}, {"file", 20 << 10}, {"shmem", 60 << 10}, {"kernel", 20 << 10}, {"other", 12 << 10}}
	if !slices.Equal(memory.Parts, want) {
		t.Errorf("got parts %v, want %v", memory.Parts, want)
	}

	// The two are stacked: 1 and 3 s of the last second.
	if len(stalls.Series) != 2 || stalls.Series[0].Text != "at most 1.0 s" || stalls.Series[1].Text != "at most 3.0 s" || stalls.Max < 4e3 {
		t.Errorf("stalls: got %+v, want series of at most 1.0 s and 3.0 s in 4 s", stalls)
	}

	if s := psi.Series; s[0].Y[1] != nil || *s[0].Y[2] != 50 || *s[1].Y[2] != 0 {
		t.Errorf("PSI: got %+v, want one value of 50 and 0 percent", psi)
	}

	if y := limit.Series[0].Y; y[1] != nil || *y[2] != 20 {
		t.Errorf("limit: got %+v, want one value of 20", limit)
	}
}

// checkSVG checks that everything is within the picture.
func checkSVG(t *testing.T, title string, p picture) {
	t.Helper()

	inside := func(x, y float64) {
		if math.IsNaN(x+y) || x < 0 || x > p.Width || y < 0 || y > p.Height {
			t.Errorf("%s: got a point at %v, %v, want it within %v, %v", title, x, y, p.Width, p.Height)
		}
	}

	for _, s := range p.Shapes {
		var x, y float64

		for _, step := range regexp.MustCompile(`([Mlhv])(-?[\d.]+)(?: ?(-?[\d.]+))?`).FindAllStringSubmatch(s.D, -1) {
			a, _ := strconv.ParseFloat(step[2], 64)
			b, _ := strconv.ParseFloat(step[3], 64)

			switch step[1] {
			case "M":
				x, y = a, b
			case "l":
				x, y = x+a, y+b
			case "h":
				x += a
			case "v":
				y += a
			}

			inside(x, y)
		}
	}

	for _, r := range p.Parts {
		inside(r.X, r.Y)
		inside(r.X+r.W, r.Y+r.H)
	}

	for _, m := range append(p.Limits, p.Grid...) {
		inside(p.Left, m.At)
	}

	inside(p.Kill, p.Bottom)
}

// TestAreasAreStacked: the second area lies on the first.
func TestAreasAreStacked(t *testing.T) {
	c := &charts{Begin: -10, End: 0.5, Times: []float64{0}, X: []float64{-5, 0}}
	p := panel{Unit: unitKiB, Height: 134, Max: 100, Series: []series{
		{Kind: kindArea, Colour: "anon", Y: []value{new(50.0), new(50.0)}}, {Kind: kindArea, Colour: "file", Y: []value{new(20.0), new(50.0)}},
	}}

	got := c.draw(&p).Shapes
	if want := []shape{{"M287 62h217v50h-217Z", "area anon"}, {"M287 42l217-30v50h-217Z", "area file"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestMemoryIsStackedByWhatItIs(t *testing.T) {
	inc := kill("a", 0, "p")
	inc.Ladder = nil
	inc.Before = &events.Before{WindowNS: 60e9, Timeline: []events.StallSecond{
		{BeforeNS: 2e9, UsageBytes: new(400 * mib)}, // its parts were not read
		{BeforeNS: 1e9, UsageBytes: new(450 * mib), AnonBytes: new(300 * mib), FileBytes: new(100 * mib), ShmemBytes: new(60 * mib),
			KernelBytes: new(20 * mib)},
		{BeforeNS: 0, UsageBytes: new(512 * mib), AnonBytes: new(600 * mib), FileBytes: new(mib), ShmemBytes: new(2 * mib)}, // read later
	}}

	var got []string

	for _, s := range newCharts(inc).Panels[0].Series {
		var values []string

		for _, y := range s.Y {
			if y == nil {
				values = append(values, "-")
			} else {
				values = append(values, fmt.Sprint(*y/1024))
			}
		}

		got = append(got, strings.TrimSpace(s.Label+" "+strings.Join(values, " ")))
	}

	want := []string{"anonymous - 300 600", "page cache - 40 0", "shmem, tmpfs - 60 2", "kernel - 20 -", "not in these 400 30 0",
		"container memory.max"}
	if !slices.Equal(got, want) {
		t.Errorf("got series %q, want %q", got, want)
	}
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
		if c := newCharts(inc); c != nil {
			if len(c.X) > maxTimeline || len(c.Times) > 12 {
				t.Errorf("got %d values and %d time marks, want at most %d and 12", len(c.X), len(c.Times), maxTimeline)
			}

			for _, f := range c.Figures() {
				if len(f.Ticks) > 12 {
					t.Errorf("got %d ticks, want at most 12", len(f.Ticks))
				}

				checkSVG(t, f.Title, c.draw(&f.panel))
			}

			if _, err := json.Marshal(c); err != nil {
				t.Error(err)
			}
		}

		renderHTML(t, list{incidents: []*events.Incident{inc}}, Options{})
	}
}

// TestScale: an axis has round marks, and more than the zero, whatever the size of its values.
func TestScale(t *testing.T) {
	for _, test := range []struct {
		unit string
		most float64
		want string
	}{
		{unitMillis, 0.058, "0 20 µs 40 µs 60 µs"},
		{unitMillis, 3, "0 1 ms 2 ms 3 ms"},
		{unitMillis, 13700, "0 5 s 10 s"},
		{unitKiB, 600 << 10, "0 256 MiB 512 MiB"},
		{unitCount, 61, "0 20 40 60"},
		{unitPercent, 12, "0 25 % 50 % 75 % 100 %"},
		{unitCount, 0, "0 1"},
	} {
		p := panel{Unit: test.unit, Series: []series{{Kind: kindBars, Y: []value{new(test.most)}}}}
		p.scale()

		var labels []string
		for _, tick := range p.Ticks {
			labels = append(labels, tick.Label)
		}

		if got := strings.Join(labels, " "); got != test.want {
			t.Errorf("%v %s: got marks %q, want %q", test.most, test.unit, got, test.want)
		}
	}
}
