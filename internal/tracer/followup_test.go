// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/sink"
	"github.com/oomtrace/oomtrace/internal/view"
)

// lines is a sink that collects its lines.
type lines struct{ lines []events.Line }

func (l *lines) Write(line events.Line) error {
	l.lines = append(l.lines, line)
	return nil
}

// fakeEnricher finds what a test adds with answer.
type fakeEnricher struct {
	awaited bool
	started []string
	found   []finding
	refused uint64
}

func (e *fakeEnricher) start(inc *events.Incident) bool {
	e.started = append(e.started, inc.ID)
	return e.awaited
}

func (e *fakeEnricher) findings(uint64, bool) []finding {
	found := e.found
	e.found = nil

	return found
}

func (e *fakeEnricher) dropped() (string, uint64) { return "fake", e.refused }

func (e *fakeEnricher) answer(id, note string) {
	e.found = append(e.found, finding{&events.Incident{ID: id, Notes: []string{note}}, true})
}

const testBoot = "5f0c2c1e-8e0e-4b57-9b1f-3c8f0a4d2e61"

func newTestFollowUp(s sink.Sink, enrichers ...enricher) *followUp {
	at := time.Date(2026, 7, 21, 14, 3, 8, 0, time.UTC)

	f := newFollowUp(testBoot, s.Write, func(kind string) events.Envelope {
		at = at.Add(time.Millisecond)
		return events.Envelope{V: events.Version, Kind: kind, Time: at, BootID: testBoot, Node: "n1"}
	})
	f.enrichers = enrichers

	return f
}

// podKill is a kill at a container's own limit, which has a certain cause.
func podKill(n int) *events.Incident {
	limit, usage := uint64(200<<20), uint64(200<<20)
	cgroup := events.Cgroup{
		CgroupKey: events.CgroupKey{ID: uint64(n + 1)}, Path: fmt.Sprintf("/kubepods/burstable/pod%d/c%d", n, n),
	}
	workload := &events.Workload{PodUID: podUID, ContainerID: fmt.Sprintf("%064x", n)}
	at := time.Date(2026, 7, 21, 14, 3, 7, n*1000, time.UTC)

	return &events.Incident{
		Envelope: events.Envelope{V: events.Version, Kind: events.KindIncident, Time: at, BootID: testBoot, Node: "n1"},
		ID:       fmt.Sprintf("%s-%d", testBoot[:8], n), Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Tier:   events.TierFentry,
		Killer: &events.Killer{Kind: "kernel", Path: "memcg"},
		Limiter: &events.Limiter{
			Cgroup: &cgroup, Level: events.LevelContainer, Workload: workload, LimitBytes: &limit, UsageBytes: &usage,
		},
		Trigger: &events.Process{PID: 1000 + n, TID: 1000 + n, Comm: "java", Cgroup: &cgroup, Workload: workload},
		Victims: []events.Victim{{
			Process: events.Process{PID: 1000 + n, TID: 1000 + n, Comm: "java", Cgroup: &cgroup, Workload: workload},
			Role:    events.RoleChosen, AnonRSSBytes: &usage,
		}},
	}
}

func mustIncident(t *testing.T, f *followUp, inc *events.Incident, nowNS uint64) {
	t.Helper()

	if err := f.incident(inc, nowNS); err != nil {
		t.Fatal(err)
	}
}

// causesOf returns the ids of incidents in the order in which their causes were reported.
func causesOf(all []events.Line) (ids []string) {
	for _, l := range all {
		if u, ok := l.(*events.Update); ok && u.Change.Causes != nil {
			ids = append(ids, u.Change.ID)
		}
	}

	return ids
}

func TestCausesWaitForEvidence(t *testing.T) {
	out, stalls, state := &lines{}, &fakeEnricher{awaited: true}, &fakeEnricher{awaited: true}
	f := newTestFollowUp(out, stalls, state, &fakeEnricher{})
	inc := podKill(0)
	mustIncident(t, f, inc, 0)

	stalls.answer(inc.ID, "stalls")
	advance(t, f, 1)

	if got := causesOf(out.lines); got != nil {
		t.Errorf("got causes of %v while evidence is awaited, want none", got)
	}

	state.answer(inc.ID, "state")
	advance(t, f, 2)

	if got := causesOf(out.lines); !slices.Equal(got, []string{inc.ID}) {
		t.Errorf("got causes of %v, want of %s", got, inc.ID)
	}

	if inc.Notes != nil || inc.Causes != nil {
		t.Error("got a changed incident, want it copied on write")
	}
}

