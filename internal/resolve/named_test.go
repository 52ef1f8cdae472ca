// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"cmp"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// fakeNames records what is looked up, and names every pod "checkout".
type fakeNames struct{ seen, found, gone []Ref }

func (f *fakeNames) Seen(r Ref)  { f.seen = append(f.seen, r) }
func (f *fakeNames) Found(r Ref) { f.found = append(f.found, r) }
func (f *fakeNames) Gone(r Ref)  { f.gone = append(f.gone, r) }

func (f *fakeNames) Fill(w *events.Workload) *events.Workload {
	if _, ok := RefOf(w); !ok {
		return w
	}

	named := *w
	named.Pod = "checkout"

	return &named
}

const (
	appID   = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	appUID  = "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
	podPath = "/kubepods/burstable/pod" + appUID
	appPath = podPath + "/" + appID
)

// TestOnlyContainersAndPodsAreLookedUp: not what is within a container, nor services.
func TestOnlyContainersAndPodsAreLookedUp(t *testing.T) {
	known := &fakeNames{}
	tree := NewNamedTree(NewTree(TreeOptions{}), known)
	want := []Ref{{PodUID: appUID}, {ContainerID: appID, PodUID: appUID}}

	for i, path := range []string{podPath, appPath, appPath + "/init.scope", "/system.slice/sshd.service"} {
		tree.Observe(change("mkdir", uint64(i+1), path))
	}

	if !slices.Equal(known.seen, want) {
		t.Errorf("got %+v seen, want %+v", known.seen, want)
	}

	tree.Observe(change("rmdir", 3, appPath+"/init.scope"))
	tree.Observe(change("rmdir", 2, appPath))

	if !slices.Equal(known.gone, want[1:]) {
		t.Errorf("got %+v gone, want %+v", known.gone, want[1:])
	}
}

// TestAScanLooksUpWhatExists: cgroups that were made before the trace.
func TestAScanLooksUpWhatExists(t *testing.T) {
	known := &fakeNames{}
	tree := NewNamedTree(NewTree(TreeOptions{}), known)

	for i, path := range []string{podPath, appPath, "/system.slice"} {
		tree.Learn(key(uint64(i+1)), path)
	}

	tree.Merge(&Scan{})
	slices.SortFunc(known.found, func(a, b Ref) int { return cmp.Compare(a.ContainerID, b.ContainerID) })

	if want := []Ref{{PodUID: appUID}, {ContainerID: appID, PodUID: appUID}}; !slices.Equal(known.found, want) {
		t.Errorf("got %+v found, want %+v", known.found, want)
	}
}

// TestPlacesHaveNames: those of the tree itself stay as they are.
func TestPlacesHaveNames(t *testing.T) {
	tree := NewNamedTree(NewTree(TreeOptions{}), &fakeNames{})
	tree.Learn(key(2), appPath)

	if place, path, ok := tree.Place(key(2)); !ok || path != appPath || place.Workload.Pod != "checkout" {
		t.Errorf("got %+v, %s, %v, want pod checkout at %s", place, path, ok, appPath)
	}

	if place, _, _ := tree.Tree.Place(key(2)); place.Workload.Pod != "" {
		t.Errorf("got pod %q in the tree itself, want none", place.Workload.Pod)
	}

	if place, _, ok := NewNamedTree(tree.Tree, nil).Place(key(2)); !ok || place.Workload.ContainerID != appID || place.Workload.Pod != "" {
		t.Errorf("got %+v, %v without names, want ids alone", place, ok)
	}
}

func TestPlacerReturnsNamedWorkloads(t *testing.T) {
	if level, w := Placer(&fakeNames{})(appPath); level != events.LevelContainer || w.Pod != "checkout" {
		t.Errorf("got level %s, workload %+v, want a container of pod checkout", level, w)
	}

	if _, w := Placer(nil)(appPath); w.ContainerID != appID || w.Pod != "" {
		t.Errorf("got workload %+v, want ids alone", w)
	}
}
