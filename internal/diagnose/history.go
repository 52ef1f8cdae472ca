// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"regexp"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// History is the earlier kills that are related to an incident, the oldest first.
type History []Kill

// Kill is an earlier OOM kill.
type Kill struct {
	ID   string
	Time time.Time
	// SameVictim: it hit the same container or service, or what replaced it.
	// SameLimiter: it was for the same limit, or for the node as this one.
	SameVictim, SameLimiter bool
	Victim                  string // its name and pid, for people
	// Released reports whether it is known that the victim's memory was freed;
	// ReleasedAfterNS is how long that took.
	Released        bool
	ReleasedAfterNS uint64
}

// journalKills bounds a Journal. A loop repeats within minutes; a node with more
// kills than this in the time is in a state that no loop explains.
const journalKills = 1024

// Journal remembers kills, a bounded number, for Diagnose. The zero value is
// ready. It is not safe for concurrent use.
type Journal struct{ kills []entry }

type entry struct {
	Kill
	boot, node string
	subject    subject
	scope      events.Scope
	limiter    *events.Limiter // nil: unknown
	// exact is how far off the time may be.
	exact time.Duration
	// instances are those that the victims ran in, at most maxInstances.
	instances []oom.Instance
}

// maxInstances bounds the instances of a kill: a group kill for the limit of a slice may hit
// many.
const maxInstances = 16

// Add records an incident, or replaces it after an update. Only OOM kills are kept.
func (j *Journal) Add(inc *events.Incident) {
	v := chosen(inc)
	if inc.Outcome != events.OutcomeKilled || inc.Scope == events.ScopeUser || v == nil {
		return
	}

	e := entry{
		Kill: Kill{
			ID: inc.ID, Time: inc.Time, Victim: process(&v.Process),
			Released: v.ReleasedAfterNS != nil, ReleasedAfterNS: value(v.ReleasedAfterNS),
		},
		boot: inc.BootID, node: inc.Node, subject: subjectOf(v), scope: inc.Scope, limiter: limiterOf(inc), exact: resolution(inc),
		instances: instancesOf(inc),
	}

	if i := slices.IndexFunc(j.kills, func(o entry) bool { return o.ID == e.ID && o.boot == e.boot }); i >= 0 {
		j.kills[i] = e
		return
	}

	if len(j.kills) == journalKills {
		j.kills = slices.Delete(j.kills, 0, 1)
	}
	j.kills = append(j.kills, e)
}

func instancesOf(inc *events.Incident) []oom.Instance {
	var all []oom.Instance

	for i := range inc.Victims {
		v := &inc.Victims[i]

		one := oom.InstanceOf(v.Workload, v.Cgroup)
		if one != (oom.Instance{}) && !slices.Contains(all, one) && len(all) < maxInstances {
			all = append(all, one)
		}
	}

	return all
}

// Diagnose returns the causes of an incident, with the kills before it as its history. The
// incident may be in the journal itself.
func (j *Journal) Diagnose(inc *events.Incident) []events.Cause {
	f := incidentFacts(inc, j.before(inc))
	if f.follows == nil {
		f.follows = j.Follows(inc)
	}

	_, f.oomBefore = j.inInstance(inc)

	return causes(f, rules)
}

// Follows returns the OOM kill in the journal that a kill from user space followed from, nil if
// none is known. It must be of the same boot and node, and of the same container, unit or cgroup.
func (j *Journal) Follows(inc *events.Incident) *events.Follows {
	kill, ok := j.inInstance(inc)
	if !ok {
		return nil
	}

	follows := oom.Follows(inc.Killer, uint64(inc.Time.Sub(kill.Time)))
	if follows != nil {
		follows.ID, follows.Victim = kill.ID, kill.Victim
	}

	return follows
}

// inInstance returns the last OOM kill in the instance that a kill from user space hit, within
// oom.FollowWithin before it.
func (j *Journal) inInstance(inc *events.Incident) (last *entry, ok bool) {
	if inc.Scope != events.ScopeUser || slices.Contains(inc.Unknown, "time") {
		return nil, false
	}
	hit := instancesOf(inc)

	for i := range j.kills {
		e := &j.kills[i]

		age := inc.Time.Sub(e.Time)
		if e.boot != inc.BootID || e.node != inc.Node || age < 0 || age > oom.FollowWithin || last != nil && e.Time.Before(last.Time) {
			continue
		}

		if slices.ContainsFunc(e.instances, func(one oom.Instance) bool { return slices.Contains(hit, one) }) {
			last = e
		}
	}

	return last, last != nil
}

