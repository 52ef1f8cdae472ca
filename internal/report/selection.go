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

const (
	// selectionBytes bounds the JSON of a selection.
	selectionBytes = 32 << 20
	// maxListed bounds the incidents of a list.
	maxListed = 5000
)

// selection holds the most important incidents: a row of each, and of the first of them all,
// as JSON so that their size is known and bounded. A difference found by the audit, a panic and
// an OOM of the whole node are the most important, then other kills, then the rest; of equal
// importance the newest.
type selection struct {
	most     int // in detail
	listed   ranking
	detailed ranking // part of listed
	bytes    int     // of the JSON
	seen     int
	unlisted uint64
}

// entry is an incident with its rank.
type entry struct {
	row
	importance int
	at         int64  // ns
	seq        int    // decides for incidents of the same instant
	json       []byte // nil: not shown in detail
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

	e := &entry{importance: importance(inc), at: inc.Time.UnixNano(), seq: s.seen}

	listed := max(maxListed, s.most)
	if len(s.listed) >= listed && e.compare(s.listed[0]) < 0 {
		s.unlisted++
		return nil
	}

	e.row = newRow(inc)
	heap.Push(&s.listed, e)

	if len(s.listed) > listed {
		heap.Pop(&s.listed)
		s.unlisted++
	}

	if len(s.detailed) >= s.most && e.compare(s.detailed[0]) < 0 {
		return nil
	}

	line, err := events.Marshal(inc)
	if err != nil {
		return fmt.Errorf("encode incident %s: %w", inc.ID, err)
	}

	e.json = line
	heap.Push(&s.detailed, e)

	s.bytes += len(e.json)
	for len(s.detailed) > s.most || s.bytes > selectionBytes {
		least := heap.Pop(&s.detailed).(*entry)
		s.bytes -= len(least.json)
		least.json = nil
	}

	return nil
}

// each yields the listed incidents, oldest first.
func (s *selection) each() iter.Seq[*entry] {
	return slices.Values(slices.SortedFunc(slices.Values(s.listed), func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq))
	}))
}

// incident returns a new copy of the incident; nil if it is not shown in detail.
func (e *entry) incident() *events.Incident {
	inc := new(events.Incident)
	if e.json == nil || events.Unmarshal(e.json, inc) != nil { // add wrote it
		return nil
	}

	return inc
}

// compare orders entries by importance.
func (e *entry) compare(other *entry) int {
	return cmp.Or(cmp.Compare(e.importance, other.importance), cmp.Compare(e.at, other.at), cmp.Compare(e.seq, other.seq))
}

// ranking has the least important entry first.
type ranking []*entry

func (h ranking) Len() int           { return len(h) }
func (h ranking) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h ranking) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *ranking) Push(x any)        { *h = append(*h, x.(*entry)) }
func (h *ranking) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]

	return last
}
