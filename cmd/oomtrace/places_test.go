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

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	nestedA  = "3f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c03f2a91c0"
	nestedB  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	ofPod    = " of pod 6ba0af16-7d2c-4f1e-9b3a-0c5d8e2f1a47"
	ecsTask  = "488fc5b8b77f4fb7984bdc4aba948f9f"
	nomadID  = "e4d70b6a-2f3c-8d1e-9b0a-5c6d7e8f9a0b"
	stepID   = "x1y2z3abcdefghijklmnopqrs"
	yarnName = "container_e17_1700000000000_0042_01_000003"
)

// killPlace is what is expected of one incident: where limiter and victim were, with whole
// ids, and the first cause.
type killPlace struct {
	level           events.Level
	limiter, victim string
	cause           string
}

// placeReports are kernel logs in which the limit that was hit is not that of a plain
// container or service of the host.
var placeReports = []struct {
	file  string
	kills []killPlace
	// has and lacks are texts that the report has, and must not have.
	has, lacks []string
}{
	{"nested-kind.txt", []killPlace{{
		"container", "container " + nestedB, "container " + nestedA + ofPod + " in node container " + nestedB, "ancestor_limit",
	}}, []string{
		"Container 01234567… reached its limit of 512.0 MiB",
		"killed java[4711] in container 3f2a91c0… of pod 6ba0af16… in node container 01234567…",
		"The limit of container 01234567… was hit, not that of container 3f2a91c0… of pod 6ba0af16… inside it.",
		"Give the node container more memory",
	}, []string{"its own limit", "VPA", "kubernetes:"}},
	{"nested-user-session.txt", []killPlace{{
		"service", "user@1000.service", "app-gnome-firefox-4711.scope in user@1000.service", "ancestor_limit",
	}}, []string{
		"The limit of user@1000.service was hit, not that of app-gnome-firefox-4711.scope inside it.",
	}, []string{"its own limit", "kubernetes:"}},
	{"lxc-guest-unit.txt", []killPlace{{
		"guest", "LXC container web1", "sshd.service in LXC container web1", "ancestor_limit",
	}}, []string{
		"LXC container web1 reached its limit", "killed sshd[4711] in sshd.service in LXC container web1",
		"Give the guest more memory",
	}, []string{"its own limit", "kubernetes:", "VPA"}},
	{"pve-guest-docker.txt", []killPlace{{
		"guest", "LXC container 202", "container " + nestedA + " in LXC container 202", "ancestor_limit",
	}}, []string{"LXC container 202 reached its limit", "ns ?/? · LXC container 202 512.0/512.0 MiB"},
		[]string{"its own limit", "kubernetes:", "Cgroup 202"}},
	{"slurm-job.txt", []killPlace{{
		"job", "job 2457196 (Slurm)", "task 0 of step 0 of job 2457196 (Slurm)", "own_limit",
	}}, []string{"Job 2457196 (Slurm) reached its limit"}, []string{"Unit slurmstepd.scope", "kubernetes:"}},
	{"slurm-three-jobs.txt", []killPlace{
		{"job", "job 1 (Slurm)", "step 0 of job 1 (Slurm)", "own_limit"},
		{"job", "job 2 (Slurm)", "step 0 of job 2 (Slurm)", "own_limit"},
		{"job", "job 3 (Slurm)", "step 0 of job 3 (Slurm)", "own_limit"},
	}, []string{"step 0 of job 1 (Slurm)  ", "step 0 of job 2 (Slurm)  ", "step 0 of job 3 (Slurm)  "}, []string{"loop", "slurmstepd.scope  "}},
	{"buildkit-step.txt", []killPlace{{
		"job", "build step " + stepID + " (BuildKit)", "build step " + stepID + " (BuildKit)", "own_limit",
	}}, []string{"Build step x1y2z3ab… (BuildKit) reached its limit"}, []string{"Unit system.slice", "system.slice reached"}},
	{"condor-slot.txt", []killPlace{{"job", "slot1_3 (HTCondor)", "slot1_3 (HTCondor)", "own_limit"}},
		[]string{"slot1_3 (HTCondor) reached its limit"}, []string{"condor.service reached", "kubernetes:"}},
	{"kata-container.txt", []killPlace{{"container", "container " + nestedA + ofPod, "container " + nestedA + ofPod, "vm_memory"}},
		[]string{"Container 3f2a91c0… of pod 6ba0af16… reached its limit"}, []string{"Pod 6ba0af16… reached"}},
	{"ecs-task.txt", []killPlace{{
		"job", "task " + ecsTask + " (ECS)", "container " + nestedA + " in task " + ecsTask + " (ECS)", "ancestor_limit",
	}}, []string{"Task 488fc5b8… (ECS) reached its limit", "task 488fc5b8… 512.0/512.0 MiB"},
		[]string{"kubernetes:", "Unit ecstasks"}},
	{"paths-kata.txt", []killPlace{
		{"container", "container " + nestedA + ofPod, "container " + nestedA + ofPod, "own_limit"},
		{"container", "container " + nestedA, "container " + nestedA, "own_limit"},
	}, nil, []string{"Unit"}},
	{"paths-ecs.txt", []killPlace{
		{"job", "task " + ecsTask + " (ECS)", "container " + nestedA + " in task " + ecsTask + " (ECS)", "ancestor_limit"},
		{"container", "container " + nestedA + " in task " + ecsTask + " (ECS)", "container " + nestedA + " in task " + ecsTask + " (ECS)",
			"own_limit"},
		{"container", "container 488fc5b8…-1234567890 in task " + ecsTask + " (ECS)",
			"container 488fc5b8…-1234567890 in task " + ecsTask + " (ECS)", "own_limit"},
	}, nil, []string{"kubernetes:"}},
	{"paths-slurm.txt", []killPlace{
		{"job", "job 7 (Slurm, user 1000)", "task 0 of step 0 of job 7 (Slurm, user 1000)", "own_limit"},
		{"job", "step 2 of job 8 (Slurm)", "task 0 of step 2 of job 8 (Slurm)", "own_limit"},
	}, nil, []string{"Unit slurmstepd.scope", "kubernetes:"}},
	{"paths-nomad.txt", []killPlace{
		{"job", "allocation " + nomadID + " (Nomad)", "allocation " + nomadID + " (Nomad)", "own_limit"},
		{"job", "task api of allocation " + nomadID + " (Nomad)", "task api of allocation " + nomadID + " (Nomad)", "own_limit"},
	}, nil, []string{"Unit"}},
	{"paths-batch.txt", []killPlace{
		{"job", yarnName + " (YARN)", yarnName + " (YARN)", "own_limit"},
		{"job", "container 1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9 (Mesos)", "container 1b2c3d4e-5f60-4718-8293-a4b5c6d7e8f9 (Mesos)", "own_limit"},
		{"job", "job 1234.pbs0 (PBS)", "job 1234.pbs0 (PBS)", "own_limit"},
		{"job", "container 4f3e2d1c-0b9a-4887-6655-443322110f0e (Garden)", "container 4f3e2d1c-0b9a-4887-6655-443322110f0e (Garden)", "own_limit"},
	}, nil, []string{"Unit", "Cgroup"}},
	{"paths-buildkit.txt", []killPlace{{
		"job", "build step " + stepID + " (BuildKit)", "build step " + stepID + " (BuildKit)", "own_limit",
	}}, nil, []string{"Unit docker"}},
	{"paths-talos.txt", []killPlace{
		{"service", "service apid", "service apid", "own_limit"},
		{"service", "service kubelet", "service kubelet", "own_limit"},
	}, []string{"Service apid reached its limit", "Service kubelet reached its limit"}, []string{"Cgroup"}},
	{"paths-static-pod.txt", []killPlace{{
		"container", "container " + nestedA + " of pod my-static-uid", "container " + nestedA + " of pod my-static-uid", "own_limit",
	}}, nil, nil},
	{"podruntime-slice.txt", []killPlace{{"slice", "podruntime.slice", "kubelet.service", "reserved_limit"}},
		[]string{"enforceNodeAllocatable", "kubeReserved"}, []string{"Check which", "its own limit"}},
}

