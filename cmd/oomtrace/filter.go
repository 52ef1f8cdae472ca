// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// filter selects incidents in which the limiter, a victim or a task that waits for memory matches.
// All fields that are set must match: those that describe a pod by the same workload, the others independently.
//
// Names may be resolved after the incident was reported (see byName).
type filter struct {
	podUID, containerID, cgroup, comm string
	namespace, pod, podLabel, qos     string
	pid                               int
}

func (f *filter) add(flags *pflag.FlagSet) {
	flags.VarP(newText(&f.namespace, "namespace"), "namespace", "n", "only incidents of pods in this namespace")
	flags.Var(newText(&f.pod, "[namespace/]name"), "pod", "only incidents of this pod")
	flags.Var(newText(&f.podLabel, "key=value,..."), "pod-label", "only incidents of pods with all of these labels")
	flags.Var(newText(&f.qos, strings.Join(qosClasses, "|")), "qos", "only incidents of pods of this QoS class")
	flags.Var(newText(&f.podUID, "uid"), "pod-uid", "only incidents of the pod with this UID")
	flags.Var(newText(&f.containerID, "id"), "container", "only incidents of the container with this ID or ID prefix")
	flags.Var(newText(&f.cgroup, "path"), "cgroup",
		"only incidents of this cgroup and its descendants, such as /kubepods.slice")
	flags.IntVar(&f.pid, "pid", 0, "only incidents in which the process with this `pid` was killed or waits")
	flags.Var(newText(&f.comm, "name"), "comm", "only incidents in which a process of this name was killed or waits")
}

func (f *filter) check() error {
	switch {
	case f.pid < 0:
		return usagef("--pid %d: must not be negative", f.pid)
	case f.cgroup != "" && !strings.HasPrefix(f.cgroup, "/"):
		return usagef("--cgroup %q: must start with /, which is the root of the cgroup hierarchy", f.cgroup)
	case f.qos != "" && !slices.Contains(qosClasses, strings.ToLower(f.qos)):
		return usagef("--qos %q: must be one of %s", f.qos, strings.Join(qosClasses, ", "))
	case f.podLabel != "" && !validSelector(f.podLabel):
		return usagef("--pod-label %q: must be key=value, or several of them separated by commas", f.podLabel)
	case f.containerID != "" && strings.Trim(strings.ToLower(f.containerID), "0123456789abcdef") != "":
		return usagef("--container %q: must be hexadecimal", f.containerID)
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

// byName reports whether the filter depends on names that may be resolved late.
func (f *filter) byName() bool { return f.namespace != "" || f.pod != "" || f.podLabel != "" }

// workload matches the fields that describe a pod against a single workload: the name of
// one pod and the label of another do not match.
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
		(id == "" || strings.HasPrefix(w.ContainerID, id) || strings.HasPrefix(w.NodeContainerID, id) || isWithin(w, id)) &&
		(f.namespace == "" || w.Namespace == f.namespace) &&
		(namespace == "" || w.Namespace == namespace) &&
		(pod == "" || w.Pod == pod) &&
		(f.qos == "" || strings.EqualFold(w.QoS, f.qos)) &&
		(f.podLabel == "" || hasLabels(w.Labels, f.podLabel))
}

// isWithin reports whether a workload is within the container with an id or prefix of one.
func isWithin(w *events.Workload, id string) bool {
	return slices.ContainsFunc(w.Within, func(h events.Holder) bool {
		return h.Kind == events.HolderContainer && strings.HasPrefix(h.ID, id)
	})
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

// match returns the predicates of a sink.Filter. Stalls match by their task. Pressure
// warnings concern no process: they never match a filter by process.
func (f *filter) match() sink.Match {
	return sink.Match{Incident: f.incident, Undecided: f.undecided, Stall: f.stall, Pressure: f.pressure}
}

func (f *filter) incident(inc *events.Incident) bool {
	hasPID := func(p *events.Process) bool { return p.PID == f.pid || p.TID == f.pid }
	hasName := func(p *events.Process) bool { return p.Comm == f.comm || p.Thread == f.comm }

	return (f.pid == 0 || anyProcess(inc, hasPID)) &&
		(f.comm == "" || anyProcess(inc, hasName)) &&
		(f.workload(nil) || anyWorkload(inc, f.workload)) &&
		(f.cgroup == "" || f.anyCgroup(inc))
}

// undecided reports whether an incident may still match once its names are resolved.
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

// sameUID compares pod UIDs, which are written with dashes, or with the underscores of a
// systemd slice.
func sameUID(a, b string) bool {
	plain := func(s string) string { return strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)) }
	return a != "" && plain(a) == plain(b)
}

func anyWorkload(inc *events.Incident, match func(*events.Workload) bool) bool {
	if inc.Limiter != nil && inc.Limiter.Workload != nil && match(inc.Limiter.Workload) {
		return true
	}

	return anyProcess(inc, func(p *events.Process) bool { return p.Workload != nil && match(p.Workload) })
}

// anyProcess reports whether a victim matches, or a task that waits for memory.
func anyProcess(inc *events.Incident, match func(*events.Process) bool) bool {
	return slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return match(&v.Process) }) ||
		inc.Wait != nil && slices.ContainsFunc(inc.Wait.Tasks, func(p events.Process) bool { return match(&p) })
}

func (f *filter) below(c *events.Cgroup) bool {
	prefix := strings.TrimRight(f.cgroup, "/")
	return c != nil && (c.Path == prefix || strings.HasPrefix(c.Path, prefix+"/"))
}

func (f *filter) anyCgroup(inc *events.Incident) bool {
	return inc.Limiter != nil && f.below(inc.Limiter.Cgroup) ||
		anyProcess(inc, func(p *events.Process) bool { return f.below(p.Cgroup) })
}
