// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strconv"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// summary is "oom-kill:constraint=..." of 5.0 and later.
type summary struct {
	constraint     string
	nodemask, mems string
	oomMemcg       string
	global         bool
	// tail is the text after task_memcg=, up to ",pid=": a path and a name, both of which
	// may contain ",task=".
	tail     string
	pid, uid int
	uidKnown bool
}

// chosen is "Kill process N (x) score S or sacrifice child" of 5.0 and earlier.
type chosen struct {
	pid  int
	comm string
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}

	return s[:i], s[i+len(sep):], true
}

// parseSummary reads "oom-kill:constraint=C,nodemask=N,cpuset=S,mems_allowed=M,
// oom_memcg=P|global_oom,task_memcg=P,task=comm,pid=N,uid=N", of which the end may be missing.
func parseSummary(text string, torn bool) (sum summary) {
	body, uid, found := cutLast(text, ",uid=")
	if n, err := strconv.Atoi(uid); found && err == nil {
		sum.uid, sum.uidKnown = n, !torn
	} else if !found {
		body = text
	}

	head, pid, ended := cutLast(body, ",pid=")
	if n, err := strconv.Atoi(pid); ended && err == nil && found {
		sum.pid = n
	} else {
		head = body
	}

	constraint, rest, _ := strings.Cut(strings.TrimPrefix(head, "oom-kill:constraint="), ",")
	if rest != "" || constraints[constraint] {
		sum.constraint = constraint
	}

	if nodes, found := strings.CutPrefix(rest, "nodemask="); found {
		sum.nodemask, _, _ = strings.Cut(nodes, ",cpuset=")
	}

	if tail := sum.setLimiter("," + rest); sum.pid != 0 {
		sum.tail = tail
	}

	return sum
}

// constraints are the names of the constraints (mm/oom_kill.c: oom_constraint_text).
var constraints = map[string]bool{
	"CONSTRAINT_NONE": true, "CONSTRAINT_CPUSET": true, "CONSTRAINT_MEMORY_POLICY": true, "CONSTRAINT_MEMCG": true,
}

// setLimiter reads what follows the constraint, and returns what follows task_memcg=. A
// value is complete only if another key follows it. The name of a cpuset is a path, and could
// contain any of the keys: behind mems_allowed= is none.
func (sum *summary) setLimiter(text string) (tail string) {
	if _, rest, found := strings.Cut(text, ",mems_allowed="); found {
		mems, _, ended := strings.Cut(rest, ",oom_memcg=")
		if !ended {
			mems, _, ended = strings.Cut(rest, ",global_oom")
		}

		if ended {
			sum.mems = mems
		}

		text = rest
	} else if strings.Contains(text, ",cpuset=") {
		return "" // its end is missing
	}

	if _, after, ok := strings.Cut(text, ",oom_memcg="); ok {
		path, tail, ok := strings.Cut(after, ",task_memcg=")
		if !ok {
			return ""
		}
		sum.oomMemcg = path

		return tail
	}

	_, after, ok := strings.Cut(text, ",global_oom")
	if !ok {
		return ""
	}
	sum.global = true

	if tail, ok = strings.CutPrefix(after, ",task_memcg="); !ok {
		return ""
	}

	return tail
}

// summaryLine takes in the summary of the report that is open, or of one whose start is
// missing.
func (p *parser) summaryLine(s *stream, rec record, text string) bool {
	sum := parseSummary(text, rec.torn)

	r := s.open
	switch {
	case r == nil || r.at >= inSummary || r.settled():
		r = p.begin(s, rec)
	case r.ofAnother(&sum):
		// It is not known whose tasks these are.
		r.dropTable()
		r = p.begin(s, rec)
	case r.contradicts(sum.pid):
		r = p.begin(s, rec)
	}

	r.summary, r.summaryLine = &sum, rec.line
	r.edge(rec, func() { sum.uidKnown = false })
	r.advance(rec, inSummary)

	return true
}

