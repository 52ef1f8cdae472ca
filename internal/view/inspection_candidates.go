// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// candidates are the processes that would be killed, the likeliest first, with why that is the
// first.
func (v inspection) candidates() []group {
	var first string

	switch {
	case v.killDisabled():
		first = "none. Tasks over the limit wait until memory is freed, because the OOM killer of the limiter is disabled."
	case len(v.event.Candidates) == 0:
		return nil
	default:
		first = v.first()
	}

	groups := []group{styled(prose("would be killed: "+first), styleStrong)}
	if len(v.event.Candidates) == 0 {
		return groups
	}

	groups = append(groups, v.candidateRows()...)
	groups[1] = styled(groups[1], styleLabel)

	return append(groups, v.aboutCandidates()...)
}

// first is which process the kernel would kill, and why that one.
func (v inspection) first() string {
	c := &v.event.Candidates[0]
	name := phrase.Process(c.Comm, c.PID)

	switch {
	case v.killsAllocatingTask():
		return "whichever process allocates (vm.oom_kill_allocating_task), not the one that counts most."
	case c.Unkillable:
		return "none. All processes have oom_score_adj -1000."
	case c.Points == nil || c.OOMScoreAdj == nil || v.event.PageSizeBytes == 0:
		return name + "."
	}

	text := fmt.Sprintf("%s, which counts as %s, more than any other", name, v.counts(c))
	if len(v.event.Candidates) == 1 && v.event.CandidatesLeftOut == 0 {
		text = name + ", the only process, which counts as " + v.counts(c)
	}

	if adj := v.adjustment(c); adj != "" {
		text += ": " + adj
	}

	if larger := v.larger(c); larger != nil {
		text += fmt.Sprintf("; %s is larger (%s), with oom_score_adj %d",
			phrase.Process(larger.Comm, larger.PID), phrase.Size(weighed(larger)), *larger.OOMScoreAdj)
	}

	return text + "."
}

// counts is the badness of a process as a size.
func (v inspection) counts(c *events.Candidate) string {
	switch {
	case c.Unkillable:
		return "never"
	case c.Points == nil || v.event.PageSizeBytes == 0:
		return "?"
	case *c.Points <= 0:
		return "0 or less"
	}

	return phrase.Size(uint64(*c.Points) * uint64(v.event.PageSizeBytes))
}

// adjustment is how oom_score_adj changes the size that a process counts as. It is empty where it
// does not.
func (v inspection) adjustment(c *events.Candidate) string {
	if v.event.TotalPages == nil || *c.OOMScoreAdj == 0 {
		return ""
	}

	word, adj := "plus", *c.OOMScoreAdj
	if adj < 0 {
		word, adj = "less", -adj
	}

	bytes := uint64(adj) * (*v.event.TotalPages / 1000) * uint64(v.event.PageSizeBytes) // as the kernel divides

	return fmt.Sprintf("its %s, %s %s for oom_score_adj %d", phrase.Size(weighed(c)), word, phrase.Size(bytes), *c.OOMScoreAdj)
}

// larger is the largest of the listed processes that could be killed, nil if that is the first.
func (v inspection) larger(first *events.Candidate) *events.Candidate {
	var most *events.Candidate

	for i := range v.event.Candidates {
		c := &v.event.Candidates[i]
		if !c.Unkillable && c.OOMScoreAdj != nil && weighed(c) > weighed(cmp.Or(most, first)) {
			most = c
		}
	}

	return most
}

// weighed is the memory of a process that its badness counts (mm/oom_kill.c, oom_badness).
func weighed(c *events.Candidate) uint64 {
	size := cmp.Or(c.RSSBytes, oom.Sum(c.AnonRSSBytes, c.FileRSSBytes, c.ShmemRSSBytes))
	if all := oom.Sum(size, c.SwapBytes, c.PgtablesBytes); all != nil {
		return *all
	}

	return 0
}

