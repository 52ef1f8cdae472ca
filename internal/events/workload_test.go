// SPDX-License-Identifier: Apache-2.0

package events

import "testing"

func TestWorkloadsAreTheSameByWhatTheyAreWithin(t *testing.T) {
	container := func(id, name string) Holder { return Holder{Kind: HolderContainer, ID: id, Name: name} }
	guest := func(name string) Holder { return Holder{Kind: HolderGuest, System: "lxc", Name: name} }

	for _, test := range []struct {
		name string
		a, b *Workload
		want bool
	}{
		{"a container", &Workload{ContainerID: "a", Container: "app"}, &Workload{ContainerID: "a"}, true},
		{"containers", &Workload{ContainerID: "a"}, &Workload{ContainerID: "b"}, false},
		{"a container, inside another", &Workload{ContainerID: "a"}, &Workload{ContainerID: "a", NodeContainerID: "b"}, false},
		{"steps of a job", &Workload{Job: &Job{Manager: "slurm", ID: "7", Step: "0"}}, &Workload{Job: &Job{Manager: "slurm", ID: "7"}}, true},
		{"jobs", &Workload{Job: &Job{Manager: "slurm", ID: "7"}}, &Workload{Job: &Job{Manager: "slurm", ID: "8"}}, false},
		{"jobs of two managers", &Workload{Job: &Job{Manager: "slurm", ID: "7"}}, &Workload{Job: &Job{Manager: "pbs", ID: "7"}}, false},
		{"tasks of an allocation", &Workload{Job: &Job{Manager: "nomad", ID: "7", Task: "a"}},
			&Workload{Job: &Job{Manager: "nomad", ID: "7", Task: "b"}}, false},
		{"a guest", &Workload{Guest: &Guest{"lxc", "a"}}, &Workload{Guest: &Guest{"lxc", "a"}}, true},
		{"guests", &Workload{Guest: &Guest{"lxc", "a"}}, &Workload{Guest: &Guest{"lxc", "b"}}, false},
		{"a guest and a unit in it", &Workload{Guest: &Guest{"lxc", "a"}}, &Workload{Unit: "x", Within: []Holder{guest("a")}}, false},
		{"units of guests", &Workload{Unit: "x", Within: []Holder{guest("a")}}, &Workload{Unit: "x", Within: []Holder{guest("b")}}, false},
		{"a unit in a container, whose name is learnt", &Workload{Unit: "x", Within: []Holder{container("a", "")}},
			&Workload{Unit: "x", Within: []Holder{container("a", "kind-worker")}}, true},
		{"units of containers", &Workload{Unit: "x", Within: []Holder{container("a", "")}},
			&Workload{Unit: "x", Within: []Holder{container("b", "")}}, false},
		{"a QoS class is none", &Workload{QoS: "burstable"}, &Workload{QoS: "burstable"}, false},
		{"nothing", nil, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.a.Same(test.b); got != test.want {
				t.Errorf("got same %v, want %v", got, test.want)
			}

			if got := test.b.Same(test.a); got != test.want {
				t.Errorf("got same %v the other way round, want %v", got, test.want)
			}
		})
	}
}

func TestNestedWorkloadsAreNotOfThisNode(t *testing.T) {
	for _, test := range []struct {
		name string
		w    *Workload
		want bool
	}{
		{"nothing", nil, false},
		{"a pod", &Workload{PodUID: "p", ContainerID: "a"}, false},
		{"a unit in a container", &Workload{ContainerID: "a", Unit: "x", Within: []Holder{{Kind: HolderContainer, ID: "a"}}}, false},
		{"in a user's session", &Workload{ContainerID: "a", Within: []Holder{{Kind: HolderService, Name: "user@1000.service"}}}, false},
		{"in a job", &Workload{ContainerID: "a", Within: []Holder{{Kind: HolderJob, ID: "7"}}}, false},
		{"in a node container", &Workload{ContainerID: "a", NodeContainerID: "b"}, true},
		{"all pods of a node container", &Workload{Within: []Holder{{Kind: HolderContainer, ID: "b"}}}, true},
		{"in a guest", &Workload{ContainerID: "a", Within: []Holder{{Kind: HolderGuest, Name: "web1"}}}, true},
		{"a guest in a container", &Workload{ContainerID: "a", Unit: "x", Within: []Holder{
			{Kind: HolderContainer, ID: "a"}, {Kind: HolderGuest, Name: "web1"},
		}}, false},
	} {
		if got := test.w.Nested(); got != test.want {
			t.Errorf("%s: got nested %v, want %v", test.name, got, test.want)
		}
	}
}
