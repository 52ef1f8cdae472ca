// SPDX-License-Identifier: Apache-2.0

package record

import (
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Coverage is when the tracers ran whose lines a recording has. It is complete after the last
// line.
type Coverage struct {
	// Runs are in the order of their first lines. It is empty if the lines are incidents alone, as
	// report writes them: those do not show when a tracer ran.
	Runs []Run
	// Omitted is how many runs are missing in Runs because there were too many.
	Omitted int

	open map[string]*Run // by node
}

// Run is one run of a tracer.
type Run struct {
	Node          string
	KernelRelease string
	Tier          events.Tier // the best attach mode of the node; empty: not known
	// Begin is when it started, End when it ended; without Started or Ended, the times of the
	// first and the last line that is there.
	Begin, End time.Time
	Started    bool // else its first segments are missing
	Ended      bool // else it is still running, was killed, or its last segments are missing

	traced bool // it has a line that only a trace has
}

// maxRuns bounds the runs, and the nodes, of a coverage.
const maxRuns = 1024

// add takes the next line.
func (c *Coverage) add(l *Line) {
	if !l.Time.After(time.Unix(0, 0)) {
		return
	}

	var status *events.Status

	if l.Kind == events.KindStatus {
		if line, err := l.Decode(); err == nil {
			status, _ = line.(*events.Status)
		}
	}

	starts := status != nil && status.Phase == events.PhaseStart

	run := c.open[l.Node]
	if run == nil || starts {
		c.close(l.Node)

		if len(c.open) >= maxRuns {
			return
		}

		run = &Run{Node: l.Node, Begin: l.Time, End: l.Time}

		if c.open == nil {
			c.open = map[string]*Run{}
		}

		c.open[l.Node] = run
	}

	if l.Time.After(run.End) {
		run.End = l.Time
	}

	run.traced = run.traced || l.Kind != events.KindIncident

	switch {
	case starts:
		run.Started, run.KernelRelease, run.Tier = true, status.KernelRelease, status.Tier
	case status != nil && status.Phase == events.PhaseEnd:
		run.Ended = true

		c.close(l.Node)
	}
}

// close ends the run of a node, if there is one.
func (c *Coverage) close(node string) {
	run := c.open[node]
	delete(c.open, node)

	switch {
	case run == nil, !run.traced:
	case len(c.Runs) >= maxRuns:
		c.Omitted++
	default:
		c.Runs = append(c.Runs, *run)
	}
}

// finish ends all runs.
func (c *Coverage) finish() {
	for node := range c.open {
		c.close(node)
	}

	slices.SortStableFunc(c.Runs, func(a, b Run) int { return a.Begin.Compare(b.Begin) })
}

// Coverage returns when the tracers ran, after Incidents.
func (r *Reader) Coverage() Coverage { return r.coverage }
