// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// facts is the evidence that the rules look at: of an incident, or of an inspection as
// if its limiter ran out now. What is not known is zero.
type facts struct {
	tier    events.Tier
	time    time.Time
	scope   events.Scope
	outcome events.Outcome

	limiter    events.Limiter
	changes    []events.LimitChange
	ancestry   []events.Rung // from the victim's cgroup to the root
	trigger    *events.Process
	victims    []events.Victim
	killer     events.Killer
	allocation events.Allocation
	before     events.Before
	passes     events.Passes
	shares     []events.Share
	leftOut    int // shares that are not listed
	candidates []events.Candidate
	node       events.NodeState // as it was read; of a live incident after the kill
	eviction   events.Eviction
	kubelet    bool            // the eviction thresholds of a kubelet are known
	wait       *events.OOMWait // nil: no task waits because the OOM killer is disabled

	// state is the node's memory, at the kill if that is known; atKill means that the kernel's log has it
	// for a live incident.
	state  events.NodeState
	atKill bool
	unsure bool // whether all NUMA nodes were allowed, or a cpuset or a memory policy allowed some

	// follows is the OOM kill that this kill from user space came of, nil if none is known;
	// oomBefore, that one hit the same instance before it, for whatever that means.
	follows   *events.Follows
	oomBefore bool

	// memoryFrom is where memory was filled in from; nil: the incident's own source.
	memoryFrom *events.Completion

	victim  *events.Victim  // the chosen one, else the first; nil if nobody died
	program *events.Program // what the victim ran; nil: not known
	charge  *charge         // what the limiter or the node was used for; nil: not known
	history History
}

func incidentFacts(inc *events.Incident, history History) *facts {
	f := &facts{
		tier: inc.Tier, time: inc.Time, scope: inc.Scope, outcome: inc.Outcome,
		limiter: value(inc.Limiter), changes: inc.LimitChanges, ancestry: inc.Ladder,
		trigger: inc.Trigger, victims: inc.Victims, killer: value(inc.Killer),
		allocation: value(inc.Allocation), before: value(inc.Before), passes: value(inc.Passes), shares: inc.Shares,
		leftOut: inc.SharesLeftOut, candidates: inc.Candidates, node: value(inc.NodeState), eviction: value(inc.Eviction),
		kubelet: inc.Eviction != nil, memoryFrom: inc.SourceOf("memory"), victim: chosen(inc), history: history, wait: inc.Wait,
		follows: inc.Follows,
	}

	f.state, f.atKill = nodeAtKill(inc), inc.NodeAtKill != nil
	f.unsure = slices.Contains(inc.Unknown, "constraint")

	if f.is(events.ScopeGlobal) && f.byKswapd() {
		f.scope = scopeWorkingSet
	}

	var node *events.NodeState
	if inc.NodeAtKill != nil || inc.NodeState != nil {
		node = &f.state
	}

	f.program = programOf(f.victim)
	f.charge = newCharge(f, inc.Memory, node)

	return f
}

// nodeAtKill is the node's memory at the kill, if the kernel's log has it. What a report never has, and
// no victim has, is taken from the state after it.
func nodeAtKill(inc *events.Incident) events.NodeState {
	if inc.NodeAtKill == nil || inc.NodeState == nil {
		return value(cmp.Or(inc.NodeAtKill, inc.NodeState))
	}
	n, after := *inc.NodeAtKill, inc.NodeState

	n.VmallocBytes, n.PercpuBytes = cmp.Or(n.VmallocBytes, after.VmallocBytes), cmp.Or(n.PercpuBytes, after.PercpuBytes)
	n.NetworkBytes, n.ZFSCacheBytes = cmp.Or(n.NetworkBytes, after.NetworkBytes), cmp.Or(n.ZFSCacheBytes, after.ZFSCacheBytes)
	n.ZspagesBytes, n.ZswapBytes = cmp.Or(n.ZspagesBytes, after.ZspagesBytes), cmp.Or(n.ZswapBytes, after.ZswapBytes)
	n.BalloonBytes = cmp.Or(n.BalloonBytes, after.BalloonBytes)
	n.ZRAM = zramAtKill(after.ZRAM, inc.Victims)
	n.KernelStackBytes = cmp.Or(n.KernelStackBytes, after.KernelStackBytes)

	if len(n.AllocationSites) == 0 {
		n.AllocationSites = after.AllocationSites
	}

	if n.Ledger != nil {
		n.Ledger = oom.NodeLedger(&n)
	}

	return n
}

