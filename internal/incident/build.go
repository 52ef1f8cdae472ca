// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// report makes the incident of an episode and gives it out.
func (c *Correlator) report(e *episode) (*reported, error) {
	inc := c.build(e)
	c.incidents++
	c.victims += uint64(len(e.victims))
	r := c.remember(e, inc)
	c.count(r)

	return r, c.out.Incident(inc)
}

// late adds a victim to an incident that was given out already.
func (c *Correlator) late(r *reported, k kernel.Kill) {
	r.lastNS = max(r.lastNS, k.BootNS)
	if r.victim(k.Target.TGID) != nil {
		r.kernelKills++
		r.repeated++
		c.countLate(r)

		return
	}

	v := victim{kill: k, role: events.RoleUnknown}
	switch {
	case k.SharesMM:
		v.role = events.RoleSharedMM
	case r.group:
		v.role = events.RoleGroup
	}

	if v.role != events.RoleSharedMM {
		r.kernelKills++
		c.countLate(r)
	}
	unknown := &unknowns{names: r.unknown}
	shown := c.victim(v, unknown)
	n := c.newsOf(r)

	n.Victims = append(n.Victims, shown)
	if len(unknown.names) > len(r.unknown) {
		r.unknown, n.Unknown = unknown.names, unknown.names
	}

	c.victims++
	c.await(r, v, shown.Process)
}

func (c *Correlator) build(e *episode) *events.Incident {
	first := e.victims[0].kill
	inc := &events.Incident{
		Envelope: c.envelope(events.KindIncident, first.BootNS),
		ID:       e.id,
		Scope:    e.verdict.scope,
		Outcome:  events.OutcomeKilled,
		Tier:     e.tier,
		Passes:   &events.Passes{Killed: 1},
	}
	unknown := &unknowns{}
	unknown.add(e.verdict.unsure...)
	trigger := c.process(e.trigger)
	inc.Trigger = &trigger
	c.limiter(inc, e, unknown)
	c.ladder(inc, e, unknown)
	inc.Victims = c.victimList(e, unknown)
	inc.Killer = c.killer(e)
	inc.Allocation = c.allocation(e, unknown)
	c.memory(inc, e, unknown)

	if e.decision != nil && e.decision.AncestryCut {
		inc.Notes = append(inc.Notes, "the ladder does not reach the root: the cgroups are nested too deeply")
	}

	if e.decision == nil {
		inc.Notes = append(inc.Notes, "the kernel's record of the decision was lost")
	}
	inc.Unknown = unknown.names

	return inc
}

// unknowns collects names of what could not be read, each once.
type unknowns struct{ names []string }

func (u *unknowns) add(names ...string) {
	for _, name := range names {
		if !slices.Contains(u.names, name) {
			u.names = append(u.names, name)
		}
	}
}

// limiter tells whose limit was hit.
func (c *Correlator) limiter(inc *events.Incident, e *episode, unknown *unknowns) {
	v := e.verdict
	switch {
	case v.limiter >= 0 && e.decision != nil:
		inc.Limiter = c.limiterOf(e.decision.Ancestry[v.limiter])
	case v.scope == events.ScopeGlobal, v.scope == events.ScopeSysrq:
		inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}
		if c.cfg.RAMBytes > 0 {
			inc.Limiter.LimitBytes = pointer(c.cfg.RAMBytes)
			inc.Limiter.SwapLimitBytes = pointer(c.cfg.SwapBytes)
		} else {
			unknown.add("limiter.limit_bytes", "limiter.swap_limit_bytes")
		}

		unknown.add("limiter.usage_bytes", "limiter.swap_usage_bytes")
	case v.scope == events.ScopeCpuset, v.scope == events.ScopeMempolicy:
		inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "numa_nodes"}

		unknown.add("limiter.limit_bytes", "limiter.usage_bytes")

		if e.decision.NodesKnown {
			inc.Limiter.Nodes = e.decision.Nodes
		} else {
			unknown.add("limiter.nodes")
		}
	case e.end != nil && e.end.Limiter.ID != 0:
		inc.Limiter = c.limiterOf(e.end.LimiterLevel)
		inc.Scope = events.ScopeMemcg
	default:
		unknown.add("limiter")
	}
}

