// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// TextOptions configures the text format. The zero value is wide, without colour,
// in local time.
type TextOptions struct {
	// Width is the columns that no line goes beyond; less than 40 counts as 40.
	// 0 has no limit and leaves nothing out: whole ids and paths, all victims,
	// values that are zero, and the date.
	Width    int
	Color    bool
	Location *time.Location // nil: local time
}

const minWidth = 40

// NewText shows each incident as a block: a headline, and below it indented
// sections. The headline is written at the first victim, without waiting; the
// block follows and repeats it only if other lines came between. So do lines of
// later updates.
func NewText(w io.Writer, opts TextOptions) sink.Sink {
	if opts.Width > 0 {
		opts.Width = max(opts.Width, minWidth)
	}

	return &textSink{out: output{w: w, what: "text"}, opts: opts, loc: zone(opts.Location)}
}

type textSink struct {
	out  output
	opts TextOptions
	loc  *time.Location

	// at is the id of the incident that the last line belongs to, shown the scope in
	// the headline above it.
	at    string
	shown events.Scope
}

func (s *textSink) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Headline:
		return s.announce(l)
	case *events.Incident:
		return s.incident(l)
	case *events.Update:
		return s.update(l)
	case *events.StallLine:
		return s.stall(l)
	case *events.PressureLine:
		return s.pressure(l)
	case *events.Lost:
		return s.lost(l)
	case *events.Status:
		return s.status(l)
	}

	return s.out.err
}

func (s *textSink) announce(h *events.Headline) error {
	p := s.page()
	p.head(s.clock(h.Time), phrase.Outcome("", events.OutcomeKilled), styleAlarm,
		apart(phrase.Task(h.Comm, h.PID), phrase.Shortage(h.Scope, nil)))
	s.at, s.shown = h.ID, h.Scope

	return s.out.write(p.buf.Bytes())
}

func (s *textSink) incident(inc *events.Incident) error {
	p := s.page()
	if s.at != inc.ID || inc.Outcome != events.OutcomeKilled {
		s.headline(p, inc)
	} else if s.shown != inc.Scope {
		p.section(section{"scope", []group{list(s.shortage(inc))}})
	}

	for _, sec := range s.block(inc).sections() {
		p.section(sec)
	}
	s.at = inc.ID

	return s.out.write(p.buf.Bytes())
}

// update prints the sections that the update changed, and of victims only what is new
// of each.
func (s *textSink) update(u *events.Update) error {
	before, after := u.Before, u.After
	if after == nil {
		before, after = &events.Incident{ID: u.Change.ID}, &events.Incident{ID: u.Change.ID}
		events.Merge(after, u.Change)
	}

	news := difference(s.block(before).sections(), s.block(after).sections())
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

	return s.out.write(p.buf.Bytes())
}

func (s *textSink) stall(l *events.StallLine) error {
	p := s.page()

	items := []string{
		phrase.Task(l.Task.Comm, l.Task.PID), phrase.Stall(l.What) + " " + phrase.Duration(l.DurationNS),
		phrase.Size(l.ReclaimedBytes) + " reclaimed",
	}
	if l.Task.Cgroup != nil && l.Task.Cgroup.Path != "" {
		items = append(items, phrase.ShortPath(l.Task.Cgroup.Path, 40))
	}

	if l.Limiter != nil && l.Limiter.Path != "" && (l.Task.Cgroup == nil || l.Task.Cgroup.ID != l.Limiter.ID) {
		items = append(items, "for the limit of "+phrase.ShortPath(l.Limiter.Path, 40))
	}

	p.head(s.clock(l.Time), "stall", styleLabel, list(items...))
	s.at = ""

	return s.out.write(p.buf.Bytes())
}

func (s *textSink) pressure(l *events.PressureLine) error {
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

	p.head(s.clock(l.Time), "pressure", styleWarn, list(append(items, name)...))
	s.at = ""

	return s.out.write(p.buf.Bytes())
}

func (s *textSink) lost(l *events.Lost) error {
	p := s.page()

	what := phrase.Plural(l.Count, "record") + " (" + phrase.Spaced(l.What) + ")"
	if l.What == events.LostRecording {
		what = phrase.Plural(l.Count, "line") + " not recorded"
	}

	items := []string{what}
	if l.Cgroup != nil && l.Cgroup.Path != "" {
		items = append(items, "last of "+phrase.ShortPath(l.Cgroup.Path, 40))
	}

	p.head(s.clock(l.Time), "LOST", styleAlarm, list(append(items, "output may be incomplete")...))
	s.at = ""

	return s.out.write(p.buf.Bytes())
}

func (s *textSink) status(st *events.Status) error {
	p := s.page()
	p.head(s.clock(st.Time), st.Phase, styleLabel, statusItems(st))

	switch short := lesserHooks(st.Hooks); {
	case s.opts.Width == 0:
		for _, h := range st.Hooks {
			p.section(section{"hook", []group{hookLine(h)}})
		}
	case short != "":
		p.section(section{"hooks", []group{prose(short + ": `oomtrace doctor` shows why, and what is lost")}})
	}
	s.at = ""

	return s.out.write(p.buf.Bytes())
}

func (s *textSink) page() *page { return &page{width: s.opts.Width, color: s.opts.Color} }

func (s *textSink) block(inc *events.Incident) block {
	return newBlock(inc, s.opts.Width, s.loc)
}

func (s *textSink) clock(t time.Time) string {
	if s.opts.Width == 0 {
		return phrase.When(t, "2006-01-02 15:04:05.000000", s.loc)
	}

	return phrase.When(t, "15:04:05.000", s.loc)
}

func (s *textSink) headline(p *page, inc *events.Incident, more ...string) {
	items := append([]string{subject(inc), s.shortage(inc)}, more...)
	p.head(s.clock(inc.Time), phrase.Outcome(inc.Scope, inc.Outcome), outcomeStyle(inc), apart(items...))
}

// reference names the incident that an update belongs to.
func (s *textSink) reference(p *page, u *events.Update) {
	if u.After == nil {
		p.head(s.clock(u.Change.Time), "UPDATE", styleLabel, list("to incident "+u.Change.ID))
		return
	}

	s.headline(p, u.After, "(continued)")
}

func (s *textSink) shortage(inc *events.Incident) string {
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
