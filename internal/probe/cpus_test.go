// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

// TestManyCPUs: the verifier walks each round of a loop over the CPUs. It must take the
// programs on the largest machine, with all data that a kernel may offer.
func TestManyCPUs(t *testing.T) {
	testenv.Root(t)

	for _, cpus := range []uint32{2, 512, 8192} { // 8192: the most that amd64 is built for
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
			set("decision_tier", uint32(bpf.OomtraceWireTierWIRE_TIER_KPROBE))

			for _, symbol := range DataSymbols {
				set(symbol, uint64(1)<<63) // it is loaded, and not run
			}

			for name := range spec.Programs {
				if name != "signal_generate" && name != "user_signal" {
					delete(spec.Programs, name)
				}
			}

			c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
			if verifier := (*ebpf.VerifierError)(nil); errors.As(err, &verifier) {
				t.Fatalf("%v", lastLine(verifier))
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
