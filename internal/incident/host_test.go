// SPDX-License-Identifier: Apache-2.0

package incident

import (
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

// host feeds a correlator with the records of a kernel and keeps its output, updates
// merged.
type host struct {
	t          *testing.T
	c          *Correlator
	tree       *resolve.Tree
	now        uint64
	invocation uint64
	victim     uint32 // TGID of the last choice
	kills      uint64 // the kernel's oom_kill
	// limiterKills is the growth of the limiter's own oom_kill between choice and return.
	limiterKills uint64
	headline     []string
	all          []*events.Incident
	findings     []string
}

func newHost(t *testing.T, tier events.Tier, change ...func(*Config)) *host {
	m := &host{t: t, tree: resolve.NewTree(resolve.TreeOptions{}), now: 1e9}

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

func (m *host) Headline(inc *events.Incident) error {
	m.headline = append(m.headline, inc.ID)
	return nil
}

func (m *host) Incident(inc *events.Incident) error {
	for _, old := range m.all {
		if old.ID == inc.ID {
			m.t.Errorf("got incident %s twice, want it once", inc.ID)
		}
	}
	m.all = append(m.all, inc)

	return nil
}

func (m *host) Update(u *events.Incident) error {
	for _, inc := range m.all {
		if inc.ID == u.ID {
			events.Merge(inc, u)
			return nil
		}
	}

	m.t.Errorf("got an update of %s, want one of an incident that was emitted", u.ID)

	return nil
}

func (m *host) Finding(_ time.Time, text string) error {
	m.findings = append(m.findings, text)
	return nil
}

func (m *host) record(r kernel.Record) {
	m.t.Helper()

	if err := m.c.Record(r); err != nil {
		m.t.Fatal(err)
	}
}

func (m *host) idle(ns uint64) {
	m.t.Helper()

	m.now += ns
	if _, err := m.c.Idle(m.now, true); err != nil {
		m.t.Fatal(err)
	}
}

// settle advances the time until everything that is due by time was done.
func (m *host) settle() {
	for range 30 {
		m.idle(100 * ms)
	}
}

func (m *host) one() *events.Incident {
	m.t.Helper()

	if len(m.all) != 1 {
		m.t.Fatalf("got %d incidents, want 1", len(m.all))
	}

	return m.all[0]
}

func (m *host) meta(current kernel.Task) kernel.Meta {
	m.now += 1000
	return kernel.Meta{BootNS: m.now, Invocation: m.invocation, Current: current}
}

func proc(pid uint32, comm string) kernel.Task {
	return kernel.Task{TGID: pid, TID: pid, Comm: comm, LeaderComm: comm, Cgroup: events.CgroupKey{ID: 100}}
}

// leafToRoot returns an ancestry of three memcgs with these limits, in pages.
func leafToRoot(leafMax, parentMax uint64) []kernel.Memcg {
	level := func(id uint64, name string, max uint64) kernel.Memcg {
		return kernel.Memcg{
			Key: events.CgroupKey{ID: id}, Name: name, OOMKillKnown: true, OOMGroupKnown: true,
			Memory: kernel.Counter{Known: true, Usage: 1000, Max: max, High: kernel.NoLimit, Watermark: 1000},
			Swap:   kernel.Counter{Known: true, Max: kernel.NoLimit},

			Protection: kernel.Protection{Known: true},
		}
	}

	return []kernel.Memcg{level(100, "leaf", leafMax), level(50, "parent", parentMax), level(1, "", kernel.NoLimit)}
}

func (m *host) chooses(trigger, victim kernel.Task, c []kernel.Memcg, limiter int, constraint kernel.Constraint) {
	m.victim = victim.TGID
	m.record(kernel.VictimChosen{
		Meta: m.meta(trigger), Constraint: constraint, Ancestry: c, LimiterIndex: limiter, Victim: victim,
		AllocKnown: true, GFP: 0xcc0, TotalPages: 1000, Points: 900,
	})
}

func (m *host) kill(trigger, target kernel.Task, counted, shares bool) {
	if counted {
		m.kills++
		m.limiterKills++
	}

	m.record(kernel.Kill{
		Meta: m.meta(trigger), Target: target, FromKernel: true, SharesMM: shares, Group: true,
		MemoryKnown: true, AnonPages: 900,
	})
}

func (m *host) mark(trigger, target kernel.Task) {
	m.record(kernel.Mark{Meta: m.meta(trigger), PID: target.TID, Task: target})
}

func (m *host) returns(trigger kernel.Task, outcome events.Outcome, limiter kernel.Memcg) {
	meta := m.meta(trigger)
	limiter.OOMKill += m.limiterKills
	m.limiterKills = 0
	m.record(kernel.OOMReturn{
		Meta: meta, Outcome: outcome, Chosen: m.victim, Count: 1, FirstNS: meta.BootNS, LastNS: meta.BootNS, Limiter: limiter.Key,
		LimiterMemcg: limiter, Constraint: kernel.ConstraintMemcg, AllocKnown: true,
	})
}

// oomKills is a whole invocation for the limit of c[0]: the choice, the SIGKILL, the return.
func (m *host) oomKills(trigger, victim kernel.Task, c []kernel.Memcg) {
	m.invocation++
	m.chooses(trigger, victim, c, 0, kernel.ConstraintMemcg)
	m.kill(trigger, victim, true, false)
	m.returns(trigger, events.OutcomeKilled, c[0])
}

func (m *host) gone(pid uint32) {
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
