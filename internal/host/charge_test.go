// SPDX-License-Identifier: Apache-2.0

package host

import (
	"reflect"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

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
		ActiveFileBytes: p64(12), UnevictableBytes: p64(13), SlabReclaimableBytes: p64(14),
		SlabUnreclaimableBytes: p64(15), SlabBytes: p64(29),
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

func TestTheSplitIsRead(t *testing.T) {
	root := tree(t, map[string]string{
		"v2/a/memory.stat":                    "anon 100\nfile 50\nkernel_stack 3\npagetables 4\npercpu 5\nsock 6\nshmem 20\nslab 10\n",
		"v2/old/memory.stat":                  "anon 1\nfile 2\n",
		"v1/a/memory.stat":                    "total_rss 100\ntotal_cache 50\ntotal_shmem 20\n",
		"v1/a/memory.kmem.usage_in_bytes":     "22\n",
		"v1/a/memory.kmem.tcp.usage_in_bytes": "6\n",
		"v1/b/memory.stat":                    "total_rss 100\ntotal_cache 50\ntotal_shmem 20\n",
	})
	v1 := Layout{MemoryVersion: 1, MemoryMount: root + "/v1", MountRoot: "/"}
	v2 := Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"}
	want := &Split{AnonBytes: 100, FileBytes: 50, ShmemBytes: 20, KernelBytes: p64(28)}

	for _, c := range []struct {
		layout Layout
		path   string
		want   *Split
	}{
		{v2, "/a", want},
		{v2, "/old", nil},
		{v2, "/gone", nil},
		{v1, "/a", want},
		{v1, "/b", &Split{AnonBytes: 100, FileBytes: 50, ShmemBytes: 20}}, // without kernel memory: unknown, not 0
	} {
		if got := ReadSplit(c.layout, c.path); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s of cgroup v%d: got %+v, want %+v", c.path, c.layout.MemoryVersion, got, c.want)
		}
	}
}

func TestScannedMemoryIsReadWithThePartOfMemoryReclaim(t *testing.T) {
	page := uint64(PageSize())
	root := tree(t, map[string]string{
		"v2/a/memory.stat":    "anon 1\npgscan 100\npgscan_proactive 90\npgscan_kswapd 10\n",
		"v2/old/memory.stat":  "anon 1\npgscan 100\n",
		"v2/none/memory.stat": "anon 1\n",
		"v1/a/memory.stat":    "pgscan 100\n",
	})
	r := Reader{Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"}}

	for path, want := range map[string][2]*uint64{
		"/a": {p64(100 * page), p64(90 * page)}, "/old": {p64(100 * page), nil}, "/none": {nil, nil}, "/gone": {nil, nil},
	} {
		if all, proactive := r.Scanned(path); !reflect.DeepEqual([2]*uint64{all, proactive}, want) {
			t.Errorf("%s: got %v and %v, want %v", path, all, proactive, want)
		}
	}

	r.Layout.MemoryVersion, r.Layout.MemoryMount = 1, root+"/v1"
	if all, proactive := r.Scanned("/a"); all != nil || proactive != nil {
		t.Errorf("got %v and %v in cgroup v1, want nil", all, proactive)
	}
}

func TestEventsOfCgroupsAreRead(t *testing.T) {
	root := tree(t, map[string]string{
		"v2/a/memory.events":       "low 0\nhigh 5\nmax 9\noom 3\noom_kill 1\noom_group_kill 1\nsock_throttled 4\n",
		"v2/a/memory.events.local": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
		"v1/a/memory.failcnt":      "7\n",
		"v1/a/memory.oom_control":  "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	})

	r := Reader{Layout: Layout{MemoryVersion: 2, MemoryMount: root + "/v2", MountRoot: "/"}}
	if e := r.Events("/a", false); e == nil || value(e.High) != 5 || value(e.OOMGroupKill) != 1 || value(e.SockThrottled) != 4 {
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
