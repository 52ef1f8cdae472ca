// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// story is an incident on half a screen: the summary and what to do first, then the limits, who
// held the memory, and a line only for what is not the usual case. The whole of it is in the
// block.
type story struct {
	limitBlock
	inc  *events.Incident
	opts *TextOptions
}

func newStory(inc *events.Incident, opts *TextOptions) story {
	return story{
		inc: inc, opts: opts,
		limitBlock: limitBlock{
			limiter: inc.Limiter, ladder: inc.Ladder, memory: inc.Memory, unknown: inc.Unknown, columns: opts.Width - indent,
		},
	}
}

// What a story shows of lists that may be long. The rest is counted.
const (
	storyLimits  = 4
	storyHolders = 3
	storyParts   = 4
	storyParents = 3
)

func (s story) sections() []section {
	var all sections
	all.addBare("summary", styled(prose(answer.Summary(s.inc)), styleStrong))
	all.addBare("advice", s.advice())

	if s.inc.Scope != events.ScopeUser { // nothing was short
		all.add("limits", s.limits()...)
		all.add("held by", s.holders())
		all.add("memory", s.charged())
	}

	all.add("exit", s.exits())
	all.add("killer", s.killer()...)
	all.add("before", s.before())
	all.add("then", s.then()...)
	all.add("unusual", s.unusual()...)

	return all
}

// advice is the first one, on at most two lines unless the command for the rest is long, and where
// the rest is.
func (s story) advice() group {
	var all []string

	for i := range s.inc.Causes {
		for _, a := range s.inc.Causes[i].Advice {
			if !slices.Contains(all, a.Text) {
				all = append(all, a.Text)
			}
		}
	}

	if len(all) == 0 {
		return list()
	}

	text := firstSentence(all[0])
	if words := adviceWords(text); len(all) == 1 && text == all[0] && s.linesOf(words) <= adviceLines {
		return styled(group{items: words, sep: " "}, styleAdvice)
	}

	more, lines := moreIs+s.more(), adviceLines // a command is not broken
	if phrase.Width(more) > s.lineColumns()/2 {
		lines++
	}

	for _, clauses := range firstClauses(text, s.lineColumns()/3) {
		if words := append(adviceWords(clauses), more); s.linesOf(words) <= lines {
			return styled(group{items: words, sep: " "}, styleAdvice)
		}
	}

	words := adviceWords(text)
	for len(words) > 1 && s.linesOf(append(slices.Clone(words), "…", more)) > lines {
		words = words[:len(words)-1]
	}

	return styled(group{items: append(words, "…", more), sep: " "}, styleAdvice)
}

// more is the command that shows all of the incident, or the flag that would have.
func (s story) more() string {
	if s.opts.Unkept {
		return "--wide"
	}

	return s.opts.command("show " + events.ShortID(s.inc.ID))
}

// adviceLines is how many lines the advice may take, unless the command for the rest is long.
const adviceLines = 2

func adviceWords(text string) []string { return prose("→ " + text).items }

// clauseEnd is where advice still makes sense if it ends there. A bare comma is not: it may end a
// condition.
var clauseEnd = regexp.MustCompile(`[:;] |, (?:and|or) | \(`)

// firstClauses returns the text, then its first clauses, fewer and fewer, as long as they have so
// many columns: less does not help ("MySQL: ...").
func firstClauses(text string, least int) []string {
	all := []string{text}

	for _, end := range slices.Backward(clauseEnd.FindAllStringIndex(text, -1)) {
		clauses := text[:end[0]]
		inParentheses := strings.Count(clauses, "(") > strings.Count(clauses, ")")
		inList := text[end[0]] == ',' && strings.Contains(clauses[strings.LastIndexAny(clauses, ":;")+1:], ", ")

		if !inParentheses && !inList && phrase.Width(clauses) >= least {
			all = append(all, clauses+".")
		}
	}

	return all
}

// linesOf is how many lines words take.
func (s story) linesOf(words []string) int {
	if s.lineColumns() <= 0 {
		return 1
	}

	lines, used := 1, 0

	for _, word := range words {
		width := phrase.Width(word)
		if used > 0 && used+1+width > s.lineColumns() {
			lines, used = lines+1, 0
		}

		used += min(used, 1) + width
	}

	return lines
}

// firstSentence ends at the first full stop, question or exclamation mark before a blank and a
// capital letter, so that it does not end in a number or a file name.
func firstSentence(text string) string {
	for i := range text {
		if i+2 < len(text) && strings.IndexByte(".?!", text[i]) >= 0 && text[i+1] == ' ' && text[i+2] >= 'A' && text[i+2] <= 'Z' {
			return text[:i+1]
		}
	}

	return text
}

// The columns of a bar; with less room there is none.
const leastBar, mostBar = 8, 40

