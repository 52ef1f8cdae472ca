// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxPrefix bounds what may stand before a message.
	maxPrefix = 256
	// maxPrefixes is how many prefixes of a log are remembered: it may be of many sources.
	maxPrefixes = 16
)

// prefix is what stands before the messages of a log whose format is not known: text that
// all lines share, with places for what changes from line to line.
type prefix struct {
	parts []part
	// stamped is true if a prefix of a known format follows.
	stamped bool
	// source joins the names in the prefix: one log may have lines of several hosts or
	// containers.
	source string
	// quote is the quotation mark that the message stands in, 0 if there is none.
	quote byte
}

// part is a part of a prefix: text, or what takes its place.
type part struct {
	is   partKind
	text string
}

type partKind byte

const (
	isText   partKind = iota
	isBlanks          // of any width
	isNumber          // digits
	isHex             // a number or an id in hexadecimal
	isWord            // the severity of a message
)

// newPrefix returns the prefix of which text is an example.
func newPrefix(text string, stamped bool) *prefix {
	p := &prefix{stamped: stamped}
	if text == "" {
		return p
	}

	last := text[len(text)-1]
	if last == '"' || last == '\'' {
		p.quote = last
	}

	if isAlnum(last) { // where it ends cannot be seen
		p.parts = []part{{isText, text}}
	} else {
		p.parts = splitPrefix(text)
	}

	if !isPrompt(text) {
		p.source = sourceOf(p.parts)
	}

	return p
}

// isPrompt reports whether text is what stood on a terminal, or started a block of a page,
// before the kernel's first line: the lines after it have none, and are of the same source.
func isPrompt(text string) bool {
	for _, end := range []string{" login: ", "<pre>", "<code>", "$ ", "# "} {
		if strings.HasSuffix(text, end) {
			return true
		}
	}

	return false
}

// splitPrefix splits the text of a prefix. The blanks at its end are text: the message may
// start with blanks of its own.
func splitPrefix(text string) []part {
	var parts []part

	for text != "" {
		n := runOf(text)
		one := part{isText, text[:n]}

		switch {
		case isBlank(text[0]) && n < len(text):
			one.is = isBlanks
		case isAlnum(text[0]):
			one.is = wordKind(one.text, parts)
		}

		parts, text = append(parts, one), text[n:]
	}

	return parts
}

// runOf returns the length of the word, of the blanks, or of the mark at the start of text.
func runOf(text string) int {
	class := func(c byte) int {
		switch {
		case isBlank(c):
			return 1
		case isAlnum(c):
			return 2
		}

		return 3
	}

	n := 1
	for n < len(text) && class(text[n]) == class(text[0]) && class(text[0]) < 3 {
		n++
	}

	return n
}

// wordKind returns whether a word may change: numbers may, unless they end a name, as in
// node-1; ids and severities may.
func wordKind(word string, before []part) partKind {
	switch {
	case isDigits(word) && endsName(before):
		return isText
	case isDigits(word):
		return isNumber
	case len(word) >= 12 && strings.Trim(word, "0123456789abcdef") == "":
		return isHex
	case severities[strings.ToLower(word)]:
		return isWord
	}

	return isText
}

func endsName(parts []part) bool {
	n := len(parts)
	return n > 1 && parts[n-1].text == "-" && parts[n-2].is == isText && hasLetter(parts[n-2].text)
}

func hasLetter(s string) bool { return strings.IndexFunc(s, unicode.IsLetter) >= 0 }

// sourceOf joins the words of a prefix that do not change.
func sourceOf(parts []part) string {
	var names []string

	for i, p := range parts {
		if p.is == isText && (hasLetter(p.text) || isDigits(p.text) && endsName(parts[:i])) {
			names = append(names, p.text)
		}
	}

	return strings.Join(names, " ")
}

// match returns the length of the prefix at the start of text.
func (p *prefix) match(text string) (n int, ok bool) {
	for i, one := range p.parts {
		rest := text[n:]
		width := 0

		switch one.is {
		case isBlanks:
			width = len(rest) - len(strings.TrimLeft(rest, " \t"))
			ok = width > 0 || i == 0
		case isNumber:
			width = len(rest) - len(strings.TrimLeft(rest, "0123456789"))
			ok = width > 0
		case isHex:
			width = len(rest) - len(strings.TrimLeft(rest, "0123456789abcdef"))
			ok = width >= 12
		case isWord:
			if rest != "" {
				width = runOf(rest)
			}
			ok = severities[strings.ToLower(rest[:width])]
		default:
			width, ok = len(one.text), strings.HasPrefix(rest, one.text)
		}

		if !ok {
			return 0, false
		}
		n += width
	}

	return n, true
}

// matches reports whether text is a prefix like this one, and nothing else.
func (p *prefix) matches(text string) bool {
	n, ok := p.match(text)
	return ok && n == len(text)
}

// unquote removes what ends a message in quotation marks.
func (p *prefix) unquote(text string) string {
	if p.quote == 0 {
		return text
	}

	end := strings.LastIndexByte(text, p.quote)
	if end < 0 {
		return text
	}

	return strings.ReplaceAll(strings.ReplaceAll(text[:end], `\"`, `"`), `\\`, `\`)
}

// proseWords counts the words of a prefix that a sentence could consist of: letters alone,
// neither a severity nor a part of a date.
func proseWords(text string) int {
	n := 0

	for word := range strings.FieldsSeq(text) {
		word = strings.ToLower(strings.Trim(word, `[](){}<>|:;,.-*#="'`+"`"))
		if utf8.RuneCountInString(word) < 2 || strings.IndexFunc(word, func(c rune) bool { return !unicode.IsLetter(c) }) >= 0 {
			continue
		}

		if !severities[word] && !dateWords[word] && localMonths[word] == 0 {
			n++
		}
	}

	return n
}

// isLabel reports whether the text before a message looks like something that a program
// writes before each line, not like the start of a sentence.
func isLabel(text string) bool {
	return text != "" && !isAlnum(text[len(text)-1]) && proseWords(text) == 0 && !strings.ContainsAny(text, "\"'`")
}

// severities are the words for how important a message is, of syslog and of common loggers.
var severities = map[string]bool{
	"emerg": true, "panic": true, "alert": true, "crit": true, "critical": true, "fatal": true, "err": true, "error": true,
	"warn": true, "warning": true, "notice": true, "info": true, "debug": true, "trace": true, "kern": true, "kernel": true,
}

var dateWords = map[string]bool{
	"mon": true, "tue": true, "wed": true, "thu": true, "fri": true, "sat": true, "sun": true,
	"utc": true, "gmt": true, "am": true, "pm": true, "stdout": true, "stderr": true,
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}
