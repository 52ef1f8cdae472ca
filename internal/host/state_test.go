// SPDX-License-Identifier: Apache-2.0

package host

import (
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestTheStateIsRead(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 300 kB\nActive(file): 20 kB\nInactive(file): 22 kB\n" +
			"AnonPages: 5 kB\nSwapTotal: 0 kB\nHugePages_Total: 3\nHugePages_Free: 2\nHugepagesize: 2048 kB\nDirty: x kB\n" +
			"GPUActive: 64 kB\nGPUReclaim: 0 kB\n",
		"proc/pressure/memory":                                       "some avg10=1.50 avg60=0.25 avg300=0.00 total=1\nfull avg10=nan avg60=0.00 avg300=0.00 total=1\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                 "always [madvise] never\n",
		"sys/kernel/mm/lru_gen/min_ttl_ms":                           "1500\n",
		"proc/sys/vm/oom_kill_allocating_task":                       "0\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages":    "2\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "1\n",
		"cg/kubepods.slice/memory.current":                           "700\n",
		"cg/kubepods.slice/memory.max":                               "max\n",
		"cg/kubepods.slice/kubepods-burstable.slice/memory.current":  "600\n",
		"cg/kubepods.slice/kubepods-burstable.slice/memory.max":      "650\n",
		"cg/kubepods.slice/kubepods-burstable.slice/x/memory.max":    "1\n",
		"cg/system.slice/kubelet.service/memory.current":             "50\n",
		"cg/system.slice/memory.current":                             "90\n",
	})
	r := Reader{Root: root, Layout: Layout{MemoryVersion: 2, MemoryMount: filepath.Join(root, "cg"), MountRoot: "/"}}

	s := r.State()
	for _, field := range []struct {
		name      string
		got, want *uint64
	}{
		{"total", s.TotalBytes, p64(1024000)},
		{"available", s.AvailableBytes, p64(300 * 1024)},
		{"file", s.FileBytes, p64(42 * 1024)},
		{"swap", s.SwapTotalBytes, p64(0)},
		{"dirty", s.DirtyBytes, nil},
		{"slab", s.SlabReclaimable, nil},
		{"hugetlb", s.HugetlbBytes, p64(3 * 2048 * 1024)},
		{"hugetlb free", s.HugetlbFreeBytes, p64(2*2048*1024 + 1<<30)},
	} {
		if !reflect.DeepEqual(field.got, field.want) {
			t.Errorf("%s: got %d, want %d", field.name, value(field.got), value(field.want))
		}
	}

	if s.PSISome == nil || *s.PSISome != (events.PSI{Avg10: 1.5, Avg60: 0.25}) || s.PSIFull != nil {
		t.Errorf("got PSI %+v, %+v, want those of the file", s.PSISome, s.PSIFull)
	}

	if value(s.MinTTLNS) != 1500e6 || s.KillAllocatingTask == nil || *s.KillAllocatingTask {
		t.Errorf("got min_ttl %v, oom_kill_allocating_task %v, want 1.5 s and false", s.MinTTLNS, s.KillAllocatingTask)
	}

	if value(s.GPUActiveBytes) != 64<<10 || value(s.GPUReclaimBytes) != 0 || s.GPUReclaimBytes == nil {
		t.Errorf("got GPU memory %v and %v, want 64 KiB and 0", s.GPUActiveBytes, s.GPUReclaimBytes)
	}

	if s.TransparentHuge != "madvise" || s.Zones != nil || s.Slabs != nil {
		t.Errorf("got %+v, want the values of the files", s)
	}

	var paths []string
	for _, c := range s.Cgroups {
		paths = append(paths, c.Cgroup.Path)
	}

	want := []string{"/kubepods.slice", "/kubepods.slice/kubepods-burstable.slice", "/system.slice", "/system.slice/kubelet.service"}
	if !slices.Equal(paths, want) {
		t.Errorf("got cgroups %v, want the largest of two levels", paths)
	}

	if s.Cgroups[0].MaxBytes != nil || value(s.Cgroups[1].MaxBytes) != 650 || s.Cgroups[0].Cgroup.ID == 0 {
		t.Errorf("got %+v, want usage and limit", s.Cgroups)
	}

	if s := (Reader{Root: t.TempDir()}).State(); !reflect.DeepEqual(s, &events.NodeState{}) {
		t.Errorf("got %+v without files, want nothing", s)
	}
}

// FuzzFiles parses text that others write.
func FuzzFiles(f *testing.F) {
	for _, text := range []string{zoneinfo, buddyinfo, "some avg10=1.50 avg60=0.25 avg300=0.00 total=1\n", "Name:\ta\nVmRSS:\t1 kB\n", "Node 0, zone  \nNode 0, zone"} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		zones := parseZones(text, 4096)
		addFreeBlocks(zones, text)
		parseSlabs(text, 4096)
		var p candidate
		p.status(text)
		p.score(1 << 20)
		chargeV1(text)
		chargeV2(text)
	})
}

func BenchmarkState(b *testing.B) {
	layout, _ := Cgroups()

	r := Reader{Layout: layout}
	for b.Loop() {
		r.State()
	}
}
