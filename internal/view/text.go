// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// TextOptions configures the text format. The zero value is the whole block, without colour,
// in local time.
type TextOptions struct {
	// Width is the columns that no line goes beyond; less than 40 counts as 40. 0 has no
	// limit, and is Full with the date in each headline.
	Width int
	// Full leaves nothing out: whole ids and paths, all victims, values that are zero.
	Full bool
	// Dates has the date in each headline. Without it, a line has it where the day changes.
	Dates bool
	// Fold shows incidents of one limit that come faster than they can be read as one, with their
	// count.
	Fold bool
	// Terminal means that what was printed last can be printed over.
	Terminal bool
	// Source is what "oomtrace show" takes after the ID of an incident to find it, as typed in a
	// shell; empty: nothing.
	Source string
	// Unkept means that incidents are recorded nowhere, so that nothing can show more of them later.
	Unkept bool
	Color  bool
	// ASCII draws with letters and signs alone, for terminals without UTF-8.
	ASCII    bool
	Location *time.Location // nil: local time
}

// full reports whether incidents are shown as a whole block.
func (o *TextOptions) full() bool { return o.Full || o.Width == 0 }

// command is a command of oomtrace that reads the incidents again.
func (o *TextOptions) command(words string) string {
	command := "oomtrace " + words
	if o.Source == "" {
		return command
	}

	if whole := command + " " + phrase.Sanitize(o.Source); phrase.Fits(whole, o.Width-storyIndent-len(moreIs)) {
		return whole
	}

	return command + " FILE" // a path on two lines cannot be copied
}

const minWidth = 40

// NewText shows each incident as a headline, the summary and what to do first, and a few
// indented sections; with Full, all that is known. The headline is written at the first
// victim, without waiting; the rest follows with the incident, and repeats the headline only
// if other lines came between. So do lines of later updates. A [sink.Whole] in front of it
// has each incident in one piece.
func NewText(w io.Writer, opts TextOptions) *Text {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, minWidth)
	}

	return &Text{out: output{w: w, what: "text"}, opts: opts, loc: zone(opts.Location)}
}

// Text is the sink that NewText returns.
type Text struct {
	out  output
	opts TextOptions
	loc  *time.Location

	// at is the id of the incident that the last line belongs to, shown the scope in
	// the headline above it.
	at    string
	shown events.Scope
	day   day // of the last headline

	bursts      bursts
	folded      *burst // if that was printed last
	foldedLines int
}

func (s *Text) Write(l events.Line) error {
	if s.opts.Fold {
		if at, ok := timeOf(l); ok {
			if err := s.foldOverdue(at, false); err != nil {
				return err
			}
		}
	}

	switch l := l.(type) {
	case *events.Headline:
		return s.announce(l)
	case *events.Incident:
		return s.incident(l)
	case *events.Update:
		return s.update(l)
	case *events.StallLine:
		return s.stall(l, stallItems(l, 1, l.DurationNS))
	case *foldedStalls:
		return s.stall(l.StallLine, stallItems(l.StallLine, l.count, l.longestNS))
	case *events.PressureLine:
		return s.pressure(l)
	case *events.Lost:
		return s.lost(l)
	case *events.Status:
		return s.status(l)
	case *events.Final:
		delete(s.bursts.counted, l.ID)
	}

	return s.out.err
}

// timeOf is when a line was made, which is after all that it reports; of an incident, when it happened.
func timeOf(l events.Line) (time.Time, bool) {
	switch l := l.(type) {
	case *events.Incident:
		return l.Time, true
	case *events.Update:
		return l.Change.Time, true
	case *events.Status:
		return l.Time, true
	case *events.StallLine:
		return l.Time, true
	case *events.PressureLine:
		return l.Time, true
	}

	return time.Time{}, false
}

// Flush prints what is left of bursts that have ended. Bursts may end without another line, so a
// live trace calls it from time to time.
func (s *Text) Flush(now time.Time) error { return s.foldOverdue(now, false) }

// Close prints what is left of bursts.
func (s *Text) Close() error { return s.foldOverdue(time.Time{}, true) }

func (s *Text) announce(h *events.Headline) error {
	if s.opts.Fold && s.bursts.announces(h) {
		return s.out.err
	}

	p := s.page()
	p.head(s.clock(p, h.Time), phrase.Outcome("", events.OutcomeKilled), styleAlarm,
		apart(phrase.Task(h.Comm, h.PID), phrase.Shortage(h.Scope, nil), s.shortID(h.ID)))
	s.at, s.shown = h.ID, h.Scope

	return s.write(p)
}

// shortID is the mark by which a reader can ask for the rest of an incident: all of it is there
// where lines have no limit.
func (s *Text) shortID(id string) string {
	if s.opts.Width == 0 {
		return ""
	}

	return "#" + events.ShortID(id)
}

