// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"strings"
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	containerA = "3f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	containerB = "4f2a91c07d4e5b6a8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d"
	podPath    = "/kubepods/burstable/pod6ba0af16-1c3e-4d5f-8a9b-0c1d2e3f4a5b"
)

// The cgroups of these tests, by their ids.
var userPaths = map[uint64]string{
	200: podPath + "/" + containerA, 201: podPath + "/" + containerA + "/init.scope", 210: podPath + "/" + containerB,
	300: "/system.slice/db.service", 400: "/user.slice/user-1000.slice/session-3.scope", 500: "/plain",
}

func newUserMachine(t *testing.T, tier events.Tier, change ...func(*Config)) *machine {
	m := newMachine(t, tier, change...)
	for id, path := range userPaths {
		m.tree.Learn(events.CgroupKey{ID: id}, path)
	}

	return m
}

func in(cgroup uint64, pid uint32, comm string) kernel.Task {
	t := proc(pid, comm)
	t.Cgroup.ID = cgroup

	return t
}

// user sends a SIGKILL from user space.
func (m *machine) user(from, to kernel.Task, change ...func(*kernel.Kill)) {
	m.t.Helper()
	k := kernel.Kill{Meta: m.meta(from), Target: to, Group: true, MemoryKnown: true, AnonPages: 10, Sender: &kernel.Sender{}}

	k.Pass = 0
	for _, f := range change {
		f(&k)
	}

	m.record(k)
}

// teardown is the kernel's SIGKILL as the init of a pid namespace ends.
func teardown(k *kernel.Kill) {
	k.FromKernel, k.Sender.NamespaceInit, k.Sender.SamePIDNS, k.Sender.Exiting = true, true, true, true
}

func victims(inc *events.Incident) string {
	var names []string
	for _, v := range inc.Victims {
		names = append(names, v.Comm)
	}

	return strings.Join(names, " ")
}

func TestUserKillsFoldByContainer(t *testing.T) {
	m := newUserMachine(t, events.TierFentry)
	runc, app, helper := in(1, 900, "runc"), in(200, 10, "app"), in(201, 11, "helper")
	levels := chain(1000, kernel.NoLimit)
	m.record(kernel.TargetAncestry{Meta: m.meta(runc), Target: app.Cgroup, Ancestry: levels})
	m.user(runc, app, func(k *kernel.Kill) { k.ContainerInit = true })
	m.user(app, helper, teardown)
	m.user(runc, app)                                                                      // once more
	m.user(runc, helper, func(k *kernel.Kill) { k.Result = kernel.ResultIgnored })         // dying
	m.user(runc, in(210, 20, "other"))                                                     // another container of the pod
	m.user(runc, in(210, 21, "gone"), func(k *kernel.Kill) { k.Sender.TargetGone = true }) // nobody dies of it

	if len(m.all) != 0 || len(m.headline) != 0 {
		t.Error("told before it is quiet")
	}

	m.settle()

	if len(m.all) != 2 {
		t.Fatalf("%d incidents, want one for each container", len(m.all))
	}

	inc := m.all[0]
	if inc.Scope != events.ScopeUser || inc.Outcome != events.OutcomeKilled || victims(inc) != "app helper" || inc.Limiter != nil || inc.Audit != nil {
		t.Errorf("%+v", inc)
	}

	if v := inc.Victims[0]; v.Role != "" || *v.AnonRSSBytes != 10*page || v.Workload.ContainerID != containerA || !*v.IsContainerInit {
		t.Errorf("victim %+v", v)
	}

	if k := inc.Killer; k.Kind != "user" || k.PID != 900 || k.Comm != "runc" {
		t.Errorf("killer %+v", k)
	}

	if len(inc.Ladder) != 2 || *inc.Ladder[0].MaxBytes != 1000*page || inc.Ladder[0].Below {
		t.Errorf("ladder %+v", inc.Ladder)
	}

	if len(inc.Notes) != 1 || !strings.Contains(inc.Notes[0], "the init of the pid namespace ended") {
		t.Errorf("notes %q", inc.Notes)
	}

	if other := m.all[1]; victims(other) != "other" || len(other.Ladder) != 0 || strings.Join(other.Unknown, " ") != "ladder" {
		t.Errorf("%s, ladder %v, unknown %q", victims(other), other.Ladder, other.Unknown)
	}

	if n, v := m.c.Totals(); n != 2 || v != 3 {
		t.Errorf("%d incidents with %d victims in all", n, v)
	}

	if len(m.findings) != 0 {
		t.Errorf("the audit counts what is not the OOM killer's: %q", m.findings)
	}
}

