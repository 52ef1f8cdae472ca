// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestTheStateIsRead(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 300 kB\nBuffers: 2 kB\nCached: 40 kB\n" +
			"SwapCached: 3 kB\nActive: 30 kB\nInactive: 23 kB\nActive(file): 20 kB\nInactive(file): 22 kB\nUnevictable: 1 kB\n" +
			"AnonPages: 5 kB\nSwapTotal: 0 kB\nKReclaimable: 9 kB\nSReclaimable: 8 kB\nSUnreclaim: 7 kB\nSecPageTables: 6 kB\n" +
			"Percpu: 11 kB\nVmallocUsed: 12 kB\nVmallocChunk: 0 kB\nCmaFree: 13 kB\nZswap: 14 kB\nBalloon: 15 kB\nHugePages_Total: 3\nHugePages_Free: 2\nHugepagesize: 2048 kB\nDirty: x kB\n" +
			"GPUActive: 64 kB\nGPUReclaim: 0 kB\n",
		"proc/pressure/memory":                                       "some avg10=1.50 avg60=0.25 avg300=0.00 total=1\nfull avg10=nan avg60=0.00 avg300=0.00 total=1\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                 "always [madvise] never\n",
		"sys/kernel/mm/lru_gen/min_ttl_ms":                           "1500\n",
		"proc/sys/vm/oom_kill_allocating_task":                       "0\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages":    "2\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages":      "3\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "1\n",
		"sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages":   "4\n",
		"proc/vmstat":                      "nr_free_pages 7\nnr_zspages 5\n",
		"proc/net/sockstat":                "sockets: used 9\nTCP: inuse 5 orphan 0 tw 0 alloc 7 mem 3\nUDP: inuse 4 mem 2\nRAW: inuse 0\n",
		"proc/spl/kstat/zfs/arcstats":      "name type data\nsize 4 900\ndata_size 4 500\nmetadata_size 4 70\nhdr_size 4 9\n",
		"sys/block/zram0/mm_stat":          "8192 4096 5120 0 9000 0 0 1 1\n",
		"sys/block/zram1/mm_stat":          "1000 400 512 0 900 0 0 0 0\n",
		"proc/allocinfo":                   allocinfo,
		"cg/kubepods.slice/memory.current": "700\n",
		"cg/kubepods.slice/memory.max":     "max\n",
		"cg/kubepods.slice/kubepods-burstable.slice/memory.current": "600\n",
		"cg/kubepods.slice/kubepods-burstable.slice/memory.max":     "650\n",
		"cg/kubepods.slice/kubepods-burstable.slice/x/memory.max":   "1\n",
		"cg/system.slice/kubelet.service/memory.current":            "50\n",
		"cg/system.slice/memory.current":                            "90\n",
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
		{"slab", s.SlabReclaimable, p64(8 * 1024)},
		{"reclaimable, not slab", s.MiscReclaimableBytes, p64(1024)},
		{"swap cache", s.SwapCacheBytes, p64(3 * 1024)},
		{"on the LRU lists", s.LRUBytes, p64(54 * 1024)},
		{"secondary page tables", s.SecPagetablesBytes, p64(6 * 1024)},
		{"per CPU", s.PercpuBytes, p64(11 * 1024)},
		{"vmalloc", s.VmallocBytes, p64(12 * 1024)},
		{"free CMA", s.FreeCMABytes, p64(13 * 1024)},
		{"zswap", s.ZswapBytes, p64(14 * 1024)},
		{"balloon", s.BalloonBytes, p64(15 * 1024)},
		{"zsmalloc", s.ZspagesBytes, p64(5 * uint64(PageSize()))},
		{"sockets", s.NetworkBytes, p64(5 * uint64(PageSize()))},
		{"ZFS", s.ZFSCacheBytes, p64(570)},
		{"page tables", s.PagetablesBytes, nil},
		{"hugetlb", s.HugetlbBytes, p64(3*2048*1024 + 4<<30)},
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

	z := s.ZRAM
	if z == nil || z.DataBytes != 9192 || z.UsedBytes != 5632 || value(z.PeakBytes) != 9900 || value(z.HugeBytes) != uint64(PageSize()) {
		t.Errorf("got zram %+v, want the sum of two devices", z)
	}

	pools := []events.HugePages{{SizeBytes: 1 << 30, Total: 4, Free: 1}, {SizeBytes: 2 << 20, Total: 3, Free: 2}}
	if !slices.Equal(s.HugePages, pools) {
		t.Errorf("got huge pages %+v, want %+v", s.HugePages, pools)
	}

	if len(s.AllocationSites) != 3 || s.AllocationSites[0].Location != "mm/slub.c:2305" {
		t.Errorf("got allocation sites %+v, want those of the file", s.AllocationSites)
	}

	if s.Ledger != nil {
		t.Errorf("got ledger %+v of counters that exceed the memory, want none", s.Ledger)
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

const allocinfo = `allocinfo - version: 1.0
#     <size>  <calls> <tag info>
           0        0 init/main.c:1314 func:do_initcalls
     4194304     1024 mm/slub.c:2305 func:alloc_slab_page
      524288      128 drivers/net/x.c:77 [xnet] func:x_alloc_rx
     1048576      256 mm/huge_memory.c:1 func:alloc_huge extra:1
     nonsense    1 a.c:1 func:a
        4096        1 func:b
`

// Before 5.19 /proc/meminfo does not have the pool of zswap, whose pages were in no counter.
func TestThePoolOfZswapIsReadOnOldKernels(t *testing.T) {
	const pool = "sys/kernel/debug/zswap/pool_total_size"

	for name, test := range map[string]struct {
		files map[string]string
		want  *uint64
	}{
		"old":   {map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n", pool: "8192\n"}, p64(8192)},
		"new":   {map[string]string{"proc/meminfo": "Zswap: 4 kB\n", pool: "8192\n"}, p64(4096)},
		"other": {map[string]string{"proc/meminfo": "MemTotal: 1000 kB\n"}, nil},
	} {
		if got := (Reader{Root: tree(t, test.files)}).State().ZswapBytes; !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, value(got), value(test.want))
		}
	}
}

