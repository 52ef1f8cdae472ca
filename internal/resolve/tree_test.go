// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"fmt"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func key(id uint64) events.CgroupKey { return events.CgroupKey{Hierarchy: 4, ID: id} }

func change(op string, id uint64, path string) kernel.CgroupChange {
	return kernel.CgroupChange{Op: op, Key: key(id), Path: path}
}

func cut(op string, id uint64, path string) kernel.CgroupChange {
	c := change(op, id, path)
	c.PathCut = true

	return c
}

func wantPath(t *testing.T, tree *Tree, id uint64, want string) {
	t.Helper()

	got, ok := tree.Path(key(id))
	if got != want || ok != (want != "") {
		t.Errorf("cgroup %d: got path %q, %v, want %q", id, got, ok, want)
	}
}

func TestRemovedCgroupsKeepTheirPath(t *testing.T) {
	tree := NewTree(TreeOptions{})
	p := "/docker/" + idA
	tree.Observe(change("mkdir", 7, p))
	tree.Observe(change("mkdir", 8, p+"/sub"))

	if place, got, ok := tree.Place(key(7)); !ok || got != p || place.Level != events.LevelContainer || place.Workload.ContainerID != idA {
		t.Errorf("got place %+v, %q, %v, want container %s at %s", place, got, ok, idA, p)
	}

	tree.Observe(change("rmdir", 8, p+"/sub"))
	tree.Observe(change("rmdir", 7, p))
	tree.Observe(change("rmdir", 7, p))
	wantPath(t, tree, 7, p)

	if s, want := stats(tree), (treeStats{removed: 2}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	// The same name is another cgroup now.
	tree.Observe(change("mkdir", 9, p))
	wantPath(t, tree, 9, p)

	if _, _, ok := tree.Place(events.CgroupKey{Hierarchy: 0, ID: 9}); ok {
		t.Error("got a place in another hierarchy, want none")
	}

	if place, _, ok := tree.Place(key(99)); ok || place.Level != events.LevelCgroup || place.Workload != nil {
		t.Errorf("got %+v, %v of an unknown cgroup, want %s", place, ok, events.LevelCgroup)
	}

	tree.Observe(change("attach", 50, "/x"))
	wantPath(t, tree, 50, "")
	// Its creation was not seen.
	tree.Observe(change("rmdir", 51, "/late"))
	wantPath(t, tree, 51, "/late")
}

func TestOtherHierarchiesAreIgnored(t *testing.T) {
	tree := NewTree(TreeOptions{Hierarchies: []uint32{4, 0}})
	tree.Observe(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{Hierarchy: 5, ID: 1}, Path: "/a"})
	tree.Observe(change("mkdir", 1, "/a"))

	if n := stats(tree).live; n != 1 {
		t.Errorf("got %d live cgroups, want 1", n)
	}
}

func TestRenamingMovesDescendants(t *testing.T) {
	tree := NewTree(TreeOptions{})

	for id, p := range []string{1: "/a", 2: "/a/b", 3: "/a/b/c", 4: "/ab", 5: "/a/dead"} {
		if p != "" {
			tree.Observe(change("mkdir", uint64(id), p))
		}
	}
	other := kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{Hierarchy: 9, ID: 1}, Path: "/a/b"}
	tree.Observe(other)
	tree.Observe(change("rmdir", 5, "/a/dead"))
	tree.Place(key(3)) // the place must not survive the path
	tree.Observe(change("rename", 1, "/kubepods"))
	tree.Observe(change("mkdir", 6, "/a"))
	tree.Observe(change("mkdir", 7, "/a/b"))

	for id, want := range []string{1: "/kubepods", 2: "/kubepods/b", 3: "/kubepods/b/c", 4: "/ab", 5: "/a/dead", 6: "/a", 7: "/a/b"} {
		if want != "" {
			wantPath(t, tree, uint64(id), want)
		}
	}

	if got, _ := tree.Path(other.Key); got != "/a/b" {
		t.Errorf("got %q in another hierarchy, want /a/b", got)
	}

	tree.Observe(change("rename", 1, "/kubepods"))
	tree.Observe(change("rename", 8, "/new")) // not seen before
	wantPath(t, tree, 8, "/new")
	tree.Observe(change("rename", 5, "/a/alive")) // removed cgroups are not renamed
	wantPath(t, tree, 5, "/a/dead")

	if p, _, _ := tree.Place(key(1)); p.Level != events.LevelKubepods {
		t.Errorf("got level %s, want %s", p.Level, events.LevelKubepods)
	}
}

