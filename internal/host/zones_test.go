// SPDX-License-Identifier: Apache-2.0

package host

import (
	"reflect"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

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
              count:    4
              high:     9999
              batch:    1
    cpu: 1
              count:    3
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
      nr_free_cma  60
`

const buddyinfo = `Node 0, zone      DMA      0      1      0      0      0      0      0      0      1      1      3 
Node 1, zone   Normal   6329   5356   3532   2238   1735   1265    702    414    222    142    710 
Node 9, zone   Normal   1
Node 1, zone
`

func TestZonesAreParsed(t *testing.T) {
	page := uint64(PageSize())
	got, pcp := Reader{Root: tree(t, map[string]string{"proc/zoneinfo": zoneinfo, "proc/buddyinfo": buddyinfo})}.zones()

	want := []events.Zone{
		{
			Node: 0, Zone: "DMA", FreeBytes: p64(3840 * page), MinBytes: p64(33 * page), LowBytes: p64(41 * page),
			HighBytes: p64(49 * page), ManagedBytes: p64(3840 * page), FreeBlocks: []uint64{0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 3},
			ReserveBytes: []uint64{0, 3019 * page, 7499 * page, 7499 * page, 7499 * page},
		},
		{
			Node: 1, Zone: "Normal", FreeBytes: p64(100 * page), MinBytes: p64(10 * page), ManagedBytes: p64(200 * page),
			FreeCMABytes: p64(60 * page), FreeBlocks: []uint64{6329, 5356, 3532, 2238, 1735, 1265, 702, 414, 222, 142, 710},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	if value(pcp) != 7*page {
		t.Errorf("got %d bytes on the lists of CPUs, want 7 pages", value(pcp))
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
