// SPDX-License-Identifier: Apache-2.0

package resolve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestScansOfAllModesAndDrivers scans directories as the cgroup modes and drivers make
// them.
func TestScansOfAllModesAndDrivers(t *testing.T) {
	cgroupfs := []string{"/kubepods/burstable/pod<uid>/<A>", "/kubepods/pod<static>/<B>", "/docker/<C>"}

	systemd := []string{
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/cri-containerd-<A>.scope",
		"/system.slice/sshd.service", "/user.slice/user-1000.slice/user@1000.service/init.scope",
	}
	for _, c := range []struct {
		name  string
		mount map[string]uint32 // below /sys/fs/cgroup: its hierarchy
		paths []string
	}{
		{"v1 cgroupfs", map[string]uint32{"memory": 4}, cgroupfs},
		{"v1 systemd", map[string]uint32{"memory": 9}, systemd},
		{"v2 cgroupfs", map[string]uint32{"": 0}, cgroupfs},
		{"v2 systemd", map[string]uint32{"": 0}, systemd},
		{"hybrid cgroupfs", map[string]uint32{"memory": 4, "unified": 0}, cgroupfs},
		{"hybrid systemd", map[string]uint32{"memory": 4, "unified": 0}, systemd},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			tree := NewTree(TreeOptions{})
			want := map[events.CgroupKey]string{}

			for mount, hierarchy := range c.mount {
				top := filepath.Join(root, mount)

				for _, p := range c.paths {
					p = expand.Replace(p)
					if err := os.MkdirAll(filepath.Join(top, p), 0o755); err != nil {
						t.Fatal(err)
					}

					for p != "/" {
						want[events.CgroupKey{Hierarchy: hierarchy, ID: inode(t, filepath.Join(top, p))}] = p
						p = filepath.Dir(p)
					}
				}

				want[events.CgroupKey{Hierarchy: hierarchy, ID: inode(t, top)}] = "/"
				if err := os.WriteFile(filepath.Join(top, "cgroup.procs"), nil, 0o644); err != nil {
					t.Fatal(err)
				}

				s := tree.NewScan(top, hierarchy)
				if err := s.Run(t.Context()); err != nil {
					t.Fatal(err)
				}

				if !tree.Merge(s) {
					t.Error("got an incomplete merge, want a complete one")
				}
			}

			if n := stats(tree).live; n != len(want) {
				t.Errorf("got %d cgroups, want %d", n, len(want))
			}

			for k, p := range want {
				place, got, ok := tree.Place(k)
				if !ok || got != p || place.Level != ParsePath(p).Level {
					t.Errorf("%+v: got %q, %v, want %q", k, got, ok, p)
				}
			}
		})
	}
}

func inode(t *testing.T, dir string) uint64 {
	t.Helper()

	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}

	return st.Ino
}

func TestAScanOfAPartHasItsBase(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "init.scope"), 0o755); err != nil {
		t.Fatal(err)
	}
	tree := NewTree(TreeOptions{})
	s := tree.NewScan(dir, 4)

	s.Base = "/docker/" + idA
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}

	tree.Merge(s)
	wantPath(t, tree, inode(t, dir), s.Base)
	wantPath(t, tree, inode(t, filepath.Join(dir, "init.scope")), s.Base+"/init.scope")
}

func TestIncompleteScansReportErrors(t *testing.T) {
	tree := NewTree(TreeOptions{})

	s := tree.NewScan(filepath.Join(t.TempDir(), "nowhere"), 4)
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "scan cgroups") {
		t.Errorf("got %v without a mount, want an error of the scan", err)
	}

	if !tree.Merge(s) || stats(tree) != (treeStats{}) {
		t.Errorf("got %+v from an empty scan, want nothing", stats(tree))
	}

	dir := t.TempDir()

	deep := dir + strings.Repeat("/d", maxDepth+2)
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}

	tree.Observe(change("mkdir", 1<<40, "/far/below"))

	s = tree.NewScan(dir, 4)
	if err := s.Run(t.Context()); err == nil || len(s.found) != maxDepth+1 {
		t.Errorf("got %d cgroups, %v, want %d and an error", len(s.found), err, maxDepth+1)
	}

	tree.Merge(s)

	if n := stats(tree).removed; n != 0 {
		t.Errorf("got %d removed by an incomplete scan, want 0", n)
	}
}

// TestAScanEnduresChanges scans a real hierarchy while cgroups are made and removed.
func TestAScanEnduresChanges(t *testing.T) {
	top := ownCgroup(t)

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)

		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			d := filepath.Join(top, fmt.Sprint("churn", i%7))
			os.Mkdir(d, 0o755)
			os.Mkdir(d+"/sub", 0o755)
			os.Remove(d + "/sub")
			os.Remove(d)
		}
	}()

	defer func() { close(stop); <-stopped }()

	stay := filepath.Join(top, "stay")
	if err := os.Mkdir(stay, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(stay)
	id := inode(t, stay)

	for range 200 {
		tree := NewTree(TreeOptions{})

		s := tree.NewScan(top, 4)
		if err := s.Run(t.Context()); err != nil {
			t.Fatal(err)
		}

		tree.Merge(s)

		if got, _ := tree.Path(key(id)); got != "/stay" {
			t.Fatalf("got path %q, want that of a cgroup that was made", got)
		}
	}
}

// ownCgroup makes a cgroup below that of the test, which needs root.
func ownCgroup(t *testing.T) string {
	t.Helper()
	testenv.Root(t)

	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}

	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		var mount string

		switch f[1] {
		case "memory":
			mount = "/sys/fs/cgroup/memory"
		case "":
			mount = "/sys/fs/cgroup"
		default:
			continue
		}

		dir, err := os.MkdirTemp(filepath.Join(mount, f[2]), "oomtrace-test-")
		if err != nil {
			continue
		}

		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			os.Remove(dir)
			continue
		}

		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})

		return dir
	}

	testenv.Lacks(t, "this test needs a cgroup that can be written to")

	return ""
}

func BenchmarkScan(b *testing.B) {
	dir := "/sys/fs/cgroup"
	for b.Loop() {
		s := NewTree(TreeOptions{}).NewScan(dir, 0)
		s.Run(b.Context())
	}
}

func TestAScanEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}

	tree := NewTree(TreeOptions{})
	tree.Learn(key(7), "/known")
	s := tree.NewScan(dir, 0)
	ctx, stop := context.WithCancel(t.Context())
	stop()

	if err := s.Run(ctx); !errors.Is(err, context.Canceled) || len(s.found) > 1 {
		t.Errorf("got error %v and %d cgroups, want %v and at most the top", err, len(s.found), context.Canceled)
	}

	// What it did not find may exist.
	if tree.Merge(s); stats(tree).removed != 0 {
		t.Errorf("got %d cgroups removed by an incomplete scan, want none", stats(tree).removed)
	}
}
