// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// nohangState collects the block of lines before a kill: the victim, and what was short.
type nohangState struct {
	last    record
	victim  nohangVictim
	reasons []record
}

// nohangVictim is what the lines have of the victim. Empty is unknown.
type nohangVictim struct{ pid, name, cgroup string }

// nohangLine takes in a line of nohang. "Sending SIGKILL to the victim" ("Send" before 0.2) names
// nobody: the victim is in the lines around it, whose form differs between versions.
func (p *parser) nohangLine(rec record, text string) bool {
	s := &p.user.nohang
	if s.last.line > 0 && (s.last.host != rec.host || s.last.boot != rec.boot || apart(s.last, rec) > sameEvent) {
		*s = nohangState{}
	}
	s.last = rec
	taken := false

	for part := range strings.SplitSeq(strings.ReplaceAll(text, "#012", "\n"), "\n") {
		taken = p.nohangPart(rec, strings.TrimSpace(part)) || taken
	}

	return taken
}

func (p *parser) nohangPart(rec record, text string) bool {
	s := &p.user.nohang

	if text, _, _ := strings.Cut(text, ";"); strings.HasPrefix(text, "Send") && strings.HasSuffix(text, " to the victim") {
		p.nohangKill(rec)
		return true
	}

	switch {
	case strings.HasPrefix(text, "Thresholds is not exceeded"), strings.HasPrefix(text, "Selected process died before"):
		*s = nohangState{last: rec}
		return true
	case strings.HasPrefix(text, "Cannot send a signal"):
		return p.nohangFails(rec)
	case strings.Contains(text, " <= ") && strings.Contains(text, "threshold"),
		strings.Contains(text, " > ") && strings.Contains(text, "psi"):
		one := rec
		if one.text = text; len(s.reasons) < 3 {
			s.reasons = append(s.reasons, one)
		}

		return true
	}

	var v nohangVictim
	if !v.read(text) {
		return false
	}

	r := p.earlier(rec, "nohang", func(inc *events.Incident) bool { return v.completes(inc) })
	if r == nil {
		s.victim.add(v)
		return true
	}

	v.fill(r.made)
	r.last = rec

	return true
}

// nohangKill reports the kill of the victim that the block names. SIGKILL may follow SIGTERM.
func (p *parser) nohangKill(rec record) {
	s := &p.user.nohang
	victim := s.victim
	named := namedVictim(victim.pid, victim.name)

	r := p.earlier(rec, "nohang", func(inc *events.Incident) bool { return named != nil && inc.Victims[0].PID == named.PID })
	if r != nil {
		p.more(r, rec)
		escalated(r, "nohang")
		*s = nohangState{last: rec}

		return
	}

	inc := p.userKill(rec, "nohang", events.ReasonMemory, &events.Victim{Role: events.RoleUnknown},
		"limiter", "victims.pid", "victims.tid", "victims.comm", "victims.cgroup", "victims.role")
	inc.Killer.Comm = "nohang"
	victim.fill(inc)

	for _, reason := range s.reasons {
		evidence(inc, reason)
	}

	*s = nohangState{last: rec}
}

// nohangFails withdraws a signal that was not sent.
func (p *parser) nohangFails(rec record) bool {
	r := p.earlier(rec, "nohang", func(inc *events.Incident) bool { return len(inc.Notes) == 0 })
	if r == nil {
		return false
	}

	p.withdraw(r)

	return true
}

// completes reports whether an incident lacks what is known of its victim.
func (v nohangVictim) completes(inc *events.Incident) bool {
	at := &inc.Victims[0]
	return at.PID == 0 && v.pid != "" || at.Cgroup == nil && v.cgroup != "" && (v.pid == "" || namedVictim(v.pid, v.name) != nil)
}

func (v nohangVictim) fill(inc *events.Incident) {
	at := &inc.Victims[0]
	if named := namedVictim(v.pid, v.name); named != nil {
		at.PID, at.TID, at.Comm, at.Role = named.PID, named.TID, named.Comm, events.RoleChosen

		known(inc, "victims.pid", "victims.tid", "victims.role")

		if v.name != "" {
			known(inc, "victims.comm")
		}
	}

	if strings.HasPrefix(v.cgroup, "/") {
		cgroup, place := cgroupOf(v.cgroup)
		at.Cgroup, at.Workload = cgroup, place.Workload

		known(inc, "victims.cgroup")
		inc.Unknown = append(inc.Unknown, "victims.cgroup.id")
	}
}

// add completes what is known by a later line: the last victim counts.
func (v *nohangVictim) add(later nohangVictim) {
	if later.pid != "" && later.pid != v.pid {
		*v = later
		return
	}

	if later.name != "" {
		v.name = later.name
	}

	if later.cgroup != "" {
		v.cgroup = later.cgroup
	}
}

// read reads "PID: 12, name: a, ..." in the forms of all versions: on one line or on several,
// with or without colons, in lower or upper case; "Victim is a, pid: 12" in 0.1.
func (v *nohangVictim) read(text string) bool {
	text = strings.TrimPrefix(text, "victim: ")

	if name, ok := strings.CutPrefix(text, "Victim is "); ok {
		v.name, text, _ = strings.Cut(name, ", pid: ")
		v.pid = leadingDigits(text)

		return v.pid != ""
	}

	key, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimLeft(rest, " ")

	switch strings.ToLower(strings.TrimSuffix(key, ":")) {
	case "pid":
		if v.pid = leadingDigits(rest); v.pid == "" {
			return false
		}

		for _, word := range []string{", name: ", ", Name: ", ", name "} {
			if _, after, ok := strings.Cut(rest, word); ok {
				v.name = upToField(after)
				break
			}
		}

		if _, after, ok := strings.Cut(rest, ", cgroup_v2 "); ok {
			v.cgroup = after
		}

		return true
	case "name":
		v.name = rest
	case "cgroup_v2", "cgroup_v1":
		if strings.HasPrefix(rest, "/") && rest != "/" {
			v.cgroup = rest
		}
	}

	return v.name != "" || v.cgroup != ""
}

// upToField cuts a name at the field that follows it. The name itself may contain commas.
func upToField(text string) string {
	for _, field := range []string{", state: ", ", badness: ", ", cgroup_v", ", EUID: "} {
		text, _, _ = strings.Cut(text, field)
	}

	return text
}

func leadingDigits(text string) string {
	end := strings.IndexFunc(text, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(text)
	}

	return text[:end]
}
