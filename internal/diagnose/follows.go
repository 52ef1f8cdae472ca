// SPDX-License-Identifier: Apache-2.0

package diagnose

import (
	"cmp"
	"fmt"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// The conditions of advice on what followed from an OOM kill.
var (
	unitStopped = &condition{"a unit was stopped", func(f *facts) bool { return f.follows.Kind == events.AfterUnitStop }}
	stopTooSlow = &condition{"a unit was stopped, SIGTERM was not enough", func(f *facts) bool {
		return f.follows.Kind == events.AfterUnitStop && f.killer.Reason == events.ReasonTimeout
	}}
	probeFailed = &condition{"a probe failed", func(f *facts) bool { return f.follows.Kind == events.AfterProbe }}
	initExited  = &condition{"PID 1 exited", func(f *facts) bool { return f.follows.Kind == events.AfterPIDNS }}
)

// followRules are about kills that are a consequence of an OOM kill.
var followRules = []rule{{
	id: "followed_oom",
	means: "The kill was a consequence of an OOM kill in the same unit, container or PID namespace: systemd stopped the rest of the " +
		"unit (OOMPolicy=stop is the default), a probe failed because a process was missing, or PID 1 exited. The cause " +
		"is that of the OOM kill.",
	needs: fmt.Sprintf("a kill from user space, and an OOM kill in the same instance of the workload at most %.0f minutes before. "+
		"It is certain where systemd sent SIGTERM within a second after the OOM kill, and likely where a failed "+
		"probe, a stop without SIGTERM or the exit of PID 1 came soon after it", oom.FollowWithin.Minutes()),
	reference: "systemd.service(5) OOMPolicy=; systemd.kill(5); Kubernetes \"Configure Liveness, Readiness and Startup Probes\"",
	match:     followedOOM,
	advice: []advice{
		{layer: application, text: "Look at the causes of the OOM kill: this kill is only a consequence of it."},
		{
			layer: cgroupLayer, text: "Set OOMPolicy=continue if the unit can go on without the process that was killed, or " +
				"OOMPolicy=kill to end all of it at once. Raise MemoryMax= of the unit if its limit was hit.",
			when: unitStopped,
		},
		{
			layer: application, text: "Handle SIGTERM and exit within TimeoutStopSec=: until then the unit is down and not restarted.",
			when: stopTooSlow,
		},
		{
			layer: kubernetes, text: "Let the container end as a whole when one of its processes is killed: make the process its " +
				"PID 1, or have PID 1 exit with it. The kubelet sets memory.oom.group on cgroup v2 unless singleProcessOOMKill is true.",
			when: probeFailed,
		},
		{
			layer: application, text: "Make PID 1 of the container report which of its children ended, and why, before it exits.",
			when: initExited,
		},
	},
}}

func followedOOM(f *facts) *finding {
	after := f.follows
	if after == nil || !f.is(events.ScopeUser) {
		return nil
	}

	victim, kill := phrase.ClipName(after.Victim), "an OOM kill"
	if victim != "" {
		kill = "the OOM kill of " + victim
	}

	when := "earlier"
	if after.AfterNS != nil {
		when = phrase.Duration(*after.AfterNS) + " earlier"
	}

	hit := &finding{confidence: likely}
	if after.Confidence == certain {
		hit.confidence = certain
	}

	where := "container"
	if after.Kind == events.AfterUnitStop {
		where = "unit"
	}

	hit.text = fmt.Sprintf("This kill is a consequence of %s in the same %s %s: %s.", kill, where, when, f.consequence(after))
	hit.brief = f.briefly(after) + " after "

	if after.Victim == "" {
		hit.brief += "an OOM kill"
	} else {
		hit.brief += "the OOM kill of " + clip(after.Victim)
	}

	hit.add("OOM kill before", phrase.Join(", ", cmp.Or(victim, "a process"), when, idOf(after)), "earlier incident")

	if after.TermAfterNS != nil {
		hit.add("SIGTERM after that kill", phrase.Duration(*after.TermAfterNS), f.source("kernel at the signal"))
	}

	hit.evidence = append(hit.evidence, senderEvidence(f, &f.killer)...)

	return hit
}

func idOf(after *events.Follows) string {
	if after.ID == "" {
		return ""
	}

	return "incident " + phrase.ClipName(after.ID)
}

// consequence is the way from the OOM kill to this one.
func (f *facts) consequence(after *events.Follows) string {
	switch {
	case after.Kind == events.AfterUnitStop && f.killer.Reason == events.ReasonTimeout:
		return "systemd then stopped the unit and killed what had not ended within its stop timeout"
	case after.Kind == events.AfterUnitStop:
		return "systemd then stopped the rest of the unit"
	case after.Kind == events.AfterProbe:
		return "a probe failed afterwards, for which the kubelet has the container killed"
	case after.Kind == events.AfterPIDNS:
		return "PID 1 exited then, with which the rest of its PID namespace ends"
	}

	return "what was left was killed then"
}

// briefly is consequence in a few words.
func (f *facts) briefly(after *events.Follows) string {
	switch {
	case after.Kind == events.AfterUnitStop && f.killer.Reason == events.ReasonTimeout:
		return "the unit did not stop in time"
	case after.Kind == events.AfterUnitStop:
		return "the unit was stopped"
	case after.Kind == events.AfterProbe:
		return "a probe failed"
	case after.Kind == events.AfterPIDNS:
		return "PID 1 exited"
	}

	return "the rest was killed"
}

// mayFollowOOM reports whether an OOM kill in the same instance may be behind this kill. A person,
// or a process of the workload itself, has reasons of its own.
func (f *facts) mayFollowOOM() bool {
	if f.follows != nil {
		return true
	}

	switch f.killer.Path {
	case events.PathRuntime, events.PathSystemd, events.PathPIDNS, events.PathCgroupKill:
		return f.oomBefore
	}

	return false
}
