// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	// reachedShare of the limit in anonymous memory leaves no doubt about what filled it.
	reachedShare = 0.50
)

// reachedRules are about a limit that was simply reached, by the anonymous memory of processes.
var reachedRules = []rule{
	{
		id:    "own_limit",
		means: "The container or service used up its own limit.",
		needs: fmt.Sprintf("scope memcg; the limiter is the victim's own cgroup or its innermost workload (container, service, "+
			"guest or job), or the pod of its only container, or a pod whose limit is that of its container; its limit was "+
			"not lowered. Certain if anonymous memory (of the limiter or, where that is not known, of the victim) is at "+
			"least %s of the limit", phrase.Percent(reachedShare)),
		reference: `Documentation/admin-guide/cgroup-v2.rst, memory.max; Kubernetes "Assign Memory Resources to ` +
			`Containers and Pods"`,
		match: ownLimit,
		advice: slices.Concat([]advice{
			{layer: kubernetes, text: "If the workload needs this much memory, set the limit " +
				"20 to 40 % above the p95 to p99 of real usage (the VPA recommends values).", when: ofAPod},
		}, raiseAdvice, []advice{raiseElsewhere}, programAdvice, []advice{
			throttleEarly,
		}),
	},
	{
		id:        "node_exhausted",
		means:     "The node's memory was used up before any cgroup reached its limit.",
		needs:     nodeExhaustedNeeds,
		reference: "Documentation/admin-guide/mm/concepts.rst, OOM killer",
		match:     nodeExhausted,
		advice: []advice{
			{layer: cgroupLayer, text: "Set a limit on workloads that may grow without bound, " +
				"so that they reach it before the node runs out of memory."},
			alertPressure,
			raiseEviction.only(ofAPod),
		},
	},
}

func ownLimit(f *facts) *finding {
	own, known := f.isOwnLimit()
	if !f.is(events.ScopeMemcg) || !known || !own {
		return nil
	}

	if _, _, lowered := f.lowered(); lowered {
		return nil // a limit that came down was not reached
	}
	hit := &finding{confidence: likely, evidence: limitEvidence(f), brief: f.filledBy()}
	l := f.limiter

	hit.text = f.owner()

	if l.LimitBytes != nil {
		hit.text += " of " + phrase.Size(*l.LimitBytes)
	}

	if l.CountsSwap() {
		hit.text += " for memory and swap together"
	}

	f.anonymous(hit)

	if !f.placeKnown() {
		hit.confidence = likely
	}

	if rate, _, ok := f.growth(); ok {
		hit.text += fmt.Sprintf(", and usage grew by %s/s", phrase.Size(rate))
		hit.evidence = append(hit.evidence, f.growthEvidence()...)
	}
	hit.text += "."

	return hit
}

// owner is who reached its own limit. Where it is not known in which cgroup the victim was,
// the limit need not be the victim's own.
func (f *facts) owner() string {
	l := f.limiter
	name := phrase.Capitalize(phrase.Cgroup(l.Level, l.Workload, l.Cgroup))

	if f.victim != nil {
		container := f.onlyContainer()
		called := phrase.ClipName(phrase.Container(container))

		switch {
		case container == nil && !f.placeKnown():
			return name + " reached its limit"
		case container == nil:
		case f.sameLimit(container.ContainerID):
			return name + ", whose limit is that of its container " + called + ", reached its own limit"
		default:
			return name + ", whose only container is " + called + ", reached its own limit"
		}
	}

	return name + " reached its own limit"
}

// anonymous makes the finding certain where anonymous memory filled the limit: by the
// limiter's charge, or where that is not known by the victim's.
func (f *facts) anonymous(hit *finding) {
	limit := value(f.limiter.LimitBytes)

	if v := f.victim; (f.charge == nil || f.charge.anon == nil) &&
		v != nil && v.AnonRSSBytes != nil && share(*v.AnonRSSBytes, limit) >= reachedShare {
		hit.confidence = certain
		// A process's counters differ a little from those of its cgroup.
		part := phrase.Percent(share(*v.AnonRSSBytes, limit)) + " of"
		if *v.AnonRSSBytes >= limit {
			part = "all of"
		}
		hit.text += fmt.Sprintf(": anonymous memory of %s accounts for %s it", process(&v.Process), part)
		hit.add("anonymous memory of "+process(&v.Process), phrase.Part(*v.AnonRSSBytes, limit), f.source(fromKernel))
	}

	if c := f.charge; c != nil {
		hit.evidence = append(hit.evidence, c.items(part{"anonymous memory", c.anon}, part{"page cache", c.cache})...)
		if c.share(c.anon) >= reachedShare {
			hit.confidence = certain
			hit.text += fmt.Sprintf(": anonymous memory accounts for %s of it", phrase.Percent(min(c.share(c.anon), 1)))
		}
	}
}

// filledBy is what takes up most of the limit, in few words. Counters differ a little: more than all of it is all.
func (f *facts) filledBy() string {
	of := func(what string, bytes, whole uint64, name string) string {
		return what + " is " + phrase.ShareOf(min(bytes, cmp.Or(whole, bytes)), whole, name)
	}

	switch v, c := f.victim, f.charge; {
	case c != nil && c.anon != nil && value(c.cache) > *c.anon:
		return of("page cache", *c.cache, c.whole, c.short)
	case c != nil && c.anon != nil:
		return of("anonymous memory", *c.anon, c.whole, c.short)
	case v != nil && v.AnonRSSBytes != nil:
		return of("the victim's anonymous memory", *v.AnonRSSBytes, value(f.limiter.LimitBytes), f.whole())
	}

	return "its own usage filled the limit"
}
