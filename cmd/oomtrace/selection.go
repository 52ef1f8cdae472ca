// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/record"
	"github.com/oomtrace/oomtrace/internal/timearg"
)

// selectionFlags select incidents of a recording.
type selectionFlags struct{ since, until, id string }

func (f *selectionFlags) add(flags *pflag.FlagSet) {
	flags.Var(newText(&f.since, "time"), "since", "only incidents at this time or later")
	flags.Var(newText(&f.until, "time"), "until", "only incidents until this time")
	flags.Var(newText(&f.id, "id"), "id", "only the incident with this ID, short ID or unique prefix of one")
}

// resolveID replaces a prefix of an id by the id. What can be read only once, as stdin, needs the
// whole id or the short one.
func resolveID(name string, s *record.Selection) error {
	info, err := os.Stat(name)
	if s.ID == "" || err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return nil
	}

	id, err := record.FindID(name, *s)
	if id != "" {
		s.ID = id
	}

	return err
}

// selection parses the flags. Times without a date or zone are relative to now.
func (f *selectionFlags) selection(now time.Time) (record.Selection, error) {
	s := record.Selection{ID: f.id}
	for _, bound := range []struct {
		name, text string
		into       *time.Time
	}{{"since", f.since, &s.Since}, {"until", f.until, &s.Until}} {
		if bound.text == "" {
			continue
		}

		t, err := timearg.Parse(bound.text, now)
		if err != nil {
			return s, usagef("--%s: %w", bound.name, err)
		}
		*bound.into = t
	}

	if !s.Since.IsZero() && !s.Until.IsZero() && s.Until.Before(s.Since) {
		return s, usagef("--until %s is before --since %s", s.Until.Format(time.DateTime), s.Since.Format(time.DateTime))
	}

	return s, nil
}
