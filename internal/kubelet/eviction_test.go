// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/testenv"
)

func TestThresholdsAreParsed(t *testing.T) {
	capacity := new(uint64(1000 << 20))
	for _, test := range []struct {
		text string
		want *uint64
		err  bool
	}{
		{"100Mi", new(uint64(100 << 20)), false},
		{"1G", new(uint64(1e9)), false},
		{"1.5Gi", new(uint64(3 << 29)), false},
		{"1e3", new(uint64(1000)), false},
		{"50%", new(uint64(500 << 20)), false},
		{"0%", nil, false},
		{"100%", nil, false},
		{"0", nil, true},
		{"-1Gi", nil, true},
		{"101%", nil, true},
		{"nan%", nil, true},
		{"much", nil, true},
		{"", nil, true},
	} {
		got, err := Threshold(map[string]string{signalMemory: test.text}, signalMemory, capacity)
		if !reflect.DeepEqual(got, test.want) || (err != nil) != test.err {
			t.Errorf("%q: got %v, %v, want %v, error %v", test.text, got, err, test.want, test.err)
		}
	}

	if got, err := Threshold(nil, signalMemory, capacity); got != nil || err != nil {
		t.Errorf("got %v, %v without a threshold, want nil", got, err)
	}
}

func TestMemoryIsComputedAsTheKubeletDoes(t *testing.T) {
	const meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 350 kB\n"
	v1 := map[string]string{
		"proc/meminfo":                      meminfo,
		"cg/memory.usage_in_bytes":          "716800\n", // 700 KiB
		"cg/memory.stat":                    "inactive_file 1\ntotal_inactive_file 204800\n",
		"cg/kubepods/memory.stat":           "total_inactive_file 102400\n",
		"cg/kubepods/memory.limit_in_bytes": "614400\n",
		"cg/kubepods/memory.usage_in_bytes": "512000\n",
	}

	v2 := map[string]string{
		"proc/meminfo":   meminfo,
		"cg/memory.stat": "anon 409600\nfile 307200\ninactive_file 204800\n",
		"cg/x.slice/x-kubepods.slice/memory.stat":    "inactive_file 102400\n",
		"cg/x.slice/x-kubepods.slice/memory.max":     "614400\n",
		"cg/x.slice/x-kubepods.slice/memory.current": "512000\n",
	}
	for _, test := range []struct {
		name    string
		version int
		config  Config
		files   map[string]string
		// in KiB, -1: unknown
		available, allocatable int64
	}{
		{"v1", 1, Config{EnforceNodeAllocatable: []string{"pods"}}, v1, 500, 200},
		{"v1, not enforced", 1, Config{EnforceNodeAllocatable: []string{}}, v1, 500, -1},
		{"v2, with a root", 2, Config{EnforceNodeAllocatable: []string{"pods"}, CgroupRoot: "/x"}, v2, 500, 200},
		{"v2, another root", 2, Config{EnforceNodeAllocatable: []string{"pods"}}, v2, 500, -1},
		{"v2 without memory.stat of the root", 2, Config{}, map[string]string{"proc/meminfo": meminfo, "cg/x": ""}, 100, -1},
		{"nothing", 2, Config{}, nil, -1, -1},
	} {
		root := testenv.Tree(t, test.files)
		m := test.config.Read(host.Reader{Root: root,
			Layout: host.Layout{MemoryVersion: test.version, MemoryMount: root + "/cg", MountRoot: "/"}})

		kib := func(n *uint64) int64 {
			if n == nil {
				return -1
			}

			return int64(*n / 1024)
		}
		if kib(m.AvailableBytes) != test.available || kib(m.AllocatableAvailableBytes) != test.allocatable {
			t.Errorf("%s: got available %d, allocatable %d, want %d, %d", test.name,
				kib(m.AvailableBytes), kib(m.AllocatableAvailableBytes), test.available, test.allocatable)
		}
	}
}

