// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	grace := func(n int64) *int64 { return &n }
	for _, test := range []struct {
		line string
		want Finding
	}{
		{
			`I0820 14:03:07.412345    2480 eviction_manager.go:366] "Eviction manager: attempting to reclaim" resourceName="memory"`,
			Finding{What: FoundReclaim, Resource: "memory", Text: "Eviction manager: attempting to reclaim"},
		},
		{
			`Aug 20 14:03:07 worker-3 kubelet[2480]: I0820 14:03:07.412345    2480 eviction_manager.go:377] "Eviction manager: must evict pod(s) to reclaim" resourceName="memory"`,
			Finding{What: FoundMustEvict, Resource: "memory", Text: "Eviction manager: must evict pod(s) to reclaim"},
		},
		{
			`I0820 14:03:07.412345 2480 eviction_manager.go:395] "Eviction manager: pods ranked for eviction" pods="[shop/checkout kube-system/proxy]"`,
			Finding{What: FoundRanked, Text: "Eviction manager: pods ranked for eviction"},
		},
		{
			`I0820 14:03:07.412345 2480 eviction_manager.go:616] "Eviction manager: pod is evicted successfully" pod="shop/checkout"`,
			Finding{What: FoundEvicted, Pod: "shop/checkout", Text: "Eviction manager: pod is evicted successfully"},
		},
		{
			`E0820 14:03:07.412345 2480 eviction_manager.go:399] "Eviction manager: cannot evict a critical pod" pod="kube-system/etcd"`,
			Finding{What: FoundNotEvicted, Pod: "kube-system/etcd", Text: "Eviction manager: cannot evict a critical pod"},
		},
		{
			`W0820 14:03:07.412345 2480 eviction_manager.go:329] eviction manager: attempting to reclaim memory`,
			Finding{What: FoundReclaim, Resource: "memory", Text: "eviction manager: attempting to reclaim memory"},
		},
		{
			`I0820 14:03:07.412345 2480 eviction_manager.go:558] eviction manager: pod checkout-1_shop(dc6bd3a0-6883) is evicted successfully`,
			Finding{What: FoundEvicted, Pod: "shop/checkout-1", PodUID: "dc6bd3a0-6883", Text: "eviction manager: pod checkout-1_shop(dc6bd3a0-6883) is evicted successfully"},
		},
		{
			`I0820 14:03:07.412345 2480 kuberuntime_container.go:709] "Killing container with a grace period" pod="shop/checkout" podUID=27aff94d containerName="app" containerID="containerd://4296" gracePeriod=2`,
			Finding{
				What: FoundKilling, Pod: "shop/checkout", PodUID: "27aff94d", Container: "app", ContainerID: "4296", GraceSeconds: grace(2),
				Text: "Killing container with a grace period",
			},
		},
		{
			`I0820 14:03:07.412345 2480 prober.go:107] "Probe failed" probeType="Liveness" pod="shop/checkout" podUID=27aff94d containerName="app" probeResult="failure" output="HTTP probe failed \" x=y"`,
			Finding{What: FoundProbe, Pod: "shop/checkout", PodUID: "27aff94d", Container: "app", Probe: "Liveness", Text: "Probe failed"},
		},
		{
			`I0820 14:03:07.412345 2480 kubelet_node_status.go:696] "Recording event message for node" node="worker-3" event="NodeHasInsufficientMemory"`,
			Finding{What: FoundPressure, Text: "NodeHasInsufficientMemory"},
		},
		{
			`{"ts":1755698587412.5,"caller":"eviction/eviction_manager.go:616","msg":"Eviction manager: pod is evicted successfully","v":0,"pod":{"name":"checkout","namespace":"shop"}}`,
			Finding{
				Time: time.Date(2025, 8, 20, 14, 3, 7, 412_500_000, time.UTC), What: FoundEvicted, Pod: "shop/checkout",
				Text: "Eviction manager: pod is evicted successfully",
			},
		},
	} {
		got, ok := Line(test.line)
		if !ok {
			t.Errorf("nothing found in %s", test.line)
			continue
		}

		if want := time.Date(0, 8, 20, 14, 3, 7, 412_345_000, time.Local); test.want.Time.IsZero() && !got.Time.Equal(want) {
			t.Errorf("time %v of %s", got.Time, test.line)
		} else if !test.want.Time.IsZero() && !got.Time.Equal(test.want.Time) {
			t.Errorf("time %v of %s", got.Time, test.line)
		}

		got.Time, test.want.Time = time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", test.line, got, test.want)
		}
	}

	for _, line := range []string{
		"", "{", `{"msg":`, "oom", ".go:1] ", ".go:] x",
		`I0820 14:03:07.412345 2480 kubelet.go:2231] "SyncLoop (PLEG): event for pod" pod="default/nginx"`,
		`I0820 14:03:07.412345 2480 x.go:1] "Something" output="eviction manager: attempting to reclaim memory"`,
		`eviction manager: attempting to reclaim memory`, // not of klog: anybody may write so
	} {
		if f, ok := Line(line); ok {
			t.Errorf("%q is %+v", line, f)
		}
	}
}