func TestCausesComeAtTheDeadline(t *testing.T) {
	out, state := &lines{}, &fakeEnricher{awaited: true}
	f := newTestFollowUp(out, state)
	mustIncident(t, f, podKill(0), 0)

	advance(t, f, causesWithinNS-1)

	if got := causesOf(out.lines); got != nil {
		t.Errorf("got causes of %v before the deadline, want none", got)
	}

	advance(t, f, causesWithinNS)

	if got := causesOf(out.lines); len(got) != 1 {
		t.Errorf("got causes of %v at the deadline, want of one incident", got)
	}

	// Evidence after the deadline still counts: the limit is the pod's.
	limiter := &events.Limiter{Level: events.LevelPod, LimitBytes: new(uint64(1))}
	state.found = []finding{{&events.Incident{ID: podKill(0).ID, Limiter: limiter}, true}}

	advance(t, f, causesWithinNS+1)

	if got := causesOf(out.lines); len(got) != 2 {
		t.Errorf("got causes %d times, want again after late evidence", len(got))
	}
}

func TestLateVictimsAreEvidence(t *testing.T) {
	out := &lines{}
	f := newTestFollowUp(out)
	inc := podKill(0)
	inc.Killer = &events.Killer{Kind: "kernel", Path: "group"}
	mustIncident(t, f, inc, 0)
	advance(t, f, 1)

	late := events.Victim{Process: events.Process{PID: 2, TID: 2, Comm: "worker"}, Role: events.RoleGroup}
	if err := f.changed(&events.Incident{ID: inc.ID, Victims: []events.Victim{late}}); err != nil {
		t.Fatal(err)
	}

	causes := f.current(inc.ID).Causes
	if len(causes) == 0 || causes[0].ID != "group_kill" {
		t.Errorf("got causes %+v, want group_kill first", causes)
	}

	reported := len(causesOf(out.lines))

	if err := f.changed(&events.Incident{ID: inc.ID, Notes: []string{"late"}}); err != nil {
		t.Fatal(err)
	}

	if got := len(causesOf(out.lines)); got != reported {
		t.Errorf("got %d reports of causes after a note, want %d", got, reported)
	}
}

// An incident that has to make room is explained with the evidence so far.
func TestEvictedIncidentsAreComplete(t *testing.T) {
	out, state := &lines{}, &fakeEnricher{awaited: true}
	f := newTestFollowUp(out, state)
	n := openIncidents.Incidents + 3

	for i := range n {
		mustIncident(t, f, podKill(i), 0)
	}

	if got := causesOf(out.lines); len(got) != 3 || got[0] != podKill(0).ID {
		t.Errorf("got causes of %v, want of the first three incidents", got)
	}

	state.answer(podKill(0).ID, "too late")
	advance(t, f, 1)

	var lost uint64

	for _, l := range out.lines {
		if l, ok := l.(*events.Lost); ok && l.What == "incident_update" {
			lost += l.Count
		}
	}

	if lost != 1 {
		t.Errorf("got %d late updates counted, want 1", lost)
	}
}

func TestDropsOfAnEnricherAreReported(t *testing.T) {
	out, state := &lines{}, &fakeEnricher{refused: 2}
	f := newTestFollowUp(out, state)
	advance(t, f, 1)
	advance(t, f, 2)

	if len(out.lines) != 1 {
		t.Fatalf("got %d lines, want one", len(out.lines))
	}

	if l, ok := out.lines[0].(*events.Lost); !ok || l.What != "fake" || l.Count != 2 {
		t.Errorf("got %+v, want 2 of fake lost", out.lines[0])
	}
}

// The recorder has room for the stalls of one cgroup.
func TestEvictedStallsAreReportedAsLost(t *testing.T) {
	out := &lines{}
	stalls := &stallHistory{recorder: flight.New(1)}

	for id := range uint64(3) {
		stalls.recorder.Stall(kernel.Stall{
			Meta:       kernel.Meta{BootNS: 1e9, Current: kernel.Task{Cgroup: events.CgroupKey{ID: id + 1}}},
			DurationNS: 1e6,
		})
	}

	advance(t, newTestFollowUp(out, stalls), 1)

	if len(out.lines) != 1 {
		t.Fatalf("got %d lines, want one", len(out.lines))
	}

	if l, ok := out.lines[0].(*events.Lost); !ok || l.What != "stall_history" || l.Count != 2 {
		t.Errorf("got %+v, want 2 of stall_history lost", out.lines[0])
	}
}

