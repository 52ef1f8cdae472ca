// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kubelet"
)

// userState holds what earlier lines of killers in user space announced.
type userState struct {
	lowMemory record            // earlyoom
	reclaim   record            // the kubelet: must evict pod(s) to reclaim
	resource  string            // what it has to reclaim
	uids      map[string]string // pod to UID, of the kubelet's eviction at hand
}

// sameEvent bounds the time between two lines about one kill by user space: there is a grace
// period between SIGTERM and SIGKILL.
const sameEvent = 30 * time.Second

// userLine takes in a line of a killer in user space. It returns whether it is one.
func (p *parser) userLine(rec record) bool {
	text := strings.TrimPrefix(rec.text, "[talos] ")
	switch {
	case strings.Contains(text, "viction manager: "), strings.Contains(text, `"Evicting pod"`):
		return p.kubeletLine(rec, text)
	case rec.program == "systemd-oomd" || rec.bare && strings.Contains(text, "with reclaim activity"):
		return p.systemdOOMDLine(rec, text)
	case rec.program == "systemd" && strings.Contains(text, ": systemd-oomd killed "):
		return p.systemdLine(rec, text)
	case strings.HasPrefix(text, "oomd kill: "), rec.program == "oomd" && strings.Contains(text, " killer:"):
		return p.oomdLine(rec, text)
	case strings.HasPrefix(text, "sending SIG"), rec.program == "earlyoom":
		return p.earlyoomLine(rec, text)
	case strings.HasPrefix(text, "Sending SIGKILL to cgroup "), strings.HasPrefix(text, "victim processes: "):
		return p.talosLine(rec, text)
	case rec.program == "nohang":
		return p.nohangLine(rec, text)
	}

	return false
}

