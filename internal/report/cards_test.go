// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
)

// plain is HTML as a reader sees it.
func plain(html []byte) string {
	return strings.NewReplacer("<wbr>", "", "&#43;", "+", "&#39;", "'").Replace(string(html))
}

// TestCardHasWhatTheTextHas: nothing that a block of text shows is missing on the page.
func TestCardHasWhatTheTextHas(t *testing.T) {
	html := plain(renderHTML(t, night(t), Options{ID: "51300412"}))
	for _, words := range []string{
		"<dd>JVM (java)", "-Xmx 448.0 MiB (command line)", // the program of the victim
		"<b>State of the node</b> 13.8 GiB of 31.3 GiB available, <span class=\"sub\">at the kill", // not what was read later
		"memory.oom.group=1 at container", "wrk:worker_0[5127]", "the trigger is in another container than the victims",
		"1 killed, 3 waited for an earlier victim", "Not traced: compaction.", "447.0 MiB of 512.0 MiB, 87 %",
	} {
		if !strings.Contains(html, words) {
			t.Errorf("got a card without %q, want it", words)
		}
	}

	if strings.Contains(html, "Who sent the signal") {
		t.Error("got a card about the kernel as the killer, want none")
	}
}

func TestVictims(t *testing.T) {
	inc := kill("a", 0, "p")
	inc.Victims[0].AnonRSSBytes, inc.Victims[0].SwapBytes = new(300*mib), new(uint64(0))

	one := victimCard(inc, answer.Of(inc), &Options{})
	for _, want := range []fact{{Name: "anonymous", Value: "300.0 MiB"}, {Name: "swap", Value: "0"}} {
		if one.Table != nil || !slices.Contains(one.Facts, want) {
			t.Errorf("got %+v, want facts about the one victim with %v", one, want)
		}
	}

	inc.Victims = append(inc.Victims, inc.Victims[0])

	// Nothing is known of most columns.
	two := victimCard(inc, answer.Of(inc), &Options{})
	if two.Table == nil || len(two.Table.Rows) != 2 || len(two.Table.Heads) != 5 || two.Table.Texts != 3 {
		t.Errorf("got %+v, want a table of two victims with process, role, place, anonymous and swap", two.Table)
	}
}

// TestSwapOfV1: cgroup v1 counts memory and swap together.
func TestSwapOfV1(t *testing.T) {
	v1 := &events.Limiter{
		Which: "memory.limit_in_bytes", UsageBytes: new(40 * mib), LimitBytes: new(40 * mib), SwapUsageBytes: new(41 * mib),
		SwapLimitBytes: new(60 * mib), MemswUsageBytes: new(41 * mib), MemswLimitBytes: new(60 * mib),
		Cgroup: &events.Cgroup{CgroupKey: events.CgroupKey{Hierarchy: 4, ID: 1}},
	}
	rung := &events.Rung{Cgroup: *v1.Cgroup, UsageBytes: new(40 * mib), MemswUsageBytes: new(41 * mib), MemswMaxBytes: new(60 * mib)}

	got := limiterFacts(&events.Incident{Limiter: v1})
	if !slices.Contains(got, fact{Name: "memory+swap used", Value: "41.0 MiB of 60.0 MiB"}) {
		t.Errorf("got %v, want memory and swap together", got)
	}

	if text := rungFacts(rung, v1); text != "memory+swap 41.0/60.0 MiB" {
		t.Errorf("got %q, want memory and swap together", text)
	}

	rung.MemswMaxBytes = nil
	if text := rungFacts(rung, v1); text != "" {
		t.Errorf("got %q without a limit, want nothing", text)
	}

	v2 := &events.Rung{
		UsageBytes: new(mib), SwapUsageBytes: new(2 * mib), SwapMaxBytes: new(4 * mib), HighBytes: new(8 * mib), PeakBytes: new(3 * mib),
	}
	if text := rungFacts(v2, nil); text != "memory.high 8.0 MiB, swap 2.0/4.0 MiB, peak 3.0 MiB" {
		t.Errorf("got %q, want memory.high, swap and peak", text)
	}
}

// TestNodeIsFolded unless the node was short of memory.
func TestNodeIsFolded(t *testing.T) {
	state := func(available uint64) *events.NodeState {
		return &events.NodeState{TotalBytes: new(1000 * mib), AvailableBytes: new(available * mib), AfterNS: new(uint64(60e6))}
	}

	for _, test := range []struct {
		scope     events.Scope
		available uint64
		open      bool
	}{{events.ScopeMemcg, 500, false}, {events.ScopeMemcg, 99, true}, {events.ScopeGlobal, 500, true}} {
		got := newNodePage(&events.Incident{Scope: test.scope, NodeState: state(test.available)})
		if got.Open != test.open || got.When != "read 60 ms after the kill" {
			t.Errorf("%s with %d of 1000 MiB: got open %v, %q, want %v", test.scope, test.available, got.Open, got.When, test.open)
		}
	}

	first := state(500)
	first.AfterNS = nil

	both := newNodePage(&events.Incident{Scope: events.ScopeMemcg, NodeAtKill: first, NodeState: state(700)})

	want := fact{Name: "available", Value: "500.0 MiB", Later: "700.0 MiB"}
	if !slices.Contains(both.Memory, want) || both.When != "at the kill; in grey: 60 ms after it" {
		t.Errorf("got %+v, want the values at the kill, with those that were read later", both)
	}
}

// TestPathsBreakAtSlashes, and nothing else is let through.
func TestPathsBreakAtSlashes(t *testing.T) {
	if got := breaks("/a/<b>"); got != "/<wbr>a/<wbr>&lt;b&gt;" {
		t.Errorf("got %q, want a break after each slash and the rest escaped", got)
	}
}
