// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/oomtrace/oomtrace/bpf"
)

// attached is the link of a program.
type attached struct {
	link.Link
	program string
}

// loader loads programs into collections that share one set of maps. It keeps the
// links: one that is garbage collected detaches itself.
type loader struct {
	specs []*ebpf.CollectionSpec
	maps  map[string]*ebpf.Map
	kept  []*ebpf.Collection
	links []attached
	// types is the kernel's BTF, decoded once for all loads and released after them.
	types *btf.Cache
	// misses are the kernel's counts of missed runs by program, see missed.
	misses map[string]uint64
}

func newLoader(opts Options) (*loader, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs: %w", err)
	}

	oom, err := bpf.LoadOomtrace()
	if err != nil {
		return nil, fmt.Errorf("read the BPF programs: %w", err)
	}

	l := &loader{
		specs: []*ebpf.CollectionSpec{oom}, maps: make(map[string]*ebpf.Map), misses: make(map[string]uint64),
		types: btf.NewCache(),
	}
	if _, err := l.types.Kernel(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBTF, err)
	}

	if opts.Stalls {
		if err := l.addStalls(opts, cpus); err != nil {
			return nil, err
		}
	}

	if err := l.constant("possible_cpus", uint32(cpus)); err != nil {
		return nil, err
	}

	for _, symbol := range DataSymbols {
		if opts.Address == nil {
			break
		}

		if address, ok := opts.Address(symbol); ok {
			if err := l.constant(symbol, address); err != nil {
				return nil, err
			}
		}
	}

	if err := l.constant("memory_hierarchy", opts.MemoryHierarchy); err != nil {
		return nil, err
	}

	for _, spec := range l.specs {
		if err := l.createMaps(spec); err != nil {
			l.close()
			return nil, fmt.Errorf("create the BPF maps: %w: run as root or with CAP_BPF and CAP_PERFMON", err)
		}
	}

	return l, nil
}

// constant sets a constant in every object that has it.
func (l *loader) constant(name string, value any) error {
	for _, spec := range l.specs {
		if v := spec.Variables[name]; v != nil {
			if err := v.Set(value); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}

	return nil
}

const (
	// stallBytes limits the map of stalls, which has a value for each possible CPU, though
	// a small machine may have hundreds of those.
	stallBytes = 16 << 20
	maxStalls  = 16384
	minStalls  = 16
)

// stallEntries returns how many counts of stalls there is room for. What does not fit is
// counted as lost.
func stallEntries(valueBytes, cpus int) uint32 {
	return uint32(min(max(stallBytes/(valueBytes*cpus), minStalls), maxStalls))
}

// addStalls reads the object of stalls, and adapts it to the kernel and the number of CPUs.
func (l *loader) addStalls(opts Options, cpus int) error {
	spec, err := bpf.LoadStalls()
	if err != nil {
		return fmt.Errorf("read the BPF programs: %w", err)
	}

	l.specs = append(l.specs, spec)

	stalls := spec.Maps["stalls"]
	stalls.MaxEntries = stallEntries(int(stalls.ValueSize), cpus)

	storage := taskStorage(spec.Maps["stall_storage"])
	unused := "stall_hash"

	if !storage {
		unused = "stall_storage"
	}
	// The programs name both maps, so the other one must exist, too.
	spec.Maps[unused] = &ebpf.MapSpec{
		Name: unused, Type: ebpf.Hash, KeySize: 4, ValueSize: spec.Maps[unused].ValueSize, MaxEntries: 1,
	}

	return errors.Join(
		spec.Variables["task_storage"].Set(storage),
		spec.Variables["min_stall_ns"].Set(uint64(max(opts.MinStall, 0))),
	)
}

// taskStorage reports whether tracing programs can use task storage. It loads one that does:
// 5.11 and 5.12 have the map, for LSM programs only (a10787e6d58c).
func taskStorage(spec *ebpf.MapSpec) bool {
	storage, err := ebpf.NewMap(spec)
	if err != nil {
		return false
	}
	defer storage.Close()

	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "mm_vmscan_direct_reclaim_begin", License: "GPL",
		Instructions: asm.Instructions{
			asm.FnGetCurrentTaskBtf.Call(),
			asm.LoadMapPtr(asm.R1, storage.FD()),
			asm.Mov.Reg(asm.R2, asm.R0),
			asm.Mov.Imm(asm.R3, 0),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnTaskStorageGet.Call(),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	if err != nil {
		return false
	}

	program.Close()

	return true
}

// createMaps creates the maps of an object that no earlier one had.
func (l *loader) createMaps(spec *ebpf.CollectionSpec) error {
	only := spec.Copy()
	only.Programs, only.Variables = nil, nil
	shared := make(map[string]*ebpf.Map)

	for name := range only.Maps {
		if isGlobals(name) {
			delete(only.Maps, name)
		} else if m := l.maps[name]; m != nil {
			shared[name] = m
		}
	}

	c, err := ebpf.NewCollectionWithOptions(only, ebpf.CollectionOptions{MapReplacements: shared, Cache: l.types})
	if err != nil {
		return err
	}

	for name, m := range c.Maps {
		if shared[name] == nil {
			l.maps[name] = m
		} else {
			m.Close()
		}
	}

	return nil
}

// isGlobals reports whether a map is a section of global variables, by its name.
func isGlobals(name string) bool { return strings.HasPrefix(name, ".") }

// program returns the specification of a program and of its object; nil if unknown.
func (l *loader) program(name string) (*ebpf.CollectionSpec, *ebpf.ProgramSpec) {
	for _, spec := range l.specs {
		if p := spec.Programs[name]; p != nil {
			return spec, p
		}
	}

	return nil, nil
}

// load loads the named programs, which are of one object. They will be attached to the
// function attachTo; if that is empty, to the one that their section names.
func (l *loader) load(attachTo string, names ...string) (*ebpf.Collection, error) {
	from, _ := l.program(names[0])
	if from == nil {
		return nil, fmt.Errorf("find program %s: %w", names[0], os.ErrNotExist)
	}

	// Copied only as far as needed: each hook takes a load of its own. The constants
	// come with the variables, not with the maps that hold them.
	spec := &ebpf.CollectionSpec{
		Maps: from.Maps, Programs: make(map[string]*ebpf.ProgramSpec, len(names)), Variables: from.Variables,
		Types: from.Types, ByteOrder: from.ByteOrder,
	}
	for _, name := range names {
		p := from.Programs[name].Copy()
		if attachTo != "" {
			p.AttachTo = attachTo
		}

		spec.Programs[name] = p
	}

	shared := maps.Clone(l.maps)
	maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return spec.Maps[name] == nil })

	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared, Cache: l.types})
	if err != nil {
		return nil, err
	}

	l.kept = append(l.kept, c)

	return c, nil
}

