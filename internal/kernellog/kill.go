// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// kill is "Killed process N (x) ...".
type kill struct {
	pid                                 int
	comm                                string
	totalVM, anon, file, shmem, pgtable *uint64 // bytes
	uid                                 *uint32
	adj                                 *int
	shares                              bool // the memory of the victim
	// unproven is a kill after the line that announces a group kill, of a process that
	// nothing else shows to be a member. at is its line.
	unproven bool
	at       record
	message  string
}

// killLine reads lines about victims.
func (p *parser) killLine(s *stream, rec record, text string) bool {
	message := text
	for _, verb := range []string{"Killed process ", "Kill process ", "OOM victim "} {
		prefix, rest, found := strings.Cut(text, verb)
		if !found || prefix != "" &&
			!strings.HasPrefix(prefix, "Memory cgroup out of memory") && !strings.HasPrefix(prefix, "Out of memory") {
			continue
		}
		message = prefix

		switch verb {
		case "Killed process ":
			return p.killedLine(s, rec, message, rest)
		case "Kill process ":
			return p.chosenLine(s, rec, message, rest)
		default:
			return p.exitingLine(s, rec, message, rest)
		}
	}

	return false
}

// saw takes in the message in front of a kill, which names its scope, and whether
// processes were compared.
func (r *report) saw(message string) {
	r.allocatingTask = r.allocatingTask || strings.HasPrefix(message, "Out of memory (oom_kill_allocating_task)")
	r.isMemcg = r.isMemcg || strings.HasPrefix(message, "Memory cgroup")
	r.isNode = r.isNode || strings.HasPrefix(message, "Out of memory")
}

// fits reports whether the message of a kill does not contradict the report's scope.
func (r *report) fits(message string) bool {
	memcg := r.ofMemcg() || r.isMemcg || r.summary != nil && r.summary.oomMemcg != ""
	node := r.memInfo != nil || r.isNode || r.summary != nil && r.summary.global

	switch {
	case strings.HasPrefix(message, "Memory cgroup"):
		return !node
	case strings.HasPrefix(message, "Out of memory"):
		return !memcg
	}

	return true
}

// killedLine reads the rest of a line with "Killed process ". message is the text before.
func (p *parser) killedLine(s *stream, rec record, message, rest string) bool {
	k, ok := parseKill(rec, rest)
	if !ok {
		return false
	}

	r := s.open
	if r == nil || !r.fits(message) || !r.expects(&k) {
		r = p.begin(s, rec)
	}

	for i, earlier := range r.kills {
		if earlier.pid != k.pid {
			continue
		}
		// The chosen process of a group is printed twice, the second time among the members,
		// which are printed in one go: so the kills before it are of members.
		if i == 0 && r.chosenFirst {
			r.saw(message)

			for j := range r.kills {
				r.kills[j].unproven = false
			}
		}

		r.advance(rec, inKills)

		return true
	}

	if r.group != "" && r.hasWholeTable() && !r.inTable(k.pid) {
		r.note(fmt.Sprintf("%s[%d] is taken for a thread of a process killed before, as it has the same size", k.comm, k.pid))
		r.advance(rec, inKills)

		return true
	}

	k.at, k.message, k.unproven = rec, message, r.group != "" && !r.inTable(k.pid)
	if !k.unproven {
		r.saw(message)
	}

	if len(r.kills) == 0 {
		r.killTime = rec
	}

	if len(r.kills) < maxVictims {
		r.kills = append(r.kills, k)
	} else {
		r.killsCut++
	}

	r.advance(rec, inKills)

	return true
}

// expects reports whether a kill is of this report.
func (r *report) expects(k *kill) bool {
	for _, earlier := range r.kills {
		if earlier.pid == k.pid {
			return true
		}
	}

	switch {
	case r.group != "":
		// All members are in the task table, if the log has it, but not their other threads.
		return r.inTable(k.pid) || !r.hasWholeTable() || r.sizedLikeMember(k)
	case len(r.kills) > 0 || r.noKillable:
		return false
	case r.summary != nil && r.summary.pid != 0:
		// A thread's id stands for a process whose leader is gone.
		return r.summary.pid == k.pid || r.inTable(k.pid) && r.tasks[r.pids[k.pid]].tgid == r.summary.pid
	case r.chosen != nil:
		// The chosen process, or a child of it.
		return true
	}

	return false
}

// sizedLikeMember reports whether a kill looks like another thread of a process of the group
// that was killed before. The kernel comes to a leader again if that exits meanwhile, and
// prints one of the threads that are left (kernel/cgroup/cgroup.c: css_task_iter_advance;
// mm/oom_kill.c: __oom_kill_process).
func (r *report) sizedLikeMember(k *kill) bool {
	return slices.ContainsFunc(r.kills, func(member kill) bool {
		return r.inTable(member.pid) && same(member.totalVM, k.totalVM) && same(member.uid, k.uid) && same(member.adj, k.adj)
	})
}

// same reports whether two numbers are known and equal.
func same[T comparable](a, b *T) bool { return a != nil && b != nil && *a == *b }

// hasWholeTable reports whether the log has the task table, and all of it was kept.
func (r *report) hasWholeTable() bool { return r.columns != nil && r.tasksCut == 0 }

// inTable reports whether a process is in the task table, and so in the limiter's cgroup.
func (r *report) inTable(pid int) bool {
	_, ok := r.pids[pid]
	return ok
}

