// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"slices"
	"testing"
)

func TestSelectionHas(t *testing.T) {
	const kernel = "amd64-6.12"

	for _, test := range []struct {
		pattern string
		path    []string
		want    bool
	}{
		{"", []string{"TestKernels", kernel, "tmpfs", "fentry"}, true},
		{"Kernels", []string{"TestKernels", kernel, "tmpfs"}, true},
		{"Power", []string{"TestKernels", kernel}, false},
		{"Kernels/6.12/memcg-leaf/fentry", []string{"TestKernels", kernel}, true},
		{"Kernels/6.12/memcg-leaf/fentry", []string{"TestKernels", kernel, "memcg-leaf", "fentry"}, true},
		{"Kernels/6.12/memcg-leaf/fentry", []string{"TestKernels", kernel, "memcg-leaf", "kprobe"}, false},
		{"Kernels/6.12/memcg-leaf/fentry", []string{"TestKernels", kernel, "tmpfs", "fentry"}, false},
		{"Kernels/6.12/memcg-leaf/fentry", []string{"TestKernels", "amd64-5.10"}, false},
		{"Kernels/6.12/(tmpfs|slab)", []string{"TestKernels", kernel, "slab"}, true},
		{"Kernels/6.12/(tmpfs|slab)", []string{"TestKernels", kernel, "burst"}, false},
		{"Power|Kernels/6.12/tmpfs", []string{"TestKernels", kernel, "tmpfs"}, true},
		{"Power|Kernels/6.12/tmpfs", []string{"TestKernels", kernel, "slab"}, false},
		{"Kernels//[/|]", []string{"TestKernels", kernel, "slab"}, false},
	} {
		if got := parseSelection(test.pattern).Has(test.path...); got != test.want {
			t.Errorf("pattern %q, path %q: got %v, want %v", test.pattern, test.path, got, test.want)
		}
	}
}

func TestSelectionBelow(t *testing.T) {
	scenarios := []string{"pod-limit", "pod-limit-group", "loop"}

	for _, test := range []struct {
		pattern string
		want    []string
	}{
		{"", scenarios},
		{"^TestPods$/^cgroupfs$", scenarios},
		{"^TestPods$/^cgroupfs$/pod", []string{"pod-limit", "pod-limit-group"}},
		{"^TestPods$/^cgroupfs$/^(pod-limit|loop)$", []string{"pod-limit", "loop"}},
		{"^TestPods$/^systemd$/loop", nil},
		{"^TestPods$/^cgroupfs$/lop", nil},
	} {
		if got := parseSelection(test.pattern).below("TestPods/cgroupfs", scenarios); !slices.Equal(got, test.want) {
			t.Errorf("pattern %q: got %q, want %q", test.pattern, got, test.want)
		}
	}
}
