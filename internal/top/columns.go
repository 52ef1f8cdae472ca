// SPDX-License-Identifier: Apache-2.0

package top

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// column is a column of the table of cgroups, right of the name.
type column struct {
	title string
	width int
	// rank is the order in which columns get room, the lowest first.
	rank int
	cell func(*usage.Snapshot, *usage.Cgroup) string
	// has reports whether this node can have values; nil: always.
	has func(*usage.Snapshot) bool
}

func traced(s *usage.Snapshot) bool { return s.Traced }

func version2(s *usage.Snapshot) bool { return s.Version == 2 }

var columns = []column{
	{title: "USED", width: 8, rank: 1, cell: func(_ *usage.Snapshot, c *usage.Cgroup) string { return size(c.UsedBytes) }},
	{title: "LIMIT", width: 9, rank: 3, cell: limitCell},
	{title: "HEADROOM", width: 9, rank: 0, cell: headroomCell},
	{title: "FULL", width: 6, rank: 4, cell: fullCell},
	{title: "STALL%", width: 6, rank: 2, has: traced, cell: func(_ *usage.Snapshot, c *usage.Cgroup) string { return share(c.Stalled) }},
	{title: "GROWTH/s", width: 9, rank: 5, cell: func(_ *usage.Snapshot, c *usage.Cgroup) string { return growth(c.Growth) }},
	{title: "LIMIT IN", width: 8, rank: 6, cell: limitInCell},
	{title: "HIGH%", width: 6, rank: 7, cell: func(_ *usage.Snapshot, c *usage.Cgroup) string { return share(c.High) },
		has: func(s *usage.Snapshot) bool { return s.TracedHigh }},
	{title: "PSI%", width: 6, rank: 8, has: version2, cell: func(_ *usage.Snapshot, c *usage.Cgroup) string { return share(c.PSISome) }},
	{title: "REFLT/s", width: 8, rank: 9, cell: func(_ *usage.Snapshot, c *usage.Cgroup) string { return rate(c.Refaults) }},
}

const (
	markColumns = 2 // the mark of the selected row
	leastName   = 16
	// goodName is what a name has before columns get room that a narrow screen lacks.
	goodName  = 20
	basicRank = 6
)

// columnsFor returns the columns that fit beside a name, and the width of the name.
func columnsFor(s *usage.Snapshot, width int) (fit []column, nameWidth int) {
	nameWidth = width - markColumns
	use := make([]bool, len(columns))

	for rank := range columns {
		for i, c := range columns {
			if c.rank != rank || c.has != nil && !c.has(s) {
				continue
			}

			least := goodName
			if c.rank <= basicRank {
				least = leastName
			}

			if rest := nameWidth - 1 - c.width; rest >= least {
				use[i], nameWidth = true, rest
			}
		}
	}

	for i, c := range columns {
		if use[i] {
			fit = append(fit, c)
		}
	}

	return fit, nameWidth
}

// nameCell is the name of a row in so many columns.
func nameCell(c *usage.Cgroup, tree bool, depth, width int) string {
	if !tree {
		return short(name(c), width)
	}

	text := name(c)
	switch {
	case c.Level == events.LevelContainer && c.Parent >= 0 && phrase.Container(c.Workload) != "": // the pod is above
		text = phrase.Sanitize(phrase.Container(c.Workload))
	case strings.HasPrefix(text, "/"):
		text = text[strings.LastIndexByte(text, '/')+1:]
	}
	indent := min(2*depth, width/2)

	return strings.Repeat(" ", indent) + phrase.ClipMiddle(text, width-indent)
}

// short shortens a path at its middle, and another name where it is not one of its kind.
func short(text string, width int) string {
	if strings.HasPrefix(text, "/") {
		return phrase.ShortPath(text, width)
	}

	return phrase.ClipMiddle(text, width)
}

func size(v usage.Value[uint64]) string {
	if !v.Known {
		return "?"
	}

	return phrase.ShortSize(&v.V)
}

// limitCell is the limit that the headroom is of; ^ marks that of an ancestor.
func limitCell(s *usage.Snapshot, c *usage.Cgroup) string {
	switch {
	case c.Limiter < 0 && !c.LimitBytes.Known:
		return "? "
	case c.Limiter < 0:
		return "- "
	}

	limiter := &s.Cgroups[c.Limiter]
	if limiter.ID != c.ID {
		return size(limiter.LimitBytes) + "^"
	}

	return size(limiter.LimitBytes) + " "
}

func headroomCell(_ *usage.Snapshot, c *usage.Cgroup) string {
	switch {
	case c.Limiter < 0 && !c.LimitBytes.Known:
		return "?"
	case c.Limiter < 0:
		return "-"
	}

	return phrase.ShortSize(&c.HeadroomBytes)
}

// full is the share of the limiter's limit that is in use; it is not ok without one.
func full(s *usage.Snapshot, c *usage.Cgroup) (share float64, ok bool) {
	if c.Limiter < 0 {
		return 0, false
	}

	limit := s.Cgroups[c.Limiter].LimitBytes.V
	if limit == 0 {
		return 1, true
	}

	return 1 - float64(c.HeadroomBytes)/float64(limit), true
}

func fullCell(s *usage.Snapshot, c *usage.Cgroup) string {
	share, ok := full(s, c)
	if !ok {
		return ""
	}

	return bar(share, 6)
}

// bar is a share of one as a bar of so many columns.
func bar(share float64, width int) string {
	text := phrase.Bar(share, width)
	return text + strings.Repeat("·", width-phrase.Width(text))
}

// share is a share of the time in percent.
func share(v usage.Value[float64]) string {
	switch {
	case !v.Known:
		return "?"
	case v.V >= 9.995:
		return fmt.Sprintf("%.0f", v.V*100)
	}

	return fmt.Sprintf("%.1f", v.V*100)
}

func growth(v usage.Value[float64]) string {
	if !v.Known {
		return "?"
	}
	bytes := uint64(math.Abs(v.V))

	switch {
	case bytes < 1024:
		return "0"
	case v.V < 0:
		return "-" + phrase.ShortSize(&bytes)
	}

	return "+" + phrase.ShortSize(&bytes)
}

func limitInCell(_ *usage.Snapshot, c *usage.Cgroup) string {
	if !c.ToLimit.Known {
		return "-"
	}

	return span(c.ToLimit.V)
}

// span is a time to come, in one unit.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}

	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

func rate(v usage.Value[float64]) string {
	if !v.Known {
		return "?"
	}

	return fmt.Sprintf("%.0f", v.V)
}

// danger is how near a limit is.
type danger int

const (
	calm     danger = iota
	near            // a quarter of the limit is left, or it is reached within ten minutes
	critical        // a twentieth is left, or it is reached within a minute
)

func dangerOf(s *usage.Snapshot, c *usage.Cgroup) danger {
	share, ok := full(s, c)

	switch in := c.ToLimit; {
	case !ok:
		return calm
	case share >= 0.95, in.Known && in.V < time.Minute:
		return critical
	case share >= 0.75, in.Known && in.V < 10*time.Minute:
		return near
	}

	return calm
}

// levelName is a level in words.
func levelName(l events.Level) string {
	if l == "" {
		return string(events.LevelCgroup)
	}

	return string(l)
}
