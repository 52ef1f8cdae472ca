// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// podKill is what must be reported of one kill.
type podKill struct {
	pod, container string // of the victim
	scope          events.Scope
	level          events.Level // of the limiter
	path           string       // of the killer
	init           bool         // the victim is PID 1
	victims        int          // 0: one
	group          bool         // by memory.oom.group of the container
	term           bool         // a SIGTERM came before
	// What the runtime reports: its state, "" for nothing, and the code if it exited.
	// The text must have one of texts: a runtime may miss an OOM.
	state string
	code  int
	texts []string
}

// expect waits until each watch has reported the kills, and nothing else.
func (s *suite) expect(kills ...podKill) {
	for _, w := range s.watches {
		var (
			news     []*events.Incident
			problems []string
		)

		until(s.ctx, func() bool {
			news = w.news()
			problems = s.compare(w, news, kills)

			return len(problems) == 0
		})

		w.checked += len(news) // what comes later is compared later

		for _, problem := range problems {
			s.t.Errorf("watched by %s: %s", w.label, problem)
		}
	}
}

// compare compares the incidents that a watch reported with kills.
func (s *suite) compare(w *watch, incidents []*events.Incident, kills []podKill) (problems []string) {
	news := slices.Clone(incidents)

	for _, k := range kills {
		i := slices.IndexFunc(news, k.matches)
		if i < 0 {
			problems = append(problems, fmt.Sprintf("got no incident of scope %s of %s/%s", k.scope, k.pod, k.container))
			continue
		}

		c := &podCheck{inc: news[i], want: k}
		c.check(w.label == byCRI)
		c.checkPlaces(s.driver, s.layout.MemoryVersion)

		if len(c.problems) > 0 {
			problems = append(problems, strings.Join(c.problems, "; ")+" in "+asJSON(news[i]))
		}

		news = slices.Delete(news, i, i+1)
	}

	for _, inc := range news {
		problems = append(problems, "got an incident, want none: "+asJSON(inc))
	}

	return problems
}

func asJSON(inc *events.Incident) string {
	line, _ := json.Marshal(inc)
	return string(line)
}

// matches reports whether an incident is of that kill.
func (k podKill) matches(inc *events.Incident) bool {
	return inc.Scope == k.scope && len(inc.Victims) > 0 && isOf(inc.Victims[0].Workload, k.pod, k.container)
}

// isOf reports whether a workload is a container of a pod; "" is any container.
func isOf(w *events.Workload, pod, container string) bool {
	return w != nil && w.Pod == pod && (container == "" || w.Container == container)
}

// podCheck compares an incident with a kill, whose victims are of a workload.
type podCheck struct {
	inc      *events.Incident
	want     podKill
	problems []string
}

