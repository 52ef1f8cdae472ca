// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// cacheFactor is how many times the kubelet's memory.available the kernel's MemAvailable
// must be to show that active page cache made the difference.
const cacheFactor = 2

// What is worth naming in a charge. The shares are of the limit, or of the node's memory.
const (
	// notableShare of a cgroup's limit: without it, the limit would have lasted a
	// third longer.
	notableShare = 0.25
	// notableNodeShare is lower: on a node, memory other than that of processes is a few
	// percent.
	notableNodeShare = 0.15
	// majorShare is what explains a kill even beside a larger part.
	majorShare = 0.40

	// majorNodeShare is lower for the same reason as notableNodeShare.
	majorNodeShare = 0.25

	// Kinds that are a percent or less as a rule stand out earlier.
	notableOverhead = 0.10 // page tables (0.2 % of what they map), stacks of threads
	majorOverhead   = 0.25

	// dirtyShare is half of what vm.dirty_ratio lets a cgroup have by default (20 %):
	// writers are about to be throttled, and reclaim has to wait for the disk.
	dirtyShare = 0.10

	// hotShare of the cache on the active list: it was used again after it was read, so
	// reclaim takes it last.
	hotShare = 0.5

	// thpShare of anonymous memory in huge pages: then they are charged, however little of
	// each is used.
	thpShare = 0.5
)

// filler is a part of the charge that can fill a limit, as a rule.
type filler struct {
	id, means, reference string
	what                 string // in words
	part                 func(*charge) *uint64
	// least is the share of a limit from which it is worth naming, leastNode that of a node;
	// major is the share from which it explains the kill though another part is larger.
	least, leastNode, major float64
	// only restricts the rule further; nil: it does not.
	only func(*facts, *charge) bool
	// text is the cause; more is evidence beside the share.
	text   func(f *facts, c *charge, amount string) string
	more   func(f *facts, c *charge) []events.Evidence
	needs  string // beside the share
	advice []advice
}

func (p filler) rule() rule {
	needs := fmt.Sprintf("%s at least %s of the limit", p.what, phrase.Percent(p.least))
	if p.leastNode > 0 {
		needs += fmt.Sprintf(", or %s of the node", phrase.Percent(p.leastNode))
	}

	if p.needs != "" {
		needs += "; " + p.needs
	}

	needs += fmt.Sprintf(". It explains the kill if it is the largest part, or at least %s", phrase.Percent(p.major))
	if p.leastNode > 0 && p.major > majorNodeShare {
		needs += fmt.Sprintf(" (of the node %s)", phrase.Percent(majorNodeShare))
	}

	return rule{
		id: p.id, means: p.means, needs: needs, reference: p.reference, advice: p.advice,
		match: func(f *facts) *finding {
			c := f.charge
			if c == nil || c.node && p.leastNode == 0 {
				return nil
			}

			least, major := p.least, p.major
			if c.node {
				least, major = p.leastNode, min(p.major, majorNodeShare)
			}
			part := p.part(c)

			weight := c.share(part)
			if weight == 0 || weight < least || p.only != nil && !p.only(f, c) {
				return nil
			}

			hit := &finding{
				text: p.text(f, c, phrase.PartOf(*part, c.whole, c.of)), confidence: Certain, weight: weight,
				evidence: []events.Evidence{c.item(p.what, part)},
			}
			if p.more != nil {
				hit.evidence = append(hit.evidence, p.more(f, c)...)
			}

			if weight < major && !c.largest(part) {
				hit.minor, hit.confidence = true, Likely
			}

			return hit
		},
	}
}