func TestASinkThatFailsEndsTheTrace(t *testing.T) {
	full := errors.New("disk full")
	f := newTestFollowUp(sink.Func(func(events.Line) error { return full }))

	if err := f.incident(podKill(0), 0); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
}

// A burst of 200 kills has names, causes and headlines for the same incidents, in the
// order of their times, in every output: text, JSON, recording, replay, report. A table and
// bcc have one row for each, in that order, and no updates.
func TestABurstIsCompleteInEveryOutput(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 20 // each incident is synced to disk
	}

	var text, table, asJSON, bcc bytes.Buffer
	rows := view.NewTable(&table, view.TableOptions{Location: time.UTC})
	dir := t.TempDir()

	writer, err := record.Create(dir, record.Options{BootID: testBoot, Node: "n1"})
	if err != nil {
		t.Fatal(err)
	}

	var counts countSink
	known, state := newFakeNames(), &fakeEnricher{awaited: true}
	f := newTestFollowUp(sink.Tee(
		record.NewSink(writer), view.NewText(&text, view.TextOptions{Location: time.UTC}), rows, view.NewJSON(&asJSON),
		view.NewBCC(&bcc, nil, time.UTC), &counts))
	f.enrichers = []enricher{state, &lateNames{names: known, current: f.current, now: func() uint64 { return 0 }}}

	ids := burst(t, f, state, known, kills)

	var victims []string
	for i := range kills {
		victims = append(victims, fmt.Sprintf("java[%d]", 1000+i))
	}

	if err := errors.Join(writer.Close(), rows.Close()); err != nil {
		t.Fatal(err)
	}

	t.Run("counts", func(t *testing.T) {
		if counts["incident"] != kills || counts["headline"] != kills || counts["update"] < 3*kills {
			t.Errorf("got %v, want %d incidents and headlines, and state, causes and names of each", counts, kills)
		}
	})
	t.Run("causes in order", func(t *testing.T) {
		var last []string

		for _, inc := range decodeIncidents(t, asJSON.Bytes()) {
			if inc.Causes != nil && !slices.Contains(last, inc.ID) {
				last = append(last, inc.ID)
			}
		}

		wantSame(t, "causes of an incident", last, ids)
	})
	t.Run("JSON", func(t *testing.T) {
		names := make(map[string]string)

		for _, inc := range decodeIncidents(t, asJSON.Bytes()) {
			if inc.Limiter != nil {
				names[inc.ID] = inc.Limiter.Workload.Container
			}
		}

		for i, id := range ids {
			if got, want := names[id], fmt.Sprintf("app-%d", i); got != want {
				t.Errorf("got container %q of %s in the end, want %q", got, id, want)
			}
		}
	})
	t.Run("text", func(t *testing.T) {
		if got := strings.Count(text.String(), "UPDATE"); got != 0 {
			t.Errorf("got %d updates without a headline, want none", got)
		}

		headlines, causes, names := blocks(text.String())
		wantSame(t, "victim of a headline", headlines, victims)
		wantSame(t, "victim of causes", causes, victims)

		for i, victim := range victims {
			if got, want := names[victim], fmt.Sprintf("app-%d", i); got != want {
				t.Errorf("got container %q of %s in the end, want %q", got, victim, want)
			}
		}
	})
	t.Run("table", func(t *testing.T) {
		var got []string

		for line := range strings.Lines(table.String()) {
			if f := strings.Fields(line); f[0] != "ID" {
				got = append(got, f[3])
			}
		}

		wantSame(t, "victim of a row", got, victims)
	})
	t.Run("bcc", func(t *testing.T) {
		var want []string
		for i := range kills {
			want = append(want, fmt.Sprintf("14:03:07 Triggered by PID %d", 1000+i))
		}

		var got []string

		for line := range strings.Lines(bcc.String()) {
			trigger, _, _ := strings.Cut(line, " (")
			got = append(got, trigger)
		}

		wantSame(t, "line", got, want)
	})
	t.Run("replay", func(t *testing.T) {
		wantSame(t, "line", slices.Collect(strings.Lines(replayed(t, dir))), slices.Collect(strings.Lines(text.String())))
	})
	t.Run("report", func(t *testing.T) {
		var got []string

		for _, inc := range reportOf(t, dir) {
			got = append(got, inc.ID)

			container, want := inc.Limiter.Workload.Container, f.current(inc.ID).Limiter.Workload.Container
			if inc.Causes == nil || container == "" || container != want {
				t.Errorf("got %s with %d causes and container %q, want causes and %q",
					inc.ID, len(inc.Causes), container, want)
			}
		}

		wantSame(t, "incident", got, ids)
	})
}