func TestReportNamesWhoseLimitItWas(t *testing.T) {
	for _, test := range placeReports {
		t.Run(test.file, func(t *testing.T) {
			file := filepath.Join("testdata", "places", test.file)

			got := placesOf(t, file)
			if !slices.Equal(got, test.kills) {
				t.Errorf("got\n%+v, want\n%+v", got, test.kills)
			}

			text := strings.Join(strings.Fields(reportOf(t, file)), " ")
			for _, want := range test.has {
				if !strings.Contains(text, strings.Join(strings.Fields(want), " ")) {
					t.Errorf("got no %q in the report, want it:\n%s", want, text)
				}
			}

			for _, unwanted := range test.lacks {
				if strings.Contains(text, unwanted) {
					t.Errorf("got %q in the report, want none of it:\n%s", unwanted, text)
				}
			}
		})
	}
}

// TestEachPlaceReportIsTested: a file without expectations would go unnoticed.
func TestEachPlaceReportIsTested(t *testing.T) {
	files, err := os.ReadDir(filepath.Join("testdata", "places"))
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		known := false
		for _, test := range placeReports {
			known = known || test.file == file.Name()
		}

		if !known {
			t.Errorf("got no expectations of %s, want some", file.Name())
		}
	}
}

func reportOf(t *testing.T, file string, args ...string) string {
	t.Helper()

	var stdout, stderr bytes.Buffer
	if status := run(append([]string{"report", "--full", "--kernel-log", file}, args...), &stdout, &stderr); status != exitOK {
		t.Fatalf("got status %d and %q, want %d", status, stderr.String(), exitOK)
	}

	return stdout.String()
}

func placesOf(t *testing.T, file string) []killPlace {
	t.Helper()

	var all []killPlace

	lines := json.NewDecoder(strings.NewReader(reportOf(t, file, "-o", "json")))
	for lines.More() {
		var inc events.Incident
		if err := lines.Decode(&inc); err != nil {
			t.Fatal(err)
		}

		if inc.Limiter == nil || len(inc.Victims) != 1 || len(inc.Causes) == 0 {
			t.Fatalf("got %+v, want a limiter, a victim and causes", inc)
		}

		all = append(all, killPlace{
			inc.Limiter.Level, phrase.Identity(inc.Limiter.Workload, true), phrase.Identity(inc.Victims[0].Workload, true),
			inc.Causes[0].ID,
		})
	}

	return all
}
