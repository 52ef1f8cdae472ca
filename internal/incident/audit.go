// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"fmt"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

const (
	auditAfterNS = 100e6 // without a kill
	auditTries   = 10
	auditEveryNS = 10e9 // if nothing happens
)

// audit compares the kernel's own count of OOM kills with the SIGKILLs that were seen.
// The kernel counts in __oom_kill_process, just before it sends one: each member of a
// group, the chosen process of a group perhaps twice, processes that share the victim's
// memory never (mm/oom_kill.c).
//
// The counter is only read when no kill has come in for a while, never between a kill
// and its incident.
type audit struct {
	read   func() (uint64, error) // nil: no audit
	known  bool
	baseNS uint64 // of the first reading
	base   uint64 // at the end of the last window
	window auditWindow
	// quietNS is since when no kill has come in, by the clock of Idle. 0: one has just come.
	quietNS uint64
	nextNS  uint64
	tries   int
}

// tally counts SIGKILLs of the OOM killer as the kernel does.
type tally struct {
	// kernelKills are those that __oom_kill_process counts; repeated are the ones among
	// them to a process that had one already.
	kernelKills, repeated uint64
	// perhaps are further ones that it may have counted: to a process that had one
	// already and shares its memory with another victim.
	perhaps uint64
}

// repeat counts a SIGKILL to a process that had one already. The chosen process of a
// group kill gets one more among the members, which the kernel counts. Where members
// share their memory, each gets one for each of the others as well, which it does not
// count (mm/oom_kill.c: __oom_kill_process).
func (t *tally) repeat(k kernel.Kill) {
	if k.SharesMM {
		t.perhaps++
		return
	}

	t.kernelKills++
	t.repeated++
}

func (t *tally) add(more tally) {
	t.kernelKills += more.kernelKills
	t.repeated += more.repeated
	t.perhaps += more.perhaps
}

// explains reports whether the kernel can have counted that many.
func (t *tally) explains(count uint64) bool {
	return t.kernelKills <= count && count <= t.kernelKills+t.perhaps
}

// observed is the count in words.
func (t *tally) observed() string {
	if t.perhaps > 0 {
		return fmt.Sprintf("%d to %d", t.kernelKills, t.kernelKills+t.perhaps)
	}

	return fmt.Sprint(t.kernelKills)
}

// auditWindow is what was seen between two readings.
type auditWindow struct {
	reported  []*reported // the newest, in a storm
	incidents int         // how many there were
	tally                 // of them all
	lost      uint64      // records
}

// auditResult is a window, and what the kernel counted in it.
type auditResult struct {
	auditWindow
	delta uint64
}

// count adds an incident to the window.
func (a *audit) count(r *reported) {
	if r.timeNS < a.baseNS {
		return // before the first reading: the hooks were already attached
	}

	a.add(r)
	a.window.tally.add(r.tally)
	a.restart()
}

// countLate counts more kills of an incident.
func (a *audit) countLate(r *reported, more tally) {
	if r.timeNS < a.baseNS {
		return
	}

	if !slices.Contains(a.window.reported, r) {
		a.add(r)
	}

	a.window.tally.add(more)
	a.restart()
}

func (a *audit) add(r *reported) {
	w := &a.window

	w.incidents++
	if len(w.reported) >= maxRecent {
		w.reported[0].auditAwaited = false
		w.reported = slices.Delete(w.reported, 0, 1)
	}
	w.reported = append(w.reported, r)
	r.auditAwaited = a.read != nil
}

// restart waits again until it is quiet.
func (a *audit) restart() { a.quietNS, a.nextNS, a.tries = 0, 0, 0 }

// run returns the result of a window that ends now, nil if none does.
func (a *audit) run(now uint64) *auditResult {
	if a.quietNS == 0 {
		a.quietNS = now
	}

	quiet := len(a.window.reported) == 0 || now-a.quietNS >= auditAfterNS
	if a.read == nil || !quiet || now < a.nextNS {
		return nil
	}

	return a.take(now, false)
}