// parseKill reads "N (comm)[, UID N,] total-vm:NkB, anon-rss:NkB, file-rss:NkB[,
// shmem-rss:NkB][, UID:N pgtables:NkB oom_score_adj:N]".
func parseKill(rec record, s string) (kill, bool) {
	suffix := ") total-vm:"
	if !strings.Contains(s, suffix) {
		suffix = "), UID " // of RHEL 7 and 8
	}

	if !strings.Contains(s, suffix) {
		suffix = ")"
	}

	pid, comm, rest, ok := pidAndComm(s, suffix)
	if !ok || suffix == ")" && strings.Trim(rest, " ,") != "" {
		return kill{}, false
	}
	k := kill{pid: pid, comm: comm}
	rest = strings.TrimPrefix(suffix, ")") + rest
	size := func(key string) *uint64 {
		word, ok := after(rec, rest, key)
		if !ok {
			return nil
		}

		if n, ok := kib(word); ok {
			return &n
		}

		return nil
	}
	k.totalVM, k.anon, k.file, k.shmem = size("total-vm:"), size("anon-rss:"), size("file-rss:"), size("shmem-rss:")

	k.pgtable = size("pgtables:")
	for _, key := range []string{"UID:", "UID "} {
		if word, ok := after(rec, rest, key); ok && k.uid == nil {
			if n, err := strconv.ParseUint(word, 10, 32); err == nil {
				k.uid = new(uint32(n))
			}
		}
	}

	if word, ok := after(rec, rest, "oom_score_adj:"); ok {
		if n, err := strconv.Atoi(word); err == nil {
			k.adj = &n
		}
	}

	return k, true
}

// exitingLine reads "OOM victim N (x) is already exiting. Skip killing the task".
func (p *parser) exitingLine(s *stream, rec record, message, rest string) bool {
	pid, comm, _, ok := pidAndComm(rest, ") is already exiting")
	if !ok {
		return false
	}
	k := kill{pid: pid, comm: comm}

	r := s.open
	if r == nil || !r.fits(message) || !r.expects(&k) || r.group != "" && !r.inTable(pid) {
		r = p.begin(s, rec)
	}

	r.saw(message)

	again := slices.ContainsFunc(r.kills, func(earlier kill) bool { return earlier.pid == pid })
	if !again && len(r.exiting) < maxVictims {
		r.exiting = append(r.exiting, k)
	}

	r.advance(rec, inKills)

	return true
}

// groupLine reads "Tasks in P are going to be killed due to memory.oom.group set".
func (p *parser) groupLine(s *stream, rec record, text string) bool {
	path, _, found := cutLast(strings.TrimPrefix(text, "Tasks in "), " are going to be killed due to memory.oom.group set")
	if !found || !strings.HasPrefix(path, "/") {
		return false
	}
	r := s.open

	ours := r != nil && r.group == "" && r.at >= inSummary && !r.noKillable
	if ours && r.summary != nil && r.summary.oomMemcg != "" {
		ours = within(path, r.summary.oomMemcg)
	}

	if ours && r.summary == nil && r.chosen == nil {
		// A kill alone belongs to the group if it comes once more among the members.
		ours = len(r.kills) == 1 && len(r.exiting) == 0
		if ours {
			r.kills[0].unproven = true
		}
	}

	if !ours {
		r = p.begin(s, rec)
	}
	r.group, r.groupLine, r.chosenFirst = path, rec, len(r.kills) == 1
	r.advance(rec, inKills)

	return true
}

// within reports whether a cgroup is top or below it.
func within(path, top string) bool {
	return path == top || top == "/" || strings.HasPrefix(path, top+"/")
}

// reaperLine reads "oom_reaper: reaped process N (x), now anon-rss:..." and "oom_reaper:
// unable to reap pid:N (x)", which come after the report.
func (p *parser) reaperLine(rec record, text string) bool {
	rest, reaped := strings.CutPrefix(text, "oom_reaper: reaped process ")
	suffix := "), now"

	if !reaped {
		if rest, reaped = strings.CutPrefix(text, "oom_reaper: unable to reap pid:"); !reaped {
			return false
		}
		suffix = ")"
	}

	pid, comm, left, ok := pidAndComm(rest, suffix)
	if !ok {
		return false
	}

	r := p.withVictim(rec, pid)
	if r == nil {
		p.reapedAlone(rec, comm, pid)
		return true
	}

	if len(r.reaped) >= maxReaped {
		return true
	}

	when := ""
	if r.killTime.uptime && rec.uptime && rec.uptimeNS >= r.killTime.uptimeNS {
		when = fmt.Sprintf(" %d ms after the kill", (rec.uptimeNS-r.killTime.uptimeNS)/1e6)
	}

	if suffix == ")" {
		r.reaped = append(r.reaped, fmt.Sprintf("the OOM reaper could not free the memory of %s[%d]%s", comm, pid, when))
		return true
	}

	r.reaped = append(r.reaped, fmt.Sprintf("the OOM reaper freed the memory of %s[%d]%s; left:%s", comm, pid, when, left))

	return true
}

// maxReaped bounds the lines of the OOM reaper about one report.
const maxReaped = 8

// reapedAlone notes a process that the OOM reaper was given, and whose kill the log lacks, with the
// newest kill that the log has.
func (p *parser) reapedAlone(rec record, comm string, pid int) {
	if r := p.newest(func(r *report) bool { return r.sameBoot(rec) && len(r.kills) > 0 }); r != nil && len(r.reaped) < maxReaped {
		r.reaped = append(r.reaped, fmt.Sprintf("the OOM reaper was given %s[%d] as well, whose kill is not in this log", comm, pid))
	}
}
