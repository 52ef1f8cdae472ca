// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"reflect"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
	"github.com/oomtrace/oomtrace/internal/resolve/exitstatus"
)

const (
	appID   = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	podUID  = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	podPath = "/kubepods/burstable/pod" + podUID
	appPath = podPath + "/" + appID
)

// fakeNames is a resolver of the names that a test sets.
type fakeNames struct {
	known   map[string]string // container name by id, pod name by UID
	seen    []resolve.Ref
	gone    []resolve.Ref
	checks  []exitstatus.Check
	reports []exitstatus.Report
	learned []resolve.Ref
	dropped uint64
	refused uint64 // checks
}

// fakeReports is the part of fakeNames that answers checks.
type fakeReports struct{ *fakeNames }

func (f fakeReports) Dropped() uint64 { return f.refused }

func (f *fakeNames) Seen(r resolve.Ref)  { f.seen = append(f.seen, r) }
func (f *fakeNames) Found(r resolve.Ref) { f.Seen(r) }

func (f *fakeNames) Gone(r resolve.Ref) { f.gone = append(f.gone, r) }
func (f *fakeNames) Dropped() uint64    { return f.dropped }

func (f *fakeNames) Check(c exitstatus.Check) { f.checks = append(f.checks, c) }

func (f *fakeNames) Reports() []exitstatus.Report {
	list := f.reports
	f.reports = nil

	return list
}

func (f *fakeNames) learn(id, name string) {
	f.known[id] = name

	if id == podUID {
		f.learned = append(f.learned, resolve.Ref{PodUID: id})
	} else {
		f.learned = append(f.learned, resolve.Ref{ContainerID: id})
	}
}

func (f *fakeNames) Learned() ([]resolve.Ref, bool) {
	refs := f.learned
	f.learned = nil

	return refs, false
}

func (f *fakeNames) Fill(w *events.Workload) *events.Workload {
	if _, ok := resolve.RefOf(w); !ok || f.known[w.PodUID] == "" {
		return w
	}
	out := *w

	out.Pod, out.Container, out.Source = f.known[w.PodUID], f.known[w.ContainerID], "cri"
	if reflect.DeepEqual(&out, w) {
		return w
	}

	return &out
}

func newFakeNames() *fakeNames { return &fakeNames{known: map[string]string{}} }

func killedIn(t *testing.T, tree resolve.NamedTree) *events.Incident {
	t.Helper()
	app, _, _ := tree.Place(events.CgroupKey{ID: 2})
	pod, _, _ := tree.Place(events.CgroupKey{ID: 1})
	init, child := true, false

	return &events.Incident{
		ID: "a", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled,
		Killer:  &events.Killer{Kind: "kernel", Path: "memcg"},
		Limiter: &events.Limiter{Level: pod.Level, LimitBytes: new(uint64), Workload: pod.Workload},
		Ladder: []events.Rung{
			{Level: app.Level, Workload: app.Workload, Below: true}, {Level: pod.Level, Workload: pod.Workload},
			{Level: events.LevelKubepods},
		},
		Trigger: &events.Process{PID: 7, TID: 8, Comm: "java", Workload: app.Workload},
		Victims: []events.Victim{
			{Process: events.Process{PID: 7, TID: 7, Comm: "java", Workload: app.Workload}, Role: events.RoleChosen,
				IsContainerInit: &init},
			{Process: events.Process{PID: 9, TID: 9, Comm: "sh", Workload: app.Workload}, Role: events.RoleGroup,
				IsContainerInit: &child},
			{Process: events.Process{PID: 11, TID: 11, Comm: "sshd"}, IsContainerInit: &child},
		},
	}
}

func tree() *resolve.Tree {
	tree := resolve.NewTree(resolve.TreeOptions{})
	tree.Learn(events.CgroupKey{ID: 1}, podPath)
	tree.Learn(events.CgroupKey{ID: 2}, appPath)
	tree.Learn(events.CgroupKey{ID: 3}, appPath+"/init.scope")
	tree.Learn(events.CgroupKey{ID: 4}, "/system.slice/sshd.service")

	return tree
}

