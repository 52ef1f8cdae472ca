// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// stopOf is the end of the rest of a kill's unit by systemd, later.
func stopOf(kill *events.Incident, id string, after time.Duration) *events.Incident {
	stop := podKill(0)
	stop.ID, stop.Time, stop.Scope, stop.Limiter, stop.Trigger = id, kill.Time.Add(after), events.ScopeUser, nil, nil
	stop.Victims[0].Process = kill.Victims[0].Process
	stop.Victims[0].PID, stop.Victims[0].Comm, stop.Victims[0].Role = 7, "gunicorn", ""
	stop.Killer = &events.Killer{
		Kind: events.KillerUser, Path: events.PathSystemd, Reason: events.ReasonTimeout, PID: 1, Comm: "systemd",
		TermBeforeNS: new(uint64(after) - 1e8),
	}

	return stop
}

func TestKillThatFollowsIsLinkedBothWays(t *testing.T) {
	out := &lines{}
	f := newTestFollowUp(out)
	kill := podKill(1)
	mustIncident(t, f, kill, 0)

	stop := stopOf(kill, "5f0c2c1e-9", 90*time.Second)
	mustIncident(t, f, stop, 0)

	got := stop.Follows
	if got == nil || got.ID != kill.ID || got.Kind != events.AfterUnitStop || got.Confidence != events.ConfidenceCertain {
		t.Fatalf("got %+v, want the stop linked to %s", got, kill.ID)
	}

	list := f.current(kill.ID).Followed
	if len(list) != 1 || list[0].ID != stop.ID || list[0].Text != "systemd[1] killed gunicorn[7]" || *list[0].AfterNS != 90e9 {
		t.Fatalf("got %+v, want the stop 90 s after the kill", list)
	}

	// The correlator has the whole list of what it saw itself.
	change := &events.Incident{ID: kill.ID, Followed: []events.Consequence{{Kind: events.AfterPIDNS, Text: "PID 1 exited", Source: "kernel"}}}
	keepCompletion(change, f.current(kill.ID))

	if got := change.Followed; len(got) != 2 || got[0].Kind != events.AfterPIDNS || got[1].ID != stop.ID {
		t.Errorf("got %+v, want both lists", got)
	}
}

func TestKillsAfterwardsThatDoNotFollow(t *testing.T) {
	for name, stop := range map[string]func(kill *events.Incident) *events.Incident{
		"of another container": func(*events.Incident) *events.Incident { return stopOf(podKill(2), "5f0c2c1e-9", 90*time.Second) },
		"too long after":       func(kill *events.Incident) *events.Incident { return stopOf(kill, "5f0c2c1e-9", 11*time.Minute) },
		"by a person": func(kill *events.Incident) *events.Incident {
			stop := stopOf(kill, "5f0c2c1e-9", time.Minute)
			stop.Killer.Path = events.PathHuman

			return stop
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newTestFollowUp(&lines{})
			kill := podKill(1)
			mustIncident(t, f, kill, 0)

			inc := stop(kill)
			mustIncident(t, f, inc, 0)

			if inc.Follows != nil || f.current(kill.ID).Followed != nil {
				t.Errorf("got %+v and %+v, want no link", inc.Follows, f.current(kill.ID).Followed)
			}
		})
	}
}
