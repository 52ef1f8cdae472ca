// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func p64(n uint64) *uint64 { return &n }

const zoneinfo = `Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 9424
  pages free     3840
        boost    0
        min      33
        low      41
        high     49
        promo    57
        spanned  4095
        managed  3840
        protection: (0, 3019, 7499, 7499, 7499)
      nr_free_pages 3840
  pagesets
    cpu: 0
              count:    0
              high:     9999
              batch:    1
  node_unreclaimable:  0
  start_pfn:           1
Node 0, zone  Movable
  pages free     0
        min      32
        low      32
        high     32
        managed  0
Node 1, zone   Normal
  pages free     100
        min      10
        low      nonsense
        managed  200
`

const buddyinfo = `Node 0, zone      DMA      0      1      0      0      0      0      0      0      1      1      3 
Node 1, zone   Normal   6329   5356   3532   2238   1735   1265    702    414    222    142    710 
Node 9, zone   Normal   1
Node 1, zone
`

func TestZonesAreParsed(t *testing.T) {
	page := uint64(PageSize())
	got := Reader{Root: tree(t, map[string]string{"proc/zoneinfo": zoneinfo, "proc/buddyinfo": buddyinfo})}.zones()

	want := []events.Zone{
		{
			Node: 0, Zone: "DMA", FreeBytes: p64(3840 * page), MinBytes: p64(33 * page), LowBytes: p64(41 * page),
			HighBytes: p64(49 * page), ManagedBytes: p64(3840 * page), FreeBlocks: []uint64{0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 3},
		},
		{
			Node: 1, Zone: "Normal", FreeBytes: p64(100 * page), MinBytes: p64(10 * page), ManagedBytes: p64(200 * page),
			FreeBlocks: []uint64{6329, 5356, 3532, 2238, 1735, 1265, 702, 414, 222, 142, 710},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSlabsAreParsed(t *testing.T) {
	page := uint64(PageSize())
	root := tree(t, map[string]string{"proc/slabinfo": `slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
empty                  0      0    312   13    1 : tunables    0    0    0 : slabdata      0      0      0
inode_cache         1500   1600    600   26    4 : tunables    0    0    0 : slabdata     62     62      0
dentry            210000 210000    192   21    1 : tunables    0    0    0 : slabdata  10000  10000      0
torn              210000
`})

	want := []events.SlabCache{{Name: "dentry", Bytes: 10000 * page}, {Name: "inode_cache", Bytes: 62 * 4 * page}}
	if got := (Reader{Root: root}).slabs(5); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}

	if got := (Reader{Root: root}).slabs(1); len(got) != 1 || got[0].Name != "dentry" {
		t.Errorf("got %+v, want the largest cache alone", got)
	}
}

func TestTheStateIsRead(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 300 kB\nActive(file): 20 kB\nInactive(file): 22 kB\n" +
			"AnonPages: 5 kB\nSwapTotal: 0 kB\nHugePages_Total: 3\nHugePages_Free: 2\nHugepagesize: 2048 kB\nDirty: x kB\n",
		"proc/pressure/memory":                                       "some avg10=1.50 avg60=0.25 avg300=0.00 total=1\nfull avg10=nan avg60=0.00 avg300=0.00 total=1\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                 "always [madvise] never\n",
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

func TestLimitsOfAncestorsAreRead(t *testing.T) {
	root := tree(t, map[string]string{
		"v2/a/memory.current":        "1000\n",
		"v2/a/memory.max":            "max\n",
		"v2/a/memory.high":           "max\n",
		"v2/a/memory.oom.group":      "0\n",
		"v2/a/b/memory.current":      "900\n",
		"v2/a/b/memory.max":          "1024\n",
		"v2/a/b/memory.high":         "950\n",
		"v2/a/b/memory.peak":         "990\n",
		"v2/a/b/memory.swap.current": "0\n",
		"v2/a/b/memory.swap.max":     "0\n",
		"v2/a/b/memory.oom.group":    "1\n",

		"v1/a/memory.usage_in_bytes":       "900\n",
		"v1/a/memory.limit_in_bytes":       "9223372036854771712\n",
		"v1/a/memory.max_usage_in_bytes":   "950\n",
		"v1/a/memory.memsw.usage_in_bytes": "910\n",
		"v1/a/memory.memsw.limit_in_bytes": "2048\n",
	})
	r := Reader{
		Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"},
		Place: func(path string) (events.Level, *events.Workload) {
			return events.LevelPod, &events.Workload{Pod: path}
		},
	}

	ancestors, unknown := r.Ancestry("/a/b")
	if len(ancestors) != 2 {
		t.Fatalf("got ancestry %+v, want 2 cgroups", ancestors)
	}

	for i := range ancestors {
		ancestors[i].Cgroup.ID = 0
	}
	yes, no := true, false

	want := []events.Rung{
		{
			Cgroup: events.Cgroup{Path: "/a/b"}, Level: events.LevelPod, Workload: &events.Workload{Pod: "/a/b"},
			UsageBytes: p64(900), MaxBytes: p64(1024), HighBytes: p64(950), PeakBytes: p64(990),
			SwapUsageBytes: p64(0), SwapMaxBytes: p64(0), OOMGroup: &yes,
		},
		{
			Cgroup: events.Cgroup{Path: "/a"}, Level: events.LevelPod, Workload: &events.Workload{Pod: "/a"},
			UsageBytes: p64(1000), OOMGroup: &no,
		},
	}
	if !reflect.DeepEqual(ancestors, want) {
		t.Errorf("got  %+v\nwant %+v", ancestors, want)
	}

	if !slices.Equal(unknown, []string{"ladder.peak_bytes", "ladder.swap_usage_bytes", "ladder.swap_max_bytes"}) {
		t.Errorf("got unknown %v, want the keys of missing files", unknown)
	}

	r.Layout = Layout{MemoryVersion: 1, HierarchyID: 4, MemoryMount: root + "/v1", MountRoot: "/"}

	ancestors, unknown = r.Ancestry("/a")
	if len(ancestors) != 1 || ancestors[0].MaxBytes != nil || value(ancestors[0].SwapMaxBytes) != 2048 || value(ancestors[0].PeakBytes) != 950 ||
		ancestors[0].Cgroup.Hierarchy != 4 || len(unknown) != 0 {
		t.Errorf("got %+v, unknown %v in cgroup v1, want its limits", ancestors, unknown)
	}

	if ancestors, unknown := (Reader{}).Ancestry("/a"); ancestors != nil || !slices.Equal(unknown, []string{"ladder"}) {
		t.Errorf("got %+v, %v without cgroups, want all unknown", ancestors, unknown)
	}

	nested := Layout{MemoryMount: "/x", MountRoot: "/docker/abc"}
	if got := nested.Above("/docker/abc/kubepods/pod"); !slices.Equal(got, []string{"/docker/abc/kubepods/pod", "/docker/abc/kubepods"}) {
		t.Errorf("got %v below another root, want its descendants only", got)
	}

	if got := nested.Above("/../.."); len(got) != 0 {
		t.Errorf("got %v for the root, want none", got)
	}
}

func TestTheChargeIsRead(t *testing.T) {
	root := tree(t, map[string]string{
		"v2/a/memory.stat": "anon 1\nfile 2\nkernel 99\nkernel_stack 3\npagetables 4\npercpu 5\nsock 6\nshmem 7\nfile_dirty 8\nfile_writeback 9\n" +
			"anon_thp 10\ninactive_file 11\nactive_file 12\nunevictable 13\nslab_reclaimable 14\nslab_unreclaimable 15\nslab 29\n",
		"v2/old/memory.stat":                  "anon 1\nslab_reclaimable 14\nslab_unreclaimable 15\n",
		"v1/a/memory.stat":                    "rss 1000\ncache 1000\ntotal_rss 1\ntotal_cache 2\ntotal_shmem 7\ntotal_dirty 8\ntotal_inactive_file 11\n",
		"v1/a/memory.kmem.tcp.usage_in_bytes": "6\n",
	})
	r := Reader{Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"}}

	want := &events.Memory{
		AnonBytes: p64(1), FileBytes: p64(2), KernelStackBytes: p64(3), PagetablesBytes: p64(4), PercpuBytes: p64(5), SockBytes: p64(6),
		ShmemBytes: p64(7), FileDirtyBytes: p64(8), FileWritebackBytes: p64(9), AnonTHPBytes: p64(10), InactiveFileBytes: p64(11),
		ActiveFileBytes: p64(12), UnevictableBytes: p64(13), SlabReclaimableBytes: p64(14), SlabUnreclaimableBytes: p64(15), SlabBytes: p64(29),
	}
	if got := r.Charge("/a"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v in cgroup v2, want the numbers of memory.stat", got)
	}

	if got := r.Charge("/old"); value(got.SlabBytes) != 29 || got.FileBytes != nil {
		t.Errorf("got %+v without slab, want the sum of its parts", got)
	}
	r.Layout.MemoryVersion, r.Layout.MemoryMount = 1, root+"/v1"

	want = &events.Memory{
		AnonBytes: p64(1), FileBytes: p64(2), ShmemBytes: p64(7), FileDirtyBytes: p64(8), InactiveFileBytes: p64(11), SockBytes: p64(6),
	}
	if got := r.Charge("/a"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v in cgroup v1, want the totals", got)
	}

	if got := r.Charge("/gone"); got != nil {
		t.Errorf("got %+v without files, want nil", got)
	}
}

func TestEventsOfCgroupsAreRead(t *testing.T) {
	root := tree(t, map[string]string{
		"v2/a/memory.events":       "low 0\nhigh 5\nmax 9\noom 3\noom_kill 1\noom_group_kill 1\n",
		"v2/a/memory.events.local": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
		"v1/a/memory.failcnt":      "7\n",
		"v1/a/memory.oom_control":  "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	})

	r := Reader{Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"}}
	if e := r.Events("/a", false); e == nil || value(e.High) != 5 || value(e.OOMGroupKill) != 1 {
		t.Errorf("got %+v, want the numbers of memory.events", e)
	}

	if e := r.Events("/a", true); e == nil || e.OOM == nil || *e.OOM != 0 || e.OOMGroupKill != nil {
		t.Errorf("got local %+v, want the numbers of memory.events.local", e)
	}

	r.Layout.MemoryVersion, r.Layout.MemoryMount = 1, root+"/v1"
	if e := r.Events("/a", false); e != nil {
		t.Errorf("got %+v with descendants in cgroup v1, want nil", e)
	}

	if e := r.Events("/a", true); e == nil || value(e.Max) != 7 || value(e.OOMKill) != 2 || e.High != nil {
		t.Errorf("got %+v in cgroup v1, want failcnt and oom_kill", e)
	}
}

// processes writes a /proc, and other files beside it.
func processes(t testing.TB, statuses map[int]string, adj map[int]int, more map[string]string) string {
	files := map[string]string{
		// 1000 MiB of RAM and 24 MiB of swap.
		"proc/meminfo": "MemTotal: 1024000 kB\nSwapTotal: 24576 kB\n",
	}

	for pid, text := range statuses {
		dir := "proc/" + strconv.Itoa(pid)
		files[dir+"/status"] = text
		files[dir+"/oom_score_adj"] = strconv.Itoa(adj[pid]) + "\n"
		files[dir+"/cgroup"] = fmt.Sprintf("4:memory:/v1/%d\n0::/v2/%d\n", pid, pid)
	}

	maps.Copy(files, more)

	return testenv.Tree(t, files)
}

// status is of a process that has anon, swap and page tables, in KiB.
func status(comm string, anon, swap, pte int) string {
	return fmt.Sprintf("Name:\t%s\nVmRSS:\t%d kB\nRssAnon:\t%d kB\nRssFile:\t4 kB\nRssShmem:\t0 kB\nVmPTE:\t%d kB\nVmSwap:\t%d kB\nThreads:\t1\nVmRSS:\t9 kB\n",
		comm, anon+4, anon, pte, swap)
}

func TestCandidates(t *testing.T) {
	root := processes(t, map[int]string{
		1:  status("init", 900_000, 0, 100),
		2:  "Name:\tkthreadd\nThreads:\t1\n",
		3:  "Name:\tzombie\nState:\tZ (zombie)\n",
		10: status("small", 4000, 0, 40),
		11: status(`big\nname \\`, 400_000, 8192, 400),
		12: status("nice", 4000, 0, 40),
		13: status("sshd", 8000, 0, 40),
		14: status("protected", 500_000, 0, 40),
	}, map[int]int{12: 1000, 13: -1000, 14: -997}, nil)
	r := Reader{Root: root}

	c, err := r.Candidates(context.Background(), "", 3)
	if err != nil {
		t.Fatal(err)
	}
	page := PageSize() / 1024

	total := 1048576 / page
	if c.TotalPages != uint64(total) || c.Unread != 0 || c.LeftOut != 1 {
		t.Errorf("got %d pages in all, %d unread, %d left out, want %d, 0, 1", c.TotalPages, c.Unread, c.LeftOut, total)
	}
	type row struct {
		pid    int
		points int64
	}
	var got []row

	for _, p := range c.List {
		points := int64(-1)
		if p.Points != nil {
			points = *p.Points
		}
		got = append(got, row{p.PID, points})
	}

	want := []row{
		{12, int64((4004+40)/page + total/1000*1000)},
		{11, int64((400_004 + 8192 + 400) / page)},
		{10, int64((4004 + 40) / page)},
		{13, -1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	big := c.List[1]
	if big.Comm != "big\nname \\" || value(big.AnonRSSBytes) != 400_000*1024 || value(big.SwapBytes) != 8<<20 || big.RSSBytes != nil {
		t.Errorf("got %+v, want comm %q, 400000 KiB anonymous, 8 MiB swap and no RSS", big, "big\nname \\")
	}

	if spared := c.List[3]; !spared.Unkillable || *spared.OOMScoreAdj != -1000 {
		t.Errorf("got %+v, want it unkillable with oom_score_adj -1000", spared)
	}

	ended, cancel := context.WithCancel(context.Background())
	cancel()

	if c, err := r.Candidates(ended, "", 3); err != nil || len(c.List) != 0 || c.Unread != 8 {
		t.Errorf("out of time: got %+v and error %v, want no candidates, 8 unread", c, err)
	}
}

func TestCandidatesBelow(t *testing.T) {
	root := processes(t, map[int]string{10: status("a", 4000, 0, 40), 11: status("b", 8000, 0, 40), 12: status("other", 9000, 0, 40)}, map[int]int{10: 500}, map[string]string{
		"cg/pod/memory.max":          "104857600\n",
		"cg/pod/memory.swap.max":     "1048576\n",
		"cg/pod/cgroup.procs":        "",
		"cg/pod/c1/cgroup.procs":     "10\n0\n",
		"cg/pod/c1/sub/cgroup.procs": "11\n11\n77\n",
		"cg/other/cgroup.procs":      "12\n",
	})
	r := Reader{Root: root, Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/cg", MountRoot: "/"}}

	c, err := r.Candidates(context.Background(), "/pod", 9)
	if err != nil {
		t.Fatal(err)
	}

	if want := uint64(101 << 20 / PageSize()); c.TotalPages != want {
		t.Errorf("got %d pages in all, want %d", c.TotalPages, want)
	}

	if len(c.List) != 2 || c.List[0].PID != 10 || c.List[0].Cgroup.Path != "/pod/c1" || c.List[1].Cgroup.Path != "/pod/c1/sub" {
		t.Errorf("got %+v, want 10 in /pod/c1, then one in /pod/c1/sub", c.List)
	}

	if _, err := r.Candidates(context.Background(), "/gone", 9); err == nil {
		t.Error("got candidates of a cgroup that does not exist, want an error")
	}
}

func TestTotalPages(t *testing.T) {
	const ram, swap = 1000, 24 // MiB
	for _, test := range []struct {
		name    string
		version int
		files   map[string]string
		want    uint64 // MiB
	}{
		{"v2, no limit", 2, map[string]string{"cg/a/memory.max": "max\n"}, ram + swap},
		{"v2, swap not limited", 2, map[string]string{"cg/a/memory.max": "104857600\n", "cg/a/memory.swap.max": "max\n"}, 100 + swap},
		{"v2, no swap for it", 2, map[string]string{"cg/a/memory.max": "104857600\n", "cg/a/memory.swap.max": "0\n"}, 100},
		{"v2, nobody swaps", 2, map[string]string{"cg/a/memory.max": "104857600\n", "proc/sys/vm/swappiness": "0\n"}, 100},
		{"v1, swap not limited", 1, map[string]string{"cg/a/memory.limit_in_bytes": "104857600\n"}, 100 + swap},
		{"v1, both limited", 1, map[string]string{"cg/a/memory.limit_in_bytes": "104857600\n", "cg/a/memory.memsw.limit_in_bytes": "105906176\n"}, 101},
		{"v1, it does not swap", 1, map[string]string{"cg/a/memory.limit_in_bytes": "104857600\n", "cg/a/memory.swappiness": "0\n"}, 100},
		{"v1, no limit", 1, map[string]string{"cg/a/memory.limit_in_bytes": "9223372036854771712\n"}, ram + swap},
	} {
		root := processes(t, nil, nil, test.files)

		r := Reader{Root: root, Layout: Layout{MemoryVersion: test.version, MemoryMount: root + "/cg", MountRoot: "/"}}
		if got := r.totalPages("/a") * uint64(PageSize()) >> 20; got != test.want {
			t.Errorf("%s: %d MiB, want %d", test.name, got, test.want)
		}
	}

	if got := (Reader{Root: t.TempDir()}).totalPages(""); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}

// hogMiB is what the hog of TestLivingHog takes.
const hogMiB = 64

// TestHog is not a test: it is the process that TestLivingHog looks at.
func TestHog(t *testing.T) {
	if os.Getenv("OOMTRACE_TEST_HOG") == "" {
		t.Skip("only as a process of its own")
	}
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until it is in its cgroup
	// Populated by the kernel: what is written by Go is shadowed by the race detector.
	if _, err := syscall.Mmap(-1, 0, hogMiB<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE); err != nil {
		t.Fatal(err)
	}

	fmt.Println("\nfull")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestLivingHog compares with what the kernel itself says: the charge and the
// badness of a process whose memory is known.
func TestLivingHog(t *testing.T) {
	testenv.Root(t)

	layout, err := Cgroups()
	if err != nil {
		t.Fatal(err)
	}

	s, err := NewScratch(fmt.Sprintf("oomtrace-living-%d", os.Getpid()), 2*hogMiB<<20)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	hog := exec.Command(os.Args[0], "-test.run=^TestHog$")

	hog.Env = append(os.Environ(), "OOMTRACE_TEST_HOG=1")

	stdin, err := hog.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := hog.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := hog.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = hog.Wait()
	})

	pid := hog.Process.Pid
	if err := s.Add(pid); err != nil {
		t.Fatal(err)
	}

	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}

	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "full"; {
	}

	r := Reader{Layout: layout}
	const slack = 32 << 20 // Go's own memory, more under the race detector

	charge := r.Charge(s.Path())
	if charge == nil || value(charge.AnonBytes) < hogMiB<<20 || value(charge.AnonBytes) > hogMiB<<20+slack {
		t.Errorf("got charge %+v, want %d MiB anonymous, and at most %d MiB more", charge, hogMiB, slack>>20)
	}

	ancestors, _ := r.Ancestry(s.Path())
	if len(ancestors) == 0 || value(ancestors[0].MaxBytes) != 2*hogMiB<<20 || value(ancestors[0].UsageBytes) < hogMiB<<20 {
		t.Fatalf("got ancestry %+v, want a limit of %d MiB and a usage of %d MiB or more first", ancestors, 2*hogMiB, hogMiB)
	}

	below, err := r.Candidates(context.Background(), s.Path(), 5)
	if err != nil || len(below.List) != 1 || below.List[0].PID != pid {
		t.Fatalf("got candidates %+v and error %v, want process %d alone", below, err, pid)
	}

	got := below.List[0]
	if anon := value(got.AnonRSSBytes); anon < hogMiB<<20 || anon > hogMiB<<20+slack {
		t.Errorf("got %d bytes anonymous, want %d to %d", anon, hogMiB<<20, hogMiB<<20+slack)
	}

	if below.TotalPages != 2*hogMiB<<20/uint64(PageSize()) && value(r.State().SwapTotalBytes) == 0 {
		t.Errorf("got %d pages in all, want %d", below.TotalPages, 2*hogMiB<<20/uint64(PageSize()))
	}

	// Of the whole machine, the kernel reports the score of each process:
	// (1000 + points*1000/totalpages)*2/3 (fs/proc/base.c: proc_oom_score, since 5.9).
	all, err := r.Candidates(context.Background(), "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	found := false

	for _, c := range all.List {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score", c.PID))
		if err != nil || c.Points == nil {
			continue // it ended, or cannot be killed
		}

		score, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}

		want := (1000 + *c.Points*1000/int64(all.TotalPages)) * 2 / 3
		if diff := score - want; diff < -1 || diff > 1 {
			t.Errorf("%s[%d]: got %d points, a score of %d, want the kernel's, %d", c.Comm, c.PID, *c.Points, want, score)
		}
		found = found || c.PID == pid
	}

	if !found {
		t.Errorf("got no candidate of the node with PID %d, want one", pid)
	}
}

func BenchmarkState(b *testing.B) {
	layout, _ := Cgroups()

	r := Reader{Layout: layout}
	for b.Loop() {
		r.State()
	}
}

func BenchmarkCandidatesOfNode(b *testing.B) {
	layout, _ := Cgroups()
	r := Reader{Layout: layout}
	var n int

	for b.Loop() {
		c, err := r.Candidates(context.Background(), "", 10)
		if err != nil {
			b.Fatal(err)
		}
		n = len(c.List) + c.LeftOut
	}

	b.ReportMetric(float64(n), "processes")
}

// BenchmarkCandidates10000 is of files on a disk: what is ours of the cost, without
// what the kernel takes to write /proc.
func BenchmarkCandidates10000(b *testing.B) {
	statuses, adj := map[int]string{}, map[int]int{}
	for pid := 10; pid < 10_010; pid++ {
		statuses[pid], adj[pid] = status(strings.Repeat("x", 15), pid*16, 0, pid), pid%1000
	}

	r := Reader{Root: processes(b, statuses, adj, nil)}
	for b.Loop() {
		if _, err := r.Candidates(context.Background(), "", 10); err != nil {
			b.Fatal(err)
		}
	}
}
