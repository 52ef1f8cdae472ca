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

// keptBytes is how much of incidents is held, as JSON.
const keptBytes = 32 << 20

// kept holds the most important incidents as JSON, so that their size is known
// and bounded. Important are those of the whole node, panics, and those whose
// audit found a difference; then kills; then the rest; of the same rank the
// newest.
type kept struct {
	max   int
	items heldHeap
	bytes int
	seen  int
	drops uint64
}

type held struct {
	rank int
	at   int64 // ns
	seq  int   // of the same instant the later
	json []byte
}

func rank(inc *events.Incident) int {
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

func (k *kept) add(inc *events.Incident) error {
	k.seen++

	h := held{rank: rank(inc), at: inc.Time.UnixNano(), seq: k.seen}
	if len(k.items) >= k.max && less(h, k.items[0]) {
		k.drops++
		return nil
	}

	line, err := events.Marshal(inc)
	if err != nil {
		return fmt.Errorf("keep incident %s: %w", inc.ID, err)
	}
	h.json = line
	heap.Push(&k.items, h)

	k.bytes += len(h.json)
	for len(k.items) > k.max || k.bytes > keptBytes {
		least := heap.Pop(&k.items).(held)
		k.bytes -= len(least.json)
		k.drops++
	}

	return nil
}

// each gives what is held, oldest first.
func (k *kept) each() iter.Seq[*events.Incident] {
	return func(yield func(*events.Incident) bool) {
		items := slices.SortedFunc(slices.Values(k.items), func(a, b held) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq))
		})
		for _, h := range items {
			inc := new(events.Incident)
			if events.Unmarshal(h.json, inc) != nil { // it was written here
				continue
			}

			if !yield(inc) {
				return
			}
		}
	}
}

func less(a, b held) bool {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq)) < 0
}

// heldHeap has the least important first.
type heldHeap []held

func (h heldHeap) Len() int           { return len(h) }
func (h heldHeap) Less(i, j int) bool { return less(h[i], h[j]) }
func (h heldHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heldHeap) Push(x any)        { *h = append(*h, x.(held)) }
func (h *heldHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = held{}
	*h = old[:len(old)-1]

	return last
}
