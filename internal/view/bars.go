// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"strings"
)

// bar draws a share of a whole in so many columns, by eighths of a column. More than the whole
// fills it.
func bar(part, whole uint64, columns int) string {
	if whole == 0 || columns <= 0 {
		return ""
	}

	const eighths = "▏▎▍▌▋▊▉"

	steps := int(min(float64(part)/float64(whole), 1)*float64(8*columns) + 0.5)
	full := strings.Repeat("█", steps/8)

	if rest := steps % 8; rest > 0 {
		full += string([]rune(eighths)[rest-1])
	}

	return full
}

// percent is a share of a whole.
func percent(part, whole uint64) string {
	if whole == 0 {
		return ""
	}

	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}

// plain replaces what a terminal without UTF-8 cannot show. Names that it cannot show keep
// their length.
func plain(line []byte) []byte {
	var out []byte

	for _, r := range string(line) {
		if r < 0x80 {
			out = append(out, byte(r))
			continue
		}

		if s, ok := plainRunes[r]; ok {
			out = append(out, s...)
			continue
		}

		out = append(out, '?')
	}

	return out
}

// plainRunes are the runes that the formats draw with. Each takes as many columns as its
// replacement, so that columns stay aligned.
var plainRunes = map[rune]string{
	'…': "~", '·': "-", '×': "x", 'µ': "u", '▸': ">", '→': ">", '←': "<", '✓': "+", '✗': "x",
	'█': "#", '▉': "#", '▊': "#", '▋': "#", '▌': "=", '▍': "=", '▎': "-", '▏': "-",
	'▁': ".", '▂': ".", '▃': ":", '▄': "-", '▅': "=", '▆': "+", '▇': "*",
	'“': `"`, '”': `"`, '’': "'", '–': "-",
}
