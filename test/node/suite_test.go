// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/test/internal/lab"
)

var (
	installed = flag.Bool("installed", false, "test the machine's own containerd and runc, not the fetched ones")
	binary    = flag.String("oomtrace", filepath.Join(lab.Root, "bin/oomtrace"), "the oomtrace to test")
	hogBinary = flag.String("hog", "", "the program of the containers (default: it is built)")
	save      = flag.String("save", "", "directory for the lines of oomtrace")
	loop      = flag.Int("loop", 100, "how many pods the scenario loop starts")
	atATime   = flag.Int("at-a-time", 8, "how many of them at the same time")
	patience  = flag.Duration("patience", 30*time.Second, "how long anything may take; no wait is longer than needed")
)

// callLimit is how long one call to the runtime may take.
const callLimit = 60 * time.Second

// suite is one containerd with the oomtraces that watch it.
type suite struct {
	*containerd
	t       *testing.T // of the scenario
	watches []*watch
	early   *container // one from before the watches; nil if its scenario is not selected
}

// TestContainerd makes pods on real containerds, as the kubelet does, and compares what is
// reported of them. It leaves nothing behind. The subtests are runtime, driver of cgroups
// and scenario.
func TestContainerd(t *testing.T) {
	lab.Require(t)

	if os.Geteuid() != 0 {
		t.Fatal("making containers needs root")
	}

	find, drivers := fetched, []string{"cgroupfs"}
	if *installed {
		find, drivers = ofMachine, []string{"cgroupfs", "systemd"}
	}

	all, err := find()
	if err != nil {
		t.Fatal(err)
	}

	hog := *hogBinary
	if hog == "" {
		hog = filepath.Join(t.TempDir(), "hog")
		if err := lab.Build(runtime.GOARCH, "./test/node/hog", hog); err != nil {
			t.Fatal(err)
		}
	}

	var names []string
	for _, b := range all {
		names = append(names, b.name)
	}

	lab.Select(t, names...)

	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			lab.Select(t, drivers...)

			for _, driver := range drivers {
				t.Run(driver, func(t *testing.T) { testContainerd(t, b, driver, hog) })
			}
		})
	}
}

func testContainerd(t *testing.T, b binaries, driver, hog string) {
	c, err := startContainerd(lab.Context(t), b, driver, hog)
	if err != nil {
		t.Fatal(err)
	}

	lab.Logf(t, "containerd %s, cgroup v%d, driver %s", b.version, c.layout.MemoryVersion, driver)

	s := &suite{containerd: c}
	defer s.end(t)

	if slices.Contains(lab.Select(t, scenarioNames(c.layout.MemoryVersion)...), earlyScenario) {
		if _, s.early, err = s.single("early-0", "signalled", fmt.Sprint(beyond)); err != nil {
			t.Fatal(err)
		}
	}

	if err := s.startWatches(); err != nil {
		t.Fatal(err)
	}

	for _, scenario := range scenarios {
		if !scenario.runsOn(c.layout.MemoryVersion) {
			continue
		}

		done := true

		t.Run(scenario.name, func(t *testing.T) {
			s.t = t
			if err := scenario.run(s); err != nil {
				done = false

				t.Error(err)
			}
		})

		switch {
		case c.ctx.Err() != nil:
			t.Fatalf("the scenarios after %s did not run: %v", scenario.name, context.Cause(c.ctx))
		case !done:
			t.Fatalf("the scenarios after %s did not run", scenario.name)
		}
	}
}

func (s *suite) startWatches() error {
	dir := *save
	if dir != "" && !*installed {
		dir = filepath.Join(dir, s.binaries.name)
	}

	for _, by := range []struct {
		label string
		args  []string
	}{
		{byCRI, []string{"--cri-endpoint", "unix://" + s.socket()}},
		{byDisk, []string{"--host-root", s.dir}},
	} {
		w, err := startWatch(s.containerd, *binary, dir, by.label, by.args...)
		if err != nil {
			return err
		}

		s.watches = append(s.watches, w)
	}

	return nil
}

// end ends the oomtraces and the containerd, and reports what was not expected.
func (s *suite) end(t *testing.T) {
	for _, w := range s.watches {
		if err := w.process.Stop(); err != nil {
			t.Errorf("watch by %s: %v", w.label, err)
		}

		for _, late := range s.compare(w, w.news(), nil) {
			t.Errorf("watch by %s, after all scenarios: %s", w.label, late)
		}

		for _, problem := range w.problems() {
			t.Errorf("watch by %s: %s", w.label, problem)
		}

		lab.Logf(t, "%s", w.summary())
	}

	if err := s.close(); err != nil {
		t.Error(err)
	}
}
