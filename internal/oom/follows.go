// SPDX-License-Identifier: Apache-2.0

package oom

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// FollowWithin bounds how long after an OOM kill another kill of the same instance can still
// come of it: TimeoutStopSec= is 90 s by default, and databases raise it to minutes.
const FollowWithin = 10 * time.Minute

// MaxConsequences bounds what is listed as having come of one kill.
const MaxConsequences = 64

const (
	// stopNS is how soon systemd stops a unit after an OOM kill in it: it is notified of
	// memory.events (src/core/cgroup.c: on_cgroup_memory_event), and of the exit of the main
	// process. A SIGTERM within that time is its answer to the kill.
	stopNS = 1e9
	// slowStopNS is how long that takes at most on a node without memory.
	slowStopNS = 10e9
	// probeNS is how long a container without one of its processes takes to be killed for its
	// liveness probe: periods of ten seconds up to a minute, three failures, the grace period.
	probeNS = 300e9
	// exitNS is how soon PID 1 exits because one of its children was killed.
	exitNS = 10e9
)

// Follows returns how a kill from user space came of an OOM kill in the same instance, afterNS
// before; nil if nothing shows that it did. ID and Victim are left to the caller.
func Follows(k *events.Killer, afterNS uint64) *events.Follows {
	if k == nil || afterNS > uint64(FollowWithin) {
		return nil
	}

	f := &events.Follows{AfterNS: &afterNS, Confidence: events.ConfidenceLikely}

	if term := k.TermBeforeNS; term != nil {
		if *term > afterNS {
			return nil // the stop was under way before
		}

		f.TermAfterNS = new(afterNS - *term)
	}

	switch {
	case k.Path == events.PathSystemd && stops(k):
		f.Kind = events.AfterUnitStop
		began := afterNS // without SIGTERM, the kill itself is the stop

		if f.TermAfterNS != nil {
			if began = *f.TermAfterNS; began <= stopNS {
				f.Confidence = events.ConfidenceCertain
			}
		}

		return within(f, began, slowStopNS)
	case k.Path == events.PathRuntime && k.Reason == events.ReasonProbe:
		f.Kind = events.AfterProbe
		return within(f, afterNS, probeNS)
	case k.Path == events.PathPIDNS:
		f.Kind = events.AfterPIDNS
		return within(f, afterNS, exitNS)
	}

	return nil
}

// stops reports whether systemd killed because it stopped the unit.
func stops(k *events.Killer) bool {
	return k.Reason == "" || k.Reason == events.ReasonUnitStop || k.Reason == events.ReasonTimeout
}

func within(f *events.Follows, ns, limit uint64) *events.Follows {
	if ns > limit {
		return nil
	}

	return f
}
