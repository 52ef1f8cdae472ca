// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/oomtrace/oomtrace/bpf"
)

// loader makes collections that share one set of maps, and keeps their links:
// a link that is garbage detaches itself.
type loader struct {
	spec  *ebpf.CollectionSpec
	maps  *ebpf.Collection
	kept  []*ebpf.Collection
	links []link.Link
	// misses is what the kernel said of each program, see missed.
	misses map[string]uint64
}

func newLoader(opts Options) (*loader, error) {
	spec, err := bpf.LoadOomtrace()
	if err != nil {
		return nil, fmt.Errorf("reading the programs: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("counting CPUs: %w", err)
	}
	l := &loader{spec: spec, misses: make(map[string]uint64)}
	if err := errors.Join(
		spec.Variables["possible_cpus"].Set(uint32(cpus)),
		spec.Variables["memory_hierarchy"].Set(opts.MemoryHierarchy),
	); err != nil {
		return nil, fmt.Errorf("setting constants: %w", err)
	}
	maps := spec.Copy()
	maps.Programs = nil
	for name := range maps.Maps {
		if isGlobals(name) {
			delete(maps.Maps, name)
		}
	}
	maps.Variables = nil
	if l.maps, err = ebpf.NewCollection(maps); err != nil {
		return nil, fmt.Errorf("creating BPF maps: %w: oomtrace needs root, or CAP_BPF and CAP_PERFMON", err)
	}
	return l, nil
}

// isGlobals tells the sections of global variables from maps by their names.
func isGlobals(name string) bool { return name[0] == '.' }

// load loads the named programs.
func (l *loader) load(names ...string) (*ebpf.Collection, error) {
	spec := l.spec.Copy()
	programs := make(map[string]*ebpf.ProgramSpec, len(names))
	for _, name := range names {
		programs[name] = spec.Programs[name]
	}
	spec.Programs = programs
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: l.maps.Maps})
	if err != nil {
		return nil, err
	}
	l.kept = append(l.kept, c)
	return c, nil
}

// missed tells how often programs did not run since the last call, because an
// interrupted run of the same one was in the way (kernel/bpf/trampoline.c, 5.12).
func (l *loader) missed() map[string]uint64 {
	fresh := make(map[string]uint64)
	for _, c := range l.kept {
		for name, program := range c.Programs {
			stats, err := program.Stats()
			if err != nil {
				continue // no privilege to ask is no loss
			}
			if count := stats.RecursionMisses; count != l.misses[name] {
				fresh["missed run of "+name] = count - l.misses[name]
				l.misses[name] = count
			}
		}
	}
	return fresh
}

func (l *loader) close() error {
	var errs []error
	for _, k := range l.links {
		errs = append(errs, k.Close())
	}
	for _, c := range l.kept {
		c.Close()
	}
	l.maps.Close()
	return errors.Join(errs...)
}
