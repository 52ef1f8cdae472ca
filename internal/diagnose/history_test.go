// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// killed is an incident at some time after noon.
func killed(id string, after time.Duration, change func(*incident)) *incident {
	inc := plainKill()

	inc.ID, inc.Time = id, noon().Add(after)
	if change != nil {
		change(inc)
	}

	return inc
}

func TestJournalRecognizesAWorkload(t *testing.T) {
	const otherID = "b7c6d5e4f3a2918070615243342516078899aabbccddeeff0011223344556677"
	restarted := func(i *incident) { // the container's id and cgroup are new
		i.Victims[0].Cgroup = cgroup(9500, podPath+"/cri-containerd-"+otherID+".scope")
		w := *i.Victims[0].Workload
		w.ContainerID, i.Victims[0].Workload = otherID, &w
	}

	tests := []struct {
		name      string
		then, now func(*incident)
		same      bool // victim
		sameLimit bool
	}{
		{name: "restarted", now: restarted, same: true, sameLimit: true},
		{name: "another container of the pod", now: func(i *incident) {
			restarted(i)
			i.Victims[0].Workload.Container = "proxy"
		}, sameLimit: true},
		{name: "names came later", then: func(i *incident) {
			i.Victims[0].Workload = &events.Workload{PodUID: podUID}
		}, now: restarted, same: true, sameLimit: true},
		{name: "the pod was replaced under its name", now: func(i *incident) {
			restarted(i)
			i.Victims[0].Workload.PodUID = "00000000-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
		}, same: true, sameLimit: true},
		{name: "without names, by path and process", then: bare(containerID), now: bare(otherID), same: true, sameLimit: true},
		{name: "another process", then: bare(containerID), now: func(i *incident) {
			bare(otherID)(i)
			i.Victims[0].Comm = "sh"
		}, sameLimit: true},
		{name: "another limit", now: func(i *incident) {
			i.Victims[0].Workload = &events.Workload{Unit: "a.service"}
			i.Limiter.Cgroup = cgroup(1, "/system.slice/a.service")
		}},
		{name: "jobs that one service runs", then: withWorkload(job("1")), now: withWorkload(job("2")), sameLimit: true},
		{name: "a job", then: withWorkload(job("1")), now: withWorkload(job("1")), same: true, sameLimit: true},
		{name: "a unit of another guest", then: withWorkload(inGuest("web1")), now: withWorkload(inGuest("web2")), sameLimit: true},
		{name: "a unit of the host", then: withWorkload(inGuest("web1")), now: withWorkload(&events.Workload{Unit: "sshd.service"}), sameLimit: true},
		{name: "a unit of a guest", then: withWorkload(inGuest("web1")), now: withWorkload(inGuest("web1")), same: true, sameLimit: true},
		{name: "another guest", then: withWorkload(guest("web1")), now: withWorkload(guest("web2")), sameLimit: true},
		{name: "a unit of a container that was restarted", then: withWorkload(unitIn(containerID)),
			now: withWorkload(unitIn(otherID)), same: true, sameLimit: true},
		{name: "the node ran out then", then: func(i *incident) { i.Scope, i.Limiter = events.ScopeGlobal, nil }, same: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var j Journal
			j.Add(killed("then", 0, tt.then))
			now := killed("now", time.Minute, tt.now)
			j.Add(now)

			var got Kill
			if h := j.before(now); len(h) == 1 {
				got = h[0]
			} else if len(h) > 1 {
				t.Fatalf("got %d kills, want at most 1", len(h))
			}

			if got.SameVictim != tt.same || got.SameLimiter != tt.sameLimit {
				t.Errorf("got same victim %t, same limiter %t; want %t, %t", got.SameVictim, got.SameLimiter, tt.same, tt.sameLimit)
			}
		})
	}
}

func withWorkload(w *events.Workload) func(*incident) {
	return func(i *incident) { i.Victims[0].Workload = w }
}

func job(id string) *events.Workload {
	return &events.Workload{Job: &events.Job{Manager: "slurm", Kind: "job", ID: id}, Unit: "slurmstepd.scope"}
}

func guest(name string) *events.Workload {
	return &events.Workload{Guest: &events.Guest{System: "lxc", Name: name}}
}

func inGuest(name string) *events.Workload {
	return &events.Workload{Unit: "sshd.service", Within: []events.Holder{{Kind: events.HolderGuest, System: "lxc", Name: name}}}
}

func unitIn(id string) *events.Workload {
	return &events.Workload{Unit: "web.service", ContainerID: id, Within: []events.Holder{{Kind: events.HolderContainer, ID: id}}}
}

func bare(containerID string) func(*incident) {
	return func(i *incident) {
		i.Victims[0].Workload, i.Victims[0].Cgroup = nil, cgroup(0, "/docker/"+containerID)
	}
}

func TestJournalKeepsOOMKillsOnly(t *testing.T) {
	var j Journal
	j.Add(killed("user", 0, func(i *incident) { i.Scope = events.ScopeUser }))
	j.Add(killed("waiting", 0, func(i *incident) { i.Outcome = events.OutcomeWaiting }))
	j.Add(killed("nobody", 0, func(i *incident) { i.Victims = nil }))
	j.Add(killed("later", 2*time.Minute, nil))
	j.Add(killed("kill", 0, nil))
	j.Add(killed("kill", 0, func(i *incident) { i.Victims[0].ReleasedAfterNS = new(uint64(5)) })) // an update

	h := j.before(killed("now", time.Minute, nil))
	if len(h) != 1 || h[0].ID != "kill" || !h[0].Released || h[0].ReleasedAfterNS != 5 {
		t.Errorf("got %+v, want the updated kill alone", h)
	}
}

func TestJournalIsBounded(t *testing.T) {
	var j Journal
	for i := range journalKills + 10 {
		j.Add(killed(fmt.Sprint(i), time.Duration(i)*time.Second, nil))
	}

	h := j.before(killed("now", 24*time.Hour, nil))
	if len(h) != journalKills || h[0].ID != "10" {
		t.Errorf("got %d kills from %s on, want %d from 10 on", len(h), h[0].ID, journalKills)
	}
}

func TestLoopOfKills(t *testing.T) {
	var j Journal
	for i := range 4 {
		j.Add(killed(fmt.Sprint(i), time.Duration(i)*4*time.Minute, nil))
	}
	now := killed("now", 20*time.Minute, func(i *incident) {
		i.Victims[0].StartTime, i.Victims[0].Workload.RestartCount = new(noon().Add(19*time.Minute)), new(uint32(5))
	})

	c := find(j.Diagnose(now), "kill_loop")
	if c == nil || !strings.Contains(c.Text, "5 times within 20 min, this time 1 min after it started") {
		t.Errorf("got %+v, want 5 kills and the age of the last victim", c)
	}
}
