// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/sink"
)

// NewBCC writes the line that bcc's oomkill prints, one for each victim, those
// of a group included; a SIGKILL from user space has none. The pages are, as
// there, what could be used at most (limit plus swap), not the size of the
// victim. What is not known is "?".
//
// Loadavg is asked for the content of /proc/loadavg once an incident; it may be
// nil. Times are shown in loc, or the local time if it is nil. Updates, status
// and lost records have no line in this format.
func NewBCC(w io.Writer, loadavg func() string, loc *time.Location) sink.Sink {
	return &bccSink{out: output{w: w, what: "bcc line"}, loadavg: loadavg, loc: zone(loc)}
}

type bccSink struct {
	out     output
	loadavg func() string
	loc     *time.Location
}

func (s *bccSink) Write(l events.Line) error {
	inc, ok := l.(*events.Incident)
	if !ok || inc.Outcome != events.OutcomeKilled || inc.Scope == events.ScopeUser || len(inc.Victims) == 0 {
		return s.out.err
	}

	load := "?"
	if s.loadavg != nil {
		load = strings.TrimSpace(s.loadavg())
	}

	var b strings.Builder
	for i := range inc.Victims {
		fmt.Fprintf(&b, "%s Triggered by %s, OOM kill of %s, %s pages, loadavg: %s\n",
			phrase.When(inc.Time, time.TimeOnly, s.loc),
			bccTask(inc.Trigger), bccTask(&inc.Victims[i].Process), totalPages(inc), phrase.Sanitize(load))
	}

	return s.out.write([]byte(b.String()))
}

// bccTask names the process by its id and, as bcc does, by the task's name.
func bccTask(p *events.Process) string {
	if p == nil || p.PID == 0 {
		return `PID ? ("?")`
	}

	comm := p.Comm
	if p.Thread != "" {
		comm = p.Thread
	}

	return fmt.Sprintf(`PID %d ("%s")`, p.PID, phrase.Sanitize(comm))
}

func totalPages(inc *events.Incident) string {
	if inc.Allocation == nil || inc.Allocation.TotalPages == nil {
		return "?"
	}

	return strconv.FormatUint(*inc.Allocation.TotalPages, 10)
}
