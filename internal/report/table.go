// SPDX-License-Identifier: Apache-2.0

package report

import "fmt"

// maxRows is how many rows of a table HTML shows; the JSON has all.
const maxRows = 100

// dataTable is a table of the page.
type dataTable struct {
	Title, Sub string
	Class      string
	Heads      []head
	Texts      int // of the columns, which come first; the others are numbers
	Rows       [][]cell
	More       string // what is left out
	Folded     bool
}

type head struct {
	Name   string
	Number bool
}

type cell struct {
	Text string
	Tag  string  // a badge after the text
	Bar  float64 // percent of a bar; 0: none
}

// column is a column of a table of T.
type column[T any] struct {
	head
	of func(*T) cell
}

func textColumn[T any](name string, of func(*T) string) column[T] {
	return column[T]{head{name, false}, func(row *T) cell { return cell{Text: of(row)} }}
}

func numberColumn[T any](name string, of func(*T) string) column[T] {
	return column[T]{head{name, true}, func(row *T) cell { return cell{Text: of(row)} }}
}

// newTable leaves out columns without a value; those of text come before those of numbers. It counts
// the rows beyond maxRows, and those that the event itself has left out.
func newTable[T any](title, thing string, leftOut int, rows []T, columns ...column[T]) dataTable {
	t := dataTable{Title: title}

	if more := len(rows) - maxRows; more > 0 {
		rows, leftOut = rows[:maxRows], leftOut+more
	}

	if leftOut > 0 {
		t.More = fmt.Sprintf("%d more %s", leftOut, thing)
	}

	t.Rows = make([][]cell, len(rows))

	for _, c := range columns {
		cells := make([]cell, len(rows))
		any := false

		for i := range rows {
			cells[i] = c.of(&rows[i])
			any = any || cells[i].Text != "" || cells[i].Tag != "" || cells[i].Bar != 0
		}

		if !any {
			continue
		}

		t.Heads = append(t.Heads, c.head)
		if !c.Number {
			t.Texts = len(t.Heads)
		}

		for i := range cells {
			t.Rows[i] = append(t.Rows[i], cells[i])
		}
	}

	return t
}
