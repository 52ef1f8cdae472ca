// SPDX-License-Identifier: Apache-2.0

package top

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/usage"
)

// The orders of rows and what a row is about, as their flags have them; the first of each is
// the default.
var (
	Orders    = []string{"headroom", "stall", "growth", "used", "name"}
	Groupings = []string{"cgroup", "container", "pod"}
)

// arrangement is which rows are shown, and in which order.
type arrangement struct {
	order  string // of Orders
	by     string // of Groupings
	tree   bool
	filter string // part of a name or path; empty: all
}

// row is a cgroup in the table.
type row struct {
	index int // in the snapshot
	depth int // in the tree; 0 in the flat table
}

// rows returns what the table shows of a snapshot. hidden is how many rows the filter left
// out; of a tree, it keeps those above a match.
func (a arrangement) rows(s *usage.Snapshot) (shown []row, hidden int) {
	candidates := a.grouped(s)
	kept := candidates

	if a.filter != "" {
		kept = slices.DeleteFunc(slices.Clone(candidates), func(i int) bool { return !a.matches(&s.Cgroups[i]) })
	}

	if a.tree {
		shown = a.branches(s, kept)
		return shown, len(candidates) - len(shown)
	}

	slices.SortFunc(kept, a.comparer(s))

	for _, i := range kept {
		shown = append(shown, row{index: i})
	}

	return shown, len(candidates) - len(shown)
}

// grouped returns the cgroups that have a row of their own. Grouped by pod or container, what
// is below one has none. The cgroups above them are left out as well, but not of a tree.
func (a arrangement) grouped(s *usage.Snapshot) []int {
	var kept []int
	within := make([]bool, len(s.Cgroups)) // it is a row that what is below belongs to, or part of one

	for i := range s.Cgroups {
		c := &s.Cgroups[i]
		if c.Parent >= 0 && within[c.Parent] {
			within[i] = true
			continue
		}

		switch {
		case a.by == "pod" && c.Level == events.LevelPod, a.by != "cgroup" && c.Level == events.LevelContainer:
			within[i] = true
		case a.by != "cgroup" && !a.tree && above(c.Level):
			continue
		}

		kept = append(kept, i)
	}

	return kept
}

// above reports whether a level only holds pods or containers.
func above(l events.Level) bool {
	return l == events.LevelKubepods || l == events.LevelQoS || l == events.LevelPod
}

func (a arrangement) matches(c *usage.Cgroup) bool {
	want := strings.ToLower(a.filter)
	return strings.Contains(strings.ToLower(c.Path), want) || strings.Contains(strings.ToLower(name(c)), want)
}

func name(c *usage.Cgroup) string { return phrase.RowName(c.Level, c.Workload, c.Path) }

// branches returns the cgroups with those above them, as a tree whose siblings are in order.
func (a arrangement) branches(s *usage.Snapshot, kept []int) []row {
	in := make([]bool, len(s.Cgroups))
	children := make(map[int][]int)

	for _, i := range kept {
		for ; i >= 0 && !in[i]; i = s.Cgroups[i].Parent {
			in[i] = true
			children[s.Cgroups[i].Parent] = append(children[s.Cgroups[i].Parent], i)
		}
	}

	compare := a.comparer(s)
	var rows []row
	var add func(parent, depth int)

	add = func(parent, depth int) {
		slices.SortFunc(children[parent], compare)

		for _, i := range children[parent] {
			rows = append(rows, row{i, depth})
			add(i, depth+1)
		}
	}
	add(-1, 0)

	return rows
}

// comparer returns the order. What is not known comes last; equal rows are in the order of
// headroom, then by path, so that they do not change places from one snapshot to the next.
func (a arrangement) comparer(s *usage.Snapshot) func(i, j int) int {
	byPath := func(x, y *usage.Cgroup) int { return strings.Compare(x.Path, y.Path) }

	first := map[string]func(x, y *usage.Cgroup) int{
		"stall":  func(x, y *usage.Cgroup) int { return descending(x.Stalled, y.Stalled) },
		"growth": func(x, y *usage.Cgroup) int { return descending(x.Growth, y.Growth) },
		"used":   func(x, y *usage.Cgroup) int { return descending(x.UsedBytes, y.UsedBytes) },
		"name":   func(x, y *usage.Cgroup) int { return strings.Compare(name(x), name(y)) },
	}[a.order]

	return func(i, j int) int {
		x, y := &s.Cgroups[i], &s.Cgroups[j]
		order := 0

		if first != nil {
			order = first(x, y)
		}

		return cmp.Or(order, byHeadroom(x, y), descending(x.UsedBytes, y.UsedBytes), byPath(x, y))
	}
}

// byHeadroom puts the least room first, and cgroups without a limit last.
func byHeadroom(x, y *usage.Cgroup) int {
	switch {
	case x.Limiter < 0 && y.Limiter < 0:
		return 0
	case x.Limiter < 0:
		return 1
	case y.Limiter < 0:
		return -1
	}

	return cmp.Compare(x.HeadroomBytes, y.HeadroomBytes)
}

func descending[T cmp.Ordered](x, y usage.Value[T]) int {
	switch {
	case !x.Known && !y.Known:
		return 0
	case !x.Known:
		return 1
	case !y.Known:
		return -1
	}

	return cmp.Compare(y.V, x.V)
}
