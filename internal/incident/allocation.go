// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
)

func (c *Correlator) allocation(e *episode, unknown *unknowns) *events.Allocation {
	a := &events.Allocation{}

	switch {
	case e.decision != nil && e.decision.AllocKnown:
		d := e.decision
		a.Order, a.GFP, a.TotalPages = pointer(int(d.Order)), pointer(d.GFP), pointer(d.TotalPages)
		a.GFPFlags = oom.FlagNames(d.GFP)
	case e.end != nil && e.end.AllocKnown:
		a.Order, a.GFP, a.GFPFlags = pointer(int(e.end.Order)), pointer(e.end.GFP), oom.FlagNames(e.end.GFP)

		unknown.add("allocation.total_pages")
	default:
		unknown.add("allocation.order", "allocation.gfp", "allocation.gfp_flags", "allocation.total_pages")
	}

	if e.verdict.scope == events.ScopeSysrq {
		a.Class = "sysrq"
	} else if e.decision != nil {
		a.Class = c.class(e.decision.Stack)
	}

	if a.Class == "" {
		unknown.add("allocation.class")
	}

	return a
}

// class tells from the stack what the memory was for; empty where it does not
// tell, as where no function has a name.
func (c *Correlator) class(stack []uint64) string {
	if c.cfg.Symbol == nil {
		return ""
	}

	return oom.Class(func(yield func(string) bool) {
		for _, address := range stack {
			if name, ok := c.cfg.Symbol(address); ok && !yield(name) {
				return
			}
		}
	})
}
