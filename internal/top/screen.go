// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// The least size of a screen with something to read on it.
const (
	leastWidth  = 40
	leastHeight = 8
)

// styles give meaning to colours: red is at the limit, yellow is near it. Each also shows
// without colour.
type styles struct{ title, faint, bold, selected, critical, near lipgloss.Style }

func newStyles() styles {
	plain := lipgloss.NewStyle()

	return styles{
		title: plain.Reverse(true), faint: plain.Faint(true), bold: plain.Bold(true), selected: plain.Bold(true),
		critical: plain.Foreground(lipgloss.Red).Bold(true), near: plain.Foreground(lipgloss.Yellow),
	}
}

// View implements tea.Model.
func (m *model) View() tea.View {
	text := m.screen()
	if m.opts.ASCII {
		text = phrase.ASCII(text)
	}

	view := tea.NewView(text)
	view.AltScreen = true

	return view
}

func (m *model) screen() string {
	if m.width < leastWidth || m.height < leastHeight {
		return fmt.Sprintf("The terminal is too small:\nmake it %dx%d.", leastWidth, leastHeight)
	}

	lines := m.head()

	if m.page != noPage {
		lines = append(lines, m.title(m.pageTitle()))
		lines = append(lines, strings.Split(m.body.View(), "\n")...)
	} else {
		lines = append(lines, m.lists()...)
	}

	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}

	return strings.Join(append(lines[:m.height-1], m.foot()), "\n")
}

// head is about the node and the trace.
func (m *model) head() []string {
	items := []string{"oomtrace top", m.opts.Node}
	at := ""

	if s := m.snapshot; s != nil {
		items = append(items, memory("memory", s.Node.TotalBytes, s.Node.AvailableBytes))
		if s.Node.SwapTotalBytes.V > 0 {
			items = append(items, memory("swap", s.Node.SwapTotalBytes, s.Node.SwapFreeBytes))
		}

		if s.Node.PSISome.Known {
			items = append(items, "PSI "+share(s.Node.PSISome)+" %")
		}
		at = s.Time.In(m.opts.Location).Format(time.TimeOnly)
	}

	first := m.fit(strings.Join(phrase.NonEmpty(items...), "  "), m.width-len(at)-1)
	first += strings.Repeat(" ", max(m.width-phrase.Width(first)-len(at), 0)) + at

	return []string{m.style.bold.Render(first), m.state()}
}

func memory(name string, total, free usage.Value[uint64]) string {
	if !total.Known || !free.Known {
		return name + " ?"
	}
	used := total.V - min(free.V, total.V)

	return fmt.Sprintf("%s %s %.0f %%", name, phrase.Ratio(&used, &total.V, ""), 100*float64(used)/float64(max(total.V, 1)))
}

// notTraced is before the reason.
const notTraced = "kills and stalls are not traced: "

// state is what is known of kills, and what is not seen.
func (m *model) state() string {
	items := []string{phrase.Plural(m.kills.killed, "OOM kill")}

	if n := m.kills.signals; n > 0 {
		items = append(items, phrase.Plural(n, "other SIGKILL"))
	}

	if n := m.kills.other; n > 0 {
		items = append(items, fmt.Sprintf("%d without a kill", n))
	}
	alarm := false

	if m.untraced == "" && m.tier != "" {
		items = append(items, "attach mode "+string(m.tier))
	}

	if m.kills.lost > 0 {
		items, alarm = append(items, phrase.Plural(m.kills.lost, "lost record")), true
	}

	if m.dropped > 0 {
		items, alarm = append(items, phrase.Plural(m.dropped, "line")+" dropped by this screen"), true
	}

	if s := m.snapshot; s != nil && s.LeftOut > 0 {
		items = append(items, fmt.Sprintf("%d cgroups left out", s.LeftOut))
	}

	if n := len(m.warnings) + m.unkept; n > 0 {
		items = append(items, phrase.Plural(n, "warning")+" (? shows them)")
	}

	if m.untraced != "" {
		items, alarm = []string{notTraced + m.untraced}, true
	}

	text := strings.Join(items, ", ")

	if m.untraced != "" && !phrase.Fits(text, m.width) {
		const rest = " (? shows it)"

		text = m.fit(text, m.width-len(rest)) + rest
	}

	text = m.fit(text, m.width)
	if alarm {
		return m.style.near.Render(text)
	}

	return text
}

