// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// filter picks incidents whose limiter or any victim matches. Fields that are
// set must all match: those of a pod the same workload, the others each by itself.
//
// Names may come later than the incident (see byName).
type filter struct {
	podUID, containerID, cgroup, comm string
	namespace, pod, podLabel, qos     string
	pid                               int
}

func (f *filter) add(flags *pflag.FlagSet) {
	flags.VarP((*word)(&f.namespace), "namespace", "n", "only incidents of pods in this `namespace`")
	flags.Var((*word)(&f.pod), "pod", "only incidents of the pod with this `name`, or namespace/name")
	flags.Var((*word)(&f.podLabel), "pod-label", "only incidents of pods with these `labels`, such as app=shop,tier=front")
	flags.Var((*word)(&f.qos), "qos", "only incidents of pods of this `class`: "+strings.Join(qosClasses, ", "))
	flags.Var((*word)(&f.podUID), "pod-uid", "only incidents of the pod with this `uid`")
	flags.Var((*word)(&f.containerID), "container", "only incidents of the container whose `id` begins so")
	flags.Var((*word)(&f.cgroup), "cgroup", "only incidents of this cgroup `path` or below it, such as /kubepods.slice")
	flags.IntVar(&f.pid, "pid", 0, "only incidents in which this `pid` died")
	flags.Var((*word)(&f.comm), "comm", "only incidents in which a process of this `name` died")
}

// word is the text of a flag that is not empty if it is given: an empty one comes of
// a variable that is not set, and would select everything.
type word string

func (w *word) String() string { return string(*w) }
func (w *word) Type() string   { return "string" }

func (w *word) Set(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	*w = word(text)

	return nil
}

func (f *filter) check() error {
	switch {
	case f.pid < 0:
		return usagef("--pid %d: it cannot be negative", f.pid)
	case f.cgroup != "" && !strings.HasPrefix(f.cgroup, "/"):
		return usagef("--cgroup %q: a path begins with /, at the mount of the cgroup hierarchy", f.cgroup)
	case f.qos != "" && !slices.Contains(qosClasses, strings.ToLower(f.qos)):
		return usagef("--qos %q: it is one of %s", f.qos, strings.Join(qosClasses, ", "))
	case f.podLabel != "" && !validSelector(f.podLabel):
		return usagef("--pod-label %q: it is key=value, several with commas between", f.podLabel)
	case f.containerID != "" && strings.Trim(strings.ToLower(f.containerID), "0123456789abcdef") != "":
		return usagef("--container %q: an id is hexadecimal", f.containerID)
	}

	return nil
}

var qosClasses = []string{"guaranteed", "burstable", "besteffort"}

func validSelector(selector string) bool {
	for term := range strings.SplitSeq(selector, ",") {
		if key, _, ok := strings.Cut(term, "="); !ok || key == "" {
			return false
		}
	}

	return true
}

// byName tells whether the filter asks for what only names tell. An incident that
// does not match by then is kept, and matched again as its names come; it is shown
// late rather than not at all, and no incident is held up that matches at once.
func (f *filter) byName() bool { return f.namespace != "" || f.pod != "" || f.podLabel != "" }

// workload matches what is asked of a single workload: a pod, not one pod's name
// with another's label.
func (f *filter) workload(w *events.Workload) bool {
	if w == nil {
		w = &events.Workload{}
	}
	id := strings.ToLower(f.containerID)

	namespace, pod, both := strings.Cut(f.pod, "/")
	if !both {
		namespace, pod = "", f.pod
	}

	return (f.podUID == "" || sameUID(w.PodUID, f.podUID)) &&
		(id == "" || strings.HasPrefix(w.ContainerID, id) || strings.HasPrefix(w.NodeContainerID, id)) &&
		(f.namespace == "" || w.Namespace == f.namespace) &&
		(namespace == "" || w.Namespace == namespace) &&
		(pod == "" || w.Pod == pod) &&
		(f.qos == "" || strings.EqualFold(w.QoS, f.qos)) &&
		(f.podLabel == "" || hasLabels(w.Labels, f.podLabel))
}

func hasLabels(labels map[string]string, selector string) bool {
	for term := range strings.SplitSeq(selector, ",") {
		key, value, _ := strings.Cut(term, "=")
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}

	return true
}

func (f *filter) active() bool { return *f != filter{} }

// match returns what a sink.Filter shows. A stall is shown under any filter but those
// of a process that it is not about; an early warning is about no process at all.
func (f *filter) match() sink.Match {
	return sink.Match{Incident: f.incident, Undecided: f.undecided, Stall: f.stall, Pressure: f.pressure}
}

func (f *filter) incident(inc *events.Incident) bool {
	return (f.pid == 0 || slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.PID == f.pid || v.TID == f.pid })) &&
		(f.comm == "" || slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.Comm == f.comm || v.Thread == f.comm })) &&
		(f.workload(nil) || anyWorkload(inc, f.workload)) &&
		(f.cgroup == "" || f.anyCgroup(inc))
}

// undecided reports whether names that are not known yet may make an incident match.
func (f *filter) undecided(inc *events.Incident) bool {
	return f.byName() && !f.incident(inc) && anyWorkload(inc, func(w *events.Workload) bool {
		return (w.PodUID != "" || w.ContainerID != "") && w.Pod == ""
	})
}

func (f *filter) stall(l *events.StallLine) bool {
	return (f.pid == 0 || l.Task.PID == f.pid || l.Task.TID == f.pid) && (f.comm == "" || l.Task.Comm == f.comm) &&
		(f.cgroup == "" || f.below(l.Task.Cgroup) || f.below(l.Limiter)) && f.workload(l.Task.Workload)
}

func (f *filter) pressure(l *events.PressureLine) bool {
	return f.pid == 0 && f.comm == "" && (f.cgroup == "" || f.below(&l.Cgroup)) && f.workload(l.Workload)
}

// sameUID compares pod UIDs as people copy them: with dashes, or with the
// underscores of a systemd slice.
func sameUID(a, b string) bool {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	return a != "" && plain(a) == plain(b)
}

func anyWorkload(inc *events.Incident, match func(*events.Workload) bool) bool {
	if inc.Limiter != nil && inc.Limiter.Workload != nil && match(inc.Limiter.Workload) {
		return true
	}

	return slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return v.Workload != nil && match(v.Workload) })
}

func (f *filter) below(c *events.Cgroup) bool {
	prefix := strings.TrimRight(f.cgroup, "/")
	return c != nil && (c.Path == prefix || strings.HasPrefix(c.Path, prefix+"/"))
}

func (f *filter) anyCgroup(inc *events.Incident) bool {
	return inc.Limiter != nil && f.below(inc.Limiter.Cgroup) ||
		slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return f.below(v.Cgroup) })
}
