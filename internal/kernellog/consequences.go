// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kubelet"
	"github.com/oomtrace/oomtrace/internal/oom"
)

// sequel holds what systemd or the kubelet logged of a unit or a container after an OOM kill in it.
// It waits among the closed reports for the kernel's report of that kill, which may be closed
// later. systemd's lines without one are an incident of their own, with little in it.
type sequel struct {
	unit           string
	container, pod string // id and UID

	lines []consequence
	// joined is how many of them are with their kill.
	joined int
	// ambiguous is true if it can be of several kills whose cgroups are not in the log.
	ambiguous bool
	// restarted is true if the unit was started again: the next lines are of another kill.
	restarted bool
	// by is whom systemd reports to have killed in the unit; empty: only the unit's result is known.
	by string
	// ofOOM is true if systemd's own lines show an OOM kill in the unit.
	ofOOM bool
	// mainExited is true if the main process was among the killed.
	mainExited bool
}

// consequence is a line of a sequel.
type consequence struct {
	at         record
	kind, text string
}

const (
	// maxUnit is the longest name of a unit (src/basic/unit-name.h: UNIT_NAME_MAX).
	maxUnit = 256
	// maxSearched bounds the victims of a kill that are compared with a unit.
	maxSearched = 64
	// beside is how far the lines about one kill are apart: systemd may be notified before the
	// kernel's report is logged.
	beside = 5 * time.Second
	// oneKill is how long after its first line systemd's next one about the unit is of another kill.
	oneKill = 2 * time.Second
)

// byKernel is the killer that systemd names.
const byKernel = "the OOM killer"

// unitSuffixes are the types of units that have processes, and slices, whose counters include
// those of the units below.
var unitSuffixes = []string{".service", ".scope", ".slice", ".socket", ".mount", ".swap"}

// unitLine takes in a line of systemd about a unit in which the OOM killer killed: "U: A process of
// this unit has been killed by the OOM killer." (v243), and what comes of it.
func (p *parser) unitLine(rec record, text string) bool {
	unit, message, found := strings.Cut(text, ": ")
	if !found || len(unit) > maxUnit || strings.ContainsAny(unit, " /") || !slices.Contains(unitSuffixes, path.Ext(unit)) {
		return false
	}

	kind, what, mark := unitMessage(unit, message)
	if kind == "" && !mark && !isMainExit(message) {
		return false
	}

	s := p.sequelOf(rec, func(s *sequel) bool { return s.unit == unit }, mark && kind == "")
	if s != nil && s.restarted && kind != events.AfterRestart {
		s = nil
	}

	if s == nil {
		if !mark && !p.killedIn(rec, &sequel{unit: unit}) {
			return false
		}

		s = p.addSequel(rec, &sequel{unit: unit})
	}

	s.ofOOM = s.ofOOM || mark
	if mark && kind == "" {
		s.by = byKernel
	}

	s.mainExited = s.mainExited || isMainExit(message)
	s.restarted = s.restarted || kind == events.AfterRestart
	s.add(rec, kind, what)

	return true
}

// unitMessage reads a message of systemd about a unit. The mark is that of an OOM kill.
func unitMessage(unit, message string) (kind, text string, mark bool) {
	switch {
	case message == "A process of this unit has been killed by the OOM killer.", // v243
		message == "The kernel OOM killer killed some processes in this unit.": // v256
		return "", "", true
	case message == "Failed with result 'oom-kill'.":
		return events.AfterUnitFailed, unit + " failed with result 'oom-kill'", true
	case strings.HasSuffix(message, " timed out. Killing."): // State 'stop-sigterm', Stopping
		return events.AfterUnitStop, "systemd had stopped " + unit + ", whose processes did not end in time", false
	case strings.HasPrefix(message, "Scheduled restart job"):
		return events.AfterRestart, "systemd restarts " + unit, false
	case strings.HasPrefix(message, "Start request repeated too quickly"):
		return events.AfterUnitFailed, "systemd does not restart " + unit + " any more: it was restarted too often", false
	}

	rest, found := strings.CutPrefix(message, "Killing process ")
	if pid, comm, _, ok := pidAndComm(rest, ") with signal SIGKILL"); found && ok {
		return events.AfterKilled, "systemd killed " + comm + "[" + strconv.Itoa(pid) + "] of " + unit, false
	}

	return "", "", false
}

