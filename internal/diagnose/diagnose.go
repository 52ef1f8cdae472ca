// SPDX-License-Identifier: Apache-2.0

// Package diagnose tells why it came to a kill, and what can be done: rules
// from the evidence of an incident to causes with advice.
//
// It looks at the incident alone and at a few earlier ones, never at the
// machine. So it says the same live, in a replay and of a kernel log, as far as
// each has the evidence. A rule without its evidence is silent.
package diagnose

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// The values of events.Cause.Confidence.
const (
	Certain  = "certain"  // the evidence leaves nothing else
	Likely   = "likely"   // the evidence fits, and another cause could have it too
	Possible = "possible" // worth a look
)

// class orders what was found. The first cause of the list is what a reader
// takes for the answer, so what explains the kill by itself goes before what
// would be true of most kills.
type class int

const (
	// classDeed: somebody asked for it, and what memory was used for matters less.
	classDeed class = iota
	// classShortage: what in particular ran short, or filled the limit, other than
	// the plain memory of processes.
	classShortage
	// classBoundary: a limit, or a way to the victim, that is not where one looks
	// first: an ancestor's, swap's, a neighbour's.
	classBoundary
	// classPlain: the limit was simply reached.
	classPlain
	// classCourse: what went before, what made it worse, and why this victim.
	classCourse
	// classHint: what is only possible, whatever it is about.
	classHint
)

// finding is a rule that has its evidence.
type finding struct {
	text       string
	confidence string
	evidence   []events.Evidence
	// weight orders findings of one class and confidence: the share of what ran
	// out that it explains, 0 where it is about none.
	weight float64
	// minor makes it part of the course: the rule's evidence is there, but
	// something else explains more.
	minor bool
}

// Diagnose gives the causes of an incident, with all its updates merged, the
// best answer first. What is known of earlier kills may be nil. It leaves its
// arguments alone, and is safe for concurrent use.
//
// The order: what explains the kill by itself before what accompanied it, and
// what is only possible last; among equals the better supported, then that which
// explains more of the memory, then the more specific.
func Diagnose(inc *events.Incident, history History) []events.Cause {
	type ranked struct {
		class class
		rule  *rule
		*finding
	}
	f := newFacts(inc, history)
	var found []ranked

	for i := range rules {
		r := &rules[i]

		hit := r.match(f)
		if hit == nil {
			continue
		}
		at := r.class

		switch {
		case hit.confidence == Possible:
			at = classHint
		case hit.minor:
			at = classCourse
		}

		found = append(found, ranked{at, r, hit})
	}
	// Stable: the table has the more specific rule first.
	slices.SortStableFunc(found, func(a, b ranked) int {
		return cmp.Or(
			cmp.Compare(a.class, b.class),
			cmp.Compare(doubt(a.confidence), doubt(b.confidence)),
			cmp.Compare(b.weight, a.weight),
		)
	})

	var causes []events.Cause
	for _, hit := range found {
		causes = append(causes, events.Cause{
			ID: hit.rule.id, Text: hit.text, Confidence: hit.confidence, Evidence: hit.evidence,
			Advice: hit.rule.advise(f), Reference: hit.rule.reference,
		})
	}

	return causes
}

// Prospect gives the causes that a kill would have of which nothing has run out yet, as
// [events.Inspection.Incident] makes it. That the limit was reached is the premise
// there, and no finding.
func Prospect(inc *events.Incident) []events.Cause {
	return slices.DeleteFunc(Diagnose(inc, nil), func(c events.Cause) bool {
		return slices.ContainsFunc(rules, func(r rule) bool { return r.id == c.ID && r.class == classPlain })
	})
}

func doubt(confidence string) int {
	return slices.Index([]string{Certain, Likely, Possible}, confidence)
}
