// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// block turns an incident into sections.
type block struct {
	limitBlock
	inc *events.Incident
}

// newBlock makes the block of an incident.
func newBlock(inc *events.Incident, loc *time.Location) block {
	return block{
		inc: inc,
		limitBlock: limitBlock{
			limiter: inc.Limiter, ladder: inc.Ladder, memory: inc.Memory, unknown: inc.Unknown, wide: true, loc: loc,
		},
	}
}

func (b block) sections() []section {
	var all sections
	all.addBare("summary", styled(prose(answer.Summary(b.inc)), styleStrong))
	all.add("killer", b.userKiller()...)
	all.add("evidence", b.userEvidence()...)
	all.add("follows", b.follows())
	all.add("limiter", b.limiterLines()...)
	all.add("ladder", b.ancestry())
	all.add("shares", b.shares())
	all.add("waiting", b.waiting()...)
	all.add("trigger", b.trigger())
	all.add("exiting", b.exiting())
	all.add("chosen", b.chosen())
	all.add("victims", b.victims()...)
	all.add("program", b.programs()...)
	all.add("candidates", b.candidates()...)
	all.add("memory", b.charge(), b.chargeParts())
	all.add("stalls", b.before()...)
	all.add("killer", b.kernelKiller())
	all.add("followed", b.followed()...)
	all.add("runtime", b.runtime()...)
	all.add("node", b.nodeState()...)
	all.add("eviction", b.eviction()...)
	all.add("causes", b.causes()...)
	all.add("advice", b.advice()...)
	all.add("passes", b.passes())
	all.add("audit", b.audit())
	all.add("source", b.source()...)
	all.add("notes", b.notes()...)
	all.add("unknown", list(b.inc.Unknown...))

	return all
}

func (b block) limiterLines() []group {
	if b.limiter == nil {
		return nil
	}

	groups := []group{list(b.limits()...), list(b.identity()...), list(b.path(b.limiter.Cgroup)...)}
	for i := range b.inc.LimitChanges {
		groups = append(groups, list(b.limitChange(&b.inc.LimitChanges[i])))
	}

	return groups
}

func (b block) limitChange(c *events.LimitChange) string {
	from := ""
	if c.OldBytes != nil {
		from = " from " + phrase.Size(*c.OldBytes)
	}

	return fmt.Sprintf("%s was lowered%s to %s, with %s in use, %s earlier by %s",
		c.File, from, phrase.Size(c.NewBytes), phrase.Size(c.UsageBytes), phrase.Duration(c.BeforeNS), b.thread(&c.Writer))
}

// home is the limiter's cgroup: it is named first, so a process in it needs no place.
func (b block) home() *events.Cgroup {
	if b.limiter == nil {
		return nil
	}

	return b.limiter.Cgroup
}

func (b block) trigger() group {
	p, a := b.inc.Trigger, b.inc.Allocation
	if p == nil && a == nil || b.inc.Wait != nil { // of a wait it is the first of its tasks
		return list()
	}

	if p == nil && a.Order == nil && a.GFP == nil && a.Class == "" && b.inc.Tier == events.TierKernelLog {
		return list() // unknown in words
	}

	items := []string{"?"}
	if p != nil {
		items = phrase.NonEmpty(b.thread(p), b.place(p, b.home()))
	}

	if a != nil {
		items = append(items, order(a.Order), gfpFlags(a))

		items = append(items, phrase.NonEmpty(phrase.Class(a.Class))...)
		if a.TotalPages != nil {
			items = append(items, fmt.Sprintf("%d pages usable in total", *a.TotalPages))
		}
	}

	return list(items...)
}

// chosen is the process that the kernel chose, where it is not among the victims.
func (b block) chosen() group {
	c := b.inc.Chosen
	if c == nil {
		return list()
	}

	items := phrase.NonEmpty(b.thread(&c.Process), b.place(&c.Process, b.home()))
	if c.UID != nil {
		items = append(items, fmt.Sprintf("uid %d", *c.UID))
	}

	if b.inc.Outcome == "" {
		items = append(items, "whether it died is not in the log")
	}

	return list(items...)
}

// exiting is the process that was exiting already, and got no signal.
func (b block) exiting() group {
	p := b.inc.Exiting
	if p == nil {
		return list()
	}

	return list(phrase.NonEmpty(b.thread(p), b.place(p, b.home()))...)
}

