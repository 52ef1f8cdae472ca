// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/resolve/names"
)

func TestFilterMatchesLimiterOrVictim(t *testing.T) {
	inc := &events.Incident{
		Limiter: &events.Limiter{
			Cgroup: &events.Cgroup{Path: "/kubepods.slice/pod1/c1"},
			Workload: &events.Workload{
				PodUID: "6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b", ContainerID: "3f2a91c07d4e", QoS: "burstable",
				Namespace: "shop", Pod: "checkout-7d9f", Container: "app", Labels: map[string]string{"app": "checkout", "tier": "front"},
			},
		},
		Victims: []events.Victim{{Process: events.Process{
			PID: 10, TID: 11, Comm: "java", Thread: "C2", Workload: &events.Workload{Namespace: "ops", Pod: "agent"},
		}}},
	}
	for flags, want := range map[string]bool{
		"":               true,
		"--pid 10":       true,
		"--pid 11":       true,
		"--pid 12":       false,
		"--comm java":    true,
		"--comm C2":      true,
		"--comm jav":     false,
		"--comm jav*":    true,
		"--comm [jk]av?": true,
		"--comm *x*":     false,
		"--pod-uid 6ba0af16_1c3e_4d5f_8a9b_0c1d2e3f4a5b": true,
		"--pod-uid 6ba0af16":                             false,
		"--container 3F2a":                               true,
		"--container f2a":                                false,
		"--container app":                                true,
		"--container a*":                                 true,
		"--container ap":                                 false,
		"--cgroup /kubepods.slice":                       true,
		"--cgroup /kubepods.slice/pod1/c1/":              true,
		"--cgroup /kubepods":                             false,
		"--cgroup /kubepods*":                            true,
		"--cgroup /*/pod1":                               true,
		"--cgroup /pod1":                                 false,
		"--cgroup pod1":                                  true,
		"--cgroup pod1/c?":                               true,
		"--cgroup pod1/c1/x":                             false,
		"--cgroup /":                                     true,
		"--pid 10 --comm sh":                             false,
		"--namespace shop":                               true,
		"-n sho":                                         false,
		"-n sh*":                                         true,
		"--pod checkout-7d9f":                            true,
		"--pod checkout-*":                               true,
		"--pod shop/checkout-7d9f":                       true,
		"--pod s*/checkout-*":                            true,
		"--pod other/checkout-7d9f":                      false,
		"--pod o*/checkout-7d9f":                         false,
		"--qos Burstable":                                true,
		"--qos guaranteed":                               false,
		"--unit checkout":                                false,
		"-n shop --qos guaranteed":                       false,
		"-n ops --comm java":                             true,  // the victim's
		"-n ops --pod checkout-7d9f":                     false, // of two workloads
	} {
		if got := filterOf(t, flags).incident(inc); got != want {
			t.Errorf("%s: got match %v, want %v", flags, got, want)
		}
	}

	nested := &events.Incident{Limiter: &events.Limiter{Workload: &events.Workload{
		ContainerID: "3f2a", Within: []events.Holder{
			{Kind: events.HolderContainer, ID: "0123abcd", Name: "node-1"}, {Kind: events.HolderGuest, Name: "4567"},
		},
	}}}
	for id, want := range map[string]bool{"3f2a": true, "0123": true, "node-*": true, "4567": false} {
		if got := filterOf(t, "--container "+id).incident(nested); got != want {
			t.Errorf("--container %s: got match %v, want %v", id, got, want)
		}
	}

	waits := &events.Incident{Wait: &events.OOMWait{Tasks: []events.Process{{
		PID: 20, TID: 21, Comm: "postgres", Cgroup: &events.Cgroup{Path: "/docker/db"}, Workload: &events.Workload{ContainerID: "c0ffee"},
	}}}}
	for _, flags := range []string{"--pid 20", "--pid 21", "--comm postgres", "--cgroup /docker", "--container c0ff"} {
		if !filterOf(t, flags).incident(waits) {
			t.Errorf("%s: got no match of a task that waits, want one", flags)
		}
	}

	if filterOf(t, "--pid 22").incident(waits) {
		t.Error("got a match of another process, want none")
	}

	for _, flags := range []string{"--comm *", "-n *", "--unit *", "--container *", "-l !x", "--cgroup *"} {
		if filterOf(t, flags).incident(&events.Incident{Limiter: &events.Limiter{Workload: &events.Workload{}}}) {
			t.Errorf("%s: got a match of an incident about which nothing is known, want none", flags)
		}
	}
}

// filterOf returns the filter of a command line. A term in parentheses may have spaces.
func filterOf(t *testing.T, line string) *filter {
	t.Helper()

	var f filter
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.add(flags)

	var args []string

	for _, word := range strings.Fields(line) {
		if n := len(args); n > 0 && !strings.HasPrefix(word, "-") && !strings.HasPrefix(args[n-1], "-") {
			args[n-1] += " " + word
			continue
		}

		args = append(args, word)
	}

	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}

	return &f
}

