// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"fmt"
	"slices"
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

// userPaths are the cgroups of these tests, by their ids.
var userPaths = map[uint64]string{
	200: podPath + "/" + containerA, 201: podPath + "/" + containerA + "/init.scope", 210: podPath + "/" + containerB,
	300: "/system.slice/db.service", 400: "/user.slice/user-1000.slice/session-3.scope", 500: "/plain",
}

func newUserHost(t *testing.T, tier events.Tier, change ...func(*Config)) *host {
	m := newHost(t, tier, change...)
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
func (m *host) user(from, to kernel.Task, change ...func(*kernel.Kill)) {
	m.t.Helper()
	k := kernel.Kill{Meta: m.meta(from), Target: to, Group: true, MemoryKnown: true, AnonPages: 10, Sender: &kernel.Sender{}}

	k.Invocation = 0
	for _, f := range change {
		f(&k)
	}

	m.record(k)
}

// sentBy is a Killers that finds one kind of sender.
type sentBy string

func (sentBy) Saw(kernel.Kill, events.Process, events.Process) {}

func (path sentBy) Killer(kernel.Kill, events.Process, events.Process) *events.Killer {
	return &events.Killer{Kind: events.KillerUser, Path: string(path), PID: 900, Comm: "sender"}
}

// teardown makes it a SIGKILL by the kernel as the init of a pid namespace ends.
func teardown(k *kernel.Kill) {
	k.FromKernel, k.Sender.NamespaceInit, k.Sender.SamePIDNS, k.Current.Exiting = true, true, true, true
}

func victims(inc *events.Incident) string {
	var names []string
	for _, v := range inc.Victims {
		names = append(names, v.Comm)
	}

	return strings.Join(names, " ")
}

func TestUserKillsAreGroupedByContainer(t *testing.T) {
	m := newUserHost(t, events.TierFentry)
	runc, app, helper := in(1, 900, "runc"), in(200, 10, "app"), in(201, 11, "helper")
	levels := leafToRoot(1000, kernel.NoLimit)
	m.record(kernel.TargetAncestry{Meta: m.meta(runc), Target: app.Cgroup, Ancestry: levels})
	m.user(runc, app, func(k *kernel.Kill) { k.ContainerInit = true })
	m.user(app, helper, teardown)
	m.user(runc, app)                  // once more
	m.user(runc, in(210, 20, "other")) // another container of the pod

	if len(m.all) != 0 || len(m.headline) != 0 {
		t.Errorf("got %d incidents before it was quiet, want none", len(m.all))
	}

	m.settle()

	if len(m.all) != 2 {
		t.Fatalf("got %d incidents, want one for each container", len(m.all))
	}

	inc := m.all[0]
	if inc.Scope != events.ScopeUser || inc.Outcome != events.OutcomeKilled || victims(inc) != "app helper" ||
		inc.Limiter != nil || inc.Audit != nil {
		t.Errorf("got %+v, want a user's kill of app and helper without a limiter or an audit", inc)
	}

	if v := inc.Victims[0]; v.Role != "" || *v.AnonRSSBytes != 10*page || v.Workload.ContainerID != containerA || !*v.IsContainerInit {
		t.Errorf("got victim %+v, want the init of container A without a role", v)
	}

	if k := inc.Killer; k.Kind != "user" || k.PID != 900 || k.Comm != "runc" {
		t.Errorf("got killer %+v, want runc[900]", k)
	}

	if len(inc.Ladder) != 2 || *inc.Ladder[0].MaxBytes != 1000*page || inc.Ladder[0].Below {
		t.Errorf("got ladder %+v, want two rungs, none of them below a limiter", inc.Ladder)
	}

	if len(inc.Notes) != 1 || !strings.Contains(inc.Notes[0], "when PID 1 of the PID namespace exited") {
		t.Errorf("got notes %q, want one on the pid namespace", inc.Notes)
	}

	if other := m.all[1]; victims(other) != "other" || len(other.Ladder) != 0 || strings.Join(other.Unknown, " ") != "ladder" {
		t.Errorf("got victims %s, ladder %v, unknown %q, want other and an unknown ladder", victims(other), other.Ladder, other.Unknown)
	}

	if n, v := m.c.Totals(); n != 2 || v != 3 {
		t.Errorf("got %d incidents with %d victims in total, want 2 with 3", n, v)
	}

	if len(m.findings) != 0 {
		t.Errorf("got findings %q, want none: the audit counts OOM kills only", m.findings)
	}
}

func TestModeSelectsUserKills(t *testing.T) {
	for _, test := range []struct {
		mode   UserKills
		cgroup uint64
		want   int
	}{
		{UserKillsOfWorkloads, 200, 1}, {UserKillsOfWorkloads, 300, 1}, {UserKillsOfWorkloads, 400, 0}, {UserKillsOfWorkloads, 500, 0},
		{UserKillsOfWorkloads, 999, 0}, {UserKillsAll, 400, 1}, {UserKillsAll, 500, 1}, {UserKillsAll, 999, 1}, {UserKillsNone, 200, 0},
	} {
		m := newUserHost(t, events.TierTracepoint, func(c *Config) { c.UserKills = test.mode })
		m.user(in(400, 900, "bash"), in(test.cgroup, 10, "app"))
		m.settle()

		if len(m.all) != test.want {
			t.Errorf("mode %d, cgroup %d: got %d incidents, want %d", test.mode, test.cgroup, len(m.all), test.want)
		}
	}
}

// TestCleanupAfterAnOOMKillFollowsIt: what is killed because of an OOM kill is listed with
// it, in every attach mode.
func TestCleanupAfterAnOOMKillFollowsIt(t *testing.T) {
	app, helper, runc := in(200, 10, "app"), in(200, 11, "helper"), in(1, 900, "runc")

	for _, tier := range []events.Tier{events.TierFentry, events.TierTracepoint} {
		for name, test := range map[string]struct {
			init       bool
			after      func(m *host)
			text       string // of what followed, or of the note on the second incident
			noIncident bool
		}{
			"the end of the pid namespace": {false, func(m *host) { m.user(app, helper, teardown) }, "the kernel killed helper[11]", true},
			"the runtime, after the init":  {true, func(m *host) { m.user(runc, helper) }, "runc[900] killed helper[11]", true},
			"the victim once more":         {true, func(m *host) { m.user(runc, app) }, "", true},
			"a person, after the init": {true, func(m *host) {
				m.c.cfg.Killers = sentBy(events.PathHuman)
				m.user(runc, helper)
			}, "the OOM killer killed in the same workload", false},
			"the unit's stop, which whoever has all kills links": {false, func(m *host) {
				m.c.cfg.Killers = sentBy(events.PathSystemd)
				m.user(runc, helper)
			}, "", false},
			"the runtime, after a child": {false, func(m *host) { m.user(runc, helper) }, "the OOM killer killed in the same workload", false},
			"much later": {true, func(m *host) {
				m.idle(15e9)
				m.user(runc, helper)
			}, "the OOM killer killed in the same workload", false},
		} {
			t.Run(string(tier)+", "+name, func(t *testing.T) {
				m := newUserHost(t, tier)
				c := leafToRoot(1000, kernel.NoLimit)
				c[0].Key.ID = 200

				if tier != events.TierTracepoint {
					m.invocation = 1
				}

				m.chooses(app, app, c, 0, kernel.ConstraintMemcg)
				m.kills++
				m.limiterKills++
				m.record(kernel.Kill{Meta: m.meta(app), Target: app, FromKernel: true, Group: true, ContainerInit: test.init})

				if tier == events.TierTracepoint {
					m.chooses(app, app, c, 0, kernel.ConstraintMemcg)
				}

				m.mark(app, app)

				if tier != events.TierTracepoint {
					m.returns(app, events.OutcomeKilled, c[0])
				}
				m.invocation = 0
				test.after(m)
				m.settle()

				if test.noIncident {
					inc := m.one()

					followed := fmt.Sprint(inc.Followed)
					if test.text == "" && inc.Followed != nil || !strings.Contains(followed, test.text) {
						t.Errorf("got %s, want %q in it", followed, test.text)
					}

					return
				}

				if len(m.all) != 2 || m.all[1].Scope != events.ScopeUser || test.text == "" && m.all[1].Notes != nil ||
					!strings.Contains(strings.Join(m.all[1].Notes, "\n"), test.text) {
					t.Errorf("got %d incidents: %+v, want a second one with the note %q", len(m.all), m.all, test.text)
				}
			})
		}
	}
}

// TestMissedEntryIsFoundByTheMark: a SIGKILL by the kernel outside of any invocation is
// the OOM killer's if its target is marked. The kernel skipped the kprobe on the entry;
// the incident has what tracepoints show, or the choice if that was seen.
func TestMissedEntryIsFoundByTheMark(t *testing.T) {
	app, other, another := in(100, 10, "app"), in(100, 11, "other"), in(100, 12, "another")
	ancestry := func() []kernel.Memcg { return leafToRoot(1000, kernel.NoLimit) }
	sent := func(m *host, to kernel.Task) {
		m.user(other, to, func(k *kernel.Kill) { k.FromKernel = true })
	}

	for name, test := range map[string]struct {
		chosen *kernel.VictimChosen
		seen   events.Tier
		scope  events.Scope
	}{
		"nothing but the mark": {nil, events.TierTracepoint, events.ScopeUnknown},
		"with its last reclaim": {&kernel.VictimChosen{Ancestry: ancestry(), LastReclaim: kernel.ReclaimMemcg},
			events.TierTracepoint, events.ScopeMemcg},
		"with the choice": {&kernel.VictimChosen{Ancestry: ancestry(), LimiterIndex: 0, Constraint: kernel.ConstraintMemcg, AllocKnown: true},
			events.TierKprobe, events.ScopeMemcg},
	} {
		t.Run(name, func(t *testing.T) {
			m := newUserHost(t, events.TierKprobe)
			m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
			sent(m, app)

			if d := test.chosen; d != nil {
				d.Meta, d.Victim = m.meta(other), app
				m.record(*d)
			}

			m.mark(other, app)
			m.settle()

			inc := m.one()
			if inc.Tier != test.seen || inc.Scope != test.scope || roles(inc) != "chosen" || inc.Trigger.PID != 11 {
				t.Errorf("got tier %s, scope %s, victims %s, trigger %+v, want %s, %s, chosen, 11",
					inc.Tier, inc.Scope, roles(inc), inc.Trigger, test.seen, test.scope)
			}
		})
	}

	t.Run("a group, whose choice was seen", func(t *testing.T) {
		m := newUserHost(t, events.TierKprobe)
		m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
		c := ancestry()
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
			t.Errorf("got victims %s, want chosen group group", roles(inc))
		}
	})
	t.Run("a process that shares its memory", func(t *testing.T) {
		m := newUserHost(t, events.TierKprobe)
		sent(m, app)
		m.mark(other, app)
		m.kill(other, another, false, true)
		m.settle()

		if inc := m.one(); roles(inc) != "chosen shared_mm" {
			t.Errorf("got victims %s, want chosen shared_mm", roles(inc))
		}
	})
	t.Run("a signal that is not marked", func(t *testing.T) {
		m := newUserHost(t, events.TierKprobe)
		sent(m, in(200, 10, "app"))
		m.mark(other, another)
		m.settle()

		if inc := m.one(); inc.Scope != events.ScopeUser {
			t.Errorf("got %+v, want scope user", inc)
		}
	})
}