func TestTheLargestAllocationSitesAreRead(t *testing.T) {
	got := parseAllocinfo(strings.NewReader(allocinfo), 2)

	want := []events.AllocationSite{
		{Bytes: 4194304, Count: 1024, Location: "mm/slub.c:2305", Function: "alloc_slab_page"},
		{Bytes: 1048576, Count: 256, Location: "mm/huge_memory.c:1", Function: "alloc_huge"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	if got := parseAllocinfo(strings.NewReader(allocinfo), 10); len(got) != 3 || got[2].Module != "xnet" || got[2].Function != "x_alloc_rx" {
		t.Errorf("got %+v, want three sites, the last of module xnet", got)
	}
}

// VmallocUsed is address space on old kernels, and 0 on others.
func TestVmallocIsMemoryOrNotKnown(t *testing.T) {
	for _, test := range []struct {
		text string
		want *uint64
	}{
		{"VmallocUsed: 100 kB\nVmallocChunk: 0 kB\n", p64(100 * 1024)},
		{"VmallocUsed: 100 kB\nVmallocChunk: 900 kB\n", nil},
		{"VmallocUsed: 0 kB\nVmallocChunk: 0 kB\n", nil},
		{"", nil},
	} {
		got := Reader{Root: tree(t, map[string]string{"proc/meminfo": test.text})}.Meminfo().VmallocBytes
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %d, want %d", test.text, value(got), value(test.want))
		}
	}
}

// TestTheLedgerOfThisMachineAddsUp: the counters of a real kernel are disjoint.
func TestTheLedgerOfThisMachineAddsUp(t *testing.T) {
	s := Reader{}.State()
	if s.TotalBytes == nil {
		t.Fatal("got no total of /proc/meminfo, want this machine's")
	}

	if s.Ledger == nil {
		t.Fatalf("got no ledger of %+v, want one", s)
	}

	sum := s.Ledger.UnaccountedBytes
	for _, e := range s.Ledger.Entries {
		sum += e.Bytes
	}

	if slack := *s.TotalBytes / 100; sum < *s.TotalBytes || sum > *s.TotalBytes+slack {
		t.Errorf("got entries that add up to %d, want about %d: %+v", sum, *s.TotalBytes, s.Ledger)
	}
}

// FuzzFiles parses text that others write.
func FuzzFiles(f *testing.F) {
	for _, text := range []string{zoneinfo, buddyinfo, allocinfo, "some avg10=1.50 avg60=0.25 avg300=0.00 total=1\n", "Name:\ta\nVmRSS:\t1 kB\n", "Node 0, zone  \nNode 0, zone"} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		zones, _ := parseZones(text, 4096)
		socketMemory(text, 4096)
		arcBuffers(text)
		parseAllocinfo(bytes.NewReader(text), 10)
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