func isMainExit(message string) bool {
	return strings.HasPrefix(message, "Main process exited, code=killed, status=9/KILL")
}

// podLine takes in a line of the kubelet about a container in which the OOM killer killed.
func (p *parser) podLine(rec record, text string) bool {
	if !p.hasKill() {
		return false
	}

	found, ok := kubelet.ParseLine(text)
	if !ok || found.ContainerID == "" && found.PodUID == "" {
		return false
	}

	kind, what := podMessage(&found)
	if kind == "" {
		return false
	}

	about := &sequel{container: found.ContainerID, pod: found.PodUID}
	if found.What == kubelet.FoundStarted { // the new container has another id
		about.container = ""
	}

	s := p.sequelOf(rec, func(s *sequel) bool { return s.container == about.container && s.pod == about.pod && s.unit == "" }, false)
	if s == nil {
		if !p.killedIn(rec, about) {
			return false
		}

		s = p.addSequel(rec, about)
	}

	s.add(rec, kind, what)

	return true
}

func podMessage(f *kubelet.Finding) (kind, text string) {
	name := "the container"
	if f.Container != "" {
		name = "container " + f.Container
	}

	switch {
	case f.What == kubelet.FoundProbe && f.Probe != "" && f.Probe != kubelet.ProbeLiveness && f.Probe != kubelet.ProbeStartup:
		return "", "" // a failed readiness probe kills nothing
	case f.What == kubelet.FoundProbe:
		return events.AfterProbe, cmp.Or(strings.ToLower(f.Probe), "a") + " probe of " + name + " failed"
	case f.What == kubelet.FoundKilling:
		return events.AfterKilled, "the kubelet stopped " + name
	case f.What == kubelet.FoundStarted:
		return events.AfterRestart, "the kubelet started a container of the pod"
	case f.What == kubelet.FoundBackOff:
		return events.AfterRestart, "the kubelet restarts " + name + " after a pause (CrashLoopBackOff)"
	}

	return "", ""
}

func (s *sequel) add(rec record, kind, text string) {
	if kind == "" || len(s.lines) == oom.MaxConsequences ||
		slices.ContainsFunc(s.lines, func(c consequence) bool { return c.text == text }) {
		return
	}

	if len(text) > maxEvidence {
		text = text[:maxEvidence] + "..."
	}

	s.lines = append(s.lines, consequence{rec, kind, text})
}

// sequelOf returns the last sequel that matches and that a line can be of. A mark that is a while
// after the first line of one is of the next kill.
func (p *parser) sequelOf(rec record, match func(*sequel) bool, mark bool) *sequel {
	for _, r := range slices.Backward(p.done) {
		if r.sequel == nil || !r.sameBoot(rec) || !match(r.sequel) {
			continue
		}

		age := apart(r.first, rec)
		if age > oom.FollowWithin || mark && age > oneKill {
			return nil
		}
		r.last = rec

		return r.sequel
	}

	return nil
}

func (p *parser) addSequel(rec record, s *sequel) *sequel {
	made := &events.Incident{Killer: &events.Killer{}} // until it is resolved
	p.done = append(p.done, &report{first: rec, last: rec, user: true, sequel: s, made: made})

	return s
}

// hasKill reports whether any kill is at hand that a line can follow from.
func (p *parser) hasKill() bool {
	if len(p.done) > 0 {
		return true
	}

	for _, s := range p.streams {
		if s.open != nil && len(s.open.kills) > 0 {
			return true
		}
	}

	return false
}

