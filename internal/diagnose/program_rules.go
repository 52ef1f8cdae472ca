// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/program"
)

const (
	// runtimeShare of the limit in one process whose runtime bounds its heap: above what a
	// heap is usually given.
	runtimeShare = 0.80
	// heapShare of the limit is more than a heap can have beside what is not in it.
	heapShare = 0.85
	// uncountedShare of the limit outside the heap is worth naming.
	uncountedShare = 0.10
	// ownShare of the limit in one process makes it the one that filled it.
	ownShare = 0.50
	// usualStartBytes is the most that it usually takes to start a container, startBytes far more
	// than that. Any program may have the name of runc init.
	usualStartBytes = 32 << 20
	startBytes      = 128 << 20
	// mappedShare of shared memory that processes have mapped: the rest may be files.
	mappedShare = 0.50
)

// programResourceRules are about memory that a kind of program is known to fill.
var programResourceRules = []rule{
	filler{
		id: "shared_memory",
		means: "Shared memory that processes have mapped filled the limit: the buffers of a database, or the memory " +
			"of a sandbox. It is counted once, however many processes map it, and ends with them.",
		what: "tmpfs and shared memory", part: func(c *charge) *uint64 { return c.shmem },
		least: notableShare, leastNode: notableNodeShare, major: majorShare,
		needs: fmt.Sprintf("one process has at least %s of it resident, or is a database that had as much mapped; or, likely, "+
			"processes of one name, at least %d of them, together have more than there is, so that they share it",
			phrase.Percent(mappedShare), crowd),
		reference: "Documentation/filesystems/proc.rst, RssShmem; shmget(2); mmap(2), MAP_SHARED",
		instead:   []string{"tmpfs"},
		only:      func(f *facts, c *charge) bool { return f.mappedBy(*c.shmem) != nil },
		doubt: func(f *facts, c *charge) string {
			if f.mappedBy(*c.shmem).most(*c.shmem) {
				return certain
			}

			return likely
		},
		brief: "mapped shared memory holds %s",
		text: func(f *facts, c *charge, amount string) string {
			m := f.mappedBy(*c.shmem)
			text := fmt.Sprintf("Shared memory takes up %s. ", amount)

			if m.count > 1 {
				return text + fmt.Sprintf("It is mapped by %s named %s, which share it.",
					phrase.Plural(m.count, "process"), phrase.ClipName(m.name))
			}

			return text + phrase.ClipName(m.name) + " has it mapped."
		},
		more: func(f *facts, c *charge) []events.Evidence {
			m := f.mappedBy(*c.shmem)

			list := []events.Evidence{
				item("shared memory in processes named "+phrase.ClipName(m.name),
					fmt.Sprintf("%d, %s together, the most in one %s", m.count, phrase.Size(m.held), phrase.Size(m.largest)),
					f.source("candidates at the kill")),
			}
			if m.mapped > 0 {
				list = append(list, item("shared memory that the victim had mapped", phrase.Size(m.mapped), "/proc"))
			}

			return list
		},
		advice: []advice{
			{layer: application, text: postgresText, with: postgresAdvice, when: runs(events.ProgramPostgreSQL, "PostgreSQL")},
			{layer: application, text: sandboxText, when: runs(events.ProgramSandbox, "a sandbox")},
			{
				layer: application, text: "Give less memory to what the processes share, such as the buffers of a database, or " +
					"raise the limit. /proc/PID/smaps has the mappings.",
				when: &condition{"another program", func(f *facts) bool {
					return f.kind() != events.ProgramPostgreSQL && f.kind() != events.ProgramSandbox
				}},
			},
		},
	}.rule(),
}

