// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// builder makes incidents of reports.
type builder struct {
	opt Options
	ids map[string]int // how often each was given
}

func newBuilder(opt Options) builder {
	if opt.PageSizeBytes <= 0 {
		opt.PageSizeBytes = 4096
	}

	return builder{opt: opt, ids: map[string]int{}}
}

// incident returns the incident of a report of the kernel.
func (b *builder) incident(r *report) *events.Incident {
	unknown := &oom.Unknowns{}
	inc := b.kernelIncident(r, unknown)
	inc.Unknown = unknown.Names
	b.seal(r, inc)

	return inc
}

// seal sets what all incidents have.
func (b *builder) seal(r *report, inc *events.Incident) {
	unknown := &oom.Unknowns{Names: slices.Clone(inc.Unknown)}

	at := r.first
	if len(r.kills) > 0 && r.killTime.line > 0 {
		at = r.killTime
	}
	inc.Envelope = b.envelope(events.KindIncident, at, unknown)

	inc.Tier = events.TierKernelLog
	if inc.Log == nil {
		inc.Log = &events.Log{}
	}

	inc.Log.FirstLine, inc.Log.LastLine = r.first.line, r.last.line
	if at.uptime {
		inc.Log.UptimeNS = new(at.uptimeNS)
	}
	inc.Unknown = unknown.Names
	inc.ID = b.id(inc, at)
}

// envelope returns the envelope of a line. A time that is not known is in unknown.
func (b *builder) envelope(kind string, at record, unknown *oom.Unknowns) events.Envelope {
	e := events.Envelope{V: events.Version, Kind: kind, BootID: cmp.Or(at.boot, b.opt.BootID), Node: cmp.Or(at.host, b.opt.Node)}
	switch {
	case !at.wall.IsZero():
		e.Time = at.wall.UTC()
	case at.uptime && !b.opt.BootTime.IsZero():
		e.Time = b.opt.BootTime.Add(time.Duration(at.uptimeNS)).UTC()
	default:
		e.Time = time.Unix(0, int64(at.uptimeNS)).UTC()

		unknown.Add("time")
	}

	return e
}

// id returns an id made of the time, as precisely as the log has it, and of the processes
// involved. The same log results in the same ids, which differ from those of a live trace.
func (b *builder) id(inc *events.Incident, at record) string {
	h := sha256.New()

	when := at.wall.UTC().Format(time.RFC3339Nano)
	if at.uptime {
		when = strconv.FormatUint(at.uptimeNS/1000, 10)
	}

	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00%s\x00", inc.BootID, inc.Node, when, inc.Scope, inc.Outcome)

	if inc.Trigger != nil {
		fmt.Fprintf(h, "trigger\x00%d\x00%s\x00", inc.Trigger.TID, inc.Trigger.Comm)
	}

	if inc.Limiter != nil && inc.Limiter.Cgroup != nil {
		fmt.Fprintf(h, "limiter\x00%s\x00", inc.Limiter.Cgroup.Path)
	}

	for _, v := range inc.Victims {
		fmt.Fprintf(h, "victim\x00%d\x00%s\x00", v.PID, v.Comm)
	}
	id := "log-" + hex.EncodeToString(h.Sum(nil)[:8])

	if len(b.ids) >= 1<<16 {
		clear(b.ids)
	}

	b.ids[id]++
	if n := b.ids[id]; n > 1 { // in a log without times
		return fmt.Sprintf("%s-%d", id, n)
	}

	return id
}

