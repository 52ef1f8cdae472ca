// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
)

// nodeStateOf parses a report of the node with a block of memory, and returns its state.
func nodeStateOf(t *testing.T, block string) *events.NodeState {
	t.Helper()

	text := headerOf("hog", 7) + "Mem-Info:\n" + block +
		"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=hog,pid=7,uid=0\n"

	list := parse(t, text, Options{})
	if len(list) != 1 || list[0].NodeState == nil {
		t.Fatalf("got %d incidents, want one with a node state", len(list))
	}

	return list[0].NodeState
}

// Kernels without CONFIG_NUMA print no node before a zone.
func TestZonesWithoutNUMANodes(t *testing.T) {
	state := nodeStateOf(t, "active_anon:1 inactive_anon:2 isolated_anon:0\n"+
		"Normal free:2000kB min:3000kB low:4000kB high:5000kB present:65536kB managed:60000kB free_cma:16kB\n"+
		"lowmem_reserve[]: 0 0\n"+
		"Normal: 500*4kB (UM) 0*8kB = 2000kB\n"+
		"16384 pages RAM\n0 pages reserved\n")

	want := []events.Zone{{
		Zone: "Normal", FreeBytes: new(uint64(2000 << 10)), MinBytes: new(uint64(3000 << 10)), LowBytes: new(uint64(4000 << 10)),
		HighBytes: new(uint64(5000 << 10)), ManagedBytes: new(uint64(60000 << 10)), FreeCMABytes: new(uint64(16 << 10)),
		ReserveBytes: []uint64{0, 0}, FreeBlocks: []uint64{500, 0},
	}}
	if !reflect.DeepEqual(state.Zones, want) {
		t.Errorf("got zones %+v, want %+v", state.Zones, want)
	}
}

func TestHugePagesAreAddedUpBySize(t *testing.T) {
	state := nodeStateOf(t, "Node 0 hugepages_total=2 hugepages_free=1 hugepages_surp=0 hugepages_size=1048576kB\n"+
		"Node 0 hugepages_total=10 hugepages_free=4 hugepages_surp=0 hugepages_size=2048kB\n"+
		"Node 1 hugepages_total=3 hugepages_free=0 hugepages_surp=0 hugepages_size=1048576kB\n"+
		"Node 1 hugepages_total=0 hugepages_free=0 hugepages_surp=0 hugepages_size=64kB\n")

	want := []events.HugePages{{SizeBytes: 1 << 30, Total: 5, Free: 1}, {SizeBytes: 2 << 20, Total: 10, Free: 4}}
	if !slices.Equal(state.HugePages, want) || *state.HugetlbBytes != 5<<30+20<<20 || *state.HugetlbFreeBytes != 1<<30+8<<20 {
		t.Errorf("got %+v of %d bytes, %d free, want %+v", state.HugePages, *state.HugetlbBytes, *state.HugetlbFreeBytes, want)
	}
}

func TestAllocationSitesAreRead(t *testing.T) {
	state := nodeStateOf(t, "16384 pages RAM\n0 pages reserved\nMemory allocations (profiling is currently turned on):\n"+
		"     1.50 GiB   393216 drivers/net/x.c:77 [xnet] func:x_alloc_rx\n"+
		"     22.8 MiB     5833 mm/slub.c:2305 func:alloc_slab_page\n"+
		"      many MiB     5833 mm/slub.c:2305 func:alloc_slab_page\n"+
		"     9.00 ZiB     5833 mm/slub.c:2305 func:alloc_slab_page\n"+
		"     22.8 MiB     5833 "+strings.Repeat("x", 500)+".c:1 func:alloc_slab_page\n")

	want := []events.AllocationSite{
		{Bytes: 3 << 29, Count: 393216, Location: "drivers/net/x.c:77", Module: "xnet", Function: "x_alloc_rx"},
		{Bytes: 23907532, Count: 5833, Location: "mm/slub.c:2305", Function: "alloc_slab_page"},
	}
	if !slices.Equal(state.AllocationSites, want) {
		t.Errorf("got sites %+v, want %+v", state.AllocationSites, want)
	}
}

// A line of the OOM reaper may be of a process whose kill the log lacks.
func TestTheReaperOfAnUnknownVictimIsNoted(t *testing.T) {
	list := parse(t, readFile(t, "testdata/node/node-movable.txt"), Options{})
	if len(list) != 1 {
		t.Fatalf("got %d incidents, want one", len(list))
	}

	want := "the OOM reaper was given cache[4200] as well, whose kill is not in this log"
	if !slices.Contains(list[0].Notes, want) {
		t.Errorf("got notes %q, want %q among them", list[0].Notes, want)
	}
}

// Locked memory and a swap cache are on the LRU lists once.
func TestUserMemoryIsCountedOnce(t *testing.T) {
	state := nodeStateOf(t, "active_anon:100 inactive_anon:200 isolated_anon:5\n active_file:10 inactive_file:20 isolated_file:1\n"+
		" unevictable:40 dirty:0 writeback:0\n mapped:0 shmem:30 pagetables:0\n"+
		"86 total pagecache pages\n15 pages in swap cache\n100000 pages RAM\n0 pages reserved\n")

	if state.FileBytes == nil || *state.FileBytes != 71*4096 || state.AnonBytes == nil || *state.AnonBytes != 305*4096 {
		t.Errorf("got page cache %v and anonymous memory %v, want 71 and 305 pages", state.FileBytes, state.AnonBytes)
	}
}

// The cause of a kill must not contradict the free memory that the same report shows.
func TestCausesOfReportsOfTheNode(t *testing.T) {
	for _, test := range []struct {
		file             string
		cause            string // the first; empty: none is certain
		confidence, text string
		not              []string
	}{
		{"zone-low", "low_zone", events.ConfidenceCertain,
			"Zone DMA ran out of memory (4.2 MiB free), while zone HighMem had 1.0 GiB free: this allocation (GFP_USER) may not use it.",
			[]string{"node_exhausted"}},
		{"node-movable", "movable_only", events.ConfidenceCertain,
			"All memory of NUMA node 4 is movable, 28.6 GiB of it free: this allocation (GFP_HIGHUSER) cannot be moved, " +
				"and may use none of it.",
			[]string{"cpuset_exhausted", "node_exhausted"}},
		{"memory-nowhere", "unaccounted", events.ConfidenceLikely, "13.9 GiB (88 % of the node's memory) is in no counter", nil},
		{"hugetlb-in-use", "hugetlb_used", events.ConfidenceCertain,
			"Huge pages (hugetlb) hold 13.0 GiB (82 % of the node's memory): 13 of 1.0 GiB, all in use.", []string{"hugetlb"}},
		{"lone-kill", "", "", "", nil},
	} {
		t.Run(test.file, func(t *testing.T) {
			list := parse(t, readFile(t, "testdata/node/"+test.file+".txt"), Options{})
			if len(list) != 1 {
				t.Fatalf("got %d incidents, want one", len(list))
			}
			causes := diagnose.Diagnose(list[0], nil)

			for _, c := range causes {
				if slices.Contains(test.not, c.ID) || test.cause == "" && c.Confidence == events.ConfidenceCertain {
					t.Errorf("got cause %s, %s: %s, want none", c.ID, c.Confidence, c.Text)
				}
			}

			if test.cause == "" {
				return
			}

			if len(causes) == 0 || causes[0].ID != test.cause || causes[0].Confidence != test.confidence ||
				!strings.Contains(causes[0].Text, test.text) {
				t.Errorf("got causes %+v, want %s, %s, first: %s", causes, test.cause, test.confidence, test.text)
			}
		})
	}
}