// limits are those above the victim, the innermost first, with a bar each. The one that was hit is
// marked.
func (s story) limits() []group {
	var (
		rows    grid
		hit     = -1
		without []string
		shares  [][2]*uint64 // used, limit
	)

	row := func(mark, name string, used, limit *uint64) {
		cells := []string{mark + name, phrase.SizeOrUnknown(used), "of " + phrase.Size(*limit), ""}
		if used != nil {
			cells[3] = percent(*used, *limit)
		}

		rows = append(rows, cells)
		shares = append(shares, [2]*uint64{used, limit})
	}

	for i := range s.ladder {
		r := &s.ladder[i]
		name := phrase.Clip(phrase.Sanitize(phrase.Ancestor(r.Level, r.Workload, r.Cgroup.Path)), 20)
		mark := "  "

		if l := s.limiter; l != nil && l.Cgroup.Is(&r.Cgroup) {
			mark, hit = "▸ ", len(rows)
		}

		switch {
		case mark == "▸ " && s.limiter.LimitBytes != nil:
			row(mark, name, s.limiter.UsageBytes, s.limiter.LimitBytes)
		case r.MaxBytes != nil:
			row(mark, name, r.UsageBytes, r.MaxBytes)
		default:
			without = append(without, name)
		}
	}

	if l := s.limiter; l != nil && hit < 0 && l.LimitBytes != nil {
		hit = len(rows)

		row("▸ ", cmp.Or(string(l.Level), "limit"), l.UsageBytes, l.LimitBytes)
	}

	if len(rows) == 0 {
		return nil
	}

	left := 0

	if len(rows) > storyLimits { // the one that was hit, and those nearest to it
		from := min(max(hit-1, 0), len(rows)-storyLimits)
		left = len(rows) - storyLimits
		rows, shares, hit = rows[from:from+storyLimits], shares[from:from+storyLimits], hit-from
	}

	columns := min(rows.beside(s.columns, 0), mostBar)
	if columns < leastBar {
		columns = 0
	}

	for i, share := range shares {
		text := ""
		if share[0] != nil {
			text = bar(*share[0], *share[1], columns)
		}

		rows[i] = append(rows[i], text)
	}

	groups := rows.groups(1)
	if hit >= 0 && hit < len(groups) {
		groups[hit] = styled(groups[hit], styleAlarm)
	}

	var rest []string
	if left > 0 {
		rest = append(rest, phrase.Plural(left, "more limit"))
	}

	if len(without) > 0 && len(rows) == 1 {
		rest = append(rest, "no limit: "+strings.Join(without, ", "))
	}

	if len(rest) > 0 {
		groups = append(groups, list(rest...))
	}

	return groups
}

// storyIndent is what stands before a line of text, moreIs before a command.
const (
	storyIndent = 2
	moreIs      = "More: "
)

// lineColumns is how much a line of text holds.
func (s story) lineColumns() int { return s.columns + indent - storyIndent }

// holders are the processes that had the memory when it ran out, the largest first.
func (s story) holders() group {
	type holder struct {
		name  string
		bytes uint64
	}

	var all []holder

	// The first size is the anonymous memory, or that of all kinds.
	add := func(p *events.Process, killed bool, sizes ...*uint64) {
		h := holder{name: phrase.Task(p.Comm, p.PID)}
		if killed {
			h.name += " (killed)"
		}

		if sizes[0] == nil {
			return // the rest is not what it held
		}

		for _, b := range sizes {
			if b != nil {
				h.bytes += *b
			}
		}

		all = append(all, h)
	}

	for i := range s.inc.Candidates {
		c := &s.inc.Candidates[i]
		if c.AnonRSSBytes == nil {
			add(&c.Process, c.Victim, c.RSSBytes)
			continue
		}

		add(&c.Process, c.Victim, s.held(c.AnonRSSBytes, c.FileRSSBytes, c.ShmemRSSBytes)...)
	}

	if len(all) == 0 {
		for i := range s.inc.Victims {
			v := &s.inc.Victims[i]
			add(&v.Process, true, s.held(v.AnonRSSBytes, v.FileRSSBytes, v.ShmemRSSBytes)...)
		}
	}

	slices.SortStableFunc(all, func(a, b holder) int { return cmp.Compare(b.bytes, a.bytes) })

	g := group{sep: " · "}

	for _, h := range all[:min(len(all), storyHolders)] {
		if h.bytes < all[0].bytes/100 {
			break
		}

		g.items = append(g.items, h.name+" "+phrase.Size(h.bytes))
	}

	if n := len(all) - len(g.items) + s.inc.CandidatesLeftOut; len(all) > 0 && n > 0 {
		g.items = append(g.items, fmt.Sprintf("%d more", n))
	}

	return g
}

// held is what a process held of what was short. At a cgroup's limit that is not its page cache: a
// program's own file is often charged to the cgroup that read it first.
func (s story) held(anon, file, shmem *uint64) []*uint64 {
	if s.inc.Scope == events.ScopeMemcg {
		return []*uint64{anon, shmem}
	}

	return []*uint64{anon, file, shmem}
}

