// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter/pkg/twwidth"
)

// Width is the number of terminal columns that s takes. The locale does not matter:
// characters of ambiguous width count as narrow.
func Width(s string) int { return twwidth.WidthWithOptions(s, twwidth.Options{}) }

func runeWidth(r rune) int {
	if r < utf8.RuneSelf { // sanitized text has no control characters
		return 1
	}

	return Width(string(r))
}

// Fits reports whether sanitized text takes at most so many columns. It reads no more
// of s than it needs, since names may be long.
func Fits(s string, columns int) bool {
	for _, r := range s {
		if columns -= runeWidth(r); columns < 0 {
			return false
		}
	}

	return true
}

// Cut splits sanitized text after at most so many columns, but after one rune at least.
func Cut(s string, columns int) (head, rest string) {
	used := 0
	for i, r := range s {
		used += runeWidth(r)
		if used > columns && i > 0 {
			return s[:i], s[i:]
		}
	}

	return s, ""
}

// Clip keeps the start of sanitized text, in at most so many columns.
func Clip(s string, columns int) string {
	if Fits(s, columns) {
		return s
	}
	head, _ := Cut(s, columns-1)

	return head + "…"
}

// ClipStart keeps the end of sanitized text, in at most so many columns.
func ClipStart(s string, columns int) string {
	if Fits(s, columns) {
		return s
	}

	used, from := 1, len(s)
	for from > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:from])
		if used += runeWidth(r); used > columns {
			break
		}
		from -= n
	}

	return "…" + s[from:]
}

// ClipMiddle keeps the start and the end of sanitized text, in at most so many columns:
// names of one kind differ at their ends.
func ClipMiddle(s string, columns int) string {
	if Fits(s, columns) {
		return s
	}
	head, rest := Cut(s, (columns-1)/2)

	return head + ClipStart(rest, columns-Width(head))
}

// nameRunes is how much of a name a sentence repeats. Names of units have up to 255
// bytes, paths up to 4096.
const nameRunes = 60

// ClipName shortens a name for a sentence and keeps its start. It counts runes: causes
// are part of the event contract, where text is not sanitized yet and has no columns.
func ClipName(name string) string {
	if utf8.RuneCountInString(name) <= nameRunes {
		return name
	}

	n := 0
	for i := range name {
		if n++; n == nameRunes {
			return name[:i] + "…"
		}
	}

	return name
}

// ClipPath is ClipName for a path: it keeps the end, where paths differ.
func ClipPath(path string) string {
	over := utf8.RuneCountInString(path) - nameRunes
	if over <= 0 {
		return path
	}

	for i := range path {
		if over--; over < -1 {
			return "…" + path[i:]
		}
	}

	return path
}

// idColumns is how much of a container's id or a pod's UID people compare by.
const idColumns = 8

// ShortID is a sanitized id without what people do not compare by.
func ShortID(id string) string {
	id = Sanitize(id)
	if Width(id) <= idColumns {
		return id
	}
	head, _ := Cut(id, idColumns)

	return head + "…"
}

var longIDs = regexp.MustCompile(`([0-9a-f]{8})(?:[0-9a-f]{56}|(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})`)

// ShortIDs shortens the container ids and pod UIDs in a path.
func ShortIDs(path string) string { return longIDs.ReplaceAllString(path, "$1…") }

// ShortPath is a sanitized path in at most so many columns: first the ids in it are
// shortened, then its middle is left out, then only its end is kept.
func ShortPath(path string, columns int) string {
	path = Sanitize(path)
	if Width(path) <= columns {
		return path
	}
	path = ShortIDs(path)

	parts := strings.Split(path, "/")
	if len(parts) < 4 {
		return ClipStart(path, columns)
	}
	head := parts[0] + "/" + parts[1] + "/…"

	free, from := columns-Width(head), len(parts)
	for from > 2 {
		if free -= 1 + Width(parts[from-1]); free < 0 {
			break
		}

		from--
	}

	switch from {
	case 2: // all of it fits with its ids shortened
		return path
	case len(parts):
		return ClipStart(path, columns)
	}

	return head + "/" + strings.Join(parts[from:], "/")
}

// ClipEnds keeps so many runes of a name's start and end, and marks the gap. Unlike
// [ClipMiddle] it bounds text that is not sanitized.
func ClipEnds(name string, runes int) string {
	if len(name) <= runes {
		return name
	}

	all := []rune(name)
	if len(all) <= runes {
		return name
	}

	return string(all[:runes/2]) + "…" + string(all[len(all)-(runes-runes/2):])
}
