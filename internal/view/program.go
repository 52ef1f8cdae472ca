// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// programs are what the victims ran, as far as it is one of the known kinds.
func (b block) programs() []group {
	var groups []group

	for i := range b.inc.Victims {
		v := &b.inc.Victims[i]
		if p := v.Program; p != nil && p.Kind != events.ProgramOther {
			groups = append(groups, list(append([]string{phrase.Task(v.Comm, v.PID) + " " + phrase.Program(p)}, settings(p)...)...))
		}
	}

	return groups
}

func settings(p *events.Program) []string {
	var items []string

	for _, s := range p.Settings {
		value := s.Value
		if s.Bytes != nil {
			value = phrase.Size(*s.Bytes)
		}

		items = append(items, s.Name+" "+value+" ("+s.Source+")")
	}

	if p.Settings != nil && len(p.Settings) == 0 {
		items = append(items, "no memory settings")
	}

	if p.ReadOf != 0 {
		items = append(items, fmt.Sprintf("read of process %d of the same name", p.ReadOf))
	}

	return items
}
