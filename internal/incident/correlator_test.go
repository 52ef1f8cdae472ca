// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	ms   = uint64(1e6)
	page = 4096
)

// machine feeds a correlator with what a kernel would say, and keeps what comes
// out, updates merged.
type machine struct {
	t     *testing.T
	c     *Correlator
	tree  *resolve.Tree
	now   uint64
	pass  uint64
	kills uint64 // the kernel's oom_kill
	// passKills is what it counts at the limiter between a decision and its end.
	passKills uint64
	headline  []string
	all       []*events.Incident
	findings  []string
}

func newMachine(t *testing.T, tier events.Tier, change ...func(*Config)) *machine {
	m := &machine{t: t, tree: resolve.NewTree(resolve.TreeOptions{}), now: 1e9}

	cfg := Config{
		Tier: tier, PageSize: page, BootID: "5f0c2c1e-8e0e", Node: "n1", RAMBytes: 1 << 30, Cgroups: m.tree,
		WallClock:   func(ns uint64) time.Time { return time.Unix(0, int64(ns)) },
		KernelKills: func() (uint64, error) { return m.kills, nil },
	}
	for _, f := range change {
		f(&cfg)
	}
	m.c = New(cfg, m)
	m.idle(0)
	m.idle(200 * ms)

	return m
}

func (m *machine) Headline(inc *events.Incident) error {
	m.headline = append(m.headline, inc.ID)
	return nil
}

func (m *machine) Incident(inc *events.Incident) error {
	for _, old := range m.all {
		if old.ID == inc.ID {
			m.t.Errorf("incident %s came twice", inc.ID)
		}
	}
	m.all = append(m.all, inc)

	return nil
}

func (m *machine) Update(u *events.Incident) error {
	for _, inc := range m.all {
		if inc.ID == u.ID {
			events.Merge(inc, u)
			return nil
		}
	}

	m.t.Errorf("update of %s, which was not given out", u.ID)

	return nil
}

func (m *machine) Finding(_ time.Time, text string) error {
	m.findings = append(m.findings, text)
	return nil
}

func (m *machine) record(r kernel.Record) {
	m.t.Helper()

	if err := m.c.Record(r); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) idle(ns uint64) {
	m.t.Helper()

	m.now += ns
	if _, err := m.c.Idle(m.now, true); err != nil {
		m.t.Fatal(err)
	}
}

// settle lets everything that is due by time happen.
func (m *machine) settle() {
	for range 30 {
		m.idle(100 * ms)
	}
}

func (m *machine) one() *events.Incident {
	m.t.Helper()

	if len(m.all) != 1 {
		m.t.Fatalf("%d incidents, want 1", len(m.all))
	}

	return m.all[0]
}

func (m *machine) meta(current kernel.Task) kernel.Meta {
	m.now += 1000
	return kernel.Meta{BootNS: m.now, Pass: m.pass, Current: current}
}

func proc(pid uint32, comm string) kernel.Task {
	return kernel.Task{TGID: pid, TID: pid, Comm: comm, LeaderComm: comm, Cgroup: events.CgroupKey{ID: 100}}
}

// chain is leaf, parent, root.
func chain(leafMax, parentMax uint64) []kernel.Memcg {
	level := func(id uint64, name string, max uint64) kernel.Memcg {
		return kernel.Memcg{
			Key: events.CgroupKey{ID: id}, Name: name, EventsKnown: true, OOMGroupKnown: true,
			Memory: kernel.Counter{Known: true, Usage: 1000, Max: max, High: kernel.NoLimit, Watermark: 1000},
			Swap:   kernel.Counter{Known: true, Max: kernel.NoLimit},
		}
	}

	return []kernel.Memcg{level(100, "leaf", leafMax), level(50, "parent", parentMax), level(1, "", kernel.NoLimit)}
}

func (m *machine) decide(trigger, victim kernel.Task, c []kernel.Memcg, limiter int, constraint kernel.Constraint) {
	m.record(kernel.VictimChosen{
		Meta: m.meta(trigger), Tier: m.c.cfg.Tier, Constraint: constraint, Ancestry: c, LimiterIndex: limiter, Victim: victim,
		AllocKnown: true, GFP: 0xcc0, TotalPages: 1000, Points: 900,
	})
}

