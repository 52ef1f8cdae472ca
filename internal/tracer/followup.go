// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"maps"
	"slices"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/incident"
	"github.com/oomtrace/oomtrace/internal/ledger"
	"github.com/oomtrace/oomtrace/internal/oom"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// enricher adds evidence to incidents that were reported already. It knows neither the
// sinks nor other enrichers. All methods are called on the tracer's goroutine and do not
// wait: slow work is done on a goroutine that Run owns.
type enricher interface {
	// start starts the work on an incident, and reports whether a finding will follow that
	// the causes should wait for.
	start(inc *events.Incident) (awaited bool)
	// findings returns what was found since the last call. Quiet means that no records
	// are waiting to be read, so that a system call delays no verdict.
	findings(nowNS uint64, quiet bool) []finding
	// dropped returns how much was dropped since the start, and its name in lost lines.
	// The count of an enricher that drops nothing is zero.
	dropped() (what string, count uint64)
}

// finding is what an enricher learnt about an incident.
type finding struct {
	// change has the id of the incident, and the keys that are new. It may have none: the
	// enricher found nothing.
	change *events.Incident
	// last means that the enricher awaits nothing more for this incident.
	last bool
}

// pending is an incident whose causes are not reported yet. This is the only place that
// knows what causes wait for, and until when: names and the runtime's report, which they
// do not wait for, have deadlines of their own.
type pending struct {
	id         string
	awaits     map[enricher]bool
	deadlineNS uint64
}

// causesWithinNS bounds how long causes wait for evidence. What comes later is an update
// like any other, and changes the causes if it makes a difference.
const causesWithinNS = 2e9

// openIncidents is how many incidents can still change. It is more than the correlator
// updates, since SIGKILLs from user space are incidents too: they must not push out an OOM
// kill whose updates are still to come.
var openIncidents = ledger.Limits{Incidents: 2 * incident.MaxOpen}

// followUp completes incidents after their verdict: it starts the enrichers, applies what
// they find, and runs the diagnosis once nothing is awaited any more.
type followUp struct {
	bootID    string
	write     func(events.Line) error
	envelope  func(kind string) events.Envelope
	open      *ledger.Ledger
	enrichers []enricher
	journal   diagnose.Journal // of earlier kills
	pending   []*pending       // oldest first
	// unfinished are the incidents without their final line, oldest first.
	unfinished []unfinished
	// checkFinalNS is when they are checked next.
	checkFinalNS uint64
	// resolvesNames means that names are looked up, and runtimes asked.
	resolvesNames bool
	lost          map[string]uint64 // as reported so far, by the name of what was lost
}

func newFollowUp(bootID string, write func(events.Line) error, envelope func(string) events.Envelope) *followUp {
	f := &followUp{bootID: bootID, write: write, envelope: envelope, lost: make(map[string]uint64)}
	f.open = ledger.New(openIncidents, f.evict)

	return f
}

// current returns an incident with all changes so far, nil if it is not open.
func (f *followUp) current(id string) *events.Incident { return f.open.Get(f.bootID, id) }

// incident reports an incident, and then starts the enrichers.
func (f *followUp) incident(inc *events.Incident, nowNS uint64) error {
	inc.Follows = f.journal.Follows(inc)
	inc.Summary = answer.Summarize(inc)

	if err := f.write(inc); err != nil {
		return err
	}

	if err := f.open.Open(inc, 0); err != nil {
		return err
	}

	f.journal.Add(inc)

	if err := f.followed(inc); err != nil {
		return err
	}

	p := &pending{id: inc.ID, awaits: make(map[enricher]bool), deadlineNS: nowNS + causesWithinNS}
	for _, e := range f.enrichers {
		if e.start(inc) {
			p.awaits[e] = true
		}
	}

	f.unfinished = append(f.unfinished, unfinished{id: inc.ID, startedNS: nowNS})
	if !diagnose.Explicable(inc) {
		return f.explained(inc.ID)
	}

	f.pending = append(f.pending, p)

	return nil
}

// followed adds a kill to the OOM kill that it followed from.
func (f *followUp) followed(inc *events.Incident) error {
	if inc.Follows == nil {
		return nil
	}

	kill := f.current(inc.Follows.ID)
	if kill == nil || len(kill.Followed) >= oom.MaxConsequences {
		return nil
	}

	return f.update(&events.Incident{ID: kill.ID, Followed: append(slices.Clip(kill.Followed), events.Consequence{
		Kind: inc.Follows.Kind, AfterNS: inc.Follows.AfterNS, ID: inc.ID, Text: phrase.UserKill(inc), Source: "kernel",
	})})
}

