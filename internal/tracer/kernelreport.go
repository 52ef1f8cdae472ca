// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// reportWithinNS is how long causes wait for the kernel's report: a little less than for
	// all evidence, so that memory.stat can stand in for it.
	reportWithinNS = 1.5e9
	// readWithin is how long after a kill its report may be read: a pid that was used again is
	// of another kill. The time of reading counts, since the log's own clock may be seconds
	// off (kernel/sched/clock.c: local_clock). clockSlack is how far the wall clock may have
	// been corrected meanwhile.
	readWithin = 30 * time.Second
	clockSlack = time.Second
	// forgetNS is how long a report waits for its incident, and an incident for its report.
	// In a storm the incident may come many seconds later.
	forgetNS = 60e9
	// maxReports bounds the reports that wait for their incident, maxLacking the incidents
	// that wait for their report.
	maxReports = 256
	maxLacking = 1024
)

// kernelReport is the enricher that fills in what the trace itself did not see of a kill:
// from the kernel's own report in its log, and where that has no charge of the limiter, from
// memory.stat as it was right after the kill. The log is read on a goroutine of its own, and
// so are the files: both are slow on a node that is out of memory.
type kernelReport struct {
	log     reportLog // nil: it cannot be read
	charge  func(path string) *events.Memory
	wall    func(bootNS uint64) time.Time
	current func(id string) *events.Incident

	lacking []*lacking   // oldest first
	reports []loggedKill // without an incident so far, oldest first
	queue   chan chargeRequest
	refused uint64
	ending  bool // nothing more is waited for

	mu      sync.Mutex
	arrived []loggedKill
	charged []chargeAnswer
	crowded uint64      // reports that were dropped
	broken  atomic.Bool // the log: no more reports will come
	// news has a value if something arrived since it was last received.
	news chan struct{}
}

// reportLog reads the reports of the kernel's log. *kernellog.Follower implements it.
type reportLog interface {
	Run(context.Context, func(*events.Incident)) error
	Overwritten() uint64
	Close() error
}

// loggedKill is the incident of a report of the log, and when it was read.
type loggedKill struct {
	inc    *events.Incident
	readNS uint64
}

// lacking is an incident that lacks something.
type lacking struct {
	inc       *events.Incident // as it was reported
	startedNS uint64
	found     bool // its finding was returned; a report may still come
	// log is its report, nil so far.
	log *events.Incident
	// asked means that memory.stat is read for it; charge is the answer, nil so far.
	asked  bool
	charge *chargeAnswer
}

type chargeRequest struct {
	id, path string
	at       time.Time // of the kill
}

// chargeAnswer is a charge, nil if it could not be read.
type chargeAnswer struct {
	id      string
	memory  *events.Memory
	afterNS uint64
}

func newKernelReport(
	charge func(path string) *events.Memory, wall func(bootNS uint64) time.Time, current func(id string) *events.Incident,
) *kernelReport {
	return &kernelReport{
		charge: charge, wall: wall, current: current, queue: make(chan chargeRequest, maxSamples), news: make(chan struct{}, 1),
	}
}

// follow reads the log until ctx is done. warn takes the reason if it ends before.
func (k *kernelReport) follow(ctx context.Context, warn func(string)) {
	if k.log == nil {
		return
	}

	if err := k.log.Run(ctx, k.reported); err != nil {
		k.broken.Store(true)
		warn("incidents are no longer completed from the kernel's log: " + err.Error())
	}
}

// hasLog reports whether reports can come.
func (k *kernelReport) hasLog() bool { return k.log != nil && !k.broken.Load() }