func (m *machine) kill(trigger, target kernel.Task, counted, shares bool) {
	if counted {
		m.kills++
		m.passKills++
	}

	m.record(kernel.Kill{
		Meta: m.meta(trigger), Target: target, FromKernel: true, SharesMM: shares, Group: true,
		MemoryKnown: true, AnonPages: 900,
	})
}

func (m *machine) mark(trigger, target kernel.Task) {
	m.record(kernel.Mark{Meta: m.meta(trigger), PID: target.TID})
}

func (m *machine) end(trigger kernel.Task, outcome events.Outcome, limiter kernel.Memcg) {
	meta := m.meta(trigger)
	limiter.OOMKill += m.passKills
	m.passKills = 0
	m.record(kernel.OOMReturn{
		Meta: meta, Outcome: outcome, Count: 1, FirstNS: meta.BootNS, LastNS: meta.BootNS, Limiter: limiter.Key,
		LimiterLevel: limiter, Constraint: kernel.ConstraintMemcg, AllocKnown: true,
	})
}

func (m *machine) gone(pid uint32) {
	m.now += 2 * ms
	m.record(kernel.Exit{Meta: kernel.Meta{BootNS: m.now}, TGID: pid})
	m.now += ms
	m.record(kernel.Released{Meta: kernel.Meta{BootNS: m.now}, TGID: pid})
}

func roles(inc *events.Incident) string {
	var list []string
	for _, v := range inc.Victims {
		list = append(list, string(v.Role))
	}

	return strings.Join(list, " ")
}

func TestLeafLimit(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")
	m.pass = 7
	c := chain(1000, kernel.NoLimit)
	m.decide(a, a, c, 0, kernel.ConstraintMemcg)

	if len(m.headline) != 0 {
		t.Error("a headline before the kill: the victim may be exiting already")
	}

	m.kill(a, a, true, false)

	if len(m.headline) != 1 {
		t.Error("no headline at the first victim")
	}

	m.mark(a, a)
	m.end(a, events.OutcomeKilled, c[0])

	if len(m.all) != 1 {
		t.Fatal("the incident waits for more than the end of the pass")
	}

	m.gone(10)
	m.settle()

	inc := m.one()
	if inc.Scope != events.ScopeMemcg || inc.Outcome != events.OutcomeKilled || inc.ID != m.headline[0] {
		t.Errorf("scope %s, outcome %s, id %s", inc.Scope, inc.Outcome, inc.ID)
	}

	if l := inc.Limiter; l.Cgroup.ID != 100 || *l.LimitBytes != 1000*page || l.Which != "memory.max" || l.Cgroup.Path != "/parent/leaf" {
		t.Errorf("limiter %+v %+v", l, l.Cgroup)
	}

	if len(inc.Ladder) != 2 || inc.Ladder[1].MaxBytes != nil || inc.Ladder[0].Below {
		t.Errorf("ladder %+v", inc.Ladder)
	}

	v := inc.Victims[0]
	if v.PID != 10 || v.Role != events.RoleChosen || *v.Points != 900 || *v.AnonRSSBytes != 900*page {
		t.Errorf("victim %+v", v)
	}

	if v.ExitAfterNS == nil || v.ReleasedAfterNS == nil || *v.ReleasedAfterNS-*v.ExitAfterNS != ms {
		t.Errorf("ends %v %v", v.ExitAfterNS, v.ReleasedAfterNS)
	}

	if a := inc.Audit; a == nil || !a.Explained || *a.MemcgDelta != 1 || a.Text != "1 victim; oom_kill +1" {
		t.Errorf("audit %+v", a)
	}

	if len(m.findings) != 0 {
		t.Errorf("findings %q", m.findings)
	}
}

