// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
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
	// majorShare explains a kill even beside a larger part.
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
	// text is the cause; brief is its format, of the share; more is evidence beside the share.
	text   func(f *facts, c *charge, amount string) string
	brief  string
	more   func(f *facts, c *charge) []events.Evidence
	needs  string // beside the share
	advice []advice
	// doubt is the confidence where the share explains the kill; nil: it is certain.
	doubt func(*facts, *charge) string
	// instead is that of the rule.
	instead []string
}

// ofNode reports whether only a node has such memory.
func (p filler) ofNode() bool { return p.least >= 1 }

func (p filler) rule() rule {
	needs := fmt.Sprintf("%s: at least %s of the limit", p.what, phrase.Percent(p.least))

	switch {
	case p.ofNode():
		needs = fmt.Sprintf("%s: at least %s of the node", p.what, phrase.Percent(p.leastNode))
	case p.leastNode > 0:
		needs += fmt.Sprintf(", or %s of the node", phrase.Percent(p.leastNode))
	}

	if p.needs != "" {
		needs += "; " + p.needs
	}

	needs += fmt.Sprintf(". It explains the kill if it is the largest part, or at least %s", phrase.Percent(p.major))
	if p.leastNode > 0 && p.major > majorNodeShare {
		needs += fmt.Sprintf(" (%s of the node)", phrase.Percent(majorNodeShare))
	}

	return rule{
		id: p.id, means: p.means, needs: needs, reference: p.reference, advice: p.advice, instead: p.instead,
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
				text: p.text(f, c, phrase.PartOf(*part, c.whole, c.of)), brief: fmt.Sprintf(p.brief, c.brief(part)),
				confidence: certain, weight: weight, evidence: []events.Evidence{c.item(p.what, part)},
			}
			if p.more != nil {
				hit.evidence = append(hit.evidence, p.more(f, c)...)
			}

			if p.doubt != nil {
				hit.confidence = p.doubt(f, c)
			}

			if weight < major && !c.largest(part) {
				hit.minor = true
				if hit.confidence == certain {
					hit.confidence = likely
				}
			}

			return hit
		},
	}
}