func (b *builder) kernelIncident(r *report, unknown *oom.Unknowns) *events.Incident {
	inc := &events.Incident{Log: &events.Log{Panic: r.panicked != ""}}
	page := r.pageBytes(b.opt.PageSizeBytes)

	inc.Outcome, inc.Passes = r.outcome()
	if inc.Outcome == "" {
		unknown.Add("outcome", "victims", "passes")
	}
	inc.Scope = r.scope(page, unknown)

	// Of a node, that nothing is killable ends in a panic (mm/oom_kill.c: out_of_memory),
	// whose line this log lacks.
	if inc.Outcome == events.OutcomeNoKillable && inc.Scope != events.ScopeMemcg && inc.Scope != events.ScopeSysrq {
		unknown.Add("outcome")
	}

	r.limiter(inc, page, unknown)
	r.ancestry(inc, unknown)
	r.trigger(inc, unknown)

	inc.Victims = r.victims(page, unknown)
	inc.Chosen = r.choice(inc.Victims, unknown)

	if inc.Outcome == events.OutcomeKilled || r.grouped {
		inc.Killer = r.killer(inc.Scope, unknown)
	} else if inc.Outcome == "" {
		unknown.Add("killer")
	}
	total := r.totalPages(inc, page, unknown)
	r.allocation(inc, total, unknown)

	if inc.Memory = r.memory(); inc.Memory == nil || !r.statsOfLimiter() {
		inc.Memory = nil

		unknown.Add("memory")
	} else {
		m := inc.Memory
		unknown.Unless("memory.slab_bytes", m.SlabBytes != nil)
		unknown.Unless("memory.kernel_stack_bytes", m.KernelStackBytes != nil)
		unknown.Unless("memory.pagetables_bytes", m.PagetablesBytes != nil)
		unknown.Unless("memory.sock_bytes", m.SockBytes != nil)
	}

	if inc.Shares = r.shares(); inc.Shares != nil {
		r.unidentified("shares", unknown)
		unknown.Add("shares.max_bytes")
	}

	if len(r.tasks) > 0 {
		inc.Candidates = r.candidates(page, total, r.likelyPages(inc, total, page))
	} else {
		unknown.Add("candidates")
	}

	if r.memInfo != nil {
		allNodes := inc.Scope != events.ScopeCpuset && inc.Scope != events.ScopeMempolicy && !unknown.Has("constraint")
		inc.NodeState = r.memInfo.state(page, r.slabs, allNodes)
		unknown.Unless("node_state.ledger", !holed(inc.NodeState.Ledger))
	} else {
		unknown.Add("node_state")
	}

	r.addNotes(inc)

	return inc
}

// pageBytes returns the kernel's page size: from the free lists, or from a victim, whose
// address space the log has in pages and in kB. If neither is known it is otherwise.
func (r *report) pageBytes(otherwise int) uint64 {
	if r.memInfo != nil && r.memInfo.pageBytes != 0 {
		return r.memInfo.pageBytes
	}

	for _, k := range r.kills {
		i, ok := r.pids[k.pid]
		if !ok || k.totalVM == nil || r.tasks[i].totalVM == 0 {
			continue
		}

		size := *k.totalVM / r.tasks[i].totalVM
		if *k.totalVM%r.tasks[i].totalVM == 0 && size >= 4096 && size <= 1<<18 && bits.OnesCount64(size) == 1 {
			return size
		}
	}

	if r.memInfo != nil || len(r.tasks) > 0 {
		r.note(fmt.Sprintf("a page size of %d bytes is assumed", otherwise))
	}

	return uint64(otherwise)
}

func (r *report) outcome() (events.Outcome, *events.Passes) {
	switch {
	case slices.ContainsFunc(r.kills, func(k kill) bool { return !k.shares }):
		return events.OutcomeKilled, &events.Passes{Killed: 1}
	case r.panicked != "" && r.noKillable:
		return events.OutcomePanic, &events.Passes{NoKillable: 1}
	case r.panicked != "":
		return events.OutcomePanic, nil
	case r.noKillable:
		return events.OutcomeNoKillable, &events.Passes{NoKillable: 1}
	case len(r.exiting) > 0:
		return events.OutcomeAlreadyExiting, &events.Passes{AlreadyExiting: 1}
	}

	return "", nil
}

func (r *report) allocation(inc *events.Incident, total *uint64, unknown *oom.Unknowns) {
	a := &events.Allocation{TotalPages: total}
	if total == nil {
		unknown.Add("allocation.total_pages")
	}

	if r.header == nil {
		unknown.Add("allocation.order", "allocation.gfp", "allocation.gfp_flags", "allocation.class")

		if total != nil {
			inc.Allocation = a
		}

		return
	}
	inc.Allocation = a

	a.Order, a.GFP, a.GFPFlags = r.header.order, r.header.gfp, r.header.flags

	switch {
	case inc.Scope == events.ScopeSysrq:
		a.Class = "sysrq"
	default:
		a.Class = r.stack.class()
	}

	unknown.Unless("allocation.order", a.Order != nil)
	unknown.Unless("allocation.gfp", a.GFP != nil)
	// Before 4.6 only the number is printed, and its bits differ from today's.
	unknown.Unless("allocation.gfp_flags", a.GFPFlags != nil)
	unknown.Unless("allocation.class", a.Class != "")
}
