// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// card answers one of the four questions.
type card struct {
	Question, Answer string
	Facts            []fact
	Table            *dataTable // instead of facts about each
	Wide             bool       // across the page
}

// fact is a value with its name. Later is the same value, read after the kill.
type fact struct{ Name, Value, Later string }

// facts makes facts of names and values, and leaves out empty values.
func facts(pairs ...string) []fact {
	var all []fact

	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			all = append(all, fact{Name: pairs[i], Value: pairs[i+1]})
		}
	}

	return all
}

// cards has the killer only if it is not the kernel's OOM killer; its group kill is about the victims.
func cards(inc *events.Incident, o *Options) []card {
	a := answer.Of(inc)
	victims := victimCard(inc, a, o)

	limit := []card{
		{Question: "Whose limit was hit", Answer: cmp.Or(phrase.Capitalize(a.Limited), "unknown"), Facts: limiterFacts(inc)},
		{Question: "What triggered it", Answer: cmp.Or(phrase.Capitalize(a.Triggered), "unknown"), Facts: triggerFacts(inc, o)},
	}
	if inc.Scope != events.ScopeUser {
		victims.Wide = true
		return append(limit, victims)
	}

	killer := card{Question: "Who sent the signal", Answer: phrase.Capitalize(strings.TrimSuffix(a.Killed, ",")), Facts: killerFacts(inc)}
	killer.Answer = cmp.Or(killer.Answer, "unknown")

	// That no limit was hit is in the sentence above.
	killer.Wide, victims.Wide = len(inc.Victims) > 1, len(inc.Victims) > 1

	return []card{killer, victims}
}

func limiterFacts(inc *events.Incident) []fact {
	l := inc.Limiter
	if l == nil {
		return nil
	}

	w := identity(l.Workload)
	swap, swapUse := "swap used", usedOf(l.SwapUsageBytes, l.SwapLimitBytes)

	if l.V1() { // cgroup v1 counts them together
		swap, swapUse = "memory+swap used", usedOf(cmp.Or(l.MemswUsageBytes, l.SwapUsageBytes), cmp.Or(l.MemswLimitBytes, l.SwapLimitBytes))
	}

	file := l.Which
	if file == string(events.LevelNode) || file == "numa_nodes" {
		file = ""
	}

	numa, disabled := "", ""
	if len(l.Nodes) > 0 {
		numa = phrase.NUMANodes(l.Nodes)
	}

	if l.OOMKillDisable != nil && *l.OOMKillDisable {
		disabled = "disabled (memory.oom_control)"
	}

	all := facts("used", usedOf(l.UsageBytes, l.LimitBytes), "limit file", file, swap, swapUse, "NUMA nodes", numa, "OOM killer", disabled,
		"protected by memory.min", size(l.ProtectedMinBytes), "protected by memory.low", size(l.ProtectedLowBytes),
		"within", phrase.Within(l.Workload), "QoS", w.QoS, "pod UID", phrase.ShortID(w.PodUID),
		"container ID", phrase.ShortID(w.ContainerID), "image", w.Image, "restarts", number(w.RestartCount), "labels", labels(w.Labels),
		"cgroup", path(l.Cgroup))

	for i := range inc.LimitChanges {
		c := &inc.LimitChanges[i]

		from := ""
		if c.OldBytes != nil {
			from = " from " + phrase.Size(*c.OldBytes)
		}

		all = append(all, fact{Name: "lowered", Value: fmt.Sprintf("%s%s to %s, with %s in use, %s earlier by %s", c.File, from,
			phrase.Size(c.NewBytes), phrase.Size(c.UsageBytes), phrase.Duration(c.BeforeNS), phrase.Task(c.Writer.Comm, c.Writer.PID))})
	}

	return all
}

func labels(all map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		pairs = append(pairs, key+"="+all[key])
	}

	return strings.Join(pairs, ", ")
}

// usedOf is the usage, and the limit if there is one.
func usedOf(usage, limit *uint64) string {
	switch {
	case usage == nil:
		return ""
	case limit == nil:
		return phrase.Size(*usage)
	}

	return phrase.Size(*usage) + " of " + phrase.Size(*limit)
}

