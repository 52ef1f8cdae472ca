// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

// finalWithinNS is how long an incident may wait for its last update: a little longer than
// names are looked up and the runtime is asked.
const finalWithinNS = namesWithinNS + 1e9

// finalEvery is how often incidents are checked for being final: in a storm there are hundreds of
// them, and records wait meanwhile.
const finalEvery = 100e6

// unfinished is an incident whose final line is to come.
type unfinished struct {
	id        string
	startedNS uint64
	explained bool // its causes were worked out
}

// isFinal reports whether nothing more is expected of an incident that began so long ago. Tasks
// that wait for memory may do so for hours: the end of the wait is awaited.
func (f *followUp) isFinal(inc *events.Incident, ageNS uint64) bool {
	if inc.Wait != nil && inc.Wait.EndedAfterNS == nil {
		return false
	}

	return ageNS >= finalWithinNS || hasEnded(inc) && !(f.resolvesNames && (lacksNames(inc) || len(checks(inc)) > len(inc.Reported)))
}

// hasEnded reports whether the kernel is done with a kill: its victims have exited, and its
// counters were compared.
func hasEnded(inc *events.Incident) bool {
	if inc.Scope == events.ScopeUser {
		return true
	}

	running := func(v events.Victim) bool { return v.ExitAfterNS == nil }

	return inc.Audit != nil && !slices.ContainsFunc(inc.Victims, running)
}

// lacksNames reports whether a name may still come for the limiter, the trigger or a victim.
func lacksNames(inc *events.Incident) bool {
	lacks := func(w *events.Workload) bool {
		ref, ok := resolve.RefOf(w)

		return ok && (ref.PodUID != "" && w.Pod == "" || ref.ContainerID != "" && w.Container == "")
	}

	return inc.Limiter != nil && lacks(inc.Limiter.Workload) || inc.Trigger != nil && lacks(inc.Trigger.Workload) ||
		slices.ContainsFunc(inc.Victims, func(v events.Victim) bool { return lacks(v.Workload) })
}

// explained marks an incident whose causes were worked out, and reports that to the sinks that
// wait for the whole of it.
func (f *followUp) explained(id string) error {
	i := slices.IndexFunc(f.unfinished, func(u unfinished) bool { return u.id == id })
	if i < 0 || f.unfinished[i].explained {
		return nil
	}
	f.unfinished[i].explained = true

	inc := f.current(id)
	if inc == nil {
		return nil
	}

	return f.write(&events.Explained{Incident: inc})
}

// finalize writes the final lines that are due; of at most one incident while records wait to be
// read.
func (f *followUp) finalize(nowNS uint64, quiet bool) error {
	if nowNS < f.checkFinalNS {
		return nil
	}

	for i := 0; i < len(f.unfinished); i++ {
		u := f.unfinished[i]
		if inc := f.current(u.id); inc != nil && (!u.explained || !f.isFinal(inc, nowNS-min(u.startedNS, nowNS))) {
			continue
		}

		if err := f.final(u.id); err != nil || !quiet {
			return err
		}

		i--
	}

	f.checkFinalNS = nowNS + finalEvery

	return nil
}

// final writes the final line of an incident, once.
func (f *followUp) final(id string) error {
	i := slices.IndexFunc(f.unfinished, func(u unfinished) bool { return u.id == id })
	if i < 0 {
		return nil
	}
	f.unfinished = slices.Delete(f.unfinished, i, i+1)

	inc := f.current(id)
	if inc == nil {
		return nil
	}

	return f.write(events.FinalOf(inc))
}