// missed returns how often programs did not run since the last call, by program. An
// interrupted run of the same one was on the CPU (kernel/bpf/trampoline.c, 5.12); or the
// kernel skipped a kprobe, or had no instance left for a return, see countsKprobes. Without
// the privilege to read these counts nothing is known.
func (l *loader) missed() map[string]uint64 {
	counts := make(map[string]uint64)

	for _, c := range l.kept {
		for name, program := range c.Programs {
			if stats, err := program.Stats(); err == nil {
				counts[name] += stats.RecursionMisses
			}
		}
	}

	for _, a := range l.links {
		counts[a.program] += missedKprobes(a)
	}

	fresh := make(map[string]uint64)

	for name, count := range counts {
		if count > l.misses[name] {
			fresh[name] = count - l.misses[name]
			l.misses[name] = count
		}
	}

	return fresh
}

// complete sets the variable by which the programs know that all of them are attached.
func (l *loader) complete() error {
	for _, c := range l.kept {
		if attached := c.Variables["attached"]; attached != nil {
			if err := attached.Set(true); err != nil {
				return fmt.Errorf("start the BPF programs: %w", err)
			}
		}
	}

	return nil
}

// countsKprobes reports whether the kernel publishes how often a kprobe was skipped, as it
// does in the information on its link since 6.7 (kernel/bpf/syscall.c:
// bpf_perf_link_fill_kprobe).
func (l *loader) countsKprobes() bool {
	types, err := l.types.Kernel()
	if err != nil {
		return false
	}

	var info *btf.Func
	if err := types.TypeByName("bpf_get_perf_event_info", &info); err != nil {
		return false
	}

	proto, ok := info.Type.(*btf.FuncProto)

	return ok && slices.ContainsFunc(proto.Params, func(p btf.FuncParam) bool { return p.Name == "missed" })
}

// sleepingRings reports whether ring buffers take a lock that sleeps, in programs that must
// not: kernels with PREEMPT_RT before 6.12 and its stable updates (kernel/bpf/ringbuf.c,
// 8b62645b09f8). There spinlock_t is a mutex, and raw_spinlock_t, which the ring has since,
// is not.
func sleepingRings(types *btf.Spec) bool {
	var ring *btf.Struct
	if err := types.TypeByName("bpf_ringbuf", &ring); err != nil {
		return false
	}

	for _, m := range ring.Members {
		if m.Name != "spinlock" {
			continue
		}

		lock, ok := btf.UnderlyingType(m.Type).(*btf.Struct)

		return ok && slices.ContainsFunc(lock.Members, func(m btf.Member) bool {
			inner, ok := btf.UnderlyingType(m.Type).(*btf.Struct)
			return ok && strings.HasPrefix(inner.Name, "rt_mutex")
		})
	}

	return false
}

// missedKprobes returns the kernel's count for a kprobe; 0 if it does not publish one.
func missedKprobes(l link.Link) uint64 {
	info, err := l.Info()
	if err != nil {
		return 0
	}

	event := info.PerfEvent()
	if event == nil || event.Kprobe() == nil {
		return 0
	}

	return event.Kprobe().Missed
}

// memory returns how many bytes the kernel holds for maps, ring buffers and programs, by its
// own account; ok is false if it does not publish that.
func (l *loader) memory() (bytes uint64, ok bool) {
	counted := make(map[ebpf.MapID]bool)

	count := func(m *ebpf.Map) {
		info, err := m.Info()
		if err != nil {
			return
		}

		if id, known := info.ID(); known && counted[id] {
			return
		} else if known {
			counted[id] = true
		}

		if size, known := info.Memlock(); known {
			bytes, ok = bytes+size, true
		}
	}

	for _, m := range l.maps {
		count(m)
	}

	for _, c := range l.kept {
		for _, m := range c.Maps {
			count(m)
		}

		for _, p := range c.Programs {
			if info, err := p.Info(); err == nil {
				size, _ := info.Memlock()
				bytes += size
			}
		}
	}

	return bytes, ok
}

func (l *loader) close() error {
	var errs []error
	for _, k := range l.links {
		errs = append(errs, k.Close())
	}

	for _, c := range l.kept {
		c.Close()
	}

	for _, m := range l.maps {
		errs = append(errs, m.Close())
	}

	return errors.Join(errs...)
}
