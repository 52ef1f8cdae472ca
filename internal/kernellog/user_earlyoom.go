// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// earlyoomState holds the lines before a kill: what is left of memory and swap, and the
// thresholds.
type earlyoomState struct{ available, lowMemory record }

// earlyoomLine reads a line of earlyoom. A SIGKILL may follow SIGTERM for the same process.
func (p *parser) earlyoomLine(rec record, text string) bool {
	switch {
	case strings.HasPrefix(text, "low memory!"), strings.HasPrefix(text, "Low memory!"), strings.HasPrefix(text, "Out of memory! "):
		p.user.earlyoom.lowMemory = rec
		return true
	case strings.HasPrefix(text, "mem avail: "):
		p.user.earlyoom.available = rec
		return true
	case strings.HasPrefix(text, "escalating to SIGKILL after "):
		return p.earlyoomEscalates(rec)
	case strings.HasPrefix(text, "kill failed: "), strings.HasPrefix(text, "dryrun, not actually sending"):
		return p.earlyoomFails(rec)
	}

	v := earlyoomVictim(text)
	if v == nil {
		return false
	}

	if r := p.earlier(rec, "earlyoom", func(inc *events.Incident) bool { return inc.Victims[0].PID == v.PID }); r != nil {
		p.more(r, rec)
		escalated(r, "earlyoom")

		return true
	}

	inc := p.userKill(rec, "earlyoom", events.ReasonMemory, v, "victims.cgroup", "victims.anon_rss_bytes", "victims.file_rss_bytes",
		"victims.shmem_rss_bytes", "victims.swap_bytes")
	inc.Killer.Comm = "earlyoom"
	inc.Limiter = &events.Limiter{Level: events.LevelNode, Which: "node"}
	inc.Unknown = append(inc.Unknown, "limiter.limit_bytes", "limiter.usage_bytes")

	for _, before := range []record{p.user.earlyoom.available, p.user.earlyoom.lowMemory} {
		if before.line > 0 && before.host == rec.host && apart(before, rec) <= sameEvent {
			evidence(inc, before)
		}
	}
	p.user.earlyoom = earlyoomState{}

	return true
}

// earlyoomEscalates reads "escalating to SIGKILL after 0.5 seconds", of the process that was
// sent SIGTERM last.
func (p *parser) earlyoomEscalates(rec record) bool {
	r := p.earlier(rec, "earlyoom", func(*events.Incident) bool { return true })
	if r == nil {
		return false
	}

	p.more(r, rec)
	escalated(r, "earlyoom")

	return true
}

// earlyoomFails withdraws a signal that was not sent after all.
func (p *parser) earlyoomFails(rec record) bool {
	r := p.earlier(rec, "earlyoom", func(inc *events.Incident) bool { return len(inc.Notes) == 0 })
	if r == nil {
		return false
	}

	p.withdraw(r)

	return true
}

// escalated notes that SIGKILL followed SIGTERM.
func escalated(r *report, killer string) {
	r.note(killer + " sent SIGTERM first, then SIGKILL")
	r.made.Notes = r.notes
}

// earlyoomVictim reads the line of a signal in the forms of all versions, nil for any other line:
//
//	sending SIGTERM to process 12 uid 1000 "name": oom_score 812, oom_score_adj 300, ..., cmdline "..."
//	sending SIGTERM to process 12 "name": badness 812, VmRSS 2245 MiB                          (1.3)
//	Killing process 'name' with signal 15, pid: 12, badness: 812, VmRSS: 2245 MiB             (1.2)
//	Killing process: name, pid: 12, badness: 812, VmRSS: 2245 MiB                             (1.1)
//	Killing process 12 name                                                                     (0.1 to 1.0)
func earlyoomVictim(text string) *events.Victim {
	if rest, ok := strings.CutPrefix(text, "Killing process"); ok {
		return oldEarlyoomVictim(rest)
	}

	rest, found := strings.CutPrefix(text, "sending ")
	signal, rest, _ := strings.Cut(rest, " to process ")
	who, rest, ok := strings.Cut(rest, ` "`)
	digits, owner, _ := strings.Cut(who, " uid ")

	if !found || !ok || signal != "SIGTERM" && signal != "SIGKILL" {
		return nil
	}

	// Only the name may contain quotes up to the score; the command line is last.
	name, facts := "", ""
	for _, sep := range []string{`": oom_score `, `": badness `} {
		if name, facts, ok = strings.Cut(rest, sep); ok {
			break
		}
	}

	if !ok {
		return nil
	}

	v := namedVictim(digits, name)
	if v == nil {
		return nil
	}

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

	return v
}

// oldEarlyoomVictim reads what follows "Killing process".
func oldEarlyoomVictim(rest string) *events.Victim {
	name, facts, ok := strings.Cut(rest, ", pid: ")
	if !ok {
		digits, name, _ := strings.Cut(strings.TrimPrefix(rest, " "), " ")
		return namedVictim(digits, name)
	}

	digits, _, _ := strings.Cut(facts, ",")

	if quoted, ok := strings.CutPrefix(name, " '"); ok {
		if i := strings.LastIndex(quoted, "' with signal "); i >= 0 {
			return namedVictim(digits, quoted[:i])
		}
	}

	return namedVictim(digits, strings.TrimPrefix(name, ": "))
}

// namedVictim is a process that a killer in user space chose, nil if it is none.
func namedVictim(digits, name string) *events.Victim {
	pid, err := strconv.Atoi(digits)
	if err != nil || pid <= 0 || len(name) > maxComm {
		return nil
	}

	return &events.Victim{Process: events.Process{PID: pid, TID: pid, Comm: name}, Role: events.RoleChosen}
}
