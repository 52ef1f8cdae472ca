// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// cgroupText is all that is known of the cgroup that was opened.
func (m *model) cgroupText() string {
	s := m.snapshot

	i := slices.IndexFunc(s.Cgroups, func(c usage.Cgroup) bool { return c.ID == m.cgroupOfPage })
	if i < 0 {
		return "This cgroup was removed."
	}
	c := &s.Cgroups[i]

	var b strings.Builder
	line := func(label, text string) {
		wrapped := lipgloss.Wrap(phrase.Sanitize(text), max(m.width-11, 10), "/")

		for part := range strings.SplitSeq(wrapped, "\n") {
			fmt.Fprintf(&b, "%-10s %s\n", label, part)
			label = ""
		}
	}

	line("name", name(c))
	line("level", levelName(c.Level))
	line("path", c.Path)
	line("id", fmt.Sprint(c.ID))
	b.WriteString("\n")

	for at := i; at >= 0; at = s.Cgroups[at].Parent {
		label := ""
		if at == i {
			label = "limits"
		}

		fmt.Fprintf(&b, "%-10s %s\n", label, m.limitLine(s, at, at == c.Limiter))
	}

	b.WriteString("\n")

	for _, text := range [][2]string{
		{"headroom", headroomText(s, c)}, {"growth", growthText(c)}, {"stalls", m.stallText(c)},
		{"pressure", pressureText(s, c)}, {"refaults", refaultText(c)},
	} {
		line(text[0], text[1])
	}

	return strings.TrimRight(b.String(), "\n")
}

// limitLine is a cgroup above the one that was opened, with its limit.
func (m *model) limitLine(s *usage.Snapshot, at int, limits bool) string {
	c := &s.Cgroups[at]
	mark := "  "

	if limits {
		mark = "▸ "
	}

	text := size(c.UsedBytes) + " of ?"
	bars := ""

	switch {
	case c.LimitBytes.Known && c.LimitBytes.V == usage.NoLimit:
		text = size(c.UsedBytes) + ", no limit"
	case c.LimitBytes.Known:
		text = size(c.UsedBytes) + " of " + size(c.LimitBytes)

		if c.UsedBytes.Known {
			part := float64(c.UsedBytes.V) / float64(max(c.LimitBytes.V, 1))
			bars = "  " + bar(part, 10) + " " + phrase.Percent(part)
		}
	}

	nameWidth := min(max(m.width-54, 10), 40)

	return strings.TrimRight(mark+pad(short(name(c), nameWidth), nameWidth)+" "+pad(text, 20)+bars, " ")
}

func headroomText(s *usage.Snapshot, c *usage.Cgroup) string {
	switch {
	case c.Limiter < 0 && !c.LimitBytes.Known:
		return "not known: its limit or its usage cannot be read"
	case c.Limiter < 0:
		return "no limit of its own or of an ancestor: only the node's memory limits it"
	}

	text := phrase.Size(c.HeadroomBytes) + " below its own limit"
	if limiter := &s.Cgroups[c.Limiter]; limiter.ID != c.ID {
		text = phrase.Size(c.HeadroomBytes) + " below the limit of " + name(limiter)
	}

	if c.ToLimit.Known {
		text += ", reached in " + span(c.ToLimit.V) + " if growth continues"
	}

	return text
}

func growthText(c *usage.Cgroup) string {
	if !c.Growth.Known {
		return "not known yet"
	}

	return growth(c.Growth) + " per second, over 10 s"
}

func (m *model) stallText(c *usage.Cgroup) string {
	if !c.Stalled.Known {
		return "not traced"
	}

	text := share(c.Stalled) + " % of the last 3 s, summed over all tasks"
	if c.High.Known {
		text += "; throttled by memory.high " + share(c.High) + " %"
	}

	return text
}

func pressureText(s *usage.Snapshot, c *usage.Cgroup) string {
	switch {
	case s.Version == 1:
		return "cgroup v1 has none"
	case !c.PSISome.Known:
		return "not known"
	}

	return "some task stalled " + share(c.PSISome) + " % of the last second"
}

func refaultText(c *usage.Cgroup) string {
	if !c.Refaults.Known {
		return "not known"
	}

	return rate(c.Refaults) + " pages per second"
}

// helpText explains keys and columns, and has the warnings.
func (m *model) helpText() string {
	text := m.keysAndColumns()

	warnings := m.warnings
	if m.untraced != "" {
		warnings = append([]string{notTraced + m.untraced}, warnings...)
	}

	if len(warnings) > 0 {
		text += "\n\nWarnings:\n"
	}

	for _, w := range warnings {
		text += lipgloss.Wrap(phrase.Sanitize(w), m.width, " ") + "\n"
	}

	if m.unkept > 0 {
		text += fmt.Sprintf("and %d more\n", m.unkept)
	}

	return strings.TrimRight(text, "\n")
}

// keysAndColumns has the keys in two columns where the screen is wide enough.
func (m *model) keysAndColumns() string {
	const half, label = 38, 10

	var b strings.Builder

	keys := helpKeys
	for ; m.width >= 2*half && len(keys) > 1; keys = keys[2:] {
		b.WriteString(pad(pad(keys[0][0], 14)+keys[0][1], half) + pad(keys[1][0], 7) + keys[1][1] + "\n")
	}

	for _, key := range keys {
		b.WriteString(pad(key[0], 14) + key[1] + "\n")
	}

	b.WriteString("\n")

	for _, column := range helpColumns {
		name := column[0]
		for part := range strings.SplitSeq(lipgloss.Wrap(column[1], m.width-label, ""), "\n") {
			b.WriteString(pad(name, label) + part + "\n")
			name = ""
		}
	}

	return b.String() + "\n" + lipgloss.Wrap(helpSigns, m.width, "") + "\n\n" + lipgloss.Wrap(helpCache, m.width, "")
}

var helpKeys = [][2]string{
	{"Up Down j k", "select"}, {"s S", "next, previous order"},
	{"PgUp PgDn", "page up, page down"}, {"t", "tree or flat"},
	{"Home End g G", "first, last"}, {"p", "by cgroup, container or pod"},
	{"Tab", "cgroups or kills"}, {"/", "filter by name or path; Esc: all"},
	{"Enter", "open; Esc: back"}, {"Space", "pause the cgroups; q: quit"},
}

var helpColumns = [][2]string{
	{"USED", "memory in use, descendants included"},
	{"LIMIT", "the nearest limit; ^ marks that of an ancestor"},
	{"HEADROOM", "what is left below it; FULL is how much of it is used"},
	{"STALL%", "time in which tasks stalled for memory, over 3 s; above 100 % where several stalled at once"},
	{"GROWTH/s", "growth of USED over 10 s"},
	{"LIMIT IN", "time until LIMIT is reached, if its cgroup keeps growing"},
	{"HIGH%", "time in which tasks were throttled by memory.high (cgroup v2)"},
	{"PSI%", "time in which some task stalled, as the kernel counts it (cgroup v2)"},
	{"REFLT/s", "reclaimed pages that were needed again"},
}

const (
	helpSigns = "?  unknown    -  none    yellow, red: near, at the limit"
	helpCache = "Page cache fills any limit: without stalls, little headroom is harmless."
)