// lists are the two lists.
func (m *model) lists() []string {
	cgroupRows, killRows := m.layout()

	if m.snapshot == nil {
		return []string{m.title("cgroups"), "reading the cgroups …"}
	}

	fit, nameWidth := columnsFor(m.snapshot, m.width)
	lines := []string{m.title(m.header(fit, nameWidth))}

	for i := m.cgroupTop; i < min(m.cgroupTop+cgroupRows, len(m.rows)); i++ {
		lines = append(lines, m.row(i, fit, nameWidth))
	}

	if len(m.rows) == 0 {
		lines = append(lines, "  "+m.nothing())
	}

	for len(lines) < cgroupRows+1 {
		lines = append(lines, "")
	}

	if killRows > 0 {
		lines = append(lines, m.killLines(killRows)...)
	}

	return lines
}

func (m *model) nothing() string {
	if m.hidden > 0 {
		return "no cgroup matches the filter"
	}

	return "no cgroups"
}

// title is a line in reverse, over the whole width.
func (m *model) title(text string) string {
	text = m.fit(text, m.width)
	return m.style.title.Render(text + strings.Repeat(" ", m.width-phrase.Width(text)))
}

func (m *model) header(fit []column, nameWidth int) string {
	mark := map[string]string{"HEADROOM": "headroom", "STALL%": "stall", "GROWTH/s": "growth", "USED": "used"}
	title := strings.ToUpper(m.arrange.by)

	if m.arrange.order == "name" {
		title += "↓"
	}

	var b strings.Builder
	fmt.Fprintf(&b, "  %s", pad(title, nameWidth))

	for _, c := range fit {
		title := c.title
		if c.title == "LIMIT" {
			title += " " // beside the mark of an ancestor's
		}

		if mark[c.title] == m.arrange.order {
			title = title[:min(len(title), c.width-1)] + "↓"
		}

		if c.title == "FULL" {
			b.WriteString(" " + pad(title, c.width))
		} else {
			b.WriteString(" " + padLeft(title, c.width))
		}
	}

	return b.String()
}

func (m *model) row(i int, fit []column, nameWidth int) string {
	r := m.rows[i]
	c := &m.snapshot.Cgroups[r.index]

	var b strings.Builder
	b.WriteString(m.mark(cgroupsPane, i == m.cgroupAt))
	b.WriteString(pad(nameCell(c, m.arrange.tree, r.depth, nameWidth), nameWidth))

	for _, col := range fit {
		text := col.cell(m.snapshot, c)
		if col.title == "FULL" {
			b.WriteString(" " + pad(text, col.width))
		} else {
			b.WriteString(" " + padLeft(text, col.width))
		}
	}

	switch dangerOf(m.snapshot, c) {
	case critical:
		return m.style.critical.Render(b.String())
	case near:
		return m.style.near.Render(b.String())
	}

	return b.String()
}

// mark is before each row: whether it is selected, and whether its list has the focus.
func (m *model) mark(p pane, selected bool) string {
	switch {
	case selected && m.focus == p:
		return "▸ "
	case selected:
		return "· "
	}

	return "  "
}

func (m *model) killLines(rows int) []string {
	list := m.kills.list

	count := ""
	if n := uint64(len(list)) + m.kills.leftOut; n > uint64(rows) {
		count = fmt.Sprintf(" %d-%d of %d", m.killTop+1, min(m.killTop+rows, len(list)), n)
	}

	widths := killColumns(m.width)
	lines := []string{m.title("  " + killLine(widths, "TIME", "KILLED"+count, "WHERE", "LIMIT", "WHY"))}

	if len(list) == 0 && m.untraced == "" {
		lines = append(lines, "  no kill since the start")
	}

	for i := m.killTop; i < min(m.killTop+rows, len(list)); i++ {
		k := &list[i]
		at := k.time().In(m.opts.Location).Format(time.TimeOnly)
		lines = append(lines, m.mark(killsPane, i == m.killAt)+
			killLine(widths, append([]string{at}, k.columns(widths[len(widths)-1])...)...))
	}

	return lines
}