func triggerFacts(inc *events.Incident, o *Options) []fact {
	var all []fact

	if p := inc.Trigger; p != nil {
		thread := ""
		if p.Thread != "" && p.TID != p.PID {
			thread = phrase.Task(p.Thread, p.TID)
		}

		all = facts("thread", thread, "container ID", phrase.ShortID(identity(p.Workload).ContainerID), "cgroup", cgroupOf(inc, p))
	}

	if w := inc.Wait; w != nil {
		all = append(all, waitFacts(w, o)...)
	}

	if a := inc.Allocation; a != nil && inc.Scope != events.ScopeUser {
		order, flags := "", strings.Join(a.GFPFlags, " | ")
		if a.Order != nil && *a.Order >= 0 && *a.Order < 32 {
			order = fmt.Sprintf("order %d (%s)", *a.Order, phrase.Plural(1<<*a.Order, "page"))
		}

		if flags == "" && a.GFP != nil {
			flags = fmt.Sprintf("%#x", *a.GFP)
		}

		all = append(all, facts("allocation", order, "for", phrase.Class(a.Class), "flags", flags,
			"usable in total", pages(a.TotalPages))...)
	}

	return all
}

func waitFacts(w *events.OOMWait, o *Options) []fact {
	var tasks []string
	for _, p := range w.Tasks {
		tasks = append(tasks, phrase.Task(cmp.Or(p.Thread, p.Comm), cmp.Or(p.TID, p.PID)))
	}

	if w.TasksLeftOut > 0 {
		tasks = append(tasks, phrase.Plural(w.TasksLeftOut, "more thread"))
	}

	if w.TasksUnread > 0 {
		tasks = append(tasks, phrase.Plural(w.TasksUnread, "thread")+" not examined")
	}

	since := "before the trace started"
	if w.Since != nil {
		since = phrase.When(*w.Since, time.DateTime, o.location())
	}

	return facts("waiting for memory", strings.Join(tasks, ", "), "since", since,
		"ended after", span(w.EndedAfterNS), "end", phrase.WaitEnd(w.End))
}

// victimCard has facts about the one victim, or a table of several.
func victimCard(inc *events.Incident, a answer.Answers, o *Options) card {
	c := card{Question: "Which process died", Answer: cmp.Or(a.Died, "None: "+answer.Outcome(inc))}

	var more []fact
	if p := inc.Exiting; p != nil {
		more = facts("exiting", phrase.Task(p.Comm, p.PID), "in", where(inc, p))
	}

	if p := inc.Chosen; p != nil {
		more = append(more, facts("chosen", phrase.Task(p.Comm, p.PID), "in", where(inc, &p.Process),
			"oom_score_adj", number(p.OOMScoreAdj))...)
	}

	switch len(inc.Victims) {
	case 0:
	case 1:
		c.Facts = victimFacts(inc, o)
	default:
		v := &inc.Victims[0]
		c.Facts = facts("cgroup", cgroupOf(inc, &v.Process), "image", identity(v.Workload).Image, "group kill", group(inc.Killer),
			"program", program(v.Program))
		c.Table = victimTable(inc)
	}

	c.Facts = append(c.Facts, more...)

	return c
}

func victimFacts(inc *events.Incident, o *Options) []fact {
	v := &inc.Victims[0]
	w := identity(v.Workload)

	var init, started string

	if v.IsContainerInit != nil && *v.IsContainerInit {
		init = "yes, so the container ended"
	}

	if v.StartTime != nil {
		started = phrase.When(*v.StartTime, time.DateTime, o.location())
	}

	return facts("program", program(v.Program), "settings", settings(v.Program), "image", w.Image,
		"container ID", phrase.ShortID(w.ContainerID), "cgroup", cgroupOf(inc, &v.Process),
		"anonymous", size(v.AnonRSSBytes), "file", size(v.FileRSSBytes), "shmem", size(v.ShmemRSSBytes), "swap", size(v.SwapBytes),
		"page tables", size(v.PgtablesBytes), "address space", size(v.TotalVMBytes),
		"oom_score_adj", number(v.OOMScoreAdj), "badness", pages(v.Points), "chosen by", phrase.Spaced(string(v.ChosenBy)),
		"group kill", group(inc.Killer), "uid", number(v.UID), "started", started, "container init", init,
		"exited after", span(v.ExitAfterNS), "memory reaped after", span(v.ReapedAfterNS), "memory freed after", span(v.ReleasedAfterNS))
}

