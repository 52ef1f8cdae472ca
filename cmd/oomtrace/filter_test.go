// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/ledger"
)

func TestFilterMatchesLimiterOrVictim(t *testing.T) {
	inc := &events.Incident{
		Limiter: &events.Limiter{
			Cgroup: &events.Cgroup{Path: "/kubepods.slice/pod1/c1"},
			Workload: &events.Workload{
				PodUID: "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b", ContainerID: "3f2a91c07d4e", QoS: "burstable",
				Namespace: "shop", Pod: "checkout-7d9f", Labels: map[string]string{"app": "checkout", "tier": "front"},
			},
		},
		Victims: []events.Victim{{Process: events.Process{
			PID: 10, TID: 11, Comm: "java", Thread: "C2", Workload: &events.Workload{Namespace: "ops", Pod: "agent"},
		}}},
	}
	for _, test := range []struct {
		f    filter
		want bool
	}{
		{filter{}, true},
		{filter{pid: 10}, true},
		{filter{pid: 11}, true},
		{filter{pid: 12}, false},
		{filter{comm: "java"}, true},
		{filter{comm: "C2"}, true},
		{filter{comm: "jav"}, false},
		{filter{podUID: "6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b"}, true},
		{filter{podUID: "6ba0af16"}, false},
		{filter{containerID: "3F2a"}, true},
		{filter{containerID: "f2a"}, false},
		{filter{cgroup: "/kubepods.slice"}, true},
		{filter{cgroup: "/kubepods.slice/pod1/c1/"}, true},
		{filter{cgroup: "/kubepods"}, false},
		{filter{cgroup: "/"}, true},
		{filter{pid: 10, comm: "sh"}, false},
		{filter{namespace: "shop"}, true},
		{filter{namespace: "sho"}, false},
		{filter{pod: "checkout-7d9f"}, true},
		{filter{pod: "shop/checkout-7d9f"}, true},
		{filter{pod: "other/checkout-7d9f"}, false},
		{filter{podLabel: "app=checkout"}, true},
		{filter{podLabel: "app=checkout,tier=front"}, true},
		{filter{podLabel: "app=checkout,tier=back"}, false},
		{filter{podLabel: "empty="}, false},
		{filter{qos: "Burstable"}, true},
		{filter{qos: "guaranteed"}, false},
		{filter{namespace: "shop", qos: "guaranteed"}, false},
		{filter{namespace: "ops", comm: "java"}, true},          // the victim's
		{filter{namespace: "ops", pod: "checkout-7d9f"}, false}, // of two workloads
	} {
		if got := test.f.incident(inc); got != test.want {
			t.Errorf("%+v: got match %v, want %v", test.f, got, test.want)
		}
	}

	nested := &events.Incident{Limiter: &events.Limiter{Workload: &events.Workload{
		ContainerID: "3f2a", Within: []events.Holder{
			{Kind: events.HolderContainer, ID: "0123abcd"}, {Kind: events.HolderGuest, Name: "4567"},
		},
	}}}
	for id, want := range map[string]bool{"3f2a": true, "0123": true, "4567": false} {
		if got := (&filter{containerID: id}).incident(nested); got != want {
			t.Errorf("--container %s: got match %v, want %v", id, got, want)
		}
	}

	waits := &events.Incident{Wait: &events.OOMWait{Tasks: []events.Process{{
		PID: 20, TID: 21, Comm: "postgres", Cgroup: &events.Cgroup{Path: "/docker/db"}, Workload: &events.Workload{ContainerID: "c0ffee"},
	}}}}
	for _, f := range []filter{{pid: 20}, {pid: 21}, {comm: "postgres"}, {cgroup: "/docker"}, {containerID: "c0ff"}} {
		if !f.incident(waits) {
			t.Errorf("%+v: got no match of a task that waits, want one", f)
		}
	}

	if (&filter{pid: 22}).incident(waits) {
		t.Error("got a match of another process, want none")
	}

	if (&filter{comm: "x"}).incident(&events.Incident{}) {
		t.Error("got a match by name of an incident without a victim, want none")
	}
}

// A filter by name shows an incident once, when its names arrive, with its updates until
// then, in a replay as in a live trace. Incidents that never get names are counted at the
// end.
func TestFilterByNameWaitsForNames(t *testing.T) {
	head := func(kind, id string) events.Incident {
		return events.Incident{Envelope: events.Envelope{Kind: kind}, ID: id}
	}
	incident := func(id, namespace string) *events.Incident {
		inc := head(events.KindIncident, id)
		inc.Limiter = &events.Limiter{Workload: &events.Workload{PodUID: "u-" + id, Namespace: namespace}}

		if namespace != "" {
			inc.Limiter.Workload.Pod = "p"
		}

		return &inc
	}
	named := func(id, namespace string) events.Line {
		change := head(events.KindIncidentUpdate, id)
		change.Limiter = incident(id, namespace).Limiter

		return &events.Update{Change: &change}
	}
	noted := func(id, note string) events.Line {
		change := head(events.KindIncidentUpdate, id)
		change.Notes = []string{note}

		return &events.Update{Change: &change}
	}
	lines := []events.Line{
		incident("a", ""), incident("b", ""), incident("c", ""), incident("d", "shop"),
		noted("a", "before the names"), named("a", "shop"), named("b", "other"), noted("a", "later"), noted("b", "never"),
	}

	t.Run("live", func(t *testing.T) {
		var stdout, stderr bytes.Buffer

		flags := traceFlags{formatFlags: formatFlags{output: "json"}, filter: filter{namespace: "shop"}}
		out := newOutput(&flags, nil, &stdout, &stderr)
		open := ledger.New(ledger.Limits{}, nil)

		for _, published := range lines {
			line, err := open.Take(published, 0)
			if err == nil {
				err = out.Write(line)
			}

			if err != nil {
				t.Fatal(err)
			}
		}

		if err := out.close(); err != nil {
			t.Fatal(err)
		}

		checkShop(t, stdout.String(), stderr.String())
	})
	t.Run("replay", func(t *testing.T) {
		var recorded []string

		for _, line := range lines {
			raw, err := events.Marshal(line)
			if err != nil {
				t.Fatal(err)
			}

			recorded = append(recorded, strings.TrimSuffix(string(raw), "\n"))
		}

		stdout, stderr, _ := replayed(t, recorded, "-o", "json", "-n", "shop")
		checkShop(t, stdout, stderr)
	})
}

// checkShop checks what is printed under -n shop of TestFilterByNameWaitsForNames.
func checkShop(t *testing.T, stdout, stderr string) {
	t.Helper()

	var got []string

	for line := range strings.Lines(stdout) {
		var inc events.Incident
		if err := json.Unmarshal([]byte(line), &inc); err != nil {
			t.Fatal(err)
		}
		got = append(got, inc.Kind+" "+inc.ID+" "+strings.Join(inc.Notes, ","))
	}

	if want := []string{"incident d ", "incident a before the names", "incident_update a later"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	const want = "1 incident not shown: the pod names could not be resolved"
	if !strings.Contains(stderr, want) {
		t.Errorf("got stderr %q, want %q", stderr, want)
	}
}