// programPlacementRules are about limits that are too low for what the program is.
var programPlacementRules = []rule{
	{
		id:    "container_start",
		means: "Starting the container took more than the limit: runc was killed before the container's own program ran.",
		needs: fmt.Sprintf("scope memcg; the victim is runc init, with at least %s of the limit, which is %s at most. Certain up to "+
			"%s, which is the most that a start usually takes",
			phrase.Percent(ownShare), phrase.Size(startBytes), phrase.Size(usualStartBytes)),
		reference: "github.com/opencontainers/runc, libcontainer/nsenter/nsexec.c",
		instead:   []string{"own_limit", "ancestor_limit", "many_processes"},
		match:     containerStart,
		advice: append([]advice{
			{layer: kubernetes, text: "Raise the memory limit, and check its unit: starting a container takes some 10 to 30 MiB, " +
				"and its program needs memory on top.", when: ofAPod},
			{
				layer: cgroupLayer, text: "Raise the memory limit, and check its unit: starting a container takes some 10 to " +
					"30 MiB, and its program needs memory on top.", when: noPod,
			},
		}, raiseAdvice...),
	},
	{
		id: "vm_memory",
		means: "The process of a virtual machine filled the limit: the memory of its guest and the overhead of running it " +
			"do not fit.",
		needs: fmt.Sprintf("scope memcg; a VM (QEMU, Cloud Hypervisor, Firecracker, crosvm, VirtualBox) was killed or could "+
			"have been, with at least %s of the limit. Certain if its executable is known and it had %s",
			phrase.Percent(ownShare), phrase.Percent(runtimeShare)),
		reference: `Kubernetes "Pod Overhead"; KubeVirt user guide, "Virtual hardware", memory overhead; Kata Containers, ` +
			`docs/design/host-cgroups.md`,
		instead: []string{"own_limit", "ancestor_limit", "shared_memory", "tmpfs"},
		match:   vmMemory,
		advice: []advice{
			{layer: kubernetes, text: "Raise the overhead that is added to the guest's memory: overhead.podFixed of the " +
				"RuntimeClass (Kata Containers), or additionalGuestMemoryOverheadRatio (KubeVirt).", when: ofAPod},
			{layer: cgroupLayer, text: "Set the limit to the guest's memory plus the overhead of the VM (device emulation, " +
				"page tables, I/O buffers: some hundred MiB), or set none: the guest's size bounds it.", when: noPod},
			{layer: application, text: "Give the guest less memory. Page cache of its disks counts as well: cache=none keeps " +
				"it out."},
		},
	},
	{
		id:    "heap_limit",
		means: "The program's heap, or its buffers, may grow to the whole limit of its cgroup.",
		needs: fmt.Sprintf("scope memcg; the victim's anonymous memory is at least %s of the limit, and a setting of the "+
			"program allows at least %s. Certain if the setting allows the whole limit, and was read from the victim",
			phrase.Percent(ownShare), phrase.Percent(heapShare)),
		reference: "java(1), -Xmx; Go package runtime, GOMEMLIMIT; node(1), --max-old-space-size",
		match:     heapTooLarge,
		advice:    adviceFor(slices.Sorted(maps.Keys(heapSettings))...),
	},
}

// programContributingRules are about memory of a program that its own limit does not count.
var programContributingRules = []rule{
	{
		id: "runtime_uncounted",
		means: "The victim's language runtime limits its heap, and the process used more than that: direct buffers, JIT code, " +
			"native libraries, thread stacks.",
		needs: fmt.Sprintf("scope memcg; victim JVM, Node.js or .NET. Likely if its heap's limit is known, lower than %s of the "+
			"limit, and exceeded by at least %s of the limit in anonymous memory; possible if it is unknown, the "+
			"limit is not known to be another cgroup's, and anonymous memory is at least %s of it",
			phrase.Percent(heapShare), phrase.Percent(uncountedShare), phrase.Percent(runtimeShare)),
		reference: "java(1), -XX:NativeMemoryTracking",
		match:     runtimeUncounted,
		advice:    adviceFor(slices.Sorted(maps.Keys(uncounted))...),
	},
}

// mapping is shared memory in the processes of one name.
type mapping struct {
	name          string
	count         int
	held, largest uint64
	mapped        uint64 // by the victim, resident or not; 0: not known
}

// most reports whether one process has most of it.
func (m *mapping) most(shmem uint64) bool {
	return share(max(m.largest, min(m.mapped, shmem)), shmem) >= mappedShare
}

// mappedBy returns whose shared memory it is: of processes of one name that have most of it
// mapped, or more than there is. Nil: it may be files that no process has mapped.
func (f *facts) mappedBy(shmem uint64) *mapping {
	var list []*mapping

	for _, p := range f.processes() {
		if p.shmem == 0 {
			continue
		}

		var m *mapping

		for _, other := range list {
			if other.name == p.name {
				m = other
			}
		}

		if m == nil {
			m = &mapping{name: p.name}
			list = append(list, m)
		}

		m.count, m.held, m.largest = m.count+1, m.held+p.shmem, max(m.largest, p.shmem)
	}

	var most *mapping

	for _, m := range list {
		if most == nil || m.held > most.held {
			most = m
		}
	}

	if most == nil {
		return nil
	}

	if s := f.program.Setting("shared memory"); s != nil && most.name == f.victim.Comm {
		most.mapped = value(s.Bytes)
	}

	if !most.most(shmem) && (most.count < crowd || most.held < shmem) {
		return nil
	}

	return most
}

