// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/view"
)

// sink filters what a trace finds and shows it.
type sink struct {
	view   view.Sink
	filter filter
	// aside takes what the chosen format has no line for; nil shows it there.
	aside view.Sink
	shown map[string]bool // ids that passed the filter
	order []string
}

// maxShown is for how many incidents updates are let through under a filter.
const maxShown = 4096

func newSink(f *traceFlags, stdout, stderr io.Writer) *sink {
	s := &sink{filter: f.filter, shown: map[string]bool{}}
	loc := time.Local
	if f.utc {
		loc = time.UTC
	}
	width, color := terminal(stdout)
	if f.wide {
		width = 0
	}
	switch f.output {
	case "json":
		s.view = view.NewJSON(stdout)
	case "table":
		s.view = view.NewTable(stdout, view.TableOptions{Width: width, Location: loc})
		s.aside = view.NewText(stderr, view.TextOptions{Width: width, Location: loc})
	case "bcc":
		s.view = view.NewBCC(stdout, loadavg, loc)
		s.aside = view.NewText(stderr, view.TextOptions{Width: width, Location: loc})
	default:
		s.view = view.NewText(stdout, view.TextOptions{Width: width, Color: color, Location: loc})
	}
	return s
}

// terminal gives the width for w: a terminal's own, at most what stays readable.
// What is no terminal gets the width of an email, not unlimited lines: those are
// asked for by --wide.
func terminal(w io.Writer) (width int, color bool) {
	const columns = 80
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return columns, false
	}
	if columns, _, err := term.GetSize(int(file.Fd())); err == nil && columns > 0 {
		width = columns
	} else {
		width = columns
	}
	return width, os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func loadavg() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	return string(text)
}

// Headline shows the first victim at once. Under a filter it is not known yet
// whether the incident matches.
func (s *sink) Headline(inc *events.Incident) error {
	if s.filter.active() || len(inc.Victims) == 0 {
		return nil
	}
	v := inc.Victims[0]
	return s.view.Headline(view.Headline{Time: inc.Time, ID: inc.ID, Scope: inc.Scope, PID: v.PID, Comm: v.Comm})
}

func (s *sink) Incident(inc *events.Incident) error {
	if s.filter.active() {
		if !s.filter.match(inc) {
			return nil
		}
		s.shown[inc.ID] = true
		if s.order = append(s.order, inc.ID); len(s.order) > maxShown {
			delete(s.shown, s.order[0])
			s.order = s.order[1:]
		}
	}
	return s.view.Incident(inc)
}

func (s *sink) Update(inc *events.Incident) error {
	if s.filter.active() && !s.shown[inc.ID] {
		return nil
	}
	return s.view.Update(inc)
}

func (s *sink) other() view.Sink {
	if s.aside != nil {
		return s.aside
	}
	return s.view
}

// Stall is told under any filter but that of the process.
func (s *sink) Stall(l *events.StallLine) error {
	f := s.filter
	switch {
	case f.pid != 0 && l.Task.PID != f.pid && l.Task.TID != f.pid, f.comm != "" && l.Task.Comm != f.comm:
		return nil
	case f.cgroup != "" && !f.below(l.Task.Cgroup) && !f.below(l.Limiter), !f.workload(l.Task.Workload):
		return nil
	}
	return s.view.Stall(l)
}

// Pressure is told under any filter but those of a process.
func (s *sink) Pressure(l *events.PressureLine) error {
	f := s.filter
	switch {
	case f.pid != 0, f.comm != "", f.cgroup != "" && !f.below(&l.Cgroup), !f.workload(l.Workload):
		return nil
	}
	return s.view.Pressure(l)
}

func (s *sink) Lost(l *events.Lost) error      { return s.other().Lost(l) }
func (s *sink) Status(st *events.Status) error { return s.other().Status(st) }

func (s *sink) close() error {
	if err := s.view.Close(); err != nil {
		return fmt.Errorf("finishing the output: %w", err)
	}
	return nil
}