func TestParentLimitAndGroup(t *testing.T) {
	m := newMachine(t, events.TierKprobe)
	a, b := proc(10, "a"), proc(11, "b")
	m.pass = 1
	c := chain(kernel.NoLimit, 1000)
	c[1].OOMGroup = true
	m.decide(b, a, c, 1, kernel.ConstraintMemcg)
	m.kill(b, a, true, false)
	m.mark(b, a)
	m.kill(b, b, true, false) // the members, the chosen one among them again
	m.mark(b, b)
	m.kill(b, a, true, false)
	m.end(b, events.OutcomeKilled, c[1])
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen group" {
		t.Errorf("roles %s", roles(inc))
	}

	if inc.Limiter.Cgroup.ID != 50 || !inc.Ladder[0].Below || inc.Ladder[1].Below {
		t.Errorf("limiter %+v, ladder %+v", inc.Limiter.Cgroup, inc.Ladder)
	}

	if inc.Killer.Path != "group" || inc.Killer.GroupCgroup.ID != 50 {
		t.Errorf("killer %+v", inc.Killer)
	}

	if a := inc.Audit; *a.VMStatDelta != 3 || a.KernelKills != 3 || !strings.Contains(a.Text, "twice") {
		t.Errorf("audit %+v", a)
	}

	if inc.Trigger.PID != 11 {
		t.Errorf("trigger %+v", inc.Trigger)
	}
}

