// SPDX-License-Identifier: Apache-2.0

// Package diagnose finds the causes of a kill, and what can be done: rules lead from the
// evidence of an incident to causes with advice.
//
// The rules look at the incident and at a few earlier kills, never at the machine. So
// they find the same live, in a replay and in a kernel log, as far as each has the
// evidence. A rule without its evidence is silent.
package diagnose

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// The confidences by short names, for the tables of rules.
const (
	certain  = events.ConfidenceCertain
	likely   = events.ConfidenceLikely
	possible = events.ConfidencePossible
)

// textRunes bounds the text of a cause: a few sentences with clipped names.
const textRunes = 600

// briefRunes bounds the brief of a cause, briefName a name in it.
const (
	briefRunes = 80
	briefName  = 32
)

// finding is what a rule concludes from its evidence.
type finding struct {
	text, brief string // as events.Cause has them
	confidence  string
	evidence    []events.Evidence
	// weight orders findings of one class and confidence: the share of what ran out
	// that the finding explains, 0 where it is about none.
	weight float64
	// minor makes it a contributing factor: the rule has its evidence, but something
	// else explains more.
	minor bool
}

func (f *finding) add(what, value, source string) {
	f.evidence = append(f.evidence, item(what, value, source))
}

// Diagnose returns the causes of an incident, with all its updates merged, the best
// answer first. The history of earlier kills may be nil. It does not change its
// arguments, and is safe for concurrent use.
//
// The order: what explains the kill by itself, then contributing factors, then what is
// only possible; among equals the better supported, then that which explains more of
// the memory, then the more specific.
func Diagnose(inc *events.Incident, history History) []events.Cause {
	return causes(incidentFacts(inc, history), rules)
}

// Prospect returns the causes that a kill would have if the limiter ran out now. That
// the limit was reached is the premise there, and no finding.
func Prospect(i *events.Inspection) []events.Cause {
	return causes(inspectionFacts(i), slices.DeleteFunc(slices.Clone(rules), func(r rule) bool { return r.class == classReached }))
}

func causes(f *facts, rules []rule) []events.Cause {
	type ranked struct {
		class class
		rule  *rule
		*finding
	}
	var found []ranked

	replaced := map[string]bool{}

	for i := range rules {
		r := &rules[i]

		hit := r.match(f)
		if hit == nil || replaced[r.id] {
			continue
		}

		for _, id := range r.instead {
			replaced[id] = true
		}
		class := r.class

		switch {
		case hit.confidence == possible:
			class = classHint
		case hit.minor:
			class = classContributing
		}

		found = append(found, ranked{class, r, hit})
	}

	found = slices.DeleteFunc(found, func(h ranked) bool { return replaced[h.rule.id] })

	// The sort is stable: the table has the more specific rule first.
	slices.SortStableFunc(found, func(a, b ranked) int {
		return cmp.Or(
			cmp.Compare(a.class, b.class),
			cmp.Compare(doubt(a.confidence), doubt(b.confidence)),
			cmp.Compare(b.weight, a.weight),
		)
	})

	var list []events.Cause
	for _, hit := range found {
		list = append(list, events.Cause{
			ID: hit.rule.id, Text: phrase.ClipEnds(hit.text, textRunes),
			Brief: phrase.ClipEnds(phrase.Sanitize(hit.brief), briefRunes), Confidence: hit.confidence, Evidence: hit.evidence,
			Advice: hit.rule.advise(f), Reference: hit.rule.reference,
		})
	}

	return list
}

// clip shortens a name for a brief.
func clip(name string) string { return phrase.ClipEnds(name, briefName) }

func doubt(confidence string) int {
	return slices.Index([]string{certain, likely, possible}, confidence)
}