// userKill adds the incident of a kill by user space.
func (p *parser) userKill(rec record, killer, reason string, victim *events.Victim, unknown ...string) *events.Incident {
	inc := &events.Incident{
		Scope: events.ScopeUser, Outcome: events.OutcomeKilled, Victims: []events.Victim{*victim}, Unknown: unknown,
		Killer: &events.Killer{Kind: "user", Path: killer, PID: rec.pid, Reason: reason},
	}
	if rec.program != "?" {
		inc.Killer.Comm = rec.program
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

	if len(inc.Killer.Evidence) < 8 {
		inc.Killer.Evidence = append(inc.Killer.Evidence, events.Evidence{What: "log_line", Value: text, Source: source})
	}
}

// earlier returns a kill by user space that was not emitted yet and that a line can also be
// about, nil if there is none.
func (p *parser) earlier(rec record, killer string, match func(*events.Incident) bool) *report {
	for _, r := range slices.Backward(p.done) {
		if !r.user || r.made.Killer.Path != killer || r.first.host != rec.host || r.first.boot != rec.boot {
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

// systemdOOMDLine reads "Killed P due to memory pressure for M being 63.00% > 50.00%
// for > 20s with reclaim activity" and "Killed P due to memory used (U) / total (T)
// and swap used (U) / total (T) being more than 90.00%" (src/oom/oomd-manager.c of
// systemd 248 to 258; later ones say "Marked P for killing").
func (p *parser) systemdOOMDLine(rec record, text string) bool {
	killed, rest, found := strings.Cut(text, " due to ")

	at, ok := strings.CutPrefix(killed, "Killed ")
	if !ok {
		at, ok = strings.CutPrefix(killed, "Marked ")
		at = strings.TrimSuffix(at, " for killing")
	}

	if !found || !ok || !strings.HasPrefix(at, "/") || !strings.HasPrefix(rest, "memory ") && !strings.HasPrefix(rest, "swap ") {
		return false
	}
	unit := path.Base(at)

	if r := p.earlier(rec, "systemd-oomd", func(inc *events.Incident) bool {
		v := inc.Victims[0]
		return v.Cgroup != nil && v.Cgroup.Path == at || v.Cgroup == nil && v.Workload != nil && v.Workload.Unit == unit
	}); r != nil {
		p.more(r, rec)

		if r.made.Victims[0].Cgroup == nil {
			r.made.Victims[0] = *cgroupVictim(at)
			r.made.Unknown = cgroupOnly
		}

		return true
	}
	inc := p.userKill(rec, "systemd-oomd", "memory_pressure", cgroupVictim(at), cgroupOnly...)

	limiter, _, found := strings.Cut(strings.TrimPrefix(rest, "memory pressure for "), " being ")
	if found && strings.HasPrefix(limiter, "/") {
		cgroup, place := cgroupOf(limiter)
		inc.Limiter = &events.Limiter{Level: place.Level, Which: "memory.pressure", Cgroup: cgroup, Workload: place.Workload}

		inc.Unknown = append(slices.Clone(cgroupOnly[1:]), "limiter.cgroup.id", "limiter.limit_bytes", "limiter.usage_bytes")
	}

	return true
}

// systemdLine reads systemd's own line about it: "U: systemd-oomd killed 3 process(es) in
// this unit."
func (p *parser) systemdLine(rec record, text string) bool {
	unit, _, _ := strings.Cut(text, ": systemd-oomd killed ")

	if r := p.earlier(rec, "systemd-oomd", func(inc *events.Incident) bool {
		v := inc.Victims[0]
		return v.Cgroup != nil && path.Base(v.Cgroup.Path) == unit
	}); r != nil {
		p.more(r, rec)
		return true
	}
	v := &events.Victim{Role: events.RoleUnknown, Process: events.Process{Workload: &events.Workload{Unit: unit}}}
	inc := p.userKill(rec, "systemd-oomd", "memory_pressure", v, append(slices.Clone(cgroupOnly), "victims.cgroup")...)
	inc.Killer.PID, inc.Killer.Comm = 0, "systemd-oomd"

	return true
}

// oomdLine reads "oomd kill: 64.22 46.12 18.24 system.slice/a.service 2468151296
// ruleset:[r] detectorgroup:[d] killer:k v2". Dry runs kill nobody.
func (p *parser) oomdLine(rec record, text string) bool {
	words := strings.Fields(strings.TrimPrefix(text, "oomd kill: "))

	at := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "ruleset:") })
	if at < 2 || strings.Contains(text, "killer:(dry)") {
		return false
	}
	cgroup := "/" + strings.TrimPrefix(words[at-2], "/")
	inc := p.userKill(rec, "oomd", "memory_pressure", cgroupVictim(cgroup), cgroupOnly...)
	inc.Killer.Comm = "oomd"

	return true
}

// earlyoomLine reads `sending SIGTERM to process 12 uid 1000 "name": ...`. A SIGKILL
// may follow for the same process.
func (p *parser) earlyoomLine(rec record, text string) bool {
	if strings.HasPrefix(text, "low memory!") || strings.HasPrefix(text, "mem avail") {
		if strings.HasPrefix(text, "low memory!") {
			p.user.lowMemory = rec
		}

		return true
	}
	rest, found := strings.CutPrefix(text, "sending ")
	signal, rest, _ := strings.Cut(rest, " to process ")
	digits, rest, _ := strings.Cut(rest, " uid ")

	owner, rest, ok := strings.Cut(rest, ` "`)
	if !found || !ok || signal != "SIGTERM" && signal != "SIGKILL" {
		return false
	}
	// Only the name may contain quotes up to the score; the command line is last.
	name, facts := "", ""
	for _, sep := range []string{`": oom_score `, `": badness `} {
		if name, facts, ok = strings.Cut(rest, sep); ok {
			break
		}
	}

	pid, err := strconv.Atoi(digits)
	if !ok || err != nil || pid <= 0 || len(name) > maxComm {
		return false
	}

	if r := p.earlier(rec, "earlyoom", func(inc *events.Incident) bool { return inc.Victims[0].PID == pid }); r != nil {
		p.more(r, rec)
		r.note("earlyoom sent SIGTERM first, then SIGKILL")
		r.made.Notes = r.notes

		return true
	}

	v := &events.Victim{Process: events.Process{PID: pid, TID: pid, Comm: name}, Role: events.RoleChosen}
	if n, err := strconv.ParseUint(owner, 10, 32); err == nil {
		v.UID = new(uint32(n))
	}

	facts, _, _ = strings.Cut(facts, `, cmdline "`)
	if _, adj, found := strings.Cut(facts, "oom_score_adj "); found {
		word, _, _ := strings.Cut(adj, ",")
		if n, err := strconv.Atoi(word); err == nil {
			v.OOMScoreAdj = &n
		}
	}
	inc := p.userKill(rec, "earlyoom", "memory_pressure", v, "victims.cgroup", "victims.anon_rss_bytes", "victims.file_rss_bytes",
		"victims.shmem_rss_bytes", "victims.swap_bytes")
	inc.Killer.Comm = "earlyoom"
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}

	inc.Unknown = append(inc.Unknown, "limiter.limit_bytes", "limiter.usage_bytes")
	if low := p.user.lowMemory; low.line > 0 && low.host == rec.host && apart(low, rec) <= sameEvent {
		evidence(inc, low)
	}
	p.user.lowMemory = record{}

	return true
}

