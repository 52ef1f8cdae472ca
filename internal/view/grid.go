// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// grid is rows of cells for a block, the first of them the header. Numbers are aligned to
// the right.
type grid [][]string

// groups lays the rows out, one a line. The first columns, left in number, are aligned to
// the left, and so are words in the last one.
func (g grid) groups(left int) []group {
	widths := g.widths()

	groups := make([]group, 0, len(g))
	for _, row := range g {
		var line strings.Builder

		for c, cell := range row {
			if c > 0 {
				line.WriteString("  ")
			}

			pad := strings.Repeat(" ", widths[c]-phrase.Width(cell))
			switch {
			case c < left, c == len(row)-1 && cell != "" && !isNumber(cell):
				line.WriteString(cell)

				if c < len(row)-1 {
					line.WriteString(pad)
				}
			default:
				line.WriteString(pad + cell)
			}
		}

		groups = append(groups, list(strings.TrimRight(line.String(), " ")))
	}

	return groups
}

// widths sanitizes the cells, and returns the width of each column.
func (g grid) widths() []int {
	var widths []int

	for _, row := range g {
		for c, cell := range row {
			if c == len(widths) {
				widths = append(widths, 0)
			}
			row[c] = phrase.Sanitize(cell)
			widths[c] = max(widths[c], phrase.Width(row[c]))
		}
	}

	return widths
}

// beside returns how many columns one more cell of each row may take in a line of so many; at
// least some.
func (g grid) beside(columns, least int) int {
	for _, w := range g.widths() {
		columns -= w + 2
	}

	return max(columns, least)
}

// isNumber reports whether a cell of the last column is a number rather than words.
func isNumber(cell string) bool { return cell[0] >= '0' && cell[0] <= '9' && len(cell) <= 7 }
