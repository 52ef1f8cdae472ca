// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// want is what must be told of one kill.
type want struct {
	pod, container string // of the victim
	scope          events.Scope
	level          events.Level // of the limiter
	path           string       // of the killer
	init           bool         // the victim is PID 1
	victims        int          // 0: one
	group          bool         // by memory.oom.group of the container
	term           bool         // a SIGTERM came before
	// What the runtime says: its state, and the code if it exited. said holds parts
	// of the text, one of which must be there: a runtime may lose an OOM.
	state string
	code  int
	said  []string
}

// expect waits until each of the kills was told, and nothing else.
func (s *suite) expect(title string, wants ...want) {
	for _, t := range s.traces {
		var wrong []string

		until(s.ctx, func() bool {
			wrong = s.compare(t, wants)
			return len(wrong) == 0
		})

		s.counts[t.label] = len(t.all())
		if len(wrong) > 0 {
			s.failed = append(s.failed, fmt.Sprintf("%s, seen by %s:\n    %s", title, t.label, strings.Join(wrong, "\n    ")))
			fmt.Printf("  FAIL %s (%s)\n", title, t.label)
		}
	}
}

// compare tells what is wrong with the incidents since the last expectation.
func (s *suite) compare(t *trace, wants []want) []string {
	news := t.all()[s.counts[t.label]:]
	var wrong []string

	for _, w := range wants {
		i := slices.IndexFunc(news, func(inc *events.Incident) bool {
			if inc.Scope != w.scope || len(inc.Victims) == 0 {
				return false
			}
			of := inc.Victims[0].Workload

			return of != nil && of.Pod == w.pod && of.Container == w.container
		})
		if i < 0 {
			wrong = append(wrong, fmt.Sprintf("no incident of scope %s of %s/%s", w.scope, w.pod, w.container))
			continue
		}

		problems := append(w.compare(news[i], t.label == byCRI), s.places(news[i])...)
		if len(problems) > 0 {
			line, _ := json.Marshal(news[i])
			wrong = append(wrong, strings.Join(problems, "; ")+" in "+string(line))
		}
		news = slices.Delete(news, i, i+1)
	}

	for _, inc := range news {
		line, _ := json.Marshal(inc)
		wrong = append(wrong, "nobody was killed, but "+string(line))
	}

	return wrong
}

// places tells what is wrong with cgroups: ids must be those of the paths, and the
// paths those that the driver makes.
func (s *suite) places(inc *events.Incident) (wrong []string) {
	for _, v := range inc.Victims {
		switch {
		case v.Workload == nil || v.Cgroup == nil:
			wrong = append(wrong, fmt.Sprintf("%s[%d] is nowhere", v.Comm, v.PID))
		case v.Cgroup.Path != s.driver.pod(v.Workload.PodUID)+"/"+s.driver.leaf(v.Workload.ContainerID):
			wrong = append(wrong, fmt.Sprintf("%s[%d] is in %s", v.Comm, v.PID, v.Cgroup.Path))
		}
	}

	if inc.Limiter == nil {
		return wrong
	}

	which := map[int]string{1: "memory.limit_in_bytes", 2: "memory.max"}[s.layout.MemoryVersion]
	if inc.Limiter.Which != which {
		wrong = append(wrong, fmt.Sprintf("the limit is %s", inc.Limiter.Which))
	}

	return wrong
}

