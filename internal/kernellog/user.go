// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// userState holds what earlier lines of killers in user space announced.
type userState struct {
	oomd     []oomdAnnouncement // systemd-oomd, oldest first
	earlyoom earlyoomState
	nohang   nohangState
	kubelet  kubeletState
}

// sameEvent bounds the time between two lines about one kill by user space: there is a grace
// period between SIGTERM and SIGKILL.
const sameEvent = 30 * time.Second

// mayBeUser reports whether a line without a program may be of one: it has no prefix at all, or
// oomd wrote it to /dev/kmsg, where dmesg shows it as if it were the kernel's.
func mayBeUser(rec record) bool { return rec.bare || strings.HasPrefix(rec.text, "oomd kill: ") }

// userLine takes in a line of a killer in user space. It returns whether it is one.
func (p *parser) userLine(rec record) bool {
	text := strings.TrimPrefix(rec.text, "[talos] ")
	switch {
	case strings.Contains(text, "viction manager: "), strings.Contains(text, `"Evicting pod"`):
		return p.kubeletLine(rec, text)
	case rec.program == "systemd-oomd" || rec.bare && isSystemdOOMD(text):
		return p.systemdOOMDLine(rec, text)
	case rec.program == "systemd" && strings.Contains(text, ": systemd-oomd killed "):
		return p.systemdLine(rec, text)
	case strings.HasPrefix(text, "oomd kill: "), rec.program == "oomd" && strings.Contains(text, " killer:"):
		return p.oomdLine(rec, text)
	case strings.HasPrefix(text, "sending SIG"), rec.program == "earlyoom":
		return p.earlyoomLine(rec, text)
	case strings.HasPrefix(text, "Sending SIGKILL to cgroup "), strings.HasPrefix(text, "victim processes: "):
		return p.talosLine(rec, text)
	case rec.program == "nohang", rec.program == "nohang-desktop":
		return p.nohangLine(rec, text)
	case rec.program == "systemd":
		return p.unitLine(rec, text)
	case isOfPods(text):
		return p.podLine(rec, text)
	}

	return false
}

// isOfPods reports whether a line may be the kubelet's about what comes of a kill.
func isOfPods(text string) bool {
	for _, part := range []string{" probe", "Probe failed", "Killing container", "ContainerStarted", "CrashLoopBackOff"} {
		if strings.Contains(text, part) {
			return true
		}
	}

	return false
}

// userKill adds the incident of a kill by user space. An empty reason is unknown.
func (p *parser) userKill(rec record, killer, reason string, victim *events.Victim, unknown ...string) *events.Incident {
	inc := &events.Incident{
		Scope: events.ScopeUser, Outcome: events.OutcomeKilled, Victims: []events.Victim{*victim}, Unknown: unknown,
		Killer: &events.Killer{Kind: "user", Path: killer, PID: rec.pid, Reason: reason},
	}
	if rec.program != "?" {
		inc.Killer.Comm = rec.program
	}

	if reason == "" {
		inc.Unknown = append(inc.Unknown, "killer.reason")
	}

	evidence(inc, rec)
	p.done = append(p.done, &report{first: rec, last: rec, user: true, made: inc})

	return inc
}

const maxEvidence = 1024

func evidence(inc *events.Incident, rec record) {
	source := "log"
	if rec.program != "" && rec.program != "?" {
		source = "log of " + rec.program
	}

	text := rec.text
	if len(text) > maxEvidence {
		text = text[:maxEvidence] + "..."
	}

	addEvidence(inc, events.Evidence{What: "log_line", Value: text, Source: source})
}

// maxEvidenceLines bounds the evidence of a kill.
const maxEvidenceLines = 12

func addEvidence(inc *events.Incident, list ...events.Evidence) {
	room := max(maxEvidenceLines-len(inc.Killer.Evidence), 0)
	inc.Killer.Evidence = append(inc.Killer.Evidence, list[:min(len(list), room)]...)
}

// measured is a number that a killer compared with its threshold.
func measured(what, value, program string) events.Evidence {
	return events.Evidence{What: what, Value: value, Source: "log of " + program}
}

// earlier returns a kill by user space that was not emitted yet and that a line can also be
// about, nil if there is none.
func (p *parser) earlier(rec record, killer string, match func(*events.Incident) bool) *report {
	for _, r := range slices.Backward(p.done) {
		if !r.user || r.sequel != nil || r.made.Killer.Path != killer || r.first.host != rec.host || r.first.boot != rec.boot {
			continue
		}

		if apart(r.last, rec) <= sameEvent && match(r.made) {
			return r
		}
	}

	return nil
}

// apart returns the time between two lines, 0 if it is unknown.
func apart(a, b record) time.Duration {
	switch {
	case a.uptime && b.uptime:
		return time.Duration(b.uptimeNS - a.uptimeNS).Abs()
	case !a.wall.IsZero() && !b.wall.IsZero():
		return b.wall.Sub(a.wall).Abs()
	}

	return 0
}

// more adds a line to a kill that was reported before.
func (p *parser) more(r *report, rec record) {
	r.last = rec
	evidence(r.made, rec)
}

// withdraw removes a kill that a later line shows not to have happened.
func (p *parser) withdraw(r *report) {
	p.done = slices.DeleteFunc(p.done, func(other *report) bool { return other == r })
}

// known removes names from what is unknown of an incident.
func known(inc *events.Incident, names ...string) {
	inc.Unknown = slices.DeleteFunc(slices.Clone(inc.Unknown), func(s string) bool { return slices.Contains(names, s) })
}

// cgroupVictim returns a victim of which only the cgroup is known.
func cgroupVictim(at string) *events.Victim {
	v := &events.Victim{Role: events.RoleUnknown}

	if strings.HasPrefix(at, "/") {
		cgroup, place := cgroupOf(at)
		v.Cgroup, v.Workload = cgroup, place.Workload
	}

	return v
}

var cgroupOnly = []string{"limiter", "victims.pid", "victims.tid", "victims.comm", "victims.cgroup.id", "victims.role"}