// charged is what the limit was used for, the largest parts first.
func (s story) charged() group {
	m := s.memory
	if m == nil {
		return list()
	}

	parts := slices.DeleteFunc([]part{
		{"anon", m.AnonBytes}, {"file", m.FileBytes}, {"shmem", m.ShmemBytes}, {"slab", m.SlabBytes}, {"hugetlb", m.HugetlbBytes},
		{"kernel stacks", m.KernelStackBytes}, {"page tables", m.PagetablesBytes}, {"sockets", m.SockBytes},
	}, func(p part) bool { return p.bytes == nil || *p.bytes == 0 })

	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(*b.bytes, *a.bytes) })

	g := group{sep: " · "}

	for _, p := range parts[:min(len(parts), storyParts)] {
		if *p.bytes < *parts[0].bytes/100 {
			break
		}

		g.items = append(g.items, p.name+" "+phrase.Size(*p.bytes))
	}

	return g
}

// slowExit is how long a victim may take to exit without a word about it.
const slowExit = uint64(time.Second)

// exits is how long the victims took to exit, where it was long, and how many have not.
func (s story) exits() group {
	var last uint64

	running := 0

	for i := range s.inc.Victims {
		v := &s.inc.Victims[i]
		if v.ExitAfterNS == nil {
			running++
			continue
		}

		last = max(last, *v.ExitAfterNS)
	}

	n := len(s.inc.Victims)

	switch {
	case running > 0 && s.inc.Audit != nil && n > 1:
		return list(fmt.Sprintf("%d of %d still running", running, n))
	case running > 0 && s.inc.Audit != nil:
		return list("still running")
	case running > 0 || last < slowExit:
		return list()
	case n > 1:
		return list("the last of " + fmt.Sprint(n) + " exited after " + phrase.Duration(last))
	}

	return list("exited after " + phrase.Duration(last))
}

// killer is who sent a SIGKILL that the OOM killer did not send.
func (s story) killer() []group {
	k := s.inc.Killer
	if k == nil || s.inc.Scope != events.ScopeUser {
		return nil
	}

	items := []string{phrase.KillPath(k.Path, s.inc.Scope)}
	if k.Comm != "" || k.PID != 0 {
		items = append([]string{phrase.Task(k.Comm, k.PID)}, items...)
	}

	if k.Reason != "" {
		items = append(items, phrase.KillReason(k.Reason))
	}

	if k.TermBeforeNS != nil {
		items = append(items, "SIGTERM "+phrase.Duration(*k.TermBeforeNS)+" earlier")
	}

	groups := []group{list(items...)}

	if len(k.Ancestry) > 0 {
		parents := group{sep: " < "}
		for _, a := range k.Ancestry[:min(len(k.Ancestry), storyParents)] {
			parents.items = append(parents.items, phrase.Task(a.Comm, a.PID))
		}

		parents.items[0] = "child of " + parents.items[0]
		groups = append(groups, parents)
	}

	return append(groups, login(k.Login))
}

// before is the time that tasks stalled in the minute before.
func (s story) before() group {
	p := s.inc.Before
	if p == nil {
		return list()
	}

	minute := fmt.Sprintf("last %d s", p.WindowNS/1e9)
	items := []string{}

	for i := range p.Stalls {
		sum := &p.Stalls[i]
		if sum.What == string(events.StallAfterKill) || sum.TotalNS < 1e6 {
			continue
		}

		items = append(items, phrase.Stall(sum.What)+" "+phrase.Duration(sum.TotalNS))
	}

	if len(items) == 0 {
		return list("no warning: no stall of a millisecond in the " + minute)
	}

	if len(items) > 2 {
		items = append(items[:2], phrase.Plural(len(items)-2, "more kind"))
	}

	if line := sparkline(p); line != "" {
		items = append(items, minute+" |"+line+"|")
	}

	return list(items...)
}

// then is what came of the kill, and where the runtime's report contradicts it.
func (s story) then() []group {
	var groups []group

	for i := range s.inc.Followed {
		groups = append(groups, prose(phrase.Consequence(&s.inc.Followed[i])))
	}

	for i := range s.inc.Reported {
		if r := &s.inc.Reported[i]; !r.Agrees {
			groups = append(groups, styled(prose("container "+cmp.Or(r.Container, phrase.ShortID(r.ContainerID))+": "+r.Text), styleWarn))
		}
	}

	if len(groups) > 2 {
		groups = append(groups[:2], list(fmt.Sprintf("%d more", len(groups)-2)))
	}

	return groups
}

// unusual is what makes the rest less certain.
func (s story) unusual() []group {
	var groups []group

	if a := s.inc.Audit; a != nil && !a.Explained {
		groups = append(groups, styled(prose("counters of the kernel differ: "+a.Text), styleWarn))
	}

	if len(s.inc.Causes) == 0 && len(s.inc.Unknown) > 0 {
		if words := unknownWords(s.inc); len(words) > 0 {
			groups = append(groups, list("not known: "+strings.Join(words[:min(len(words), storyParts)], ", ")))
		}
	}

	if p := s.inc.Passes; p != nil && p.NoKillable+p.Waiting > 1 {
		groups = append(groups, list(fmt.Sprintf("%d OOM invocations without a kill", p.NoKillable+p.Waiting)))
	}

	return groups
}
