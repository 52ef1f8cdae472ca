// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// group is what belongs on one line: items, with a separator between them.
type group struct {
	items []string
	sep   string

	// style is a colour for all of it, such as styleAlarm; empty: none.
	style string
	// key identifies the subject of the group in other versions of its section; empty
	// where nobody compares them. title is the subject in words, where the first item
	// has more than that.
	key, title string
}

func list(items ...string) group { return group{items: items, sep: ", "} }

// apart is for items of different kinds; empty ones are left out.
func apart(items ...string) group { return group{items: phrase.NonEmpty(items...), sep: "  "} }

// prose is running text, broken between words.
func prose(text string) group {
	return group{items: strings.Fields(phrase.Sanitize(text)), sep: " "}
}

// styled is a group in a colour.
func styled(g group, style string) group {
	g.style = style
	return g
}

func (g group) isEmpty() bool { return len(g.items) == 0 }

func (g group) equal(other group) bool {
	return g.sep == other.sep && slices.Equal(g.items, other.items)
}

// section is a labelled part of a block.
type section struct {
	label  string
	groups []group
	bare   bool // the label is not shown
}

// sections are those of a block, in order.
type sections []section

// add leaves out empty groups, and a section without others.
func (s *sections) add(label string, groups ...group) {
	groups = slices.DeleteFunc(groups, group.isEmpty)
	if len(groups) > 0 {
		*s = append(*s, section{label: label, groups: groups})
	}
}

// addBare is add for a section whose label is not shown.
func (s *sections) addBare(label string, groups ...group) {
	before := len(*s)
	s.add(label, groups...)

	if len(*s) > before {
		(*s)[before].bare = true
	}
}

const (
	labelColumns = 10
	indent       = 2 + labelColumns + 1
)

// page lays lines out. All text goes through Sanitize here, so no caller can forget it.
type page struct {
	width int // columns; 0: no limit
	color bool
	buf   bytes.Buffer
}

// The colours (ECMA-48, select graphic rendition).
const (
	styleAlarm  = "1;31" // bold, red
	styleWarn   = "1;33" // bold, yellow
	styleLabel  = "2"    // faint
	styleStrong = "1"    // bold
	styleAdvice = "36"   // cyan
)

// outcomeStyle is the colour of an incident's headline.
func outcomeStyle(inc *events.Incident) string {
	if inc.Scope == events.ScopeUser {
		return styleWarn
	}

	switch inc.Outcome {
	case events.OutcomeKilled, events.OutcomeNoKillable, events.OutcomeOOMKillDisabled:
		return styleAlarm
	}

	return styleWarn
}

func (p *page) style(s, code string) string { return p.begin(code) + s + p.end(code) }

// begin starts a colour, if the page has any; end returns to none.
func (p *page) begin(code string) string {
	if !p.color || code == "" {
		return ""
	}

	return "\x1b[" + code + "m"
}

func (p *page) end(code string) string {
	if !p.color || code == "" {
		return ""
	}

	return "\x1b[0m"
}

// head writes a line that starts with a time and a coloured word.
func (p *page) head(at, word, style string, g group) {
	word = phrase.Sanitize(word)
	p.wrap(at+" "+p.style(word, style), phrase.Width(at)+1+phrase.Width(word), "  ", g, strings.Repeat(" ", indent))
}

// section writes a section, each of its groups on a line of its own, and so a label that
// is longer than its columns. A bare one is indented by two columns.
func (p *page) section(s section) {
	if s.bare {
		for _, g := range s.groups {
			p.wrap("  ", 2, "", g, "  ")
		}

		return
	}

	label := s.label
	if len(label) > labelColumns {
		p.buf.WriteString("  " + p.style(label, styleLabel) + "\n")
		label = ""
	}
	label += strings.Repeat(" ", labelColumns-len(label))

	before, hang := "  "+p.style(label, styleLabel), strings.Repeat(" ", indent)
	if len(s.groups) > 1 {
		hang += "  " // sets a wrapped line apart from the next group
	}

	for i, g := range s.groups {
		if i > 0 {
			before = strings.Repeat(" ", indent-1)
		}

		p.wrap(before, indent-1, " ", g, hang)
	}
}

// wrap writes a group behind a prefix of so many columns. It breaks lines between items,
// and within an item only where that is longer than a line.
func (p *page) wrap(prefix string, columns int, gap string, g group, hang string) {
	p.buf.WriteString(prefix + p.begin(g.style))
	free, lead := len(hang), gap
	next := p.end(g.style) + "\n" + hang + p.begin(g.style)

	for i, item := range g.items {
		item = phrase.Sanitize(item)

		end := ""
		if i < len(g.items)-1 {
			end = strings.TrimRight(g.sep, " ")
		}

		if columns > free && !p.fits(columns, lead+item+end) {
			p.buf.WriteString(next)
			columns, lead = free, ""
		}

		for item != "" && !p.fits(columns, lead+item+end) {
			head, rest := breakAt(item, p.width-columns-len(lead))
			p.buf.WriteString(lead + strings.TrimRight(head, " ") + next)
			item, columns, lead = rest, free, ""
		}

		p.buf.WriteString(lead + item + end)
		columns += len(lead) + phrase.Width(item+end)

		lead = strings.TrimPrefix(g.sep, end)
		if end == "" {
			lead = g.sep
		}
	}

	p.buf.WriteString(p.end(g.style) + "\n")
}

func (p *page) fits(columns int, s string) bool {
	return p.width <= 0 || phrase.Fits(s, p.width-columns)
}

// breakAt splits an item that is longer than a line, if possible after a blank, bar or
// slash in the line's second half.
func breakAt(item string, columns int) (head, rest string) {
	head, rest = phrase.Cut(item, columns)
	if rest == "" { // only the separator did not fit
		head, rest = phrase.Cut(item, columns-1)
	}

	if at := strings.LastIndexAny(head, " |/") + 1; at > len(head)/2 {
		return item[:at], item[at:]
	}

	return head, rest
}

// Paragraph lays running text out in lines of at most width columns; 0 has no limit. The
// result is safe for a terminal and ends with a newline.
func Paragraph(text string, width int) string {
	p := page{width: width}
	p.wrap("", 0, "", prose(text), "")

	return p.buf.String()
}
