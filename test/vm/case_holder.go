// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// The node runs out of memory that no process has in its RSS, or that the allocation may not use.

// killOfNode is a kill of the hog for the node.
var killOfNode = Kill{Victim: "hog", Scope: events.ScopeGlobal, Killer: "global"}

// startPreferred starts a hog that the kernel kills first.
func (g *Guest) startPreferred(args ...string) *process {
	hog := g.startWith(options{name: "hog", comm: "hog", adj: 1000}, g.leaf(0), args...)
	hog.proceed()

	return hog
}

// setAside reserves MiB of memory in huge pages of 2 MiB until the end of the case.
func (g *Guest) setAside(mib int) {
	const file = "/proc/sys/vm/nr_hugepages"

	g.setFile(file, strconv.Itoa(mib/2))
	text, err := os.ReadFile(file)
	must.OK("read "+file, err)

	if n := counter("pages "+string(text), "pages"); n < uint64(mib/2*9/10) {
		must.OK("set huge pages aside", fmt.Errorf("got %d of %d", n, mib/2))
	}
}

// hugePagesSetAside are reserved, and nobody uses them.
var hugePagesSetAside = Case{
	Name: "huge-pages-set-aside",
	Do: func(g *Guest) {
		g.setAside(320)
		g.startPreferred("anon", "4096").waitEnd()
	},
	Want:       killOfNode.check,
	FirstCause: cause("hugetlb"), LogCause: true, AnyTrigger: true,
}

// hugePagesInUse are mapped by a process that is not killed for them: they are not part of its RSS.
var hugePagesInUse = Case{
	Name: "huge-pages-in-use",
	Do: func(g *Guest) {
		g.setAside(320)
		holder := g.start("holder", g.group("holder", "holder", 0, nil), "hugetlb", "300")
		holder.proceed()

		if holder.line() != "ready" {
			must.OK("map huge pages", errors.New("the holder has none"))
		}

		g.startPreferred("anon", "4096").waitEnd()
	},
	Want:       killOfNode.check,
	FirstCause: cause("hugetlb_used"), LogCause: true, AnyTrigger: true,
}

// nodePageTables fills the node with page tables, of one page of zeros. What is killed for them has
// anonymous memory, which is given back at once.
var nodePageTables = Case{
	Name: "node-page-tables",
	Do: func(g *Guest) {
		g.prepareFull()
		g.startFilled("filler", "page-tables", strconv.Itoa(freeMiB()*mappedPerTable), leaveMiB())
		g.startPreferred("anon", "4096").waitEnd()
	},
	Want:       killOfNode.check,
	FirstCause: cause("pagetables"), LogCause: true, AnyTrigger: true,
}

// lastMiB is what a filler of the node leaves to the hog that is killed.
const lastMiB = 120

// leaveMiB is the free memory at which a filler stops: what it fills may not be in CMA areas.
func leaveMiB() string { return strconv.Itoa(lastMiB + cmaFreeMiB()) }

func cmaFreeMiB() int {
	text, err := os.ReadFile("/proc/meminfo")
	must.OK("read /proc/meminfo", err)

	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "CmaFree:" {
			kib, err := strconv.Atoi(fields[1])
			must.OK("read /proc/meminfo", err)

			return kib >> 10
		}
	}

	return 0 // a kernel without CMA
}

// mappedPerTable is how much more memory a page table maps than it takes: one of 4 KiB maps 2 MiB.
const mappedPerTable = 512

// prepareFull prepares the node for kernel memory that fills it: an allocation must not find that
// nobody is left to kill, of which the guest panics. Watermarks are low, as khugepaged raises the
// lowest one to 120 MiB on two small nodes (mm/khugepaged.c: set_recommended_min_free_kbytes),
// which left nothing to the hog, and nothing to give back. Spare processes die next, if the hog
// takes long to give it back.
func (g *Guest) prepareFull() {
	g.setFile("/proc/sys/vm/min_free_kbytes", "16384")

	for i := range 3 {
		name := fmt.Sprint("spare", i)
		spare := g.startWith(options{name: name, comm: name, adj: 500}, g.group(name, name, 0, nil), "anon", "4")
		spare.proceed()
		spare.waitRSS(4)
	}
}

