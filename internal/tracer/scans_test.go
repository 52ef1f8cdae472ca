// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// scanned is a tracer of a directory that stands for a mount of cgroups.
type scanned struct {
	*Tracer
	t     *testing.T
	out   *lines
	mount string
	clock time.Time
}

func newScanned(t *testing.T) *scanned {
	out, mount := &lines{}, t.TempDir()
	layout := host.Layout{MemoryMount: mount, MountRoot: "/"}
	tree := resolve.NewNamedTree(resolve.NewTree(resolve.TreeOptions{}), nil)
	s := &scanned{t: t, out: out, mount: mount, clock: time.Unix(1000, 0)}

	s.Tracer = &Tracer{
		opts: Options{Sink: out}, layout: layout, clock: host.NewBootClock(), tree: tree, stalls: &stallHistory{enabled: true},
		scans: newScans(tree, layout, func(text string) { t.Error(text) }), workCtx: t.Context(),
	}
	s.scans.now = func() time.Time { return s.clock }
	s.correlator = incident.New(incident.Config{Cgroups: tree, Tier: events.TierFentry}, correlated{s.Tracer})

	s.rescan()
	s.awaited()

	return s
}

func (s *scanned) rescan() {
	s.t.Helper()

	if err := s.Tracer.rescan(1); err != nil {
		s.t.Fatal(err)
	}
}

// awaited merges the scan that runs.
func (s *scanned) awaited() {
	s.t.Helper()

	s.scans.done <- <-s.scans.done

	s.rescan()
}

func (s *scanned) mkdir(name string) events.CgroupKey {
	s.t.Helper()

	dir := filepath.Join(s.mount, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}

	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		s.t.Fatal(err)
	}

	return events.CgroupKey{ID: st.Ino}
}

func (s *scanned) lost(r kernel.RecordsLost) {
	s.t.Helper()

	if err := s.Record(r); err != nil {
		s.t.Fatal(err)
	}

	s.rescan()
}

// When changes of cgroups were lost or throttled, the paths are right again after a scan: of
// what was made, renamed and removed meanwhile.
func TestLostCgroupChangesAreMadeUpFor(t *testing.T) {
	for name, r := range map[string]kernel.RecordsLost{
		"lost":      {What: "cgroup", Count: 1, CgroupChanges: true},
		"throttled": {What: "throttled cgroup", Count: 1, CgroupChanges: true, Throttled: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScanned(t)

			stays, goes := s.mkdir("stays"), s.mkdir("goes")
			s.tree.Learn(stays, "/stays")
			s.tree.Learn(goes, "/goes")

			made := s.mkdir("made")

			if err := os.Rename(filepath.Join(s.mount, "stays"), filepath.Join(s.mount, "renamed")); err != nil {
				t.Fatal(err)
			}

			if err := os.Remove(filepath.Join(s.mount, "goes")); err != nil {
				t.Fatal(err)
			}

			s.clock = s.clock.Add(rescanAfter)
			s.lost(r)
			s.awaited()

			for key, want := range map[events.CgroupKey]string{stays: "/renamed", goes: "/goes", made: "/made"} {
				if path, _ := s.tree.Path(key); path != want {
					t.Errorf("got path %q after a scan, want %q", path, want)
				}
			}

			// What is kept of a cgroup goes with it.
			if got := s.stalls.gone; len(got) != 1 || got[0].key != goes {
				t.Errorf("got removals of %v, want of %v", got, goes)
			}
		})
	}
}

func TestScansAreRare(t *testing.T) {
	s := newScanned(t)
	lost := kernel.RecordsLost{What: "cgroup", Count: 1, CgroupChanges: true}
	runs := func() bool { return s.scans.notBefore.Sub(s.clock) > time.Hour }

	s.lost(lost)

	if runs() {
		t.Errorf("got a scan right after the first, want none within %s", rescanAfter)
	}

	s.clock = s.clock.Add(rescanAfter)
	s.rescan()

	if !runs() {
		t.Fatalf("got no scan after %s, want one", rescanAfter)
	}

	s.lost(lost) // while it runs
	s.clock = s.clock.Add(5 * time.Second)
	s.awaited()
	s.clock = s.clock.Add(rescanShare*5*time.Second - 1)
	s.rescan()

	if runs() {
		t.Errorf("got a scan too soon after one of 5 s, want none within %s", rescanShare*5*time.Second)
	}

	s.clock = s.clock.Add(1)
	s.rescan()

	if !runs() {
		t.Error("got no scan for what was lost while one ran, want one")
	}

	s.awaited()
	s.clock = s.clock.Add(time.Hour)
	s.lost(kernel.RecordsLost{What: "stall", Count: 1})

	if runs() {
		t.Error("got a scan for lost stalls, want none")
	}
}

func TestThrottledRecordsNameTheirCgroup(t *testing.T) {
	s := newScanned(t)
	user := events.CgroupKey{ID: 7}
	s.tree.Learn(user, "/user.slice")
	s.lost(kernel.RecordsLost{What: "throttled user_kill", Count: 5, Throttled: true, Tenant: user})

	got := s.out.lines[len(s.out.lines)-1].(*events.Lost)
	if got.What != "throttled user_kill" || got.Count != 5 || got.Cgroup == nil || got.Cgroup.Path != "/user.slice" {
		t.Errorf("got %+v, want 5 throttled user_kill of /user.slice", got)
	}
}
