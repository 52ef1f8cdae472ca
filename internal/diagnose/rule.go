// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// rule leads from evidence to a cause.
type rule struct {
	id    string
	class class
	// means, and needs (the evidence), are for docs/causes.md.
	means, needs string
	reference    string
	// match is nil where a piece of the evidence is missing or too small.
	match  func(*facts) *finding
	advice []advice
}

// advice is given with the rule's cause where its own condition holds: it must
// follow from what was seen.
type advice struct {
	layer, text string
	when        *condition // nil: always
}

// condition is of advice; words are for docs/causes.md.
type condition struct {
	words string
	holds func(*facts) bool
}

var (
	ofAPod = &condition{"of a pod", (*facts).inPod}
	onV2   = &condition{"cgroup v2", func(f *facts) bool { return !f.v1() }}
	noPod  = &condition{"not of a pod", func(f *facts) bool { return !f.inPod() }}
)

// The layers of advice.
const (
	kubernetes  = "kubernetes"
	cgroupLayer = "cgroup"
	kernel      = "kernel"
	application = "application"
)

// rules are all there are, within a class the more specific first.
var rules = slices.Concat(deedRules, shortageRules, nodeRules, boundaryRules, plainRules, courseRules)

func (r *rule) advise(f *facts) []events.Advice {
	var list []events.Advice

	for _, a := range r.advice {
		if a.when == nil || a.when.holds(f) {
			list = append(list, events.Advice{Layer: a.layer, Text: a.text})
		}
	}

	return list
}