func TestWhichUserKills(t *testing.T) {
	for _, test := range []struct {
		mode   UserKills
		cgroup uint64
		want   int
	}{
		{UserKillsOfWorkloads, 200, 1}, {UserKillsOfWorkloads, 300, 1}, {UserKillsOfWorkloads, 400, 0}, {UserKillsOfWorkloads, 500, 0},
		{UserKillsOfWorkloads, 999, 0}, {UserKillsAll, 400, 1}, {UserKillsAll, 500, 1}, {UserKillsAll, 999, 1}, {UserKillsNone, 200, 0},
	} {
		m := newUserMachine(t, events.TierTracepoint, func(c *Config) { c.UserKills = test.mode })
		m.user(in(400, 900, "bash"), in(test.cgroup, 10, "app"))
		m.settle()

		if len(m.all) != test.want {
			t.Errorf("mode %d, cgroup %d: %d incidents, want %d", test.mode, test.cgroup, len(m.all), test.want)
		}
	}
}

// TestOOMExplainsWhatFollows: what is cleared away after an OOM kill is its
// aftermath, on every tier.
func TestOOMExplainsWhatFollows(t *testing.T) {
	app, helper, runc := in(200, 10, "app"), in(200, 11, "helper"), in(1, 900, "runc")

	for _, tier := range []events.Tier{events.TierFentry, events.TierTracepoint} {
		for name, test := range map[string]struct {
			init   bool
			after  func(m *machine)
			note   string
			unmade bool
		}{
			"the end of the pid namespace": {false, func(m *machine) { m.user(app, helper, teardown) }, "the kernel killed helper[11]", true},
			"the runtime, after the init":  {true, func(m *machine) { m.user(runc, helper) }, "runc[900] killed helper[11]", true},
			"the victim once more":         {true, func(m *machine) { m.user(runc, app) }, "", true},
			"the runtime, after a child":   {false, func(m *machine) { m.user(runc, helper) }, "the OOM killer killed here", false},
			"much later": {true, func(m *machine) {
				m.idle(15e9)
				m.user(runc, helper)
			}, "the OOM killer killed here", false},
		} {
			t.Run(string(tier)+", "+name, func(t *testing.T) {
				m := newUserMachine(t, tier)
				c := chain(1000, kernel.NoLimit)
				c[0].Key.ID = 200

				if tier != events.TierTracepoint {
					m.pass = 1
				} else {
					m.c.limitHits.last[c[0].Key] = 0
					c[0].OOMLocal = 1
				}

				m.decide(app, app, c, 0, kernel.ConstraintMemcg)
				m.kills++
				m.passKills++
				m.record(kernel.Kill{Meta: m.meta(app), Target: app, FromKernel: true, Group: true, ContainerInit: test.init})

				if tier == events.TierTracepoint {
					m.decide(app, app, c, 0, kernel.ConstraintMemcg)
				}

				m.mark(app, app)

				if tier != events.TierTracepoint {
					m.end(app, events.OutcomeKilled, c[0])
				}
				m.pass = 0
				test.after(m)
				m.settle()

				if test.unmade {
					inc := m.one()
					if notes := strings.Join(inc.Notes, "\n"); !strings.Contains(notes, test.note) || test.note == "" && notes != "" {
						t.Errorf("notes %q", notes)
					}

					return
				}

				if len(m.all) != 2 || m.all[1].Scope != events.ScopeUser || !strings.Contains(strings.Join(m.all[1].Notes, "\n"), test.note) {
					t.Errorf("%d incidents: %+v", len(m.all), m.all)
				}
			})
		}
	}
}

