// SPDX-License-Identifier: Apache-2.0

package sigkill

import (
	"slices"
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/runtimes"
)

const second = uint64(1e9)

var known = NewClassifier(runtimes.Known())

// facts returns those of a SIGKILL by kill(2), a hundred seconds after boot, to the
// init of a container that was started ten seconds after boot.
func facts(change ...func(*Facts)) *Facts {
	k := kernel.Kill{
		Meta:   kernel.Meta{BootNS: 100 * second, Current: kernel.Task{TGID: 900, TID: 900, Comm: "x", LeaderComm: "x"}},
		Target: kernel.Task{TGID: 10, TID: 10, LeaderComm: "app"}, Group: true, StartBootNS: 10 * second, ContainerInit: true,
		Sender: &kernel.Sender{UID: 0},
	}

	f := &Facts{
		Kill: k, Sender: Process{PID: 900},
		To: events.Process{PID: 10, Comm: "app", Workload: &events.Workload{ContainerID: "c1", PodUID: "p1", QoS: "burstable"}},
	}
	for _, c := range change {
		c(f)
	}
	f.Kill.Current.LeaderComm = f.Sender.Comm

	return f
}

func by(comm, exe string, command ...string) func(*Facts) {
	return func(f *Facts) { f.Sender.Comm, f.Sender.Exe, f.Sender.Command = comm, exe, command }
}

func pid(n int) func(*Facts) {
	return func(f *Facts) { f.Sender.PID, f.Kill.Current.TGID = n, uint32(n) }
}

func below(parents ...string) func(*Facts) {
	return func(f *Facts) {
		for i, p := range parents {
			comm, tty, _ := strings.Cut(p, " on ")
			f.Ancestors = append(f.Ancestors, Process{PID: 800 - i, Comm: comm, TTY: tty})
		}
	}
}

func termBefore(ns uint64, comm string) func(*Facts) {
	return func(f *Facts) {
		f.Kill.Sender.TermNS, f.Kill.Sender.TermSender = f.Kill.BootNS-ns, kernel.ProcessName{TGID: 1, Comm: comm}
	}
}

func inService(unit string) func(*Facts) {
	return func(f *Facts) { f.To.Workload = &events.Workload{Unit: unit} }
}

func fromUnit(unit string) func(*Facts) {
	return func(f *Facts) {
		f.From.Workload = &events.Workload{Unit: unit}
		f.From.Cgroup = &events.Cgroup{Path: "/system.slice/" + unit}
	}
}

// logged sets what the kubelet logged, by lines as it writes them.
func logged(lines ...string) func(*Facts) {
	return func(f *Facts) {
		for _, line := range lines {
			if found, ok := kubelet.ParseLine("I1125 03:00:00.000000    2480 kubelet.go:1] " + line); ok {
				f.Kubelet = append(f.Kubelet, found)
			}
		}
	}
}

func send(change func(*kernel.Kill)) func(*Facts) { return func(f *Facts) { change(&f.Kill) } }

