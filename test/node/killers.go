// SPDX-License-Identifier: Apache-2.0

// Package node tests oomtrace on whole nodes: with everything that kills on a Debian
// with systemd, and with pods on real containerds. The files without _test are compiled
// into the guest, and import little.
package node

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/testenv/deaths"
	"github.com/oomtrace/oomtrace/test/internal/must"
)

// Killer is one way in which a service is killed: what the guest does, and what must be
// reported of it.
type Killer struct {
	Name string

	properties []string       // of the service
	args       []string       // of the target
	prepare    func()         // before the target starts
	do         func(*Attempt) // it, or what it starts, kills the target
	limit      time.Duration  // until the target is dead; 0: usualLimit
	journal    string         // unit that logs about it
	die        string         // way of package deaths in which the target dies; empty: it is killed

	want want
}

// want is the incident that a killer must cause. Empty fields are not compared.
type want struct {
	scope  events.Scope
	path   string // of the killer
	reason string
	comm   string // of the sender
	// follows is how it came of an OOM kill; empty: it did not.
	follows string
	// nobody is true if no process may be named as the sender.
	nobody bool
	// check compares the rest.
	check func(k *events.Killer, errorf func(format string, args ...any))
}

const usualLimit = 20 * time.Second

// Killers in the order in which they run.
var Killers = []Killer{
	{
		Name: "shell", properties: []string{"User=lab"},
		do:   func(a *Attempt) { login(fmt.Sprintf("kill -9 %d", a.PID)) },
		want: want{scope: events.ScopeUser, path: "human", comm: "sh", check: loggedIn},
	},
	{
		Name: "sudo",
		do:   func(a *Attempt) { login(fmt.Sprintf("sudo kill -9 %d", a.PID)) },
		want: want{scope: events.ScopeUser, path: "human", comm: "kill", check: func(k *events.Killer, errorf func(string, ...any)) {
			loggedIn(k, errorf)

			if k.Login != nil && k.Login.SudoUser != "lab" {
				errorf("user of sudo: got %q, want lab", k.Login.SudoUser)
			}

			hasAncestor(k, "sudo", errorf)
		}},
	},
	{
		Name: "cgroup-kill",
		do:   func(a *Attempt) { login("echo 1 | sudo tee " + a.cgroupFile("cgroup.kill")) },
		want: want{scope: events.ScopeUser, comm: "tee"},
	},
	{
		Name: "unit-stop", properties: []string{"TimeoutStopSec=1"},
		do:   func(a *Attempt) { must.OK("stop the unit", exec.Command("systemctl", "stop", a.Unit).Run()) },
		want: want{scope: events.ScopeUser, path: "systemd", comm: "systemd", check: termBefore},
	},
	{
		Name: "self",
		do: func(a *Attempt) {
			// From inside of the same service, whose rest systemd ends with SIGTERM when its
			// main process dies.
			script := fmt.Sprintf("trap '' TERM; echo $$ > %s; kill -9 %d", a.cgroupFile("cgroup.procs"), a.PID)
			must.OK("kill", exec.Command("sh", "-c", script).Run())
		},
		want: want{scope: events.ScopeUser, path: "self", comm: "sh"},
	},
	{
		Name: "earlyoom", args: []string{"700", "slowly"}, limit: 90 * time.Second, journal: "lab-earlyoom-daemon.service",
		do: func(a *Attempt) {
			const daemon = "lab-earlyoom-daemon.service"
			run("systemd-run", "--quiet", "--unit="+daemon, "--property=OOMScoreAdjust=-100",
				"/usr/bin/earlyoom", "-r", "0", "-m", "70,68", "-s", "100,100")
			waitFor(90*time.Second, a.gone)
			run("systemctl", "stop", daemon)
		},
		want: want{scope: events.ScopeUser, path: "earlyoom", reason: "memory_pressure", comm: "earlyoom", check: termBefore},
	},
	{
		Name: "systemd-oomd", args: []string{"150", "again"}, limit: 150 * time.Second, journal: "systemd-oomd.service",
		// It kills below a cgroup that it watches if pages are scanned there, which needs
		// swap.
		prepare:    compressedSwap,
		properties: []string{"Slice=lab.slice", "MemoryHigh=40M"},
		do: func(*Attempt) {
			run("systemctl", "set-property", "--runtime", "lab.slice",
				"ManagedOOMMemoryPressure=kill", "ManagedOOMMemoryPressureLimit=1%")
		},
		want: want{scope: events.ScopeUser, path: "systemd-oomd", reason: "memory_pressure", comm: "systemd-oomd"},
	},
	{
		Name: "cron", limit: 130 * time.Second,
		do: func(a *Attempt) {
			job := fmt.Sprintf("* * * * * root kill -9 %d\n", a.PID)
			must.OK("write a job", os.WriteFile("/etc/cron.d/lab", []byte(job), 0o644))
			waitFor(125*time.Second, a.gone)
			os.Remove("/etc/cron.d/lab")
		},
		want: want{scope: events.ScopeUser, check: func(k *events.Killer, errorf func(string, ...any)) {
			hasAncestor(k, "cron", errorf)

			if k.Path == "human" {
				errorf("path of a job: got human, want another one")
			}
		}},
	},
	dies("timer", deaths.Timer, want{path: "timer", nobody: true, check: stated("POSIX timer of the process itself")}),
	dies("cpu-timer", deaths.CPUTimer, want{path: "timer", nobody: true, check: stated("POSIX timer of the process itself")}),
	dies("cpu-limit", deaths.CPULimit, want{path: "rlimit", nobody: true, check: stated("RLIMIT_CPU")}),
	dies("file-signal", deaths.File, want{path: "sigio", nobody: true, check: stated("F_SETSIG")}),
	dies("forged-timer", deaths.Sigqueue, want{path: "self", comm: "exe", check: stated("sigqueue(3)")}),
	{
		Name: "parent-exit", die: deaths.Parent,
		do: func(a *Attempt) {
			parent := a.PID
			a.PID = a.child()

			must.OK("have the parent exit", unix.Kill(parent, unix.SIGUSR2))
		},
		want: want{scope: events.ScopeUser, path: "self", comm: "guest", check: stated("PR_SET_PDEATHSIG")},
	},
	{
		Name: "tracer-exit",
		do:   func(a *Attempt) { must.OK("trace", deaths.Command(deaths.Trace, a.PID).Run()) },
		want: want{scope: events.ScopeUser, path: "tracer", comm: "exe", check: stated("PTRACE_O_EXITKILL")},
	},
	enforced("bpf", "sys_enter", deaths.ProgramName),
	enforced("bpf-interrupts-off", "sched_switch", "BPF program"),
	{
		Name: "oom", properties: []string{"MemoryMax=40M", "MemorySwapMax=0"}, args: []string{"100", "slowly"},
		do:   func(*Attempt) {},
		want: want{scope: events.ScopeMemcg, path: "memcg"},
	},
	{
		// Another process of the unit is killed for its limit. systemd stops the unit, and kills the
		// target, which ignores SIGTERM, when the time is over.
		Name:       "oom-policy",
		properties: []string{"MemoryMax=60M", "MemorySwapMax=0", "OOMPolicy=stop", "TimeoutStopSec=15"}, limit: 60 * time.Second,
		do: func(a *Attempt) {
			script := fmt.Sprintf("echo $$ > %s; echo 1000 > /proc/self/oom_score_adj; exec tail /dev/zero", a.cgroupFile("cgroup.procs"))
			_ = exec.Command("sh", "-c", script).Run() // it is killed

			waitFor(60*time.Second, a.gone)
		},
		want: want{
			scope: events.ScopeUser, path: "systemd", reason: "timeout", comm: "systemd", check: termBefore, follows: events.AfterUnitStop,
		},
	},
}

