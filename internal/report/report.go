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

// Options select the incidents of a report and its form. The zero value is all incidents,
// wide, in local time.
type Options struct {
	ID           string    // only this incident
	Since, Until time.Time // only incidents in this period; zero: no bound
	// Match selects incidents; nil: all.
	Match func(*events.Incident) bool
	// Enrich is called with each selected incident before it is reported.
	Enrich func(*events.Incident)
	// Observe is called with each incident, selected or not, after Enrich: one that is not shown may
	// explain one that is.
	Observe func(*events.Incident)

	Width    int            // columns of text; 0: no limit, and nothing is left out
	Color    bool           // of text
	Location *time.Location // nil: local time
	// SummaryOnly leaves out the incidents themselves.
	SummaryOnly bool

	// MaxIncidents is how many incidents HTML shows in detail; 0: DefaultIncidents.
	MaxIncidents int
	// Now is the time that an HTML report gives for itself; zero: the current time.
	Now time.Time
}

// DefaultIncidents is how many incidents HTML shows in detail.
const DefaultIncidents = 100

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

// selects reports whether the report is about an incident.
func (o *Options) selects(inc *events.Incident) bool {
	return (o.ID == "" || inc.ID == o.ID) &&
		(o.Since.IsZero() || !inc.Time.Before(o.Since)) &&
		(o.Until.IsZero() || !inc.Time.After(o.Until)) &&
		(o.Match == nil || o.Match(inc))
}

// each calls do with each selected incident, and returns the warnings.
//
// An incident of a log with uptimes alone cannot be compared with --since and --until:
// under them it is left out and counted.
func (o *Options) each(src Source, do func(*events.Incident) error) (warnings []string, err error) {
	found := o.ID == ""
	timeless, others := 0, 0

	observe := o.Observe
	if observe == nil {
		observe = func(*events.Incident) {}
	}

	err = src.Incidents(func(inc *events.Incident) error {
		defer observe(inc)

		if o.bounded() && slices.Contains(inc.Unknown, "time") {
			if o.ID == "" || o.ID == inc.ID {
				timeless++
			}

			return nil
		}

		if !o.selects(inc) {
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

	warnings = src.Warnings()
	if others > 0 && o.Match != nil {
		warnings = append(warnings, fmt.Sprintf("incidents not selected: %d", others))
	}

	if timeless > 0 {
		warnings = append(warnings, fmt.Sprintf("incidents with an uptime but no wall-clock time: %d: "+
			"--since and --until cannot select them; "+
			"use dmesg -T or --kmsg, or omit --since and --until", timeless))
	}

	return warnings, nil
}

func (o *Options) bounded() bool { return !o.Since.IsZero() || !o.Until.IsZero() }

// NoSuchID is the error where the one selected incident does not exist.
func NoSuchID(id string) error {
	return fmt.Errorf("no incident has the id %q in the selected time: omit --id to see all", id)
}
