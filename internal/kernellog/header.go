// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"strconv"
	"strings"
)

// header is "X invoked oom-killer: ...".
type header struct {
	comm  string
	gfp   *uint32
	flags []string
	order *int
	// nodemask is printed from 4.9 to 4.20: "(null)" without a memory policy.
	nodemask string
}

// triggerTask is the line of dump_stack about the current task.
type triggerTask struct{ tid int }

// headerLine reads "X invoked oom-killer: gfp_mask=M, order=N, ...", which starts a report.
func (p *parser) headerLine(s *stream, rec record) bool {
	comm, rest, _ := strings.Cut(rec.text, invokedWords)
	if len(comm) > maxComm || !strings.HasPrefix(rest, "gfp_mask=") && !(rec.torn && strings.HasPrefix("gfp_mask=", rest)) {
		return false
	}
	h := &header{comm: comm}

	mask, names := strings.TrimPrefix(rest, "gfp_mask="), ""
	if i := strings.IndexAny(mask, "(,"); i >= 0 {
		if mask[i] == '(' {
			names, _, _ = strings.Cut(mask[i+1:], ")")
			if !strings.Contains(mask[i:], ")") {
				names = ""
			}
		}

		if n, err := strconv.ParseUint(mask[:i], 0, 32); err == nil {
			h.gfp = new(uint32(n))
		}
	}

	if names != "" && len(names) < 1024 {
		h.flags = strings.Split(names, "|")
	}

	if word, ok := after(rec, rest, " order="); ok {
		if n, err := strconv.Atoi(word); err == nil {
			h.order = &n
		}
	}

	if _, nodes, found := strings.Cut(rest, ", nodemask="); found && !rec.torn {
		h.nodemask, _, _ = strings.Cut(nodes, ", ")
	}
	r := p.begin(s, rec)
	r.header = h
	// Before 4.3 the order of sysrq-f was 0 (drivers/tty/sysrq.c: moom_callback).
	if s.sysrq.line > 0 && strings.HasPrefix(comm, "kworker") && near(s.sysrq, rec) {
		r.sysrqAsked = true
	}
	s.sysrq = record{}

	r.advance(rec, inHeader)

	return true
}

// near reports whether two lines can be of one event.
func near(a, b record) bool {
	switch {
	case a.uptime && b.uptime:
		return b.uptimeNS >= a.uptimeNS && b.uptimeNS-a.uptimeNS <= uint64(longestPause)
	case !a.wall.IsZero() && !b.wall.IsZero():
		d := b.wall.Sub(a.wall)
		return d >= 0 && d <= longestPause
	}

	return b.line-a.line < 20
}

// taskLine reads "CPU: 0 UID: 0 PID: 419 Comm: trigger Not tainted 7.3.4 #1 ...", and "Pid:
// 419, comm: trigger Not tainted 3.2.0 #1" before 3.12.
func (r *report) taskLine(rec record, text string) bool {
	word, ok := after(rec, text, " PID: ")

	_, named, found := strings.Cut(text, " Comm: ")
	if strings.HasPrefix(text, "Pid: ") {
		word, ok = after(rec, text, "Pid: ")
		_, named, found = strings.Cut(text, ", comm: ")
	}

	if !ok || !found {
		return false
	}

	tid, err := strconv.Atoi(word)
	if err != nil || r.header == nil || r.at >= inTask {
		return false // of another stack trace
	}

	tail, same := taintOf(named, r.header.comm)
	if r.stack.ofAnother = !same; !same {
		return false // the stack trace of another task
	}

	r.task = &triggerTask{tid: tid}
	if release, _, found := strings.Cut(afterTaint(tail), " "); found {
		r.release = release
	}

	r.advance(rec, inTask)

	return true
}

// taintOf returns what follows the taint of the kernel, in the text behind "Comm: ". It is not
// ok if that is not of the task comm. The name is followed by "Not tainted", "Tainted: G  OE",
// or "Kdump: loaded", of which the end of the line may cut off a part.
func taintOf(named, comm string) (tail string, ok bool) {
	rest, same := strings.CutPrefix(named+" ", comm+" ")
	if !same {
		return "", false
	}

	if _, tail, found := strings.Cut(rest, "ainted"); found {
		return tail, true
	}

	rest = strings.TrimRight(rest, " ")

	return "", slices.ContainsFunc([]string{"Not tainted", "Tainted", "Kdump: loaded Not tainted"}, func(taint string) bool {
		return strings.HasPrefix(taint, rest)
	})
}

// afterTaint skips the taint flags up to the release, which starts with a digit.
func afterTaint(s string) string {
	for s != "" {
		word, rest, _ := strings.Cut(strings.TrimLeft(s, " "), " ")
		if word != "" && word[0] >= '0' && word[0] <= '9' {
			return word + " " + rest
		}
		s = rest
	}

	return ""
}

// reportAtEnd returns the report that ends without a kill: the open one if it has no choice
// yet, else a new one.
func (p *parser) reportAtEnd(s *stream, rec record) *report {
	if r := s.open; r != nil && !r.settled() && r.at < inSummary {
		return r
	}

	return p.begin(s, rec)
}

// panicLine reads the panic of a kernel that found no killable process, or that panics on
// OOM by vm.panic_on_oom.
func (p *parser) panicLine(s *stream, rec record, text string) bool {
	why := strings.TrimPrefix(text, "Kernel panic - not syncing: ")

	deadlocked := strings.HasPrefix(why, "System is deadlocked on memory")
	if !deadlocked && !strings.HasPrefix(why, "Out of memory") && !strings.HasPrefix(why, "out of memory") {
		return false
	}

	r := s.open
	if r == nil || !(deadlocked && r.noKillable) {
		r = p.reportAtEnd(s, rec)
	}
	r.panicked = why
	r.noKillable = r.noKillable || strings.Contains(why, "no killable processes")
	r.advance(rec, max(r.at, inKills))

	return true
}
