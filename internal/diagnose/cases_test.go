// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernellog"
)

// example reads an incident of testdata/cases: a kernel log, or the line of a recording.
func example(t *testing.T, name string) *incident {
	t.Helper()

	text, err := os.ReadFile(filepath.Join("testdata/cases", name))
	if err != nil {
		t.Fatal(err)
	}

	if filepath.Ext(name) == ".json" {
		inc := &incident{}
		if err := json.Unmarshal(text, inc); err != nil {
			t.Fatal(err)
		}

		return inc
	}

	var all []*incident

	if _, err := kernellog.Read(bytes.NewReader(text), kernellog.Options{}, func(inc *events.Incident) error {
		all = append(all, inc)
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	if len(all) != 1 {
		t.Fatalf("%s: got %d incidents, want 1", name, len(all))
	}

	return all[0]
}

// explained are the causes and the advice of an incident as text.
func explained(inc *incident) (causes, advice string) {
	var c, a strings.Builder

	for _, cause := range Diagnose(inc, nil) {
		c.WriteString(cause.ID + ", " + cause.Confidence + ": " + cause.Text + "\n")

		for _, line := range cause.Advice {
			a.WriteString(line.Layer + ": " + line.Text + "\n")
		}
	}

	return c.String(), a.String()
}

func TestCasesOfPrograms(t *testing.T) {
	for name, test := range map[string]struct {
		first       string   // the first cause
		not         []string // in causes or advice
		has, advice []string
	}{
		"limit-lowered-java.json": {
			first: "limit_lowered, certain: systemd[1] lowered the container's limit to 256.0 MiB",
			not:   []string{"heap", "runtime_uncounted", "own_limit", "-Xmx"},
		},
		"postgres-shared-buffers.txt": {
			first: "shared_memory, likely: Shared memory takes up 840.0 MiB (41 % of the container's limit)",
			not:   []string{"tmpfs", "emptyDir", "GOMEMLIMIT"},
			has:   []string{"named postgres, which share it", "own_limit, certain"},
			advice: []string{
				"application: PostgreSQL: shared_buffers, plus work_mem", "kubernetes: If the workload needs this much memory",
			},
		},
		"vm-pod-limit.txt": {
			first:  "vm_memory, likely: The VM qemu-system-x86[4711] had 2.1 GiB (96 % of the pod's limit): ",
			not:    []string{"ancestor_limit", "own_limit", "Give each container", "share this limit", "GOMEMLIMIT"},
			advice: []string{"kubernetes: Raise the overhead that is added to the guest's memory: overhead.podFixed"},
		},
		"vm-kvm-thread.txt": {
			first:  "vm_memory, likely: The VM CPU 2/KVM[4711] had",
			not:    []string{"ancestor_limit", "own_limit", "Give each container", "share this limit"},
			advice: []string{"additionalGuestMemoryOverheadRatio (KubeVirt)"},
		},
		"vm-kata-hypervisor.txt": {
			first:  "vm_memory, likely: The VM cloud-hyperviso[4711] had",
			not:    []string{"GOMEMLIMIT", "heap profile"},
			advice: []string{"overhead.podFixed of the RuntimeClass (Kata Containers)"},
		},
		"runc-init.txt": {
			first: "container_start, certain: The container's limit of 14.0 MiB is less than it takes to start a container: runc:[2:INIT][4711]",
			not:   []string{"VPA", "GOMEMLIMIT", "heap profile", "own_limit"},
			has:   []string{"before the container's own program ran"},
			advice: []string{
				"kubernetes: Raise the memory limit, and check its unit",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			causes, advice := explained(example(t, name))

			if !strings.HasPrefix(causes, test.first) {
				t.Errorf("got causes\n%swant them to start with %q", causes, test.first)
			}

			for _, words := range test.not {
				if strings.Contains(causes, words) || strings.Contains(advice, words) {
					t.Errorf("got causes\n%sand advice\n%swant nothing of %q", causes, advice, words)
				}
			}

			for _, words := range test.has {
				if !strings.Contains(causes, words) {
					t.Errorf("got causes\n%swant %q", causes, words)
				}
			}

			for _, words := range test.advice {
				if !strings.Contains(advice, words) {
					t.Errorf("got advice\n%swant %q", advice, words)
				}
			}
		})
	}
}