// zramAtKill adds to zram, as it was read after the kill, what the victims had in it: no more than they
// had in swap, and no more than it has ever taken.
func zramAtKill(after *events.ZRAM, victims []events.Victim) *events.ZRAM {
	if after == nil || after.PeakBytes == nil {
		return after
	}

	var gone uint64
	for i := range victims {
		gone += value(victims[i].SwapBytes)
	}
	z := *after
	z.UsedBytes += min(gone, less(*after.PeakBytes, after.UsedBytes))
	z.DataBytes += gone

	return &z
}

// scopeWorkingSet is the scope of a kill by kswapd, for the rules alone: the kernel killed
// to keep a working set in memory, and nothing ran out.
const scopeWorkingSet events.Scope = "working_set"

// byKswapd reports whether kswapd invoked the OOM killer. Its own allocations never do
// (mm/page_alloc.c: PF_MEMALLOC), so it was lru_gen_age_node (mm/vmscan.c, since 6.1). The
// name alone is not enough: a process can have it.
func (f *facts) byKswapd() bool {
	t := f.trigger
	return f.allocation.Class == "kswapd" || t != nil && t.IsKernel && strings.HasPrefix(t.Comm, "kswapd")
}

func inspectionFacts(i *events.Inspection) *facts {
	f := &facts{
		time: i.Time, scope: events.ScopeMemcg,
		limiter: value(i.Limiter), ancestry: i.Ladder, shares: i.Shares, leftOut: i.SharesLeftOut, candidates: i.Candidates,
		node: value(i.NodeState), state: value(i.NodeState), eviction: value(i.Eviction), kubelet: i.Eviction != nil, wait: i.Wait,
	}
	if i.Limiter == nil || i.Limiter.Level == events.LevelNode {
		f.scope = events.ScopeGlobal
	}
	f.charge = newCharge(f, i.Memory, i.NodeState)

	return f
}

// chosen is the victim that the kernel chose, else the first; nil if nobody died.
func chosen(inc *events.Incident) *events.Victim {
	if len(inc.Victims) == 0 {
		return nil
	}

	at := slices.IndexFunc(inc.Victims, func(v events.Victim) bool { return v.Role == events.RoleChosen })

	return &inc.Victims[max(at, 0)]
}

// The sources of evidence.
const (
	fromCounters = "page counters at the kill"
	fromKernel   = "kernel at the kill"
	fromBefore   = "stalls before the kill"
)

// source is where evidence comes from: of a live trace as named, of a kernel log always
// the log.
func (f *facts) source(live string) string {
	if f.tier == events.TierKernelLog {
		return phrase.Spaced(events.SourceKernelLog)
	}

	return live
}

// memorySource is the source of the limiter's charge.
func (f *facts) memorySource() string {
	switch m := f.memoryFrom; {
	case m == nil:
		return f.source("memory.stat counters at the kill")
	case m.AfterNS != nil:
		return m.Source + ", " + phrase.Duration(*m.AfterNS) + " after the kill"
	default:
		return phrase.Spaced(m.Source)
	}
}

// nodeSource is the source of the node's state, with the time after the kill at which it
// was read.
func (f *facts) nodeSource(file string) string {
	if f.node.AfterNS != nil {
		file += ", " + phrase.Duration(*f.node.AfterNS) + " after the kill"
	}

	return f.source(file)
}

// stateSource is nodeSource for what is known of the node at the kill, if anything is.
func (f *facts) stateSource(file string) string {
	if f.atKill {
		return phrase.Spaced(events.SourceKernelLog)
	}

	return f.nodeSource(file)
}

// ledgerSource is the source of all that the node's memory is split into: see nodeAtKill.
func (f *facts) ledgerSource() string {
	if f.atKill && f.node.AfterNS != nil {
		return f.stateSource("") + ", and /proc/meminfo " + phrase.Duration(*f.node.AfterNS) + " after the kill"
	}

	return f.stateSource("/proc/meminfo")
}

// ofNode reports whether the node or some of its NUMA nodes ran out of memory, or the
// kernel killed to keep that from happening.
func (f *facts) ofNode() bool {
	return f.is(events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy, scopeWorkingSet)
}

