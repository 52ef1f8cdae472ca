// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// What a narrow block shows of lists that may be long. The rest is counted, and
// -o json has it.
const (
	narrowCauses     = 3
	narrowAdvice     = 4 // of the first cause: it is what is to be done first
	narrowShares     = 4
	narrowCandidates = 5
)

// shown is how much of a list is shown: never all but one.
func (b block) shown(length, most int) int {
	if b.wide || length <= most+1 {
		return length
	}

	return most
}

// more counts what is left out.
func more(count int, thing string) group {
	if count <= 0 {
		return list()
	}

	return list("and "+plural(uint64(count), "more "+thing), "-o json lists all")
}

// why has the causes, the best supported first. What is not certain says so.
func (b block) why() []group {
	causes := b.inc.Causes
	shown := b.shown(len(causes), narrowCauses)
	var groups []group

	for i := range causes[:shown] {
		c := &causes[i]
		if !b.wide {
			groups = append(groups, prose(doubtful(c.Confidence)+c.Text))
			continue
		}

		groups = append(groups, prose(fmt.Sprintf("%s, %s: %s", c.ID, c.Confidence, c.Text)), evidence(c.Evidence))
		if c.Reference != "" {
			groups = append(groups, prose("- see "+c.Reference))
		}
	}

	return append(groups, more(len(causes)-shown, "cause"))
}

func doubtful(confidence string) string {
	if confidence == "certain" || confidence == "" {
		return ""
	}

	return confidence + ": "
}

func evidence(facts []events.Evidence) group {
	g := group{sep: "; "}

	for _, e := range facts {
		item := e.What + ": " + e.Value
		if len(g.items) == 0 {
			item = "- " + item
		}

		if e.Source != "" {
			item += " (" + e.Source + ")"
		}

		g.items = append(g.items, item)
	}

	return g
}

// advice is of all causes; in a narrow block of the first. The same advice is
// given once.
func (b block) advice() []group {
	var all []string
	seen := map[string]bool{}
	first := 0

	for i := range b.inc.Causes {
		for _, a := range b.inc.Causes[i].Advice {
			if line := a.Layer + ": " + a.Text; !seen[line] {
				seen[line] = true
				all = append(all, line)
			}
		}

		if i == 0 {
			first = len(all)
		}
	}

	shown := len(all)
	if !b.wide {
		shown = b.shown(first, narrowAdvice)
	}

	var groups []group
	for _, line := range all[:shown] {
		groups = append(groups, prose(line))
	}

	if len(all) == shown {
		return groups
	}

	return append(groups, list(fmt.Sprintf("and %d more of what could be done", len(all)-shown), "-o json lists all"))
}

// shares has who used how much of the limit.
func (b block) shares() group {
	all := b.inc.Shares
	shown := b.shown(len(all), narrowShares)
	g := group{sep: " · "}

	for i := range all[:shown] {
		s := &all[i]
		g.items = append(g.items, b.shareName(s)+" "+ratio(s.UsageBytes, s.MaxBytes, b.limit(nil, "shares.max_bytes")))
	}

	if shown < len(all) {
		g.items = append(g.items, fmt.Sprintf("and %d more", len(all)-shown))
	}

	return g
}

func (b block) shareName(s *events.Share) string {
	name := rungName(s.Level, s.Workload, s.Cgroup.Path)
	if w := s.Workload; w != nil {
		switch {
		case w.Container != "":
			name = "container " + w.Container
		case w.ContainerID != "":
			name = "container " + shortID(w.ContainerID)
		case w.Pod != "":
			name = "pod " + w.Pod
		case w.PodUID != "":
			name = "pod " + shortID(w.PodUID)
		}
	}

	if b.wide {
		return name
	}

	return clip(Sanitize(name), 32)
}

// scores has who could have been killed, the likeliest first.
func (b block) scores() []group {
	all := b.inc.Candidates
	shown := b.shown(len(all), narrowCandidates)
	var groups []group
	known := b.home()

	for i := range all[:shown] {
		c := &all[i]

		groups = append(groups, list(b.candidate(c, known)...))
		if c.Cgroup != nil {
			known = c.Cgroup
		}
	}

	return append(groups, more(len(all)-shown, "candidate"))
}

func (b block) candidate(c *events.Candidate, known *events.Cgroup) []string {
	first := b.thread(&c.Process)
	if c.Victim {
		first += " killed"
	}
	items := appendSet([]string{first}, b.place(&c.Process, known))

	items = append(items, b.sizes(part{"rss", c.RSSBytes}, part{"anon", c.AnonRSSBytes}, part{"file", c.FileRSSBytes},
		part{"shmem", c.ShmemRSSBytes}, part{"swap", c.SwapBytes})...)
	if b.wide {
		items = append(items, b.sizes(part{"page tables", c.PgtablesBytes})...)
	}

	if c.OOMScoreAdj != nil {
		items = append(items, fmt.Sprintf("adj %d", *c.OOMScoreAdj))
	}

	if b.wide && c.Points != nil {
		items = append(items, fmt.Sprintf("badness %d pages", *c.Points))
	}

	if c.Unkillable {
		items = append(items, "may not be killed")
	}

	return items
}

// eviction has the kubelet's side.
func (b block) eviction() []group {
	e := b.inc.Eviction
	if e == nil {
		return nil
	}

	var items []string
	if e.AvailableBytes != nil {
		items = append(items, "memory.available "+size(*e.AvailableBytes))
	}

	if e.MemAvailableBytes != nil {
		items = append(items, "the kernel's MemAvailable "+size(*e.MemAvailableBytes))
	}
	items = append(items, threshold("hard", e.HardBytes, e.HardSinceNS)...)

	items = append(items, threshold("soft", e.SoftBytes, e.SoftSinceNS)...)
	if b.wide && e.Source != "" {
		items = append(items, "thresholds from "+e.Source)
	}

	groups := []group{prose(e.Text), list(items...)}
	if !b.wide {
		if n := uint64(len(e.Log)); n > 0 {
			groups = append(groups, list(plural(n, "line")+" of the kubelet's log", "-o json has them"))
		}

		return groups
	}

	for _, line := range e.Log {
		groups = append(groups, prose(line))
	}

	return groups
}

func threshold(name string, bytes, since *uint64) []string {
	if bytes == nil && since == nil {
		return nil
	}

	item := name + " threshold"
	if bytes != nil {
		item += " " + size(*bytes)
	}

	if since != nil {
		item += ", below it for " + duration(*since)
	}

	return []string{item}
}

// runtime has what the container runtime says of the end.
func (b block) runtime() []group {
	var groups []group
	for i := range b.inc.Reported {
		groups = append(groups, prose(b.runtimeSays(&b.inc.Reported[i])))
	}

	return groups
}

func (b block) runtimeSays(r *events.Reported) string {
	text := r.Text
	if text == "" {
		items := appendSet(nil, r.State, r.Reason)
		if r.ExitCode != nil {
			items = append(items, fmt.Sprintf("exit status %d", *r.ExitCode))
		}
		text = strings.Join(items, ", ")
	}

	if !r.Agrees {
		text = "NOT WHAT THE KERNEL DID: " + text
	}

	name := r.Container
	switch {
	case name != "":
	case b.wide:
		name = r.ContainerID
	default:
		name = shortID(r.ContainerID)
	}

	return "container " + name + ": " + text
}
