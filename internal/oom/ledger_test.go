// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"reflect"
	"slices"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

const (
	mib = uint64(1) << 20
	gib = uint64(1) << 30
)

// counted is a node of 16 GiB in which all but 100 MiB has a counter.
func counted() *events.NodeState {
	return &events.NodeState{
		TotalBytes: new(16 * gib), FreeBytes: new(gib), FreePCPBytes: new(20 * mib), AnonBytes: new(9 * gib), FileBytes: new(4 * gib),
		ShmemBytes: new(2 * gib), SlabReclaimable: new(gib / 2), SlabUnreclaimable: new(gib / 2), PagetablesBytes: new(100 * mib),
		KernelStackBytes: new(20 * mib), VmallocBytes: new(120 * mib), PercpuBytes: new(60 * mib), HugetlbBytes: new(uint64(0)),
		ZspagesBytes: new(500 * mib), ZRAM: &events.ZRAM{DataBytes: 2 * gib, UsedBytes: 480 * mib}, NetworkBytes: new(124 * mib),
		SwapCacheBytes: new(30 * mib), LRUBytes: new(13 * gib),
	}
}

func TestALedgerAddsUp(t *testing.T) {
	for _, test := range []struct {
		name        string
		change      func(*events.NodeState)
		unaccounted uint64
		missing     []string
	}{
		{"all known", func(*events.NodeState) {}, 100 * mib, nil},
		{"shmem is counted once, in the page cache", func(n *events.NodeState) { n.ShmemBytes = new(4 * gib) }, 100 * mib, nil},
		{"stacks are counted once, beside vmalloc", func(n *events.NodeState) { n.KernelStackBytes = new(60 * mib) }, 100 * mib, nil},
		{"a mapped swap cache is anonymous", func(n *events.NodeState) { n.SwapCacheBytes = new(gib) }, 100 * mib, nil},
		{"an unmapped swap cache", func(n *events.NodeState) { n.LRUBytes = new(13*gib + 30*mib) }, 70 * mib, nil},
		{"the pool of zsmalloc has zram's", func(n *events.NodeState) { n.ZRAM = nil }, 100 * mib, nil},
		{"a counter is missing", func(n *events.NodeState) { n.VmallocBytes, n.PercpuBytes = nil, nil }, 260 * mib,
			[]string{"vmalloc", "per-CPU memory"}},
		{"counters overlap a little", func(n *events.NodeState) { n.AnonBytes = new(9*gib + 200*mib) }, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := counted()
			test.change(n)

			got := NodeLedger(n)
			if got == nil || got.UnaccountedBytes != test.unaccounted || !slices.Equal(got.Missing, test.missing) {
				t.Fatalf("got %+v, want %d bytes in no counter and %v missing", got, test.unaccounted, test.missing)
			}

			sum := got.UnaccountedBytes
			for i, e := range got.Entries {
				sum += e.Bytes
				if i > 0 && e.Bytes > got.Entries[i-1].Bytes {
					t.Errorf("got entries %+v, want the largest first", got.Entries)
				}
			}

			if sum < *n.TotalBytes {
				t.Errorf("got a sum of %d, want that of all memory, %d", sum, *n.TotalBytes)
			}
		})
	}
}

func TestALedgerThatCannotAddUpIsAbsent(t *testing.T) {
	for name, change := range map[string]func(*events.NodeState){
		"no total":           func(n *events.NodeState) { n.TotalBytes = nil },
		"no free":            func(n *events.NodeState) { n.FreeBytes = nil },
		"no anonymous":       func(n *events.NodeState) { n.AnonBytes = nil },
		"no page cache":      func(n *events.NodeState) { n.FileBytes = nil },
		"half of the slab":   func(n *events.NodeState) { n.SlabReclaimable = nil },
		"more than there is": func(n *events.NodeState) { n.AnonBytes = new(10 * gib) },
		"more than 64 bits": func(n *events.NodeState) {
			n.TotalBytes, n.FreeBytes = new(uint64(1)<<63), new(uint64(1)<<63)
			n.AnonBytes, n.FileBytes = new(uint64(1)<<62), new(uint64(1)<<62)
		},
		"beyond a uint64": func(n *events.NodeState) { n.HugetlbBytes = new(^uint64(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			n := counted()
			change(n)

			before := *n
			if got := NodeLedger(n); got != nil {
				t.Errorf("got %+v, want none", got)
			}

			if !reflect.DeepEqual(before, *n) {
				t.Error("got changed counters, want them as they were")
			}
		})
	}
}

func TestZonesThatAnAllocationMayUse(t *testing.T) {
	for _, test := range []struct {
		name string
		gfp  uint32
		want []string
		cma  bool
	}{
		{"GFP_USER|__GFP_WRITE", 0x101cc0, []string{"DMA", "DMA32", "Normal"}, false},
		{"GFP_KERNEL", 0xcc0, []string{"DMA", "DMA32", "Normal"}, false},
		{"GFP_KERNEL|__GFP_MOVABLE", 0xcc8, []string{"DMA", "DMA32", "Normal"}, true},
		{"GFP_HIGHUSER", 0x100cc2, []string{"DMA", "DMA32", "Normal", "HighMem"}, false},
		{"GFP_HIGHUSER_MOVABLE", 0x100cca, []string{"DMA", "DMA32", "Normal", "HighMem", "Movable"}, true},
		{"GFP_KERNEL|GFP_DMA32", 0xcc4, []string{"DMA", "DMA32"}, false},
		{"GFP_KERNEL|GFP_DMA", 0xcc1, []string{"DMA"}, false},
		{"GFP_HIGHUSER_MOVABLE|GFP_DMA", 0x100ccb, []string{"DMA"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string

			for _, zone := range append(slices.Clone(zones), "Device", "") {
				if MayUse(test.gfp, zone) {
					got = append(got, zone)
				}
			}

			if !slices.Equal(got, test.want) || MayUseCMA(test.gfp) != test.cma {
				t.Errorf("got zones %v and CMA %v, want %v and %v", got, MayUseCMA(test.gfp), test.want, test.cma)
			}
		})
	}
}
