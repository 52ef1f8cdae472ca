// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/exitstatus"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// Names knows the names of pods and containers. *resolve.Resolver implements it; none
// of its methods may wait.
type Names interface {
	Seen(resolve.Ref)
	Found(resolve.Ref)
	Gone(resolve.Ref)
	Fill(*events.Workload) *events.Workload
	Version() uint64
	Dropped() uint64
}

// Exits asks the runtime how containers ended. *exitstatus.Checker implements it; none
// of its methods may wait.
type Exits interface {
	Check(exitstatus.Check)
	Reports() []exitstatus.Report
	Dropped() uint64
}

// namedTree gives places with the names that are known by now.
type namedTree struct {
	*resolve.Tree
	names Names // nil: ids only
}

func (n namedTree) Place(key events.CgroupKey) (place resolve.Place, path string, ok bool) {
	place, path, ok = n.Tree.Place(key)
	if n.names != nil {
		place.Workload = n.names.Fill(place.Workload)
	}

	return place, path, ok
}

const (
	// holdNS is for how long an incident waits for names and for what the runtime
	// reports, which is asked for during ten seconds.
	holdNS = 15e9
	// maxHeld bounds how many wait, the oldest given up first.
	maxHeld = 1024
)

// naming completes incidents that were given out already. It belongs to the
// tracer's goroutine.
type naming struct {
	names   Names
	exits   Exits
	held    []*held // oldest first
	version uint64
	dropped uint64
}

// held is an incident with all updates merged.
type held struct {
	inc     events.Incident
	sinceNS uint64
}

// tell hands the ids of a container's or a pod's own cgroup on.
func tell(place resolve.Place, to func(resolve.Ref)) {
	ref, ok := resolve.RefOf(place.Workload)
	if ok && (place.Level == events.LevelContainer || place.Level == events.LevelPod) {
		to(ref)
	}
}

// hold waits for more of an incident, and asks the runtime about its containers.
func (n *naming) hold(inc *events.Incident, nowNS uint64) {
	h := &held{inc: *inc, sinceNS: nowNS}

	n.held = append(n.held, h)
	if len(n.held) > maxHeld {
		n.held = slices.Delete(n.held, 0, 1)
	}

	for _, c := range checks(inc) {
		n.exits.Check(c)
	}
}

// merge keeps what an update says.
func (n *naming) merge(update *events.Incident) {
	if h := n.find(update.ID); h != nil {
		events.Merge(&h.inc, update)
	}
}

func (n *naming) find(id string) *held {
	for _, h := range slices.Backward(n.held) {
		if h.inc.ID == id {
			return h
		}
	}

	return nil
}

// due gives the updates that came to be known, without their envelopes.
func (n *naming) due(nowNS uint64) []*events.Incident {
	var updates []*events.Incident

	for _, r := range n.exits.Reports() {
		u := &events.Incident{ID: r.Incident, Reported: []events.Reported{r.Reported}}
		if h := n.find(r.Incident); h != nil {
			// A key replaces what was there as a whole.
			h.inc.Reported = append(slices.Clone(h.inc.Reported), r.Reported)
			u.Reported = h.inc.Reported
		}

		updates = append(updates, u)
	}

	if v := n.names.Version(); v != n.version {
		n.version = v
		for _, h := range n.held {
			if u := rename(&h.inc, n.names.Fill); u != nil {
				events.Merge(&h.inc, u)
				updates = append(updates, u)
			}
		}
	}

	old := 0
	for old < len(n.held) && nowNS-min(n.held[old].sinceNS, nowNS) > holdNS {
		old++
	}
	n.held = slices.Delete(n.held, 0, old)

	return updates
}

// lost tells how many look-ups were dropped since it was last asked.
func (n *naming) lost() uint64 {
	now := n.names.Dropped() + n.exits.Dropped()
	grown := now - n.dropped
	n.dropped = now

	return grown
}

// rename makes the update that gives an incident's workloads their names; nil
// where there is nothing new. Keys are replaced as a whole, victims matched by pid.
func rename(inc *events.Incident, fill func(*events.Workload) *events.Workload) *events.Incident {
	u, news := &events.Incident{ID: inc.ID}, false
	if l := inc.Limiter; l != nil {
		if w := fill(l.Workload); w != l.Workload {
			limiter := *l
			limiter.Workload = w
			u.Limiter, news = &limiter, true
		}
	}
	u.Ladder = renamed(inc.Ladder, func(r *events.Rung) **events.Workload { return &r.Workload }, fill)
	u.Shares = renamed(inc.Shares, func(s *events.Share) **events.Workload { return &s.Workload }, fill)
	u.Candidates = renamed(inc.Candidates, func(c *events.Candidate) **events.Workload { return &c.Workload }, fill)
	news = news || u.Ladder != nil || u.Shares != nil || u.Candidates != nil

	if t := inc.Trigger; t != nil {
		if w := fill(t.Workload); w != t.Workload {
			trigger := *t
			trigger.Workload = w
			u.Trigger, news = &trigger, true
		}
	}

	for _, v := range inc.Victims {
		if w := fill(v.Workload); w != v.Workload {
			u.Victims = append(u.Victims, events.Victim{Process: events.Process{PID: v.PID, TID: v.TID, Comm: v.Comm, Workload: w}})
			news = true
		}
	}

	if !news {
		return nil
	}

	return u
}

// renamed copies a list with the names filled in; nil where nothing is new.
func renamed[T any](list []T, workload func(*T) **events.Workload, fill func(*events.Workload) *events.Workload) []T {
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

// checks are the questions to the runtime about an incident: one for each container
// in which somebody died.
func checks(inc *events.Incident) []exitstatus.Check {
	if inc.Outcome != events.OutcomeKilled {
		return nil
	}
	var all []exitstatus.Check

	for _, v := range inc.Victims {
		ref, ok := resolve.RefOf(v.Workload)
		if !ok || ref.ContainerID == "" || v.IsContainerInit == nil {
			continue
		}

		i := slices.IndexFunc(all, func(c exitstatus.Check) bool { return c.ContainerID == ref.ContainerID })
		if i < 0 {
			i = len(all)
			all = append(all, exitstatus.Check{Incident: inc.ID, Ref: ref, Container: v.Workload.Container, Kernel: kernelSide(inc)})
		}

		if *v.IsContainerInit {
			all[i].Kernel.Init = true
		} else {
			all[i].Kernel.Child = true
		}
	}

	return all
}

func kernelSide(inc *events.Incident) exitstatus.Kernel {
	k := exitstatus.Kernel{Scope: inc.Scope}
	if inc.Limiter != nil {
		k.Level = inc.Limiter.Level
	}

	if inc.Killer != nil {
		k.Group = inc.Killer.Path == "group"

		k.By = inc.Killer.Path
		if inc.Killer.Comm != "" {
			k.By = fmt.Sprintf("%s[%d]", inc.Killer.Comm, inc.Killer.PID)
		}
	}

	return k
}
