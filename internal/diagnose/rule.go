// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// class orders causes. A reader takes the first cause for the answer, so what explains a
// kill by itself goes before what would be true of most kills.
//
// A new rule goes into the table of the first class whose question it answers with yes.
type class int

const (
	// classAction: did somebody act, so that it matters less what memory was used for?
	// actions.go: a write that lowered the limit, sysrq-f; follows.go: an OOM kill before;
	// memorykillers.go: an eviction, systemd-oomd; userkills.go: another SIGKILL from user
	// space; waits.go: the OOM killer was disabled.
	classAction class = iota
	// classResource: did something in particular run short or fill the limit, other than
	// the anonymous memory of processes? resources.go: slab, tmpfs, page tables;
	// resources_holder.go: huge pages, zram, memory in no counter; resources_node.go: NUMA
	// nodes, contiguous pages; resources_zone.go: zones; program_rules.go: memory that
	// processes share.
	classResource
	// classPlacement: is it a limit, or a way to the victim, that one does not check
	// first? placement.go: the limit of an ancestor, of swap, of the node; a group kill;
	// reserved.go: what the kubelet reserves; program_rules.go: a limit that is too low for
	// what the program is.
	classPlacement
	// classReached: was the limit simply reached? reached.go.
	classReached
	// classContributing: did it only precede the kill, make it worse, or make it hit this
	// victim? contributing.go: stalls, a loop of kills, oom_score_adj; program_rules.go: memory
	// that a runtime does not count.
	classContributing
	// classHint: is it no more than possible, whatever the evidence? hints.go. A finding
	// of any rule that is only possible is sorted here as well.
	classHint
)

// rule leads from evidence to a cause.
type rule struct {
	id    string
	class class // that of the rule's table
	// means is the cause, and needs the evidence, for docs/causes.md.
	means, needs string
	reference    string
	// match returns nil where a piece of the evidence is missing or too small.
	match  func(*facts) *finding
	advice []advice
	// instead are the rules whose causes are not reported beside this one: they have the same
	// evidence and know less of what it means.
	instead []string
}

// rules are all rules, within a class the more specific first.
var rules = slices.Concat(
	ofClass(classAction, actionRules, followRules, memoryKillerRules, userKillRules, waitRules),
	ofClass(classResource, programResourceRules, resourceRules, holderRules, nodeResourceRules),
	ofClass(classPlacement, programPlacementRules, placementRules),
	ofClass(classReached, reachedRules),
	ofClass(classContributing, contributingRules, programContributingRules),
	ofClass(classHint, hintRules),
)

func ofClass(c class, tables ...[]rule) []rule {
	all := slices.Concat(tables...)
	for i := range all {
		all[i].class = c
	}

	return all
}

// advice comes with the rule's cause where its own condition holds: it must follow from
// the evidence.
type advice struct {
	layer, text string
	when        *condition // nil: always
	// with returns the advice with the incident's numbers in place of text, empty where they
	// are not known; nil: it has none.
	with func(*facts) string
}

// condition is a condition of advice, with words for docs/causes.md.
type condition struct {
	words string
	holds func(*facts) bool
}

var (
	ofAPod = &condition{"of a pod of this node", (*facts).inPod}
	onV2   = &condition{"cgroup v2", func(f *facts) bool { return !f.limiter.V1() }}
	noPod  = &condition{"not of a pod of this node", func(f *facts) bool { return !f.inPod() }}
)

// Advice that several rules give, in the same words.
var (
	throttleEarly = advice{
		layer: cgroupLayer, text: "Set memory.high below memory.max: tasks are throttled before they reach the limit, and the high " +
			"counter in memory.events shows it.", when: onV2,
	}
	alertPressure = advice{
		layer: kernel, text: "Alert on PSI memory some and full over 60 s and 300 s, of the node and of the cgroup: pressure rises " +
			"before a kill.",
	}
	raiseEviction = advice{
		layer: kubernetes, text: "Raise evictionHard for memory.available, so that the kubelet acts before the kernel: it checks " +
			"every 10 s, and the margin must cover 10 s of growth.",
	}
)

// The layers of advice.
const (
	kubernetes  = "kubernetes"
	cgroupLayer = "cgroup"
	kernel      = "kernel"
	application = "application"
)

func (r *rule) advise(f *facts) []events.Advice {
	var list []events.Advice

	for i := range r.advice {
		if a := &r.advice[i]; a.applies(f) {
			list = append(list, events.Advice{Layer: a.layer, Text: a.words(f)})
		}
	}

	return list
}

// only returns the advice with another condition.
func (a advice) only(when *condition) advice {
	a.when = when
	return a
}

// applies reports whether the advice follows from the evidence. That on Kubernetes is for
// what a kubelet runs.
func (a *advice) applies(f *facts) bool {
	return (a.layer != kubernetes || f.concernsKubernetes()) && (a.when == nil || a.when.holds(f))
}

func (a *advice) words(f *facts) string {
	if a.with == nil {
		return a.text
	}

	return cmp.Or(a.with(f), a.text)
}