// killedIn reports whether a kill is at hand in the unit or container of a line, closed or not.
func (p *parser) killedIn(rec record, about *sequel) bool {
	at := &report{first: rec, last: rec, sequel: about}
	if p.killOf(at) != nil {
		return true
	}

	for _, s := range p.streams {
		r := s.open
		if r == nil || len(r.kills) == 0 || !r.sameBoot(rec) || apart(r.killTime, rec) > oom.FollowWithin {
			continue
		}

		cgroup := cmp.Or(r.taskMemcg(), r.limiterPath())
		if about.isIn(&events.Process{Cgroup: &events.Cgroup{Path: cgroup}, Workload: workloadOf(cgroup)}) {
			return true
		}
	}

	return false
}

func workloadOf(cgroup string) *events.Workload {
	if cgroup == "" {
		return nil
	}
	_, place := cgroupOf(cgroup)

	return place.Workload
}

// isIn reports whether a victim was in the sequel's unit, or container.
func (s *sequel) isIn(victim *events.Process) bool {
	w := victim.Workload
	if s.unit != "" {
		if victim.Cgroup != nil {
			return isInUnit(victim.Cgroup.Path, s.unit)
		}

		return w != nil && w.Unit == s.unit
	}

	if w == nil {
		return false
	}

	if s.container != "" && w.ContainerID != "" {
		return w.ContainerID == s.container
	}

	return s.pod != "" && w.PodUID == s.pod
}

// isInUnit reports whether a cgroup is in a unit of the host's systemd, or of a user's manager. A
// container has units of its own by the same names, which the host's systemd does not log.
func isInUnit(cgroup, unit string) bool {
	for part := range strings.SplitSeq(strings.TrimPrefix(cgroup, "/"), "/") {
		if part == unit {
			return true
		}

		if !strings.HasSuffix(part, ".slice") && !strings.HasPrefix(part, "user@") {
			return false
		}
	}

	return false
}

// killOf returns the kill that a sequel is about: the last one before it in its unit, or one right
// after its first line.
func (p *parser) killOf(sequel *report) *report {
	var found, without *report
	var distance time.Duration

	for _, r := range p.done {
		if r.sequel != nil || r.made.Outcome != events.OutcomeKilled || !r.sameBoot(sequel.first) {
			continue
		}

		after, known := r.before(sequel.first)
		if known && (after < -beside || after > oom.FollowWithin || after < 0 && !sequel.sequel.ofOOM) {
			continue
		}

		victims := r.made.Victims[:min(len(r.made.Victims), maxSearched)]

		switch {
		case slices.ContainsFunc(victims, func(v events.Victim) bool { return sequel.sequel.isIn(&v.Process) }):
			if found == nil || after.Abs() <= distance {
				found, distance = r, after.Abs()
			}
		case r.user || !sequel.sequel.ofOOM || after > beside || len(victims) == 0 || victims[0].Cgroup != nil:
		default:
			sequel.sequel.ambiguous = sequel.sequel.ambiguous || without != nil
			without = r
		}
	}

	if found == nil && !sequel.sequel.ambiguous {
		return without // the log has the kill without its cgroup
	}

	return found
}

// before returns the time from a kill to a line, if it is known.
func (r *report) before(rec record) (after time.Duration, known bool) {
	at := r.killedAt()
	switch {
	case at.uptime && rec.uptime:
		return time.Duration(rec.uptimeNS) - time.Duration(at.uptimeNS), true
	case !at.wall.IsZero() && !rec.wall.IsZero():
		return rec.wall.Sub(at.wall), true
	}

	return 0, false
}

// killedAt is the line of the first kill.
func (r *report) killedAt() record {
	if r.killTime.line > 0 {
		return r.killTime
	}

	return r.first
}

// resolve prepares the oldest closed report to be emitted: it joins the sequels with the kills that
// they are about. It reports whether the report is an incident.
func (p *parser) resolve(r *report) bool {
	if r.sequel != nil {
		p.closeSettled(r)
	}

	for _, s := range p.done {
		if s.sequel == nil || s.joined && s.sequel.joined == len(s.sequel.lines) {
			continue
		}

		if kill := p.killOf(s); kill != nil {
			kill.join(s)
		}

		s.joined = s.joined || s.sequel.ambiguous || p.isAbove(s)
	}

	return r.sequel == nil || !r.joined && r.sequel.ofOOM
}