// TestMissedPass: a kernel SIGKILL outside of a pass that is marked after all is the
// OOM killer's. The kernel skipped the kprobe at the beginning of its pass; what is told
// is what can be seen without passes, or with the decision if that was seen.
func TestMissedPass(t *testing.T) {
	app, other, another := in(100, 10, "app"), in(100, 11, "other"), in(100, 12, "another")
	grown := func() []kernel.Memcg {
		c := chain(1000, kernel.NoLimit)
		c[0].OOMLocal = 1

		return c
	}
	sent := func(m *machine, to kernel.Task) {
		m.user(other, to, func(k *kernel.Kill) { k.FromKernel = true })
	}

	for name, test := range map[string]struct {
		decision *kernel.VictimChosen
		seen     events.Tier
		scope    events.Scope
	}{
		"nothing but the mark": {nil, events.TierTracepoint, events.ScopeUnknown},
		"with the counters":    {&kernel.VictimChosen{Ancestry: grown(), LimiterIndex: kernel.LimiterUnknown}, events.TierTracepoint, events.ScopeMemcg},
		"with the decision": {&kernel.VictimChosen{Ancestry: grown(), LimiterIndex: 0, Constraint: kernel.ConstraintMemcg, AllocKnown: true},
			events.TierKprobe, events.ScopeMemcg},
	} {
		t.Run(name, func(t *testing.T) {
			m := newUserMachine(t, events.TierKprobe)
			m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
			sent(m, app)

			if d := test.decision; d != nil {
				d.Meta, d.Victim = m.meta(other), app
				m.record(*d)
			}

			m.mark(other, app)
			m.settle()

			inc := m.one()
			if inc.Tier != test.seen || inc.Scope != test.scope || roles(inc) != "chosen" || inc.Trigger.PID != 11 {
				t.Errorf("tier %s, scope %s, victims %s, trigger %+v", inc.Tier, inc.Scope, roles(inc), inc.Trigger)
			}
		})
	}

	t.Run("a group, of which the decision was seen", func(t *testing.T) {
		m := newUserMachine(t, events.TierKprobe)
		m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
		c := grown()
		c[0].OOMGroup = true

		for i, member := range []kernel.Task{app, other, another} {
			sent(m, member)

			d := kernel.VictimChosen{Meta: m.meta(other), Victim: member, Ancestry: c, LimiterIndex: kernel.LimiterUnknown}
			if i == 0 {
				d.LimiterIndex, d.Constraint, d.AllocKnown = 0, kernel.ConstraintMemcg, true
			}

			m.record(d)
			m.mark(other, member)
		}

		m.settle()

		if inc := m.one(); roles(inc) != "chosen group group" {
			t.Errorf("victims %s", roles(inc))
		}
	})
	t.Run("who shares its memory", func(t *testing.T) {
		m := newUserMachine(t, events.TierKprobe)
		sent(m, app)
		m.mark(other, app)
		m.kill(other, another, false, true)
		m.settle()

		if inc := m.one(); roles(inc) != "chosen shared_mm" {
			t.Errorf("victims %s", roles(inc))
		}
	})
	t.Run("a signal that is not marked", func(t *testing.T) {
		m := newUserMachine(t, events.TierKprobe)
		sent(m, in(200, 10, "app"))
		m.mark(other, another)
		m.settle()

		if inc := m.one(); inc.Scope != events.ScopeUser {
			t.Errorf("%+v", inc)
		}
	})
}

func TestUserKillsAreBounded(t *testing.T) {
	m := newUserMachine(t, events.TierFentry, func(c *Config) { c.UserKills = UserKillsAll })

	killer := in(1, 1, "killall")
	for i := range uint32(maxUserVictims + 50) {
		m.user(killer, in(200, 1000+i, "app"))
	}

	for i := range uint64(3 * maxUserGroups) {
		m.user(killer, in(10_000+i, uint32(10_000+i), "x"))
	}

	if n := len(m.c.userKills.groups); n > maxUserGroups {
		t.Errorf("%d groups are kept", n)
	}

	m.settle()

	if len(m.all) != 1+3*maxUserGroups {
		t.Errorf("%d incidents", len(m.all))
	}

	first := m.all[0]
	if len(first.Victims) != maxUserVictims || !strings.Contains(strings.Join(first.Notes, "\n"), "50 more were killed that are not listed") {
		t.Errorf("%d victims, notes %q", len(first.Victims), first.Notes)
	}
}

func TestSandboxOfEachPodEndsLikeThis(t *testing.T) {
	pause := in(210, 20, "pause")

	for path, want := range map[string]int{"runtime": 0, "human": 1} {
		m := newUserMachine(t, events.TierFentry, func(c *Config) { c.Killers = sender(path) })
		m.user(in(1, 900, "runc"), pause, func(k *kernel.Kill) { k.ContainerInit = true })
		m.settle()

		if len(m.all) != want {
			t.Errorf("%s: %d incidents, want %d", path, len(m.all), want)
		}
	}
}

// sender knows one way for all.
type sender string

func (s sender) Saw(kernel.Kill, events.Process, events.Process) {}

func (s sender) Killer(kernel.Kill, events.Process, events.Process) *events.Killer {
	return &events.Killer{Kind: "user", Path: string(s)}
}
