// SPDX-License-Identifier: Apache-2.0

package view

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// userKills are a stop by the runtime, a kill by a person with hostile names, and the end of
// a pid namespace.
func userKills() func(sink.Sink) error {
	app := cgroup(9010, appPath)
	incident := func(id string, after time.Duration, k *events.Killer, victims ...string) *events.Incident {
		inc := &events.Incident{
			Envelope: envelope(events.KindIncident, after), ID: id, Scope: events.ScopeUser, Outcome: events.OutcomeKilled,
			Killer: k, Tier: events.TierFentry, Ladder: podLadder(),
		}
		for i, comm := range victims {
			inc.Victims = append(inc.Victims, events.Victim{
				Process:      events.Process{PID: 4711 + i, TID: 4711 + i, Comm: comm, Cgroup: app, Workload: workload(containerID)},
				AnonRSSBytes: new(100 * mib), FileRSSBytes: new(9 * mib), ShmemRSSBytes: new(uint64(0)), SwapBytes: new(uint64(0)),
				OOMScoreAdj: new(985), UID: new(uint32(1000)), IsContainerInit: new(i == 0),
			})
		}

		return inc
	}
	stop := incident("5f0c2c1e-40", 0, &events.Killer{
		Kind: "user", Path: "runtime", Reason: "eviction", PID: 900, Comm: "runc", Exe: "/usr/sbin/runc", UID: new(uint32(0)),
		Cgroup:   cgroup(77, "/system.slice/containerd.service"),
		Ancestry: []events.Ancestor{{PID: 800, Comm: "containerd-shim", Exe: "/usr/bin/containerd-shim-runc-v2"}, {PID: 1, Comm: "systemd"}},
		Evidence: []events.Evidence{
			{What: "sigterm", Value: "runc[880] sent SIGTERM 2.03s earlier", Source: "kernel"},
			{What: "kubelet", Value: `"Eviction manager: must evict pod(s) to reclaim" resourceName="memory"`, Source: "kubelet log"},
		},
		TermBeforeNS: new(uint64(2_030_000_000)),
	}, "java", "sh")
	stop.Notes = []string{"1 victim was killed by the kernel when PID 1 of the PID namespace exited"}
	human := incident("5f0c2c1e-41", time.Second, &events.Killer{
		Kind: "user", Path: "human", Reason: "asked", PID: 901, Comm: "ki\x1b[2Jll", UID: new(uint32(0)),
		Ancestry: []events.Ancestor{
			{PID: 7, Comm: "sudo"}, {PID: 6, Comm: "sudo"}, {PID: 5, Comm: "bash\n"}, {PID: 4, Comm: "sshd"},
			{PID: 3, Comm: "sshd"}, {PID: 2, Comm: "sshd"}, {PID: 1, Comm: "systemd"},
		},
		Cgroup:   cgroup(78, "/user.slice/user-1000.slice/session-3.scope"),
		Login:    &events.Login{Session: "3", TTY: "pts/3", User: "ada", SudoUser: "a\u202eda"},
		Evidence: []events.Evidence{{What: "command", Value: "kill[901]: kill -9 \x1b]0;evil\x07 4711", Source: "/proc"}},
	}, "java")
	pidns := incident("5f0c2c1e-42", 2*time.Second, &events.Killer{Kind: "user", Path: "pidns", PID: 4700, Comm: "tini"}, "a", "b", "c", "d", "e", "f", "g")
	pidns.Ladder, pidns.Unknown = nil, []string{"ladder"}
	kernel := incident("5f0c2c1e-43", 3*time.Second, &events.Killer{Kind: "kernel", Path: "bpf", BPFProgram: &events.BPFProgram{ID: 42, Name: "enforce\x1b[31m"}}, "java")
	bare := incident("5f0c2c1e-44", 4*time.Second, nil, "java")

	return feed(stop, human, pidns, kernel, bare)
}
