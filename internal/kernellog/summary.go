// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"strconv"
	"strings"
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
// oom_memcg=P|global_oom,task_memcg=P,task=comm,pid=N,uid=N". It is not ok if the line is
// cut before it has any value.
func parseSummary(text string, torn bool) (sum summary, ok bool) {
	body, uid, found := cutLast(text, ",uid=")
	if found && !torn {
		sum.uid, _ = strconv.Atoi(uid)
	} else if !found {
		body = text
	}

	head, pid, ended := cutLast(body, ",pid=")
	if n, err := strconv.Atoi(pid); ended && err == nil && found {
		sum.pid = n
	} else {
		head = body
	}

	var rest string
	if sum.constraint, rest, ok = strings.Cut(strings.TrimPrefix(head, "oom-kill:constraint="), ",nodemask="); !ok {
		return summary{}, false
	}
	sum.nodemask, rest, _ = strings.Cut(rest, ",cpuset=")

	if _, limiter, found := strings.Cut(rest, ",mems_allowed="); found {
		tail := sum.setLimiter(limiter)
		if sum.pid != 0 {
			sum.tail = tail
		}
	}

	return sum, true
}

// setLimiter reads what follows mems_allowed=, and returns what follows task_memcg=. A
// value is complete only if another key follows it.
func (sum *summary) setLimiter(text string) (tail string) {
	if mems, after, ok := strings.Cut(text, ",oom_memcg="); ok {
		path, tail, ok := strings.Cut(after, ",task_memcg=")
		if !ok {
			return ""
		}
		sum.mems, sum.oomMemcg = mems, path

		return tail
	}

	mems, after, ok := strings.Cut(text, ",global_oom")
	if !ok {
		return ""
	}
	sum.mems, sum.global = mems, true

	if tail, ok = strings.CutPrefix(after, ",task_memcg="); !ok {
		return ""
	}

	return tail
}

// summaryLine takes in the summary of the report that is open, or of one whose start is
// missing.
func (p *parser) summaryLine(s *stream, rec record, text string) bool {
	sum, ok := parseSummary(text, rec.torn)
	if !ok {
		return true
	}

	r := s.open
	switch {
	case r == nil || r.at >= inSummary || r.settled():
		r = p.begin(s, rec)
	case r.ofAnother(&sum):
		// It is not known whose tasks these are.
		r.columns, r.tasks = nil, nil
		clear(r.pids)
		r = p.begin(s, rec)
	case r.contradicts(&sum):
		r = p.begin(s, rec)
	}
	r.summary = &sum
	r.advance(rec, inSummary)

	return true
}

// ofAnother reports whether a summary is of another cgroup than the report, or not of a
// cgroup at all.
func (r *report) ofAnother(sum *summary) bool {
	switch {
	case sum.global:
		return r.ofMemcg()
	case sum.oomMemcg == "":
		return false
	case len(r.stats) > 0 && r.stats[0].path != sum.oomMemcg, r.limits.limitOf != "" && r.limits.limitOf != sum.oomMemcg:
		return true
	}

	return r.memInfo != nil
}

// ofMemcg reports whether the report has lines that are printed for a cgroup's limit only.
func (r *report) ofMemcg() bool {
	return r.limits.any() || len(r.stats) > 0 || r.limits.limitOf != ""
}

// contradicts reports whether a summary does not fit the report.
func (r *report) contradicts(sum *summary) bool {
	if sum.pid != 0 && r.columns != nil && r.tasksCut == 0 {
		_, known := r.pids[sum.pid]
		return !known
	}
	// The report only has its start: the middle is missing, and maybe a whole report.
	return r.columns == nil && !r.ofMemcg() && r.memInfo == nil
}

// chosenOf returns the pid that the report announces to be killed, 0 if it has none.
func (r *report) chosenOf() int {
	switch {
	case r.summary != nil:
		return r.summary.pid
	case r.chosen != nil:
		return r.chosen.pid
	}

	return 0
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

	pid, comm, _, ok := pidAndComm(rest, ") score ")
	if !ok {
		return false
	}
	r := s.open

	bad := r == nil || r.at >= inSummary || r.settled() || !r.fits(message)
	if !bad && r.columns != nil && r.tasksCut == 0 {
		_, known := r.pids[pid]
		bad = !known
	}

	if r != nil && r.at == inSummary && r.chosen == nil && r.summary != nil && r.summary.pid == pid {
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
