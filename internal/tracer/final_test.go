// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

var containerOne = strings.Repeat("1", 64)

// ended is a kill that nothing more is expected of, after a change.
func ended(change func(*events.Incident)) *events.Incident {
	inc := &events.Incident{
		ID: "a", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled, Audit: &events.Audit{Explained: true},
		Limiter: &events.Limiter{Level: events.LevelContainer, Workload: &events.Workload{
			ContainerID: containerOne, Container: "app", PodUID: "u1", Pod: "cart-0",
		}},
		Victims: []events.Victim{{Process: events.Process{PID: 7, Comm: "java"}, ExitAfterNS: new(uint64(3e6))}},
	}
	if change != nil {
		change(inc)
	}

	return inc
}

func TestAnIncidentIsFinalOnceNothingIsExpected(t *testing.T) {
	const early = 1e9

	for name, test := range map[string]struct {
		change      func(*events.Incident)
		final, late bool // at once, after finalWithinNS
	}{
		"all is known":           {nil, true, true},
		"a victim is running":    {func(inc *events.Incident) { inc.Victims[0].ExitAfterNS = nil }, false, true},
		"no audit yet":           {func(inc *events.Incident) { inc.Audit = nil }, false, true},
		"a pod without its name": {func(inc *events.Incident) { inc.Limiter.Workload.Pod = "" }, false, true},
		"a victim without a name": {func(inc *events.Incident) {
			inc.Victims[0].Workload = &events.Workload{ContainerID: strings.Repeat("2", 64)}
		}, false, true},
		"a container whose end the runtime has not reported": {func(inc *events.Incident) {
			inc.Victims[0].Workload, inc.Victims[0].IsContainerInit = inc.Limiter.Workload, new(true)
		}, false, true},
		"a kill by a user":  {func(inc *events.Incident) { inc.Scope, inc.Audit = events.ScopeUser, nil }, true, true},
		"tasks that wait":   {func(inc *events.Incident) { inc.Wait = &events.OOMWait{} }, false, false},
		"a wait that ended": {func(inc *events.Incident) { inc.Wait = &events.OOMWait{EndedAfterNS: new(uint64(1))} }, true, true},
	} {
		f := &followUp{resolvesNames: true}
		inc := ended(test.change)

		if got := f.isFinal(inc, early); got != test.final {
			t.Errorf("%s: got final %v after a second, want %v", name, got, test.final)
		}

		if got := f.isFinal(inc, finalWithinNS); got != test.late {
			t.Errorf("%s: got final %v at the deadline, want %v", name, got, test.late)
		}
	}
}

func TestWithoutSourcesNoNameIsAwaited(t *testing.T) {
	inc := ended(func(inc *events.Incident) { inc.Limiter.Workload.Pod = "" })

	if f := new(followUp); !f.isFinal(inc, 1e9) {
		t.Error("got an incident that waits for a name, want it final: there is no source of names")
	}
}

// The final line comes once, is whole, and comes after the causes.
func TestEachIncidentHasOneFinalLine(t *testing.T) {
	out := new(lines)
	f := newTestFollowUp(out)

	for _, id := range []string{"a", "b"} {
		inc := ended(func(inc *events.Incident) { inc.ID, inc.BootID = id, testBoot })
		if id == "b" {
			inc.Audit = nil // comes with an update
		}

		mustIncident(t, f, inc, 0)
	}

	for now := range uint64(3) {
		advance(t, f, now*1e9)
	}

	if err := f.changed(&events.Incident{ID: "b", Audit: &events.Audit{Explained: true}}); err != nil {
		t.Fatal(err)
	}

	advance(t, f, 3e9)

	if err := f.finish(4e9); err != nil {
		t.Fatal(err)
	}

	var finals []string

	explained := map[string]bool{}

	for _, l := range out.lines {
		switch l := l.(type) {
		case *events.Explained:
			explained[l.Incident.ID] = true
		case *events.Final:
			finals = append(finals, l.ID)

			if !explained[l.ID] || l.Audit == nil || len(l.Victims) != 1 || l.Summary == "" || l.Kind != events.KindIncidentFinal {
				t.Errorf("got final line %+v, want the whole incident, explained before", l.Incident)
			}
		}
	}

	if got := strings.Join(finals, " "); got != "a b" {
		t.Errorf("got final lines of %q, want those of a and b, each once", got)
	}
}

// Incidents that wait for their final line cost nothing while records are read.
func TestFinalLinesAreNotLookedForWithEachRecord(t *testing.T) {
	f := newTestFollowUp(new(lines))
	f.resolvesNames = true

	mustIncident(t, f, ended(func(inc *events.Incident) {
		inc.BootID, inc.Victims[0].Workload, inc.Victims[0].IsContainerInit = testBoot, inc.Limiter.Workload, new(true)
	}), 0)
	advance(t, f, 0)

	if n := testing.AllocsPerRun(100, func() { _ = f.finalize(1, true) }); n != 0 || len(f.unfinished) != 1 {
		t.Errorf("got %v allocations and %d unfinished incidents, want none, and one that waits for the runtime", n, len(f.unfinished))
	}
}

// The summary follows what becomes known.
func TestTheSummaryIsKeptUpToDate(t *testing.T) {
	out := new(lines)
	f := newTestFollowUp(out)

	mustIncident(t, f, ended(func(inc *events.Incident) { inc.BootID, inc.Limiter.Workload.Pod = testBoot, "" }), 0)

	first := f.current("a").Summary
	if !strings.Contains(first, "of pod u1") {
		t.Errorf("got summary %q, want the pod's uid in it", first)
	}

	limiter := *f.current("a").Limiter
	limiter.Workload = &events.Workload{ContainerID: containerOne, Container: "app", PodUID: "u1", Pod: "cart-0", Namespace: "shop"}

	if err := f.changed(&events.Incident{ID: "a", Limiter: &limiter}); err != nil {
		t.Fatal(err)
	}

	u, ok := out.lines[len(out.lines)-1].(*events.Update)
	if !ok || !strings.Contains(u.Change.Summary, "shop/cart-0") {
		t.Errorf("got line %+v, want an update whose summary has the name", out.lines[len(out.lines)-1])
	}

	if u.Before.Summary != first {
		t.Errorf("got summary %q before the update, want %q: it was published", u.Before.Summary, first)
	}
}
