// SPDX-License-Identifier: Apache-2.0

// Package report tells of incidents after the fact: as text, as JSON, and as one
// self-contained HTML file, each with a summary where there are many.
//
// A report reads its source once, from begin to end, and keeps no more than a
// bounded part of it: text and JSON stream; the summary counts in tables of
// fixed size; of the incidents that an HTML file shows in detail only the most
// important are held. What is folded or left out is counted and said.
//
// All input is hostile. Text goes to a terminal by the view package alone; in
// HTML it is sanitized in the same way, escaped by html/template, and the file
// itself forbids every request and every script but its own.
package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Source gives incidents with their updates merged.
type Source interface {
	// Incidents gives each incident once, in the order in which they were first
	// told. An error of do ends it. An incident is do's to keep and to change.
	Incidents(do func(*events.Incident) error) error
	// Remarks tells, after the last incident, what was lost, skipped or could
	// not be read.
	Remarks() []string
}

// Options says which incidents a report is about, and how it is shown. The zero
// value is all of them, wide, in local time.
type Options struct {
	ID           string    // only this incident
	Since, Until time.Time // only incidents in this time; zero: no bound
	// Match selects incidents by what they are about; nil: all.
	Match func(*events.Incident) bool
	// Enrich is called with each incident before anything looks at it.
	Enrich func(*events.Incident)

	Width    int            // columns of text; 0: no limit, and nothing left out
	Color    bool           // of text
	Location *time.Location // nil: local time
	// SummaryOnly leaves out the incidents themselves.
	SummaryOnly bool

	// MaxIncidents is how many incidents HTML shows in detail; 0: DefaultIncidents.
	MaxIncidents int
	// Now is the time of the report, as HTML names it; zero: the present.
	Now time.Time
}

// DefaultIncidents is how many incidents HTML shows in detail.
const DefaultIncidents = 100

// Result is what a report was about.
type Result struct {
	Incidents uint64 // that it was about
	Detailed  int    // of those, shown in detail
	// Remarks are the source's, and what the selection could not tell.
	Remarks []string
}

func (o *Options) location() *time.Location {
	if o.Location == nil {
		return time.Local
	}

	return o.Location
}

func (o *Options) about(inc *events.Incident) bool {
	return (o.ID == "" || inc.ID == o.ID) &&
		(o.Since.IsZero() || !inc.Time.Before(o.Since)) &&
		(o.Until.IsZero() || !inc.Time.After(o.Until)) &&
		(o.Match == nil || o.Match(inc))
}

// each calls do with each incident that the report is about, and gives the remarks.
//
// An incident of a log that has uptimes alone has no time that --since and --until
// could be held against: under them it is left out, and counted.
func (o *Options) each(src Source, do func(*events.Incident) error) (remarks []string, err error) {
	found := o.ID == ""
	timeless, others := 0, 0

	err = src.Incidents(func(inc *events.Incident) error {
		if o.bounded() && slices.Contains(inc.Unknown, "time") {
			if o.ID == "" || o.ID == inc.ID {
				timeless++
			}

			return nil
		}

		if !o.about(inc) {
			others++
			return nil
		}
		found = true

		if o.Enrich != nil {
			o.Enrich(inc)
		}

		return do(inc)
	})
	if err == nil && !found && timeless == 0 {
		err = NoSuchID(o.ID)
	}

	if err != nil {
		return nil, err
	}

	remarks = src.Remarks()
	if others > 0 && o.Match != nil {
		remarks = append(remarks, fmt.Sprintf("incidents that were not asked for: %d", others))
	}

	if timeless > 0 {
		remarks = append(remarks, fmt.Sprintf("incidents that have no wall-clock time, only an uptime: %d: --since and --until cannot select them; "+
			"use dmesg -T or --kmsg, or leave --since and --until out", timeless))
	}

	return remarks, nil
}

func (o *Options) bounded() bool { return !o.Since.IsZero() || !o.Until.IsZero() }

// NoSuchID is the error where nothing was asked for but one incident, and it is not
// there.
func NoSuchID(id string) error {
	return fmt.Errorf("no incident has the id %q, in the time that is asked for: leave --id out to see all", id)
}