func TestUserKillsAreBounded(t *testing.T) {
	m := newUserHost(t, events.TierFentry, func(c *Config) { c.UserKills = UserKillsAll })

	killer := in(1, 1, "killall")
	for i := range uint32(maxUserVictims + 50) {
		m.user(killer, in(200, 1000+i, "app"))
	}

	for i := range uint64(3 * maxUserGroups) {
		m.user(killer, in(10_000+i, uint32(10_000+i), "x"))
	}

	if n := len(m.c.userKills.groups); n > maxUserGroups {
		t.Errorf("got %d groups, want at most %d", n, maxUserGroups)
	}

	m.settle()

	if len(m.all) != 1+3*maxUserGroups {
		t.Errorf("got %d incidents, want %d", len(m.all), 1+3*maxUserGroups)
	}

	first := m.all[0]
	if len(first.Victims) != maxUserVictims ||
		!strings.Contains(strings.Join(first.Notes, "\n"), "50 more victims are not listed") {
		t.Errorf("got %d victims, notes %q, want %d and a note on 50 more", len(first.Victims), first.Notes, maxUserVictims)
	}
}

func TestSandboxKilledByItsRuntimeIsNoIncident(t *testing.T) {
	pause := in(210, 20, "pause")

	for path, want := range map[string]int{"runtime": 0, "human": 1} {
		m := newUserHost(t, events.TierFentry, func(c *Config) { c.Killers = sender(path) })
		m.user(in(1, 900, "runc"), pause, func(k *kernel.Kill) { k.ContainerInit = true })
		m.settle()

		if len(m.all) != want {
			t.Errorf("killer %s: got %d incidents, want %d", path, len(m.all), want)
		}
	}
}