// resident is the memory of a process that was killed, or could have been.
type resident struct {
	name        string
	pid         int
	size, shmem uint64
}

// processes are the victims, and the candidates that are none of them.
func (f *facts) processes() []resident {
	var all []resident
	seen := map[int]bool{}

	for i := range f.victims {
		v := &f.victims[i]
		seen[v.PID] = true
		all = append(all, resident{v.Comm, v.PID, residentSize(v), value(v.ShmemRSSBytes)})
	}

	for i := range f.candidates {
		if c := &f.candidates[i]; !seen[c.PID] {
			all = append(all, resident{c.Comm, c.PID, candidateSize(c), value(c.ShmemRSSBytes)})
		}
	}

	return all
}

func containerStart(f *facts) *finding {
	limit := value(f.limiter.LimitBytes)
	if !f.is(events.ScopeMemcg) || f.kind() != events.ProgramRuncInit || share(f.victimSize(), limit) < ownShare || limit > startBytes {
		return nil
	}

	hit := &finding{
		text: fmt.Sprintf("%s of %s is less than it takes to start a container: %s was killed before the container's own program ran.",
			phrase.Capitalize(f.limit()), phrase.Size(limit), process(&f.victim.Process)),
		brief:      "starting a container takes more than the limit",
		confidence: certain,
		evidence: append(limitEvidence(f),
			item("memory of "+process(&f.victim.Process), phrase.Part(f.victimSize(), limit), f.source(fromKernel))),
	}

	if limit > usualStartBytes {
		hit.confidence = likely
		hit.text = fmt.Sprintf("%s was killed before the container's own program ran: to start the container took %s, more than usual.",
			process(&f.victim.Process), phrase.PartOf(f.victimSize(), limit, f.limit()))
		hit.brief = "starting the container took " + phrase.ShareOf(f.victimSize(), limit, f.whole())
	}

	return hit
}

// vm is the process of a VM that filled the limit, the victim before others.
func (f *facts) vm() (p resident, program *events.Program) {
	for _, p := range f.processes() {
		ran := f.programIn(p)
		if ran != nil && ran.Kind == events.ProgramVM && share(p.size, value(f.limiter.LimitBytes)) >= ownShare {
			return p, ran
		}
	}

	return p, nil
}

// programIn is what a process ran: of a victim as it was read, of another by its name.
func (f *facts) programIn(p resident) *events.Program {
	for i := range f.victims {
		if f.victims[i].PID == p.pid {
			return programOf(&f.victims[i])
		}
	}

	return program.ByName(p.name)
}

func vmMemory(f *facts) *finding {
	if !f.is(events.ScopeMemcg) {
		return nil
	}

	p, ran := f.vm()
	if ran == nil {
		return nil
	}
	limit := value(f.limiter.LimitBytes)
	name := phrase.Process(p.name, p.pid)

	hit := &finding{confidence: likely, weight: share(p.size, limit)}
	if ran.By == events.ProgramByExecutable && ran.ReadOf == 0 && hit.weight >= runtimeShare {
		hit.confidence = certain
	}

	hit.text = fmt.Sprintf("The VM %s had %s", name, phrase.PartOf(p.size, limit, f.limit()))
	hit.brief = fmt.Sprintf("the VM %s had %s", clip(name), phrase.ShareOf(p.size, limit, f.whole()))
	hit.evidence = append(limitEvidence(f), item("memory of "+name, phrase.Part(p.size, limit), f.source(fromKernel)))

	if guest := ran.Setting("guest memory"); guest != nil && guest.Bytes != nil {
		hit.text += fmt.Sprintf(", with a guest of %s", phrase.Size(*guest.Bytes))
		hit.brief = fmt.Sprintf("the VM's guest of %s and its overhead do not fit", phrase.Size(*guest.Bytes))
		hit.add("memory of the guest", phrase.Size(*guest.Bytes), settingSource(ran, guest))
	}

	hit.text += ": the memory of its guest and the overhead of running it do not fit."

	return hit
}

