// SPDX-License-Identifier: Apache-2.0

package kernellog

import "strings"

// kernelLine takes in a line of the kernel. It returns whether the line is the OOM killer's.
func (p *parser) kernelLine(s *stream, rec record, text string) bool {
	if text == "" {
		return false
	}

	switch {
	case strings.Contains(text, invokedWords):
		return p.headerLine(s, rec)
	case strings.HasPrefix(text, "oom-kill:constraint="):
		return p.summaryLine(s, rec, text)
	case strings.HasPrefix(text, "oom_reaper: "):
		return p.reaperLine(rec, text)
	case strings.HasPrefix(text, "Tasks in "):
		return p.groupLine(s, rec, text)
	case strings.HasPrefix(text, "Task in "):
		return p.taskInLine(s, rec, text)
	case strings.HasPrefix(text, "Memory cgroup stats for "):
		return p.statsHead(s, rec, text)
	case strings.HasPrefix(text, "Kernel panic - not syncing: "):
		return p.panicLine(s, rec, text)
	case strings.HasPrefix(text, "Missed ") && strings.HasSuffix(text, " kernel messages"),
		strings.HasSuffix(text, " callbacks suppressed"):
		return p.gapLine(s, text)
	case strings.HasSuffix(text, ": Manual OOM execution"), strings.HasSuffix(text, "SysRq : Manual OOM execution"):
		s.sysrq = rec
		return true
	case strings.Contains(text, "no killable processes"):
		if strings.HasPrefix(text, "Out of memory and no killable") ||
			strings.HasPrefix(text, "Memory cgroup out of memory and no killable") {
			r := p.reportAtEnd(s, rec)
			r.noKillable = true
			r.advance(rec, r.at)

			return true
		}
	case strings.Contains(text, " page allocation failure"):
		// It has a Mem-Info of its own.
		if s.open != nil && !s.open.settled() {
			p.closeReport(s)
		}

		return false
	}

	if strings.Contains(text, "ill") || strings.Contains(text, "OOM victim ") {
		if p.killLine(s, rec, text) {
			return true
		}
	}

	if p.limitsLine(s, rec, text) {
		return true
	}

	if s.open == nil || s.open.settled() {
		return false
	}

	return p.bodyLine(s, rec, text)
}

// bodyLine takes in a line that belongs to a report only if one is open.
func (p *parser) bodyLine(s *stream, rec record, text string) bool {
	r := s.open
	switch {
	case strings.HasPrefix(text, "CPU: "), strings.HasPrefix(text, "Pid: "):
		return r.taskLine(rec, text)
	case strings.HasPrefix(text, "Hardware name: "), strings.Contains(text, " cpuset=") && strings.Contains(text, " mems_allowed="),
		strings.HasPrefix(text, "COMPACTION is disabled"):
		return r.at <= inTask
	case strings.HasPrefix(text, "Call Trace:"), strings.HasPrefix(text, "Call trace:"):
		return r.traceHead(rec)
	case strings.HasPrefix(text, "Memory cgroup min protection "):
		return r.protectionLine(rec, text)
	case r.header != nil && r.at <= inTrace && !r.stack.whole && r.frameLine(rec, text):
		return true
	case r.counterLine(rec, text):
		return true
	}

	if r.memInfoLine(rec, text) || p.tasksLine(s, rec, text) {
		return true
	}

	if r.at > inTrace && r.outOfOrder(text) {
		p.closeReport(s)
	}

	return false
}

// outOfOrder reports whether a line that no section took is from the middle of another report:
// more than the head of its section is missing.
func (r *report) outOfOrder(text string) bool {
	key, _, stat := statOf(text)

	return stat && wantedStats[key] || isMemInfo(text)
}
