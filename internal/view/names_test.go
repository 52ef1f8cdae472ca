// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// withNames is an incident of a pod with names, and later reports of the runtime.
func withNames() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-40"
	w := &events.Workload{
		Namespace: "shop", Pod: "checkout-7d9f", PodUID: podUID, Container: "app", ContainerID: containerID, Runtime: "containerd",
		QoS: "burstable", Image: "registry.example/shop/checkout:1.4", RestartCount: new(uint32(3)),
		Labels: map[string]string{"app": "checkout", "tier": "front"}, Source: "cri",
	}
	sidecar := &events.Workload{Namespace: "shop", Pod: "checkout-7d9f", PodUID: podUID, Container: "envoy", ContainerID: sidecarID, QoS: "burstable", Source: "disk"}
	inc.Limiter.Workload, inc.Victims[0].Workload = w, w
	inc.Trigger = &events.Process{PID: 5120, TID: 5120, Comm: "envoy", Cgroup: cgroup(9020, sidecarPath), Workload: sidecar}
	reported := update(inc.ID, 400*time.Millisecond)
	reported.Reported = []events.Reported{{
		ContainerID: containerID, Container: "app", State: "exited", Reason: "Error", ExitCode: new(137), Source: "cri",
		Text: "runtime reports Error/137, kernel: memcg OOM at container level",
	}}
	more := update(inc.ID, 900*time.Millisecond)

	more.Reported = append(reported.Reported, events.Reported{
		ContainerID: sidecarID, Container: "envoy", State: "running", Source: "cri",
		Text: "child killed, container not restarted: runtime reports running; kernel: memcg OOM at container level",
	})

	return feed(headline(inc), inc, reported, more)
}

// hostileNames are names that only a compromised runtime could report.
func hostileNames() func(sink.Sink) error {
	inc := container()
	inc.ID = "5f0c2c1e-41"
	w := &events.Workload{
		Namespace: "sh\x1b[2Jop", Pod: "check\nout\u202e", PodUID: podUID, Container: "a\xffp", ContainerID: containerID,
		Image: "img\r" + strings.Repeat("x", 500), Labels: map[string]string{"k\x00\x9b": strings.Repeat("v\u200b", 60), "\xfe": "\xff"}, Source: "cri",
	}
	inc.Limiter.Workload, inc.Victims[0].Workload, inc.Trigger.Workload = w, w, w
	reported := update(inc.ID, 400*time.Millisecond)
	reported.Reported = []events.Reported{{ContainerID: containerID, State: "exited", Source: "cri", Reason: "\x1b]0;x\a", Text: "runtime reports \x1b]0;x\a/137\nkernel: memcg OOM"}}

	return feed(headline(inc), inc, reported)
}
