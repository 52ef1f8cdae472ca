// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// poorRatio of the data is what compressed swap takes where the data hardly compresses; as a rule it
// takes a third.
const poorRatio = 0.75

// holderRules are about memory of the node that no process has in its RSS.
var holderRules = []rule{
	filler{
		id: "unaccounted",
		means: "Much of the node's memory is in no counter of the kernel: a balloon returned it to the host of this VM, a GPU or " +
			"another driver allocated pages directly, or it leaked.",
		what: "memory in no counter", part: func(c *charge) *uint64 { return c.unaccounted },
		least: 1, leastNode: events.UnaccountedShare, major: majorNodeShare,
		needs: fmt.Sprintf("the node ran out, all other memory adds up (node_state.ledger), and it is at least %s. Certain if no "+
			"counter is missing, and zswap was not read when what the victims had in swap was gone; only possible if huge "+
			"pages or page tables are missing", phrase.Size(events.UnaccountedBytes)),
		reference: "Documentation/filesystems/proc.rst, meminfo; Documentation/mm/allocation-profiling.rst",
		only:      func(f *facts, c *charge) bool { return f.state.Ledger.Notable(c.whole) },
		brief:     "%s is in no known counter",
		text:      unaccountedText,
		more:      unaccountedEvidence,
		doubt:     unaccountedDoubt,
		advice: []advice{
			{layer: kernel, text: "Look for what allocates pages without a counter: a balloon (virtio_balloon, hv_balloon, " +
				"vmw_balloon) and the settings of its host, GPU and network drivers (nvidia-smi, ethtool -g), out-of-tree modules."},
			{layer: kernel, text: "Boot with sysctl.vm.mem_profiling=1 where the kernel has CONFIG_MEM_ALLOC_PROFILING: " +
				"/proc/allocinfo and the next report then name the allocation sites. On other kernels, page_owner=on does."},
		},
	}.rule(),
	filler{
		id: "hugetlb_used",
		means: "Huge pages of hugetlb that are in use hold much of the node's memory. They are not part of any process's RSS, " +
			"and cannot be reclaimed or swapped out.",
		what: "huge pages in use", part: func(c *charge) *uint64 { return c.hugePages },
		least: 1, leastNode: notableNodeShare, major: majorNodeShare,
		needs:     "the node ran out",
		reference: "Documentation/admin-guide/mm/hugetlbpage.rst",
		brief:     "huge pages in use hold %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Huge pages (hugetlb) hold %s: %s. They cannot be reclaimed or swapped out.", amount, hugePages(&f.state))
		},
		more: func(f *facts, c *charge) []events.Evidence {
			return c.items(part{"anonymous memory, for comparison", c.anon})
		},
		advice: []advice{
			{layer: application, text: "Find who maps the huge pages (HugetlbPages in /proc/PID/status; files in hugetlbfs): databases, " +
				"JVMs with large pages, DPDK, and virtual machines."},
			{layer: kernel, text: "Leave enough memory beside the huge pages: they are taken from it, and nothing else can use them."},
			{layer: kubernetes, text: "Subtract the huge pages from what pods may request as memory: the kubelet does so for " +
				"those that exist when it starts.", when: ofAPod},
		},
	}.rule(),
	filler{
		id: "compressed_swap",
		means: "Compressed swap itself holds much of the node's memory: zram or zswap store pages in memory, and pages that " +
			"hardly compress free little.",
		what: "memory of zram and zswap", part: func(c *charge) *uint64 { return c.compressed },
		least: 1, leastNode: notableNodeShare, major: majorNodeShare,
		needs:     "the node ran out",
		reference: "Documentation/admin-guide/blockdev/zram.rst, mm_stat; Documentation/admin-guide/mm/zswap.rst",
		brief:     "compressed swap holds %s",
		text:      compressedText,
		more:      compressedEvidence,
		advice: []advice{
			{layer: kernel, text: "Make zram smaller or give it a limit (mem_limit, zram-size of zram-generator), or swap to a " +
				"disk: data that does not compress is better off there (writeback of zram, zswap)."},
			{layer: application, text: "Use less anonymous memory: compressed swap delays the shortage and does not end it."},
		},
	}.rule(),
}

// hugePages lists pools in words: "13 of 1.0 GiB, all in use".
func hugePages(n *events.NodeState) string {
	const most = 4

	var words []string

	for _, p := range n.HugePages[:min(len(n.HugePages), most)] {
		use := "all in use"
		if p.Free > 0 {
			use = fmt.Sprintf("%d unused", p.Free)
		}

		words = append(words, fmt.Sprintf("%d of %s, %s", p.Total, phrase.Size(p.SizeBytes), use))
	}

	if len(words) == 0 {
		return "all of them in use"
	}

	return strings.Join(words, "; ")
}

