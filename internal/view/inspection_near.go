// SPDX-License-Identifier: Apache-2.0

package view

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// leastName is how much of a name is shown, however narrow the block.
const leastName = 12

// nearestLimits are the limits of the node with the least headroom, its own memory among them.
func (v inspection) nearestLimits() []group {
	const (
		barSize = 8
		barCell = 3
	)

	g := grid{{"headroom", "used/limit", "", ""}}
	row := func(room, used, limit *uint64) []string {
		cells := []string{phrase.SizeOrUnknown(room), phrase.Ratio(used, limit, "?"), "", ""}
		if used != nil && limit != nil {
			cells[2], cells[3] = percent(*used, *limit), bar(*used, *limit, barSize)
		}

		return cells
	}

	near := v.event.NearestLimits
	for i := range near {
		g = append(g, row(&near[i].HeadroomBytes, &near[i].UsageBytes, &near[i].LimitBytes))
	}

	node := row(v.event.HeadroomBytes, v.limiter.UsageBytes, v.event.NodeState.TotalBytes)
	g = append(g, node)

	for len(g[0]) > 1 && !v.wide && g.beside(v.lineColumns(), 0) < leastName { // the bar first, usage and limit last
		for i := range g {
			g[i] = g[i][:len(g[i])-1]
		}
	}

	columns := g.beside(v.lineColumns(), leastName)
	node, g = g[len(g)-1], g[:len(g)-1]
	g[0] = append(g[0], "nearest limits")

	for i := range near {
		g[i+1] = append(g[i+1], v.cgroupName(near[i].Level, near[i].Workload, &near[i].Cgroup, columns))
	}

	at := slices.IndexFunc(near, func(n events.NearLimit) bool {
		return v.event.HeadroomBytes != nil && *v.event.HeadroomBytes < n.HeadroomBytes
	})
	if at < 0 {
		at = len(near)
	}

	name := "the node (with free swap)"
	if !v.wide && !phrase.Fits(name, columns) {
		name = "the node"
	}

	g = slices.Insert(g, at+1, append(node, name))

	var groups []group
	if len(g[0]) > barCell+1 {
		groups = alignLeft(g, barCell)
	} else {
		groups = g.groups(0)
	}

	groups[0] = styled(groups[0], styleLabel)

	var rest []string
	if n := v.event.NearestLimitsLeftOut; n > 0 {
		rest = append(rest, "and "+phrase.Plural(n, "limit")+" with more headroom")
	}

	if n := v.event.NearestLimitsUnread; n > 0 {
		rest = append(rest, phrase.Plural(n, "cgroup")+" could not be read")
	}

	return append(groups, list(rest...))
}

// alignLeft lays rows out as [grid.groups] does, with the cells of one column aligned to the left.
func alignLeft(g grid, column int) []group {
	widest := 0
	for _, row := range g {
		widest = max(widest, phrase.Width(row[column]))
	}

	for _, row := range g {
		for phrase.Width(row[column]) < widest {
			row[column] += " "
		}
	}

	return g.groups(0)
}

// cgroupName is what a cgroup is known by: a container as namespace/pod/container, a pod, unit,
// guest or job by its name, another by its path, in at most so many columns of a narrow block.
func (v inspection) cgroupName(level events.Level, w *events.Workload, c *events.Cgroup, columns int) string {
	if v.wide {
		if name := phrase.Identity(w, true); name != "" && named(level) {
			return name + ", " + c.Path
		}

		return c.Path
	}

	if name := phrase.RowName(level, w, c.Path); named(level) || level == events.LevelService {
		return phrase.ClipMiddle(name, columns)
	}

	return phrase.ShortPath(c.Path, columns)
}

// lineColumns is how much a line of text holds.
func (v inspection) lineColumns() int { return v.columns + indent - 2 }

// onlyWide names what a narrow block leaves out.
func (v inspection) onlyWide() group {
	n := v.event.NodeState
	if v.wide || v.event.Cgroup != nil || len(n.Zones) == 0 && len(n.Slabs) == 0 {
		return list()
	}

	return list("zones, free blocks, slab caches: oomtrace inspect -w")
}