func TestSharedMemoryIsNotCounted(t *testing.T) {
	for _, shares := range []bool{true, false} { // false: its leader has exited
		m := newMachine(t, events.TierFentry)
		a, b := proc(10, "a"), proc(11, "b")
		m.pass = 1
		c := chain(1000, kernel.NoLimit)
		m.decide(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.mark(a, a)
		m.kill(a, b, false, shares)
		m.end(a, events.OutcomeKilled, c[0])
		m.settle()

		if inc := m.one(); roles(inc) != "chosen shared_mm" {
			t.Errorf("shares %v: roles %s", shares, roles(inc))
		}
	}
}

func TestNotOOM(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a, b := proc(10, "a"), proc(11, "b")
	m.kill(a, b, false, false)                                                                            // a dying pid namespace's init
	m.record(kernel.Kill{Meta: m.meta(a), Target: b})                                                     // a user's
	m.record(kernel.Exit{Meta: m.meta(b), TGID: 11})                                                      // its end
	m.record(kernel.CgroupChange{Meta: m.meta(a), Op: "mkdir", Key: events.CgroupKey{ID: 5}, Path: "/x"}) // life
	m.settle()

	if len(m.all) != 0 || len(m.headline) != 0 || len(m.findings) != 0 {
		t.Errorf("incidents %v, findings %q", m.all, m.findings)
	}
}

func TestAlreadyExiting(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")
	m.pass = 3
	c := chain(1000, kernel.NoLimit)
	m.decide(a, a, c, 0, kernel.ConstraintMemcg)
	m.mark(a, a)
	m.end(a, events.OutcomeAlreadyExiting, c[0])
	m.settle()

	inc := m.one()
	if inc.Outcome != events.OutcomeAlreadyExiting || len(inc.Victims) != 0 || len(m.headline) != 0 {
		t.Errorf("%+v", inc)
	}
}

func TestTwoDecisionsAtOnce(t *testing.T) {
	// Under oom_lock they cannot mix, but their records may be read mixed with
	// what other threads do.
	m := newMachine(t, events.TierFentry)
	a, b := proc(10, "a"), proc(20, "b")
	b.Cgroup.ID = 200
	ca, cb := chain(1000, kernel.NoLimit), chain(1000, kernel.NoLimit)
	cb[0].Key.ID = 200
	m.pass = 1
	m.decide(a, a, ca, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false)
	m.end(a, events.OutcomeKilled, ca[0])
	m.pass = 2
	m.decide(b, b, cb, 0, kernel.ConstraintMemcg)
	m.kill(b, b, true, false)
	m.end(b, events.OutcomeKilled, cb[0])
	m.settle()

	if len(m.all) != 2 || m.all[0].Victims[0].PID != 10 || m.all[1].Victims[0].PID != 20 {
		t.Fatalf("%d incidents", len(m.all))
	}

	for _, inc := range m.all {
		if !inc.Audit.Explained || *inc.Audit.VMStatDelta != 2 || inc.Audit.Incidents != 2 {
			t.Errorf("audit %+v", inc.Audit)
		}
	}
}

func TestStillDying(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a, b := proc(10, "a"), proc(11, "b")
	c := chain(1000, kernel.NoLimit)

	for i, victim := range []kernel.Task{a, b} {
		m.pass = uint64(i + 1)
		m.decide(b, victim, c, 0, kernel.ConstraintMemcg)
		m.kill(b, victim, true, false)
		m.end(b, events.OutcomeKilled, c[0])
	}

	m.gone(10)
	m.gone(11)
	m.settle()

	if len(m.all) != 2 || len(m.all[0].Notes) != 0 || len(m.all[1].Notes) != 1 || !strings.HasPrefix(m.all[1].Notes[0], "a[10], killed ") {
		t.Errorf("notes %q %q", m.all[0].Notes, m.all[1].Notes)
	}
}

func TestEndsBeforeTheKill(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")
	c := chain(1000, kernel.NoLimit)

	m.record(kernel.Exit{Meta: kernel.Meta{BootNS: m.now + 5*ms}, TGID: 10})
	m.pass = 1
	m.decide(a, a, c, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false)
	m.end(a, events.OutcomeKilled, c[0])
	m.settle()

	if v := m.one().Victims[0]; v.ExitAfterNS == nil || *v.ExitAfterNS > 5*ms {
		t.Errorf("exit after %v", v.ExitAfterNS)
	}
}

func TestLostRecords(t *testing.T) {
	t.Run("the decision", func(t *testing.T) {
		m := newMachine(t, events.TierFentry)
		a := proc(10, "a")
		m.pass = 1
		c := chain(1000, kernel.NoLimit)

		m.kill(a, a, true, false)
		m.end(a, events.OutcomeKilled, c[0])
		m.settle()

		inc := m.one()
		if inc.Limiter.Cgroup.ID != 100 || inc.Scope != events.ScopeMemcg || !slices.Contains(inc.Unknown, "ladder") {
			t.Errorf("%+v", inc)
		}
	})
	t.Run("the end", func(t *testing.T) {
		m := newMachine(t, events.TierFentry)
		a := proc(10, "a")
		m.pass = 1
		m.decide(a, a, chain(1000, kernel.NoLimit), 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.settle()
		m.one()
	})
	t.Run("the kill", func(t *testing.T) {
		m := newMachine(t, events.TierFentry)
		a := proc(10, "a")
		m.pass = 1
		m.kills++
		m.decide(a, a, chain(1000, kernel.NoLimit), 0, kernel.ConstraintMemcg)
		m.end(a, events.OutcomeKilled, kernel.Memcg{})

		for range 200 {
			m.idle(100 * ms)
		}

		if len(m.all) != 0 || len(m.findings) != 1 || !strings.Contains(m.findings[0], "counted 1 OOM kills, 0 were seen") {
			t.Errorf("incidents %d, findings %q", len(m.all), m.findings)
		}
	})
}

func TestSysrq(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	k := kernel.Task{TGID: 5, TID: 5, Comm: "kworker/0:1", LeaderComm: "kworker/0:1", Kthread: true}
	a := proc(10, "a")
	m.pass = 1
	m.record(kernel.VictimChosen{
		Meta: m.meta(k), Tier: events.TierFentry, Constraint: kernel.ConstraintNone, LimiterIndex: -1, Victim: a,
		Ancestry: chain(kernel.NoLimit, kernel.NoLimit), AllocKnown: true, Order: -1, Sysrq: true,
	})
	m.kill(k, a, true, false)
	m.end(k, events.OutcomeKilled, kernel.Memcg{})

	inc := m.one()
	if inc.Scope != events.ScopeSysrq || inc.Killer.Path != "sysrq" || !inc.Trigger.IsKernel || inc.Limiter.Level != events.LevelNode {
		t.Errorf("%+v", inc)
	}
}

func TestUnknownConstraint(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")
	m.pass = 1
	m.decide(a, a, chain(1000, kernel.NoLimit), -1, "constraint_4")
	m.kill(a, a, true, false)
	m.end(a, events.OutcomeKilled, kernel.Memcg{})

	if inc := m.one(); inc.Scope != "constraint_4" || !slices.Contains(inc.Unknown, "limiter") {
		t.Errorf("scope %s, unknown %q", inc.Scope, inc.Unknown)
	}
}

// tracepoints only

func (m *machine) marked(trigger, victim kernel.Task, c []kernel.Memcg, reclaim kernel.Reclaim) {
	m.kill(trigger, victim, true, false)
	m.record(kernel.VictimChosen{
		Meta: m.meta(trigger), Tier: events.TierTracepoint, Ancestry: c, LimiterIndex: kernel.LimiterUnknown, Victim: victim,
		LastReclaim: reclaim,
	})
	m.mark(trigger, victim)
}

func TestTracepointLimiter(t *testing.T) {
	seeds := func(cfg *Config) {
		cfg.OOMLocal = map[events.CgroupKey]uint64{{ID: 100}: 4, {ID: 50}: 2, {ID: 1}: 0}
	}
	a := proc(10, "a")

	counted := func(leaf, parent uint64) []kernel.Memcg {
		c := chain(1000, 1000)
		c[0].OOMLocal, c[1].OOMLocal = leaf, parent

		return c
	}
	for _, test := range []struct {
		name    string
		chain   []kernel.Memcg
		reclaim kernel.Reclaim
		kthread bool
		scope   events.Scope
		limiter uint64
		unsure  string
	}{
		{"leaf grew", counted(5, 2), kernel.ReclaimMemcg, false, events.ScopeMemcg, 100, ""},
		{"parent grew", counted(4, 3), kernel.ReclaimMemcg, false, events.ScopeMemcg, 50, ""},
		{"both grew", counted(5, 3), kernel.ReclaimMemcg, false, events.ScopeMemcg, 100, "limiter"},
		{"node", counted(4, 2), kernel.ReclaimGlobal, false, events.ScopeGlobal, 0, "constraint"},
		{"node, although a limit was hit before", counted(5, 2), kernel.ReclaimGlobal, false, events.ScopeGlobal, 0, "constraint"},
		{"sysrq", counted(4, 2), kernel.ReclaimNone, true, events.ScopeSysrq, 0, ""},
		{"no evidence", counted(4, 2), kernel.ReclaimNone, false, events.ScopeUnknown, 0, "scope"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t, events.TierTracepoint, seeds)

			trigger := a
			if test.kthread {
				trigger = kernel.Task{TGID: 5, TID: 5, Comm: "kworker/0:1", LeaderComm: "kworker/0:1", Kthread: true}
			}

			m.marked(trigger, a, test.chain, test.reclaim)
			m.settle()
			inc := m.one()

			var limiter uint64
			if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
				limiter = inc.Limiter.Cgroup.ID
			}

			if inc.Scope != test.scope || limiter != test.limiter {
				t.Errorf("scope %s, limiter %d", inc.Scope, limiter)
			}

			if test.unsure != "" && !slices.Contains(inc.Unknown, test.unsure) {
				t.Errorf("unknown %q lacks %s", inc.Unknown, test.unsure)
			}

			for _, name := range []string{"allocation.gfp", "victims.points", "memory"} {
				if !slices.Contains(inc.Unknown, name) {
					t.Errorf("unknown %q lacks %s", inc.Unknown, name)
				}
			}

			if inc.Audit == nil || !inc.Audit.Explained {
				t.Errorf("audit %+v", inc.Audit)
			}
		})
	}
}

