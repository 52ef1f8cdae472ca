// SPDX-License-Identifier: Apache-2.0

// Package report writes recorded incidents as text, as JSON or as one self-contained HTML
// file, with a summary where there are many.
//
// A report reads its source once, from start to end, and keeps a bounded part of it: text
// and JSON stream, the summary counts in tables of bounded size, and an HTML file shows
// only the most important incidents in detail. What is merged or left out is counted and
// reported.
//
// All input is hostile. Text reaches a terminal through the view package alone. In HTML it
// is sanitized in the same way and escaped by html/template, and the file's policy forbids
// every request and every script but its own.
package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// Source has incidents with their updates merged.
type Source interface {
	// Incidents calls do with each incident once, in the order in which they were
	// reported, and stops at do's first error. Do owns the incident.
	Incidents(do func(*events.Incident) error) error
	// Warnings returns, after the last incident, what was lost, skipped or could not be
	// read.
	Warnings() []string
}

// LineSource is a Source that has other lines as well.
type LineSource interface {
	Source
	// Walk is Incidents, and calls other with each line that is not about an incident. The two come in no
	// particular order.
	Walk(do func(*events.Incident) error, other func(events.Line) error) error
}

// Options select the incidents of a report and its form. The zero value is all incidents,
// wide, in local time.
type Options struct {
	ID           string    // only this incident; a short id or a prefix will do: see events.IDFinder
	Since, Until time.Time // only incidents in this period; zero: no bound
	// Match selects incidents; nil: all. MatchedBy names the flags that it comes from.
	Match     func(*events.Incident) bool
	MatchedBy string
	// MatchLine selects other lines, where a format has them; nil: all.
	MatchLine func(events.Line) bool
	// Enrich is called with each selected incident before it is reported.
	Enrich func(*events.Incident)
	// Observe is called with each incident, selected or not, after Enrich: one that is not shown may
	// explain one that is.
	Observe func(*events.Incident)

	Width int // columns of text; 0: no limit, and nothing is left out
	// ShowSource is what "oomtrace show" takes after an ID to find an incident of this source; empty: nothing.
	ShowSource string
	// TableWidth is the columns of a list; 0: no limit, and nothing is cut.
	TableWidth int
	Full       bool           // text: all that is known of each incident, however many there are
	Dates      bool           // text: with the date at each time
	Color      bool           // of text
	ASCII      bool           // text: letters and signs alone
	Location   *time.Location // nil: local time
	// SummaryOnly leaves out the incidents themselves.
	SummaryOnly bool

	// MaxIncidents is how many incidents HTML shows in detail; 0: DefaultIncidents.
	MaxIncidents int
	// Raw adds the event of each of them to HTML, as JSON.
	Raw bool
	// Now is the time that an HTML report gives for itself; zero: the current time.
	Now time.Time
}

// DefaultIncidents is how many incidents HTML shows in detail. With so many of the richest, and a
// row for each of 300, a page has less than 2 MB.
const DefaultIncidents = 75

// Result describes a finished report.
type Result struct {
	Incidents uint64 // selected
	Detailed  int    // of those, shown in detail
	// Warnings are the source's, and those about the selection.
	Warnings []string
}

func (o *Options) location() *time.Location {
	if o.Location == nil {
		return time.Local
	}

	return o.Location
}

// selects reports whether an incident may have the id, and has the time; Match hides some of these.
func (o *Options) selects(inc *events.Incident) bool {
	return (o.ID == "" || events.MatchesID(inc.ID, o.ID)) &&
		(o.Since.IsZero() || !inc.Time.Before(o.Since)) &&
		(o.Until.IsZero() || !inc.Time.After(o.Until))
}

// each calls do with each selected incident, and returns the warnings.
//
// An incident of a log with uptimes alone cannot be compared with --since and --until:
// under them it is left out and counted. What has the id is known at the end of the source.
func (o *Options) each(src Source, do func(*events.Incident) error) (warnings []string, err error) {
	timeless, hidden := 0, 0
	wanted := &wanted{ids: events.NewIDFinder(o.ID)}

	observe := o.Observe
	if observe == nil {
		observe = func(*events.Incident) {}
	}

	err = src.Incidents(func(inc *events.Incident) error {
		defer observe(inc)

		if o.bounded() && slices.Contains(inc.Unknown, "time") {
			if o.ID == "" || events.MatchesID(inc.ID, o.ID) {
				timeless++
			}

			return nil
		}

		if !o.selects(inc) {
			return nil
		}

		if o.Match != nil && !o.Match(inc) {
			hidden++
			return nil
		}

		if o.Enrich != nil {
			o.Enrich(inc)
		}

		if o.ID != "" {
			return wanted.add(inc)
		}

		return do(inc)
	})
	if err == nil && o.ID != "" {
		err = wanted.each(do)
		if err == nil && len(wanted.kept)+timeless+hidden == 0 {
			err = NoSuchID(o.ID)
		}
	}

	if err != nil {
		return nil, err
	}

	warnings = src.Warnings()
	if hidden > 0 {
		warnings = append(warnings, Hidden(hidden, o.MatchedBy))
	}

	if timeless > 0 {
		warnings = append(warnings, fmt.Sprintf("incidents with an uptime but no wall-clock time: %d: "+
			"--since and --until cannot select them; "+
			"use dmesg -T or --kmsg, or omit --since and --until", timeless))
	}

	return warnings, nil
}

func (o *Options) bounded() bool { return !o.Since.IsZero() || !o.Until.IsZero() }

// Hidden is the sentence about incidents that flags of these names hide.
func Hidden[N int | uint64](n N, flags string) string {
	verb := " are"
	if n == 1 {
		verb = " is"
	}

	return phrase.Plural(n, "incident") + verb + " hidden by " + flags
}

// NoSuchID is the error where the one selected incident does not exist.
func NoSuchID(id string) error {
	return fmt.Errorf("no incident in the selected time has the ID %q: oomtrace list prints the IDs", id)
}
