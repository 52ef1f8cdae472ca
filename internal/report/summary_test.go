// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestTallyIsBounded(t *testing.T) {
	var tally tally

	const rare, often = 5 * maxKeys, 3000
	for i := range rare {
		tally.add(fmt.Sprintf("rare-%d", i), 1, base().Add(time.Duration(i)*time.Second))

		if i%(rare/often) == 0 {
			tally.add("often", 2, base())
		}

		if len(tally.counts) > maxKeys {
			t.Fatalf("%d names", len(tally.counts))
		}
	}

	most, other, others := tally.top(10)
	if most[0].Name != "often" || most[0].Incidents < often {
		t.Errorf("%+v", most[0])
	}

	sum := other.Incidents
	for _, c := range most {
		sum += c.Incidents
	}

	if total := most[0].Incidents + rare; sum != total || others != rare-9 {
		t.Errorf("%d of %d counted, %d others", sum, total, others)
	}

	if tally.merged == 0 {
		t.Error("nothing was folded")
	}

	var text strings.Builder
	if err := tally.text(&text, "POD", &Options{Width: 80, Location: time.UTC}); err != nil || !strings.Contains(text.String(), "folded into the others") {
		t.Error(err, text.String())
	}
}

func TestTallyClipsNames(t *testing.T) {
	var tally tally
	for _, middle := range []string{"a", "b"} {
		tally.add(strings.Repeat("ü", 2048)+middle+strings.Repeat("ü", 2048), 1, base())
	}

	if len(tally.counts) != 1 {
		t.Errorf("%d names", len(tally.counts))
	}

	for name := range tally.counts {
		if len([]rune(name)) != maxKeyRunes+1 {
			t.Errorf("%d runes", len([]rune(name)))
		}
	}
}

// TestPathsAreToldApart: by their ends, in the count and on a narrow terminal.
func TestPathsAreToldApart(t *testing.T) {
	var tally tally

	long := "/system.slice/" + strings.Repeat("a-service-of-many-words.slice/", 8)
	for _, name := range []string{long + "worker-1.service", long + "worker-2.service", "shop/a-pod-of-a-deployment-with-words-7d9f8c6b5-x2x8q app", "shop/a-pod-of-a-deployment-with-words-7d9f8c6b5-kk2zz app"} {
		tally.add(name, 1, base())
	}

	var text strings.Builder
	if err := tally.text(&text, "WORKLOAD", &Options{Width: 80, Location: time.UTC}); err != nil {
		t.Fatal(err)
	}

	for _, end := range []string{"worker-1.service ", "worker-2.service ", "-x2x8q app ", "-kk2zz app "} {
		if !strings.Contains(text.String(), end) {
			t.Errorf("no %q:\n%s", end, text.String())
		}
	}

	for line := range strings.Lines(text.String()) {
		if n := len([]rune(line)); n > 81 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestHistogram(t *testing.T) {
	for _, test := range []struct {
		every time.Duration
		n     int
		step  time.Duration
	}{
		{time.Minute, 1000, time.Hour},
		{time.Hour, maxBuckets, time.Hour},
		{time.Hour, maxBuckets + 1, 3 * time.Hour},
		{24 * time.Hour, 40, time.Hour}, // few hours have any
		{24 * time.Hour, 400, 28 * 24 * time.Hour},
		{365 * 24 * time.Hour, 100, 36400 * 24 * time.Hour},
	} {
		var h histogram
		for i := range test.n {
			h.add(base().Truncate(24 * time.Hour).Add(time.Duration(i) * test.every))
		}

		sum := uint64(0)
		for _, s := range h.spans() {
			sum += s.Count
		}

		if h.Step() != test.step || sum != uint64(test.n) || len(h.counts) > maxBuckets {
			t.Errorf("every %v: step %v, %d spans, %d of %d", test.every, h.Step(), len(h.counts), sum, test.n)
		}
	}
	var old histogram
	old.add(time.Unix(-1, 0))
	old.add(time.Unix(1, 0))

	if len(old.counts) != 2 {
		t.Error("before and after 1970 are one hour")
	}
}

func TestWorkloadAndCause(t *testing.T) {
	named := kill("a", 0, "cart-0")
	if got := workload(named); got != "shop/cart-0 app" {
		t.Error(got)
	}

	if got := cause(named); got != "limit of a container (no cause named)" {
		t.Error(got)
	}

	named.Causes = []events.Cause{{ID: "dirty_cache"}, {ID: "tmpfs"}}
	if got := cause(named); got != "dirty cache" {
		t.Error(got)
	}

	bare := &events.Incident{Victims: []events.Victim{{Process: events.Process{Cgroup: &events.Cgroup{Path: "/user.slice/x"}}}}}
	if got := workload(bare); got != "/user.slice/x" {
		t.Error(got)
	}

	if w, c := workload(&events.Incident{}), cause(&events.Incident{}); w != "not known" || c != "not known (no cause named)" {
		t.Error(w, c)
	}
}
