// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/test/lab"
)

// expectation is what must be said of a deed.
type expectation struct {
	name   string
	scope  events.Scope
	path   string // of the killer
	reason string // "" any
	// comm is the name of the sender.
	comm  string
	check func(k *events.Killer, problem func(string, ...any))
}

var expectations = []expectation{
	{name: "shell", scope: events.ScopeUser, path: "human", comm: "sh", check: loggedIn},
	{name: "sudo", scope: events.ScopeUser, path: "human", comm: "kill", check: func(k *events.Killer, problem func(string, ...any)) {
		loggedIn(k, problem)

		if k.Login != nil && k.Login.SudoUser != "lab" {
			problem("who called sudo: %q", k.Login.SudoUser)
		}

		if !slices.ContainsFunc(k.Ancestry, func(a events.Ancestor) bool { return a.Comm == "sudo" }) {
			problem("no sudo among the parents: %+v", k.Ancestry)
		}
	}},
	{name: "cgroup-kill", scope: events.ScopeUser, comm: "tee"},
	{name: "unit-stop", scope: events.ScopeUser, path: "systemd", comm: "systemd", check: termed},
	{name: "self", scope: events.ScopeUser, path: "self", comm: "sh"},
	{name: "earlyoom", scope: events.ScopeUser, path: "earlyoom", reason: "memory_pressure", comm: "earlyoom", check: termed},
	{name: "systemd-oomd", scope: events.ScopeUser, path: "systemd-oomd", reason: "memory_pressure", comm: "systemd-oomd"},
	{name: "cron", scope: events.ScopeUser, check: func(k *events.Killer, problem func(string, ...any)) {
		if !slices.ContainsFunc(k.Ancestry, func(a events.Ancestor) bool { return a.Comm == "cron" }) {
			problem("no cron among the parents: %+v", k.Ancestry)
		}

		if k.Path == "human" {
			problem("a job is no human")
		}
	}},
	{name: "oom", scope: events.ScopeMemcg, path: "memcg"},
}

func expectationOf(name string) *expectation {
	for i := range expectations {
		if expectations[i].name == name {
			return &expectations[i]
		}
	}

	return nil
}

func loggedIn(k *events.Killer, problem func(string, ...any)) {
	if k.Login == nil || k.Login.Session == "" || k.Login.User != "lab" || !strings.HasPrefix(k.Login.TTY, "pts/") {
		problem("the login is %+v", k.Login)
	}
}

func termed(k *events.Killer, problem func(string, ...any)) {
	if k.TermBeforeNS == nil || *k.TermBeforeNS == 0 {
		problem("no SIGTERM before it")
	}
}

func (e *expectation) compare(d lab.Deed, found []*events.Incident, problem func(string, ...any)) {
	if len(found) != 1 {
		problem("%d incidents of its victim", len(found))
		return
	}
	inc := found[0]

	k := inc.Killer
	switch {
	case inc.Scope != e.scope:
		problem("the scope is %s, not %s", inc.Scope, e.scope)
	case k == nil:
		problem("nobody killed it")
	case e.path != "" && k.Path != e.path:
		problem("the killer is %s %s (%s), not %s: %+v", k.Kind, k.Path, k.Comm, e.path, *k)
	case e.reason != "" && k.Reason != e.reason:
		problem("the reason is %q, not %q", k.Reason, e.reason)
	case e.comm != "" && k.Comm != e.comm:
		problem("the sender is %q, not %q", k.Comm, e.comm)
	}

	if k == nil {
		return
	}

	if e.check != nil {
		e.check(k, problem)
	}
	// Whoever killed, the memory at that instant is told: "not memory" needs numbers.
	if len(inc.Ladder) == 0 || inc.Ladder[0].UsageBytes == nil {
		problem("no ladder: %+v", inc.Ladder)
	}

	if w := inc.Victims[0].Workload; w == nil || w.Unit != d.Unit {
		problem("the victim's unit is %+v, not %s", w, d.Unit)
	}
}
