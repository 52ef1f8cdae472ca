// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// names returns the names of the rows of an arrangement, with their depths as dots.
func names(s *usage.Snapshot, a arrangement) []string {
	var got []string

	rows, _ := a.rows(s)
	for _, r := range rows {
		got = append(got, strings.Repeat(".", r.depth)+name(&s.Cgroups[r.index]))
	}

	return got
}

// forest has a pod with two containers, a unit, and a cgroup below one of the containers.
func forest() *usage.Snapshot {
	t := &tree{}
	pods := t.add(-1, "kubepods", 50, 0, 0, nil)
	pod := t.add(pods, "pod00000001-0000-0000-0000-000000000001", 50, 64, 9, &events.Workload{Namespace: "shop", Pod: "cart"})
	app := t.add(pod, id(1), 30, 40, 0, &events.Workload{Namespace: "shop", Pod: "cart", Container: "app"})
	t.add(app, "init", 10, 0, 0, nil)
	t.add(pod, id(2), 20, 0, 0, &events.Workload{Namespace: "shop", Pod: "cart", Container: "proxy"})
	t.add(-1, "a.service", 1, 2, 0, nil)
	t.add(-1, "b.service", 60, 0, 0, nil)

	return &t.Snapshot
}

func TestRowsAreArranged(t *testing.T) {
	s := forest()
	initPath := name(&s.Cgroups[3])

	for _, test := range []struct {
		name string
		a    arrangement
		want []string
	}{
		{
			"the least headroom first, without a limit by usage", arrangement{order: "headroom", by: "cgroup"},
			[]string{"a.service", "shop/cart/app", initPath, "shop/cart", "shop/cart/proxy", "b.service", "/kubepods"},
		},
		{"by pod, what is in one has no row", arrangement{order: "used", by: "pod"}, []string{"b.service", "shop/cart", "a.service"}},
		{
			"by container, pods have no row", arrangement{order: "name", by: "container"},
			[]string{"a.service", "b.service", "shop/cart/app", "shop/cart/proxy"},
		},
		{
			"a tree has what is above", arrangement{order: "used", by: "container", tree: true},
			[]string{"b.service", "/kubepods", ".shop/cart", "..shop/cart/app", "..shop/cart/proxy", "a.service"},
		},
		{
			"a filter keeps what is above in a tree", arrangement{order: "used", by: "cgroup", tree: true, filter: "PROXY"},
			[]string{"/kubepods", ".shop/cart", "..shop/cart/proxy"},
		},
		{"a filter by path", arrangement{order: "name", by: "cgroup", filter: "/init"}, []string{initPath}},
		{"by growth", arrangement{order: "growth", by: "pod"}, []string{"shop/cart", "a.service", "b.service"}},
	} {
		if got := names(s, test.a); !slices.Equal(got, test.want) {
			t.Errorf("%s: got\n%q, want\n%q", test.name, got, test.want)
		}
	}

	for _, tree := range []bool{false, true} {
		shown, hidden := (arrangement{by: "cgroup", filter: "proxy", tree: tree}).rows(s)
		if len(shown)+hidden != len(s.Cgroups) {
			t.Errorf("tree %v: got %d rows shown and %d hidden, want %d together", tree, len(shown), hidden, len(s.Cgroups))
		}
	}
}

func TestFeedDropsWhatTheScreenDoesNotTake(t *testing.T) {
	f := NewFeed()

	done := make(chan struct{})

	go func() {
		defer close(done)

		for range waiting + 7 {
			_ = f.Write(&events.Lost{})
			_ = f.Write(events.FinalOf(&events.Incident{})) // of no use to the screen, so not dropped either
			_ = f.Counts(kernel.StallCounts{})
		}
	}()

	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("got a Write that waits for the screen")
	}

	if got := f.dropped.Load(); got != 7 {
		t.Errorf("got %d dropped lines, want 7", got)
	}

	for range keptWarnings + 2 {
		f.Warn("x")
	}

	if texts, more := f.Warnings(); len(texts) != keptWarnings || more != 2 {
		t.Errorf("got %d warnings and %d more, want %d and 2", len(texts), more, keptWarnings)
	}
}

func TestKillsAreCountedAndBounded(t *testing.T) {
	var k kills

	for _, l := range killLines() {
		k.add(l)
	}

	if k.killed != 3 || k.lost != 3 || len(k.list) != 3 {
		t.Errorf("got %d kills, %d lost records and %d incidents, want 3 of each", k.killed, k.lost, len(k.list))
	}

	// An update whose incident was dropped has the whole incident.
	k.add(&events.Update{Change: &events.Incident{ID: "x"}, After: &events.Incident{
		ID: "x", Outcome: events.OutcomeKilled, Victims: make([]events.Victim, 2),
	}})
	k.add(&events.Incident{ID: "u", Scope: events.ScopeUser, Outcome: events.OutcomeKilled, Victims: make([]events.Victim, 2)})
	k.add(&events.Incident{ID: "n", Outcome: events.OutcomeNoKillable})

	if k.killed != 5 || k.signals != 1 || k.other != 1 {
		t.Errorf("got %d kills, %d other SIGKILLs and %d without a kill, want 5, 1 and 1", k.killed, k.signals, k.other)
	}

	for i := range keptKills {
		k.add(&events.Incident{ID: string(rune('a'+i%26)) + strings.Repeat("-", i)})
	}

	if len(k.list) != keptKills || k.leftOut != 6 {
		t.Errorf("got %d kills and %d left out, want %d and 6", len(k.list), k.leftOut, keptKills)
	}
}

