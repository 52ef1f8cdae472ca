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
			t.Fatalf("got %d names, want at most %d", len(tally.counts), maxKeys)
		}
	}

	most, other, others := tally.top(10)
	if most[0].Name != "often" || most[0].Incidents < often {
		t.Errorf("got %+v as the most frequent, want \"often\" with at least %d", most[0], often)
	}

	sum := other.Incidents
	for _, c := range most {
		sum += c.Incidents
	}

	if total := most[0].Incidents + rare; sum != total || others != rare-9 {
		t.Errorf("got %d incidents and %d others, want %d and %d", sum, others, total, rare-9)
	}

	if tally.merged == 0 {
		t.Errorf("got %d merged names, want some", tally.merged)
	}

	var text strings.Builder
	if err := tally.text(&text, "POD", &Options{Width: 80, Location: time.UTC}); err != nil || !strings.Contains(text.String(), "added to the") {
		t.Errorf("got error %v and text\n%s\nwant no error and a warning on merged names", err, text.String())
	}
}

func TestTallyClipsNames(t *testing.T) {
	var tally tally
	for _, middle := range []string{"a", "b"} {
		tally.add(strings.Repeat("ü", 2048)+middle+strings.Repeat("ü", 2048), 1, base())
	}

	if len(tally.counts) != 1 {
		t.Errorf("got %d names, want 1", len(tally.counts))
	}

	for name := range tally.counts {
		if len([]rune(name)) != maxKeyRunes+1 {
			t.Errorf("got %d runes, want %d", len([]rune(name)), maxKeyRunes+1)
		}
	}
}

// TestLongNamesStayDistinct: by their ends, in the count and on a narrow terminal.
func TestLongNamesStayDistinct(t *testing.T) {
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
			t.Errorf("want %q, got\n%s", end, text.String())
		}
	}

	for line := range strings.Lines(text.String()) {
		if n := len([]rune(line)); n > 81 {
			t.Errorf("got %d columns, want at most 80: %q", n-1, line)
		}
	}
}

func TestHistogram(t *testing.T) {
	for _, test := range []struct {
		every time.Duration
		n     int
		step  time.Duration
	}{
		{time.Millisecond, 300, time.Second},
		{time.Second, maxBuckets, time.Second},
		{time.Second, maxBuckets + 1, 5 * time.Second},
		{time.Minute, 1000, 30 * time.Minute},
		{time.Hour, maxBuckets, time.Hour},
		{time.Hour, maxBuckets + 1, 3 * time.Hour},
		{24 * time.Hour, 2, 30 * time.Minute}, // both ends count, whatever is between
		{24 * time.Hour, 400, 7 * 24 * time.Hour},
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
			t.Errorf("every %v: got step %v with %d incidents in %d spans, want step %v with %d in at most %d",
				test.every, h.Step(), sum, len(h.counts), test.step, test.n, maxBuckets)
		}
	}
	var old histogram
	old.add(time.Unix(-1, 0))
	old.add(time.Unix(1, 0))

	if len(old.counts) != 2 {
		t.Errorf("got %d seconds before and after 1970, want 2", len(old.counts))
	}
}

func TestWorkloadAndCause(t *testing.T) {
	named := kill("a", 0, "cart-0")
	caused := kill("b", 0, "cart-0")
	caused.Causes = []events.Cause{{ID: "dirty_cache"}, {ID: "tmpfs"}}
	bare := &events.Incident{Victims: []events.Victim{{Process: events.Process{Cgroup: &events.Cgroup{Path: "/user.slice/x"}}}}}

	for _, test := range []struct{ got, want string }{
		{workload(named), "shop/cart-0 app"},
		{cause(named), "limit of a container (no cause found)"},
		{cause(caused), "dirty cache"},
		{workload(bare), "/user.slice/x"},
		{workload(&events.Incident{}), "unknown"},
		{cause(&events.Incident{}), "unknown (no cause found)"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestPeriod(t *testing.T) {
	for _, test := range []struct{ first, last, want string }{
		{"[1300.000]", "[1900.000]", "from [1300.000] to [1900.000]"},
		{"time unknown", "time unknown", "time unknown"},
	} {
		if got := period(test.first, test.last); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