// withNamesOf returns a follow-up with one incident, its resolver, and its lines.
func withNamesOf(t *testing.T) (*followUp, *fakeNames, *lines) {
	t.Helper()
	known, out := newFakeNames(), &lines{}
	f := newFollowUp("", out.Write, func(kind string) events.Envelope { return events.Envelope{Kind: kind} })
	f.enrichers = []enricher{
		&lateNames{names: known, current: f.current, now: func() uint64 { return 0 }}, &runtimeReport{fakeReports{known}, f.current},
	}

	if err := f.incident(killedIn(t, resolve.NewNamedTree(tree(), known)), 0); err != nil {
		t.Fatal(err)
	}

	return f, known, out
}

func advance(t *testing.T, f *followUp, nowNS uint64) {
	t.Helper()

	if err := f.advance(nowNS, true); err != nil {
		t.Fatal(err)
	}
}

func TestLateNamesAreMergedIntoTheIncident(t *testing.T) {
	f, known, out := withNamesOf(t)
	places := resolve.NewNamedTree(tree(), known)

	advance(t, f, 1)
	before := len(out.lines)

	known.learn(podUID, "checkout-7d9f")
	advance(t, f, 2)
	known.learn(appID, "app")
	advance(t, f, 3)
	advance(t, f, 4)

	got, want := *f.current("a"), killedIn(t, places)
	if got.Causes, got.Summary = nil, ""; !reflect.DeepEqual(&got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}

	if w := want.Limiter.Workload; w.Pod != "checkout-7d9f" || w.Source != "cri" {
		t.Errorf("got workload %+v, want pod checkout-7d9f from cri", w)
	}

	if len(out.lines) == before {
		t.Error("got no update with the names, want one")
	}

	if place, _, _ := places.Tree.Place(events.CgroupKey{ID: 2}); place.Workload.Pod != "" {
		t.Error("got a changed place in the tree, want it untouched")
	}
}

func TestLateVictimsGetNames(t *testing.T) {
	f, known, _ := withNamesOf(t)
	place, _, _ := tree().Place(events.CgroupKey{ID: 2})

	late := &events.Incident{
		ID: "a", Victims: []events.Victim{{Process: events.Process{PID: 12, Workload: place.Workload}}},
	}
	if err := f.update(late); err != nil {
		t.Fatal(err)
	}

	known.learn(podUID, "checkout-7d9f")
	advance(t, f, 1)

	named := func(v events.Victim) bool { return v.PID == 12 && v.Workload.Pod == "checkout-7d9f" }
	if inc := f.current("a"); !slices.ContainsFunc(inc.Victims, named) {
		t.Errorf("got victims %+v, want pid 12 with its pod", inc.Victims)
	}
}

func TestTasksThatWaitGetNames(t *testing.T) {
	f, known, _ := withNamesOf(t)
	place, _, _ := tree().Place(events.CgroupKey{ID: 2})
	wait := &events.OOMWait{Tasks: []events.Process{{PID: 12, Workload: place.Workload}, {PID: 13}}, TasksLeftOut: 1}

	if err := f.update(&events.Incident{ID: "a", Wait: wait}); err != nil {
		t.Fatal(err)
	}

	known.learn(podUID, "checkout-7d9f")
	advance(t, f, 1)

	got := f.current("a").Wait
	if len(got.Tasks) != 2 || got.Tasks[0].Workload.Pod != "checkout-7d9f" || got.TasksLeftOut != 1 {
		t.Errorf("got wait %+v, want pid 12 with its pod, and the rest as before", got)
	}

	if wait.Tasks[0].Workload.Pod != "" {
		t.Error("got a changed task, want a copy")
	}
}