func TestACutPathHasThePlaceOfItsStart(t *testing.T) {
	tree := NewTree(TreeOptions{})
	full := "/docker/" + idA + "/very/long"
	tree.Observe(cut("mkdir", 1, "/docker/"+idA+"/ve"))
	tree.Observe(cut("mkdir", 2, "/docker/"+idA[:20]))
	tree.Observe(cut("mkdir", 3, ""))
	tree.Observe(change("mkdir", 4, ""))

	place, p, ok := tree.Place(key(1))
	if !ok || p != "" || place.Level != events.LevelCgroup || place.Workload == nil || place.Workload.ContainerID != idA {
		t.Errorf("got place %+v, %q, %v, want one within container %s without a path", place, p, ok, idA)
	}

	for id := range uint64(3) {
		wantPath(t, tree, id+1, "")

		if place, _, ok := tree.Place(key(id + 2)); !ok || place.Level != events.LevelCgroup || place.Workload != nil {
			t.Errorf("cgroup %d: got %+v, %v, want %s without a workload", id+2, place, ok, events.LevelCgroup)
		}
	}

	tree.Learn(key(1), full)
	wantPath(t, tree, 1, full)
	tree.Learn(key(1), "/other")
	wantPath(t, tree, 1, full)
	tree.Learn(key(5), "not a path")
	wantPath(t, tree, 5, "")

	tree.Observe(change("mkdir", 10, "/a"))
	tree.Observe(change("mkdir", 11, "/a/b"))
	tree.Observe(cut("rename", 10, "/kubepods-and-much-mo"))
	wantPath(t, tree, 10, "")
	wantPath(t, tree, 11, "")
	// A removal may carry the path that the creation did not.
	tree.Observe(change("rmdir", 11, "/z/b"))
	wantPath(t, tree, 11, "/z/b")
	tree.Observe(cut("rmdir", 1, "/do"))
	wantPath(t, tree, 1, full)
}

func TestPathsAreLearntFromAnAncestry(t *testing.T) {
	memcg := func(id uint64, name string) kernel.Memcg { return kernel.Memcg{Key: key(id), Name: name} }
	ancestry := []kernel.Memcg{memcg(4, "c"), memcg(3, "b"), memcg(2, "a"), memcg(1, "")}

	tree := NewTree(TreeOptions{})
	tree.LearnAncestry(ancestry, false)
	wantPath(t, tree, 1, "/")
	wantPath(t, tree, 2, "/a")
	wantPath(t, tree, 4, "/a/b/c")

	if n := testing.AllocsPerRun(10, func() { tree.LearnAncestry(ancestry, false) }); n != 0 {
		t.Errorf("got %v allocations where all is known, want 0", n)
	}

	// An ancestry that does not reach the root has paths below a known cgroup only.
	tree = NewTree(TreeOptions{})
	tree.LearnAncestry(ancestry[:3], true)
	wantPath(t, tree, 2, "")
	tree.Observe(change("mkdir", 3, "/x/y"))
	tree.LearnAncestry(ancestry[:3], true)
	wantPath(t, tree, 2, "")
	wantPath(t, tree, 4, "/x/y/c")

	tree = NewTree(TreeOptions{})
	ancestry[2].NameCut = true
	tree.LearnAncestry(ancestry, false)
	wantPath(t, tree, 1, "/")

	for id := uint64(2); id <= 4; id++ {
		wantPath(t, tree, id, "")
	}

	tree.LearnAncestry(nil, false)
}

// walkInto fills a scan with cgroups, as if it had just read them: paths by id, which
// must include all parents.
func walkInto(s *Scan, cgroups map[uint64]string) {
	ids := make([]uint64, 0, len(cgroups))
	for id := range cgroups {
		ids = append(ids, id)
	}

	slices.SortFunc(ids, func(a, b uint64) int { return strings.Compare(cgroups[a], cgroups[b]) })
	index := map[string]int{}

	for _, id := range ids {
		p := cgroups[id]

		f := found{id: id, parent: -1, name: p}
		if p != "/" {
			f.parent, f.name = index[path.Dir(p)], path.Base(p)
		}
		index[p] = len(s.found)
		s.found = append(s.found, f)
	}
	s.complete = true
}

