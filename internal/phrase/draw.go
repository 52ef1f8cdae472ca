// SPDX-License-Identifier: Apache-2.0

package phrase

import "strings"

// Bar draws a share of one in at most so many columns, by eighths of a column. More than one fills
// it.
func Bar(share float64, columns int) string {
	const eighths = "▏▎▍▌▋▊▉"

	steps := int(min(max(share, 0), 1)*float64(8*max(columns, 0)) + 0.5)
	full := strings.Repeat("█", steps/8)

	if rest := steps % 8; rest > 0 {
		full += string([]rune(eighths)[rest-1])
	}

	return full
}

// ASCII replaces what a terminal without UTF-8 cannot show by as many columns of what it can. Escape
// sequences stay as they are.
func ASCII(text string) string {
	var b strings.Builder

	for _, r := range text {
		switch plain, ok := plainRunes[r]; {
		case r < 0x80:
			b.WriteRune(r)
		case ok:
			b.WriteByte(plain)
		default:
			b.WriteString(strings.Repeat("?", max(Width(string(r)), 0)))
		}
	}

	return b.String()
}

// plainRunes are the runes that texts are drawn with, each of one column.
var plainRunes = map[rune]byte{
	'…': '~', '·': '-', '×': 'x', 'µ': 'u', '±': '~', '▸': '>', '→': '>', '←': '<', '↓': 'v', '↑': '^', '✓': '+', '✗': 'x',
	'█': '#', '▉': '#', '▊': '#', '▋': '#', '▌': '=', '▍': '=', '▎': '-', '▏': '-',
	'▁': '.', '▂': '.', '▃': ':', '▄': '-', '▅': '=', '▆': '+', '▇': '*',
	'“': '"', '”': '"', '’': '\'', '–': '-', '─': '-', '│': '|',
}
