// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// systemdStop reads a recording of an OOM kill in a unit, and of systemd's stop of the rest.
func systemdStop(t *testing.T) (kill, stop *events.Incident) {
	t.Helper()

	text, err := os.ReadFile("testdata/systemd-stop.json")
	if err != nil {
		t.Fatal(err)
	}

	var list []*events.Incident

	for line := range bytes.Lines(text) {
		inc := &events.Incident{}
		if err := events.Unmarshal(line, inc); err != nil {
			t.Fatal(err)
		}

		list = append(list, inc)
	}

	return list[0], list[1]
}

func TestStopOfAUnitFollowsTheOOMKillInIt(t *testing.T) {
	kill, stop := systemdStop(t)

	var journal Journal
	journal.Add(kill)

	got := journal.Follows(stop)
	if got == nil || got.ID != kill.ID || got.Kind != events.AfterUnitStop || got.Confidence != certain || *got.AfterNS != 90.1e9 ||
		*got.TermAfterNS != 1e8 || got.Victim != "worker[711]" {
		t.Fatalf("got %+v, want the stop of the unit 90.1 s after %s", got, kill.ID)
	}

	causes := journal.Diagnose(stop)
	if got, want := ids(causes), []string{"followed_oom"}; !slices.Equal(got, want) {
		t.Errorf("got causes %v, want %v", got, want)
	}

	for _, want := range []string{"worker[711]", "1 min 30 s earlier", "stop timeout"} {
		if !strings.Contains(causes[0].Text, want) {
			t.Errorf("got %q, want %q in it", causes[0].Text, want)
		}
	}
}

// TestWhatDoesNotFollow: each is one step away from the kill that follows.
func TestWhatDoesNotFollow(t *testing.T) {
	for name, change := range map[string]func(kill, stop *events.Incident){
		"another unit": func(kill, _ *events.Incident) {
			v := &kill.Victims[0]
			v.Workload, v.Cgroup = &events.Workload{Unit: "db.service"}, cgroup(12, "/system.slice/db.service")
		},
		"the same unit of another user": func(_, stop *events.Incident) {
			for i := range stop.Victims {
				stop.Victims[i].Cgroup = cgroup(13, "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service")
			}
		},
		"too long after": func(kill, stop *events.Incident) {
			kill.Time = stop.Time.Add(-11 * time.Minute)
			stop.Killer.TermBeforeNS = new(uint64(11 * time.Minute))
		},
		"another boot": func(kill, _ *events.Incident) { kill.BootID = "other" },
		"another node": func(kill, _ *events.Incident) { kill.Node = "n2" },
		"a person": func(_, stop *events.Incident) {
			stop.Killer.Path, stop.Killer.Reason = events.PathHuman, events.ReasonAsked
		},
		"no OOM kill": func(kill, _ *events.Incident) {
			kill.Scope, kill.Outcome, kill.Victims = events.ScopeMemcg, events.OutcomeNoKillable, nil
		},
		"a kill from user space before": func(kill, _ *events.Incident) { kill.Scope = events.ScopeUser },
		"an OOM kill afterwards":        func(kill, stop *events.Incident) { kill.Time = stop.Time.Add(time.Second) },
		"a time that is not known":      func(_, stop *events.Incident) { stop.Unknown = []string{"time"} },
	} {
		t.Run(name, func(t *testing.T) {
			kill, stop := systemdStop(t)
			change(kill, stop)

			var journal Journal
			journal.Add(kill)

			if got := journal.Follows(stop); got != nil {
				t.Errorf("got %+v, want none", got)
			}

			got := ids(journal.Diagnose(stop))
			if slices.Contains(got, "followed_oom") || !slices.Contains(got, "not_memory") {
				t.Errorf("got causes %v, want not_memory and no followed_oom", got)
			}
		})
	}
}

// TestStopThatMayFollowIsNotCalledUnrelated: an admin's stop a minute after an OOM kill in the unit
// may be about it, or not.
func TestStopThatMayFollowIsNotCalledUnrelated(t *testing.T) {
	kill, stop := systemdStop(t)
	stop.Killer.TermBeforeNS = new(uint64(30e9))

	var journal Journal
	journal.Add(kill)

	causes := journal.Diagnose(stop)
	if got := ids(causes); !slices.Equal(got, []string{"runtime_stop"}) {
		t.Fatalf("got causes %v, want runtime_stop alone", got)
	}

	for _, a := range causes[0].Advice {
		if strings.Contains(a.Text, "memory is not") {
			t.Errorf("got advice %q, want none that excludes memory", a.Text)
		}
	}
}

// TestProbeAfterAnOOMKillIsLikely: the kubelet logs the failed probe, and not why it failed.
func TestProbeAfterAnOOMKillIsLikely(t *testing.T) {
	kill, stop := plainKill(), userKillOf("runtime", "probe")
	stop.ID, stop.Time = "boot-2", kill.Time.Add(65*time.Second)
	stop.Killer.TermBeforeNS = new(uint64(30e9))

	var journal Journal
	journal.Add(kill)

	cause := find(journal.Diagnose(stop), "followed_oom")
	if cause == nil || cause.Confidence != likely || !strings.Contains(cause.Text, "a probe failed afterwards") {
		t.Errorf("got %+v, want followed_oom, likely, with the probe", cause)
	}

	stop.Victims[0].Workload.ContainerID = strings.Repeat("4a", 32)
	if got := ids(journal.Diagnose(stop)); slices.Contains(got, "followed_oom") {
		t.Errorf("another container of the pod: got causes %v, want no followed_oom", got)
	}
}