func heapTooLarge(f *facts) *finding {
	h, limit := f.heapLimit(), value(f.limiter.LimitBytes)
	if h == nil || h.preset || f.victim.AnonRSSBytes == nil ||
		share(*f.victim.AnonRSSBytes, limit) < ownShare || share(h.bytes, limit) < heapShare {
		return nil
	}

	hit := &finding{confidence: likely, weight: share(*f.victim.AnonRSSBytes, limit), evidence: append(limitEvidence(f), h.item())}
	if h.bytes >= limit && f.program.ReadOf == 0 {
		hit.confidence = certain
	}

	hit.text = fmt.Sprintf("%s was given %s, and %s is %s: that leaves %s for all else that it needs.", f.givenTo(), h,
		f.limit(), phrase.Size(limit), left(limit, h.bytes))
	hit.brief = clip(h.by) + " leaves " + left(limit, h.bytes) + " of the limit"
	hit.add("anonymous memory of "+process(&f.victim.Process), phrase.Part(*f.victim.AnonRSSBytes, limit), f.source(fromKernel))

	return hit
}

// givenTo is the process whose settings were read: the victim, or another of its name.
func (f *facts) givenTo() string {
	if f.program.ReadOf != 0 {
		return phrase.Process(f.victim.Comm, f.program.ReadOf) + ", of the same name as the victim,"
	}

	return process(&f.victim.Process)
}

func left(limit, used uint64) string {
	if used >= limit {
		return "nothing"
	}

	return phrase.Size(limit - used)
}

// uncounted are the kinds whose heap limit leaves out much of their memory.
var uncounted = map[events.ProgramKind]string{
	events.ProgramJVM: "-Xmx, a quarter of the limit by default", events.ProgramNode: "--max-old-space-size",
	events.ProgramDotNet: "GCHeapHardLimit, three quarters of the limit by default",
}

func runtimeUncounted(f *facts) *finding {
	usual := uncounted[f.kind()]
	if usual == "" || !f.is(events.ScopeMemcg) || f.victim.AnonRSSBytes == nil {
		return nil
	}
	own, known := f.isOwnLimit()

	anon, whole := *f.victim.AnonRSSBytes, value(f.limiter.LimitBytes)
	hit := &finding{confidence: possible, evidence: []events.Evidence{
		item("anonymous memory of "+process(&f.victim.Process), phrase.Part(anon, whole), f.source(fromKernel)),
	}}

	switch h := f.heapLimit(); {
	case h != nil && (share(h.bytes, whole) >= heapShare || share(less(anon, h.bytes), whole) < uncountedShare):
		return nil
	case h != nil:
		hit.confidence = likely

		given := h.String()
		if f.program.ReadOf != 0 && !h.preset {
			given = f.givenTo() + " " + given
		}

		hit.text = fmt.Sprintf("%s had %s in anonymous memory and %s: at least %s is memory that its runtime does not count "+
			"towards the %s.", process(&f.victim.Process), phrase.PartOf(anon, whole, f.limit()), given, phrase.Size(anon-h.bytes), h.of)
		hit.brief = phrase.Size(anon-h.bytes) + " or more is outside of the " + h.of
		hit.evidence = append(hit.evidence, h.item())
	case share(anon, whole) < runtimeShare, known && !own: // a runtime derives its heap's limit from its own cgroup
		return nil
	default:
		hit.text = fmt.Sprintf("%s had %s in anonymous memory, more than a heap is usually given. Part of it may be memory that "+
			"its runtime does not count towards the heap.", process(&f.victim.Process), phrase.PartOf(anon, whole, f.limit()))
		hit.brief = "part of its " + phrase.Size(anon) + " is outside the heap"
		hit.add("heap limit", usual, "the runtime's documentation")
	}

	if thread := f.compilerThread(); thread != "" {
		hit.add("thread whose allocation failed", thread+", the JIT compiler", f.source(fromKernel))
	}

	return hit
}

// compilerThread is the name of the JIT compiler's thread if it was that thread whose
// allocation failed.
func (f *facts) compilerThread() string {
	t := f.trigger
	if t == nil || t.PID != f.victim.PID || !strings.Contains(cmp.Or(t.Thread, t.Comm), "Compiler") {
		return ""
	}

	return phrase.ClipName(t.Thread)
}
