// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"reflect"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// Names resolves pods and containers. *names.Resolver implements it; none of its
// methods may wait.
type Names interface {
	resolve.Names
	Learned() (refs []resolve.Ref, all bool)
	Dropped() uint64
}

// namesWithinNS is how long after an incident its workloads are still resolved.
const namesWithinNS = 15e9

// lateNames is the enricher for names that are resolved after the incident. Causes do not
// wait for them: a workload that no source knows would delay every cause.
type lateNames struct {
	names   Names
	current func(id string) *events.Incident
	now     func() uint64
	waiting []namesUntil // oldest first
}

type namesUntil struct {
	id      string
	untilNS uint64
	// checked is the incident as of the last check. One that changed since is checked for
	// all names: a name may be learnt after evidence was collected, and before it arrives.
	checked *events.Incident
}

func (n *lateNames) start(inc *events.Incident) bool {
	n.waiting = append(n.waiting, namesUntil{id: inc.ID, untilNS: n.now() + namesWithinNS})
	return false
}

func (n *lateNames) findings(nowNS uint64, _ bool) []finding {
	var found []finding

	learned := n.fillLearned()

	for i := range n.waiting {
		w, fill := &n.waiting[i], learned

		inc := n.current(w.id)
		if inc == nil {
			w.untilNS = 0 // no longer open
			continue
		}

		if inc != w.checked {
			w.checked, fill = inc, n.names.Fill
		}

		if fill == nil {
			continue
		}

		if change := newNames(inc, fill); change != nil {
			found = append(found, finding{change: change})
		}
	}

	n.waiting = slices.DeleteFunc(n.waiting, func(w namesUntil) bool { return nowNS > w.untilNS })

	return found
}

// fillLearned returns a function that fills in the names learnt since the last call, and
// leaves other workloads alone; nil if nothing was learnt.
func (n *lateNames) fillLearned() func(*events.Workload) *events.Workload {
	refs, all := n.names.Learned()
	if all {
		return n.names.Fill
	}

	if len(refs) == 0 {
		return nil
	}

	ids := make(map[string]bool, len(refs))
	for _, ref := range refs {
		ids[ref.ContainerID], ids[ref.PodUID] = true, true
	}

	delete(ids, "")

	return func(w *events.Workload) *events.Workload {
		if w == nil || !ids[w.ContainerID] && !ids[w.PodUID] {
			return w
		}

		return n.names.Fill(w)
	}
}

func (n *lateNames) dropped() (string, uint64) { return events.LostNameLookup, n.names.Dropped() }

// newNames returns the change that adds names to the workloads of an incident, or nil if
// none are new. Keys are replaced as a whole, victims are matched by pid.
func newNames(inc *events.Incident, fill func(*events.Workload) *events.Workload) *events.Incident {
	change := &events.Incident{
		ID:         inc.ID,
		Ladder:     withNames(inc.Ladder, func(r *events.Rung) **events.Workload { return &r.Workload }, fill),
		Shares:     withNames(inc.Shares, func(s *events.Share) **events.Workload { return &s.Workload }, fill),
		Candidates: withNames(inc.Candidates, func(c *events.Candidate) **events.Workload { return &c.Workload }, fill),
	}

	if l := inc.Limiter; l != nil {
		if w := fill(l.Workload); w != l.Workload {
			limiter := *l
			limiter.Workload = w
			change.Limiter = &limiter
		}
	}

	change.Trigger = namedProcess(inc.Trigger, fill)
	change.Exiting = namedProcess(inc.Exiting, fill)

	if inc.Wait != nil {
		if tasks := withNames(inc.Wait.Tasks, func(p *events.Process) **events.Workload { return &p.Workload }, fill); tasks != nil {
			wait := *inc.Wait
			wait.Tasks = tasks
			change.Wait = &wait
		}
	}

	for _, v := range inc.Victims {
		if w := fill(v.Workload); w != v.Workload {
			change.Victims = append(change.Victims,
				events.Victim{Process: events.Process{PID: v.PID, TID: v.TID, Comm: v.Comm, Workload: w}})
		}
	}

	if isEmpty(change) {
		return nil
	}

	return change
}

// namedProcess returns a copy of a process with names, or nil if none are new.
func namedProcess(p *events.Process, fill func(*events.Workload) *events.Workload) *events.Process {
	if p == nil {
		return nil
	}

	named := *p
	if named.Workload = fill(p.Workload); named.Workload == p.Workload {
		return nil
	}

	return &named
}

// withNames returns a copy of a list with names, or nil if none are new.
func withNames[T any](list []T, workload func(*T) **events.Workload, fill func(*events.Workload) *events.Workload) []T {
	var out []T

	for i := range list {
		old := *workload(&list[i])

		w := fill(old)
		if w == old {
			continue
		}

		if out == nil {
			out = slices.Clone(list)
		}
		*workload(&out[i]) = w
	}

	return out
}

// isEmpty reports whether a change has no keys but its id.
func isEmpty(change *events.Incident) bool {
	return reflect.DeepEqual(change, &events.Incident{Envelope: change.Envelope, ID: change.ID})
}
