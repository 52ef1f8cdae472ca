// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// narrowWaiting is how many waiting processes a narrow block shows one by one.
const narrowWaiting = 4

// waiting are the tasks of an incident that wait for memory, since when, and the end.
func (b block) waiting() []group {
	w := b.inc.Wait
	if w == nil {
		return nil
	}
	groups := []group{b.waitingTasks(w, b.home())}

	since := "since before the trace started"
	if w.Since != nil {
		since = "since " + w.Since.In(b.loc).Format(time.TimeOnly)
	}

	if w.EndedAfterNS == nil {
		return append(groups, list(since))
	}

	ended := "ended after " + phrase.Duration(*w.EndedAfterNS)
	if w.Since == nil {
		ended = "ended " + phrase.Duration(*w.EndedAfterNS) + " after it was found"
	}

	if w.End != "" {
		ended += ": " + phrase.WaitEnd(w.End)
	}

	return append(groups, list(since, ended))
}

// waitingTasks lists the threads that wait, in a narrow block their processes.
func (b limitBlock) waitingTasks(w *events.OOMWait, known *events.Cgroup) group {
	var items []string

	left := w.TasksLeftOut

	for first, threads := range byProcess(w.Tasks, b.wide) {
		if !b.wide && len(items) == narrowWaiting {
			left += threads
			continue
		}

		name := phrase.Task(first.Comm, first.PID)
		switch {
		case threads > 1:
			name += fmt.Sprintf(" %d threads", threads)
		case first.TID != first.PID:
			name += " thread " + phrase.Task(cmp.Or(first.Thread, first.Comm), first.TID)
		}

		items = append(items, phrase.Join(" ", name, b.place(first, known)))
	}

	if len(w.Tasks) == 0 {
		items = append(items, "tasks ?")
	}

	if left > 0 {
		items = append(items, "and "+phrase.Plural(left, "more thread"))
	}

	if w.TasksUnread > 0 {
		items = append(items, phrase.Plural(w.TasksUnread, "thread")+" not examined")
	}

	return list(items...)
}

// byProcess yields the first of the listed threads of each process, and how many it has;
// in a wide block each thread.
func byProcess(tasks []events.Process, wide bool) iter.Seq2[*events.Process, int] {
	return func(yield func(*events.Process, int) bool) {
		for i := range tasks {
			same := func(p events.Process) bool { return p.PID == tasks[i].PID }

			threads := 1

			if !wide {
				if slices.ContainsFunc(tasks[:i], same) {
					continue
				}

				for _, p := range tasks[i+1:] {
					if same(p) {
						threads++
					}
				}
			}

			if !yield(&tasks[i], threads) {
				return
			}
		}
	}
}