func TestFilterMatchesLabels(t *testing.T) {
	w := &events.Workload{
		Pod: "checkout-7d9f", Labels: map[string]string{"app": "checkout", "tier": "front", "files": "/srv/a.yml"},
	}

	for flags, want := range map[string]bool{
		"-l app=checkout":               true,
		"--pod-label app=checkout":      true,
		"-l app=checkout,tier=front":    true,
		"-l app=checkout -l tier=front": true,
		"-l app=checkout -l tier=back":  false,
		"-l app=checkout,tier=back":     false,
		"-l app":                        true,
		"-l !app":                       false,
		"-l !canary":                    true,
		"-l app!=checkout":              false,
		"-l app!=cart":                  true,
		"-l tier in (front,back)":       true,
		"-l tier notin (front,back)":    false,
		"-l empty=":                     false,
		"-l files=/srv/a.yml":           true, // a value that Kubernetes does not allow
		"-l files=/srv/b.yml":           false,
	} {
		if got := filterOf(t, flags).workload(w); got != want {
			t.Errorf("%s: got match %v, want %v", flags, got, want)
		}
	}
}

func TestFilterMatchesUnits(t *testing.T) {
	inc := &events.Incident{Limiter: &events.Limiter{Workload: &events.Workload{
		Unit: `foo-a\x2db.service`, Within: []events.Holder{
			{Kind: events.HolderService, Name: "user@1000.service"}, {Kind: events.HolderGuest, Name: "web.service"},
		},
	}}}

	for unit, want := range map[string]bool{
		`foo-a\x2db.service`: true, `foo-a\x2db`: true, "foo-*": true, "foo-*.service": true, "foo": false,
		"user@1000": true, "user@*.service": true, "web": false,
	} {
		if got := filterOf(t, "--unit "+unit).incident(inc); got != want {
			t.Errorf("--unit %s: got match %v, want %v", unit, got, want)
		}
	}
}

// A pattern that matches nothing at all is a mistake.
func TestPatternsThatMatchNothingAreRefused(t *testing.T) {
	for given, want := range map[string]bool{
		"": false, "[a": false, "shop/": false, "/cart": false, "/": false, "shop/[": false,
		"cart": true, "shop/cart": true, "*/*": true, `\[a`: true,
	} {
		var pod podGlob
		if err := pod.Set(given); (err == nil) != want {
			t.Errorf("--pod %q: got error %v, want it taken: %v", given, err, want)
		}
	}

	for _, given := range []string{"/", "a//b", "a/"} {
		var cgroup cgroupGlob
		if err := cgroup.Set(given); err != nil {
			t.Errorf("--cgroup %q: got error %v, want none", given, err)
		}
	}
}

func TestFilterNamesItsFlags(t *testing.T) {
	for line, want := range map[string]string{
		"":                               "",
		"--comm a":                       "--comm",
		"--comm a -n b":                  "--namespace and --comm",
		"--pod-label a --unit b --pid 1": "--selector, --unit and --pid",
	} {
		f := filterOf(t, line)
		if got := f.String(); got != want || f.active() != (want != "") {
			t.Errorf("%s: got %q, active %v, want %q", line, got, f.active(), want)
		}
	}
}

func TestFilterThatCanMatchNothingIsReported(t *testing.T) {
	root := t.TempDir()
	layout := host.Layout{MemoryMount: filepath.Join(root, "mnt"), MountRoot: "/part"}

	if err := os.MkdirAll(filepath.Join(layout.MemoryMount, "system.slice/web.service"), 0o755); err != nil {
		t.Fatal(err)
	}

	for given, want := range map[cgroupGlob]bool{
		"web.service": true, "/part/system.slice": true, "/part/*/web*": true, "/system.slice": false, "db.service": false,
	} {
		if got, complete := given.exists(t.Context(), layout); got != want || !complete {
			t.Errorf("--cgroup %s: got exists %v, complete %v, want %v, complete", given, got, complete, want)
		}
	}

	const want = "--namespace and --pod can match nothing"

	f := filterOf(t, "-n shop --pod x --comm java")
	if got := f.unmatched(t.Context(), names.Options{HostRoot: root}); len(got) != 1 || !strings.HasPrefix(got[0], want) {
		t.Errorf("got %q, want one warning with %q", got, want)
	}

	if err := os.MkdirAll(filepath.Join(root, "var/log/pods"), 0o755); err != nil {
		t.Fatal(err)
	}

	for _, options := range []names.Options{{HostRoot: root}, {CRIEndpoint: "/run/c.sock", HostRoot: "/nonexistent"}} {
		if got := f.unmatched(t.Context(), options); len(got) != 0 {
			t.Errorf("%+v: got %q, want no warning: there is a source of names", options, got)
		}
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

	for _, want := range []string{
		"1 incident not shown: the pod names could not be resolved", "1 incident is hidden by --namespace\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("got stderr %q, want %q", stderr, want)
		}
	}
}
