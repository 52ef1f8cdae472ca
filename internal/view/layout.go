// SPDX-License-Identifier: Apache-2.0

package view

import (
	"bytes"
	"strings"
)

// group is what belongs on one line: items, with a separator between them.
type group struct {
	items []string
	sep   string
}

func list(items ...string) group { return group{items, ", "} }

// apart is for items that are not of one kind; empty ones are left out.
func apart(items ...string) group { return group{appendSet(nil, items...), "  "} }

// prose is running text, broken between words.
func prose(text string) group { return group{strings.Fields(Sanitize(text)), " "} }

func (g group) text() string { return strings.Join(g.items, g.sep) }

// section is a labelled part of a block.
type section struct {
	label  string
	groups []group
}

const (
	labelColumns = 8
	indent       = 2 + labelColumns + 1
)

// page lays lines out and makes them safe: all text goes through Sanitize here,
// so that no caller can forget it.
type page struct {
	width int // columns; 0: no limit
	color bool
	buf   bytes.Buffer
}

// The colours (ECMA-48, select graphic rendition).
const (
	styleAlarm = "1;31" // bold, red
	styleWarn  = "1;33" // bold, yellow
	styleLabel = "2"    // faint
)

func (p *page) style(s, code string) string {
	if !p.color {
		return s
	}

	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// head writes a line that begins with a time and a word in colour.
func (p *page) head(at, word, style string, g group) {
	word = Sanitize(word)
	p.wrap(at+" "+p.style(word, style), width(at)+1+width(word), "  ", g, strings.Repeat(" ", indent))
}

// section writes the lines of a section: each group begins its own.
func (p *page) section(s section) {
	label := s.label + strings.Repeat(" ", max(0, labelColumns-len(s.label)))

	before, hang := "  "+p.style(label, styleLabel), strings.Repeat(" ", indent)
	if len(s.groups) > 1 {
		hang += "  " // tells what was wrapped from the next group
	}

	for i, g := range s.groups {
		if i > 0 {
			before = strings.Repeat(" ", indent-1)
		}

		p.wrap(before, indent-1, " ", g, hang)
	}
}

// wrap writes a group after what stands before it, taking columns, and breaks
// between items; within one only where it is longer than a line.
func (p *page) wrap(before string, columns int, gap string, g group, hang string) {
	p.buf.WriteString(before)
	free, lead := len(hang), gap

	for i, item := range g.items {
		item = Sanitize(item)

		end := ""
		if i < len(g.items)-1 {
			end = strings.TrimRight(g.sep, " ")
		}

		if columns > free && !p.fits(columns, lead+item+end) {
			p.buf.WriteString("\n" + hang)
			columns, lead = free, ""
		}

		for item != "" && !p.fits(columns, lead+item+end) {
			head, rest := breakAt(item, p.width-columns-len(lead))
			p.buf.WriteString(lead + strings.TrimRight(head, " ") + "\n" + hang)
			item, columns, lead = rest, free, ""
		}

		p.buf.WriteString(lead + item + end)
		columns += len(lead) + width(item+end)

		lead = strings.TrimPrefix(g.sep, end)
		if end == "" {
			lead = g.sep
		}
	}

	p.buf.WriteByte('\n')
}

func (p *page) fits(columns int, s string) bool {
	return p.width <= 0 || fits(s, p.width-columns)
}

// breakAt splits an item that is longer than a line, after a mark that may end
// one if there is such.
func breakAt(item string, columns int) (head, rest string) {
	head, rest = cut(item, columns)
	if rest == "" { // only the separator did not fit
		head, rest = cut(item, columns-1)
	}

	if at := strings.LastIndexAny(head, " |/") + 1; at > len(head)/2 {
		return item[:at], item[at:]
	}

	return head, rest
}
