// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"container/heap"
	"fmt"
	"iter"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// selectionBytes bounds the JSON of a selection.
const selectionBytes = 32 << 20

// selection holds the most important incidents, as JSON so that their size is known and
// bounded. A difference found by the audit, a panic and an OOM of the whole node are the
// most important, then other kills, then the rest; of equal importance the newest.
type selection struct {
	most    int
	entries entryHeap
	bytes   int
	seen    int
	dropped uint64
}

type entry struct {
	importance int
	at         int64 // ns
	seq        int   // decides for incidents of the same instant
	json       []byte
}

func importance(inc *events.Incident) int {
	switch {
	case inc.Outcome == events.OutcomePanic, inc.Audit != nil && !inc.Audit.Explained:
		return 2
	case inc.Outcome != events.OutcomeKilled:
		return 0
	case inc.Scope == events.ScopeGlobal, inc.Scope == events.ScopeCpuset, inc.Scope == events.ScopeMempolicy:
		return 2
	}

	return 1
}

func (s *selection) add(inc *events.Incident) error {
	s.seen++

	e := entry{importance: importance(inc), at: inc.Time.UnixNano(), seq: s.seen}
	if len(s.entries) >= s.most && e.compare(s.entries[0]) < 0 {
		s.dropped++
		return nil
	}

	line, err := events.Marshal(inc)
	if err != nil {
		return fmt.Errorf("encode incident %s: %w", inc.ID, err)
	}
	e.json = line
	heap.Push(&s.entries, e)

	s.bytes += len(e.json)
	for len(s.entries) > s.most || s.bytes > selectionBytes {
		least := heap.Pop(&s.entries).(entry)
		s.bytes -= len(least.json)
		s.dropped++
	}

	return nil
}

// each yields the selected incidents, oldest first, each a new copy.
func (s *selection) each() iter.Seq[*events.Incident] {
	return func(yield func(*events.Incident) bool) {
		byTime := slices.SortedFunc(slices.Values(s.entries), func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq))
		})
		for _, e := range byTime {
			inc := new(events.Incident)
			if events.Unmarshal(e.json, inc) != nil { // add wrote it
				continue
			}

			if !yield(inc) {
				return
			}
		}
	}
}

// compare orders entries by importance.
func (e entry) compare(other entry) int {
	return cmp.Or(cmp.Compare(e.importance, other.importance), cmp.Compare(e.at, other.at), cmp.Compare(e.seq, other.seq))
}

// entryHeap has the least important entry first.
type entryHeap []entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h entryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *entryHeap) Push(x any)        { *h = append(*h, x.(entry)) }
func (h *entryHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = entry{}
	*h = old[:len(old)-1]

	return last
}
