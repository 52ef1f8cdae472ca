// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"reflect"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// Names resolves pods and containers. *resolve.Resolver implements it; none of its
// methods may wait.
type Names interface {
	resolve.Names
	Version() uint64
	Dropped() uint64
}

// namesWithinNS is how long after an incident its workloads may still get names.
const namesWithinNS = 15e9

// lateNames is the enricher for names that come after the incident. Causes do not wait
// for them: a workload that no source knows would delay every cause.
type lateNames struct {
	names   Names
	current func(id string) *events.Incident
	now     func() uint64
	waiting []namesUntil // oldest first
	version uint64
}

type namesUntil struct {
	id      string
	untilNS uint64
}

func (n *lateNames) start(inc *events.Incident) bool {
	n.waiting = append(n.waiting, namesUntil{inc.ID, n.now() + namesWithinNS})
	return false
}

func (n *lateNames) findings(nowNS uint64, _ bool) []finding {
	var found []finding

	if v := n.names.Version(); v != n.version {
		n.version = v

		for _, w := range n.waiting {
			inc := n.current(w.id)
			if inc == nil {
				continue
			}

			if change := newNames(inc, n.names.Fill); change != nil {
				found = append(found, finding{change: change})
			}
		}
	}

	n.waiting = slices.DeleteFunc(n.waiting, func(w namesUntil) bool { return nowNS > w.untilNS })

	return found
}

func (n *lateNames) dropped() (string, uint64) { return "name_lookup", n.names.Dropped() }

// newNames returns the change that gives an incident's workloads their names, nil if
// there is nothing new. Keys are replaced as a whole, victims matched by pid.
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

	if t := inc.Trigger; t != nil {
		if w := fill(t.Workload); w != t.Workload {
			trigger := *t
			trigger.Workload = w
			change.Trigger = &trigger
		}
	}

	for _, v := range inc.Victims {
		if w := fill(v.Workload); w != v.Workload {
			change.Victims = append(change.Victims, events.Victim{Process: events.Process{PID: v.PID, TID: v.TID, Comm: v.Comm, Workload: w}})
		}
	}

	if isEmpty(change) {
		return nil
	}

	return change
}

// withNames copies a list with the names filled in; nil if nothing is new.
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

// fillNames gives the workloads of a change that is not reported yet their names.
func fillNames(change *events.Incident, fill func(*events.Workload) *events.Workload) {
	if named := newNames(change, fill); named != nil {
		events.Merge(change, named)
	}
}

// isEmpty reports whether a change has no keys but its id.
func isEmpty(change *events.Incident) bool {
	return reflect.DeepEqual(change, &events.Incident{Envelope: change.Envelope, ID: change.ID})
}