// dies is a killer whose target dies in that way by itself.
func dies(name, way string, w want) Killer {
	w.scope = events.ScopeUser

	return Killer{Name: name, die: way, do: func(a *Attempt) { waitFor(usualLimit, func() bool { return a.signaled() }) }, want: w}
}

// enforced is a killer that is a BPF program at a raw tracepoint.
func enforced(name, tracepoint, evidence string) Killer {
	return Killer{
		Name: name,
		do: func(a *Attempt) {
			detach, err := deaths.Program(tracepoint, a.PID)
			must.OK("attach a program", err)
			waitFor(usualLimit, func() bool { return a.signaled() })
			// The kernel has its name for as long as it is loaded.
			time.Sleep(5 * time.Second)
			detach()
		},
		want: want{scope: events.ScopeUser, path: "bpf", nobody: true, check: stated(evidence)},
	}
}

// stated checks that the evidence has a text.
func stated(text string) func(*events.Killer, func(string, ...any)) {
	return func(k *events.Killer, errorf func(string, ...any)) {
		if !slices.ContainsFunc(k.Evidence, func(e events.Evidence) bool { return strings.Contains(e.Value, text) }) {
			errorf("evidence: got %+v, want %q in it", k.Evidence, text)
		}
	}
}

func loggedIn(k *events.Killer, errorf func(string, ...any)) {
	if l := k.Login; l == nil || l.Session == "" || l.User != "lab" || !strings.HasPrefix(l.TTY, "pts/") {
		errorf("login: got %+v, want a session of user lab on pts/", l)
	}
}