func (s *Text) incident(inc *events.Incident) error {
	again := false // the limits were shown just before

	if s.opts.Fold {
		b := s.bursts.add(inc)
		if b.folded() {
			return s.fold(b, false)
		}

		again = b.incidents > 1 && !s.opts.full()
	}

	p := s.page()
	if s.at != inc.ID || inc.Outcome != events.OutcomeKilled {
		s.headline(p, inc)
	} else if s.shown != inc.Scope && s.opts.full() {
		p.section(section{label: "scope", groups: []group{list(s.shortage(inc))}})
	}

	for _, sec := range s.sections(inc) {
		if !again || sec.label != "limits" && sec.label != "memory" {
			p.section(sec)
		}
	}
	s.at = inc.ID

	return s.write(p)
}

// update prints the sections that the update changed, and of victims only what is new
// of each.
func (s *Text) update(u *events.Update) error {
	if s.bursts.counted[u.Change.ID] {
		return s.out.err
	}

	before, after := u.Before, u.After
	if after == nil {
		before, after = &events.Incident{ID: u.Change.ID}, &events.Incident{ID: u.Change.ID}
		events.Merge(after, u.Change)
	}

	news := difference(s.sections(before), s.sections(after))
	if len(news) == 0 {
		return s.out.err
	}

	p := s.page()
	if s.at != u.Change.ID {
		s.reference(p, u)
	}

	for _, sec := range news {
		p.section(sec)
	}
	s.at = u.Change.ID

	return s.write(p)
}

func (s *Text) stall(l *events.StallLine, items []string) error {
	p := s.page()

	if l.Task.Cgroup != nil && l.Task.Cgroup.Path != "" {
		items = append(items, phrase.ShortPath(l.Task.Cgroup.Path, 40))
	}

	if l.Limiter != nil && l.Limiter.Path != "" && (l.Task.Cgroup == nil || l.Task.Cgroup.ID != l.Limiter.ID) {
		items = append(items, "for the limit of "+phrase.ShortPath(l.Limiter.Path, 40))
	}

	p.head(s.clock(p, l.Time), "stall", styleLabel, list(items...))
	s.at = ""

	return s.write(p)
}

func (s *Text) pressure(l *events.PressureLine) error {
	p := s.page()
	window := phrase.Duration(l.WindowNS)
	var items []string

	switch l.What {
	case events.PressureMemoryHigh:
		items = append(items, "throttled by memory.high for "+phrase.Duration(l.TotalNS)+" of "+window)
	case events.PressureNoProgress:
		failed := fmt.Sprintf("%d of %s in %s made no progress", l.Fruitless, phrase.Plural(l.Count, "reclaim"), window)
		items = append(items, failed, "OOM kill imminent")
	case events.PressureCritical:
		items = append(items, "critical service stalled for "+phrase.Duration(l.TotalNS)+" of "+window)
	default:
		items = append(items, phrase.Spaced(l.What)+" "+phrase.Duration(l.TotalNS)+" of "+window)
	}

	name := l.Cgroup.Path
	if name == "" {
		name = fmt.Sprintf("cgroup %d", l.Cgroup.ID)
	}

	if s.opts.Width > 0 {
		name = phrase.ShortPath(name, s.opts.Width-indent)
	}

	p.head(s.clock(p, l.Time), "pressure", styleWarn, list(append(items, name)...))
	s.at = ""

	return s.write(p)
}

func (s *Text) lost(l *events.Lost) error {
	p := s.page()

	what := phrase.Plural(l.Count, "record") + " (" + phrase.Spaced(l.What) + ")"
	if l.What == events.LostRecording {
		what = phrase.Plural(l.Count, "line") + " not recorded"
	}

	items := []string{what}
	if l.Cgroup != nil && l.Cgroup.Path != "" {
		items = append(items, "last of "+phrase.ShortPath(l.Cgroup.Path, 40))
	}

	p.head(s.clock(p, l.Time), "LOST", styleAlarm, list(append(items, "output may be incomplete")...))
	s.at = ""

	return s.write(p)
}

func (s *Text) status(st *events.Status) error {
	if st.Phase == events.PhaseEnd {
		if err := s.Close(); err != nil {
			return err
		}
	}

	p := s.page()
	p.head(s.clock(p, st.Time), st.Phase, styleLabel, statusItems(st))

	switch short := lesserHooks(st.Hooks); {
	case s.opts.Width == 0:
		for _, h := range st.Hooks {
			p.section(section{label: "hook", groups: []group{hookLine(h)}})
		}
	case short != "":
		p.section(section{label: "hooks", groups: []group{prose(short + ": `oomtrace doctor` shows why, and what is lost")}})
	}
	s.at = ""

	return s.write(p)
}

func (s *Text) page() *page { return &page{width: s.opts.Width, color: s.opts.Color} }

// write writes a page as a whole.
func (s *Text) write(p *page) error {
	s.folded = nil

	if s.opts.ASCII {
		return s.out.write([]byte(phrase.ASCII(p.buf.String())))
	}

	return s.out.write(p.buf.Bytes())
}

func (s *Text) sections(inc *events.Incident) []section {
	if s.opts.full() {
		return newBlock(inc, s.loc).sections()
	}

	return newStory(inc, &s.opts).sections()
}

