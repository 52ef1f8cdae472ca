// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// maxWanted bounds how many incidents of one id are kept; a recording has one.
const maxWanted = 64

// wanted keeps the incidents that match an id best so far: a later one may match better, or show
// that the id is ambiguous.
type wanted struct {
	ids  *events.IDFinder
	kept []*events.Incident
}

func (w *wanted) add(inc *events.Incident) error {
	w.ids.Add(inc.ID)

	id, err := w.ids.ID()
	if err != nil {
		w.kept = nil // each reports the error, unless a later one matches better
		return nil
	}

	if inc.ID == id {
		w.kept = append(slices.DeleteFunc(w.kept, func(k *events.Incident) bool { return k.ID != id }), inc)
	}

	if len(w.kept) > maxWanted {
		return fmt.Errorf("more than %d incidents match the ID %q: use a longer prefix", maxWanted, id)
	}

	return nil
}

// each calls do with the incidents that have the id.
func (w *wanted) each(do func(*events.Incident) error) error {
	if _, err := w.ids.ID(); err != nil {
		return err
	}

	for _, inc := range w.kept {
		if err := do(inc); err != nil {
			return err
		}
	}

	return nil
}
