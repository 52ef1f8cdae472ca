// SPDX-License-Identifier: Apache-2.0

package view

import "testing"

// However narrow a table is, it has all columns, and no row is wider.
func TestANarrowTableHasAllColumns(t *testing.T) {
	for _, dates := range []bool{false, true} {
		for width := 1; width <= 200; width++ {
			total := 0

			for _, c := range NewTable(nil, TableOptions{Width: width, Dates: dates}).columns {
				total += c.width + 1

				if c.width < 8 {
					t.Errorf("width %d, dates %v: got column %s of %d, want 8 at least", width, dates, c.title, c.width)
				}
			}

			least := 60
			if dates {
				least = 71
			}

			if want := max(width, least); total-1 != want {
				t.Errorf("width %d, dates %v: got %d columns, want %d", width, dates, total-1, want)
			}
		}
	}
}
