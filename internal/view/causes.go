// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
)

// What a narrow block shows of causes and advice. The rest is counted.
const (
	narrowCauses = 3
	narrowAdvice = 4 // of the first cause
)

// causes has the best supported cause first. A narrow block gives the confidence of
// those that are not certain.
func (b block) causes() []group {
	causes := b.inc.Causes
	shown := b.shown(len(causes), narrowCauses)
	var groups []group

	for i := range causes[:shown] {
		c := &causes[i]
		if !b.wide {
			groups = append(groups, prose(doubt(c.Confidence)+c.Text))
			continue
		}

		groups = append(groups, prose(fmt.Sprintf("%s, %s: %s", c.ID, c.Confidence, c.Text)), evidence(c.Evidence))
		if c.Reference != "" {
			groups = append(groups, prose("- see "+c.Reference))
		}
	}

	return append(groups, more(len(causes)-shown, "cause"))
}

func doubt(confidence string) string {
	if confidence == events.ConfidenceCertain || confidence == "" {
		return ""
	}

	return confidence + ": "
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

// advice is that of all causes, in a narrow block that of the first. The same advice is
// given once.
func (b block) advice() []group {
	var all []string
	seen := map[string]bool{}
	ofFirst := 0

	for i := range b.inc.Causes {
		for _, a := range b.inc.Causes[i].Advice {
			if line := a.Layer + ": " + a.Text; !seen[line] {
				seen[line] = true
				all = append(all, line)
			}
		}

		if i == 0 {
			ofFirst = len(all)
		}
	}

	shown := len(all)
	if !b.wide {
		shown = b.shown(ofFirst, narrowAdvice)
	}

	var groups []group
	for _, line := range all[:shown] {
		groups = append(groups, prose(line))
	}

	if len(all) == shown {
		return groups
	}

	return append(groups, list(fmt.Sprintf("and %d more", len(all)-shown), "-o json lists all"))
}