// startFilled starts a hog of kernel memory, and waits until it has it.
func (g *Guest) startFilled(name string, args ...string) {
	filler := g.start(name, g.group(name, name, 0, nil), args...)
	filler.proceed()

	if filler.line() != "ready" {
		must.OK("fill the node", errors.New(name+" ended"))
	}
}

// freeMiB is the free memory of zones that the kernel may use for itself.
func freeMiB() int {
	text, err := os.ReadFile("/proc/zoneinfo")
	must.OK("read /proc/zoneinfo", err)

	pages, movable := 0, false

	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)

		switch {
		case len(fields) == 4 && fields[0] == "Node":
			movable = fields[3] == "Movable"
		case len(fields) == 3 && fields[0] == "pages" && fields[1] == "free" && !movable:
			n, err := strconv.Atoi(fields[2])
			must.OK("read /proc/zoneinfo", err)

			pages += n
		}
	}

	return pages * os.Getpagesize() >> 20
}

// nodeSlab fills the node with open pipes, which go with the process.
var nodeSlab = Case{
	Name: "node-slab",
	Do: func(g *Guest) {
		const pipesPerMiB = 400 // an inode and two files, some 2.5 KiB

		g.setFile("/proc/sys/fs/nr_open", "4194304")
		g.setFile("/proc/sys/fs/file-max", "8388608")
		g.setFile("/proc/sys/fs/pipe-user-pages-soft", "0")

		g.prepareFull()
		g.startFilled("filler", "pipes", strconv.Itoa(freeMiB()*pipesPerMiB), leaveMiB())
		g.startPreferred("anon", "4096").waitEnd()
	},
	Want:       killOfNode.check,
	FirstCause: cause("slab_unreclaimable"), LogCause: true, AnyTrigger: true,
}

// fragmented leaves much memory free, in single pages that cannot be moved together, while the
// allocation is of four. CMA areas, as arm64 has, are free in larger blocks.
var fragmented = Case{
	Name: "fragmented", Arch: "amd64",
	Do: func(g *Guest) {
		g.setFile("/proc/sys/fs/pipe-user-pages-soft", "0")

		g.prepareFull()
		g.startPreferred("scatter", strconv.Itoa(freeMiB()-lastMiB)).waitEnd()
	},
	Want: killOfNode.check,
	FirstCause: func(_ *Check, inc *events.Incident) []string {
		if a := inc.Allocation; a != nil && a.Order != nil && *a.Order == 0 {
			return []string{"fragmentation", "node_exhausted", "numa_imbalance"} // somebody else's, of one page
		}

		return []string{"fragmentation"}
	},
	LogCause: true, AnyTrigger: true,
}

// compressedSwap swaps data that does not compress to memory. Up to 6.12 the kernel's report has no
// counter of it, and shows it as memory in none.
var compressedSwap = Case{
	Name: "compressed-swap",
	Do: func(g *Guest) {
		g.zram("448M")
		busybox("mkswap", zramDisk)
		busybox("swapon", zramDisk)
		g.later(func() { _ = swapOffZram() })

		g.startPreferred("random", "2048").waitEnd()
	},
	Want: killOfNode.check,
	FirstCause: func(c *Check, inc *events.Incident) []string {
		if inc.Tier == events.TierKernelLog && !c.Kernel.is("7") && !c.Kernel.is("6.18") {
			return []string{"unaccounted"}
		}

		return []string{"compressed_swap"}
	},
	LogCause: true, AnyTrigger: true,
}

// lowZone fills what is not movable with page tables, while most of the memory is movable and free.
var lowZone = Case{
	Name: "low-zone", LowZone: true,
	Do: func(g *Guest) {
		g.prepareFull()
		g.startFilled("filler", "page-tables", strconv.Itoa((freeMiB()-lastMiB)*mappedPerTable))
		g.startPreferred("page-tables", strconv.Itoa(4*lastMiB*mappedPerTable)).waitEnd()
	},
	Want:       killOfNode.check,
	FirstCause: cause("low_zone"), LogCause: true,
}