// sender identifies every sender by this path.
type sender string

func (s sender) Saw(kernel.Kill, events.Process, events.Process) {}

func (s sender) Killer(kernel.Kill, events.Process, events.Process) *events.Killer {
	return &events.Killer{Kind: "user", Path: string(s)}
}

// With tracepoints only, each SIGKILL of the kernel comes twice: it may be the OOM killer's,
// and it may be anything else.
func TestKernelKillsThatMayBeTheOOMKillers(t *testing.T) {
	names := []string{"__send_signal_locked", "__oom_kill_process", "check_rlimit"}
	named := func(c *Config) {
		c.Symbol = func(address uint64) (string, bool) { return names[address], true }
	}
	app, other := in(200, 10, "app"), in(200, 11, "other")
	fromKernel := func(stack ...uint64) func(*kernel.Kill) {
		return func(k *kernel.Kill) { k.FromKernel, k.Code, k.Sender.Stack = true, kernel.CodeKernel, stack }
	}

	for name, test := range map[string]struct {
		change []func(*Config)
		do     func(m *host)
		want   string // scopes
	}{
		"the OOM killer's, by its mark": {nil, func(m *host) {
			m.kill(other, app, true, false)
			m.user(other, app, fromKernel())
			m.mark(other, app)
		}, "unknown"},
		"another one's": {nil, func(m *host) {
			m.kill(other, app, false, false)
			m.user(other, app, fromKernel())
		}, "user"},
		"the OOM killer's, by its stack, and its mark was lost": {[]func(*Config){named}, func(m *host) {
			m.user(other, app, fromKernel(0, 1))
		}, "unknown"},
		"the OOM killer's, by its stack, and its CPU stalls before the mark": {[]func(*Config){named}, func(m *host) {
			last := m.reclaims(0)
			m.kill(other, app, true, false)
			m.user(other, app, fromKernel(0, 1))
			m.idle(quietNS)
			m.idle(userQuietNS)
			m.record(m.choosesAtMark(other, app, leafToRoot(1000, kernel.NoLimit), last))
			m.record(kernel.Mark{Meta: m.meta(other), PID: app.TID, Task: app, Killed: true})
		}, "memcg"},
		"marked by its own thread, as it exits": {[]func(*Config){named}, func(m *host) {
			m.user(app, app, fromKernel(0, 2))
			m.mark(app, app)
		}, "unknown user"},
		"marked, and the record of its SIGKILL was lost": {nil, func(m *host) {
			m.user(other, app, fromKernel())
			m.record(kernel.Mark{Meta: m.meta(other), PID: app.TID, Task: app, Killed: true})
		}, "unknown"},
		"killed otherwise, and marked as it exits": {nil, func(m *host) {
			m.user(app, app, fromKernel())
			m.record(kernel.Mark{Meta: m.meta(app), PID: app.TID, Task: app})
		}, "unknown user"},
		"marked by another thread": {nil, func(m *host) {
			m.user(other, app, fromKernel())
			m.mark(app, app)
		}, "unknown user"},
		"the rest of the group stays": {[]func(*Config){named}, func(m *host) {
			m.user(other, app, fromKernel(0, 1))
			m.user(in(1, 900, "runc"), in(200, 12, "helper"))
		}, "unknown user"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newUserHost(t, events.TierTracepoint, test.change...)
			test.do(m)
			m.settle()

			var scopes []string

			for _, inc := range m.all {
				scopes = append(scopes, string(inc.Scope))
				if inc.Scope != events.ScopeUser {
					continue
				}

				if k := inc.Killer; (k.Kind == events.KillerKernel) != (k.PID == 0) {
					t.Errorf("got killer %+v, want a process only if it sent the signal", k)
				}
			}

			slices.Sort(scopes)

			if got := strings.Join(scopes, " "); got != test.want {
				t.Errorf("got incidents of scope %q, want %q", got, test.want)
			}
		})
	}
}

