// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strconv"
	"strings"
)

// gapLine reads how many lines are missing, according to the kernel's rate limit or to
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

// gap takes note that n records of /dev/kmsg are missing. A gap that could hold the end of
// a report and the beginning of another closes all reports.
func (p *parser) gap(n uint64) {
	if n > 8 {
		p.missed(int(min(n, 1<<31)))
		return
	}

	p.stats.Missed += int(n)
	for _, s := range p.streams {
		if s.open != nil && !s.open.settled() {
			s.open.missing += int(n)
		}
	}
}

// missed closes all reports: the lines after a gap do not belong to them.
func (p *parser) missed(n int) {
	p.stats.Missed += max(n, 0)
	for _, s := range p.streams {
		if r := s.open; r != nil {
			if !r.settled() {
				r.note(fmt.Sprintf("%d lines of the log were lost here", n))
			}

			p.closeReport(s)
		}
	}
}