func (f *facts) is(scopes ...events.Scope) bool { return slices.Contains(scopes, f.scope) }

// limit is the limit in words.
func (f *facts) limit() string { return phrase.Limit(&f.limiter) }

// whole is what ran out, for a brief: whose limit it is has been named before.
func (f *facts) whole() string {
	if f.ofNode() {
		return "the node's memory"
	}

	return "the limit"
}

// total is what ran out, in bytes; 0 if it is not known.
func (f *facts) total() uint64 {
	switch {
	case f.is(events.ScopeMemcg):
		return value(f.limiter.LimitBytes)
	case f.is(events.ScopeGlobal) && f.node.TotalBytes != nil:
		return *f.node.TotalBytes
	case f.is(events.ScopeGlobal):
		return value(f.limiter.LimitBytes)
	}

	return 0
}

// kubepods is the cgroup of all pods; nil if the node's state does not have it.
func (f *facts) kubepods() *events.Share {
	all := f.node.Cgroups

	at := slices.IndexFunc(all, func(s events.Share) bool {
		return s.Level == events.LevelKubepods && !s.Workload.Nested()
	})
	if at < 0 {
		return nil
	}

	return &all[at]
}

// victimSize is what the victim had in memory.
func (f *facts) victimSize() uint64 {
	if f.victim == nil {
		return 0
	}

	return residentSize(f.victim)
}

func residentSize(v *events.Victim) uint64 {
	return value(oom.Sum(v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes))
}

func candidateSize(c *events.Candidate) uint64 {
	if c.RSSBytes != nil {
		return *c.RSSBytes
	}

	return value(oom.Sum(c.AnonRSSBytes, c.FileRSSBytes, c.ShmemRSSBytes))
}

// exempt are the candidates that the kernel may not kill.
func (f *facts) exempt() []*events.Candidate {
	var all []*events.Candidate

	for i := range f.candidates {
		if c := &f.candidates[i]; c.Unkillable {
			all = append(all, c)
		}
	}

	return all
}

// growth is the bytes a second by which the limiter's usage rose before the kill, and
// the time over which that was measured.
func (f *facts) growth() (rate, overNS uint64, ok bool) {
	var rows []events.StallSecond

	for _, s := range f.before.Timeline {
		if s.UsageBytes != nil {
			rows = append(rows, s)
		}
	}

	if len(rows) < growthRows {
		return 0, 0, false
	}
	first, last := rows[0], rows[len(rows)-1]

	span := less(first.BeforeNS, last.BeforeNS)
	if span < growthSpanNS || *last.UsageBytes <= *first.UsageBytes {
		return 0, 0, false
	}

	return uint64(float64(*last.UsageBytes-*first.UsageBytes) / (float64(span) / 1e9)), span, true
}

// growthSpanNS and growthRows are the least that a rate is computed from: usage moves in
// steps, and rows come once a second.
const (
	growthSpanNS = 2e9
	growthRows   = 3
)

// growthEvidence is empty where the growth is not known.
func (f *facts) growthEvidence() []events.Evidence {
	rate, over, ok := f.growth()
	if !ok {
		return nil
	}
	text := phrase.Size(rate) + "/s over " + phrase.Duration(over)

	return []events.Evidence{item("growth", text, f.source("memory.current before the kill"))}
}

func inContainer(p *events.Process) bool {
	return p.Workload != nil && (p.Workload.PodUID != "" || p.Workload.ContainerID != "" || p.Workload.Container != "")
}

// process names a process in a sentence.
func process(p *events.Process) string { return phrase.Process(p.Comm, p.PID) }

// inside reports whether a cgroup is another one or below it. Known is false where too
// little is known of one.
func inside(c, top *events.Cgroup) (is, known bool) {
	if equal, known := c.Same(top); equal || !known {
		return equal, known
	}

	if c.Hierarchy != top.Hierarchy || c.Path == "" || top.Path == "" {
		return false, false
	}

	return strings.HasPrefix(c.Path, strings.TrimSuffix(top.Path, "/")+"/"), true
}

func item(what, value, source string) events.Evidence {
	return events.Evidence{What: what, Value: value, Source: source}
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}

	return float64(part) / float64(whole)
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}

	return *p
}

// less is a-b, or 0: counters of one instant are not read at one instant.
func less(a, b uint64) uint64 { return a - min(a, b) }
