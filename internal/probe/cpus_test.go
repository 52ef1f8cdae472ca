// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// The verifier walks each iteration of a loop over the CPUs. It must accept the programs
// for the largest machine, with all data that a kernel may offer.
func TestVerifierAcceptsManyCPUs(t *testing.T) {
	testenv.Root(t)

	for _, cpus := range []uint32{2, 512, 8192} { // 8192: the maximum of CONFIG_NR_CPUS on amd64
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			spec, err := bpf.LoadOomtrace()
			if err != nil {
				t.Fatal(err)
			}

			set := func(name string, value any) {
				if err := spec.Variables[name].Set(value); err != nil {
					t.Fatal(err)
				}
			}
			set("possible_cpus", cpus)
			set("attach_mode", uint32(bpf.AttachModeKprobe))

			for _, symbol := range DataSymbols {
				set(symbol, uint64(1)<<63) // the programs are loaded, but do not run
			}

			for name := range spec.Programs {
				if name != "signal_generate" && name != "user_signal" {
					delete(spec.Programs, name)
				}
			}

			c, err := ebpf.NewCollectionWithOptions(spec,
				ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
			if verifier := (*ebpf.VerifierError)(nil); errors.As(err, &verifier) {
				t.Fatalf("got %v, want the verifier to accept the programs", lastLine(verifier))
			}

			if err != nil {
				t.Fatal(err)
			}

			defer c.Close()

			for name, program := range c.Programs {
				t.Logf("%s: %s", name, program.VerifierLog)
			}
		})
	}
}

// The counts of stalls have a value for each possible CPU: their size is bounded by bytes.
func TestStallsAreBoundedByBytes(t *testing.T) {
	const value = int(unsafe.Sizeof(bpf.StallCount{}))

	for _, test := range []struct {
		cpus    int
		entries uint32
	}{{2, 16384}, {16, 3971}, {128, 496}, {512, 124}, {8192, 16}} {
		if got := stallEntries(value, test.cpus); got != test.entries {
			t.Errorf("%d possible CPUs: got room for %d counts (%d MiB), want %d",
				test.cpus, got, int(got)*value*test.cpus>>20, test.entries)
		}
	}
}

// What the kernel holds is counted: both rings at least, and little more than those and the
// counts of stalls.
func TestMemoryOfTheKernelIsCounted(t *testing.T) {
	testenv.Root(t)

	p, err := Open(Options{PageSize: 4096, Stalls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	const rings = 2 * 2 << 20

	bytes, ok := p.Memory()
	if !ok || bytes < rings || bytes > rings+stallBytes+8<<20 {
		t.Errorf("got %d bytes of the kernel, known %v; want more than the rings' %d, and at most %d",
			bytes, ok, rings, rings+stallBytes+8<<20)
	}

	t.Logf("%.1f MiB", float64(bytes)/(1<<20))
}
