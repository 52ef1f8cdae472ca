// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strings"
	"unicode/utf8"
)

// A mail, a ticket or a copy from a terminal breaks long lines at a width. The rest of a line stands
// on the next ones, without the prefix. They are joined again where that is certain: the first is not
// complete by its own form, or as wide as another that was wrapped, no other line of a log begins
// like the next, and together they are complete. Else the line is taken for a cut one.

// wrapped is a line that may go on.
type wrapped struct {
	number int // of the first
	width  int
	parts  []string
}

// maxParts bounds the parts of a wrapped line. The kernel's own lines end at 1024 bytes.
const maxParts = 32

// unwrap takes in a line of a file, and passes on whole ones.
func (p *parser) unwrap(text string, torn bool) error {
	width := utf8.RuneCountInString(text)

	if p.held != nil {
		if p.held.goesOn(text, width) {
			p.held.parts = append(p.held.parts, text)
			if width == p.held.width && len(p.held.parts) < maxParts && !torn {
				return nil
			}

			return p.release()
		}

		if err := p.release(); err != nil {
			return err
		}

		if !p.matters([]byte(text)) {
			return nil
		}
	}

	if !torn && width >= narrowest && !strings.HasPrefix(text, "{") && (width == p.wrapWidth || cutShort(messageOf(text))) {
		p.held = &wrapped{number: p.stats.Lines, width: width, parts: []string{text}}
		return nil
	}

	return p.whole(text, p.stats.Lines, width, torn)
}

// matters reports whether a line can belong to a report. The words that show it may be on the next
// lines, where lines are wrapped.
func (p *parser) matters(text []byte) bool {
	return p.unsettled > 0 || len(p.decoder.held) > 0 || relevant(text) || p.wrapWidth > 0 && utf8.RuneCount(text) == p.wrapWidth
}

// release passes on the line that was held.
func (p *parser) release() error {
	h := p.held
	if h == nil {
		return nil
	}

	p.held = nil

	joined := strings.Join(h.parts, "")
	if len(h.parts) > 1 && !cutShort(messageOf(joined)) {
		p.wrapWidth = h.width
		return p.whole(joined, h.number, 0, false)
	}

	for i, part := range h.parts {
		if err := p.whole(part, h.number+i, utf8.RuneCountInString(part), false); err != nil {
			return err
		}
	}

	return nil
}

// goesOn reports whether a line can be the rest of the one before: it does not begin as that, or as
// another message.
func (h *wrapped) goesOn(text string, width int) bool {
	if text == "" || width > h.width {
		return false
	}

	first := h.parts[0]
	prefix := first[:len(first)-len(messageOf(first))]

	if len(prefix) > 0 {
		return len(text) < len(prefix) || shape(text[:len(prefix)]) != shape(prefix)
	}

	return !startsMessage(text)
}

// shape is what a prefix has in common with that of other lines: not its digits, of which blanks
// may stand in the place.
func shape(prefix string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= '0' && c <= '9', c == ' ':
			return '0'
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			return 'a'
		}

		return c
	}, prefix)
}

// messageStarts are the starts of shapes, without the rest of the line, which may be on the next
// ones; and of lines that no shape is needed for, as they follow one that has it.
var messageStarts = func() []string {
	starts := []string{
		"Call Trace:", "Call trace:", "Mem-Info:", "lowmem_reserve[]:", "Free swap ", "Total swap ", "Swap cache stats:",
	}

	for _, s := range shapes {
		if s.start != "[" { // rows of the table and times start with it as well
			starts = append(starts, s.start)
		}
	}

	return starts
}()

// startsMessage reports whether a text begins like a message of a report.
func startsMessage(text string) bool {
	for _, start := range messageStarts {
		if strings.HasPrefix(text, start) {
			return true
		}
	}

	_, _, stat := statOf(text)
	word, _, _ := strings.Cut(text, " ")

	return stat || isDigits(word) || strings.HasPrefix(text, " ") || strings.HasPrefix(text, "[") ||
		strings.Contains(text, invokedWords)
}

// messageOf returns a line from its message on, the whole line if there is none that can be long.
func messageOf(line string) string {
	at := -1

	for _, start := range messageStarts {
		if i := strings.Index(line, start); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}

	if i := strings.Index(line, invokedWords); i >= 0 && (at < 0 || i < at) {
		at = strings.LastIndexByte(line[:i], ' ') + 1 // the name begins after it, or further before
	}

	if at < 0 {
		_, rest, found := strings.Cut(line, "] ")
		if found && strings.HasPrefix(line, "[") {
			return rest // dmesg
		}

		return line
	}

	return line[at:]
}
