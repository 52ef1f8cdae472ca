// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// facts is an incident as the rules ask about it.
type facts struct {
	inc     *events.Incident
	history History
	victim  *events.Victim // the chosen one, else the first; nil if nobody died
	charge  *charge        // what the limit, or the node, was used for; nil: not known
}

func newFacts(inc *events.Incident, history History) *facts {
	f := &facts{inc: inc, history: history, victim: chosen(inc)}
	f.charge = newCharge(f)

	return f
}

func chosen(inc *events.Incident) *events.Victim {
	for i := range inc.Victims {
		if inc.Victims[i].Role == events.RoleChosen {
			return &inc.Victims[i]
		}
	}

	if len(inc.Victims) > 0 {
		return &inc.Victims[0]
	}

	return nil
}

// source names where evidence comes from: a kernel log has it all, live each
// group has a source of its own.
func (f *facts) source(live string) string {
	if f.inc.Tier == events.TierKernelLog {
		return "kernel log"
	}

	return live
}

const (
	fromCounters = "page counters at the kill"
	fromKernel   = "kernel at the kill"
	fromBefore   = "stalls before the kill"
)

// nodeSource tells how stale the node's state is: it is read after the kill.
func (f *facts) nodeSource(file string) string {
	if n := f.inc.NodeState; n != nil && n.AfterNS != nil {
		file += ", " + phrase.Duration(*n.AfterNS) + " after the kill"
	}

	return f.source(file)
}

func (f *facts) is(scopes ...events.Scope) bool {
	for _, s := range scopes {
		if f.inc.Scope == s {
			return true
		}
	}

	return false
}

func (f *facts) allocation() events.Allocation {
	if f.inc.Allocation == nil {
		return events.Allocation{}
	}

	return *f.inc.Allocation
}

func (f *facts) limiter() events.Limiter {
	if f.inc.Limiter == nil {
		return events.Limiter{}
	}

	return *f.inc.Limiter
}

func (f *facts) killer() events.Killer {
	if f.inc.Killer == nil {
		return events.Killer{}
	}

	return *f.inc.Killer
}

func (f *facts) node() events.NodeState {
	if f.inc.NodeState == nil {
		return events.NodeState{}
	}

	return *f.inc.NodeState
}

func (f *facts) before() events.Before {
	if f.inc.Before == nil {
		return events.Before{}
	}

	return *f.inc.Before
}

// inPod reports whether the victim or the limiter is of a pod.
func (f *facts) inPod() bool {
	if l := f.limiter(); l.Level == events.LevelPod || l.Workload != nil && l.Workload.PodUID != "" {
		return true
	}

	return f.victim != nil && f.victim.Workload != nil && f.victim.Workload.PodUID != ""
}

// v1 tells that the limit is of cgroup v1, which has neither memory.high nor
// memory.oom.group. A kernel log has no hierarchies, but names the file.
func (f *facts) v1() bool {
	l := f.limiter()
	return l.Cgroup != nil && l.Cgroup.Hierarchy != 0 || strings.HasPrefix(l.Which, "memory.limit_in_bytes") || strings.HasPrefix(l.Which, "memory.memsw.")
}

// whose names the limit in words.
func (f *facts) whose() string {
	l := f.limiter()
	switch l.Level {
	case events.LevelContainer:
		return "the container's limit"
	case events.LevelPod:
		return "the pod's limit"
	case events.LevelQoS:
		if l.Workload != nil && l.Workload.QoS != "" {
			return "the limit of all " + clip(l.Workload.QoS) + " pods"
		}

		return "the limit of a QoS class"
	case events.LevelKubepods:
		return "the limit of all pods (node allocatable)"
	case events.LevelNode:
		return "the node's memory"
	}

	return "the limit of " + called(l.Workload, l.Cgroup)
}

// called is the shortest name that tells a cgroup from others.
func called(w *events.Workload, c *events.Cgroup) string {
	if w != nil {
		switch {
		case w.Container != "":
			return "container " + clip(w.Container)
		case w.ContainerID != "":
			return "container " + short(w.ContainerID)
		case w.Pod != "":
			return "pod " + clip(w.Namespace+"/"+w.Pod)
		case w.PodUID != "":
			return "pod " + short(w.PodUID)
		case w.Unit != "":
			return clip(w.Unit)
		}
	}

	if c == nil {
		return "a cgroup"
	}

	if c.Path == "" {
		return fmt.Sprintf("cgroup %d", c.ID)
	}

	return "cgroup " + clipHead(c.Path)
}

func process(p *events.Process) string {
	if p.Comm == "" {
		return fmt.Sprintf("process %d", p.PID)
	}

	if p.PID <= 0 {
		return clip(p.Comm)
	}

	return fmt.Sprintf("%s[%d]", clip(p.Comm), p.PID)
}

// inside tells whether a cgroup is another one, or below it.
func inside(c, top *events.Cgroup) (is, known bool) {
	if equal, known := c.Same(top); equal || !known {
		return equal, known
	}

	if c.Hierarchy != top.Hierarchy || c.Path == "" || top.Path == "" {
		return false, false
	}

	return strings.HasPrefix(c.Path, strings.TrimSuffix(top.Path, "/")+"/"), true
}

// nameRunes is how much of a name is repeated in a sentence. Units and paths may
// have 255 and 4096 bytes.
const nameRunes = 60

func clip(s string) string {
	if utf8.RuneCountInString(s) <= nameRunes {
		return s
	}

	n := 0
	for i := range s {
		if n++; n == nameRunes {
			return s[:i] + "…"
		}
	}

	return s
}

// clipHead keeps the end: it is what tells paths apart.
func clipHead(s string) string {
	over := utf8.RuneCountInString(s) - nameRunes
	if over <= 0 {
		return s
	}

	for i := range s {
		if over--; over < -1 {
			return "…" + s[i:]
		}
	}

	return s
}

// idRunes is how much of a container or pod id people compare by.
const idRunes = 8

func short(id string) string {
	if len(id) <= idRunes {
		return id
	}

	return strings.ToValidUTF8(id[:idRunes], "") + "…"
}

func item(what, value, source string) events.Evidence {
	return events.Evidence{What: what, Value: value, Source: source}
}

// of shows a part of a whole.
func of(part, whole uint64) string {
	if whole == 0 {
		return phrase.Size(part)
	}

	return fmt.Sprintf("%s of %s (%s)", phrase.Size(part), phrase.Size(whole), percent(share(part, whole)))
}

// within is of for a sentence: the whole is named instead of numbered.
func within(part, whole uint64, name string) string {
	if whole == 0 {
		return phrase.Size(part)
	}

	return fmt.Sprintf("%s (%s of %s)", phrase.Size(part), percent(share(part, whole)), name)
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", share*100) }

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}

	return float64(part) / float64(whole)
}

func plural(n int, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "s"):
		thing += "es"
	default:
		thing += "s"
	}

	return fmt.Sprintf("%d %s", n, thing)
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}

	return *p
}

// less is a-b, or 0: counters of one instant are not read at one instant.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}

	return a - b
}