// With tracepoints each SIGKILL of the OOM killer comes twice, the second time as if somebody else had sent
// it. In a container that is killed again and again, a group of those becomes old while its last ones still
// wait for their marks.
func TestKillsInARowAreReportedOnce(t *testing.T) {
	m := newUserHost(t, events.TierTracepoint, func(c *Config) {
		c.Symbol = func(uint64) (string, bool) { return "__oom_kill_process", true }
	})
	ofOOMKiller := func(k *kernel.Kill) { k.FromKernel, k.Code, k.Sender.Stack = true, kernel.CodeKernel, []uint64{0} }

	const kills = 60

	for i := range uint32(kills) {
		app := in(200, 1000+i, "app")

		last := m.reclaims(0)
		m.kill(app, app, true, false)
		m.user(app, app, ofOOMKiller)
		m.idle(ms)
		m.record(m.choosesAtMark(app, app, leafToRoot(1000, kernel.NoLimit), last))
		m.record(kernel.Mark{Meta: m.meta(app), PID: app.TID, Task: app, Killed: true})
		m.idle(99 * ms)
	}

	m.settle()

	for _, inc := range m.all {
		if inc.Scope != events.ScopeMemcg {
			t.Errorf("got an incident of scope %s that killed %s, want memcg", inc.Scope, victims(inc))
		}
	}

	if len(m.all) != kills {
		t.Errorf("got %d incidents of %d kills, want one each", len(m.all), kills)
	}
}