func TestReadLog(t *testing.T) {
	near := time.Date(2026, 1, 1, 0, 0, 0, 0, time.Local)
	log := strings.Join([]string{
		`I1231 23:59:59.000000 1 eviction_manager.go:366] "Eviction manager: attempting to reclaim" resourceName="memory"`,
		`1755698587.412345 worker-3 kubelet[1]: I0101 00:00:00.000000 1 eviction_manager.go:377] "Eviction manager: must evict pod(s) to reclaim" resourceName="memory"`,
		strings.Repeat("x", 3*maxLine),
		`2026-01-01T00:00:01.5+01:00 worker-3 kubelet: I0101 00:00:00.000000 1 eviction_manager.go:616] "Eviction manager: pod is evicted successfully" pod="a/b"`,
		"no more",
	}, "\n")

	found, lines, err := Read(strings.NewReader(log), near, 10)
	if err != nil || lines != 5 || len(found) != 3 {
		t.Fatalf("%d lines, %+v, %v", lines, found, err)
	}

	for i, want := range []time.Time{
		time.Date(2025, 12, 31, 23, 59, 59, 0, time.Local),
		time.Date(2025, 8, 20, 14, 3, 7, 412_345_000, time.UTC),
		time.Date(2025, 12, 31, 23, 0, 1, 500_000_000, time.UTC),
	} {
		if !found[i].Time.Equal(want) {
			t.Errorf("%d: %v, want %v", i, found[i].Time, want)
		}
	}

	if found, lines, _ := Read(strings.NewReader(log), near, 2); len(found) != 2 || lines != 2 {
		t.Errorf("at most two: %d of %d lines", len(found), lines)
	}
}

func TestFindingString(t *testing.T) {
	for line, want := range map[string]string{
		`1755698587.5 n kubelet[1]: I0820 14:03:07.0 1 x.go:1] "Eviction manager: attempting to reclaim" resourceName="memory"`:   "2025-08-20T14:03:07Z Eviction manager: attempting to reclaim memory",
		`1755698587.5 n kubelet[1]: W0820 14:03:07.0 1 x.go:1] eviction manager: attempting to reclaim memory`:                    "2025-08-20T14:03:07Z eviction manager: attempting to reclaim memory",
		`1755698587.5 n kubelet[1]: I0820 14:03:07.0 1 x.go:1] "Probe failed" probeType="Liveness" pod="a/b" containerName="app"`: "2025-08-20T14:03:07Z Probe failed Liveness a/b app",
	} {
		found, _, err := Read(strings.NewReader(line), time.Now(), 1)
		if err != nil || len(found) != 1 || found[0].String() != want {
			t.Errorf("%v, %v, want %q", found, err, want)
		}
	}
}

func TestJournal(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	script := func(text string) {
		t.Helper()

		if err := os.WriteFile(filepath.Join(bin, "journalctl"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	since := time.Unix(1755698587, 500_000_000)
	ask := func() ([]Finding, bool, error) {
		return Journal(context.Background(), JournalOptions{Root: "/host", Since: since})
	}

	script(`echo "$@" > ` + bin + `/args
echo '1755698587.4 n kubelet[1]: I0101 00:00:00.0 1 eviction_manager.go:1] "Eviction manager: pod is evicted successfully" pod="a/b"'`)

	found, whole, err := ask()
	if err != nil || !whole || len(found) != 1 || found[0].Pod != "a/b" {
		t.Errorf("%+v, %v, %v", found, whole, err)
	}

	args, _ := os.ReadFile(filepath.Join(bin, "args"))
	for _, want := range []string{"--unit=kubelet", "--directory=/host/var/log/journal", "--since=@1755698587.500000"} {
		if !strings.Contains(string(args), want) {
			t.Errorf("%s is not among %s", want, args)
		}
	}

	script("echo 'no journal here' >&2; exit 1")

	if _, whole, err := ask(); err == nil || whole || !strings.Contains(err.Error(), "no journal here") {
		t.Errorf("%v, %v", whole, err)
	}

	script(`yes '1755698587.4 n kubelet[1]: I0101 00:00:00.0 1 eviction_manager.go:1] "Eviction manager: attempting to reclaim" resourceName="memory"'`)

	if found, whole, err := ask(); err != nil || whole || len(found) != journalFindings {
		t.Errorf("an endless journal: %d, %v, %v", len(found), whole, err)
	}

	t.Setenv("PATH", t.TempDir())

	if _, _, err := ask(); err == nil || !strings.Contains(err.Error(), "as a file") {
		t.Errorf("without journalctl: %v", err)
	}
}

func FuzzLine(f *testing.F) {
	f.Add(`I0820 14:03:07.412345 2480 x.go:709] "Killing container with a grace period" pod="shop/checkout" podUID=27 gracePeriod=2 a=[b c`)
	f.Add(`{"ts":1e9,"msg":"Probe failed","pod":{"name":1}}`)
	f.Add(`I0820 14:03:07.412345 2480 x.go:1] eviction manager: pod a_b(c) is evicted successfully`)
	f.Fuzz(func(t *testing.T, line string) {
		if found, ok := Line(line); ok && found.What == "" {
			t.Errorf("%+v", found)
		}
	})
}
