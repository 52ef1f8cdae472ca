// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// weighed is a candidate's memory as the badness counts it (mm/oom_kill.c, oom_badness).
func weighed(c *events.Candidate) uint64 {
	return candidateSize(c) + value(c.SwapBytes) + value(c.PgtablesBytes)
}

// allocatingTask is about a choice that was no comparison.
func allocatingTask(f *facts) *finding {
	v := f.victim
	set := value(f.node.KillAllocatingTask)

	hit := &finding{confidence: certain}

	switch {
	case v == nil || !f.ofNode():
		return nil
	case v.ChosenBy == events.ChosenByAllocation:
		hit.add("chosen", "because its own allocation failed", f.source(fromKernel))
	case set && v.ChosenBy == "" && v.Points == nil && f.trigger != nil && f.trigger.PID == v.PID:
		hit.confidence = likely // the setting may be younger than the kill
		hit.add("victim and trigger", process(&v.Process), f.source(fromKernel))
	default:
		return nil
	}

	if set {
		hit.add("vm.oom_kill_allocating_task", "1", f.nodeSource("/proc/sys/vm/oom_kill_allocating_task"))
	}
	hit.text = process(&v.Process) + " was killed because its own allocation failed (vm.oom_kill_allocating_task); " +
		"the kernel did not look for a larger process."
	hit.brief = "vm.oom_kill_allocating_task made it the victim"

	return hit
}

func chosenByScore(f *facts) *finding {
	if f.victim != nil && f.victim.ChosenBy != "" || allocatingTask(f) != nil {
		return nil // the kernel compared nothing
	}

	var victim, spared *events.Candidate

	list := f.candidates
	for i := range list {
		c := &list[i]
		if c.OOMScoreAdj == nil || weighed(c) == 0 {
			continue
		}

		switch {
		case f.victim != nil && c.PID == f.victim.PID:
			victim = c
		case c.Victim:
		case spared == nil || weighed(c) > weighed(spared):
			spared = c
		}
	}

	if victim == nil || spared == nil ||
		float64(weighed(spared)) < largerBy*float64(weighed(victim)) || *spared.OOMScoreAdj >= *victim.OOMScoreAdj {
		return nil
	}
	row := func(c *events.Candidate) string {
		s := fmt.Sprintf("%s, oom_score_adj %d", phrase.Size(weighed(c)), *c.OOMScoreAdj)
		if c.Points != nil {
			s += fmt.Sprintf(", %d points", *c.Points)
		}

		return s
	}

	return &finding{
		text: fmt.Sprintf("%s was not the largest process: %s has %s and was spared because "+
			"its oom_score_adj is %d and the victim's is %d.",
			process(&victim.Process), process(&spared.Process), phrase.Size(weighed(spared)), *spared.OOMScoreAdj, *victim.OOMScoreAdj),
		brief: fmt.Sprintf("%s with %s was spared by oom_score_adj %d",
			clip(process(&spared.Process)), phrase.Size(weighed(spared)), *spared.OOMScoreAdj),
		confidence: certain,
		evidence: []events.Evidence{
			item("victim "+process(&victim.Process), row(victim), f.source("candidates at the kill")),
			item("spared "+process(&spared.Process), row(spared), f.source("candidates at the kill")),
		},
	}
}

// together is what processes hold of the limit. Their sum may exceed it.
func (f *facts) together(held uint64) string {
	text := phrase.PartOf(held, f.total(), f.limit())
	if total := f.total(); total > 0 && held > total {
		text += ", pages that they share counted for each of them"
	}

	return text
}

func survivors(f *facts) *finding {
	var held uint64
	var most *events.Candidate

	exempt := f.exempt()
	for _, c := range exempt {
		held += candidateSize(c)
		if most == nil || candidateSize(c) > candidateSize(most) {
			most = c
		}
	}

	if share(held, f.total()) < survivorShare {
		return nil
	}

	text := fmt.Sprintf("%s with oom_score_adj -1000 held %s and could not be killed; the largest is %s.",
		phrase.Plural(len(exempt), "process"), f.together(held), process(&most.Process))
	if len(exempt) == 1 {
		text = fmt.Sprintf("%s, with oom_score_adj -1000, held %s and could not be killed.", process(&most.Process), f.together(held))
	}

	return &finding{
		text:       text,
		brief:      phrase.Plural(len(exempt), "unkillable process") + " held " + phrase.ShareOf(held, f.total(), f.whole()),
		confidence: certain,
		evidence: []events.Evidence{
			item("held by processes with oom_score_adj -1000",
				phrase.Part(held, f.total()), f.source("candidates at the kill")),
			item("largest of them", process(&most.Process)+" "+phrase.Size(candidateSize(most)), f.source("candidates at the kill")),
		},
	}
}

func manyProcesses(f *facts) *finding {
	type pool struct {
		comm          string
		count         int
		held, largest uint64
	}
	pools := map[string]*pool{}

	for i := range f.candidates {
		c := &f.candidates[i]
		if c.Comm == "" || c.Unkillable {
			continue
		}

		p := pools[c.Comm]
		if p == nil {
			p = &pool{comm: c.Comm}
			pools[c.Comm] = p
		}
		// Shared memory would count once for each process.
		size := value(c.AnonRSSBytes)
		if c.AnonRSSBytes == nil {
			size = value(c.RSSBytes)
		}
		p.count, p.held, p.largest = p.count+1, p.held+size, max(p.largest, size)
	}

	var top *pool
	for _, p := range pools {
		if top == nil || p.held > top.held || p.held == top.held && strings.Compare(p.comm, top.comm) < 0 {
			top = p
		}
	}

	if top == nil || top.count < crowd || share(top.held, f.total()) < crowdShare || top.largest*2 >= top.held {
		return nil
	}

	return &finding{
		text: fmt.Sprintf("No single process is to blame: %s named %s together held %s.",
			phrase.Plural(top.count, "process"), phrase.ClipName(top.comm), f.together(top.held)),
		brief:      fmt.Sprintf("%s ×%d held %s", clip(top.comm), top.count, phrase.ShareOf(top.held, f.total(), f.whole())),
		confidence: likely,
		evidence: []events.Evidence{
			item("processes named "+phrase.ClipName(top.comm), fmt.Sprintf("%d, %s together, the largest %s",
				top.count, phrase.Part(top.held, f.total()), phrase.Size(top.largest)), f.source("candidates at the kill")),
		},
	}
}
