// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// The words that other sinks have in common with the text. What is said of
// names and paths is as it came: it is not safe for a terminal before Sanitize.

// Size is a number of bytes in binary units, with one decimal.
func Size(bytes uint64) string { return size(bytes) }

// Duration is a time in nanoseconds, as coarse as people read it.
func Duration(ns uint64) string { return duration(ns) }

// Plural counts things: "1 victim", "2 victims".
func Plural(n uint64, thing string) string { return plural(n, thing) }

// Task names a process and its id.
func Task(comm string, pid int) string { return task(comm, pid) }

// RungName names a cgroup as shortly as it can be told from its neighbours.
func RungName(level events.Level, w *events.Workload, path string) string {
	return rungName(level, w, path)
}

// Outcome is the outcome as a headline has it.
func Outcome(inc *events.Incident) string {
	words, _ := headWords(inc)
	return words
}

// Shortage is what ran out; empty where the scope is not known.
func Shortage(inc *events.Incident) string {
	var nodes []int
	if inc.Limiter != nil {
		nodes = inc.Limiter.Nodes
	}

	return shortage(inc.Scope, nodes)
}

// Class is what the memory was for.
func Class(c string) string { return class(c) }

// Role is why a victim died.
func Role(r events.Role) string { return role(r) }

// KillPath is the way to the kill.
func KillPath(k *events.Killer, scope events.Scope) string {
	if scope == events.ScopeUser {
		return userPath(k.Path)
	}

	return killPath(k.Path, scope)
}

// Stall is a kind of stall.
func Stall(what string) string { return stallWord(what) }

// Paragraph lays running text out in lines of at most width columns, indented by
// indent; 0 has no limit. It is safe for a terminal and ends with a newline.
func Paragraph(text string, width, indent int) string {
	p := page{width: width}
	blank := strings.Repeat(" ", indent)
	p.wrap(blank, indent, "", prose(text), blank)

	return p.buf.String()
}

// ClipMiddle keeps the begin and the end of a sanitized text: names of the same kind
// differ at their ends.
func ClipMiddle(s string, columns int) string {
	if fits(s, columns) {
		return s
	}
	head, rest := cut(s, (columns-1)/2)

	return head + tail(rest, columns-width(head))
}

// ShortID is as much of an id as people tell it by.
func ShortID(id string) string { return shortID(id) }

// ShortPath shows a path in at most columns: first with the ids in it shortened,
// then without its middle, then only its tail.
func ShortPath(path string, columns int) string { return shortPath(path, columns) }