// talosLine reads `Sending SIGKILL to cgroup {"cgroup": "/sys/fs/cgroup/..."}` and
// the line after it, `victim processes: {"processes": [12, 13]}`.
func (p *parser) talosLine(rec record, text string) bool {
	var facts struct {
		Cgroup    string
		Processes json.RawMessage
	}

	i := strings.IndexByte(text, '{')
	if i < 0 || json.Unmarshal([]byte(text[i:]), &facts) != nil {
		return false
	}

	if !strings.HasPrefix(text, "Sending") {
		r := p.earlier(rec, "talos", func(inc *events.Incident) bool { return len(inc.Killer.Evidence) == 1 })
		if r == nil {
			return false
		}

		p.more(r, rec)

		var pids []int
		if json.Unmarshal(facts.Processes, &pids) == nil && len(pids) > 0 {
			v := r.made.Victims[0]
			r.made.Victims = nil

			for _, pid := range pids[:min(len(pids), maxVictims)] {
				v.PID, v.TID = pid, pid
				r.made.Victims = append(r.made.Victims, v)
			}
			r.made.Unknown = slices.DeleteFunc(slices.Clone(r.made.Unknown), func(s string) bool {
				return s == "victims.pid" || s == "victims.tid"
			})
		}

		return true
	}

	at := strings.TrimPrefix(facts.Cgroup, "/sys/fs/cgroup")
	if !strings.HasPrefix(at, "/") {
		return false
	}
	inc := p.userKill(rec, "talos", "memory_pressure", cgroupVictim(at), cgroupOnly...)
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}

	inc.Unknown = append(slices.Clone(cgroupOnly[1:]), "limiter.limit_bytes", "limiter.usage_bytes")

	return true
}

// nohangLine reads "Sending SIGTERM to the victim". The victim is named in a block of lines
// before it, whose form differs between versions.
func (p *parser) nohangLine(rec record, text string) bool {
	text = strings.TrimLeft(text, " ")
	if !strings.HasPrefix(text, "Sending SIG") || !strings.HasSuffix(text, " to the victim") {
		return false
	}
	v := &events.Victim{Role: events.RoleUnknown}
	p.userKill(rec, "nohang", "memory_pressure", v,
		"limiter", "victims.pid", "victims.tid", "victims.comm", "victims.cgroup", "victims.role")

	return true
}

// kubeletLine takes in a line of the kubelet's eviction manager: the resource that it
// has to reclaim, the pod that it is about to evict, and the pod that it evicted.
// Evictions for another resource than memory are not reported.
func (p *parser) kubeletLine(rec record, text string) bool {
	found, ok := kubelet.ParseLine(text)
	if !ok {
		return false
	}

	switch found.What {
	case kubelet.FoundMustEvict:
		p.user.reclaim, p.user.resource, p.user.uids = rec, found.Resource, nil
		return true
	case kubelet.FoundEvicting:
		if found.Pod != "" && found.PodUID != "" && len(p.user.uids) < 256 && len(found.Pod)+len(found.PodUID) < 1024 {
			if p.user.uids == nil {
				p.user.uids = map[string]string{}
			}
			p.user.uids[found.Pod] = found.PodUID
		}

		return true
	case kubelet.FoundEvicted:
		if found.Pod == "" {
			return false
		}

		p.evicted(rec, found)

		return true
	}

	return false
}

// evicted reports an eviction, unless it was for another resource than memory.
func (p *parser) evicted(rec record, found kubelet.Finding) {
	w := &events.Workload{Source: "kubelet", PodUID: cmp.Or(found.PodUID, p.user.uids[found.Pod])}

	namespace, pod, ok := strings.Cut(found.Pod, "/")
	if !ok {
		namespace, pod = "", found.Pod
	}
	w.Namespace, w.Pod = namespace, pod

	resource := p.user.resource
	if p.user.reclaim.host != rec.host || apart(p.user.reclaim, rec) > 10*time.Minute {
		resource = ""
	}

	if resource != "" && resource != "memory" && resource != "allocatableMemory" {
		return
	}

	v := &events.Victim{Process: events.Process{Workload: w}, Role: events.RoleUnknown}
	inc := p.userKill(rec, "runtime", "eviction", v, "victims.pid", "victims.tid", "victims.comm", "victims.cgroup", "victims.role")

	inc.Killer.Comm = "kubelet"
	if resource == "" {
		inc.Unknown = append(inc.Unknown, "limiter")
		inc.Notes = append(inc.Notes, "the log does not name the resource that the kubelet reclaimed: it may not be memory")

		return
	}

	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}
	inc.Unknown = append(inc.Unknown, "limiter.limit_bytes", "limiter.usage_bytes")
	evidence(inc, p.user.reclaim)
}
