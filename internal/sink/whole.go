// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxHeld bounds the lines that a Whole holds back. The causes of an incident come within two
// seconds, so only a storm of kills has more.
const maxHeld = 1024

// Whole holds an incident back until its causes were worked out, so that the next sink gets it in
// one piece; until its final line, where lines of a recording do not report the former; and at the
// latest until Close. Updates meanwhile become part of it, later ones are forwarded.
type Whole struct {
	next    Sink
	inOrder bool
	held    []heldLine // oldest first
}

// heldLine is an incident that is held back, or a line behind one.
type heldLine struct {
	line events.Line // an *events.Incident with its updates so far
	open bool        // it may still change
}

// NewWhole returns a Whole in front of next that forwards all other lines at once, headlines above
// all.
func NewWhole(next Sink) *Whole { return &Whole{next: next} }

// NewWholeInOrder returns a Whole in front of next that keeps the order of all lines: what comes
// after an incident waits for it. It is for lines of the past.
func NewWholeInOrder(next Sink) *Whole { return &Whole{next: next, inOrder: true} }

// Write forwards a line, or holds it back.
func (w *Whole) Write(l events.Line) error {
	switch l := l.(type) {
	case *events.Incident:
		// One that a filter forwards late, since it matches by a name that came late, is explained.
		w.held = append(w.held, heldLine{l, w.inOrder || len(l.Causes) == 0})
		return w.release(len(w.held) > maxHeld)
	case *events.Update:
		if i := w.find(l.Change); i >= 0 {
			if l.After != nil {
				w.held[i].line = l.After
			}

			if w.inOrder && mayTakeHours(l.After) {
				w.held[i].open = false
				return w.release(false)
			}

			return nil
		}
	case *events.Explained:
		if i := w.find(l.Incident); i >= 0 {
			w.held[i] = heldLine{l.Incident, false}
			return w.release(false)
		}
	case *events.Final:
		if i := w.find(&l.Incident); i >= 0 {
			w.held[i] = heldLine{&l.Incident, false}
		}
	case *events.Status: // what follows is of another trace, or is that: one that was killed has no end
		if l.Phase == events.PhaseEnd || l.Phase == events.PhaseStart {
			if err := w.Close(); err != nil {
				return err
			}
		}
	}

	if w.inOrder && len(w.held) > 0 {
		w.held = append(w.held, heldLine{l, false})
		return w.release(len(w.held) > maxHeld)
	}

	if err := w.release(false); err != nil {
		return err
	}

	return w.next.Write(l)
}

// mayTakeHours reports whether an incident is explained, but will be final only once tasks need not
// wait for memory any more. Lines that are followed must not wait for that.
func mayTakeHours(inc *events.Incident) bool {
	return inc != nil && len(inc.Causes) > 0 && inc.Wait != nil && inc.Wait.EndedAfterNS == nil
}

// find returns the place of an incident among those that may still change, -1 if it is not.
func (w *Whole) find(inc *events.Incident) int {
	return slices.IndexFunc(w.held, func(h heldLine) bool {
		held, ok := h.line.(*events.Incident)
		return ok && h.open && held.ID == inc.ID && held.BootID == inc.BootID
	})
}

// release forwards the lines that wait for nothing more, and the oldest if there are too many.
func (w *Whole) release(tooMany bool) error {
	if tooMany {
		w.held[0].open = false
	}

	for i := 0; i < len(w.held); {
		if w.held[i].open {
			if w.inOrder {
				return nil
			}

			i++

			continue
		}

		line := w.held[i].line
		w.held = slices.Delete(w.held, i, i+1)

		if err := w.next.Write(line); err != nil {
			return err
		}
	}

	return nil
}

// Close forwards what is still held back, oldest first.
func (w *Whole) Close() error {
	for i := range w.held {
		w.held[i].open = false
	}

	return w.release(false)
}
