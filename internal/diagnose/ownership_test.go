// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

// TestAdviceOnKubernetesNeedsAPodOfThisNode: kills that look like those of pods, or share rules
// with them, get none; those of pods do.
func TestAdviceOnKubernetesNeedsAPodOfThisNode(t *testing.T) {
	nestedPods := func(within ...events.Holder) func(*incident) {
		return func(i *incident) {
			i.Limiter.Level, i.Limiter.Workload = events.LevelKubepods, &events.Workload{Within: within}
		}
	}

	for _, test := range []struct {
		name string
		make func() *events.Incident
		want bool
	}{
		{"a container of a pod", plainKill, true},
		{"a pod", podKill, true},
		{"all pods", with(podKill(), func(i *incident) { i.Limiter.Level, i.Limiter.Workload = events.LevelKubepods, nil }), true},
		{"the kubelet's own limit", reservedKill, true},
		{"a guest", guestKill, false},
		{"a node container", nodeContainerKill, false},
		{"a job", jobKill, false},
		{"a user's session", sessionKill, false},
		{"all pods of a guest", with(guestKill(), nestedPods(events.Holder{Kind: events.HolderGuest, System: "lxc", Name: "web1"})), false},
		{"all pods of a node container", with(nodeContainerKill(), nestedPods(events.Holder{Kind: events.HolderContainer, ID: "b"})), false},
		{"a service", with(plainKill(), func(i *incident) {
			i.Limiter.Level, i.Limiter.Workload = events.LevelService, &events.Workload{Unit: "a.service"}
			i.Victims[0].Workload = i.Limiter.Workload
		}), false},
		{"a pod of podman", with(plainKill(), func(i *incident) {
			i.Limiter.Workload = &events.Workload{ContainerID: containerID, PodUID: containerID, Runtime: "podman"}
			i.Victims[0].Workload = i.Limiter.Workload
		}), false},
		{"page cache of a service", with(plainKill(), func(i *incident) {
			i.Limiter.Level, i.Limiter.Workload = events.LevelService, &events.Workload{Unit: "a.service"}
			i.Victims[0].Workload, i.Memory.FileBytes, i.Memory.ActiveFileBytes = i.Limiter.Workload, new(480*mib), new(470*mib)
			i.Memory.AnonBytes = new(20 * mib)
		}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			causes := Diagnose(test.make(), nil)
			got := false

			for _, c := range causes {
				for _, a := range c.Advice {
					got = got || a.Layer == kubernetes
				}
			}

			if len(causes) == 0 || got != test.want {
				t.Errorf("got causes %v, advice on Kubernetes %v, want %v", ids(causes), got, test.want)
			}
		})
	}
}

// TestSharesOfANodeContainerAreNamedByThemselves: a cgroup of a container is not the container.
func TestSharesOfANodeContainerAreNamedByThemselves(t *testing.T) {
	inc := nodeContainerKill()
	inc.Shares = []events.Share{{
		Cgroup: *cgroup(0, inc.Limiter.Cgroup.Path+"/kubelet"), Level: events.LevelCgroup, Workload: inc.Limiter.Workload,
		UsageBytes: new(511 * mib),
	}}

	c := find(Diagnose(inc, nil), "ancestor_limit")
	if c == nil {
		t.Fatal("got no ancestor_limit, want it")
	}

	const want = "used by cgroup kubelet of container 01234567…"
	for _, e := range c.Evidence {
		if e.What == want {
			return
		}
	}

	t.Errorf("got evidence %+v, want %q", c.Evidence, want)
}
