// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/exitstatus"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	appID   = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	podUID  = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	podPath = "/kubepods/burstable/pod" + podUID
	appPath = podPath + "/" + appID
)

// book is what a resolver would know.
type book struct {
	known   map[string]string // container name by id, pod name by UID
	seen    []resolve.Ref
	gone    []resolve.Ref
	checks  []exitstatus.Check
	reports []exitstatus.Report
	version uint64
	dropped uint64
}

func (b *book) Seen(r resolve.Ref)  { b.seen = append(b.seen, r) }
func (b *book) Found(r resolve.Ref) { b.Seen(r) }

func (b *book) Gone(r resolve.Ref) { b.gone = append(b.gone, r) }
func (b *book) Version() uint64    { return b.version }
func (b *book) Dropped() uint64    { return b.dropped }

func (b *book) Check(c exitstatus.Check) { b.checks = append(b.checks, c) }

func (b *book) Reports() []exitstatus.Report {
	list := b.reports
	b.reports = nil

	return list
}

func (b *book) learn(id, name string) {
	b.known[id] = name
	b.version++
}

func (b *book) Fill(w *events.Workload) *events.Workload {
	if _, ok := resolve.RefOf(w); !ok || b.known[w.PodUID] == "" {
		return w
	}
	out := *w

	out.Pod, out.Container, out.Source = b.known[w.PodUID], b.known[w.ContainerID], "cri"
	if reflect.DeepEqual(&out, w) {
		return w
	}

	return &out
}

// exitBook is what a runtime would report.
type exitBook struct{ *book }

func (exitBook) Dropped() uint64 { return 0 }

func newBook() *book { return &book{known: map[string]string{}} }