func TestNamesStopAtTheirDeadline(t *testing.T) {
	f, known, _ := withNamesOf(t)

	advance(t, f, namesWithinNS+1)
	known.learn(podUID, "checkout-7d9f")
	advance(t, f, namesWithinNS+2)

	if w := f.current("a").Limiter.Workload; w.Pod != "" {
		t.Errorf("got pod %q long after the kill, want none", w.Pod)
	}
}

// A name may be resolved between the collection of an incident's evidence and its report.
func TestNamesResolvedJustBeforeTheReportAreNotMissed(t *testing.T) {
	known, out := newFakeNames(), &lines{}
	f := newTestFollowUp(out)
	f.enrichers = []enricher{&lateNames{names: known, current: f.current, now: func() uint64 { return 0 }}}
	unnamed := podKill(0)

	known.learn(podUID, "checkout-7d9f")
	advance(t, f, 1) // takes what was learnt
	mustIncident(t, f, unnamed, 2)
	advance(t, f, 3)

	if w := f.current(unnamed.ID).Limiter.Workload; w.Pod != "checkout-7d9f" {
		t.Errorf("got pod %q, want checkout-7d9f", w.Pod)
	}
}

// A name may be learnt while the host is sampled: the candidates then arrive without it.
func TestNamesLearntDuringASampleAreNotMissed(t *testing.T) {
	known, out := newFakeNames(), &lines{}
	f, state := newTestFollowUp(out), &fakeEnricher{awaited: true}
	f.enrichers = []enricher{state, &lateNames{names: known, current: f.current, now: func() uint64 { return 0 }}}

	inc := podKill(0)
	mustIncident(t, f, inc, 0)

	known.learn(podUID, "checkout-7d9f")
	advance(t, f, 1) // takes what was learnt

	unnamed := []events.Candidate{{Process: events.Process{PID: 12, Workload: inc.Limiter.Workload}}}
	state.found = []finding{{&events.Incident{ID: inc.ID, Candidates: unnamed}, true}}

	advance(t, f, 2)

	if w := f.current(inc.ID).Candidates[0].Workload; w.Pod != "checkout-7d9f" {
		t.Errorf("got pod %q, want checkout-7d9f", w.Pod)
	}
}

// The runtime is asked once for each container, and every report repeats those before
// it: a key of an update replaces the old one.
func TestRuntimeReportsAddUp(t *testing.T) {
	f, known, _ := withNamesOf(t)

	if len(known.checks) != 1 {
		t.Fatalf("got checks %+v, want one", known.checks)
	}

	c := known.checks[0]

	want := exitstatus.Kernel{Scope: events.ScopeMemcg, Level: events.LevelPod, Init: true, Child: true, By: "memcg"}
	if c.Kernel != want || c.ContainerID != appID || c.Incident != "a" {
		t.Errorf("got check %+v, want %+v of container %s", c, want, appID)
	}
	report := func(id string) exitstatus.Report {
		return exitstatus.Report{Incident: "a", Reported: events.Reported{ContainerID: id, Text: id}}
	}

	known.reports = []exitstatus.Report{report("1")}

	advance(t, f, 1)

	known.reports = []exitstatus.Report{report("2"), report("3")}

	advance(t, f, 2)

	if got := f.current("a").Reported; len(got) != 3 {
		t.Errorf("got reports %+v, want 3", got)
	}
}

func TestDroppedLookUpsAreReportedOnce(t *testing.T) {
	f, known, out := withNamesOf(t)
	known.dropped, known.refused = 5, 2

	advance(t, f, 1)
	advance(t, f, 2)

	var lost []*events.Lost

	for _, l := range out.lines {
		if l, ok := l.(*events.Lost); ok {
			lost = append(lost, l)
		}
	}

	if len(lost) != 1 || lost[0].Count != 7 || lost[0].What != "name_lookup" {
		t.Errorf("got lost lines %+v, want one of 7 name_lookup", lost)
	}
}
