// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// node is a fake one: files of /proc and of a cgroup hierarchy.
type node struct {
	t       testing.TB
	root    string
	version int
	at      time.Time
}

func newNode(t *testing.T, version int) *node {
	t.Helper()

	n := &node{t: t, root: t.TempDir(), version: version, at: time.Unix(1000, 0)}
	n.write("proc/meminfo", "MemTotal:       1024 kB\nMemAvailable:    512 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
	n.write("proc/pressure/memory", "some avg10=12.50 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")

	return n
}

func (n *node) write(name, text string) {
	n.t.Helper()

	file := filepath.Join(n.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		n.t.Fatal(err)
	}

	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// cgroup makes a cgroup, or changes it.
func (n *node) cgroup(path string, used uint64, limit string) {
	names := fileNames{"memory.current", "memory.max"}
	if n.version == 1 {
		names = fileNames{"memory.usage_in_bytes", "memory.limit_in_bytes"}
	}

	n.write(filepath.Join("cg", path, names.usage), strconv.FormatUint(used, 10)+"\n")
	n.write(filepath.Join("cg", path, names.limit), limit+"\n")
}

func (n *node) remove(path string) {
	n.t.Helper()

	if err := os.RemoveAll(filepath.Join(n.root, "cg", path)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) sampler(opts Options) *Sampler {
	opts.Root = n.root
	opts.Layout = host.Layout{MemoryVersion: n.version, MemoryMount: filepath.Join(n.root, "cg"), MountRoot: "/"}

	s := New(opts)
	n.t.Cleanup(s.Close)

	return s
}

// snapshot takes one a second after the last, of the cgroups by path.
func (n *node) snapshot(s *Sampler, shown ...uint64) (*Snapshot, map[string]Cgroup) {
	n.at = n.at.Add(time.Second)

	snap := s.Snapshot(n.at, shown)
	byPath := map[string]Cgroup{}

	for i, c := range snap.Cgroups {
		if c.Parent >= i {
			n.t.Errorf("%s stands before its parent", c.Path)
		}
		byPath[c.Path] = c
	}

	return snap, byPath
}

const mib = 1 << 20

func TestHeadroomIsThatOfTheNearestLimit(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("pod", 90*mib, strconv.Itoa(100*mib))
	n.cgroup("pod/a", 60*mib, strconv.Itoa(200*mib))
	n.cgroup("pod/b", 30*mib, strconv.Itoa(32*mib))
	n.cgroup("free", mib, "max")

	snap, got := n.snapshot(n.sampler(Options{}))

	for path, want := range map[string]struct {
		limiter string
		room    uint64
	}{
		"/pod": {"/pod", 10 * mib}, "/pod/a": {"/pod", 10 * mib}, "/pod/b": {"/pod/b", 2 * mib}, "/free": {"", 0},
	} {
		limiter := ""
		if i := got[path].Limiter; i >= 0 {
			limiter = snap.Cgroups[i].Path
		}

		if limiter != want.limiter || got[path].HeadroomBytes != want.room {
			t.Errorf("%s: got %d bytes below the limit of %q, want %d of %q",
				path, got[path].HeadroomBytes, limiter, want.room, want.limiter)
		}
	}

	if got["/free"].LimitBytes != Known[uint64](NoLimit) {
		t.Errorf("got limit %v of a cgroup without, want NoLimit", got["/free"].LimitBytes)
	}

	if snap.Read != 4 || snap.Node.TotalBytes != Known[uint64](mib) || snap.Node.PSISome != Known(0.125) {
		t.Errorf("got %d cgroups read and node %+v, want 4, 1 MiB and 12.5 percent", snap.Read, snap.Node)
	}
}

func TestGrowthIsOverTenSeconds(t *testing.T) {
	n := newNode(t, 1)
	s := n.sampler(Options{})
	n.cgroup("a", 0, "100000")

	_, got := n.snapshot(s)
	if got["/a"].Growth.Known || got["/a"].ToLimit.Known {
		t.Errorf("got growth %v of a single reading, want it unknown", got["/a"].Growth)
	}

	for i := range 30 {
		n.cgroup("a", uint64(1000*i), "100000")
		_, got = n.snapshot(s)
	}

	if got["/a"].Growth != Known(1000.0) || got["/a"].ToLimit != Known(71*time.Second) {
		t.Errorf("got growth %v and %v to the limit, want 1000 bytes per second and 71 s for 71000", got["/a"].Growth, got["/a"].ToLimit)
	}

	if got["/a"].High.Known {
		t.Error("got a share of memory.high on cgroup v1, which has none")
	}

	for range limitTicks + 1 {
		n.cgroup("a", 29000, "9223372036854771712")
		_, got = n.snapshot(s)
	}

	if got["/a"].Growth != Known(0.0) || got["/a"].ToLimit.Known || got["/a"].LimitBytes.V != NoLimit {
		t.Errorf("got growth %v, limit %v: want none after ten seconds, and the limit read again", got["/a"].Growth, got["/a"].LimitBytes)
	}
}

func TestCgroupsComeAndGo(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("a", 1, "max")
	n.cgroup("a/b", 1, "max")
	s := n.sampler(Options{})
	n.snapshot(s)

	n.cgroup("a/new/below", 1, "max")
	n.cgroup("c", 1, "max")

	_, got := n.snapshot(s)
	for _, path := range []string{"/a", "/a/new", "/a/new/below", "/c"} {
		if _, ok := got[path]; !ok {
			t.Errorf("got no %s, want it one interval after it was made", path)
		}
	}

	// The number of children stays the same. In a kernel the next reading of b fails; here, only
	// the next look at its directory does.
	n.remove("a/b")
	n.cgroup("a/instead", 1, "max")

	for range leafTurns + 1 {
		_, got = n.snapshot(s)
	}

	if _, ok := got["/a/b"]; ok {
		t.Error("got /a/b, which was removed")
	}

	if _, ok := got["/a/instead"]; !ok {
		t.Error("got no /a/instead, which came when /a/b went")
	}

	n.cgroup("c/first", 1, "max") // the first child of a new cgroup

	if _, got = n.snapshot(s); got["/c/first"].ID == 0 {
		t.Error("got no /c/first, want it one interval after it was made")
	}

	n.cgroup("a/instead/first", 1, "max") // of an older one

	for range youngTicks + leafTurns {
		_, got = n.snapshot(s)
	}

	if got["/a/instead/first"].ID == 0 {
		t.Errorf("got no /a/instead/first, want it after %d intervals", leafTurns)
	}

	n.remove("a")

	if _, got = n.snapshot(s); len(got) != 2 || s.open != 2 {
		t.Errorf("got %d cgroups and %d open files, want /c and /c/first alone", len(got), s.open)
	}
}

// A container that is started again is often the only child of its parent.
func TestAnOnlyChildThatIsMadeAgainIsFoundAtOnce(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("pod/a", 1, "max")
	s := n.sampler(Options{})

	for range youngTicks + 1 {
		n.snapshot(s)
	}

	n.remove("pod/a")

	for range leafTurns + 1 { // in a kernel, the next reading finds it removed
		_, got := n.snapshot(s)
		if _, ok := got["/pod/a"]; !ok {
			break
		}
	}

	n.cgroup("pod/b", 1, "max")

	if _, got := n.snapshot(s); got["/pod/b"].ID == 0 {
		t.Error("got no /pod/b, want it one interval after it was made")
	}
}

// Where the memory controller is disabled, nothing of the time before is shown.
func TestWhatIsNoLongerReadIsForgotten(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("a", 1*mib, strconv.Itoa(8*mib))
	s := n.sampler(Options{})

	n.snapshot(s)
	n.cgroup("a", 2*mib, strconv.Itoa(8*mib))
	n.snapshot(s)

	for _, name := range []string{"memory.current", "memory.max"} {
		if err := os.Remove(filepath.Join(n.root, "cg/a", name)); err != nil {
			t.Fatal(err)
		}
	}

	c := s.all[0]
	c.current.close() // a kernel's file that is gone cannot be read any more

	s.open--

	if _, got := n.snapshot(s); got["/a"].ID == 0 || got["/a"].Growth.Known || got["/a"].LimitBytes.Known {
		t.Errorf("got %+v, want it there without values", got["/a"])
	}

	n.cgroup("a", 3*mib, strconv.Itoa(4*mib))

	if _, got := n.snapshot(s); got["/a"].HeadroomBytes != 1*mib {
		t.Errorf("got %+v, want its limit as soon as it is back", got["/a"])
	}
}

func TestWhatCannotBeReadIsNotZero(t *testing.T) {
	n := newNode(t, 2)
	n.write("cg/domain/cgroup.procs", "") // without the memory controller

	_, got := n.snapshot(n.sampler(Options{}))
	if c, ok := got["/domain"]; !ok || c.UsedBytes.Known || c.LimitBytes.Known || c.Stalled.Known {
		t.Errorf("got %+v, want it there without values", c)
	}
}

func TestBudgetLeavesCgroupsFarFromALimitForLater(t *testing.T) {
	n := newNode(t, 2)
	for i := range 200 {
		n.cgroup("far"+strconv.Itoa(i), 1, "max")
	}

	n.cgroup("near", 95, "100")
	n.cgroup("shown", 1, "max")

	var cpu time.Duration
	s := n.sampler(Options{Budget: 2 * time.Millisecond, CPU: func() time.Duration {
		cpu += time.Millisecond
		return cpu
	}})

	snap, got := n.snapshot(s)
	if snap.Read != len(snap.Cgroups) {
		t.Errorf("got %d of %d cgroups read at first, want all", snap.Read, len(snap.Cgroups))
	}
	shown := got["/shown"].ID

	n.cgroup("near", 96, "100")
	n.cgroup("shown", 2, "max")

	if snap, got = n.snapshot(s, shown); snap.Read == 0 || snap.Read >= len(snap.Cgroups) {
		t.Errorf("got %d of %d cgroups read, want some", snap.Read, len(snap.Cgroups))
	}

	if got["/near"].UsedBytes.V != 96 || got["/shown"].UsedBytes.V != 2 {
		t.Errorf("got %d and %d bytes, want the new ones of what is near a limit or shown",
			got["/near"].UsedBytes.V, got["/shown"].UsedBytes.V)
	}

	for i := range 200 {
		n.cgroup("far"+strconv.Itoa(i), 7, "max")
	}

	for range 10 {
		_, got = n.snapshot(s, shown)
	}

	for i := range 200 {
		if c := got["/far"+strconv.Itoa(i)]; c.UsedBytes.V != 7 {
			t.Fatalf("%s: got %d bytes, want 7: each has its turn", c.Path, c.UsedBytes.V)
		}
	}
}

func TestDetailsAreReadOfWhatIsShown(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("a", 1, "max")
	n.cgroup("b", 1, "max")
	s := n.sampler(Options{})
	_, got := n.snapshot(s)
	a := got["/a"].ID

	for i := range 5 {
		for _, name := range []string{"a", "b"} {
			n.write("cg/"+name+"/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total="+strconv.Itoa(250_000*i)+"\n")
			n.write("cg/"+name+"/memory.stat", "anon 5\nworkingset_refault_anon "+strconv.Itoa(10*i)+"\nworkingset_refault_file "+strconv.Itoa(20*i)+"\n")
		}
		_, got = n.snapshot(s, a)
	}

	if got["/a"].PSISome != Known(0.25) || got["/a"].Refaults != Known(30.0) {
		t.Errorf("got PSI %v and %v refaults per second, want 0.25 and 30", got["/a"].PSISome, got["/a"].Refaults)
	}

	if got["/b"].PSISome.Known || got["/b"].Refaults.Known {
		t.Error("got details of a cgroup that nobody looks at")
	}

	if _, got = n.snapshot(s); got["/a"].PSISome.Known || s.byID[a].detail != nil {
		t.Error("got details of a cgroup that nobody looks at any more")
	}
}

func TestStallsCountForAncestors(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("a/b", 1, "max")
	n.cgroup("c", 1, "max")
	s := n.sampler(Options{})
	_, got := n.snapshot(s)

	if got["/a"].Stalled.Known {
		t.Error("got a share of stalls though none are traced")
	}

	s.Traced(true)

	counts := map[kernel.StallKey]kernel.StallCount{}
	count := func(kind events.StallKind, of string, ms uint64) {
		k := kernel.StallKey{Cgroup: events.CgroupKey{ID: got[of].ID}, What: kind}
		c := counts[k]
		c.Count, c.TotalNS = c.Count+1, c.TotalNS+ms*1e6
		counts[k] = c
	}

	for range stallTicks {
		count(events.StallMemcgReclaim, "/a/b", 300)
		count(events.StallMemoryHigh, "/a/b", 500)
		count(events.StallThrottle, "/a/b", 100) // part of reclaim
		count(events.StallDirectReclaim, "/a", 250)
		count(events.StallAfterKill, "/c", 700)

		snapshot := map[kernel.StallKey]kernel.StallCount{}
		for k, c := range counts {
			snapshot[k] = c
		}

		s.Stalls(kernel.StallCounts{Counts: snapshot})
		_, got = n.snapshot(s)
	}

	for path, want := range map[string][2]float64{"/a": {0.75, 0.5}, "/a/b": {0.5, 0.5}, "/c": {0, 0}} {
		if c := got[path]; c.Stalled != Known(want[0]) || c.High != Known(want[1]) {
			t.Errorf("%s: got shares %v and %v of memory.high, want %v", path, c.Stalled, c.High, want)
		}
	}

	for range stallTicks {
		_, got = n.snapshot(s)
	}

	if got["/a"].Stalled != Known(0.0) {
		t.Errorf("got %v, want no stalls once the window is over", got["/a"].Stalled)
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	n := newNode(t, 2)
	n.cgroup("a", 12345, "max")

	var f file
	defer f.close()

	buf := make([]byte, 4096)
	dir := filepath.Join(n.root, "cg/a")

	if _, err := f.read(dir, "memory.current", buf, true); err != nil {
		t.Fatal(err)
	}

	allocs := testing.AllocsPerRun(100, func() {
		if text, err := f.read(dir, "memory.current", buf, true); err != nil || digits(text) != Known[uint64](12345) {
			t.Errorf("got %q and error %v, want 12345", text, err)
		}
	})
	if allocs > 0 {
		t.Errorf("got %v allocations for a reading, want none", allocs)
	}
}

func TestNumbersThatDoNotParseAreNotKnown(t *testing.T) {
	for text, want := range map[string]Value[uint64]{
		"": {}, "-1": {}, "x": {}, "18446744073709551616": {}, "7\n": Known[uint64](7),
		"max\n": Known[uint64](NoLimit), "9223372036854771712\n": Known[uint64](NoLimit),
	} {
		if got := number([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}

	if got := pressureTotal([]byte("full total=3\n")); got.Known {
		t.Errorf("got %v from a line of another kind, want nothing", got)
	}
}

// BenchmarkSnapshot is a second of a node with a thousand cgroups, twenty of them on the
// screen. Files of a disk stand for those of the kernel, which cost more.
func BenchmarkSnapshot(b *testing.B) {
	n := &node{t: b, root: b.TempDir(), version: 2, at: time.Unix(1000, 0)}
	n.write("proc/meminfo", "MemTotal: 1024 kB\nMemAvailable: 512 kB\n")

	var shown []uint64

	for i := range 1000 {
		n.cgroup("slice/"+strconv.Itoa(i), uint64(i), "max")
	}
	s := n.sampler(Options{Budget: time.Hour})

	for i, c := range s.Snapshot(n.at, nil).Cgroups {
		if i < 20 {
			shown = append(shown, c.ID)
		}
	}

	b.ReportAllocs()

	for b.Loop() {
		n.at = n.at.Add(time.Second)

		if got := s.Snapshot(n.at, shown); got.Read != 1001 {
			b.Fatalf("got %d cgroups read, want all", got.Read)
		}
	}
}
