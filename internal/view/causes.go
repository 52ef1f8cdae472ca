// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
)

// causes has the best supported cause first, with its evidence.
func (b block) causes() []group {
	var groups []group

	for i := range b.inc.Causes {
		c := &b.inc.Causes[i]

		groups = append(groups, prose(fmt.Sprintf("%s, %s: %s", c.ID, c.Confidence, c.Text)), evidence(c.Evidence))
		if c.Reference != "" {
			groups = append(groups, prose("- see "+c.Reference))
		}
	}

	return groups
}

func evidence(facts []events.Evidence) group {
	g := group{sep: "; "}

	for _, e := range facts {
		item := e.What + ": " + e.Value
		if len(g.items) == 0 {
			item = "- " + item
		}

		if e.Source != "" {
			item += " (" + e.Source + ")"
		}

		g.items = append(g.items, item)
	}

	return g
}

// advice is that of all causes. The same advice is given once.
func (b block) advice() []group {
	var groups []group

	seen := map[string]bool{}

	for i := range b.inc.Causes {
		for _, a := range b.inc.Causes[i].Advice {
			if line := a.Layer + ": " + a.Text; !seen[line] {
				seen[line] = true
				groups = append(groups, prose(line))
			}
		}
	}

	return groups
}
