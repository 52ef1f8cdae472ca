// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// verdict answers the four questions, each in some words. What is not known is
// empty.
type verdict struct {
	Limited, Triggered, Died, Killed string
}

func judge(inc *events.Incident) verdict {
	return verdict{limited(inc), triggered(inc), died(inc), killed(inc)}
}

// sentence is the whole verdict.
func sentence(inc *events.Incident) string {
	v := judge(inc)
	if inc.Scope == events.ScopeUser { // who did it is what matters
		return begin(outcome(inc, v)+"; "+v.Limited) + "."
	}

	parts := []string{v.Limited}
	if v.Triggered != "" && inc.Scope != events.ScopeSysrq {
		parts = append(parts, v.Triggered)
	}

	return begin(strings.Join(append(parts, outcome(inc, v)), "; ")) + "."
}

func outcome(inc *events.Incident, v verdict) string {
	switch inc.Outcome {
	case events.OutcomeNoKillable:
		return "there was nobody that may be killed"
	case events.OutcomeWaiting:
		return "an earlier victim was still dying, and nobody else was killed"
	case events.OutcomeAlreadyExiting:
		return "the chosen process was leaving by itself, and nobody was killed"
	case events.OutcomeSkipped:
		return "the kernel made no choice"
	case "":
		return "whether anybody was killed is not known"
	case events.OutcomePanic:
		return "the kernel panicked instead of killing (vm.panic_on_oom)"
	}

	who := v.Killed
	if who == "" {
		who = "somebody unknown"
	}

	if v.Died == "" {
		return who + " killed a process that is not known"
	}

	text := who + " killed " + v.Died
	if t := inc.Trigger; t != nil && len(inc.Victims) == 1 && t.PID == inc.Victims[0].PID && t.PID != 0 {
		text = who + " killed it"
	}

	switch k := inc.Killer; {
	case k == nil:
	case k.Path == "group" || k.GroupCgroup != nil:
		text += " as one group"
	case k.Kind == "kernel" && k.Path == "pidns":
		text += " as the init of its pid namespace ended"
	}

	if k := inc.Killer; k != nil && k.Reason != "" {
		text += " (" + spaced(k.Reason) + ")"
	}

	return text
}

// limited is whose limit was hit.
func limited(inc *events.Incident) string {
	switch inc.Scope {
	case events.ScopeGlobal:
		return "the node was out of memory"
	case events.ScopeCpuset, events.ScopeMempolicy:
		if words := phrase.Shortage(inc.Scope, inc.Limiter); words != "" {
			return strings.Replace(words, " out of memory", " were out of memory", 1)
		}
	case events.ScopeSysrq:
		return "no memory was short: sysrq-f asked for a kill"
	case events.ScopeUser:
		return "no limit was hit"
	}

	l := inc.Limiter
	if l == nil {
		return "whose limit it was is not known"
	}

	text := holder(l)
	if l.Which == "" {
		text += " reached its limit"
	} else {
		text += " reached its " + l.Which
	}

	if l.LimitBytes != nil {
		text += " of " + phrase.Size(*l.LimitBytes)
	}

	return text
}

// holder names who has the limit.
func holder(l *events.Limiter) string {
	path := ""
	if l.Cgroup != nil {
		path = l.Cgroup.Path
	}

	switch l.Level {
	case events.LevelQoS:
		if l.Workload != nil && l.Workload.QoS != "" {
			return "all " + l.Workload.QoS + " pods together"
		}

		return "all pods of a QoS class together"
	case events.LevelKubepods:
		return "all pods together"
	}

	if name := owner(l.Workload, nil); name != "" {
		if name == l.Workload.Unit {
			return "unit " + name
		}

		return name
	}

	level := string(l.Level)
	if level == "" {
		level = "cgroup"
	}

	if path != "" {
		return level + " " + tail(path)
	}

	return "a " + level
}

// tail is the last name of a path, unless that is nothing.
func tail(path string) string {
	if name := path[strings.LastIndexByte(path, '/')+1:]; name != "" {
		return name
	}

	return path
}