func TestSendersAreClassified(t *testing.T) {
	session := func(f *Facts) {
		f.Sender.Cgroups = []string{"/user.slice/user-1000.slice/session-3.scope"}
		f.Kill.Sender.LoginKnown, f.Kill.Sender.LoginUID, f.User = true, 1000, "ada"
	}
	for _, test := range []struct {
		name         string
		facts        *Facts
		kind         string // empty: user
		path, reason string
		evidence     string // a part of it
		login        *events.Login
	}{
		{name: "the kubelet stops a container, grace 30",
			facts: facts(by("runc", "/usr/sbin/runc", "runc", "kill", "c1", "9"), below("containerd-shim", "systemd"), termBefore(30*second, "runc")),
			path:  "runtime", evidence: "do not show which"},
		{name: "an eviction at a hard threshold, as far as the node knows",
			facts: facts(by("runc", "/usr/sbin/runc"), below("containerd-shim", "systemd"), termBefore(2050*1e6, "runc")),
			path:  "runtime", evidence: "matches an eviction at a hard threshold"},
		{name: "an eviction that the kubelet wrote of, and the deletion that follows",
			facts: facts(by("crun", "/usr/bin/crun"), below("conmon", "systemd"),
				logged(`"Eviction manager: must evict pod(s) to reclaim" resourceName="memory"`, `"SyncLoop DELETE" source="api" pods=["shop/a"]`)),
			path: "runtime", reason: "eviction", evidence: "must evict"},
		{name: "a probe", facts: facts(by("runc", ""), logged(
			`"Message for Container of pod" containerName="app" pod="shop/a" containerMessage="Container app failed liveness probe, will be restarted"`)),
			path: "runtime", reason: "probe", evidence: "liveness"},
		{name: "a probe, by its own line", facts: facts(by("runc", ""), logged(`"Probe failed" probeType="Readiness"`, `"Probe failed" probeType="Liveness" pod="shop/a"`)), path: "runtime", reason: "probe", evidence: "Liveness"},
		{name: "a failed readiness probe kills nothing", facts: facts(by("runc", ""), logged(`"Probe failed" probeType="Readiness" pod="shop/a"`)), path: "runtime"},
		{name: "a preemption", facts: facts(by("runc", ""), logged(`"Preempting pod to free up resources" pod="shop/a"`)), path: "runtime", reason: "preemption"},
		{name: "a deletion", facts: facts(by("runc", ""), logged(`"SyncLoop DELETE" source="api" pods=["shop/a"]`, `"SyncLoop (PLEG): event for pod" pod="shop/a"`)), path: "runtime", reason: "delete"},
		{name: "runc has exited, its shim is known", facts: facts(by("exe", ""), below("containerd-shim", "systemd")), path: "runtime"},
		{name: "runc runs a copy of itself", facts: facts(by("6", "/memfd:runc_cloned:/proc/self/exe (deleted)")), path: "runtime"},
		{name: "a copy of runc, gone", facts: facts(by("6", "memfd:runc_cloned:/proc/self/ex")), path: "runtime"},
		{name: "another process of the service", facts: facts(by("x", "/usr/bin/x"), inService("db.service"), fromUnit("db.service")), path: "self"},
		{name: "a service of that name in a guest", facts: facts(by("x", "/usr/bin/x"), inService("db.service"), fromUnit("db.service"),
			func(f *Facts) {
				f.To.Workload.Within = []events.Holder{{Kind: events.HolderGuest, System: "lxc", Name: "web1"}}
			}), path: "other", evidence: "runs in db.service"},
		{name: "a service of a guest", facts: facts(by("x", "/usr/bin/x"), inService("a.service"), fromUnit("db.service"),
			func(f *Facts) {
				f.From.Workload.Within = []events.Holder{{Kind: events.HolderGuest, System: "lxc", Name: "web1"}}
			}), path: "other", evidence: "runs in db.service of guest web1"},
		{name: "docker alone", facts: facts(by("dockerd", "/usr/bin/dockerd"), func(f *Facts) { f.To.Workload = &events.Workload{ContainerID: "c1"} }), path: "runtime"},
		{name: "podman, by somebody in a shell",
			facts: facts(by("podman", "/usr/bin/podman", "podman", "kill", "x"), below("bash on pts/3", "sshd"),
				session, func(f *Facts) { f.To.Workload = &events.Workload{ContainerID: "c1"} }),
			path: "runtime", reason: "asked", login: &events.Login{Session: "3", User: "ada", TTY: "pts/3"}},
		{name: "a process that calls itself runc is not trusted", facts: facts(by("runc", "/home/eve/evil"), below("bash on pts/1")), path: "human", reason: "asked", login: &events.Login{TTY: "pts/1"}},
		{name: "systemd, a stop that took too long", facts: facts(by("systemd", ""), pid(1), inService("db.service"), termBefore(90*second, "systemd")), path: "systemd", reason: "timeout"},
		{name: "systemd, the rest of a unit", facts: facts(by("systemd", ""), pid(1), inService("db.service"), termBefore(3*1e6, "systemd")), path: "systemd", reason: "unit_stop"},
		{name: "systemd, at once", facts: facts(by("systemd", ""), pid(1), inService("db.service")), path: "systemd", evidence: "none was observed"},
		{name: "a user's systemd", facts: facts(by("systemd", "/usr/lib/systemd/systemd"), inService("x.service"), termBefore(90*second, "systemd")), path: "systemd", reason: "timeout"},
		{name: "a SIGTERM before the target started", facts: facts(by("systemd", ""), pid(1), inService("db.service"), termBefore(95*second, "systemd")), path: "systemd", evidence: "none was observed"},
		{name: "systemd-oomd", facts: facts(by("systemd-oomd", "/usr/lib/systemd/systemd-oomd"), inService("db.service"), func(f *Facts) { f.OOMDKills = "12" }),
			path: "systemd-oomd", reason: "memory_pressure", evidence: "user.oomd_kill=12"},
		{name: "systemd, where systemd-oomd has been", facts: facts(by("systemd", ""), pid(1), inService("db.service"), func(f *Facts) { f.OOMDKills = "12" }), path: "systemd-oomd", reason: "memory_pressure"},
		{name: "earlyoom", facts: facts(by("earlyoom", "/usr/bin/earlyoom"), termBefore(10*second, "earlyoom")), path: "earlyoom", reason: "memory_pressure"},
		{name: "oomd", facts: facts(by("oomd", "/usr/bin/oomd_bin")), path: "oomd", reason: "memory_pressure"},
		{name: "nohang", facts: facts(by("nohang", "/usr/bin/python3.12")), path: "nohang", reason: "memory_pressure"},
		{name: "from inside, by its pid namespace", facts: facts(by("sh", "/bin/busybox"), send(func(k *kernel.Kill) { k.Sender.SamePIDNS = true })), path: "self"},
		{name: "from another container with the same pid namespace", facts: facts(by("sh", ""), func(f *Facts) {
			f.Kill.Sender.SamePIDNS = true
			f.From.Workload = &events.Workload{ContainerID: "c2", PodUID: "p1"}
		}), path: "self", evidence: "in another container: c2"},
		{name: "systemd of a nested node, to a container in it", facts: facts(by("systemd", "/usr/lib/systemd/systemd"), func(f *Facts) {
			f.Kill.Sender.NamespaceInit = true
		}), path: "systemd"},
		{name: "from inside, by its cgroup", facts: facts(by("sh", ""), func(f *Facts) { f.From.Workload = f.To.Workload }), path: "self"},
		{name: "within a service", facts: facts(by("postgres", ""), inService("db.service"), fromUnit("db.service")), path: "self"},
		{name: "not within a login session: everything of a person is",
			facts: facts(by("bash", ""), below("sshd"), inService("session-3.scope"), fromUnit("session-3.scope")),
			path:  "human", reason: "asked", login: &events.Login{Session: "3"}},
		{name: "another pod's sidecar is not inside", facts: facts(by("x", ""), func(f *Facts) { f.From.Workload = &events.Workload{ContainerID: "c2", PodUID: "p1"} }), path: "other"},
		{name: "the init of the pid namespace ends", facts: facts(by("app", ""), send(func(k *kernel.Kill) {
			k.FromKernel, k.Sender.NamespaceInit, k.Sender.SamePIDNS, k.Current.Exiting = true, true, true, true
		})), path: "pidns", evidence: "its PID 1 app[900] exited"},
		{name: "the kernel itself", facts: facts(by("app", ""), send(func(k *kernel.Kill) { k.FromKernel = true })), kind: "kernel", path: "kernel", evidence: "RLIMIT_CPU"},
		{name: "cgroup.kill by nobody known", facts: facts(by("x", ""), send(func(k *kernel.Kill) { k.Sender.NoInfo, k.Group = true, false })), path: "cgroup_kill", evidence: "cgroup.kill was written"},
		{name: "cgroup.kill by runc", facts: facts(by("runc", ""), send(func(k *kernel.Kill) { k.Sender.NoInfo, k.Group = true, false })), path: "runtime", evidence: "cgroup.kill was written"},
		{name: "cgroup.kill by a human", facts: facts(by("bash", ""), below("sshd"), session, send(func(k *kernel.Kill) { k.Sender.NoInfo, k.Group = true, false })),
			path: "human", reason: "asked", evidence: "cgroup.kill was written", login: &events.Login{Session: "3", User: "ada"}},
		{name: "a parent's death", facts: facts(by("x", ""), send(func(k *kernel.Kill) { k.Sender.NoInfo, k.Current.Exiting = true, true })),
			path: "other", evidence: "PR_SET_PDEATHSIG"},
		{name: "kill -9 in a shell", facts: facts(by("bash", "/usr/bin/bash", "-bash"), below("sshd"), session), path: "human", reason: "asked", evidence: "session-3.scope",
			login: &events.Login{Session: "3", User: "ada"}},
		{name: "sudo kill, all of it gone", facts: facts(by("kill", ""), below("sudo", "bash on pts/3"), func(f *Facts) {
			f.Ancestors[1].SudoUser = "ada\x1b[31m"
			f.Kill.Sender.LoginKnown, f.Kill.Sender.LoginUID = true, 1000
		}), path: "human", reason: "asked", evidence: "is on pts/3", login: &events.Login{TTY: "pts/3", User: "1000", SudoUser: "ada\x1b[31m"}},
		{name: "sudo kill, and nobody saw its environment", facts: facts(by("kill", ""), below("sudo", "sudo", "bash on pts/3"), func(f *Facts) {
			f.Ancestors[2].User = "bob"
		}), path: "human", reason: "asked", evidence: "is on pts/3", login: &events.Login{TTY: "pts/3", SudoUser: "bob"}},
		{name: "ssh host kill, without a terminal", facts: facts(by("kill", ""), below("bash", "sshd-session", "sshd", "systemd")), path: "human", reason: "asked", evidence: "sshd-session"},
		{name: "a cron job, by its cgroup", facts: facts(by("kill", ""), fromUnit("cron.service"), below("sh")), path: "cron", evidence: "cron.service"},
		{name: "a cron job with sudo", facts: facts(by("kill", ""), below("sudo", "sh", "cron", "cron")), path: "cron", evidence: "ancestor=cron"},
		{name: "another service", facts: facts(by("watchdogd", "/usr/sbin/watchdogd"), fromUnit("watchdog.service")), path: "other", evidence: "watchdog.service"},
		{name: "nothing is known", facts: facts(), path: "other"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := known.Classify(test.facts)
			if test.kind == "" {
				test.kind = "user"
			}

			if k.Kind != test.kind || k.Path != test.path || k.Reason != test.reason {
				t.Errorf("got %s, path %s, reason %q, evidence %v, want %s, path %s, reason %q", k.Kind, k.Path, k.Reason, k.Evidence,
					test.kind, test.path, test.reason)
			}

			if test.evidence != "" && !slices.ContainsFunc(k.Evidence,
				func(e events.Evidence) bool { return strings.Contains(e.What+"="+e.Value, test.evidence) }) {
				t.Errorf("got evidence %v, want %q in it", k.Evidence, test.evidence)
			}

			switch {
			case (test.login == nil) != (k.Login == nil):
				t.Errorf("got login %+v, want %+v", k.Login, test.login)
			case test.login != nil && *test.login != *k.Login:
				t.Errorf("got login %+v, want %+v", k.Login, test.login)
			}
		})
	}
}

func TestAnEarlierSIGTERMIsReported(t *testing.T) {
	if k := known.Classify(facts(by("runc", ""), termBefore(2*second, "runc"))); k.TermBeforeNS == nil || *k.TermBeforeNS != 2*second {
		t.Errorf("got %v, want 2 s", k.TermBeforeNS)
	}

	for name, f := range map[string]*Facts{
		"none":                            facts(),
		"before the target was there":     facts(termBefore(99*second, "x")),
		"after the SIGKILL, by the clock": facts(send(func(k *kernel.Kill) { k.Sender.TermNS = k.BootNS + 1 })),
	} {
		if k := known.Classify(f); k.TermBeforeNS != nil {
			t.Errorf("%s: got %d ns before, want none", name, *k.TermBeforeNS)
		}
	}
}