func killedIn(t *testing.T, tree namedTree) *events.Incident {
	t.Helper()
	app, _, _ := tree.Place(events.CgroupKey{ID: 2})
	pod, _, _ := tree.Place(events.CgroupKey{ID: 1})
	init, child := true, false

	return &events.Incident{
		ID: "a", Scope: events.ScopeMemcg, Outcome: events.OutcomeKilled, Killer: &events.Killer{Kind: "kernel", Path: "memcg"},
		Limiter: &events.Limiter{Level: pod.Level, LimitBytes: new(uint64), Workload: pod.Workload},
		Ladder:  []events.Rung{{Level: app.Level, Workload: app.Workload, Below: true}, {Level: pod.Level, Workload: pod.Workload}, {Level: events.LevelKubepods}},
		Trigger: &events.Process{PID: 7, TID: 8, Comm: "java", Workload: app.Workload},
		Victims: []events.Victim{
			{Process: events.Process{PID: 7, TID: 7, Comm: "java", Workload: app.Workload}, Role: events.RoleChosen, IsContainerInit: &init},
			{Process: events.Process{PID: 9, TID: 9, Comm: "sh", Workload: app.Workload}, Role: events.RoleGroup, IsContainerInit: &child},
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

// Names that come late are an update that makes the incident what it would have
// been had they been known.
func TestNamesComeLate(t *testing.T) {
	known := newBook()
	n := &naming{names: known, exits: exitBook{known}}
	places := namedTree{tree(), known}
	inc := killedIn(t, places)
	n.hold(inc, 1e9)

	if u := n.due(1e9); len(u) != 0 {
		t.Fatalf("%+v", u[0])
	}

	known.learn(podUID, "checkout-7d9f")
	first := n.due(1.1e9)

	known.learn(appID, "app")

	second := n.due(1.2e9)
	if len(first) != 1 || len(second) != 1 || len(n.due(1.3e9)) != 0 {
		t.Fatalf("%d and %d updates", len(first), len(second))
	}
	want := killedIn(t, places)

	events.Merge(inc, first[0])
	events.Merge(inc, second[0])

	if !reflect.DeepEqual(inc, want) {
		t.Errorf("\n got %+v\nwant %+v", inc, want)
	}

	if w := want.Limiter.Workload; w.Pod != "checkout-7d9f" || w.Source != "cri" {
		t.Errorf("%+v", w)
	}

	if place, _, _ := places.Tree.Place(events.CgroupKey{ID: 2}); place.Workload.Pod != "" {
		t.Error("the tree's own place was changed")
	}
}

// A victim that was added later gets its names, too.
func TestNamesOfLateVictims(t *testing.T) {
	known := newBook()
	n := &naming{names: known, exits: exitBook{known}}
	n.hold(killedIn(t, namedTree{tree(), known}), 0)
	place, _, _ := tree().Place(events.CgroupKey{ID: 2})
	n.merge(&events.Incident{ID: "a", Victims: []events.Victim{{Process: events.Process{PID: 12, Workload: place.Workload}}}})
	known.learn(podUID, "checkout-7d9f")

	updates := n.due(1)
	if len(updates) != 1 || !slices.ContainsFunc(updates[0].Victims, func(v events.Victim) bool { return v.PID == 12 && v.Workload.Pod == "checkout-7d9f" }) {
		t.Errorf("%+v", updates)
	}
}

// The runtime is asked once for each container, and every report repeats those
// before it: a key of an update replaces the old one.
func TestReports(t *testing.T) {
	known := newBook()
	n := &naming{names: known, exits: exitBook{known}}
	n.hold(killedIn(t, namedTree{tree(), known}), 0)

	if len(known.checks) != 1 {
		t.Fatalf("%+v", known.checks)
	}

	c := known.checks[0]
	if want := (exitstatus.Kernel{Scope: events.ScopeMemcg, Level: events.LevelPod, Init: true, Child: true, By: "memcg"}); c.Kernel != want || c.ContainerID != appID || c.Incident != "a" {
		t.Errorf("%+v", c)
	}
	report := func(id string) exitstatus.Report {
		return exitstatus.Report{Incident: "a", Reported: events.Reported{ContainerID: id, Text: id}}
	}
	known.reports = []exitstatus.Report{report("1")}

	n.due(1)
	known.reports = []exitstatus.Report{report("2")}

	updates := n.due(2)
	if len(updates) != 1 || len(updates[0].Reported) != 2 {
		t.Errorf("%+v", updates)
	}
	n.held = nil // forgotten meanwhile
	known.reports = []exitstatus.Report{report("3")}

	if updates := n.due(3); len(updates) != 1 || updates[0].ID != "a" || len(updates[0].Reported) != 1 {
		t.Errorf("%+v", updates)
	}
}

func TestNothingIsHeldForEver(t *testing.T) {
	known := newBook()

	n := &naming{names: known, exits: exitBook{known}}
	for i := range 3 * maxHeld {
		n.hold(&events.Incident{ID: fmt.Sprint(i)}, 0)
	}

	if len(n.held) != maxHeld {
		t.Errorf("%d are held", len(n.held))
	}

	n.due(holdNS)

	if len(n.held) != maxHeld {
		t.Error("given up too early")
	}

	n.due(holdNS + 1)

	if len(n.held) != 0 {
		t.Errorf("%d are held", len(n.held))
	}
	known.dropped = 5

	if n.lost() != 5 || n.lost() != 0 {
		t.Error("what is dropped is not told once")
	}
}

// Containers and pods are handed on as they are made, what is in them is not.
func TestTell(t *testing.T) {
	known := newBook()

	tree().Live(func(p resolve.Place) { tell(p, known.Seen) })
	slices.SortFunc(known.seen, func(a, b resolve.Ref) int { return len(a.ContainerID) - len(b.ContainerID) })

	want := []resolve.Ref{{PodUID: podUID}, {ContainerID: appID, PodUID: podUID}}
	if !slices.Equal(known.seen, want) {
		t.Errorf("%+v", known.seen)
	}

	tell(resolve.ParsePath(appPath), known.Gone)

	if !slices.Equal(known.gone, want[1:]) {
		t.Errorf("%+v", known.gone)
	}
}

// Without names all is as it was.
func TestNoNames(t *testing.T) {
	place, path, ok := namedTree{tree(), nil}.Place(events.CgroupKey{ID: 2})
	if !ok || path != appPath || place.Workload.ContainerID != appID {
		t.Errorf("%+v %s %v", place, path, ok)
	}
}
