// SPDX-License-Identifier: Apache-2.0

package view

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// day is the date of what was printed last, empty before that.
type day string

// next takes the time of what is printed next. It returns its date, and whether that has to be
// printed: it is another than before, or the first and not today. A time since boot has none.
func (d *day) next(t time.Time, loc *time.Location) (date string, changes bool) {
	if phrase.IsUptime(t) {
		return "", false
	}

	date = t.In(loc).Format(time.DateOnly)
	before := *d
	*d = day(date)

	if before == "" {
		return date, date != time.Now().In(loc).Format(time.DateOnly)
	}

	return date, date != string(before)
}
