// SPDX-License-Identifier: Apache-2.0

package view

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter/pkg/twwidth"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// size is a number of bytes in binary units, with one decimal.
func size(bytes uint64) string { return phrase.Size(bytes) }

func scale(bytes uint64) (number, unit string) { return phrase.Scale(bytes) }

// maybe shows a size, or that it is not known.
func maybe(bytes *uint64) string {
	if bytes == nil {
		return "?"
	}

	return size(*bytes)
}

// ratio shows usage and limit, the unit once where it is the same. The words
// stand for a limit that is not a number.
func ratio(usage, limit *uint64, words string) string {
	if limit == nil {
		return maybe(usage) + "/" + words
	}

	if usage == nil {
		return "?/" + size(*limit)
	}

	n, unit := scale(*usage)
	if m, same := scale(*limit); same == unit {
		return n + "/" + m + " " + unit
	}

	return size(*usage) + "/" + size(*limit)
}

// shortSize is a size in at most 7 columns.
func shortSize(bytes *uint64) string {
	if bytes == nil {
		return "?"
	}
	n, unit := scale(*bytes)

	return n + strings.TrimSuffix(unit, "B")
}

// duration is a time in nanoseconds, as coarse as people read it.
func duration(ns uint64) string { return phrase.Duration(ns) }

// ranges writes numbers as the kernel does: 0-1,3.
func ranges(nodes []int) string {
	nodes = slices.Compact(slices.Sorted(slices.Values(nodes)))
	var parts []string

	for i := 0; i < len(nodes); {
		j := i
		for j+1 < len(nodes) && nodes[j+1] == nodes[j]+1 {
			j++
		}

		part := strconv.Itoa(nodes[i])
		if j > i {
			part += "-" + strconv.Itoa(nodes[j])
		}

		parts = append(parts, part)
		i = j + 1
	}

	return strings.Join(parts, ",")
}

// plural counts things: "1 victim", "2 victims".
func plural(n uint64, thing string) string {
	if n != 1 {
		thing += "s"
	}

	return strconv.FormatUint(n, 10) + " " + thing
}

// width is the columns that s takes on a terminal, whatever the locale says of
// characters of ambiguous width.
func width(s string) int { return twwidth.WidthWithOptions(s, twwidth.Options{}) }

func runeWidth(r rune) int {
	if r < utf8.RuneSelf { // controls do not come here
		return 1
	}

	return width(string(r))
}

// fits looks at no more of s than it needs: names may be long.
func fits(s string, columns int) bool {
	for _, r := range s {
		if columns -= runeWidth(r); columns < 0 {
			return false
		}
	}

	return true
}

// idColumns is how much of an id is shown where space is short.
const idColumns = 8

func shortID(id string) string {
	id = Sanitize(id)
	if width(id) <= idColumns {
		return id
	}
	head, _ := cut(id, idColumns)

	return head + "…"
}

// shortPath shows a path in max columns: first with the ids in it shortened,
// then without its middle, then only its tail.
func shortPath(path string, max int) string {
	path = Sanitize(path)
	if width(path) <= max {
		return path
	}
	path = shortIDs(path)

	parts := strings.Split(path, "/")
	if len(parts) < 4 {
		return tail(path, max)
	}
	head := parts[0] + "/" + parts[1] + "/…"

	free, from := max-width(head), len(parts)
	for from > 2 {
		if free -= 1 + width(parts[from-1]); free < 0 {
			break
		}

		from--
	}

	switch from {
	case 2: // with its ids shortened, all fits
		return path
	case len(parts):
		return tail(path, max)
	}

	return head + "/" + strings.Join(parts[from:], "/")
}

// shortIDs shortens the container ids and pod UIDs in a path.
func shortIDs(path string) string {
	const id = `([0-9a-f]{8})(?:[0-9a-f]{56}|(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})`
	return regexp.MustCompile(id).ReplaceAllString(path, "$1…")
}

// tail keeps the end of s that fits into max columns.
func tail(s string, max int) string {
	if fits(s, max) {
		return s
	}

	columns, from := 1, len(s)
	for from > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:from])
		if columns += runeWidth(r); columns > max {
			break
		}
		from -= n
	}

	return "…" + s[from:]
}

// clip keeps the begin of s that fits into max columns.
func clip(s string, max int) string {
	if fits(s, max) {
		return s
	}
	head, _ := cut(s, max-1)

	return head + "…"
}

// cut splits s after at most max columns, but takes one rune at least.
func cut(s string, max int) (head, rest string) {
	columns := 0
	for i, r := range s {
		columns += runeWidth(r)
		if columns > max && i > 0 {
			return s[:i], s[i:]
		}
	}

	return s, ""
}
