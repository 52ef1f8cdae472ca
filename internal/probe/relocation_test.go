// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
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

			for _, spec := range l.specs {
				for name := range spec.Programs {
					if err := relocate(l, spec, name, types); err != nil {
						t.Errorf("%s: got %v, want the verifier to accept it", name, err)
					}
				}
			}
		})
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
