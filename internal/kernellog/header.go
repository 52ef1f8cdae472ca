// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
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
	comm, rest, _ := strings.Cut(rec.text, " invoked oom-killer: ")
	if len(comm) > maxComm || !strings.HasPrefix(rest, "gfp_mask=") {
		return false
	}
	h := &header{comm: comm}

	mask, names := rest[len("gfp_mask="):], ""
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

// taskLine reads "CPU: 0 UID: 0 PID: 419 Comm: trigger Not tainted 7.3.4 #1 ...".
func (r *report) taskLine(rec record, text string) bool {
	word, ok := after(rec, text, " PID: ")

	_, named, found := strings.Cut(text, " Comm: ")
	if !ok || !found {
		return false
	}

	tid, err := strconv.Atoi(word)
	if err != nil || r.header == nil || r.at >= inTask {
		return false // of another stack trace
	}
	// The name is followed by "Not tainted", "Tainted: G  OE", "Kdump: loaded".
	rest, same := strings.CutPrefix(named, r.header.comm+" ")

	_, rest, found = strings.Cut(rest, "ainted")
	if !same || !found {
		return false // the stack trace of another task
	}

	r.task = &triggerTask{tid: tid}
	if release, _, found := strings.Cut(afterTaint(rest), " "); found {
		r.release = release
	}

	r.advance(rec, inTask)

	return true
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

// frameLine reads a frame of the stack: "func+0x1/0x2", after its address in old kernels.
// Frames with a question mark are not reliable and left out.
func (r *report) frameLine(rec record, text string) bool {
	if strings.HasPrefix(text, "[<") {
		_, rest, found := strings.Cut(text, ">]")
		if !found {
			return false
		}
		text = strings.TrimLeft(rest, " ")
	}

	switch text {
	case "<TASK>", "<IRQ>", "</IRQ>", "<EOI>":
		r.advance(rec, inTrace)
		return true
	case "</TASK>":
		r.advance(rec, inTrace)
		r.traced = true

		return true
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "<EOI>"), " ")
	name, sure := strings.CutPrefix(text, "? ")
	sure = !sure

	function, offset, found := strings.Cut(name, "+0x")
	if !found || strings.ContainsAny(function, " :") || !strings.Contains(offset, "/0x") {
		return false
	}

	if sure && len(r.frames) < maxFrames && len(function) < 128 {
		r.frames = append(r.frames, function)
	}

	r.advance(rec, inTrace)

	return true
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