func (w want) compare(inc *events.Incident, cri bool) (wrong []string) {
	is := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s is %v, not %v", what, got, want))
		}
	}
	is("scope", inc.Scope, w.scope)
	is("victims", len(inc.Victims), max(1, w.victims))

	if inc.Killer != nil {
		is("killer", inc.Killer.Path, w.path)
		is("a SIGTERM before", inc.Killer.TermBeforeNS != nil, w.term)
	} else {
		wrong = append(wrong, "no killer")
	}

	if k := inc.Killer; w.group && k != nil && (k.GroupLevel != events.LevelContainer || k.GroupCgroup == nil) {
		wrong = append(wrong, fmt.Sprintf("the group is %s %+v", k.GroupLevel, k.GroupCgroup))
	}

	for _, v := range inc.Victims {
		if v.Workload == nil || v.Workload.Pod != w.pod || v.Workload.Container != w.container {
			wrong = append(wrong, fmt.Sprintf("%s[%d] is of %+v", v.Comm, v.PID, v.Workload))
		}

		if v.Comm != "hog" {
			wrong = append(wrong, fmt.Sprintf("the name of %d is %q", v.PID, v.Comm))
		}
	}
	v := inc.Victims[0]
	is("container init", v.IsContainerInit != nil && *v.IsContainerInit, w.init)
	is("namespace", v.Workload.Namespace, namespace)
	is("qos", v.Workload.QoS, "burstable")

	if w.scope != events.ScopeUser {
		wrong = append(wrong, w.limiter(inc)...)
	}

	if !cri {
		is("source", v.Workload.Source, "disk")
		return wrong
	}

	is("source", v.Workload.Source, "cri")
	is("label app", v.Workload.Labels["app"], w.pod)

	if v.Workload.RestartCount == nil || *v.Workload.RestartCount != 2 {
		wrong = append(wrong, "no restart count")
	}

	return append(wrong, w.report(inc)...)
}

// isReported tells whether the runtime's word on a pod's container was told.
func (s *suite) isReported(pod string) bool {
	for _, t := range s.traces {
		if t.label == byCRI && !slices.ContainsFunc(t.all(), func(inc *events.Incident) bool {
			return inc.Scope != events.ScopeUser && len(inc.Reported) > 0 && inc.Victims[0].Workload != nil && inc.Victims[0].Workload.Pod == pod
		}) {
			return false
		}
	}

	return true
}

func (w want) limiter(inc *events.Incident) (wrong []string) {
	l := inc.Limiter
	switch {
	case l == nil || l.Workload == nil:
		return []string{"no limiter"}
	case l.Level != w.level:
		wrong = append(wrong, fmt.Sprintf("the limiter is a %s, not a %s", l.Level, w.level))
	case l.Workload.Pod != w.pod:
		wrong = append(wrong, fmt.Sprintf("the limiter's pod is %q", l.Workload.Pod))
	case l.Level == events.LevelContainer && l.Workload.Container != w.container:
		wrong = append(wrong, fmt.Sprintf("the limiter's container is %q", l.Workload.Container))
	}

	if inc.Trigger == nil || inc.Trigger.Workload == nil || inc.Trigger.Workload.Pod != w.pod {
		wrong = append(wrong, "the trigger has no pod")
	}

	for _, r := range inc.Ladder {
		if (r.Level == events.LevelPod || r.Level == events.LevelContainer) && (r.Workload == nil || r.Workload.Pod != w.pod) {
			wrong = append(wrong, fmt.Sprintf("the rung %s has no pod", r.Level))
		}
	}

	return wrong
}

func (w want) report(inc *events.Incident) (wrong []string) {
	if w.state == "" {
		return nil
	}

	i := slices.IndexFunc(inc.Reported, func(r events.Reported) bool { return r.ContainerID == inc.Victims[0].Workload.ContainerID })
	if i < 0 {
		return []string{"no report of the runtime"}
	}

	r := inc.Reported[i]
	if r.State != w.state || r.Container != w.container || r.Source != "cri" {
		wrong = append(wrong, fmt.Sprintf("the report is %+v", r))
	}

	if w.state == "exited" && (r.ExitCode == nil || *r.ExitCode != w.code) {
		wrong = append(wrong, fmt.Sprintf("the exit code is not %d", w.code))
	}

	if !slices.ContainsFunc(w.said, func(part string) bool { return strings.Contains(r.Text, part) }) {
		wrong = append(wrong, fmt.Sprintf("the report says %q", r.Text))
	}

	if w.scope != events.ScopeMemcg || !w.init {
		return wrong
	}

	if r.Agrees != (r.Reason == "OOMKilled") {
		wrong = append(wrong, fmt.Sprintf("agreement of %q is %v", r.Text, r.Agrees))
	}

	by := fmt.Sprintf("memcg OOM at %s level", w.level)
	if w.group {
		by += " (group kill)"
	}

	if !strings.HasSuffix(r.Text, by) {
		wrong = append(wrong, fmt.Sprintf("the report says %q, without %q", r.Text, by))
	}

	return wrong
}
