// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// Kinds of memory that a cgroup runs out of.

var tmpfs = Case{
	Name: "tmpfs", CgroupV1: true,
	Do: func(g *Guest) {
		const file = "/tmp/tmpfs-case"

		g.later(func() { os.Remove(file) })
		g.hog(g.leaf(40), "file", "80", file)
	},
	Want:       limitHitBy("tmpfs").check,
	FirstCause: cause("tmpfs"),
}

var hugePages = Case{
	Name: "huge-pages", CgroupV1: true,
	Do: func(g *Guest) {
		must.OK("allow huge pages", os.WriteFile("/sys/kernel/mm/transparent_hugepage/enabled", []byte("madvise"), 0))
		// Old kernels keep up to 32 of them in each CPU's count.
		g.hog(g.leaf(200), "huge", "300")
	},
	Want: func(c *Check) {
		inc := c.kill(limitHitBy(""))
		if inc == nil || inc.Memory == nil || inc.Memory.AnonTHPBytes == nil {
			return
		}

		if huge := *inc.Memory.AnonTHPBytes; huge < 60<<20 || huge > 200<<20 {
			c.errorf("huge pages: got %d bytes, want 60 to 200 MiB", huge)
		}
	},
}

var pageTables = Case{
	Name:       "page-tables",
	Do:         func(g *Guest) { g.hog(g.leaf(24), "page-tables", "262144") },
	Want:       limitHitBy("").check,
	FirstCause: causeIfCounted("pagetables"),
	// A split that does not add up to the usage is left out: 6.18 counts page tables late.
	Unknown: []string{"memory"},
}

var slab = Case{
	Name:       "slab",
	Do:         func(g *Guest) { g.hog(g.leaf(40), "files", "1000000", g.mountTmpfs()) },
	Want:       limitHitBy("").check,
	FirstCause: causeIfCounted("slab_unreclaimable", "slab_reclaimable"),
}

// causeIfCounted accepts own_limit on kernels that do not count page tables by cgroup.
func causeIfCounted(ids ...string) func(*Check, *events.Incident) []string {
	return func(_ *Check, inc *events.Incident) []string {
		if inc.Memory == nil || inc.Memory.PagetablesBytes == nil {
			return append([]string{"own_limit"}, ids...)
		}

		return ids
	}
}

// dirtyCache writes far more than the disk takes: dirty pages cannot be reclaimed.
var dirtyCache = Case{
	Name: "dirty-cache",
	Do: func(g *Guest) {
		const at = "/tmp/disk"

		g.zram("256M")
		busybox("mke2fs", "-b", "4096", zramDisk)
		must.OK("make a directory", os.MkdirAll(at, 0o755))
		must.OK("mount "+zramDisk, unix.Mount(zramDisk, at, "ext4", 0, "")) // it writes back by cgroup

		g.later(func() { _ = unix.Unmount(at, 0) })

		// By default, a writer is throttled first.
		g.setFile("/proc/sys/vm/dirty_ratio", "100")
		g.setFile("/proc/sys/vm/dirty_background_ratio", "99")

		var stat unix.Stat_t
		must.OK("stat "+zramDisk, unix.Stat(zramDisk, &stat))
		number := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
		control := filepath.Join(g.mount, "cgroup.subtree_control")
		must.OK("enable the io controller", os.WriteFile(control, []byte("+io"), 0))

		g.later(func() { _ = os.WriteFile(control, []byte("-io"), 0) })

		leaf := g.leaf(40)
		leaf.set("io.max", number+" wbps=65536")

		g.later(func() { _ = os.WriteFile(filepath.Join(leaf.dir, "io.max"), []byte(number+" wbps=max"), 0) })
		g.hog(leaf, "file", "80", filepath.Join(at, "file"))
	},
	Want:       limitHitBy("").check,
	FirstCause: cause("page_cache_dirty"),
}