// before returns the kills before an incident.
func (j *Journal) before(inc *events.Incident) History {
	v := chosen(inc)
	if v == nil {
		return nil
	}
	subject := subjectOf(v)
	var history History

	exact, limiter := resolution(inc), limiterOf(inc)

	for _, e := range j.kills {
		// What is closer than the times are exact has neither an order nor a distance.
		if e.boot == inc.BootID && e.ID == inc.ID || inc.Time.Sub(e.Time) < max(exact, e.exact) {
			continue
		}
		kill := e.Kill
		kill.SameVictim = subject.is(e.subject)

		kill.SameLimiter = e.boot == inc.BootID && e.scope == inc.Scope && sameLimiter(e.limiter, limiter)
		if kill.SameVictim || kill.SameLimiter {
			history = append(history, kill)
		}
	}

	slices.SortStableFunc(history, func(a, b Kill) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })

	return history
}

// limiterOf returns whose limit was hit, nil if it is unknown: a kernel log may not show the
// limiter, or whether it was the whole node.
func limiterOf(inc *events.Incident) *events.Limiter {
	if slices.Contains(inc.Unknown, "limiter") || slices.Contains(inc.Unknown, "constraint") {
		return nil
	}

	return inc.Limiter
}

func sameLimiter(then, now *events.Limiter) bool {
	switch {
	case then == nil || now == nil:
		return false
	case then.Cgroup == nil && now.Cgroup == nil:
		return then.Level == events.LevelNode && now.Level == events.LevelNode && slices.Equal(then.Nodes, now.Nodes)
	}
	equal, _ := then.Cgroup.Same(now.Cgroup)

	return equal
}

// never is the resolution of a log without times.
const never = time.Duration(1<<63 - 1)

// resolution returns how far off the time of an incident may be. A log with the kernel's own
// times has microseconds, one with dates mostly whole seconds.
func resolution(inc *events.Incident) time.Duration {
	switch {
	case inc.Log == nil || inc.Log.UptimeNS != nil:
		return 0
	case slices.Contains(inc.Unknown, "time"):
		return never
	case inc.Time.Nanosecond() == 0:
		return time.Second
	}

	return 0
}

// subject is who died, as far as it survives a restart: a container's id does
// not.
type subject struct {
	podUID, pod, container, path, comm string
	// unit is the innermost unit, guest or job, with what it is within.
	unit string
}

var containerIDs = regexp.MustCompile(`[0-9a-f]{64}`)

func subjectOf(v *events.Victim) subject {
	s := subject{comm: v.Comm}
	if w := v.Workload; w != nil {
		s.podUID, s.container, s.unit = w.PodUID, w.Container, unitOf(w)
		if w.Pod != "" {
			s.pod = w.Namespace + "/" + w.Pod
		}
	}

	if v.Cgroup != nil {
		s.path = containerIDs.ReplaceAllLiteralString(v.Cgroup.Path, "*")
	}

	return s
}

// unitOf names the unit, guest or job of a workload, and what that is within: a guest may have
// units of the same names as the host, and one service runs the jobs of many.
func unitOf(w *events.Workload) string {
	name := w.Unit

	switch {
	case w.Job != nil:
		name = w.Job.Manager + " " + w.Job.ID
		if w.Job.Manager == "nomad" {
			name += " " + w.Job.Task
		}
	case w.Guest != nil:
		name = w.Guest.System + " " + w.Guest.Name
	case w.Service != "":
		name = "service " + w.Service
	}

	for _, h := range w.Within {
		if h.Kind == events.HolderContainer { // its id does not survive a restart
			h.ID = ""
		}
		name += " in " + string(h.Kind) + " " + h.System + " " + h.Name + h.ID
	}

	return name
}

// is reports whether both are the same workload. Where the container's name is
// not known, that of its process is used.
func (s subject) is(o subject) bool {
	inside := s.comm == o.comm
	if s.container != "" && o.container != "" {
		inside = s.container == o.container
	}

	switch {
	case s.podUID != "" && s.podUID == o.podUID, s.pod != "" && s.pod == o.pod:
		return inside && s.unit == o.unit
	case s.podUID != "" || o.podUID != "" || s.pod != "" || o.pod != "":
		return false
	case s.unit != "" || o.unit != "":
		return s.unit == o.unit
	}

	return s.path != "" && s.path == o.path && inside
}
