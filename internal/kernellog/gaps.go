// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strconv"
	"strings"
)

// gapLine reads how many lines are missing, from the kernel's rate limit and from
// systemd-journald.
func (p *parser) gapLine(s *stream, text string) bool {
	if rest, found := strings.CutPrefix(text, "Missed "); found {
		n, _ := strconv.Atoi(strings.TrimSuffix(rest, " kernel messages"))
		p.missed(n)

		return true
	}

	function, rest, found := strings.Cut(text, ": ")
	if !found || !strings.Contains(function, "oom") && function != "out_of_memory" {
		return false
	}

	n, err := strconv.Atoi(strings.TrimSuffix(rest, " callbacks suppressed"))
	if err != nil || n <= 0 {
		return false
	}
	p.stats.Missed += n
	s.suppressed += n

	return true
}

// hole tells that lines of /dev/kmsg are missing, whose records are numbered. One
// that could hold the end of a report and the beginning of another ends all.
func (p *parser) hole(n uint64) {
	if n > 8 {
		p.missed(int(min(n, 1<<31)))
		return
	}

	p.stats.Missed += int(n)
	for _, s := range p.streams {
		if s.open != nil && !s.open.settled() {
			s.open.holes += int(n)
		}
	}
}

// missed ends all reports: what follows a hole is not of them.
func (p *parser) missed(n int) {
	p.stats.Missed += max(n, 0)
	for _, s := range p.streams {
		if r := s.open; r != nil {
			if !r.settled() {
				r.note(fmt.Sprintf("the log lost %d lines here", n))
			}

			p.closeReport(s)
		}
	}
}
