// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"testing"
)

func TestLinesAreParsed(t *testing.T) {
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
			`I0820 14:03:07.412345 2480 eviction_manager.go:592] "Evicting pod" pod="shop/checkout" podUID="27aff94d" message="low on memory"`,
			Finding{What: FoundEvicting, Pod: "shop/checkout", PodUID: "27aff94d", Text: "Evicting pod"},
		},
		{
			`I0820 14:03:07.412345 2480 eviction_manager.go:592] "Evicting pod" pod="shop/checkout" podUID="27aff94d" ` +
				`message="The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 2Mi. "`,
			Finding{What: FoundEvicting, Resource: "ephemeral-storage", Pod: "shop/checkout", PodUID: "27aff94d", Text: "Evicting pod"},
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
				What: FoundKilling, Pod: "shop/checkout", PodUID: "27aff94d", Container: "app", ContainerID: "4296",
				Text: "Killing container with a grace period",
			},
		},
		{
			`I0820 14:03:07.412345 2480 prober.go:107] "Probe failed" probeType="Liveness" pod="shop/checkout" podUID=27aff94d containerName="app" probeResult="failure" output="HTTP probe failed \" x=y"`,
			Finding{What: FoundProbe, Pod: "shop/checkout", PodUID: "27aff94d", Container: "app", Probe: "Liveness", Text: "Probe failed"},
		},
		{
			`I0820 14:03:07.412345 2480 kuberuntime_manager.go:1115] "Message for Container of pod" containerName="app" containerStatusID={"Type":"containerd","ID":"4296"} pod="shop/checkout" containerMessage="Container app failed liveness probe, will be restarted"`,
			Finding{
				What: FoundProbe, Pod: "shop/checkout", Container: "app", ContainerID: "4296", Probe: "Liveness",
				Text: "Container app failed liveness probe, will be restarted",
			},
		},
		{
			`I0820 14:03:07.412345 2480 kubelet.go:2439] "SyncLoop (PLEG): event for pod" pod="shop/checkout" event={"ID":"27aff94d","Type":"ContainerStarted","Data":"4296"}`,
			Finding{What: FoundStarted, Pod: "shop/checkout", PodUID: "27aff94d", ContainerID: "4296", Text: "SyncLoop (PLEG): event for pod"},
		},
		{
			`I0820 14:03:07.412345 2480 kubelet.go:2134] "SyncLoop (PLEG): event for pod" pod="shop/checkout" event=&{ID:27aff94d Type:ContainerStarted Data:4296}`,
			Finding{What: FoundStarted, Pod: "shop/checkout", PodUID: "27aff94d", ContainerID: "4296", Text: "SyncLoop (PLEG): event for pod"},
		},
		{
			`E0820 14:03:07.412345 2480 pod_workers.go:1300] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"app\" with CrashLoopBackOff: \"back-off 20s restarting failed container=app\"" pod="shop/checkout" podUID="27aff94d"`,
			Finding{What: FoundBackOff, Pod: "shop/checkout", PodUID: "27aff94d", Container: "app", Text: "Error syncing pod, skipping"},
		},
		{
			`I0820 14:03:07.412345 2480 kubelet.go:2437] "SyncLoop DELETE" source="api" pods=["shop/checkout","shop/cart"]`,
			Finding{What: FoundDeleted, Pod: "shop/checkout shop/cart", Text: "SyncLoop DELETE"},
		},
		{
			`I0820 14:03:07.412345 2480 kubelet.go:2100] "SyncLoop REMOVE" source="api" pods=[shop/checkout]`,
			Finding{What: FoundDeleted, Pod: "shop/checkout", Text: "SyncLoop REMOVE"},
		},
		{
			`I0820 14:03:07.412345 2480 kubelet.go:1905] SyncLoop (DELETE, "api"): "checkout_shop(dc6bd3a0-6883)"`,
			Finding{What: FoundDeleted, Pod: "shop/checkout", PodUID: "dc6bd3a0-6883", Text: `SyncLoop (DELETE, "api"): "checkout_shop(dc6bd3a0-6883)"`},
		},
		{
			`{"ts":1755698587412.5,"caller":"kubelet/kubelet.go:2437","msg":"SyncLoop DELETE","v":2,"source":"api","pods":[{"name":"checkout","namespace":"shop"}]}`,
			Finding{What: FoundDeleted, Pod: "shop/checkout", Text: "SyncLoop DELETE"},
		},
		{
			`{"ts":1755698587412.5,"caller":"eviction/eviction_manager.go:616","msg":"Eviction manager: pod is evicted successfully","v":0,"pod":{"name":"checkout","namespace":"shop"}}`,
			Finding{What: FoundEvicted, Pod: "shop/checkout", Text: "Eviction manager: pod is evicted successfully"},
		},
	} {
		if got, ok := ParseLine(test.line); !ok || got != test.want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", test.line, got, ok, test.want)
		}
	}
}

func TestOtherLinesAreIgnored(t *testing.T) {
	for _, line := range []string{
		"", "{", `{"msg":`, "oom", ".go:1] ", ".go:] x",
		`I0820 14:03:07.412345 2480 eviction_manager.go:395] "Eviction manager: pods ranked for eviction" pods="[shop/checkout kube-system/proxy]"`,
		`I0820 14:03:07.412345 2480 kubelet.go:2231] "SyncLoop (PLEG): event for pod" pod="default/nginx"`,
		`I0820 14:03:07.412345 2480 kubelet.go:2430] "SyncLoop UPDATE" source="api" pods=["shop/checkout"]`,
		`I0820 14:03:07.412345 2480 kuberuntime_manager.go:1115] "Message for Container of pod" containerName="app" pod="shop/checkout" containerMessage="Container app is dead"`,
		`I0820 14:03:07.412345 2480 x.go:1] "Something" output="eviction manager: attempting to reclaim memory"`,
		`eviction manager: attempting to reclaim memory`, // not in a format of klog: any program may log that
	} {
		if f, ok := ParseLine(line); ok {
			t.Errorf("%q: got %+v, want none", line, f)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add(`I0820 14:03:07.412345 2480 x.go:709] "Killing container with a grace period" pod="shop/checkout" podUID=27 gracePeriod=2 a=[b c`)
	f.Add(`{"ts":1e9,"msg":"Probe failed","pod":{"name":1}}`)
	f.Add(`I0820 14:03:07.412345 2480 x.go:1] eviction manager: pod a_b(c) is evicted successfully`)
	f.Fuzz(func(t *testing.T, line string) {
		if found, ok := ParseLine(line); ok && found.What == "" {
			t.Errorf("got %+v, want a kind", found)
		}
	})
}
