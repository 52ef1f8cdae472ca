// SPDX-License-Identifier: Apache-2.0

package host

import (
	"slices"
	"strings"
	"testing"
)

func TestProcessesOfACgroup(t *testing.T) {
	root := tree(t, map[string]string{
		"cg/pod/cgroup.procs":   "12\n0\n4194304\nnonsense\n7\n",
		"cg/large/cgroup.procs": strings.Repeat("1234567\n", 100),
		"proc/1/stat":           "", "proc/self/stat": "", "proc/20/stat": "",
	})
	r := Reader{Root: root, Layout: Layout{MemoryMount: root + "/cg"}}

	for path, want := range map[string][]int{
		"/pod": {12, 4194304, 7}, "/large": {1234567, 1234567, 1234567}, "/gone": nil,
	} {
		most := max(len(want), 1)
		if got := r.Processes(path, most); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}

	got := r.Processes("", 10)
	slices.Sort(got)

	if want := []int{1, 20}; !slices.Equal(got, want) {
		t.Errorf("got %v of all, want %v", got, want)
	}
}