// resourceRules are about memory that filled a limit or the node, other than the
// anonymous memory of processes.
var resourceRules = []rule{
	{
		id: "working_set_cache",
		means: "The node was short of memory as the kubelet counts it, with active page cache " +
			"as used memory, but not as the kernel counts it.",
		needs: fmt.Sprintf("an eviction; the kernel's MemAvailable is at least %d times the "+
			"kubelet's memory.available",
			cacheFactor),
		reference: `Kubernetes "Node-pressure Eviction", active file memory is not considered as available`,
		match: func(f *facts) *finding {
			e := f.eviction
			if f.killer.Reason != events.ReasonEviction || f.evictedFor() == evictedForOther ||
				e.AvailableBytes == nil || e.MemAvailableBytes == nil ||
				*e.MemAvailableBytes/cacheFactor < *e.AvailableBytes || *e.MemAvailableBytes == 0 {
				return nil
			}

			return &finding{
				text: fmt.Sprintf("The kubelet counted %s as available, the kernel %s. The "+
					"difference is active page cache, and the kernel could have reclaimed it.",
					phrase.Size(*e.AvailableBytes), phrase.Size(*e.MemAvailableBytes)),
				brief: fmt.Sprintf("the kubelet counted %s available, the kernel %s",
					phrase.Size(*e.AvailableBytes), phrase.Size(*e.MemAvailableBytes)),
				confidence: likely,
				evidence: []events.Evidence{
					item("memory.available", phrase.Size(*e.AvailableBytes), "as the kubelet computes it"),
					item("MemAvailable", phrase.Size(*e.MemAvailableBytes), f.nodeSource("/proc/meminfo")),
				},
			}
		},
		advice: []advice{
			{layer: application, text: "Keep less hot data in the page cache: rotate logs, " +
				"read and write large files sequentially, or bypass the cache (O_DIRECT)."},
			{layer: kubernetes, text: "Set memory limits on pods that keep files hot: page " +
				"cache is charged to them and reclaimed from them first."},
		},
	},
	filler{
		id: "tmpfs",
		means: "Files in tmpfs (an emptyDir of medium Memory, /dev/shm) or shared memory " +
			"filled the limit. They are counted like page cache, but without swap they are " +
			"freed only when the file is deleted.",
		what: "tmpfs and shared memory", part: func(c *charge) *uint64 { return c.shmem },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: `Documentation/filesystems/tmpfs.rst; Kubernetes "Volumes", emptyDir`,
		brief:     "files in tmpfs hold %s",
		text: func(f *facts, c *charge, amount string) string {
			text := fmt.Sprintf("Files in tmpfs or shared memory take up %s, and reclaim "+
				"cannot drop them like page cache.",
				amount)
			if f.limiter.Level == events.LevelPod {
				text += " Files in a volume outlive the container: the next container starts with them."
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
			{layer: kubernetes, text: "Set sizeLimit on emptyDir volumes of medium Memory and " +
				"include it in the memory limit, or use a disk-backed volume.", when: ofAPod},
			{layer: application, text: "Find the files (df -t tmpfs, du -x on those mounts, " +
				"ipcs -m), delete those not needed, and map less shared memory."},
		},
	}.rule(),
	filler{
		id:    "unevictable",
		means: "Locked memory (mlock, SHM_LOCK, ramfs) cannot be reclaimed or swapped out.",
		what:  "unevictable memory", part: func(c *charge) *uint64 { return c.unevictable },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: "Documentation/mm/unevictable-lru.rst",
		brief:     "locked memory holds %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Locked memory takes up %s and cannot be reclaimed.", amount)
		},
		advice: []advice{
			{layer: application, text: "Lock less memory: mlockall(MCL_FUTURE) also locks all " +
				"later mappings. Check VmLck in /proc/PID/status."},
		},
	}.rule(),
	filler{
		id: "page_cache_dirty",
		means: "Dirty page cache could not be written back, and thus not be reclaimed, in " +
			"time: the disk is slower than the writer.",
		what: "dirty page cache and pages under writeback", part: func(c *charge) *uint64 { return c.dirty },
		least: dirtyShare, leastNode: dirtyShare, major: notableShare,
		reference: `Documentation/admin-guide/cgroup-v2.rst, "Writeback"`,
		brief:     "dirty page cache holds %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Dirty page cache takes up %s and cannot be reclaimed before it "+
				"is written to disk.",
				amount)
		},
		more: func(f *facts, c *charge) []events.Evidence { return c.items(part{"total page cache", c.cache}) },
		advice: []advice{
			{layer: application, text: "Write in smaller, sequential batches with fsync in " +
				"between, rotate logs, and bypass the page cache (O_DIRECT) for data that is " +
				"not read again."},
			throttleEarly,
			{layer: kernel, text: "Lower vm.dirty_bytes and vm.dirty_background_bytes so that " +
				"writeback starts earlier."},
		},
	}.rule(),
	filler{
		id: "page_cache_hot",
		means: "Page cache in active use filled the limit: the files are read again and again, " +
			"so reclaim takes them last and they are read back at once.",
		what: "page cache", part: func(c *charge) *uint64 { return c.cache },
		least: notableShare, major: majorShare,
		needs: fmt.Sprintf("at least %s of it on the active list, and too little of it dirty for page_cache_dirty",
			phrase.Percent(hotShare)),
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat active_file and workingset_refault_file",
		only: func(f *facts, c *charge) bool {
			return c.active != nil && c.inactive != nil && share(*c.active, *c.active+*c.inactive) >= hotShare &&
				c.share(c.dirty) < dirtyShare
		},
		brief: "page cache in active use holds %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Page cache in active use takes up %s. Reclaim takes it last, "+
				"and it is read back at once.",
				amount)
		},
		more: func(f *facts, c *charge) []events.Evidence { return c.items(part{"on the active list", c.active}) },
		advice: []advice{
			{layer: application, text: "Keep less file data hot: read sequentially, rotate " +
				"logs, and use posix_fadvise(POSIX_FADV_DONTNEED) on data that is no longer needed."},
			{layer: kubernetes, text: "Include the files that the workload keeps hot in its " +
				"memory limit: the working set counts them."},
		},
	}.rule(),
	filler{
		id: "slab_unreclaimable",
		means: "Kernel objects that cannot be reclaimed filled the limit. They are not part of " +
			"any process's RSS.",
		what: "unreclaimable slab", part: func(c *charge) *uint64 { return c.slabUnreclaimable },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat slab_unreclaimable; slabtop(1)",
		brief:     "unreclaimable slab holds %s",
		text: func(f *facts, c *charge, amount string) string {
			text := fmt.Sprintf("Kernel objects that cannot be reclaimed take up %s", amount)
			if top := largestSlab(f, c); top != "" {
				text += "; the largest slab cache is " + top
			}

			return text + ". They are not part of any process's RSS."
		},
		more: slabEvidence,
		advice: []advice{
			{layer: kernel, text: "Find the slab cache that grows (slabtop, /proc/slabinfo) " +
				"and its users: sockets, inotify watches, mounts, file locks, or a leak in the kernel."},
			{layer: application, text: "Keep fewer files, sockets and watches open at a time."},
		},
	}.rule(),
	filler{
		id: "slab_reclaimable",
		means: "Dentries, inodes and other file system metadata filled the limit: many files " +
			"were created or looked up. Reclaim frees them slowly, and not while they are in use.",
		what: "slab that is reclaimable, or not split by " +
			"the kernel", part: func(c *charge) *uint64 { return c.slabReclaimable },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		reference: "Documentation/admin-guide/sysctl/vm.rst, vfs_cache_pressure",
		brief:     "slab, such as dentries, holds %s",
		text: func(f *facts, c *charge, amount string) string {
			text := fmt.Sprintf("File system metadata and other kernel objects (slab) take up %s", amount)
			if top := largestSlab(f, c); top != "" {
				text += "; the largest slab cache is " + top
			}

			return text + ". They are not part of any process's RSS."
		},
		more: slabEvidence,
		advice: []advice{
			{layer: application, text: "Do not create or walk millions of files at once; " +
				"delete in batches, and keep directory trees small."},
			{layer: kernel, text: "Set vm.vfs_cache_pressure above 100 to reclaim dentries and " +
				"inodes earlier, and monitor their caches with slabtop."},
		},
	}.rule(),
	filler{
		id: "pagetables",
		means: "Page tables filled the limit: very large or sparse mappings, or many processes " +
			"that map the same memory, each with its own page tables.",
		what: "page tables", part: func(c *charge) *uint64 { return c.pagetables },
		least: notableOverhead, leastNode: notableOverhead, major: majorOverhead,
		reference: "Documentation/mm/page_tables.rst",
		brief:     "page tables hold %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Page tables alone take up %s.", amount)
		},
		more: func(f *facts, c *charge) []events.Evidence {
			if f.victim == nil || f.victim.PgtablesBytes == nil {
				return nil
			}

			return []events.Evidence{item("page tables of the victim", phrase.Size(*f.victim.PgtablesBytes), f.source(fromKernel))}
		},
		advice: []advice{
			{layer: application, text: "Map large shared memory with huge pages, access it " +
				"less sparsely, and share it among fewer processes (connection pooling)."},
		},
	}.rule(),
	filler{
		id: "hugetlb_charged",
		means: "Huge pages of hugetlb filled the limit, which they count towards with the mount option " +
			"memory_hugetlb_accounting. They cannot be reclaimed or swapped out.",
		what: "huge pages of hugetlb", part: func(c *charge) *uint64 { return c.hugetlb },
		least: notableShare, major: majorShare,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory_hugetlb_accounting",
		brief:     "huge pages (hugetlb) hold %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Huge pages (hugetlb) take up %s and cannot be reclaimed or swapped out.", amount)
		},
		advice: []advice{
			{layer: application, text: "Map fewer huge pages, or unmap those that are not in use."},
			{layer: cgroupLayer, text: "Add the huge pages that the workload needs to its memory limit."},
		},
	}.rule(),
	filler{
		id: "gpu_memory",
		means: "Buffers of GPU drivers filled the node's memory. They are not part of any process's RSS, and " +
			"reclaim frees only what a driver caches.",
		what: "memory of GPU drivers", part: func(c *charge) *uint64 { return c.gpu },
		least: notableNodeShare, leastNode: notableNodeShare, major: majorNodeShare,
		needs:     "the node ran out, and the kernel counts it, as 7.x does",
		reference: "Documentation/filesystems/proc.rst, meminfo GPUActive and GPUReclaim",
		brief:     "buffers of GPU drivers hold %s",
		text: func(f *facts, c *charge, amount string) string {
			return fmt.Sprintf("Buffers of GPU drivers take up %s. They are not part of any process's RSS.", amount)
		},
		more: func(f *facts, c *charge) []events.Evidence {
			return c.items(part{"in use by the GPU", f.state.GPUActiveBytes}, part{"kept by the drivers", f.state.GPUReclaimBytes})
		},
		advice: []advice{
			{layer: application, text: "Use smaller or fewer buffers on the GPU: /proc/PID/fdinfo has those of " +
				"each process (drm-memory-*)."},
			{layer: cgroupLayer, text: "Limit the buffers of GPU drivers with dmem.max where the driver supports it.", when: onV2},
		},
	}.rule(),
	filler{
		id:    "kernel_stacks",
		means: "Kernel stacks filled the limit: each thread has one, of 16 KiB on most machines.",
		what:  "kernel stacks", part: func(c *charge) *uint64 { return c.kernelStacks },
		least: notableOverhead, leastNode: notableOverhead, major: majorOverhead,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat kernel_stack; pids.max",
		brief:     "kernel stacks hold %s",
		text: func(f *facts, c *charge, amount string) string {
			const stackBytes = 16 << 10 // THREAD_SIZE of x86-64 and arm64 without KASAN
			return fmt.Sprintf("Kernel stacks take up %s, as much as about %d threads need.", amount, *c.kernelStacks/stackBytes)
		},
		advice: []advice{
			{layer: application, text: "Limit the number of threads and processes: use a pool " +
				"instead of one for each request."},
			{layer: cgroupLayer, text: "Set pids.max (podPidsLimit in Kubernetes): creating a " +
				"new thread then fails, and the other processes are spared."},
		},
	}.rule(),
	filler{
		id:    "kernel_memory",
		means: "Socket buffers or per-CPU memory of the kernel filled the limit.",
		what:  "socket buffers and per-CPU memory", part: func(c *charge) *uint64 { return oom.Sum(c.sock, c.perCPU) },
		least: notableOverhead, major: majorOverhead,
		reference: "Documentation/admin-guide/cgroup-v2.rst, memory.stat sock and percpu",
		brief:     "socket buffers and per-CPU memory hold %s",
		text: func(f *facts, c *charge, amount string) string {
			name := "Socket buffers and per-CPU memory of the kernel take up"

			switch sock, perCPU := value(c.sock), value(c.perCPU); {
			case perCPU == 0:
				name = "Socket buffers take up"
			case sock == 0:
				name = "Per-CPU memory of the kernel takes up"
			case perCPU > sock:
				name = "Per-CPU memory of the kernel and socket buffers take up"
			}

			return fmt.Sprintf("%s %s.", name, amount)
		},
		more: func(f *facts, c *charge) []events.Evidence {
			return c.items(part{"socket buffers", c.sock}, part{"per-CPU memory", c.perCPU})
		},
		advice: []advice{
			{
				layer: application, text: "Read from sockets as fast as peers write, and limit " +
					"the number of connections and their buffers (SO_RCVBUF, SO_SNDBUF).",
				when: &condition{"more in sockets", func(f *facts) bool { return value(f.charge.sock) >= value(f.charge.perCPU) }},
			},
			{
				layer: kernel, text: "Look for leftover cgroups, BPF maps and network " +
					"namespaces: each takes per-CPU memory on every CPU.",
				when: &condition{"more in per-CPU memory", func(f *facts) bool { return value(f.charge.perCPU) > value(f.charge.sock) }},
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
	list := c.items(part{"anonymous memory, for comparison", c.anon})
	if top := largestSlab(f, c); top != "" {
		list = append(list, item("largest slab cache", top, f.nodeSource("/proc/slabinfo")))
	}

	if c.node {
		list = append(list, siteEvidence(f)...)
	}

	return list
}
