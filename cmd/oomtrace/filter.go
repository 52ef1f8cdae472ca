// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// filter selects incidents in which the limiter, a victim or a task that waits for memory matches.
// All fields that are set must match: those that describe a workload by the same one, the others
// independently. The zero value matches all.
//
// Names may be resolved after the incident was reported (see byName).
type filter struct {
	namespace glob
	pod       podGlob
	container glob // or the prefix of an id
	selector  selector
	qos       string
	podUID    string
	unit      glob
	cgroup    cgroupGlob
	comm      glob
	pid       int
}

var qosClasses = []string{"guaranteed", "burstable", "besteffort"}

// add adds the flags to a command's, with addFlags. Each checks its value when it is parsed, but
// for what check does.
func (f *filter) add(flags *pflag.FlagSet) {
	flags.VarP(&f.namespace, "namespace", "n", "only incidents of pods in this namespace")
	flags.Var(&f.pod, "pod", "only incidents of this pod")
	flags.Var(&f.container, "container", "only incidents of the container with this name, ID or ID prefix")
	flags.VarP(&f.selector, "selector", "l",
		"only incidents of pods with these labels, as kubectl takes them: app=web, tier in (a,b), !canary")
	flags.Var(&f.selector, "pod-label", "an alias of --selector")
	flags.Lookup("pod-label").Hidden = true
	flags.Var(newOption(&f.qos, qosClasses...), "qos", "only incidents of pods of this QoS class")
	flags.Var(newText(&f.podUID, "uid"), "pod-uid", "only incidents of the pod with this UID")
	flags.Var(&f.unit, "unit", "only incidents of this systemd unit; .service may be omitted")
	flags.Var(&f.cgroup, "cgroup",
		"only incidents of this cgroup and its descendants: a path from the root, or, without a leading /, the end of one")
	flags.Var(&f.comm, "comm", "only incidents in which a process of this name was killed or waits")
	flags.IntVar(&f.pid, "pid", 0, "only incidents in which the process with this PID was killed or waits")
	metavar(flags, "n", "pid")
}

func (f *filter) check() error {
	if f.pid < 0 {
		return usagef("--pid %d: must not be negative", f.pid)
	}

	return nil
}

// used returns the flags that are set, in the order of the help.
func (f *filter) used() []string {
	var used []string

	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"--namespace", f.namespace != ""},
		{"--pod", f.pod != ""},
		{"--container", f.container != ""},
		{"--selector", f.selector.set()},
		{"--qos", f.qos != ""},
		{"--pod-uid", f.podUID != ""},
		{"--unit", f.unit != ""},
		{"--cgroup", f.cgroup != ""},
		{"--comm", f.comm != ""},
		{"--pid", f.pid != 0},
	} {
		if flag.set {
			used = append(used, flag.name)
		}
	}

	return used
}

func (f *filter) active() bool { return len(f.used()) > 0 }

// String names the flags that are set: "--comm and --unit".
func (f *filter) String() string {
	used := f.used()
	if len(used) < 2 {
		return strings.Join(used, "")
	}

	last := len(used) - 1

	return strings.Join(used[:last], ", ") + " and " + used[last]
}

// podNames returns the flags that are set and match nothing without names of pods.
func (f *filter) podNames() string {
	named := filter{namespace: f.namespace, pod: f.pod, selector: f.selector}
	return named.String()
}

// byName reports whether the filter depends on names that may be resolved late.
func (f *filter) byName() bool {
	return f.podNames() != "" || f.container != "" && !f.container.isHex()
}

// match returns the predicates of a sink.Filter. Stalls match by their task. Pressure
// warnings concern no process: they never match a filter by process.
func (f *filter) match() sink.Match {
	return sink.Match{Incident: f.incident, Undecided: f.undecided, Stall: f.stall, Pressure: f.pressure}
}

func (f *filter) incident(inc *events.Incident) bool {
	hasPID := func(p *events.Process) bool { return p.PID == f.pid || p.TID == f.pid }
	hasName := func(p *events.Process) bool { return f.comm.match(p.Comm) || f.comm.match(p.Thread) }

	return (f.pid == 0 || anyProcess(inc, hasPID)) &&
		(f.comm == "" || anyProcess(inc, hasName)) &&
		(f.workload(nil) || anyWorkload(inc, f.workload)) &&
		(f.cgroup == "" || f.anyCgroup(inc))
}

// undecided reports whether an incident may still match once its names are resolved.
func (f *filter) undecided(inc *events.Incident) bool {
	return f.byName() && !f.incident(inc) && anyWorkload(inc, func(w *events.Workload) bool {
		if f.podNames() == "" {
			return w.ContainerID != "" && w.Container == ""
		}

		return (w.PodUID != "" || w.ContainerID != "") && w.Pod == ""
	})
}

// line reports whether a line that is not about an incident matches. Losses concern no workload.
func (f *filter) line(line events.Line) bool {
	switch l := line.(type) {
	case *events.StallLine:
		return f.stall(l)
	case *events.PressureLine:
		return f.pressure(l)
	}

	return true
}

func (f *filter) stall(l *events.StallLine) bool {
	return (f.pid == 0 || l.Task.PID == f.pid || l.Task.TID == f.pid) && (f.comm == "" || f.comm.match(l.Task.Comm)) &&
		(f.cgroup == "" || f.below(l.Task.Cgroup) || f.below(l.Limiter)) && f.workload(l.Task.Workload)
}

func (f *filter) pressure(l *events.PressureLine) bool {
	return f.pid == 0 && f.comm == "" && (f.cgroup == "" || f.below(&l.Cgroup)) && f.workload(l.Workload)
}