func TestThresholdsAreTracked(t *testing.T) {
	start := time.Date(2026, 8, 20, 14, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	memory := func(mib uint64) Memory {
		return Memory{CapacityBytes: new(uint64(1000 << 20)), AvailableBytes: new(mib << 20), MemAvailableBytes: new(uint64(1 << 20))}
	}

	config, err := parse([][]byte{[]byte(`{evictionHard: {memory.available: 100Mi}, evictionSoft: {memory.available: 30%},
		evictionSoftGracePeriod: {memory.available: 1m30s}}`)}, nil, []string{"a file"})
	if err != nil {
		t.Fatal(err)
	}

	tracker := NewEvictionTracker(config, host.Reader{})
	for second, mib := range []uint64{500, 290, 250, 99, 90, 80, 70, 60} {
		tracker.observe(at(float64(second)), memory(mib))
	}

	tracker.observe(at(8), memory(800)) // the kill has freed it

	e := tracker.Eviction(at(7.2), true)
	if *e.AvailableBytes != 60<<20 || *e.HardBytes != 100<<20 || *e.SoftBytes>>20 != 300 ||
		*e.HardSinceNS != 4_200_000_000 || *e.SoftSinceNS != 6_200_000_000 || *e.MemAvailableBytes != 1<<20 {
		t.Errorf("got %+v, want 60 MiB available for 4.2 s below the hard and 6.2 s below the soft threshold", e)
	}

	if want := "eviction lost the race by 4.2s: memory.available 60Mi, below evictionHard 100Mi for 4.2s (the kubelet checks every 10s); " +
		"below evictionSoft 30% for 6.2s, grace period 1m30s"; e.Text != want {
		t.Errorf("got %q, want %q", e.Text, want)
	}

	if e.Signals["evictionHard.memory.available"] != "100Mi" || e.Source != "a file" {
		t.Errorf("got %+v, want the hard threshold and the source", e)
	}

	if e := tracker.Eviction(at(8), true); e.HardSinceNS != nil || e.SoftSinceNS != nil || e.Text != "memory.available 800Mi, 700Mi above evictionHard 100Mi" {
		t.Errorf("got %+v, want no threshold crossed", e)
	}

	if e := tracker.Eviction(at(7.2), false); strings.Contains(e.Text, "lost the race") {
		t.Errorf("got %q, want no race without a shortage of the node", e.Text)
	}
	// Without a sample near it, only thresholds are returned.
	for _, when := range []time.Time{at(-1), at(60)} {
		if e := tracker.Eviction(when, true); e.AvailableBytes != nil || !strings.Contains(e.Text, "was not sampled") || len(e.Signals) == 0 {
			t.Errorf("got %+v, want thresholds alone", e)
		}
	}
	// A threshold that was crossed before a gap may have recovered in it.
	tracker.observe(at(20), memory(50))
	tracker.observe(at(40), memory(50))

	if e := tracker.Eviction(at(41), true); *e.HardSinceNS != 1e9 {
		t.Errorf("got %+v, want 1 s", e)
	}

	for i := range 1000 {
		tracker.observe(at(50+float64(i)), memory(50))
	}

	if len(tracker.samples) != maxSamples {
		t.Errorf("got %d samples, want %d", len(tracker.samples), maxSamples)
	}

	if e := tracker.Eviction(at(1049), true); *e.HardSinceNS < 999e9 {
		t.Errorf("got %+v, want a time that outlives the samples", e)
	}
}

func TestTheLimitOfAllPodsIsTracked(t *testing.T) {
	now := time.Date(2026, 8, 20, 14, 0, 0, 0, time.UTC)
	config, _ := parse(nil, nil, nil)
	tracker := NewEvictionTracker(config, host.Reader{})
	tracker.observe(now, Memory{
		CapacityBytes: new(uint64(8 << 30)), AvailableBytes: new(uint64(2 << 30)),
		AllocatableBytes: new(uint64(6 << 30)), AllocatableAvailableBytes: new(uint64(50 << 20)),
	})

	e := tracker.Eviction(now.Add(2*time.Second), true)
	if e.HardSinceNS != nil || !strings.Contains(e.Text, "lost the race by 2s") ||
		!strings.Contains(e.Text, "all pods: allocatableMemory.available 50Mi of 6Gi, below evictionHard for 2s") {
		t.Errorf("got %+v, want the limit of all pods crossed for 2 s", e)
	}

	config.EvictionHard = map[string]string{"nodefs.available": "5%"}
	tracker = NewEvictionTracker(config, host.Reader{})
	tracker.observe(now, Memory{CapacityBytes: new(uint64(8 << 30)), AvailableBytes: new(uint64(1))})

	if e := tracker.Eviction(now, true); e.HardSinceNS != nil || !strings.Contains(e.Text, "evictionHard has no memory.available") {
		t.Errorf("got %+v, want no threshold of memory", e)
	}
}

func TestANilTrackerReturnsNothing(t *testing.T) {
	tracker := NewEvictionTracker(nil, host.Reader{})
	tracker.Sample(time.Now())

	if tracker != nil || tracker.Eviction(time.Now(), true) != nil || tracker.Now(time.Now()) != nil {
		t.Error("got a result without a kubelet, want nil")
	}
}

func BenchmarkSample(b *testing.B) {
	layout, err := host.Cgroups()
	if err != nil {
		b.Skip(err)
	}
	config, _ := parse(nil, nil, nil)

	tracker := NewEvictionTracker(config, host.Reader{Layout: layout})
	for b.Loop() {
		tracker.Sample(time.Now())
	}
}