// resourceRules are about what filled a limit or the node, other than the plain
// memory of processes.
var resourceRules = []rule{
	{
		id: "working_set_cache",
		means: "The node was short by the kubelet's count, which takes active page cache for used; by the " +
			"kernel's own it was not.",
		needs: fmt.Sprintf("an eviction; the kernel's MemAvailable at least %d times the kubelet's memory.available",
			cacheFactor),
		reference: `Kubernetes "Node-pressure Eviction", active file memory is not considered as available`,
		match: func(f *facts) *finding {
			e := f.eviction
			if f.killer.Reason != "eviction" || e.AvailableBytes == nil || e.MemAvailableBytes == nil ||
				*e.MemAvailableBytes/cacheFactor < *e.AvailableBytes || *e.MemAvailableBytes == 0 {
				return nil
			}

			return &finding{
				text: fmt.Sprintf("The kubelet saw %s available, the kernel %s: active page cache made the "+
					"difference, and would have been given back.",
					phrase.Size(*e.AvailableBytes), phrase.Size(*e.MemAvailableBytes)),
				confidence: Likely,
				evidence: []events.Evidence{
					item("memory.available", phrase.Size(*e.AvailableBytes), "as the kubelet computes it"),
					item("MemAvailable", phrase.Size(*e.MemAvailableBytes), f.nodeSource("/proc/meminfo")),
				},
			}
		},
		advice: []advice{
			{layer: application, text: "Avoid needless hot data in the page cache: rotate logs, read and write " +
				"large files in sequence, or past the cache."},
			{layer: kubernetes, text: "Limit the pods that keep files hot: the cache is charged to them, and " +
				"reclaimed from them first."},
		},
	},
	filler{
		id: "tmpfs",
		means: "Files in tmpfs, an emptyDir of medium Memory, /dev/shm or shared memory filled it. It looks like " +
			"page cache and is none: without swap it goes only when the file is deleted.",
		what: "tmpfs and shared memory", part: func(c *charge) *uint64 { return c.shmem },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: `Documentation/filesystems/tmpfs.rst; Kubernetes "Volumes", emptyDir`,
		text: func(f *facts, c *charge, amount string) string {
			text := fmt.Sprintf("Files in tmpfs or shared memory hold %s, and cannot be reclaimed as page cache can.",
				amount)
			if f.limiter.Level == events.LevelPod {
				text += " In a volume they outlive the container: the next one begins with them."
			}

			return text
		},
		more: func(f *facts, c *charge) []events.Evidence {
			if f.allocation.Class == "tmpfs" {
				return []events.Evidence{item("class of the allocation", "tmpfs", f.source("stack of the trigger"))}
			}

			return nil
		},
		advice: []advice{
			{layer: kubernetes, text: "Give emptyDir volumes of medium Memory a sizeLimit, and count it into the " +
				"memory limit; or use the disk.", when: ofAPod},
			{layer: application, text: "Find the files: df -t tmpfs, du -x on them, ipcs -m; delete what is not " +
				"needed, map less shared memory."},
		},
	}.rule(),
	filler{
		id:    "unevictable",
		means: "Memory that is locked (mlock, SHM_LOCK, ramfs) cannot be reclaimed or swapped out.",
		what:  "unevictable memory", part: func(c *charge) *uint64 { return c.unevictable },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: "Documentation/mm/unevictable-lru.rst",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Locked memory holds %s: reclaim has to leave it alone.", amount)
		},
		advice: []advice{
			{layer: application, text: "Lock less: mlockall(MCL_FUTURE) locks all that comes later; look at VmLck " +
				"in /proc/PID/status."},
		},
	}.rule(),
	filler{
		id: "page_cache_dirty",
		means: "Page cache that had yet to be written could not be reclaimed in time: the disk is slower than " +
			"the writer.",
		what: "dirty page cache and what is being written", part: func(c *charge) *uint64 { return c.dirty },
		least: dirtyShare, leastNode: dirtyShare, major: notableShare,
		reference: `Documentation/admin-guide/cgroup-v2.rst, "Writeback"`,
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Page cache that was not yet written holds %s: it cannot be given back before the disk has it.",
				amount)
		},
		more: func(f *facts, c *charge) []events.Evidence { return c.items(part{"page cache in all", c.cache}) },
		advice: []advice{
			{layer: application, text: "Write in smaller, sequential batches and fsync between them; rotate logs; " +
				"write past the cache (O_DIRECT) what is not read again."},
			{layer: cgroupLayer, text: "Set memory.high below memory.max: writers are slowed down before they meet " +
				"the limit.", when: onV2},
			{layer: kernel, text: "Lower vm.dirty_bytes and vm.dirty_background_bytes, so that writing begins sooner."},
		},
	}.rule(),
	filler{
		id: "page_cache_hot",
		means: "Page cache that was in use filled it: files are read again and again, so that reclaim takes them " +
			"last and they come back at once.",
		what: "page cache", part: func(c *charge) *uint64 { return c.cache },
		least: notableShare, major: majorShare,
		needs: fmt.Sprintf("at least %s of it on the active list, and too little of it dirty for page_cache_dirty",
			phrase.Percent(hotShare)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat active_file and workingset_refault_file",
		only: func(f *facts, c *charge) bool {
			return c.active != nil && c.inactive != nil && share(*c.active, *c.active+*c.inactive) >= hotShare &&
				c.share(c.dirty) < dirtyShare
		},
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Page cache that is in use holds %s: reclaim takes it last, and it is read in again at once.",
				amount)
		},
		more: func(f *facts, c *charge) []events.Evidence { return c.items(part{"on the active list", c.active}) },
		advice: []advice{
			{layer: application, text: "Keep less hot data in files: read in sequence, rotate logs, use " +
				"posix_fadvise(POSIX_FADV_DONTNEED) on what is done."},
			{layer: kubernetes, text: "Count the files that the workload keeps hot into its memory limit; the " +
				"working set has them."},
		},
	}.rule(),
	filler{
		id:    "slab_unreclaimable",
		means: "Kernel objects that cannot be reclaimed filled it. No process's RSS shows them.",
		what:  "unreclaimable slab", part: func(c *charge) *uint64 { return c.slabUnreclaimable },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat slab_unreclaimable; slabtop(1)",
		text: func(f *facts, c *charge, amount string) string {
			text := fmt.Sprintf("Kernel objects that cannot be reclaimed hold %s", amount)
			if top := largestSlab(f, c); top != "" {
				text += ", the most in slab cache " + top
			}

			return text + ". No process's RSS shows them."
		},
		more: slabEvidence,
		advice: []advice{
			{layer: kernel, text: "Find the cache that grows (slabtop, /proc/slabinfo) and who fills it: sockets, " +
				"inotify watches, mounts, file locks, a leak of the kernel."},
			{layer: application, text: "Open fewer files, sockets and watches at once."},
		},
	}.rule(),
	filler{
		id: "slab_reclaimable",
		means: "Dentries, inodes and other file system metadata filled it: many files were made or looked up. " +
			"Reclaim frees them slowly, and not while they are in use.",
		what: "slab that is reclaimable, or not split by " +
			"the kernel", part: func(c *charge) *uint64 { return c.slabReclaimable },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: "Documentation/admin-guide/sysctl/vm.rst, vfs_cache_pressure",
		text: func(f *facts, c *charge, amount string) string {
			text := fmt.Sprintf("File system metadata and other kernel objects (slab) hold %s", amount)
			if top := largestSlab(f, c); top != "" {
				text += ", the most in slab cache " + top
			}

			return text + ". No process's RSS shows them."
		},
		more: slabEvidence,
		advice: []advice{
			{layer: application, text: "Do not make or walk millions of files at once; delete in batches, and keep " +
				"fewer of them in a directory tree."},
			{layer: kernel, text: "Watch slabtop for dentry and inode caches; vm.vfs_cache_pressure above 100 " +
				"reclaims them sooner."},
		},
	}.rule(),
	filler{
		id: "pagetables",
		means: "Page tables filled it: very large or sparse mappings, or many processes that map the same memory, " +
			"each with tables of its own.",
		what: "page tables", part: func(c *charge) *uint64 { return c.pagetables },
		least: notableOverhead, leastNode: notableOverhead, major: majorOverhead,
		reference: "Documentation/mm/page_tables.rst",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Page tables alone hold %s.", amount)
		},
		more: func(f *facts, c *charge) []events.Evidence {
			if f.victim == nil || f.victim.PgtablesBytes == nil {
				return nil
			}

			return []events.Evidence{item("page tables of the victim", phrase.Size(*f.victim.PgtablesBytes), f.source(fromKernel))}
		},
		advice: []advice{
			{layer: application, text: "Map large shared memory with huge pages, touch it less sparsely, and share " +
				"it among fewer processes (connection pooling)."},
		},
	}.rule(),
	filler{
		id:    "kernel_stacks",
		means: "Kernel stacks filled it: each thread has one, of 16 KiB on most machines.",
		what:  "kernel stacks", part: func(c *charge) *uint64 { return c.kernelStacks },
		least: notableOverhead, leastNode: notableOverhead, major: majorOverhead,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat kernel_stack; pids.max",
		text: func(f *facts, c *charge, amount string) string {
			const stackBytes = 16 << 10 // THREAD_SIZE of x86-64 and arm64 without KASAN
			return fmt.Sprintf("Kernel stacks hold %s: there are about %d threads.", amount, *c.kernelStacks/stackBytes)
		},
		advice: []advice{
			{layer: application, text: "Bound the number of threads and processes: a pool instead of one for each " +
				"request."},
			{layer: cgroupLayer, text: "Set pids.max (in Kubernetes podPidsLimit): it fails the new thread and " +
				"spares the others."},
		},
	}.rule(),
	filler{
		id:    "kernel_memory",
		means: "Socket buffers or per-CPU memory of the kernel filled it.",
		what:  "socket buffers and per-CPU memory", part: func(c *charge) *uint64 { return sum(c.sock, c.perCPU) },
		least: notableOverhead, major: majorOverhead,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat sock and percpu",
		text: func(f *facts, c *charge, amount string) string {
			name := "Socket buffers hold"
			if value(c.perCPU) > value(c.sock) {
				name = "Per-CPU memory of the kernel and socket buffers hold"
			}

			return fmt.Sprintf("%s %s.", name, amount)
		},
		more: func(f *facts, c *charge) []events.Evidence {
			return c.items(part{"socket buffers", c.sock}, part{"per-CPU memory", c.perCPU})
		},
		advice: []advice{
			{
				layer: application, text: "Read from sockets as fast as peers write, bound the number of " +
					"connections, and their buffers (SO_RCVBUF, SO_SNDBUF).",
				when: &condition{"of sockets", func(f *facts) bool { return value(f.charge.sock) >= value(f.charge.perCPU) }},
			},
			{
				layer: kernel, text: "Per-CPU memory grows with cgroups, BPF maps and network namespaces, times " +
					"the number of CPUs: look for those that are left over.",
				when: &condition{"of per-CPU memory", func(f *facts) bool { return value(f.charge.perCPU) > value(f.charge.sock) }},
			},
		},
	}.rule(),
}

func largestSlab(f *facts, c *charge) string {
	if !c.node || len(f.node.Slabs) == 0 {
		return ""
	}
	top := f.node.Slabs[0]

	return fmt.Sprintf("%s (%s)", phrase.ClipName(top.Name), phrase.Size(top.Bytes))
}

func slabEvidence(f *facts, c *charge) []events.Evidence {
	list := c.items(part{"anonymous memory, beside it", c.anon})
	if top := largestSlab(f, c); top != "" {
		list = append(list, item("largest slab cache", top, f.nodeSource("/proc/slabinfo")))
	}

	return list
}