// What others kill in a workload is grouped as ever while a SIGKILL of the OOM killer there waits for its mark.
func TestALateMarkSplitsNoUserKills(t *testing.T) {
	m := newUserHost(t, events.TierTracepoint, func(c *Config) {
		c.Symbol = func(uint64) (string, bool) { return "__oom_kill_process", true }
	})
	app := in(200, 1000, "app")
	m.user(app, app, func(k *kernel.Kill) { k.FromKernel, k.Code, k.Sender.Stack = true, kernel.CodeKernel, []uint64{0} })
	m.idle(userLongestNS + 100*ms)

	const kills = 100

	for i := range uint32(kills) {
		m.user(in(500, 900, "sh"), in(200, 2000+i, "worker"))
		m.idle(ms)
	}

	m.settle()

	byUser := 0

	for _, inc := range m.all {
		if inc.Scope == events.ScopeUser {
			byUser++
		}
	}

	if byUser > 2 || len(m.all) != byUser+1 {
		t.Errorf("got %d incidents, %d of them by a user, want one of the OOM killer and at most 2 of %d kills in 0.1 s",
			len(m.all), byUser, kills)
	}
}

// A process that an interrupt hit does not explain a kill by being a victim itself.
func TestAnInterruptedVictimExplainsNothing(t *testing.T) {
	m := newUserHost(t, events.TierFentry, func(c *Config) { c.Killers = timers{} })
	victim := in(300, 20, "hog")
	m.oomKills(victim, victim, leafToRoot(1000, kernel.NoLimit))
	m.user(victim, in(200, 10, "app"), func(k *kernel.Kill) { k.Code = kernel.CodeTimer })
	m.settle()

	if len(m.all) != 2 || m.all[1].Scope != events.ScopeUser || m.all[1].Killer.Path != events.PathTimer {
		t.Errorf("got %d incidents, want the OOM kill, and one by a timer", len(m.all))
	}
}

// timers finds that a timer sent every signal.
type timers struct{}

func (timers) Saw(kernel.Kill, events.Process, events.Process) {}

func (timers) Killer(kernel.Kill, events.Process, events.Process) *events.Killer {
	return &events.Killer{Kind: events.KillerKernel, Path: events.PathTimer}
}

// TestSIGTERMIsOfTheProcessThatWasThere: the first of a group may have been started after it.
func TestSIGTERMIsOfTheProcessThatWasThere(t *testing.T) {
	var asked []kernel.Kill

	m := newUserHost(t, events.TierFentry, func(c *Config) { c.Killers = recorder{&asked} })
	m.idle(100e9)

	for i, start := range []uint64{90e9, 1e9} {
		m.user(in(1, 900, "systemd"), in(300, uint32(10+i), "app"), func(k *kernel.Kill) { k.StartBootNS, k.Sender.TermNS = start, 50e9 })
	}

	m.settle()

	if len(asked) != 1 || asked[0].Target.TGID != 11 {
		t.Errorf("got %+v, want the kill of the process that had been sent SIGTERM", asked)
	}
}

// recorder is a Killers that keeps the kills that it is asked about.
type recorder struct{ asked *[]kernel.Kill }

func (recorder) Saw(kernel.Kill, events.Process, events.Process) {}

func (r recorder) Killer(k kernel.Kill, _, _ events.Process) *events.Killer {
	*r.asked = append(*r.asked, k)
	return &events.Killer{Kind: events.KillerUser, Path: events.PathSystemd}
}