func (c *Correlator) limiterOf(level kernel.Memcg) *events.Limiter {
	cgroup, place := c.cgroup(level.Key)

	l := &events.Limiter{Level: place.Level, Which: "memory.max", Cgroup: &cgroup, Workload: place.Workload}
	if l.Level == "" {
		l.Level = events.LevelCgroup
	}

	if c.cfg.CgroupV1 {
		l.Which = v1Limit(level)
	}

	if level.Memory.Known {
		l.UsageBytes, l.LimitBytes = c.bytes(level.Memory.Usage), c.limit(level.Memory.Max)
	}

	if level.Swap.Known {
		l.SwapUsageBytes, l.SwapLimitBytes = c.bytes(level.Swap.Usage), c.limit(level.Swap.Max)
	}

	return l
}

// v1Limit tells which of the two limits of cgroup v1 was hit: the one with less
// room. memsw counts memory and swap together.
func v1Limit(level kernel.Memcg) string {
	if level.Memory.Known && level.Swap.Known && room(level.Swap) < room(level.Memory) {
		return "memory.memsw.limit_in_bytes"
	}

	return "memory.limit_in_bytes"
}

func room(c kernel.Counter) uint64 {
	if c.Max == kernel.NoLimit || c.Usage > c.Max {
		return c.Max
	}

	return c.Max - c.Usage
}

// ladder goes from the victim's memcg up. The root has no limits and counts
// nothing of its own: it is no rung.
func (c *Correlator) ladder(inc *events.Incident, e *episode, unknown *unknowns) {
	if e.decision == nil {
		unknown.add("ladder")
		return
	}

	chain := e.decision.Ancestry
	if n := len(chain); n > 0 && !e.decision.AncestryCut {
		chain = chain[:n-1]
	}

	for i, level := range chain {
		cgroup, place := c.cgroup(level.Key)

		rung := events.Rung{
			Cgroup: cgroup, Level: place.Level, Workload: place.Workload,
			Below: e.verdict.limiter > i,
		}
		if rung.Level == "" {
			rung.Level = events.LevelCgroup
		}

		if m := level.Memory; m.Known {
			rung.UsageBytes, rung.MaxBytes, rung.PeakBytes = c.bytes(m.Usage), c.limit(m.Max), c.bytes(m.Watermark)
			if !c.cfg.CgroupV1 {
				rung.HighBytes = c.limit(m.High)
			}
		} else {
			unknown.add("ladder.usage_bytes", "ladder.max_bytes", "ladder.high_bytes", "ladder.peak_bytes")
		}

		if s := level.Swap; s.Known {
			rung.SwapUsageBytes, rung.SwapMaxBytes = c.bytes(s.Usage), c.limit(s.Max)
		} else {
			unknown.add("ladder.swap_usage_bytes", "ladder.swap_max_bytes")
		}

		if !c.cfg.CgroupV1 {
			if level.OOMGroupKnown {
				rung.OOMGroup = pointer(level.OOMGroup)
			} else {
				unknown.add("ladder.oom_group")
			}
		}

		if cgroup.Path == "" {
			unknown.add("ladder.cgroup.path")
		}

		inc.Ladder = append(inc.Ladder, rung)
	}
}

func (c *Correlator) victimList(e *episode, unknown *unknowns) []events.Victim {
	list := make([]events.Victim, len(e.victims))
	for i, v := range e.victims {
		list[i] = c.victim(v, unknown)
	}

	if e.decision != nil && e.decision.AllocKnown {
		for i := range list {
			if list[i].Role == events.RoleChosen {
				list[i].Points = pointer(e.decision.Points)
			}
		}
	} else {
		unknown.add("victims.points")
	}

	if c.cfg.Tier == events.TierTracepoint {
		unknown.add("victims.released_after_ns")
	}

	return list
}