// reported takes in a report, of which it keeps what completes an incident. If the tracer
// does not keep up, the oldest is dropped.
func (k *kernelReport) reported(inc *events.Incident) {
	if !hasReport(inc) {
		return
	}

	kept := *inc
	kept.Candidates = nil

	if !ofNode(inc.Scope) {
		kept.NodeState = nil
	}

	for _, c := range inc.Candidates {
		if c.Victim {
			kept.Candidates = append(kept.Candidates, c)
		}
	}

	k.mu.Lock()
	if len(k.arrived) == maxReports {
		k.arrived = slices.Delete(k.arrived, 0, 1)
		k.crowded++
	}
	k.arrived = append(k.arrived, loggedKill{&kept, kernel.BootNS()})
	k.mu.Unlock()

	k.wake()
}

// read reads charges until ctx is done.
func (k *kernelReport) read(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-k.queue:
			began := time.Now()
			answer := chargeAnswer{id: r.id, memory: k.charge(r.path), afterNS: uint64(max(began.Sub(r.at), 0))}

			k.mu.Lock()
			k.charged = append(k.charged, answer)
			k.mu.Unlock()

			k.wake()
		}
	}
}

func (k *kernelReport) wake() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// start implements enricher. An incident that lacks nothing waits for nothing; one of the node lacks
// the node's memory at the kill.
func (k *kernelReport) start(inc *events.Incident) bool {
	lacks := slices.ContainsFunc(inc.Unknown, func(name string) bool { return inReport(name, inc) })
	if !hasReport(inc) || !lacks && !ofNode(inc.Scope) {
		return false
	}

	if len(k.lacking) == maxLacking {
		k.lacking = slices.Delete(k.lacking, 0, 1)
		k.refused++
	}

	l := &lacking{inc: inc, startedNS: kernel.BootNS()}
	k.askCharge(l)

	if !k.hasLog() && !l.asked {
		return false
	}
	k.lacking = append(k.lacking, l)

	return true
}

// hasReport reports whether the kernel reports what an incident is about.
func hasReport(inc *events.Incident) bool {
	return inc.Scope != events.ScopeUser && (inc.Outcome == events.OutcomeKilled || inc.Outcome == events.OutcomeNoKillable)
}

// ofNode reports whether a scope is that of the node or of some of its NUMA nodes, or may be.
func ofNode(scope events.Scope) bool {
	switch scope {
	case events.ScopeGlobal, events.ScopeCpuset, events.ScopeMempolicy, events.ScopeUnknown:
		return true
	}

	return false
}

// inReport reports whether a report can have a key.
func inReport(name string, inc *events.Incident) bool {
	switch name {
	case "victims.exit_after_ns", "victims.released_after_ns", "victims.start_time", "victims.is_container_init":
		return false
	case "memory", "limiter.usage_bytes", "limiter.limit_bytes", "limiter.swap_usage_bytes", "limiter.swap_limit_bytes":
		return inc.Scope == events.ScopeMemcg || inc.Scope == events.ScopeUnknown
	case "ladder":
		return true
	}

	return !strings.HasPrefix(name, "ladder.") && !strings.HasPrefix(name, "audit")
}

// askCharge has memory.stat of the limiter read at once: what the victim had goes.
func (k *kernelReport) askCharge(l *lacking) {
	path := pathOf(l.inc.Limiter)
	if path == "" || !slices.Contains(l.inc.Unknown, "memory") || slices.Contains(l.inc.Unknown, "limiter") {
		return
	}

	select {
	case k.queue <- chargeRequest{l.inc.ID, path, l.inc.Time}:
		l.asked = true
	default:
		k.refused++
	}
}

// findings implements enricher: one finding at a time while records wait to be read.
func (k *kernelReport) findings(nowNS uint64, quiet bool) []finding {
	k.take(nowNS)

	var found []finding

	for _, l := range k.lacking {
		if !quiet && len(found) > 0 {
			break
		}

		if f, ok := k.finding(l, nowNS); ok {
			found = append(found, f)
		}
	}

	k.lacking = slices.DeleteFunc(k.lacking, func(l *lacking) bool {
		return l.found && (l.log != nil || !k.hasLog()) || nowNS-min(l.startedNS, nowNS) > forgetNS
	})

	return found
}

