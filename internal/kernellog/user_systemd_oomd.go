// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// oomdAnnouncement is a line of systemd-oomd on a kill that may follow: of a rule file, whose
// action is not reported (src/oom/oomd-manager.c of v261: ruleset_execute_action), of a hook
// that runs before the kill (v260), or of a threshold (v247, which names no victim).
type oomdAnnouncement struct {
	rec    record
	cgroup string // the kill is in or below it; empty: anywhere
	reason string // empty: it gives none
	facts  []events.Evidence
}

const (
	maxAnnouncements = 8
	systemdOOMD      = "systemd-oomd"
)

// isSystemdOOMD reports whether a line without its program is of systemd-oomd.
func isSystemdOOMD(text string) bool {
	return strings.Contains(text, "with reclaim activity") || strings.Contains(text, " being more than ") ||
		strings.HasPrefix(text, "Rule '") && strings.Contains(text, ", taking action ")
}

// systemdOOMDLine takes in a line of systemd-oomd.
func (p *parser) systemdOOMDLine(rec record, text string) bool {
	if at, rest, ok := oomdKill(text); ok {
		p.oomdKilled(rec, at, rest)
		return true
	}

	a, ok := announcement(text)
	if !ok {
		return false
	}
	a.rec = rec

	if r := p.earlier(rec, systemdOOMD, func(inc *events.Incident) bool { return a.reason == "" && a.covers(inc) }); r != nil {
		p.more(r, rec)
		return true
	}

	if len(p.user.oomd) == maxAnnouncements {
		p.user.oomd = slices.Delete(p.user.oomd, 0, 1)
	}
	p.user.oomd = append(p.user.oomd, a)

	return true
}

// oomdKill reads "Killed P due to ..." of v248 to v259, and "Marked P for killing due to ...",
// after which the pre-kill hooks run and P is killed.
func oomdKill(text string) (cgroup, why string, ok bool) {
	killed, why, found := strings.Cut(text, " due to ")

	cgroup, ok = strings.CutPrefix(killed, "Killed ")
	if !ok {
		cgroup, ok = strings.CutPrefix(killed, "Marked ")
		cgroup = strings.TrimSuffix(cgroup, " for killing")
	}

	return cgroup, why, ok && found && strings.HasPrefix(cgroup, "/") &&
		(strings.HasPrefix(why, "memory ") || strings.HasPrefix(why, "swap "))
}

func (p *parser) oomdKilled(rec record, at, why string) {
	unit := path.Base(at)
	r := p.earlier(rec, systemdOOMD, func(inc *events.Incident) bool {
		v := inc.Victims[0]
		return v.Cgroup != nil && v.Cgroup.Path == at || v.Cgroup == nil && v.Workload != nil && v.Workload.Unit == unit
	})

	var inc *events.Incident

	if r == nil {
		inc = p.userKill(rec, systemdOOMD, "", cgroupVictim(at), cgroupOnly...)
	} else {
		p.more(r, rec)

		if inc = r.made; inc.Victims[0].Cgroup == nil {
			inc.Victims[0] = *cgroupVictim(at)
			known(inc, "victims.cgroup")
		}
	}

	oomdReason(inc, why)
	p.announced(inc, rec)
}

// oomdReason sets what systemd-oomd acted on: "memory pressure for M being 63.00% > 50.00% for >
// 20s with reclaim activity", or "memory used (U) / total (T) and swap used (U) / total (T) being
// more than 90.00%"; v248 has the swap alone.
func oomdReason(inc *events.Incident, why string) {
	inc.Killer.Reason = events.ReasonSwap
	if strings.HasPrefix(why, "memory pressure") {
		inc.Killer.Reason = events.ReasonMemory
	}

	known(inc, "killer.reason")

	if inc.Killer.Reason == events.ReasonSwap {
		swapLimiter(inc, why)
		return
	}

	limiter, rest, found := strings.Cut(strings.TrimPrefix(why, "memory pressure for "), " being ")
	if !found || !strings.HasPrefix(limiter, "/") {
		return
	}
	cgroup, place := cgroupOf(limiter)
	inc.Limiter = &events.Limiter{Level: place.Level, Which: "memory.pressure", Cgroup: cgroup, Workload: place.Workload}

	known(inc, "limiter")
	inc.Unknown = append(inc.Unknown, "limiter.cgroup.id", "limiter.limit_bytes", "limiter.usage_bytes")

	if pressure, threshold, ok := strings.Cut(rest, " > "); ok {
		threshold, _, _ = strings.Cut(threshold, " with reclaim")
		addEvidence(inc, measured("memory pressure", pressure+", threshold "+strings.ReplaceAll(threshold, "> ", ""), systemdOOMD))
	}
}