// ofAnother reports whether a summary is of another cgroup than the report, or not of a
// cgroup at all.
func (r *report) ofAnother(sum *summary) bool {
	switch {
	case sum.global:
		return r.contradictsNode()
	case sum.oomMemcg == "":
		return false
	case len(r.stats) > 0 && r.stats[0].path != "" && r.stats[0].path != sum.oomMemcg,
		r.limits.limitOf != "" && r.limits.limitOf != sum.oomMemcg:
		return true
	}

	return r.contradictsMemcg()
}

// ofMemcg reports whether the report has lines that are printed for a cgroup's limit only.
func (r *report) ofMemcg() bool {
	return r.limits.any() || r.limits.ofTask || len(r.stats) > 0 || r.stack.scope() == events.ScopeMemcg
}

// contradictsMemcg reports whether the report is not of a cgroup's limit.
func (r *report) contradictsMemcg() bool {
	return r.memInfo != nil || r.isNode || r.summary != nil && r.summary.global || r.stack.ofNode()
}

// contradictsNode reports whether the report is of a cgroup's limit.
func (r *report) contradictsNode() bool {
	return r.ofMemcg() || r.isMemcg || r.summary != nil && r.summary.oomMemcg != ""
}

// contradicts reports whether the choice of a process does not fit the report. pid is 0 if it is
// not known. That the process has no row in the task table is no contradiction: a row may be
// missing, as any line may.
func (r *report) contradicts(pid int) bool {
	if r.task != nil && r.task.tid == pid {
		return false // the task whose allocation failed was chosen
	}

	return r.hasTableOfAnother()
}

// hasTableOfAnother reports whether the middle of the report is missing, and its task table lacks
// the task whose allocation failed: it is the table of a later report then, whose start is
// missing. A thread has no row either, but then the middle is there.
func (r *report) hasTableOfAnother() bool {
	between := r.limits.any() || len(r.stats) > 0 || r.memInfo != nil

	return r.stack.whole && !between && r.lacksTrigger()
}

// lacksTrigger reports whether the task table lacks the task whose allocation failed.
func (r *report) lacksTrigger() bool { return r.task != nil && r.hasRows() && !r.inTable(r.task.tid) }

// dropTable removes a task table that may be another report's.
func (r *report) dropTable() {
	r.tabled, r.columns, r.tasks, r.tasksCut = false, nil, nil, 0
	clear(r.pids)
}

// chosenOf returns the pid that the report announces to be killed, 0 if it has none.
func (r *report) chosenOf() int {
	switch {
	case r.summary != nil && r.summary.pid != 0:
		return r.summary.pid
	case r.chosen != nil:
		return r.chosen.pid
	}

	return 0
}

// parseChosen reads "N (x) score S or sacrifice child", of which the end may be missing.
func parseChosen(rec record, s string) (pid int, comm string, ok bool) {
	if pid, comm, _, ok = pidAndComm(s, ") score "); ok {
		return pid, comm, true
	}

	k, ok := cutKill(rec, s)

	return k.pid, k.comm, ok && k.pid != 0
}

// chosenLine reads the rest of "Kill process N (x) score S or sacrifice child", and of "Kill
// process N (x) sharing same memory".
func (p *parser) chosenLine(s *stream, rec record, message, rest string) bool {
	if pid, comm, tail, ok := pidAndComm(rest, ") sharing same memory"); ok && strings.Trim(tail, " ") == "" {
		// It is sent SIGKILL too; only kernels before 4.9 print it.
		if r := s.open; r != nil && r.at == inKills && len(r.kills) < maxVictims {
			r.kills = append(r.kills, kill{pid: pid, comm: comm, shares: true})
			r.advance(rec, inKills)
		}

		return true
	}

	pid, comm, ok := parseChosen(rec, rest)
	if !ok {
		return false
	}
	r := s.open

	bad := r == nil || r.at >= inSummary || r.settled() || !r.fits(message) || r.contradicts(pid)

	if r != nil && r.at == inSummary && r.chosen == nil && r.summary != nil && (r.summary.pid == pid || r.summary.pid == 0) {
		bad = false // 5.0 prints both
	}

	if bad {
		r = p.begin(s, rec)
	}
	r.chosen = &chosen{pid, comm}
	r.saw(message)
	r.advance(rec, inSummary)

	return true
}