func TestTracepointGroup(t *testing.T) {
	m := newMachine(t, events.TierTracepoint)
	m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
	a, b, other := proc(10, "a"), proc(11, "b"), proc(12, "c")
	c := chain(1000, kernel.NoLimit)
	c[0].OOMLocal, c[0].OOMGroup = 1, true
	m.marked(a, a, c, kernel.ReclaimMemcg)
	m.marked(a, b, c, kernel.ReclaimMemcg)
	m.kill(a, a, true, false)     // the chosen one again, without a mark
	m.kill(a, other, false, true) // shares the memory of b
	m.settle()

	inc := m.one()
	if roles(inc) != "chosen group shared_mm" || inc.Audit.KernelKills != 3 || !inc.Audit.Explained {
		t.Errorf("roles %s, audit %+v", roles(inc), inc.Audit)
	}
}

func TestTracepointSecondKillOfOneThread(t *testing.T) {
	m := newMachine(t, events.TierTracepoint)
	m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})

	a, b, c := proc(10, "a"), proc(11, "b"), proc(12, "c")
	for i, victim := range []kernel.Task{a, b} {
		ch := chain(1000, kernel.NoLimit)
		ch[0].OOMLocal = uint64(i + 1)
		m.marked(c, victim, ch, kernel.ReclaimMemcg)
	}

	m.settle()

	if len(m.all) != 2 {
		t.Errorf("%d incidents, want 2: the limit was hit twice", len(m.all))
	}
}