func unaccountedText(f *facts, _ *charge, amount string) string {
	text := amount + " is in no counter of the kernel: usually a balloon, a GPU or another driver holds it"
	if f.state.Ledger != nil && len(f.state.Ledger.Missing) > 0 {
		text = fmt.Sprintf("%s is in no counter that is known here: usually a balloon, a GPU or another driver holds it, or what "+
			"the source does not have (%s)", amount, phrase.FirstFew(f.state.Ledger.Missing))
	}

	if out := f.swappedOut(); out > 0 {
		text += fmt.Sprintf(". If swap is zram, it holds in memory the %s that are swapped out", phrase.Size(out))
	}

	if s := driverSite(f); s != nil {
		text += ". The driver that allocates the most is " + site(s)
	}

	return text + "."
}

// swappedOut is what zram may hold in memory where its own counter is missing, if that is a good part
// of what no counter has; else 0.
func (f *facts) swappedOut() uint64 {
	n := f.state
	if !slices.Contains(n.Ledger.Missing, oom.LedgerCompressed) || n.SwapTotalBytes == nil || n.SwapFreeBytes == nil {
		return 0
	}

	out := less(*n.SwapTotalBytes, *n.SwapFreeBytes)
	if out < n.Ledger.UnaccountedBytes/4 {
		return 0
	}

	return out
}

// driverSite is the largest allocation site of a driver with at least half of what is in no counter;
// nil if there is none. The other sites allocate what has a counter as a rule: page tables (arch,
// include), stacks (kernel), page cache (mm, fs).
func driverSite(f *facts) *events.AllocationSite {
	sites := f.state.AllocationSites

	at := slices.IndexFunc(sites, func(s events.AllocationSite) bool {
		location := strings.TrimPrefix(s.Location, "./")
		ofCore := strings.HasPrefix(location, "mm/") || strings.HasPrefix(location, "fs/")

		return s.Module != "" && !ofCore || strings.HasPrefix(location, "drivers/") || strings.HasPrefix(location, "net/")
	})
	if at < 0 || sites[at].Bytes < f.state.Ledger.UnaccountedBytes/2 {
		return nil
	}

	return &sites[at]
}

// unaccountedDoubt is less certain the more counters are missing.
func unaccountedDoubt(f *facts, _ *charge) string {
	missing := f.state.Ledger.Missing
	switch {
	case slices.Contains(missing, oom.LedgerHugePages), slices.Contains(missing, oom.LedgerPagetables):
		return possible
	case len(missing) > 0, f.swapGone() >= f.state.Ledger.UnaccountedBytes/4:
		return likely
	}

	return certain
}

// swapGone is what zswap may have held at the kill and no more after it, when its pool was read: what
// the victims had in swap. Of zram, nodeAtKill has added it.
func (f *facts) swapGone() (bytes uint64) {
	if z := f.state.ZRAM; !f.atKill || f.node.AfterNS == nil || z != nil && z.PeakBytes != nil {
		return 0
	}

	for i := range f.victims {
		bytes += value(f.victims[i].SwapBytes)
	}

	return bytes
}

func unaccountedEvidence(f *facts, c *charge) []events.Evidence {
	const most = 4

	var list []events.Evidence

	entries := f.state.Ledger.Entries
	for _, e := range entries[:min(len(entries), most)] {
		list = append(list, c.item(phrase.ClipName(e.Name), &e.Bytes))
	}

	if b := f.state.BalloonBytes; value(b) > 0 {
		list = append(list, c.item("in a balloon, which may be in it", b))
	}

	return append(list, siteEvidence(f)...)
}

// siteEvidence has the largest allocation sites.
func siteEvidence(f *facts) []events.Evidence {
	const most = 3

	var list []events.Evidence

	sites := f.state.AllocationSites
	for i := range sites[:min(len(sites), most)] {
		list = append(list, item("allocation site", site(&sites[i]), f.stateSource("/proc/allocinfo")))
	}

	return list
}

// site names an allocation site, whose text is of the kernel's log.
func site(s *events.AllocationSite) string {
	name := phrase.ClipName(s.Function) + " at " + phrase.ClipName(s.Location)
	if s.Module != "" {
		name += " of module " + phrase.ClipName(s.Module)
	}

	return name + " (" + phrase.Size(s.Bytes) + ")"
}

func compressedText(f *facts, c *charge, amount string) string {
	text := "Compressed swap (zram or zswap) itself takes up " + amount
	if z := f.state.ZRAM; z != nil && z.DataBytes > 0 && share(z.UsedBytes, z.DataBytes) >= poorRatio {
		text += fmt.Sprintf(": its data hardly compresses, %s of it takes %s", phrase.Size(z.DataBytes), phrase.Size(z.UsedBytes))
	}

	return text + "."
}

func compressedEvidence(f *facts, c *charge) []events.Evidence {
	list := c.items(part{"pool of zsmalloc", f.state.ZspagesBytes}, part{"pool of zswap", f.state.ZswapBytes})
	if z := f.node.ZRAM; z != nil {
		list = append(list, item("data in zram", fmt.Sprintf("%s, which takes %s", phrase.Size(z.DataBytes), phrase.Size(z.UsedBytes)),
			f.nodeSource("/sys/block/zram*/mm_stat")))

		if z.PeakBytes != nil {
			list = append(list, item("most that zram has taken", phrase.Size(*z.PeakBytes), f.nodeSource("/sys/block/zram*/mm_stat")))
		}
	}

	return list
}