func TestEventsOutrankAScan(t *testing.T) {
	tree := NewTree(TreeOptions{})
	tree.Observe(change("mkdir", 20, "/lost")) // its removal is not seen
	s := tree.NewScan("", 4)
	walkInto(s, map[uint64]string{1: "/", 2: "/a", 3: "/a/b", 4: "/a/b/c", 5: "/gone", 6: "/gone/too"})
	tree.Observe(change("rmdir", 6, "/gone/too"))
	tree.Observe(change("rename", 2, "/z"))
	tree.Observe(change("mkdir", 7, "/a"))
	tree.Observe(change("mkdir", 8, "/new"))
	tree.Observe(cut("mkdir", 3, "/z/"))

	if tree.Merge(s) {
		t.Error("got a complete merge after a renaming, want another scan")
	}

	tree.Observe(change("rmdir", 5, "/gone"))
	tree.Observe(change("mkdir", 4, "/a/b/c")) // read late

	for id, want := range map[uint64]string{1: "/", 2: "/z", 3: "/z/b", 4: "/z/b/c", 5: "/gone", 6: "/gone/too", 7: "/a", 8: "/new", 20: "/lost"} {
		wantPath(t, tree, id, want)
	}

	if s, want := stats(tree), (treeStats{live: 6, removed: 3}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestAScanOfAPartRemovesNothing(t *testing.T) {
	tree := NewTree(TreeOptions{})
	tree.Observe(change("mkdir", 1, "/elsewhere"))
	s := tree.NewScan("", 4)
	s.found = []found{{id: 5, parent: -1, name: "/docker/x"}, {id: 6, parent: 0, name: "y"}}
	s.complete = true
	tree.Merge(s)
	wantPath(t, tree, 6, "/docker/x/y")

	if n := stats(tree).removed; n != 0 {
		t.Errorf("got %d removed, want 0", n)
	}
}

func TestAScanIsRepeatedAfterForgetting(t *testing.T) {
	tree := NewTree(TreeOptions{Remember: 2})
	s := tree.NewScan("", 4)
	walkInto(s, map[uint64]string{1: "/", 2: "/a", 3: "/b", 4: "/c"})

	for id, p := range map[uint64]string{2: "/a", 3: "/b", 4: "/c"} {
		tree.Observe(change("rmdir", id, p))
	}

	if tree.Merge(s) {
		t.Error("got a complete merge after cgroups were forgotten, want another scan")
	}
	s = tree.NewScan("", 4)
	walkInto(s, map[uint64]string{1: "/"})

	if !tree.Merge(s) || stats(tree).live != 1 {
		t.Errorf("got %+v after the second scan, want one live cgroup", stats(tree))
	}
	empty := tree.NewScan("", 4)
	tree.Merge(empty) // never run
}

// TestScansAndEventsConverge interleaves a scan with creations, removals and renamings,
// delivers the events late, and compares the tree with a model of the hierarchy.
func TestScansAndEventsConverge(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		truth := newModel()
		var queue []kernel.CgroupChange

		for range 12 {
			truth.act(r) // before the hook is attached: not seen
		}
		tree := NewTree(TreeOptions{})
		s := tree.NewScan("", 4)
		s.complete = true
		// The walk: directories opened by id, their entries listed when reached.
		type open struct {
			id     uint64
			parent int
			name   string
		}
		stack := []open{{1, -1, "/"}}

		merged := false
		for len(stack) > 0 || !merged || len(queue) > 0 {
			switch r.IntN(4) {
			case 0:
				if !merged {
					queue = append(queue, truth.act(r)...)
				}
			case 1:
				if len(queue) > 0 {
					tree.Observe(queue[0])
					queue = queue[1:]
				}
			default:
				if len(stack) == 0 {
					if !merged {
						if merged = tree.Merge(s); !merged {
							s = tree.NewScan("", 4)
							s.complete = true
							stack = []open{{1, -1, "/"}}
						}
					}

					continue
				}
				top := stack[len(stack)-1]
				stack = stack[:len(stack)-1]

				if !truth.exists(top.id) {
					continue
				}
				index := len(s.found)

				s.found = append(s.found, found{top.id, top.parent, top.name})
				for _, id := range truth.children(top.id) {
					stack = append(stack, open{id, index, truth.nodes[id].name})
				}
			}
		}

		for id := range truth.nodes {
			if got, _ := tree.Path(key(id)); got != truth.path(id) {
				t.Fatalf("seed %d: cgroup %d: got path %q, want %q", seed, id, got, truth.path(id))
			}
		}

		if n := stats(tree).live; n != len(truth.nodes) {
			t.Fatalf("seed %d: got %d live cgroups, want %d", seed, n, len(truth.nodes))
		}
	}
}

type modelNode struct {
	parent uint64
	name   string
}

// model is a hierarchy in the kernel.
type model struct {
	nodes map[uint64]modelNode
	last  uint64
}

func newModel() *model { return &model{nodes: map[uint64]modelNode{1: {}}, last: 1} }

func (m *model) exists(id uint64) bool { _, ok := m.nodes[id]; return ok }

func (m *model) path(id uint64) string {
	if id == 1 {
		return "/"
	}
	n := m.nodes[id]

	return path.Join(m.path(n.parent), n.name)
}

func (m *model) children(of uint64) []uint64 {
	var ids []uint64

	for id, n := range m.nodes {
		if n.parent == of {
			ids = append(ids, id)
		}
	}

	slices.Sort(ids)

	return ids
}

func (m *model) act(r *rand.Rand) []kernel.CgroupChange {
	ids := make([]uint64, 0, len(m.nodes))
	for id := range m.nodes {
		ids = append(ids, id)
	}

	slices.Sort(ids)
	id := ids[r.IntN(len(ids))]
	name := fmt.Sprint("n", r.IntN(4))
	taken := func(parent uint64) bool {
		for _, c := range m.children(parent) {
			if m.nodes[c].name == name {
				return true
			}
		}

		return false
	}

	switch op := r.IntN(5); {
	case op <= 2:
		if taken(id) {
			return nil
		}

		m.last++
		m.nodes[m.last] = modelNode{id, name}

		return []kernel.CgroupChange{change("mkdir", m.last, m.path(m.last))}
	case id == 1:
		return nil
	case op == 3:
		if len(m.children(id)) > 0 {
			return nil
		}
		c := change("rmdir", id, m.path(id))
		delete(m.nodes, id)

		return []kernel.CgroupChange{c}
	default:
		if taken(m.nodes[id].parent) {
			return nil
		}
		m.nodes[id] = modelNode{m.nodes[id].parent, name}

		return []kernel.CgroupChange{change("rename", id, m.path(id))}
	}
}

func TestMemoryOfTheTreeIsBounded(t *testing.T) {
	testenv.Slow(t, "takes seconds")

	const million = 1_000_000
	tree := NewTree(TreeOptions{})
	base := "/kubepods/burstable/pod" + uid + "/"
	cycle := func(from, to uint64) {
		for id := from; id < to; id++ {
			p := base + fmt.Sprintf("%064x", id)
			tree.Observe(change("mkdir", id, p))
			tree.Place(key(id))
			tree.Observe(change("rmdir", id, p))
		}
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)

		return m.HeapAlloc
	}

	cycle(1, 2*DefaultRemembered)
	before := heap()

	cycle(2*DefaultRemembered, million+1)

	after := heap()
	if after > before+before/4 {
		t.Errorf("got %d bytes in use, want at most a quarter more than %d", after, before)
	}

	want := treeStats{removed: DefaultRemembered, forgotten: million - DefaultRemembered}
	if s := stats(tree); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}

	for id := uint64(million - DefaultRemembered + 1); id <= million; id++ {
		if place, _, ok := tree.Place(key(id)); !ok || place.Workload.PodUID != uid {
			t.Fatalf("cgroup %d: got %+v, %v, want it remembered", id, place, ok)
		}
	}

	if _, ok := tree.Path(key(million - DefaultRemembered)); ok {
		t.Errorf("got more than %d removed cgroups, want the oldest forgotten", DefaultRemembered)
	}

	t.Logf("%d removed cgroups: %d KiB", DefaultRemembered, after>>10)
}

func TestPlaceDoesNotAllocate(t *testing.T) {
	tree := NewTree(TreeOptions{})
	tree.Observe(change("mkdir", 1, "/docker/"+idA))
	tree.Place(key(1))

	if n := testing.AllocsPerRun(100, func() { tree.Place(key(1)) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func BenchmarkPlace(b *testing.B) {
	tree := NewTree(TreeOptions{})
	for id := range uint64(10000) {
		tree.Observe(change("mkdir", id, fmt.Sprintf("/kubepods/pod%s/%064x", uid, id)))
	}

	b.ReportAllocs()

	var id uint64
	for b.Loop() {
		tree.Place(key(id % 10000))
		id++
	}
}

// treeStats counts what a Tree holds: cgroups that are known to exist, removed ones that
// are remembered, and removed ones that were forgotten.
type treeStats struct {
	live, removed int
	forgotten     uint64
}

func stats(t *Tree) treeStats {
	return treeStats{live: len(t.cgroup) - len(t.removed), removed: len(t.removed), forgotten: t.forgotten}
}