// finding returns what was found for an incident, once all has come that can come, or its
// time is over. A report that comes later is a finding of its own.
func (k *kernelReport) finding(l *lacking, nowNS uint64) (finding, bool) {
	over := k.ending || nowNS-min(l.startedNS, nowNS) >= reportWithinNS

	complete := (l.log != nil || !k.hasLog()) && (l.charge != nil || !l.asked)
	if !complete && !over || l.found && l.log == nil {
		return finding{}, false
	}
	l.found = true

	inc := k.current(l.inc.ID)
	if inc == nil {
		return finding{change: &events.Incident{ID: l.inc.ID}, last: true}, true
	}

	change := &events.Incident{ID: l.inc.ID}
	if l.log != nil {
		change = fromLog(inc, l.log)
	}

	if c := l.charge; c != nil && c.memory != nil {
		completed := *inc
		events.Merge(&completed, change)
		events.Merge(change, fromMemoryStat(&completed, c.memory, c.afterNS))
	}

	return finding{change: change, last: true}, true
}

// take takes in what has arrived, and joins incidents with their reports: the oldest with
// the oldest, each once.
func (k *kernelReport) take(nowNS uint64) {
	k.mu.Lock()
	arrived, charged := k.arrived, k.charged
	k.arrived, k.charged = nil, nil
	k.mu.Unlock()

	for _, answer := range charged {
		if i := slices.IndexFunc(k.lacking, func(l *lacking) bool { return l.inc.ID == answer.id }); i >= 0 {
			k.lacking[i].charge = &answer
		}
	}

	k.reports = append(k.reports, arrived...)
	k.reports = slices.DeleteFunc(k.reports, func(r loggedKill) bool {
		i := slices.IndexFunc(k.lacking, func(l *lacking) bool { return l.log == nil && k.sameKill(l, r) })
		if i >= 0 {
			k.lacking[i].log = r.inc
		}

		return i >= 0 || nowNS-min(r.readNS, nowNS) > forgetNS
	})

	if n := len(k.reports) - maxReports; n > 0 { // of incidents that lack nothing
		k.reports = slices.Delete(k.reports, 0, n)
	}
}

// sameKill reports whether a report is of an incident: it has the same victim or, where
// nothing could be killed, the same limiter and trigger.
func (k *kernelReport) sameKill(l *lacking, r loggedKill) bool {
	after := k.wall(r.readNS).Sub(l.inc.Time)
	if after < -clockSlack || after > readWithin || l.inc.Outcome != r.inc.Outcome {
		return false
	}

	if l.inc.Outcome == events.OutcomeNoKillable {
		seen, logged := l.inc.Trigger, r.inc.Trigger
		return pathOf(l.inc.Limiter) == pathOf(r.inc.Limiter) && seen != nil && logged != nil && sameProcess(seen, logged)
	}

	return slices.ContainsFunc(l.inc.Victims, func(seen events.Victim) bool {
		return slices.ContainsFunc(r.inc.Victims, func(logged events.Victim) bool { return sameProcess(&seen.Process, &logged.Process) })
	})
}

func (k *kernelReport) dropped() (string, uint64) {
	k.mu.Lock()
	count := k.refused + k.crowded
	k.mu.Unlock()

	if k.log != nil {
		count += k.log.Overwritten()
	}

	return events.LostKernelLog, count
}

// finish waits until all incidents have what can come, for a time at most. It is called
// before the last findings.
func (k *kernelReport) finish(timeout time.Duration) {
	k.ending = true
	over := time.After(timeout)

	for {
		k.take(kernel.BootNS())

		if !slices.ContainsFunc(k.lacking, func(l *lacking) bool {
			return !l.found && (l.log == nil && k.hasLog() || l.charge == nil && l.asked)
		}) {
			return
		}

		select {
		case <-k.news:
		case <-over:
			return
		}
	}
}

func (k *kernelReport) close() {
	if k.log != nil {
		_ = k.log.Close()
	}
}
