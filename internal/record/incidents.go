// SPDX-License-Identifier: Apache-2.0

package record

import "github.com/oomtrace/oomtrace/internal/events"

const (
	// windowMost is how many incidents wait for updates. A trace gives updates only
	// of its last 1024 incidents.
	windowMost = 2048
	// windowBytes bounds the lines of those that wait. Decoded they take about
	// twice the room.
	windowBytes = 32 << 20
)

// Incidents gives the incidents that r selects, each once, with all updates
// merged, in the order in which they were first told. An error of fn ends it.
//
// An incident waits for updates until 2048 others have come, or its lines and
// those of the ones that wait take more than 32 MiB: then the oldest is given out.
// An update that comes later still, or whose incident is not there, counts in
// Stats.Late.
func Incidents(r *Reader, fn func(*events.Incident) error) error {
	w := window{waiting: make(map[key]*waiting), fn: fn}

	for l, err := range r.Lines() {
		if err != nil {
			return err
		}

		if l.Kind == events.KindLost {
			r.stats.lose(l)
		}

		if !l.IsIncident() {
			continue
		}

		inc, err := l.incident()
		if err != nil {
			r.stats.Damaged++
			continue
		}

		if l.Kind == events.KindIncidentUpdate {
			if !w.merge(l.key(), inc, len(l.Raw)) {
				r.stats.Late++
			}

			continue
		}

		if err := w.add(l.key(), inc, len(l.Raw)); err != nil {
			return err
		}
	}

	return w.give(0, 0)
}

func (l *Line) incident() (*events.Incident, error) {
	line, err := l.Decode()
	if err != nil {
		return nil, err
	}

	return line.(*events.Incident), nil
}

// window holds incidents that may still get updates.
type window struct {
	waiting map[key]*waiting
	order   []*waiting // the oldest first
	bytes   int
	fn      func(*events.Incident) error
}

type waiting struct {
	key   key
	inc   *events.Incident
	bytes int
}

func (w *window) add(k key, inc *events.Incident, bytes int) error {
	// A second one of the same id, which only a recording that was put together by
	// hand has, takes the updates from here on.
	entry := &waiting{k, inc, bytes}
	w.waiting[k] = entry
	w.order = append(w.order, entry)
	w.bytes += bytes

	return w.give(windowMost, windowBytes)
}

func (w *window) merge(k key, update *events.Incident, bytes int) bool {
	entry := w.waiting[k]
	if entry == nil {
		return false
	}

	events.Merge(entry.inc, update)
	entry.bytes += bytes
	w.bytes += bytes

	return true
}

// give hands out the oldest until no more than so many wait.
func (w *window) give(most, bytes int) error {
	for len(w.order) > most || len(w.order) > 0 && w.bytes > bytes {
		entry := w.order[0]
		w.order[0] = nil
		w.order = w.order[1:]

		w.bytes -= entry.bytes
		if w.waiting[entry.key] == entry {
			delete(w.waiting, entry.key)
		}

		if err := w.fn(entry.inc); err != nil {
			return err
		}
	}

	return nil
}
