// SPDX-License-Identifier: Apache-2.0

// Package ledger keeps the incidents that may still change, from the verdict to the last
// update. Producers apply the keys that changed, and get the whole incident before and
// after the change to report, so consumers neither merge nor remember incidents.
package ledger

import (
	"container/list"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Limits bound a Ledger. Zero values mean no bound.
type Limits struct {
	Incidents int
	// Bytes bounds the sum of the sizes passed to Open and Apply. Only Open evicts, so changes
	// can exceed the bound until the next incident is opened.
	Bytes int
}

// Ledger keeps open incidents, oldest first. Incidents are copied on write: one that a
// Ledger returned never changes. A Ledger belongs to one goroutine.
type Ledger struct {
	limits  Limits
	evicted func(*events.Incident) error
	entries map[key]*list.Element
	order   *list.List // of *entry, oldest first
	bytes   int
	late    uint64
}

// key identifies an incident: its id is unique within one boot.
type key struct{ bootID, id string }

type entry struct {
	key   key
	inc   *events.Incident
	bytes int
}

// New returns an empty Ledger. It calls evicted, which may be nil, with each incident that
// leaves the ledger, to make room or by Close. The incident has all changes so far.
func New(limits Limits, evicted func(*events.Incident) error) *Ledger {
	if evicted == nil {
		evicted = func(*events.Incident) error { return nil }
	}

	return &Ledger{limits: limits, evicted: evicted, entries: make(map[key]*list.Element), order: list.New()}
}

// Open adds an incident, which the caller must not change any more, and evicts the oldest
// ones beyond the limits. Size counts against Limits.Bytes. If the ledger has an incident
// with the same id, updates go to the new one; only recordings that were concatenated by
// hand have such pairs. The error is that of the evicted function.
func (l *Ledger) Open(inc *events.Incident, size int) error {
	k := key{inc.BootID, inc.ID}
	l.entries[k] = l.order.PushBack(&entry{k, inc, size})
	l.bytes += size

	return l.evict()
}

// Apply merges a change into its incident and returns the update to report. The update of
// an incident that is not open has neither Before nor After, and is counted by Late. Size
// is as for Open.
func (l *Ledger) Apply(change *events.Incident, size int) *events.Update {
	e := l.entry(change.BootID, change.ID)
	if e == nil {
		l.late++
		return &events.Update{Change: change}
	}

	before, after := e.inc, *e.inc
	events.Merge(&after, change)
	e.inc = &after
	e.bytes += size
	l.bytes += size

	return &events.Update{Change: change, Before: before, After: e.inc}
}

// Take converts a line of a recording into the form that it had in the trace: it opens an
// incident, and sets Before and After of an update. It returns other lines unchanged. Size
// is as for Open.
func (l *Ledger) Take(line events.Line, size int) (events.Line, error) {
	switch line := line.(type) {
	case *events.Incident:
		return line, l.Open(line, size)
	case *events.Update:
		return l.Apply(line.Change, size), nil
	}

	return line, nil
}

// Get returns an open incident with all changes so far, or nil.
func (l *Ledger) Get(bootID, id string) *events.Incident {
	if e := l.entry(bootID, id); e != nil {
		return e.inc
	}

	return nil
}

// Late returns the number of changes of incidents that were not open.
func (l *Ledger) Late() uint64 { return l.late }

// Close evicts all incidents, oldest first.
func (l *Ledger) Close() error {
	for l.order.Len() > 0 {
		if err := l.evictOldest(); err != nil {
			return err
		}
	}

	return nil
}

func (l *Ledger) entry(bootID, id string) *entry {
	if e := l.entries[key{bootID, id}]; e != nil {
		return e.Value.(*entry)
	}

	return nil
}

// evict makes room within the limits.
func (l *Ledger) evict() error {
	over := func(n, limit int) bool { return limit > 0 && n > limit }
	for l.order.Len() > 0 && (over(l.order.Len(), l.limits.Incidents) || over(l.bytes, l.limits.Bytes)) {
		if err := l.evictOldest(); err != nil {
			return err
		}
	}

	return nil
}

// evictOldest calls evicted while the incident is still open: evicted may apply a last
// change.
func (l *Ledger) evictOldest() error {
	oldest := l.order.Front()
	e := oldest.Value.(*entry)
	err := l.evicted(e.inc)

	l.order.Remove(oldest)
	l.bytes -= e.bytes

	if l.entries[e.key] == oldest {
		delete(l.entries, e.key)
	}

	return err
}
