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
	count uint64 // of them, since the start
	// nameless are incidents that a filter by name did not match yet.
	nameless      map[string]*events.Incident
	namelessOrder []string
	unknown       int // of them, those that never got a name
	stderr        io.Writer
}

// maxShown is for how many incidents updates are let through under a filter.
const maxShown = 4096

func newSink(f *traceFlags, stdout, stderr io.Writer) *sink {
	s := &sink{filter: f.filter, shown: map[string]bool{}, nameless: map[string]*events.Incident{}, stderr: stderr}
	loc := f.location()

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

func (f *traceFlags) location() *time.Location {
	if f.utc {
		return time.UTC
	}

	return time.Local
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
			s.await(inc)
			return nil
		}

		s.show(inc.ID)
	}

	return s.view.Incident(inc)
}

func (s *sink) show(id string) {
	s.count++

	s.shown[id] = true
	if s.order = append(s.order, id); len(s.order) > maxShown {
		delete(s.shown, s.order[0])
		s.order = s.order[1:]
	}
}

// maxNameless is how many incidents wait for names under a filter.
const maxNameless = 1024

// await keeps an incident whose names may come later.
func (s *sink) await(inc *events.Incident) {
	if !s.filter.byName() || !anyWorkload(inc, unnamed) {
		return
	}
	kept := *inc

	s.nameless[inc.ID] = &kept
	if s.namelessOrder = append(s.namelessOrder, inc.ID); len(s.namelessOrder) > maxNameless {
		s.drop(s.namelessOrder[0])
		s.namelessOrder = s.namelessOrder[1:]
	}
}

// unnamed tells a pod's workload without, or with some, names.
func unnamed(w *events.Workload) bool {
	return (w.PodUID != "" || w.ContainerID != "") && (w.Pod == "" || w.Labels == nil)
}

// drop gives up waiting. What never got a name may have been meant.
func (s *sink) drop(id string) {
	inc := s.nameless[id]
	delete(s.nameless, id)

	if inc != nil && anyWorkload(inc, func(w *events.Workload) bool { return unnamed(w) && w.Pod == "" }) {
		s.unknown++
	}
}

// named matches an incident again that an update may have given its names.
func (s *sink) named(update *events.Incident) (matched *events.Incident) {
	inc := s.nameless[update.ID]
	if inc == nil {
		return nil
	}

	events.Merge(inc, update)

	if !s.filter.match(inc) {
		return nil
	}

	delete(s.nameless, update.ID)
	s.show(update.ID)

	return inc
}

func (s *sink) Update(inc *events.Incident) error {
	if s.filter.active() && !s.shown[inc.ID] {
		if late := s.named(inc); late != nil {
			return s.view.Incident(late)
		}

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

func (s *sink) Lost(l *events.Lost) error { return s.other().Lost(l) }

// Status of the end has the totals of the trace. People are told how many of them
// the filter let through.
func (s *sink) Status(st *events.Status) error {
	switch st.Phase {
	case "start":
		s.count = 0 // a recording may be of several traces
	case "end":
		some, ok := s.other().(interface {
			StatusShown(*events.Status, uint64) error
		})
		if ok && s.filter.active() {
			return some.StatusShown(st, s.count)
		}
	}

	return s.other().Status(st)
}

func (s *sink) close() error {
	for _, id := range s.namelessOrder {
		s.drop(id)
	}

	if s.unknown > 0 {
		fmt.Fprintf(s.stderr, "oomtrace: incidents that are not shown, though they may match, for their pods never got a name: %d\n", s.unknown)
	}

	if err := s.view.Close(); err != nil {
		return fmt.Errorf("finishing the output: %w", err)
	}

	return nil
}