// update applies a change and reports it, with the summary if that changed. It sets the envelope
// of the change.
func (f *followUp) update(change *events.Incident) error {
	change.Envelope = f.envelope(events.KindIncidentUpdate)

	u := f.open.Apply(change, 0)
	if u.After != nil {
		f.journal.Add(u.After)

		if summary := answer.Summarize(u.After); summary != u.After.Summary {
			change.Summary, u.After.Summary = summary, summary // nobody else has seen them yet
		}
	}

	return f.write(u)
}

// changed reports a change by the correlator. Members of a group may die long after the
// first: once more, with the new victims, if the causes were reported already.
func (f *followUp) changed(change *events.Incident) error {
	before := f.current(change.ID)
	if err := f.update(change); err != nil || before == nil {
		return err
	}

	after := f.current(change.ID)
	waits := slices.ContainsFunc(f.pending, func(p *pending) bool { return p.id == change.ID })

	if waits || len(after.Victims) == len(before.Victims) {
		return nil
	}

	return f.explain(change.ID)
}

// advance applies what the enrichers found, and reports causes that wait for nothing
// more. They are reported in the order of their incidents.
func (f *followUp) advance(nowNS uint64, quiet bool) error {
	for _, e := range f.enrichers {
		for _, found := range e.findings(nowNS, quiet) {
			if err := f.apply(e, found); err != nil {
				return err
			}
		}
	}

	for len(f.pending) > 0 && (len(f.pending[0].awaits) == 0 || nowNS >= f.pending[0].deadlineNS) {
		if err := f.explainOldest(); err != nil {
			return err
		}

		if !quiet {
			break // one at a time, while records wait to be read
		}
	}

	if err := f.finalize(nowNS, quiet); err != nil {
		return err
	}

	return f.reportLost()
}

func (f *followUp) apply(e enricher, found finding) error {
	id, waits := found.change.ID, false
	for _, p := range f.pending {
		if p.id != id {
			continue
		}
		waits = true

		if found.last {
			delete(p.awaits, e)
		}
	}

	if isEmpty(found.change) {
		return nil
	}

	if err := f.update(found.change); err != nil || waits {
		return err
	}

	return f.explain(id) // once more, with later evidence
}

// finish reports the causes of all pending incidents, with the evidence so far, and what is not
// final yet.
func (f *followUp) finish(nowNS uint64) error {
	if err := f.advance(nowNS, true); err != nil {
		return err
	}

	for len(f.pending) > 0 {
		if err := f.explainOldest(); err != nil {
			return err
		}
	}

	for len(f.unfinished) > 0 {
		if err := f.final(f.unfinished[0].id); err != nil {
			return err
		}
	}

	return nil
}

func (f *followUp) explainOldest() error {
	id := f.pending[0].id
	f.pending[0] = nil
	f.pending = f.pending[1:]

	if err := f.explain(id); err != nil {
		return err
	}

	return f.explained(id)
}

// explain reports the causes of an incident if they changed.
func (f *followUp) explain(id string) error {
	inc := f.current(id)
	if inc == nil || !diagnose.Explicable(inc) {
		return nil
	}

	causes := f.journal.Diagnose(inc)
	if !diagnose.Changed(inc.Causes, causes) {
		return nil
	}

	return f.update(&events.Incident{ID: id, Causes: causes})
}

// evict explains an incident that has to make room in the ledger, and makes it final.
func (f *followUp) evict(inc *events.Incident) error {
	i := slices.IndexFunc(f.pending, func(p *pending) bool { return p.id == inc.ID })
	if i >= 0 {
		f.pending = slices.Delete(f.pending, i, i+1)

		if err := f.explain(inc.ID); err != nil {
			return err
		}
	}

	if err := f.explained(inc.ID); err != nil {
		return err
	}

	return f.final(inc.ID)
}

// reportLost reports what was lost since the last time.
func (f *followUp) reportLost() error {
	counts := make(map[string]uint64) // enrichers may count under the same name

	for _, e := range f.enrichers {
		what, count := e.dropped()
		counts[what] += count
	}

	for _, what := range slices.Sorted(maps.Keys(counts)) {
		if err := f.lostUpTo(what, counts[what]); err != nil {
			return err
		}
	}

	return f.lostUpTo(events.LostIncidentUpdate, f.open.Late())
}

func (f *followUp) lostUpTo(what string, count uint64) error {
	grown := count - f.lost[what]
	if grown == 0 {
		return nil
	}
	f.lost[what] = count

	return f.write(&events.Lost{Envelope: f.envelope(events.KindLost), What: what, Count: grown})
}