// A storm has more kills within the time of their updates than the list.
func TestUpdatesOfKillsThatLeftTheListCountNothingTwice(t *testing.T) {
	const storm = 2*keptKills + 50

	var (
		k   kills
		all []*events.Incident
	)

	for i := range storm {
		inc := &events.Incident{
			Envelope: events.Envelope{Time: noon.Add(time.Duration(i) * time.Millisecond)}, ID: fmt.Sprint(i),
			Outcome: events.OutcomeKilled, Victims: make([]events.Victim, 1),
		}
		all = append(all, inc)

		k.add(&events.Headline{ID: inc.ID, Time: inc.Time})
		k.add(inc)
	}

	for i, inc := range all {
		after := *inc
		if i == 0 {
			after.Victims = make([]events.Victim, 3) // of a group
		}

		k.add(&events.Update{Change: &events.Incident{ID: inc.ID}, Before: inc, After: &after})
	}

	if k.killed != storm+2 || k.leftOut != storm-keptKills || k.list[0].id != fmt.Sprint(storm-1) {
		t.Errorf("got %d kills, %d left out, the newest %s, want %d, %d and %d",
			k.killed, k.leftOut, k.list[0].id, storm+2, storm-keptKills, storm-1)
	}
}

// press sends keys to a model.
func press(m *model, keys ...string) {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		if k == "down" {
			msg = tea.KeyPressMsg{Code: tea.KeyDown}
		}

		m.Update(msg)
	}
}

func TestSelectionStaysOnItsCgroup(t *testing.T) {
	m := newModel(options())
	s := forest()
	m.Update(snapshotMsg{s})
	press(m, "down")

	selected := func() string { return name(&m.snapshot.Cgroups[m.rows[m.cgroupAt].index]) }
	if got := selected(); got != "shop/cart/app" {
		t.Fatalf("got %s selected, want the second row", got)
	}

	press(m, "s", "s", "s")

	if got := selected(); got != "shop/cart/app" || m.cgroupAt == 1 {
		t.Errorf("got %s in row %d selected after a change of order, want the same cgroup", got, m.cgroupAt)
	}

	press(m, "g")

	first := selected()

	press(m, "s")

	if m.cgroupAt != 0 || selected() == first {
		t.Errorf("got row %d, want the first row to stay selected whatever it is", m.cgroupAt)
	}
}

func TestPauseKeepsTheCgroupsAndNotTheKills(t *testing.T) {
	m := newModel(options())
	first, second := forest(), forest()
	m.Update(snapshotMsg{first})
	press(m, " ")
	m.Update(snapshotMsg{second})
	m.Update(linesMsg(killLines()))

	if m.snapshot != first || len(m.kills.list) != 3 {
		t.Error("got another snapshot, or no kills, while paused")
	}

	press(m, " ")

	if m.snapshot != second {
		t.Error("got the old snapshot after the pause, want the newest")
	}
}

func TestBarsAndNumbers(t *testing.T) {
	for share, want := range map[float64]string{-1: "····", 0: "····", 0.5: "██··", 0.53: "██▏·", 1: "████", 7: "████"} {
		if got := bar(share, 4); got != want {
			t.Errorf("%v: got %q, want %q", share, got, want)
		}
	}

	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", time.Hour: "1 h", 90 * time.Minute: "1 h", 48 * time.Hour: "2 d", 119 * time.Second: "1 min",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// A limit that cannot be read is not the same as none.
func TestAnUnknownLimitIsNotNone(t *testing.T) {
	s := &usage.Snapshot{Cgroups: []usage.Cgroup{{Path: "/a", ID: 1, Parent: -1, Limiter: -1}}}

	c := &s.Cgroups[0]
	if got := limitCell(s, c) + headroomCell(s, c); got != "? ?" || !strings.HasPrefix(headroomText(s, c), "not known") {
		t.Errorf("got limit and headroom %q, %q, want both unknown", got, headroomText(s, c))
	}

	c.LimitBytes = usage.Known[uint64](usage.NoLimit)
	if got := limitCell(s, c) + headroomCell(s, c); got != "- -" || !strings.HasPrefix(headroomText(s, c), "no limit") {
		t.Errorf("got limit and headroom %q, %q, want none", got, headroomText(s, c))
	}
}

// BenchmarkScreen is a second of a node with a thousand cgroups: a snapshot is taken over and
// drawn.
func BenchmarkScreen(b *testing.B) {
	t := &tree{usage.Snapshot{Traced: true, Version: 2, Time: noon}}
	slice := t.add(-1, "system.slice", 900, 0, 0, nil)

	for i := range 1000 {
		t.add(slice, strings.Repeat("x", i%20)+".service", float64(i), 2000, float64(i%7), nil)
	}
	m := newModel(options())

	b.ReportAllocs()

	for b.Loop() {
		m.Update(snapshotMsg{&t.Snapshot})
		_ = m.View()
	}
}
