// SPDX-License-Identifier: Apache-2.0

package kernellog

import "strings"

// A pager and a terminal cut lines at their width, and a log that was copied from one does not
// have the rest. What stands at the cut looks like a value and is only its beginning: a record
// whose end is missing is torn, and the last word of a torn record is not used.
//
// Three things show a cut: the mark of a pager (journalctl and less -S -M end a line with ">"),
// a message that is not complete by its own form, and a line that ends at the column at which
// another line of the report is cut. The last is known only afterwards: what such a line ends
// with is kept as an edge until the report is closed.

// narrowest is the narrowest terminal that lines are assumed to be cut for.
const narrowest = 40

// edge is the value at the end of a line of this width. drop removes it from the report.
type edge struct {
	width int
	drop  func()
}

// maxEdges bounds the edges of a report.
const maxEdges = 2 * maxTasks

// edge keeps how to remove what the line ends with.
func (r *report) edge(rec record, drop func()) {
	if rec.width >= narrowest && len(r.edges) < maxEdges {
		r.edges = append(r.edges, edge{rec.width, drop})
	}
}

// cutAt records the width at which a line of the report is cut.
func (r *report) cutAt(rec record) {
	if rec.torn && rec.width >= narrowest {
		r.cutWidth = rec.width
	}
}

// dropEdges removes what stands at the column at which lines of the report are cut, or at which
// others of the log were wrapped, 0 if none was.
func (r *report) dropEdges(wrapWidth int) {
	for _, e := range r.edges {
		if e.width == r.cutWidth || e.width == wrapWidth {
			e.drop()
		}
	}

	r.edges = nil
}

// markCut marks a line of the kernel whose end is missing.
func markCut(rec record) record {
	if text, marked := strings.CutSuffix(rec.text, ">"); marked && rec.width >= narrowest && !isStackMark(rec.text) {
		rec.text, rec.torn = text, true
	}

	rec.torn = rec.torn || cutShort(strings.TrimLeft(rec.text, " \t"))

	return rec
}

// isStackMark reports whether a line is "<TASK>" or the like, of a stack trace.
func isStackMark(text string) bool { return strings.HasPrefix(strings.TrimLeft(text, " "), "<") }

// cutShort reports whether a message of the OOM killer is not complete by its own form.
func cutShort(text string) bool {
	switch {
	case strings.Contains(text, invokedWords):
		// The oom_score_adj is the last since 2.6.36, the order was before.
		return !endsWithNumber(text, "_adj=", "order=", "oomkilladj=")
	case strings.HasPrefix(text, "oom-kill:constraint="):
		return !endsWithNumber(text, ",uid=")
	case strings.Contains(text, "Killed process "):
		return !endsLikeKill(text)
	case strings.Contains(text, "ll process ") && strings.Contains(text, ") score "):
		return !strings.HasSuffix(text, " sacrifice child") && !strings.HasSuffix(text, " or a child")
	case strings.HasPrefix(text, "Memory cgroup stats for "):
		text = strings.TrimRight(text, " ")
		return !strings.HasSuffix(text, ":") && !(strings.Contains(text, ": cache:") && strings.HasSuffix(text, "KB"))
	case strings.HasPrefix(text, "Node ") && strings.Contains(text, " hugepages_total="):
		return !strings.Contains(text, " hugepages_size=") || !strings.HasSuffix(text, "kB")
	case strings.HasPrefix(text, "Node ") && strings.Contains(text, "*"):
		return !strings.Contains(text, " = ") || !strings.HasSuffix(text, "kB")
	case strings.HasPrefix(text, "Task in /"):
		return !strings.Contains(text, taskInMiddle+"/")
	case strings.HasPrefix(text, "Tasks in /"):
		return !strings.HasSuffix(text, groupEnd)
	}

	return false
}

// endsLikeKill reports whether "Killed process N (x) ..." ends as in some version: with the
// oom_score_adj since 5.3, with the shared memory or the file pages before, or with the name.
func endsLikeKill(text string) bool {
	message, rest, _ := strings.Cut(text, "Killed process ")
	rest = strings.TrimRight(rest, " ")

	switch {
	case strings.Contains(rest, "pgtables:"), strings.Contains(rest, "oom_score_adj:"):
		return endsWithNumber(rest, "oom_score_adj:")
	case strings.Contains(rest, "shmem-rss:"), strings.Contains(rest, "file-rss:") && message == "":
		return strings.HasSuffix(rest, "kB") // the shared memory since 4.5, the message since 5.1
	case strings.Contains(rest, "file-rss:"):
		return false
	}

	// Since 5.1 the sizes follow a message and a name; in 2.6 the name was the last.
	return strings.HasSuffix(rest, ").") || message == "" && strings.HasSuffix(rest, ")")
}

// endsWithNumber reports whether the last of these keys in a text is followed by a whole
// number up to the end.
func endsWithNumber(text string, keys ...string) bool {
	for _, key := range keys {
		if _, value, found := cutLast(text, key); found {
			return isDigits(strings.TrimPrefix(strings.TrimRight(value, " "), "-"))
		}
	}

	return false
}
