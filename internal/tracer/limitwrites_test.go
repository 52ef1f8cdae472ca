// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

func TestLoweredLimitIsReportedWithTheKill(t *testing.T) {
	const second, mib = uint64(1e9), uint64(1 << 20)

	key := events.CgroupKey{ID: 7}
	write := func(change func(*kernel.LimitWrite)) kernel.LimitWrite {
		w := kernel.LimitWrite{
			Meta:  kernel.Meta{BootNS: 100 * second, Current: kernel.Task{TGID: 50, TID: 50, Comm: "sh", LeaderComm: "sh"}},
			Memcg: kernel.Memcg{Key: key, Memory: kernel.Counter{Known: true, Usage: 40000, Max: kernel.NoLimit, High: kernel.NoLimit}},
			File:  "memory.max", Text: "64M\n",
		}
		change(&w)

		return w
	}

	for _, test := range []struct {
		name   string
		writes []kernel.LimitWrite
		atNS   uint64
		want   int
	}{
		{"lowered", []kernel.LimitWrite{write(func(*kernel.LimitWrite) {})}, 103 * second, 1},
		{"too long ago", []kernel.LimitWrite{write(func(*kernel.LimitWrite) {})}, 161 * second, 0},
		{"after the kill", []kernel.LimitWrite{write(func(*kernel.LimitWrite) {})}, 99 * second, 0},
		{"of another cgroup", []kernel.LimitWrite{write(func(w *kernel.LimitWrite) { w.Memcg.Key.ID = 8 })}, 103 * second, 0},
		{"raised", []kernel.LimitWrite{write(func(w *kernel.LimitWrite) { w.Memcg.Memory.Max = 100 })}, 103 * second, 0},
		{"refused, or overwritten", []kernel.LimitWrite{write(func(w *kernel.LimitWrite) { w.Text = "63M" })}, 103 * second, 0},
		{"no limit", []kernel.LimitWrite{write(func(w *kernel.LimitWrite) { w.Text = "max" })}, 103 * second, 0},
		{"a high mark that is not in force", []kernel.LimitWrite{write(func(w *kernel.LimitWrite) { w.File = "memory.high" })}, 103 * second, 0},
		{"a first limit with room", []kernel.LimitWrite{write(func(w *kernel.LimitWrite) { w.Memcg.Memory.Usage = 100 })}, 103 * second, 0},
		{"the last write of a file counts", []kernel.LimitWrite{
			write(func(*kernel.LimitWrite) {}),
			write(func(w *kernel.LimitWrite) { w.Text, w.Memcg.Memory.Max = "max", 64<<20/4096 }),
		}, 103 * second, 0},
		{"what changes nothing does not", []kernel.LimitWrite{
			write(func(*kernel.LimitWrite) {}),
			write(func(w *kernel.LimitWrite) { w.Memcg.Memory.Max = 64 << 20 / 4096 }),
			write(func(w *kernel.LimitWrite) { w.Text, w.Memcg.Memory.Max = "foo", 64<<20/4096 }),
		}, 103 * second, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock := host.NewBootClock()
			l := &limitWrites{tree: resolve.NewNamedTree(tree(), nil), clock: clock, page: 4096}

			for _, w := range test.writes {
				l.saw(w)
			}

			awaited := l.start(&events.Incident{
				ID: "1", Envelope: events.Envelope{Time: clock.Time(test.atNS)},
				Limiter: &events.Limiter{Which: "memory.max", LimitBytes: new(64 * mib), Cgroup: &events.Cgroup{CgroupKey: key}},
			})

			var got []events.LimitChange
			for _, f := range l.findings(0, true) {
				got = append(got, f.change.LimitChanges...)
			}

			if len(got) != test.want || awaited != (test.want > 0) {
				t.Fatalf("got changes %+v, awaited %v, want %d", got, awaited, test.want)
			}

			if len(got) == 0 {
				return
			}

			c := got[0]
			if c.NewBytes != 64*mib || c.UsageBytes != 40000*4096 || c.OldBytes != nil || c.Writer.PID != 50 || c.BeforeNS != 3*second {
				t.Errorf("got %+v, want 64 MiB from no limit by 50, 3 s before", c)
			}
		})
	}
}

func TestLimitsAreParsedAsTheKernelDoes(t *testing.T) {
	for text, want := range map[string]uint64{
		"67108864\n": 64 << 20, " 64M ": 64 << 20, "64m": 64 << 20, "1G": 1 << 30, "0": 0, "0x1000": 4096, "010": 8,
	} {
		if got, ok := parseLimit(text); got != want || !ok {
			t.Errorf("%q: got %d, %v, want %d", text, got, ok, want)
		}
	}

	for _, text := range []string{"", "max", "-1", "1_000", "64 M", "99999999999E", "many"} {
		if got, ok := parseLimit(text); ok {
			t.Errorf("%q: got %d, want no limit", text, got)
		}
	}
}

func TestLimitWritesAreBounded(t *testing.T) {
	l := &limitWrites{page: 4096}
	for i := range uint64(2 * maxLimitWrites) {
		l.saw(kernel.LimitWrite{File: "memory.max", Text: "64M", Memcg: kernel.Memcg{Key: events.CgroupKey{ID: i}}})
	}

	if got := len(l.last); got != maxLimitWrites {
		t.Errorf("got %d writes remembered, want %d", got, maxLimitWrites)
	}
}