// clock is the time in a headline. Where the headline has no date, a line of its own has it when
// the day is another than that of the line before, and before the first line unless that is today.
func (s *Text) clock(p *page, t time.Time) string {
	switch {
	case s.opts.Width == 0:
		return phrase.When(t, "2006-01-02 15:04:05.000000", s.loc)
	case s.opts.Dates:
		return phrase.When(t, "2006-01-02 15:04:05", s.loc)
	}

	if day, changes := s.day.next(t, s.loc); changes {
		p.buf.WriteString(p.style(day, styleLabel) + "\n")
	}

	return phrase.When(t, "15:04:05", s.loc)
}

func (s *Text) headline(p *page, inc *events.Incident, more ...string) {
	at, outcome := s.clock(p, inc.Time), phrase.Outcome(inc.Scope, inc.Outcome)
	items := slices.Concat([]string{subject(inc), s.shortage(inc), s.shortID(inc.ID)}, more)

	if !s.opts.full() && inc.Scope != events.ScopeUser {
		items[1] = "" // the summary has what was short
		others := apart(append([]string{at + " " + outcome}, items...)...)
		items[1] = s.headlinePlace(inc, s.opts.Width-phrase.Width(strings.Join(others.items, others.sep)+others.sep))
	}

	p.head(at, outcome, outcomeStyle(inc), apart(items...))
}

// minHeadlinePlace is how much of a place still helps: with less room the headline is wrapped.
const minHeadlinePlace = 20

// headlinePlace is where the victim was, in so many columns if lines are limited at all: a headline
// is one line if it can be.
func (s *Text) headlinePlace(inc *events.Incident, columns int) string {
	where := phrase.Sanitize(answer.Where(inc))
	if s.opts.Width == 0 || columns < minHeadlinePlace {
		return where
	}

	return phrase.ClipMiddle(where, columns)
}

// reference names the incident that an update belongs to.
func (s *Text) reference(p *page, u *events.Update) {
	if u.After == nil {
		p.head(s.clock(p, u.Change.Time), "UPDATE", styleLabel, list("to incident "+u.Change.ID))
		return
	}

	s.headline(p, u.After, "(continued)")
}

func (s *Text) shortage(inc *events.Incident) string {
	if inc.Scope == events.ScopeUser {
		text := phrase.KilledBy(inc.Killer)
		if inc.Follows != nil {
			text += ", after an OOM kill"
		}

		return text
	}

	if inc.Scope == events.ScopeGlobal && inc.NodeState == nil && slices.Contains(inc.Unknown, "constraint") {
		return "out of memory" // or some of its NUMA nodes, or nothing was (sysrq-f)
	}

	return phrase.Shortage(inc.Scope, inc.Limiter)
}

// subject is the first victim, of an outcome that has one.
func subject(inc *events.Incident) string {
	if len(inc.Victims) > 0 {
		return phrase.Victim(&inc.Victims[0], inc.Killer)
	}

	if inc.Outcome == events.OutcomeKilled {
		return "victim unknown"
	}

	return ""
}

func statusItems(st *events.Status) group {
	var items []string
	if st.Tier != "" {
		items = append(items, "attach mode "+string(st.Tier))
	}

	if st.CgroupMode != "" {
		items = append(items, "cgroup "+st.CgroupMode)
	}

	if st.KernelRelease != "" {
		items = append(items, "kernel "+st.KernelRelease)
	}

	if st.PageSizeBytes > 0 {
		items = append(items, fmt.Sprintf("%d KiB pages", st.PageSizeBytes/1024))
	}

	count := func(n *uint64, thing string) {
		if n != nil {
			items = append(items, phrase.Plural(*n, thing))
		}
	}
	if st.Shown == nil || st.Incidents == nil {
		count(st.Incidents, "incident")
		count(st.Victims, "victim")
	} else {
		items = append(items, fmt.Sprintf("%d of %s shown", *st.Shown, phrase.Plural(*st.Incidents, "incident")))
		if st.Victims != nil {
			items = append(items, phrase.Plural(*st.Victims, "victim")+" in total")
		}
	}

	count(st.Lost, "lost record")

	return list(append(items, phrase.NonEmpty(st.Text)...)...)
}

// lesserHooks names the hooks that are not attached in the best way, by the way that they
// are.
func lesserHooks(hooks []events.Hook) string {
	var ways, parts []string
	names := map[string][]string{}

	for _, h := range hooks {
		way := "not attached"
		if h.Tier != "" {
			way = "attached by " + string(h.Tier)
		}

		if h.Why == "" && h.Tier != "" {
			continue
		}

		if names[way] == nil {
			ways = append(ways, way)
		}
		names[way] = append(names[way], h.Name)
	}

	for _, way := range ways {
		parts = append(parts, strings.Join(names[way], ", ")+" "+way)
	}

	return strings.Join(parts, "; ")
}

func hookLine(h events.Hook) group {
	tier := string(h.Tier)
	if tier == "" {
		tier = "not attached"
	}

	item := fmt.Sprintf("%s: %s", h.Name, tier)
	if h.Why != "" {
		item += " (" + h.Why + ")"
	}

	return prose(item)
}