// closeSettled closes the reports of a host of which only kills may follow, so that a sequel finds
// them.
func (p *parser) closeSettled(sequel *report) {
	for _, s := range p.streams {
		if r := s.open; r != nil && r.settled() && r.first.host == sequel.first.host && r.first.line < p.done[len(p.done)-1].last.line {
			p.closeReport(s)
		}
	}
}

// isAbove reports whether systemd's lines are of a unit that contains the one of another kill: the
// counters of a slice, and of a user's manager, include those of the units below.
func (p *parser) isAbove(r *report) bool {
	return contains(r.sequel.unit) && slices.ContainsFunc(p.done, func(other *report) bool {
		if other == r || !other.sameBoot(r.first) {
			return false
		}

		if s := other.sequel; s != nil {
			return s.ofOOM && !contains(s.unit) && apart(other.first, r.first) <= oneKill
		}

		return other.made.Outcome == events.OutcomeKilled && apart(other.killedAt(), r.first) <= oneKill
	})
}

func contains(unit string) bool {
	return strings.HasSuffix(unit, ".slice") || strings.HasPrefix(unit, "user@") || unit == "init.scope"
}

// join adds the lines of a sequel to its kill.
func (r *report) join(s *report) {
	s.joined = true

	for _, line := range s.sequel.lines[s.sequel.joined:] {
		r.made.Followed = append(r.made.Followed, r.consequence(line))
	}

	s.sequel.joined = len(s.sequel.lines)

	nowhere := len(r.made.Victims) > 0 && r.made.Victims[0].Cgroup == nil && r.made.Victims[0].Workload == nil
	if unit := s.sequel.unit; unit != "" && nowhere {
		r.note("systemd reported an OOM kill in " + unit + " at that time")
		r.made.Notes = r.notes
	}

	slices.SortStableFunc(r.made.Followed, func(a, b events.Consequence) int { return cmp.Compare(value(a.AfterNS), value(b.AfterNS)) })
}

func (r *report) consequence(line consequence) events.Consequence {
	c := events.Consequence{Kind: line.kind, Text: line.text, Source: "log of " + cmp.Or(line.at.program, "systemd")}

	// Times to the second show no order within it.
	after, known := r.before(line.at)
	if known && (after > 0 || line.at.wall.Nanosecond() != 0) {
		c.AfterNS = new(uint64(max(after, 0)))
	}

	return c
}

func value(ns *uint64) uint64 {
	if ns == nil {
		return 0
	}

	return *ns
}

// alone makes the incident of a sequel whose kill is not in the log.
func (r *report) alone() *events.Incident {
	s := r.sequel

	w := workloadOf("/" + s.unit)
	if w == nil {
		w = &events.Workload{Unit: s.unit}
	}

	inc := &events.Incident{
		Scope: events.ScopeUnknown, Outcome: events.OutcomeKilled,
		Victims: []events.Victim{{Process: events.Process{Workload: w}, Role: events.RoleUnknown}},
		Unknown: []string{
			"scope", "limiter", "trigger", "allocation", "memory", "candidates", "node_state",
			"victims.pid", "victims.tid", "victims.comm", "victims.cgroup", "victims.role",
		},
		Notes: []string{"only systemd's lines about the unit are in the log, not the report of the killer"},
	}

	if s.by == byKernel {
		inc.Killer = &events.Killer{Kind: events.KillerKernel, Path: events.PathUnknown}
	} else {
		// v251 has this result for kills by systemd-oomd as well.
		inc.Unknown = append(inc.Unknown, "killer")
	}

	if s.mainExited {
		inc.Notes = append(inc.Notes, "the main process of the unit was killed")
	}

	for _, line := range s.lines {
		inc.Followed = append(inc.Followed, r.consequence(line))
	}

	return inc
}
