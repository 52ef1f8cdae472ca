// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestBefore(t *testing.T) {
	inc := &events.Incident{ID: "1", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled, Before: &events.Before{
		WindowNS: 60e9, Unseen: []string{"memory_high"},
		Stalls: []events.StallSum{
			{What: "memcg_reclaim", Count: 31, Fruitless: 5, TotalNS: 8.2e9, MaxNS: 1.2e9, ReclaimedBytes: 12 << 20},
			{What: "after_kill", Count: 17, Fruitless: 17, TotalNS: 1e6, MaxNS: 1e5},
		},
		Kswapd:    []events.Kswapd{{Node: 1, Wakeups: 12, AwakeNS: 3.5e9}},
		Guardians: []events.GuardianStall{{Unit: "kubelet.service", TotalNS: 2.5e9}},
		GaveUp: &events.GaveUpLine{
			Reclaim: &events.ReclaimAnswer{Zone: "Nor\x1bmal", AvailableBytes: 12 << 20, MinWatermarkBytes: 45 << 20, NoProgressLoops: 16},
			Compact: &events.CompactAnswer{Order: 3, Result: "no_suitable_page", Retries: 2, MaxRetries: 16},
		},
		Timeline: []events.StallSecond{{BeforeNS: 30e9, TotalNS: 1e8}, {BeforeNS: 0, TotalNS: 8e8}},
	}}

	for _, width := range []int{0, 80, 40} {
		var out bytes.Buffer
		if err := NewText(&out, TextOptions{Width: width, Full: true, Location: time.UTC}).Write(inc); err != nil {
			t.Fatal(err)
		}

		text := strings.Join(strings.Fields(out.String()), " ")
		for _, want := range []string{
			"stalls memcg reclaim 8.2 s in 31 stalls", "5 without progress", "12.0 MiB reclaimed", "reclaim after the kill",
			"kswapd of NUMA node 1 awake 3.5 s, 12 wakeups", "zone Nor\\x1bmal of NUMA node 0: 12.0 MiB free or reclaimable",
			"min watermark 45.0 MiB", "16 rounds without progress", "compaction for order 3: no suitable page, 2 of 16 retries",
			"kubelet.service stalled for 2.5 s", "memory.high not traced", "▂", "█|",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("width %d: want %q, got\n%s", width, want, out.String())
			}
		}

		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); width > 0 && n > width {
				t.Errorf("got a line of %d columns, want at most %d: %s", n, width, line)
			}
		}
	}
}

func TestNoStallsBefore(t *testing.T) {
	var out bytes.Buffer

	inc := &events.Incident{ID: "1", Outcome: events.OutcomeKilled, Before: &events.Before{WindowNS: 60e9, Stalls: []events.StallSum{}}}
	if err := NewText(&out, TextOptions{}).Write(inc); err != nil || !strings.Contains(out.String(), "no stalls in the last 60 s") {
		t.Errorf("got error %v and text %q, want \"no stalls\"", err, out.String())
	}
}

func TestStallAndPressureLines(t *testing.T) {
	at := time.Date(2026, 8, 20, 14, 3, 7, 0, time.UTC)
	hostile := "ja\x1b[2Jva\nx"
	stall := &events.StallLine{
		Envelope: events.Envelope{Time: at}, What: "memory_high", DurationNS: 75e6, ReclaimedBytes: 4096,
		Task:    events.Process{PID: 7, Comm: hostile, Cgroup: &events.Cgroup{Path: "/a"}},
		Limiter: &events.Cgroup{CgroupKey: events.CgroupKey{ID: 3}, Path: "/b"},
	}
	warning := &events.PressureLine{
		Envelope: events.Envelope{Time: at}, What: "reclaim_gains_nothing", Cgroup: events.Cgroup{Path: "/kube\x1b[2Jpods"},
		WindowNS: 10e9, TotalNS: 4e9, Count: 310, Fruitless: 296,
	}

	for _, width := range []int{0, 80} {
		var out bytes.Buffer

		s := NewText(&out, TextOptions{Width: width, Location: time.UTC})
		if err := s.Write(stall); err != nil {
			t.Fatal(err)
		}

		if err := s.Write(warning); err != nil {
			t.Fatal(err)
		}

		text := strings.Join(strings.Fields(out.String()), " ")
		for _, want := range []string{"memory.high 75 ms", "for the limit of /b", "296 of 310 reclaims in 10.0 s made no progress", "OOM kill imminent"} {
			if !strings.Contains(text, want) {
				t.Errorf("width %d: want %q, got %s", width, want, text)
			}
		}

		if strings.ContainsRune(out.String(), '\x1b') {
			t.Errorf("got a control character in %q", out.String())
		}
	}
}
