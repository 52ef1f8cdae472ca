// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// A task that reclaims for a limit above its own cgroup is counted with the cgroup of that
// limit, on tracepoints alone.
func TestStallsNameTheOwnerOfTheLimit(t *testing.T) {
	testenv.Root(t)

	parent, child := nested(t, "oomtrace-owner", 8<<20)

	p, err := Open(Options{MemoryHierarchy: parent.key.Hierarchy, PageSize: uint64(os.Getpagesize()), Stalls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	// Page cache of a file of 64 MiB, all of it a hole.
	file := filepath.Join(t.TempDir(), "hole")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}

	script := fmt.Sprintf("echo $$ > %s/cgroup.procs && exec cat %s", child.dir, file)
	if out, err := exec.Command("/bin/sh", "-c", script).Output(); err != nil || len(out) != 64<<20 {
		t.Fatalf("got %d bytes, error %v, want the whole file", len(out), err)
	}

	ctx, stop := context.WithCancel(context.Background())
	stop() // Run reads what is there

	c := &counter{lostOther: map[string]uint64{}, marked: map[uint32]bool{}, killed: map[uint32]bool{}, hierarchies: map[uint32]bool{}}
	if err := p.Run(ctx, c); err != nil {
		t.Fatal(err)
	}

	owners := make(map[events.CgroupKey]uint64)

	for key, sum := range c.counted {
		if key.Cgroup == child.key && key.What == events.StallMemcgReclaim {
			owners[key.Owner] += sum.Count
		}
	}

	if len(owners) != 1 || owners[parent.key] == 0 {
		t.Errorf("got reclaims by owner of the limit %v, want all for %v", owners, parent.key)
	}

	if counts := (kernel.StallKey{Cgroup: child.key, What: events.StallMemcgReclaim}); c.counted[counts].Count != 0 {
		t.Errorf("got %d reclaims without an owner, want none", c.counted[counts].Count)
	}
}

type cgroup struct {
	dir string
	key events.CgroupKey
}

// nested makes a cgroup with a limit, and one without below it.
func nested(t testing.TB, name string, limitBytes int64) (parent, child cgroup) {
	t.Helper()

	layout, err := host.Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	scratch, err := host.NewScratch(fmt.Sprintf("%s-%d", name, os.Getpid()), limitBytes)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := scratch.Close(); err != nil {
			t.Error(err)
		}
	})

	parent.dir = filepath.Join(layout.MemoryMount, strings.TrimPrefix(scratch.Path(), layout.MountRoot))
	child.dir = filepath.Join(parent.dir, "child")

	if err := os.Mkdir(child.dir, 0o755); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := os.Remove(child.dir); err != nil {
			t.Error(err)
		}
	})

	for _, c := range []*cgroup{&parent, &child} {
		var stat syscall.Stat_t
		if err := syscall.Stat(c.dir, &stat); err != nil {
			t.Fatal(err)
		}

		c.key = events.CgroupKey{Hierarchy: layout.HierarchyID, ID: stat.Ino}
	}

	return parent, child
}

// The programs pair begin and end by task storage where tracing programs can use it: the
// kernels of this machine and of CI have it.
func TestTaskStorageIsUsed(t *testing.T) {
	testenv.Root(t)

	l, err := newLoader(Options{Stalls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()

	if got := l.maps["stall_storage"].Type(); got != ebpf.TaskStorage {
		t.Errorf("got %s for the state of stalls, want %s", got, ebpf.TaskStorage)
	}

	if got := l.maps["stall_hash"].MaxEntries(); got != 1 {
		t.Errorf("got room for %d entries in the map that stands in for task storage, want 1", got)
	}
}