func (c *Correlator) victim(v victim, unknown *unknowns) events.Victim {
	k := v.kill

	out := events.Victim{
		Process: c.process(k.Target), Role: v.role,
		OOMScoreAdj: pointer(int(k.OOMScoreAdj)), UID: pointer(k.UID),
		StartTime:       pointer(c.cfg.WallClock(k.StartBootNS).UTC()),
		IsContainerInit: pointer(k.ContainerInit),
	}
	if k.MemoryKnown {
		out.AnonRSSBytes, out.FileRSSBytes, out.ShmemRSSBytes = c.bytes(k.AnonPages), c.bytes(k.FilePages), c.bytes(k.ShmemPages)
		out.SwapBytes, out.TotalVMBytes = c.bytes(k.SwapPages), c.bytes(k.TotalVMPages)
		out.PgtablesBytes = pointer(k.PgtablesBytes)
	} else {
		unknown.add("victims.anon_rss_bytes", "victims.file_rss_bytes", "victims.shmem_rss_bytes",
			"victims.swap_bytes", "victims.total_vm_bytes", "victims.pgtables_bytes")
	}

	return out
}

func (c *Correlator) killer(e *episode) *events.Killer {
	k := &events.Killer{Kind: "kernel", Path: "global"}

	switch e.verdict.scope {
	case events.ScopeMemcg:
		k.Path = "memcg"
	case events.ScopeSysrq:
		k.Path = "sysrq"
	case events.ScopeUnknown:
		k.Path = "unknown"
	}

	if g := e.verdict.group; g >= 0 && e.decision != nil {
		cgroup, place := c.cgroup(e.decision.Ancestry[g].Key)

		k.Path, k.GroupCgroup, k.GroupLevel = "group", &cgroup, place.Level
		if k.GroupLevel == "" {
			k.GroupLevel = events.LevelCgroup
		}
	}

	return k
}

// memory is the limiter's charge split, if it is fresh: where the kernel did not
// write its report (the log's rate limit), it did not flush its counters either.
func (c *Correlator) memory(inc *events.Incident, e *episode, unknown *unknowns) {
	if e.verdict.limiter >= 0 && e.decision != nil && e.charge != nil {
		limiter := e.decision.Ancestry[e.verdict.limiter]

		i := slices.IndexFunc(e.charge.Levels, func(l kernel.MemcgCharge) bool { return l.Key == limiter.Key })
		if i >= 0 && fresh(e.charge.Levels[i].Memory, limiter.Memory.Usage*c.cfg.PageSize) {
			m := e.charge.Levels[i].Memory

			inc.Memory = &m
			for _, part := range []struct {
				name  string
				value *uint64
			}{
				{"memory.slab_bytes", m.SlabBytes}, {"memory.kernel_stack_bytes", m.KernelStackBytes},
				{"memory.pagetables_bytes", m.PagetablesBytes}, {"memory.sock_bytes", m.SockBytes},
				{"memory.file_dirty_bytes", m.FileDirtyBytes}, {"memory.file_writeback_bytes", m.FileWritebackBytes},
				{"memory.active_file_bytes", m.ActiveFileBytes}, {"memory.inactive_file_bytes", m.InactiveFileBytes},
				{"memory.unevictable_bytes", m.UnevictableBytes}, {"memory.anon_thp_bytes", m.AnonTHPBytes},
				{"memory.slab_reclaimable_bytes", m.SlabReclaimableBytes}, {"memory.slab_unreclaimable_bytes", m.SlabUnreclaimableBytes},
				{"memory.percpu_bytes", m.PercpuBytes},
			} {
				if part.value == nil {
					unknown.add(part.name)
				}
			}

			return
		}
	}

	unknown.add("memory")
}

// fresh compares the sum of the parts with the usage, which is exact. Some
// kernel memory is in no part, and counters that are flushed still miss what
// each CPU has in its batch, so this is a band.
func fresh(m events.Memory, usageBytes uint64) bool {
	if m.AnonBytes == nil || m.FileBytes == nil || m.ShmemBytes == nil {
		return false
	}
	var sum uint64

	for _, part := range []*uint64{m.AnonBytes, m.FileBytes, m.SlabBytes, m.KernelStackBytes, m.PagetablesBytes, m.SockBytes, m.PercpuBytes} {
		if part != nil {
			sum += *part
		}
	}
	slack := usageBytes/10 + 1<<20

	return sum+slack >= usageBytes && sum <= usageBytes+slack
}