// triggered is whose allocation failed, and what it was for.
func triggered(inc *events.Incident) string {
	p := inc.Trigger
	if p == nil || inc.Scope == events.ScopeUser {
		return ""
	}

	text := phrase.Task(p.Comm, p.PID)
	if p.IsKernel {
		text = "kernel thread " + text
	}
	text += inside(inc, p)

	a := inc.Allocation
	switch {
	case a != nil && a.Class == "limit_lowered":
		return text + " lowered the limit below what was used"
	case a != nil && a.Class != "" && a.Class != "other":
		return text + " asked for more (" + phrase.Class(a.Class) + ")"
	}

	return text + " asked for more"
}

func limitingCgroup(inc *events.Incident) *events.Cgroup {
	if inc.Limiter == nil {
		return nil
	}

	return inc.Limiter.Cgroup
}

// inside tells where a process was, unless that has been said: the limiter is
// named first.
func inside(inc *events.Incident, p *events.Process) string {
	if p.Cgroup.Is(limitingCgroup(inc)) {
		return ""
	}

	if where := owner(p.Workload, said(inc)); where != "" {
		return " in " + where
	}

	return ""
}

// said is the workload that the verdict begins with.
func said(inc *events.Incident) *events.Workload {
	if inc.Limiter == nil {
		return nil
	}

	return inc.Limiter.Workload
}

// owner names a workload as shortly as people do: by names, by ids only where
// there is no name, and without the pod if it has been said. It is empty where
// nothing is known.
func owner(w, said *events.Workload) string {
	if w == nil {
		return ""
	}

	var parts []string
	if c := or(w.Container, phrase.ShortID(w.ContainerID)); c != "" {
		parts = append(parts, "container "+c)
	}

	pod := or(w.Pod, phrase.ShortID(w.PodUID))
	if w.Pod != "" && w.Namespace != "" {
		pod = w.Namespace + "/" + pod
	}

	samePod := said != nil && w.PodUID != "" && w.PodUID == said.PodUID
	if pod != "" && !(samePod && len(parts) > 0) {
		parts = append(parts, "pod "+pod)
	}

	if len(parts) == 0 {
		return w.Unit
	}

	return strings.Join(parts, " of ")
}

// died is the first victim, and how many died with it.
func died(inc *events.Incident) string {
	if len(inc.Victims) == 0 {
		return ""
	}
	v := &inc.Victims[0]
	text := phrase.Task(v.Comm, v.PID)

	text += inside(inc, &v.Process)
	if n := len(inc.Victims) - 1; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}

	return text
}

// killed is who sent the SIGKILL.
func killed(inc *events.Incident) string {
	k := inc.Killer
	switch {
	case k == nil:
		return ""
	case k.Kind == "user":
		return user(k)
	}

	return "the kernel"
}

func user(k *events.Killer) string {
	words := map[string]string{
		"runtime": "the container runtime", "self": "a process of the container itself", "pidns": "the end of the pid namespace",
		"cgroup_kill": "a write to cgroup.kill", "human": "a person", "other": "",
	}

	who, known := words[k.Path]
	if !known {
		who = spaced(k.Path)
	}

	if k.PID == 0 {
		if who == "" {
			return "user space"
		}

		return who
	}

	process := phrase.Task(k.Comm, k.PID)
	if who == "" || who == k.Comm {
		return process
	}

	return who + ", by " + process + ","
}

func spaced(s string) string { return strings.ReplaceAll(s, "_", " ") }

// begin makes a sentence of words, unless they begin with somebody's name.
func begin(s string) string {
	for _, own := range []string{"the ", "a ", "an ", "all ", "no ", "nobody", "whose ", "pod ", "container ", "cgroup ", "slice ", "service ", "unit ", "node ", "user ", "kernel ", "there "} {
		if strings.HasPrefix(s, own) {
			return strings.ToUpper(s[:1]) + s[1:]
		}
	}

	return s
}