var (
	headline = regexp.MustCompile(`^\S+ \S+ OOM KILL  (\S+)  memcg limit(  \(continued\))?\n$`)
	name     = regexp.MustCompile(`^ {13}checkout-7d9f/(app-\d+) `)
)

// blocks returns of a text the victims of its headlines, those that have causes, each once
// and in their order, and the container that was named last for each.
func blocks(text string) (headlines, causes []string, names map[string]string) {
	var victim string

	names = make(map[string]string)

	for line := range strings.Lines(text) {
		if m := headline.FindStringSubmatch(line); m != nil {
			victim = m[1]
			if m[2] == "" {
				headlines = append(headlines, victim)
			}
		}

		if m := name.FindStringSubmatch(line); m != nil {
			names[victim] = m[1]
		}

		if strings.HasPrefix(line, "  causes ") && !slices.Contains(causes, victim) {
			causes = append(causes, victim)
		}
	}

	return headlines, causes, names
}

// burst reports kills, then the state of the node for each, then the names, and returns the
// ids of the incidents.
func burst(t *testing.T, f *followUp, state *fakeEnricher, known *fakeNames, kills int) (ids []string) {
	t.Helper()

	for i := range kills {
		inc := podKill(i)
		h, _ := events.HeadlineOf(inc)

		if err := f.write(h); err != nil {
			t.Fatal(err)
		}

		mustIncident(t, f, inc, 0)
		ids = append(ids, inc.ID)
	}

	for _, id := range ids {
		state.answer(id, "state of the node")
	}

	advance(t, f, 1)

	for i := range kills {
		known.known[fmt.Sprintf("%064x", i)] = fmt.Sprintf("app-%d", i)
	}

	known.learn(podUID, "checkout-7d9f")

	if err := f.finish(2); err != nil {
		t.Fatal(err)
	}

	return ids
}

// wantSame reports the first difference between two lists.
func wantSame(t *testing.T, what string, got, want []string) {
	t.Helper()

	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("got %s %q at index %d, want %q", what, got[i], i, want[i])
			return
		}
	}

	if len(got) != len(want) {
		t.Errorf("got a list of %d (%s), want %d", len(got), what, len(want))
	}
}

// replayed returns the text of a recording. Headlines are not recorded.
func replayed(t *testing.T, dir string) string {
	t.Helper()

	r, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	var out strings.Builder
	text, open := view.NewText(&out, view.TextOptions{Location: time.UTC}), ledger.New(record.OpenIncidents, nil)

	for recorded, err := range r.Lines() {
		if err != nil {
			t.Fatal(err)
		}

		line, err := recorded.Decode()
		if err != nil {
			t.Fatal(err)
		}

		if line, err = open.Take(line, len(recorded.Raw)); err != nil {
			t.Fatal(err)
		}

		if inc, ok := line.(*events.Incident); ok {
			h, _ := events.HeadlineOf(inc)
			if err := text.Write(h); err != nil {
				t.Fatal(err)
			}
		}

		if err := text.Write(line); err != nil {
			t.Fatal(err)
		}
	}

	return out.String()
}

// decodeIncidents decodes lines of incidents and updates.
func decodeIncidents(t *testing.T, lines []byte) (all []*events.Incident) {
	t.Helper()

	for line := range bytes.Lines(lines) {
		inc := new(events.Incident)
		if err := events.Unmarshal(line, inc); err != nil {
			t.Fatal(err)
		}

		all = append(all, inc)
	}

	return all
}

// reportOf returns the incidents of a report on a recording.
func reportOf(t *testing.T, dir string) []*events.Incident {
	t.Helper()

	r, err := record.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	var out bytes.Buffer
	if _, err := report.JSON(&out, report.Recording(r), report.Options{Location: time.UTC}); err != nil {
		t.Fatal(err)
	}

	return decodeIncidents(t, out.Bytes())
}

// countSink counts lines by kind: an example of a sink, joined by one more argument to Tee.
type countSink map[string]int

func (c *countSink) Write(l events.Line) error {
	if *c == nil {
		*c = make(countSink)
	}

	switch l.(type) {
	case *events.Headline:
		(*c)["headline"]++
	case *events.Incident:
		(*c)["incident"]++
	case *events.Update:
		(*c)["update"]++
	case *events.StallLine:
		(*c)["stall"]++
	case *events.PressureLine:
		(*c)["pressure"]++
	case *events.Lost:
		(*c)["lost"]++
	case *events.Status:
		(*c)["status"]++
	}

	return nil
}