// order always has its meaning: a power of two pages, or sysrq's mark.
func order(o *int) string {
	switch {
	case o == nil:
		return "order ?"
	case *o == -1:
		return "order -1 (sysrq)"
	case *o > 0 && *o < 32:
		return fmt.Sprintf("order %d (%d pages)", *o, 1<<*o)
	}

	return fmt.Sprintf("order %d", *o)
}

// gfpFlags are the flags by name, else as a number.
func gfpFlags(a *events.Allocation) string {
	switch {
	case len(a.GFPFlags) > 0:
		return strings.Join(a.GFPFlags, "|")
	case a.GFP != nil:
		return fmt.Sprintf("gfp %#x", *a.GFP)
	}

	return "gfp ?"
}

// thread names a process, and the thread of it if that is another.
func (b block) thread(p *events.Process) string {
	s := phrase.Task(p.Comm, p.PID)
	if p.IsKernel {
		s += " kernel thread"
	}

	switch {
	case p.Thread != "" && p.TID != p.PID:
		s += " thread " + phrase.Task(p.Thread, p.TID)
	case p.TID != 0 && p.TID != p.PID:
		s += fmt.Sprintf(" tid %d", p.TID)
	}

	return s
}

func (b block) kernelKiller() group {
	k := b.inc.Killer
	if k == nil || b.inc.Scope == events.ScopeUser {
		return list()
	}

	items := []string{k.Kind}
	if k.PID != 0 {
		items = append(items, phrase.Task(k.Comm, k.PID))
	}

	items = append(items, phrase.KillPath(k.Path, b.inc.Scope))
	if k.GroupCgroup != nil || k.GroupLevel != "" {
		at := "memory.oom.group=1"
		if k.GroupLevel != "" {
			at += " at " + string(k.GroupLevel)
		}

		items = append(items, at)
		if k.GroupCgroup != nil && !b.home().Is(k.GroupCgroup) {
			items = append(items, b.path(k.GroupCgroup)...)
		}
	}

	return list(items...)
}

// passes is empty for a single OOM invocation: its outcome is the headline.
func (b block) passes() group {
	p := b.inc.Passes
	if p == nil || p.Killed+p.NoKillable+p.Waiting+p.AlreadyExiting+p.Skipped+p.Suspending <= 1 {
		return list()
	}
	var items []string
	count := func(n uint64, outcome string) {
		if n > 0 {
			items = append(items, fmt.Sprintf("%d %s", n, outcome))
		}
	}
	count(p.Killed, "killed")
	count(p.NoKillable, "found no killable process")
	count(p.Waiting, "waited for an earlier victim")
	count(p.AlreadyExiting, "chose a task that was already exiting")
	count(p.Skipped, "skipped the selection")
	count(p.Suspending, "found the OOM killer turned off")

	return list(items...)
}

func (b block) audit() group {
	a := b.inc.Audit
	if a == nil {
		return list()
	}

	text := a.Text
	if text == "" {
		text = fmt.Sprintf("%s; %d kernel kills", phrase.Plural(a.Victims, "victim"), a.KernelKills)
	}

	if !a.Explained {
		text = "MISMATCH: " + text
	}

	return prose(text)
}

// source is the attach mode, and what was filled in from elsewhere.
func (b block) source() []group {
	var groups []group

	switch t := b.inc.Tier; {
	case t == events.TierTracepoint:
		groups = append(groups, list("tracepoints only"))
	case t != "":
		groups = append(groups, list(phrase.Spaced(string(t))))
	}

	for _, c := range b.inc.CompletedFrom {
		from := phrase.Spaced(c.Source)
		if c.Source == events.SourceKernelLog {
			from = "the kernel's log"
		}

		if c.AfterNS != nil {
			from += " " + phrase.Duration(*c.AfterNS) + " after the kill"
		}

		groups = append(groups, prose(strings.Join(subjects(c.Keys), ", ")+" from "+from))
	}

	return groups
}

// subjects are the objects that keys are of, each once; of a victim, what it is of it.
func subjects(keys []string) []string {
	var all []string

	for _, key := range keys {
		object, part, _ := strings.Cut(key, ".")
		if object == "victims" {
			object = phrase.Spaced(strings.TrimSuffix(part, "_bytes"))
		}

		if !slices.Contains(all, object) {
			all = append(all, object)
		}
	}

	return all
}

func (b block) notes() []group {
	var groups []group
	for _, n := range b.inc.Notes {
		groups = append(groups, prose(n))
	}

	return groups
}
