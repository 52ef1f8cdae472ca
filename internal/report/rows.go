// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// row is an incident in the list, and in short where it is not shown in detail. Its texts are
// safe, but for Workload and Cause, which are the names that the summary counts by.
type row struct {
	ID, Short                 string
	Anchor                    string // set with the document
	Time                      time.Time
	Node                      string
	Outcome                   string
	Alarm                     bool
	Killed, Where, Limit, Why string
	Sentence                  string
	Causes                    []shortCause
	Advice                    []string
	More                      string // causes and advice that are left out
	Workload, Cause           string
}

type shortCause struct{ Confidence, Text string }

// What an incident in short has of its causes. The others are counted.
const (
	shortCauses = 1
	shortAdvice = 1
)

// newRow leaves the incident as it is.
func newRow(inc *events.Incident) row {
	r := row{
		ID: safe(inc.ID), Short: safe(events.ShortID(inc.ID)), Time: inc.Time, Node: safe(inc.Node),
		Outcome: safe(outcomeWord(inc)), Alarm: isAlarm(inc),
		Killed: safe(answer.Killed(inc)), Where: safe(cmp.Or(answer.Where(inc), workload(inc))), Limit: safe(answer.Limit(inc)),
		Why: safe(answer.Reason(inc, 0)), Sentence: safe(answer.Summary(inc)),
		Workload: workload(inc), Cause: cause(inc),
	}

	for i := range inc.Causes {
		if len(r.Causes) < shortCauses {
			r.Causes = append(r.Causes, shortCause{safe(inc.Causes[i].Confidence), safe(inc.Causes[i].Text)})
		}

		for _, a := range inc.Causes[i].Advice {
			if len(r.Advice) < shortAdvice {
				r.Advice = append(r.Advice, safe(a.Text))
			}
		}
	}

	if n := len(inc.Causes) - len(r.Causes); n > 0 {
		r.More = phrase.Plural(n, "more cause")
	}

	return r
}

// safe is a text that HTML may show.
func safe(text string) string { return limitText(phrase.Sanitize(text)) }

// anchors makes an element id of each incident: its short id, with a number where several have the
// same.
type anchors map[string]int

func (a anchors) add(short string) string {
	id := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
			return r
		}

		return '-'
	}, short)
	id = cmp.Or(id[:min(len(id), 40)], "incident")

	a[id]++
	if n := a[id]; n > 1 {
		return fmt.Sprintf("%s_%d", id, n)
	}

	return id
}

// clocks write the time of an incident, and whether it is of another day than the one before.
type clocks struct {
	location *time.Location
	last     string
}

// listTime is a time in the list.
type listTime struct {
	Date, Clock string
	NewDay      bool // else the date is that of the row before
}

func (c *clocks) next(at time.Time) listTime {
	t := listTime{Date: phrase.When(at, time.DateOnly, c.location), Clock: phrase.When(at, time.TimeOnly, c.location)}
	if t.Date == t.Clock { // an uptime has no day
		t.Date = ""
	}

	t.NewDay = t.Date != c.last
	c.last = t.Date

	return t
}