func TestTracepointMarkWithoutKill(t *testing.T) {
	m := newMachine(t, events.TierTracepoint)
	a := proc(10, "a")
	m.mark(a, a)
	m.settle()

	if inc := m.one(); inc.Outcome != events.OutcomeAlreadyExiting || len(inc.Victims) != 0 {
		t.Errorf("%+v", inc)
	}
	// A pid namespace's init kills without marks.
	m.kill(a, proc(11, "b"), false, false)
	m.settle()
	m.one()
}

func TestStormIsBounded(t *testing.T) {
	m := newMachine(t, events.TierFentry)

	for i := range uint32(5000) {
		a := proc(1000+i, "a")
		m.pass++
		c := chain(1000, kernel.NoLimit)
		m.decide(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.end(a, events.OutcomeKilled, c[0])
		m.record(kernel.Exit{Meta: m.meta(a), TGID: 1000 + i})
	}

	if got := len(m.c.followUp.recent); got > maxRecent {
		t.Errorf("%d incidents remembered", got)
	}

	if got := len(m.c.followUp.dying); got > maxRecent {
		t.Errorf("%d victims remembered", got)
	}

	if len(m.all) != 5000 {
		t.Errorf("%d incidents", len(m.all))
	}
}

func TestSlowReport(t *testing.T) {
	// The kernel writes its report between the decision and the kill; a serial
	// console takes seconds for it.
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")
	c := chain(1000, kernel.NoLimit)
	m.pass = 1
	m.decide(a, a, c, 0, kernel.ConstraintMemcg)
	m.settle()
	m.kill(a, a, true, false)
	m.end(a, events.OutcomeKilled, c[0])
	m.settle()

	if inc := m.one(); len(inc.Ladder) == 0 || inc.Victims[0].Points == nil {
		t.Errorf("the decision was forgotten: %+v", inc)
	}
}

func TestLateVictims(t *testing.T) {
	t.Run("of a pass", func(t *testing.T) {
		m := newMachine(t, events.TierFentry)
		a, b := proc(10, "a"), proc(11, "b")
		c := chain(1000, kernel.NoLimit)
		c[0].OOMGroup = true
		m.pass = 1
		m.decide(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.settle() // reported: the end of the pass is late
		m.kill(a, b, true, false)
		m.kill(a, a, true, false)
		m.end(a, events.OutcomeKilled, c[0])
		m.settle()

		inc := m.one()
		if roles(inc) != "chosen group" || inc.Victims[1].AnonRSSBytes == nil {
			t.Errorf("roles %s", roles(inc))
		}

		if _, victims := m.c.Totals(); victims != 2 {
			t.Errorf("%d victims", victims)
		}
	})
	t.Run("of a group, tracepoints only", func(t *testing.T) {
		m := newMachine(t, events.TierTracepoint)
		m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
		a, b := proc(10, "a"), proc(11, "b")
		c := chain(1000, kernel.NoLimit)
		c[0].OOMLocal, c[0].OOMGroup = 1, true
		m.marked(a, a, c, kernel.ReclaimMemcg)
		m.idle(50 * ms)
		m.marked(a, b, c, kernel.ReclaimMemcg)
		m.idle(50 * ms)
		m.kill(a, a, true, false)
		m.settle()

		inc := m.one()
		if roles(inc) != "chosen group" || !inc.Audit.Explained || *inc.Audit.VMStatDelta != 3 {
			t.Errorf("roles %s, audit %+v", roles(inc), inc.Audit)
		}
	})
}

func TestVictimThatDoesNotDie(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")
	c := chain(1000, kernel.NoLimit)
	m.pass = 1
	m.decide(a, a, c, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false)
	m.end(a, events.OutcomeKilled, c[0])

	for range 80 {
		m.idle(100 * ms)
	}

	inc := m.one()
	if len(inc.Notes) != 1 || !strings.Contains(inc.Notes[0], "a[10] was not dead 5s after") || !slices.Contains(inc.Unknown, "victims.exit_after_ns") {
		t.Errorf("notes %q, unknown %q", inc.Notes, inc.Unknown)
	}
}

func TestEndThatWasNotSeen(t *testing.T) {
	for _, test := range []struct {
		name     string
		released bool
		gone     func(int) bool
		unknown  []string
	}{
		{"its memory came back", true, nil, []string{"victims.exit_after_ns"}},
		{"its pid is gone", false, func(pid int) bool { return pid == 10 }, []string{"victims.exit_after_ns", "victims.released_after_ns"}},
	} {
		m := newMachine(t, events.TierFentry, func(cfg *Config) { cfg.Gone = test.gone })
		a := proc(10, "a")
		c := chain(1000, kernel.NoLimit)
		m.pass = 1
		m.decide(a, a, c, 0, kernel.ConstraintMemcg)
		m.kill(a, a, true, false)
		m.end(a, events.OutcomeKilled, c[0])

		if test.released {
			m.record(kernel.Released{Meta: kernel.Meta{BootNS: m.now + ms}, TGID: 10})
		}

		for range 80 {
			m.idle(100 * ms)
		}
		inc := m.one()

		ends := slices.DeleteFunc(slices.Clone(inc.Unknown), func(u string) bool { return !strings.HasSuffix(u, "_after_ns") })
		if len(inc.Notes) != 0 || !slices.Equal(ends, test.unknown) {
			t.Errorf("%s: notes %q, unknown %q", test.name, inc.Notes, inc.Unknown)
		}
	}
}

func TestLateReader(t *testing.T) {
	// Records are read seconds after they were made, and Idle comes between.
	m := newMachine(t, events.TierTracepoint)
	m.record(kernel.CgroupChange{Op: "mkdir", Key: events.CgroupKey{ID: 100}, Path: "/parent/leaf"})
	a := proc(10, "a")
	c := chain(1000, kernel.NoLimit)
	c[0].OOMLocal = 1

	m.kill(a, a, true, false)

	for ahead := uint64(1); ahead <= 5; ahead++ {
		if _, err := m.c.Idle(m.now+ahead*1000*ms, false); err != nil {
			t.Fatal(err)
		}
	}

	m.record(kernel.VictimChosen{
		Meta: m.meta(a), Tier: events.TierTracepoint, Ancestry: c, LimiterIndex: kernel.LimiterUnknown, Victim: a, LastReclaim: kernel.ReclaimMemcg,
	})
	m.mark(a, a)
	m.now += 6000 * ms
	m.settle()

	if inc := m.one(); inc.Outcome != events.OutcomeKilled || !inc.Audit.Explained {
		t.Errorf("%+v", inc)
	}
}

// TestEndOfAnother: an end that came too late for its own incident is not that of a
// later process with the same id.
func TestEndOfAnother(t *testing.T) {
	m := newMachine(t, events.TierFentry)
	a := proc(10, "a")

	m.gone(10)
	m.now += 1000 * ms
	c := chain(1000, kernel.NoLimit)
	m.pass = 1
	m.decide(a, a, c, 0, kernel.ConstraintMemcg)
	m.kill(a, a, true, false)
	m.end(a, events.OutcomeKilled, c[0])
	m.settle()

	if v := m.one().Victims[0]; v.ExitAfterNS != nil || v.ReleasedAfterNS != nil {
		t.Errorf("%d, %d", *v.ExitAfterNS, *v.ReleasedAfterNS)
	}
}