// killColumns returns the widths of time, victim, place, limit and cause.
func killColumns(width int) []int {
	widths := []int{8, 17, 0, 13, 18}
	if width < 72 {
		widths = []int{8, 16, 0, 0, 12}
	}

	free := width - markColumns

	for _, w := range widths {
		if w > 0 {
			free -= w + 1
		}
	}

	if extra := free - 26; extra > 0 { // a place is read with that; a cause is a sentence
		widths[1] += extra / 5
		widths[4] += extra / 5 * 3
		free -= extra / 5 * 4
	}
	widths[2] = max(free, 0)

	return widths
}

func killLine(widths []int, cells ...string) string {
	var parts []string

	for i, text := range cells {
		if widths[i] == 0 {
			continue
		}

		text = phrase.Sanitize(text)
		if i == 2 {
			text = short(text, widths[i])
		}
		parts = append(parts, pad(phrase.Clip(text, widths[i]), widths[i]))
	}

	return strings.TrimRight(strings.Join(parts, " "), " ")
}

func (m *model) pageTitle() string {
	switch m.page {
	case helpPage:
		return "help"
	case cgroupPage:
		return "cgroup"
	}

	return "OOM kill"
}

// foot has the keys, or the filter that is being written.
func (m *model) foot() string {
	switch {
	case m.filtering:
		return m.filter.View() + m.style.faint.Render("  Enter keep  Esc undo")
	case m.page != noPage:
		text := "Esc back  ↑↓ PgUp PgDn scroll"
		if n := m.body.TotalLineCount(); n > m.body.Height() {
			text += fmt.Sprintf("  lines %d-%d of %d", m.body.YOffset()+1, min(m.body.YOffset()+m.body.Height(), n), n)
		}

		return m.style.faint.Render(m.fit(text, m.width))
	}

	var state []string
	if m.paused {
		state = append(state, "PAUSED")
	}

	if s := m.snapshot; s != nil {
		state = append(state, m.counts(s))
	}

	if m.arrange.filter != "" {
		state = append(state, "filter "+m.arrange.filter+" hides "+fmt.Sprint(m.hidden))
	}

	const keys = "q quit ? help s sort / filter t tree p by space pause"

	text := strings.Join(state, ", ")
	if rest := m.width - phrase.Width(phrase.Sanitize(text)) - 2; rest >= len("? help") {
		text = phrase.Sanitize(text) + "  " + fitWords(keys, rest)
	}

	return m.style.faint.Render(m.fit(text, m.width))
}

// counts is which rows are on the screen, and how many cgroups were not read for it.
func (m *model) counts(s *usage.Snapshot) string {
	rows, _ := m.layout()

	text := fmt.Sprintf("%d-%d of %d", min(m.cgroupTop+1, len(m.rows)), min(m.cgroupTop+rows, len(m.rows)), len(m.rows))
	if s.Read < len(s.Cgroups) {
		text += fmt.Sprintf(" (%d of %d cgroups read)", s.Read, len(s.Cgroups))
	}

	return text
}

// fitWords keeps the first hints of keys that fit: each is a key and a word.
func fitWords(text string, width int) string {
	words := strings.Fields(text)
	line := ""

	for pair := range slices.Chunk(words, 2) {
		longer := strings.TrimPrefix(line+"  "+strings.Join(pair, " "), "  ")
		if len(longer) > width {
			break
		}
		line = longer
	}

	return line
}

// fit sanitizes a text and cuts it to a width, with a mark where it does.
func (m *model) fit(text string, width int) string { return phrase.Clip(phrase.Sanitize(text), width) }

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-phrase.Width(text), 0))
}

func padLeft(text string, width int) string {
	return strings.Repeat(" ", max(width-phrase.Width(text), 0)) + text
}