// swapLimiter reads the memory and the swap of the node, in bytes.
func swapLimiter(inc *events.Incident, why string) {
	l := &events.Limiter{Level: events.LevelNode, Which: "node"}
	inc.Limiter = l
	known(inc, "limiter")

	_, threshold, _ := strings.Cut(why, " being more than ")
	read := func(what string) (used, total *uint64) {
		_, rest, _ := strings.Cut(why, what+" used (")
		u, rest, ok1 := strings.Cut(rest, ") / total (")
		t, _, ok2 := strings.Cut(rest, ")")
		bytes, err1 := strconv.ParseUint(u, 10, 64)
		all, err2 := strconv.ParseUint(t, 10, 64)

		if !ok1 || !ok2 || err1 != nil || err2 != nil || all == 0 {
			return nil, nil
		}

		value := fmt.Sprintf("%.1f %% of %d bytes", float64(bytes)/float64(all)*100, all)
		if threshold != "" {
			value += ", threshold " + threshold
		}

		addEvidence(inc, measured(what+" used", value, systemdOOMD))

		return &bytes, &all
	}

	l.UsageBytes, l.LimitBytes = read("memory")
	l.SwapUsageBytes, l.SwapLimitBytes = read("swap")

	if l.LimitBytes == nil {
		inc.Unknown = append(inc.Unknown, "limiter.limit_bytes", "limiter.usage_bytes")
	}
}

// announcement reads the lines of systemd-oomd that come before a kill.
func announcement(text string) (a oomdAnnouncement, ok bool) {
	switch {
	case strings.HasPrefix(text, "Rule '"):
		// Rule 'R' conditions met for cgroup P for 30s, taking action A; 261.1 has (lasting 30s)
		name, rest, ok1 := strings.Cut(strings.TrimPrefix(text, "Rule '"), "' conditions met for cgroup ")
		at, action, ok2 := strings.Cut(rest, ", taking action ")

		if i := max(strings.LastIndex(at, " for "), strings.LastIndex(at, " (lasting ")); i > 0 {
			at = at[:i]
		}

		if !ok1 || !ok2 || !strings.HasPrefix(at, "/") {
			return a, false
		}

		return oomdAnnouncement{cgroup: at, reason: events.ReasonRule, facts: []events.Evidence{
			measured("rule", name, systemdOOMD), measured("action", action, systemdOOMD),
		}}, true
	case strings.HasPrefix(text, "Invoking oomd prekill hook "), strings.HasPrefix(text, "oomd prekill hook "):
		_, at, found := strings.Cut(text, " for cgroup ")
		if !found {
			_, at, found = strings.Cut(text, " for ")
			at, _, _ = strings.Cut(at, " returned error: ")
		}

		return oomdAnnouncement{cgroup: at}, found && strings.HasPrefix(at, "/")
	case strings.HasPrefix(text, "Swap used ("):
		return oomdAnnouncement{reason: events.ReasonSwap}, strings.Contains(text, " is more than ")
	case strings.HasPrefix(text, "Memory pressure for /"):
		at, _, found := strings.Cut(strings.TrimPrefix(text, "Memory pressure for "), " is greater than ")
		return oomdAnnouncement{cgroup: at, reason: events.ReasonMemory}, found
	}

	return a, false
}

// covers reports whether an announcement can be about a kill.
func (a *oomdAnnouncement) covers(inc *events.Incident) bool {
	v := &inc.Victims[0]
	switch {
	case a.cgroup == "", v.Cgroup == nil:
		return true
	case a.reason == "":
		return v.Cgroup.Path == a.cgroup
	}

	return strings.HasPrefix(v.Cgroup.Path+"/", strings.TrimSuffix(a.cgroup, "/")+"/")
}

// announced adds the lines that came before a kill to it, and its reason if it has none.
func (p *parser) announced(inc *events.Incident, rec record) {
	p.user.oomd = slices.DeleteFunc(p.user.oomd, func(a oomdAnnouncement) bool {
		if a.rec.host != rec.host || a.rec.boot != rec.boot || apart(a.rec, rec) > sameEvent {
			return true
		}

		if !a.covers(inc) || inc.Killer.Reason != "" && a.reason != "" {
			return false
		}

		if a.reason != "" {
			inc.Killer.Reason = a.reason
			known(inc, "killer.reason")
		}

		evidence(inc, a.rec)
		addEvidence(inc, a.facts...)

		return true
	})
}

// systemdLine reads systemd's own line about a kill by systemd-oomd: "U: systemd-oomd killed 3
// process(es) in this unit.", or "some process(es)" where the number is not known.
func (p *parser) systemdLine(rec record, text string) bool {
	unit, rest, _ := strings.Cut(text, ": systemd-oomd killed ")

	var inc *events.Incident

	r := p.earlier(rec, systemdOOMD, func(inc *events.Incident) bool {
		v := inc.Victims[0]
		return v.Cgroup != nil && path.Base(v.Cgroup.Path) == unit
	})
	if r != nil {
		p.more(r, rec)
		inc = r.made
	} else {
		v := &events.Victim{Role: events.RoleUnknown, Process: events.Process{Workload: &events.Workload{Unit: unit}}}
		inc = p.userKill(rec, systemdOOMD, "", v, append(slices.Clone(cgroupOnly), "victims.cgroup")...)
		inc.Killer.PID, inc.Killer.Comm = 0, systemdOOMD
		p.announced(inc, rec)
	}

	number, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.ParseUint(number, 10, 32); err == nil {
		inc.Killer.Processes = &n
	}

	return true
}