func pages[T int64 | uint64](n *T) string {
	if n == nil {
		return ""
	}

	return fmt.Sprintf("%d pages", *n)
}

// group is where memory.oom.group made a kill one of a group.
func group(k *events.Killer) string {
	if k == nil || k.GroupCgroup == nil && k.GroupLevel == "" {
		return ""
	}

	return strings.TrimSpace("memory.oom.group=1 at " + string(k.GroupLevel) + " " + path(k.GroupCgroup))
}

// program is what a process ran, as far as it is one of the known kinds.
func program(p *events.Program) string {
	if p == nil || p.Kind == events.ProgramOther {
		return ""
	}

	text := phrase.Program(p)
	if p.ReadOf != 0 {
		text += fmt.Sprintf(", read of process %d of the same name", p.ReadOf)
	}

	return text
}

func settings(p *events.Program) string {
	if p == nil {
		return ""
	}

	if p.Settings != nil && len(p.Settings) == 0 {
		return "none"
	}

	var items []string

	for _, s := range p.Settings {
		value := s.Value
		if s.Bytes != nil {
			value = phrase.Size(*s.Bytes)
		}

		items = append(items, s.Name+" "+value+" ("+s.Source+")")
	}

	return strings.Join(items, ", ")
}

func killerFacts(inc *events.Incident) []fact {
	k := inc.Killer
	if k == nil {
		return nil
	}

	var login, term, bpf string

	if p := k.BPFProgram; p != nil {
		bpf = strings.TrimSpace(fmt.Sprintf("%s (id %d)", p.Name, p.ID))
	}

	var parents []string
	for _, a := range k.Ancestry {
		parents = append(parents, phrase.Task(a.Comm, a.PID))
	}

	if l := k.Login; l != nil {
		sudo := ""
		if l.SudoUser != "" {
			sudo = "sudo by " + l.SudoUser
		}

		login = phrase.Join(", ", l.User, sudo, l.TTY, l.Session)
	}

	if k.TermBeforeNS != nil {
		term = phrase.Duration(*k.TermBeforeNS) + " earlier"
	}

	follows := ""
	if inc.Follows != nil {
		follows = phrase.Capitalize(phrase.Following(inc.Follows))
	}

	return facts("kind", phrase.KillPath(k.Path, inc.Scope), "reason", phrase.KillReason(k.Reason), "resource", k.Resource,
		"SIGTERM", term, "before it", follows, "BPF program", bpf, "executable", k.Exe, "uid", number(k.UID),
		"parents", strings.Join(parents, " ← "), "login", login, "cgroup", path(k.Cgroup))
}

// cgroupOf is the path of a process' cgroup, unless it is the limiter's, which has it already.
func cgroupOf(inc *events.Incident, p *events.Process) string {
	if p.Cgroup.Is(inc.LimiterCgroup()) {
		return ""
	}

	return path(p.Cgroup)
}

// identity is the workload, or an empty one.
func identity(w *events.Workload) events.Workload {
	if w == nil {
		return events.Workload{}
	}

	return *w
}

// path is a cgroup's path with short ids.
func path(c *events.Cgroup) string {
	if c == nil {
		return ""
	}

	return phrase.ShortIDs(c.Path)
}

// number is the number that a pointer points to; empty for nil.
func number[T int | uint32 | int64 | uint64](p *T) string {
	if p == nil {
		return ""
	}

	return fmt.Sprint(*p)
}

func size(bytes *uint64) string {
	switch {
	case bytes == nil:
		return ""
	case *bytes == 0:
		return "0"
	}

	return phrase.Size(*bytes)
}

func span(ns *uint64) string {
	if ns == nil {
		return ""
	}

	return phrase.Duration(*ns)
}