func (c *podCheck) errorf(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

func (c *podCheck) equal(what string, got, want any) {
	if got != want {
		c.errorf("%s: got %v, want %v", what, got, want)
	}
}

func (c *podCheck) check(byRuntime bool) {
	c.checkKiller()
	c.checkVictims()

	if c.want.scope != events.ScopeUser {
		c.checkLimiter()
	}

	w := c.inc.Victims[0].Workload
	c.equal("namespace", w.Namespace, namespace)
	c.equal("qos", w.QoS, "burstable")

	if !byRuntime {
		c.equal("source of names", w.Source, "disk")
		return
	}

	c.equal("source of names", w.Source, "cri")
	c.equal("label app", w.Labels["app"], c.want.pod)

	if w.RestartCount == nil || *w.RestartCount != restarts {
		c.errorf("restart count: got %v, want %d", w.RestartCount, restarts)
	}

	if c.want.state != "" {
		c.checkRuntimeReport()
	}
}

func (c *podCheck) checkKiller() {
	k := c.inc.Killer
	if k == nil {
		c.errorf("killer: got none, want %s", c.want.path)
		return
	}

	c.equal("killer's path", k.Path, c.want.path)
	c.equal("SIGTERM before", k.TermBeforeNS != nil, c.want.term)

	if c.want.group && (k.GroupLevel != events.LevelContainer || k.GroupCgroup == nil) {
		c.errorf("group: got %s %+v, want the container", k.GroupLevel, k.GroupCgroup)
	}
}

func (c *podCheck) checkVictims() {
	c.equal("number of victims", len(c.inc.Victims), max(1, c.want.victims))

	for _, v := range c.inc.Victims {
		c.equal("victim's name", v.Comm, "hog")

		if !isOf(v.Workload, c.want.pod, c.want.container) {
			c.errorf("victim %d: got workload %+v, want %s/%s", v.PID, v.Workload, c.want.pod, c.want.container)
		}
	}

	first := c.inc.Victims[0].IsContainerInit
	c.equal("first victim is PID 1", first != nil && *first, c.want.init)
}

func (c *podCheck) checkLimiter() {
	l := c.inc.Limiter
	if l == nil {
		c.errorf("limiter: got none, want a %s of %s", c.want.level, c.want.pod)
		return
	}

	c.equal("limiter's level", l.Level, c.want.level)

	container := ""
	if c.want.level == events.LevelContainer {
		container = c.want.container
	}

	if !isOf(l.Workload, c.want.pod, container) {
		c.errorf("limiter: got workload %+v, want %s/%s", l.Workload, c.want.pod, container)
	}

	// A flusher thread charges the buffers of dirty pages to the memcg of the page
	// (fs/buffer.c: folio_alloc_buffers), and may so trigger the OOM.
	if t := c.inc.Trigger; t == nil || !t.IsKernel && !isOf(t.Workload, c.want.pod, "") {
		c.errorf("trigger: got %+v, want one of %s, or a kernel thread", t, c.want.pod)
	}

	for _, r := range c.inc.Ladder {
		if (r.Level == events.LevelPod || r.Level == events.LevelContainer) && !isOf(r.Workload, c.want.pod, "") {
			c.errorf("ladder: got workload %+v of a %s, want %s", r.Workload, r.Level, c.want.pod)
		}
	}
}

// checkRuntimeReport compares what the runtime reported of the container.
func (c *podCheck) checkRuntimeReport() {
	id := c.inc.Victims[0].Workload.ContainerID

	i := slices.IndexFunc(c.inc.Reported, func(r events.Reported) bool { return r.ContainerID == id })
	if i < 0 {
		c.errorf("runtime's report: got none, want one")
		return
	}

	r := c.inc.Reported[i]
	c.equal("runtime's state", r.State, c.want.state)
	c.equal("container in the runtime's report", r.Container, c.want.container)
	c.equal("source of the runtime's report", r.Source, "cri")

	if c.want.state == "exited" && (r.ExitCode == nil || *r.ExitCode != c.want.code) {
		c.errorf("exit code: got %v, want %d", r.ExitCode, c.want.code)
	}

	if !slices.ContainsFunc(c.want.texts, func(part string) bool { return strings.Contains(r.Text, part) }) {
		c.errorf("runtime's report: got %q, want one of %q in it", r.Text, c.want.texts)
	}

	if c.want.scope != events.ScopeMemcg || !c.want.init {
		return
	}

	c.equal("agreement of runtime and kernel", r.Agrees, r.Reason == "OOMKilled")

	by := fmt.Sprintf("memcg OOM at %s level", c.want.level)
	if c.want.group {
		by += " (group kill)"
	}

	if !strings.HasSuffix(r.Text, by) {
		c.errorf("runtime's report: got %q, want %q at its end", r.Text, by)
	}
}

// checkPlaces: the cgroups are those that the driver makes, and the limit is of their
// version.
func (c *podCheck) checkPlaces(d driver, version int) {
	for _, v := range c.inc.Victims {
		if v.Workload == nil || v.Cgroup == nil {
			c.errorf("victim %d: got no cgroup, want one", v.PID)
			continue
		}

		c.equal("victim's cgroup", v.Cgroup.Path, d.pod(v.Workload.PodUID)+"/"+d.leaf(v.Workload.ContainerID))
	}

	if l := c.inc.Limiter; l != nil {
		want := "memory.limit_in_bytes"

		switch {
		case version == 2:
			want = "memory.max"
		case l.LimitBytes != nil && l.SwapLimitBytes != nil && *l.LimitBytes == *l.SwapLimitBytes:
			// A containerd sets both, and memory with swap is charged first (mm/memcontrol.c:
			// try_charge).
			want = "memory.memsw.limit_in_bytes"
		}

		c.equal("limiter's file", l.Which, want)
	}
}

// isReported reports whether the runtime's report on a pod's container arrived.
func (s *suite) isReported(pod string) bool {
	for _, w := range s.watches {
		if w.label == byCRI && !slices.ContainsFunc(w.incidents(), func(inc *events.Incident) bool {
			return inc.Scope != events.ScopeUser && len(inc.Reported) > 0 && isOf(inc.Victims[0].Workload, pod, "")
		}) {
			return false
		}
	}

	return true
}
