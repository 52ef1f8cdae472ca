// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/oomtrace/oomtrace/internal/testenv"
)

// This machine's verifier checks every program as it would be relocated on each kernel
// of the matrix: a field that the kernel lacks, and that no exists-check guards, is an
// invalid instruction there. Programs that need a function of that kernel to attach to
// are loaded as a type that does not.
//
// The BTF files have only the types that the programs use; after a change of those run
// make btf. A kernel of scripts/kernels.sh without such a file fails.
func TestProgramsRelocateOnEveryKernel(t *testing.T) {
	testenv.Root(t)

	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}

	kernels, err := exec.Command("../../scripts/kernels.sh", "--list").Output()
	if err != nil || len(kernels) == 0 {
		t.Fatalf("got kernels %q, error %v, want their names", kernels, err)
	}

	for _, name := range strings.Fields(string(kernels)) {
		t.Run(name, func(t *testing.T) {
			types, err := btf.LoadSpec(filepath.Join("testdata/btf", name+".btf"))
			if err != nil {
				t.Fatalf("got error %v, want the types of the kernel: make btf", err)
			}

			l, err := newLoader(Options{Stalls: true})
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()

			relocateAll(t, l, types)
		})
	}
}

// What a kernel may be built without is missing in its types.
func TestProgramsRelocateWithoutOptions(t *testing.T) {
	testenv.Root(t)

	for _, test := range []struct{ option, of, member string }{
		{"CONFIG_CPUSETS", "task_struct", "mems_allowed"},
		{"CONFIG_AUDIT", "task_struct", "loginuid"},
		{"CONFIG_NUMA", "zone", "node"},
		{"a level in each cgroup", "cgroup", "level"}, // no kernel lacks it yet
	} {
		t.Run(test.option, func(t *testing.T) {
			types, err := btf.LoadSpec("testdata/btf/amd64-6.12.btf")
			if err != nil {
				t.Fatal(err)
			}

			l, err := newLoader(Options{Stalls: true})
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()

			relocateAll(t, l, without(t, types, test.of, test.member))
		})
	}
}

// without returns types whose struct lacks a member.
func without(t *testing.T, types *btf.Spec, of, member string) *btf.Spec {
	t.Helper()

	var all []btf.Type

	removed := 0

	for typ, err := range types.All() {
		if err != nil {
			t.Fatal(err)
		}

		if s, ok := typ.(*btf.Struct); ok && s.Name == of {
			s.Members = slices.DeleteFunc(s.Members, func(m btf.Member) bool {
				if m.Name == member {
					removed++
				}

				return m.Name == member
			})
		}

		all = append(all, typ)
	}

	if removed == 0 {
		t.Fatalf("got no member %s of %s, want one to remove", member, of)
	}

	return specOf(t, all...)
}

func relocateAll(t *testing.T, l *loader, types *btf.Spec) {
	t.Helper()

	for _, spec := range l.specs {
		for name := range spec.Programs {
			if err := relocate(l, spec, name, types); err != nil {
				t.Errorf("%s: got %v, want the verifier to accept it", name, err)
			}
		}
	}
}

func relocate(l *loader, from *ebpf.CollectionSpec, name string, types *btf.Spec) error {
	spec := from.Copy()

	// Typed loads, which go with task storage, are checked by the types of this machine.
	if v := spec.Variables["task_storage"]; v != nil {
		if err := v.Set(false); err != nil {
			return err
		}
	}

	program := spec.Programs[name]
	if program.Type == ebpf.Tracing {
		// Its context is an array of numbers, as that of a raw tracepoint is.
		program.Type, program.AttachType = ebpf.RawTracepoint, ebpf.AttachNone
		program.AttachTo = "sys_enter"
	}

	spec.Programs = map[string]*ebpf.ProgramSpec{name: program}

	shared := maps.Clone(l.maps)
	maps.DeleteFunc(shared, func(name string, _ *ebpf.Map) bool { return spec.Maps[name] == nil })

	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		MapReplacements: shared,
		Programs:        ebpf.ProgramOptions{KernelTypes: types},
	})
	if err == nil {
		c.Close()
		return nil
	}

	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		log := verifier.Log

		return fmt.Errorf("%w\n%s", verifier.Cause, strings.Join(log[max(0, len(log)-12):], "\n"))
	}

	return err
}