// candidateRows have each process, what the choice rests on, and its place.
func (v inspection) candidateRows() []group {
	const nameColumns = 24 // a name of 15 bytes and a pid

	g := grid{{"process", "size", "adj", "counts as"}}
	if v.wide {
		g[0] = slices.Insert(g[0], 2, "anon", "file", "swap")
	}

	for i := range v.event.Candidates {
		c := &v.event.Candidates[i]

		adj := "?"
		if c.OOMScoreAdj != nil {
			adj = strconv.Itoa(*c.OOMScoreAdj)
		}

		name := phrase.Sanitize(phrase.Task(c.Comm, c.PID))
		if !v.wide {
			name = phrase.ClipMiddle(name, nameColumns)
		}

		switch {
		case v.isOwn(c):
			name = "▸ " + name
		case v.ofOthers():
			name = "  " + name
		}

		row := []string{name, phrase.Size(weighed(c)), adj, v.counts(c)}
		if v.wide {
			row = slices.Insert(row, 2, v.parts(c)...)
		}

		g = append(g, row)
	}

	columns := g.beside(v.lineColumns(), leastName)
	g[0] = append(g[0], "in")

	for i := range v.event.Candidates {
		g[i+1] = append(g[i+1], v.where(&v.event.Candidates[i], columns))
	}

	return g.groups(1)
}

// parts are the anonymous memory of a process, or all of it where that is not split, its files and
// shared memory, and its swap.
func (v inspection) parts(c *events.Candidate) []string {
	file := c.FileRSSBytes
	if file != nil {
		file = oom.Sum(file, c.ShmemRSSBytes)
	}

	return []string{phrase.ShortSize(cmp.Or(c.AnonRSSBytes, c.RSSBytes)), phrase.ShortSize(file), phrase.ShortSize(c.SwapBytes)}
}

// where is the place of a process. Below the inspected cgroup it is left out, unless others are
// listed as well.
func (v inspection) where(c *events.Candidate, columns int) string {
	if c.Cgroup == nil || c.Cgroup.Is(v.event.Cgroup) && !v.ofOthers() {
		return ""
	}

	if v.wide {
		return cmp.Or(phrase.Identity(c.Workload, true), c.Cgroup.Path)
	}

	if name := phrase.Short(c.Workload); name != "" {
		return phrase.ClipMiddle(phrase.Sanitize(name), columns)
	}

	return phrase.ShortPath(c.Cgroup.Path, columns)
}

// ofOthers reports whether the kernel would choose among processes outside of the inspected cgroup
// as well.
func (v inspection) ofOthers() bool {
	return v.event.Cgroup != nil && v.limiter != nil && !v.limiter.Cgroup.Is(v.event.Cgroup)
}

// isOwn reports whether a process is in the inspected cgroup, where others are not.
func (v inspection) isOwn(c *events.Candidate) bool {
	if !v.ofOthers() || c.Cgroup == nil {
		return false
	}

	return c.Cgroup.Is(v.event.Cgroup) || strings.HasPrefix(c.Cgroup.Path, strings.TrimSuffix(v.event.Cgroup.Path, "/")+"/")
}

// killsAllocatingTask reports whether the kernel would compare no processes: it does for a
// cgroup's limit all the same (mm/oom_kill.c: out_of_memory).
func (v inspection) killsAllocatingTask() bool {
	n, l := v.event.NodeState, v.event.Limiter
	return n != nil && n.KillAllocatingTask != nil && *n.KillAllocatingTask && l != nil && l.Level == events.LevelNode
}

// aboutCandidates explains the marks, and counts what is not listed.
func (v inspection) aboutCandidates() []group {
	var rest []string
	if n := v.event.CandidatesLeftOut; n > 0 {
		rest = append(rest, "and "+phrase.Plural(n, "more process"))
	}

	if n := v.event.CandidatesUnread; n > 0 {
		rest = append(rest, fmt.Sprintf("%d could not be read", n))
	}

	if slices.ContainsFunc(v.event.Candidates, func(c events.Candidate) bool { return c.Unkillable }) {
		rest = append(rest, "oom_score_adj -1000 is never killed")
	}

	groups := []group{list(rest...)}

	switch {
	case !v.ofOthers():
	case slices.ContainsFunc(v.event.Candidates, func(c events.Candidate) bool { return v.isOwn(&c) }):
		groups = append(groups, prose("▸ in the "+v.kind()+" that was inspected"))
	default:
		groups = append(groups, prose("none of these is in the "+v.kind()+" that was inspected"))
	}

	return groups
}

// kind is what was inspected, in a word.
func (v inspection) kind() string { return cmp.Or(string(v.event.Level), "cgroup") }
