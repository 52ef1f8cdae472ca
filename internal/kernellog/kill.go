// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kill is "Killed process N (x) ...".
type kill struct {
	pid                                 int     // 0: not in the log
	comm                                string  // "": not in the log
	totalVM, anon, file, shmem, pgtable *uint64 // bytes
	uid                                 *uint32
	adj                                 *int
	shares                              bool // the memory of the victim
	// unproven is a kill that may be of a group, of a process that nothing shows to be a
	// member. at is its line.
	unproven bool
	at       record
	message  string
}

// killLine reads lines about victims.
func (p *parser) killLine(s *stream, rec record, text string) bool {
	message := text
	for _, verb := range []string{"Killed process ", "Kill process ", "kill process ", "OOM victim "} {
		prefix, rest, found := strings.Cut(text, verb)
		if !found || prefix != "" &&
			!strings.HasPrefix(prefix, "Memory cgroup out of memory") && !strings.HasPrefix(prefix, "Out of memory") {
			continue
		}
		message = prefix

		switch verb {
		case "Killed process ":
			return p.killedLine(s, rec, message, rest)
		case "Kill process ", "kill process ":
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
	switch {
	case strings.HasPrefix(message, "Memory cgroup"):
		return !r.contradictsMemcg()
	case strings.HasPrefix(message, "Out of memory"):
		return !r.contradictsNode()
	}

	return true
}

// killedLine reads the rest of a line with "Killed process ". message is the text before.
func (p *parser) killedLine(s *stream, rec record, message, rest string) bool {
	k, ok := parseKill(rec, rest)
	if !ok {
		return false
	}

	k.at, k.message = rec, message

	r := s.open
	if r == nil || !r.fits(message) || !p.expects(r, &k) {
		r = p.beginKill(s, &k)
	}

	if k.pid == 0 {
		k.pid = r.announced()
	}

	if k.pid == 0 && len(r.kills) > 0 {
		r.killsUnknown = true // it may be one of those
		r.advance(rec, inKills)

		return true
	}

	if p.killedTwice(s, &k) {
		s.open.advance(rec, inKills)
		return true
	}

	if r.grouped && r.hasRows() && !r.inTable(k.pid) && r.sizedLikeMember(&k) {
		r.note(fmt.Sprintf("%s[%d] is taken for a thread of a process killed before, as it has the same size", k.comm, k.pid))
		r.advance(rec, inKills)

		return true
	}

	if k.unproven = p.isUnproven(r, &k); !k.unproven {
		r.saw(message)
	}

	if len(r.kills) == 0 {
		r.killTime = rec
	}

	if len(r.kills) < maxVictims {
		r.kills = append(r.kills, k)
		r.edge(rec, func() { r.dropKillEnd(rec) })
	} else {
		r.killsCut++
	}

	if !k.unproven {
		r.lastProven = rec
	}

	r.advance(rec, inKills)

	return true
}

// dropKillEnd removes what the line of a kill ends with.
func (r *report) dropKillEnd(rec record) {
	for i := range r.kills {
		if k := &r.kills[i]; k.at.line == rec.line && k.totalVM == nil {
			k.comm = ""
		} else if k.at.line == rec.line {
			k.adj = nil
		}
	}
}

// beginKill opens a report for a kill that is not of the open one. A choice that was taken for
// the open report's is the kill's, if it does not fit the report's task table either.
func (p *parser) beginKill(s *stream, k *kill) *report {
	var choice *chosen

	if r := s.open; r != nil && r.chosen != nil && r.at == inSummary && r.summary == nil && r.hasRows() && !r.inTable(r.chosen.pid) {
		choice, r.chosen = r.chosen, nil
	}

	r := p.begin(s, k.at)
	r.chosen = choice

	return r
}

// again returns the index of an earlier kill of the same process, -1 if there is none.
func (r *report) again(k *kill) int {
	return slices.IndexFunc(r.kills, func(earlier kill) bool {
		sized := earlier.totalVM == nil || k.totalVM == nil || *earlier.totalVM == *k.totalVM
		named := earlier.comm == "" || k.comm == "" || earlier.comm == k.comm

		return earlier.pid == k.pid && k.pid != 0 && sized && named
	})
}

// killedTwice takes in a kill of a process that was killed before in the open report, as happens
// to the chosen process of a group: it is printed once more among the members, which are printed
// in one go. So the kills in between are of members. It returns whether the kill is one.
func (p *parser) killedTwice(s *stream, k *kill) bool {
	r := s.open

	i := r.again(k)
	switch {
	case i < 0:
		return false
	case r.grouped && (i > 0 || !r.chosenFirst):
		return true
	case i > 0:
		r = p.splitBefore(s, i)
	}

	if len(r.kills) > 1 && !r.grouped {
		r.grouped, r.chosenFirst = true, true // the line that announces the group is missing
	}

	if r.grouped {
		r.saw(k.message)
		r.lastProven = k.at

		for j := range r.kills {
			r.kills[j].unproven = false
		}
	}

	return true
}

// splitBefore makes the kills of the open report from i on a report of their own.
func (p *parser) splitBefore(s *stream, i int) *report {
	kills := slices.Clone(s.open.kills[i:])
	s.open.kills = s.open.kills[:i]

	r := p.begin(s, kills[0].at)
	r.kills, r.killTime = kills, kills[0].at

	return r
}

// isUnproven reports whether nothing shows that a kill is of the report's group.
func (p *parser) isUnproven(r *report, k *kill) bool {
	switch {
	case !r.grouped:
		return len(r.kills) > 0
	case r.inTable(k.pid):
		return false
	}

	return !p.inOneGo(r, k)
}

// inOneGo reports whether a kill follows the lines of its report without a pause, and could not
// have been printed without a report of its own: the log has reports, or shows that there was no
// time for another.
func (p *parser) inOneGo(r *report, k *kill) bool {
	timed := r.last.uptime && k.at.uptime

	return (r.isReported() || timed) && !p.rateLimited(k.at) && r.aside == 0 && closeTo(r.last, k.at, betweenMembers)
}

// betweenMembers bounds the time between the lines of two members of a group. A slow console
// delays each.
const betweenMembers = 100 * time.Millisecond

// untilKill bounds the time between a report without its choice and a kill that is taken for its
// own.
const untilKill = 250 * time.Millisecond

// closeTo reports whether a line follows another within a time, as far as the log has times.
func closeTo(before, at record, within time.Duration) bool {
	switch {
	case before.uptime && at.uptime:
		return at.uptimeNS >= before.uptimeNS && at.uptimeNS-before.uptimeNS <= uint64(within)
	case !before.wall.IsZero() && !at.wall.IsZero():
		return at.wall.Sub(before.wall) <= longestPause
	}

	return true
}

// expects reports whether a kill is of this report.
func (p *parser) expects(r *report, k *kill) bool {
	if r.again(k) >= 0 {
		return true
	}

	switch {
	case r.grouped:
		// All members are in the task table, if the log has it, but not their other threads.
		return r.inTable(k.pid) || !r.hasRows() || r.sizedLikeMember(k) || p.inOneGo(r, k)
	case r.noKillable:
		return false
	case k.pid == 0 && len(r.kills) > 0:
		return p.inOneGo(r, k)
	case len(r.kills) > 0:
		// The line that announces a group may be missing. It is one if the chosen process
		// comes once more.
		return r.isMemcg && strings.HasPrefix(k.message, "Memory cgroup") && !r.inTableOnly(k.pid) &&
			r.aside == 0 && closeTo(r.last, k.at, betweenMembers)
	case k.pid == 0:
		return true
	case r.chosen != nil:
		return r.mayBeChosenOrChild(k)
	case r.summary != nil && r.summary.pid != 0:
		// A thread's id stands for a process whose leader is gone.
		return r.summary.pid == k.pid || r.inTable(k.pid) && r.tasks[r.pids[k.pid]].tgid == r.summary.pid
	}

	// Without a choice, the first kill after a report is its kill.
	return r.isReported() && !r.hasTableOfAnother() && (!r.hasRows() || r.inTable(k.pid)) && closeTo(r.last, k.at, untilKill)
}

// mayBeChosenOrChild reports whether a kill can be of the chosen process, which may have been
// named by one of its threads, or of a child of it. The table has them all, or neither.
func (r *report) mayBeChosenOrChild(k *kill) bool {
	return k.pid == r.chosen.pid || !r.hasRows() || r.inTable(k.pid) || r.inTable(r.chosen.pid)
}

// inTableOnly reports whether the task table shows that a process is no member.
func (r *report) inTableOnly(pid int) bool { return r.hasRows() && !r.inTable(pid) }

// announced returns the pid that a kill must be of, 0 if it can be of several or is not known.
func (r *report) announced() int {
	if len(r.kills) > 0 || r.grouped {
		return 0
	}

	if r.summary != nil && r.chosen == nil {
		return r.summary.pid
	}

	return 0
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

// hasRows reports whether the log has rows of the task table, and all that it has were kept. A
// filter may leave the head of the table without its rows.
func (r *report) hasRows() bool { return len(r.tasks) > 0 && r.tasksCut == 0 }

// inTable reports whether a process is in the task table, and so in the limiter's cgroup.
func (r *report) inTable(pid int) bool {
	_, ok := r.pids[pid]
	return ok
}

// parseKill reads "N (comm)[, UID N,] total-vm:NkB, anon-rss:NkB, file-rss:NkB[,
// shmem-rss:NkB][, UID:N pgtables:NkB oom_score_adj:N]", and "N, UID N, (comm) ..." of Linux
// 2.6.32.
func parseKill(rec record, s string) (kill, bool) {
	digits, named, _ := strings.Cut(s, ", UID ")
	if uid, named, found := strings.Cut(named, ", ("); found && isDigits(digits) && isDigits(uid) {
		s = digits + " (" + strings.Replace(strings.TrimSuffix(named, "."), ") ", "), UID "+uid+", ", 1)
	}

	suffix := ") total-vm:"
	for _, other := range []string{"), UID ", ") vsz:", ")"} { // of RHEL 7 and 8; before 2.6.36
		if !strings.Contains(s, suffix) {
			suffix = other
		}
	}

	pid, comm, rest, ok := pidAndComm(s, suffix)
	if !ok || suffix == ")" && (rec.torn || strings.Trim(rest, " ,.") != "") {
		return cutKill(rec, s)
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

// cutKill reads a kill whose line is cut before its sizes.
func cutKill(rec record, s string) (kill, bool) {
	if !rec.torn {
		return kill{}, false
	}

	digits, named, found := strings.Cut(s, " (")
	if !found {
		return kill{}, isDigits(digits) || digits == "" // the number may go on
	}

	pid, err := strconv.Atoi(digits)
	if err != nil || pid <= 0 || len(named) > maxComm {
		return kill{}, false
	}

	return kill{pid: pid}, true // the name may contain what looks like its end
}

// exitingLine reads "OOM victim N (x) is already exiting. Skip killing the task".
func (p *parser) exitingLine(s *stream, rec record, message, rest string) bool {
	pid, comm, _, ok := pidAndComm(rest, ") is already exiting")
	if !ok {
		return false
	}
	k := kill{pid: pid, comm: comm}

	k.at = rec

	r := s.open
	if r == nil || !r.fits(message) || !p.expects(r, &k) || r.grouped && !r.inTable(pid) {
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

// groupEnd ends "Tasks in P are going to be killed due to memory.oom.group set".
const groupEnd = " are going to be killed due to memory.oom.group set"

// groupLine reads "Tasks in P are going to be killed due to memory.oom.group set".
func (p *parser) groupLine(s *stream, rec record, text string) bool {
	path, whole := strings.CutSuffix(strings.TrimPrefix(text, "Tasks in "), groupEnd)
	if !strings.HasPrefix(path, "/") || !whole && !rec.torn {
		return false
	}

	if !whole {
		path = ""
	}
	r := s.open

	ours := r != nil && !r.grouped && r.at >= inSummary && !r.noKillable && r.fits("Memory cgroup")
	if ours && r.summary != nil && r.summary.oomMemcg != "" && path != "" {
		ours = within(path, r.summary.oomMemcg)
	}

	if ours && r.summary == nil && r.chosen == nil && !r.isReported() {
		// A kill alone belongs to the group if it comes once more among the members.
		ours = len(r.kills) == 1 && len(r.exiting) == 0
		if ours {
			r.kills[0].unproven = !p.inOneGo(r, &kill{at: rec})
		}
	}

	// The members follow this line.
	if ours && len(r.kills) > 1 {
		ours = false
	}

	if !ours {
		r = p.begin(s, rec)
	}
	r.grouped, r.group, r.groupLine, r.lastProven, r.chosenFirst = true, path, rec, rec, len(r.kills) == 1
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