// close returns the result of the last window, nil if there is none.
func (a *audit) close(now uint64) *auditResult {
	if a.read == nil || !a.known {
		return nil
	}

	return a.take(now, true)
}

func (a *audit) take(now uint64, last bool) *auditResult {
	count, err := a.read()
	if err != nil {
		a.nextNS = now + auditEveryNS
		return nil // doctor reports why, and incidents come without an audit
	}

	if !a.known {
		a.base, a.known, a.baseNS = count, true, now
		a.nextNS = now + auditEveryNS

		return nil
	}

	result := &auditResult{auditWindow: a.window, delta: count - a.base}
	if !result.matches() && a.tries < auditTries && !last {
		a.tries++ // the record of a kill may be in the ring buffer
		a.nextNS = now + auditAfterNS

		return nil
	}

	for _, r := range a.window.reported {
		r.auditAwaited = false
	}

	a.base, a.window = count, auditWindow{}
	a.quietNS, a.nextNS, a.tries = now, now+auditEveryNS, 0

	return result
}

func (a *auditResult) matches() bool { return a.explains(a.delta) }

// finding describes a mismatch; "" if there is none.
func (a *auditResult) finding() string {
	if a.matches() {
		return ""
	}

	text := fmt.Sprintf("the kernel counted %d OOM kills, %s were observed", a.delta, a.observed())
	if a.lost > 0 {
		text += fmt.Sprintf("; %d records were lost", a.lost)
	}

	return text
}

// of returns the audit of one incident of the window.
func (a *auditResult) of(r *reported) *events.Audit {
	memcgMatches := r.memcgDelta == nil || r.explainsMemcg(*r.memcgDelta)

	kills, windowKills := r.kernelKills, a.kernelKills
	if a.matches() {
		windowKills = a.delta

		if r.perhaps == a.perhaps { // no other incident of the window is in doubt
			kills += a.delta - a.kernelKills
		}
	}

	return &events.Audit{
		Victims: len(r.victims), KernelKills: kills,
		VMStatDelta: new(a.delta), Incidents: a.incidents, WindowKills: windowKills,
		MemcgDelta: r.memcgDelta, Explained: a.matches() && memcgMatches, Text: a.text(r, memcgMatches),
	}
}

func (a *auditResult) text(r *reported, memcgMatches bool) string {
	text := phrase.Plural(len(r.victims), "victim")

	switch {
	case a.incidents == 1:
		text += fmt.Sprintf("; oom_kill +%d", a.delta)
	case a.matches():
		text += fmt.Sprintf("; oom_kill +%d over %d incidents, all reported", a.delta, a.incidents)
	default:
		text += fmt.Sprintf("; oom_kill +%d over %d incidents", a.delta, a.incidents)
	}

	if r.repeated > 0 {
		text += " (the kernel counts the chosen victim of a group kill twice)"
	}

	switch shared := r.sharing(); {
	case r.perhaps > 0:
		text += " (victims share memory: the kernel kills each of them several times, and counts some of these)"
	case shared > 0:
		text += fmt.Sprintf(" (not counted by the kernel: %d sharing the victim's memory)", shared)
	}

	if !memcgMatches {
		text += fmt.Sprintf("; the limiter's memory.events +%d", *r.memcgDelta)
	}

	if !a.matches() {
		text += fmt.Sprintf("; %s kills were observed", a.observed())
	}

	return text
}

// explainsMemcg reports whether the limiter's memory.events can have grown by that many
// kills. The kernel counts a kill where the memory belongs, which for memory that is
// shared can be another cgroup than the victim's (include/linux/memcontrol.h:
// memcg_memory_event_mm).
func (r *reported) explainsMemcg(count uint64) bool {
	return r.explains(count) || r.sharing() > 0 && count < r.kernelKills
}

// sharing counts the victims that were killed for the memory that they share.
func (r *reported) sharing() (n int) {
	for _, v := range r.victims {
		if v.role == events.RoleSharedMM {
			n++
		}
	}

	return n
}