func termBefore(k *events.Killer, errorf func(string, ...any)) {
	if k.TermBeforeNS == nil || *k.TermBeforeNS == 0 {
		errorf("SIGTERM before: got none, want one")
	}
}

func hasAncestor(k *events.Killer, comm string, errorf func(string, ...any)) {
	if !slices.ContainsFunc(k.Ancestry, func(a events.Ancestor) bool { return a.Comm == comm }) {
		errorf("ancestry: got %+v, want %s in it", k.Ancestry, comm)
	}
}

// compare compares the incidents of the target.
func (w *want) compare(unit string, incidents []*events.Incident, errorf func(string, ...any)) {
	if len(incidents) != 1 {
		errorf("number of incidents with the target: got %d, want 1", len(incidents))
		return
	}

	inc := incidents[0]
	if inc.Scope != w.scope {
		errorf("scope: got %s, want %s", inc.Scope, w.scope)
	}

	if k := inc.Killer; k == nil {
		errorf("killer: got none, want %s", w.path)
	} else {
		for _, field := range []struct{ name, got, want string }{
			{"killer's path", k.Path, w.path}, {"reason", k.Reason, w.reason}, {"sender", k.Comm, w.comm},
		} {
			if field.want != "" && field.got != field.want {
				errorf("%s: got %q, want %q in %+v", field.name, field.got, field.want, *k)
			}
		}

		named := k.Kind != events.KillerKernel || k.PID != 0 || k.Comm != "" || k.UID != nil || k.Ancestry != nil || k.Cgroup != nil
		if w.nobody && named {
			errorf("killer: got %+v, want no process", *k)
		}

		if w.check != nil {
			w.check(k, errorf)
		}
	}

	follows := ""
	if inc.Follows != nil {
		follows = inc.Follows.Kind
	}

	if follows != w.follows {
		errorf("what it followed from: got %q, want %q", follows, w.follows)
	}

	// The memory at that instant is reported of every kill: "not memory" needs numbers.
	if len(inc.Ladder) == 0 || inc.Ladder[0].UsageBytes == nil {
		errorf("ladder: got %+v, want it to start with a usage", inc.Ladder)
	}

	if wl := inc.Victims[0].Workload; wl == nil || wl.Unit != unit {
		errorf("victim's workload: got %+v, want unit %s", wl, unit)
	}
}
