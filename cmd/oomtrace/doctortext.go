// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/phrase"
)

// text prints the verdict, what is lost with what would avoid it, and the checks; hooks if wide.
func (c *checkup) text(out io.Writer, wide bool) error {
	columns, _ := terminal(out)
	p := &page{columns: max(columns, leastHelpColumns), ascii: !utf8Locale()}

	p.write("", c.verdict())

	remedies, lost := c.losses()
	for _, remedy := range remedies {
		p.line("")
		p.write("lost        ", strings.Join(lost[remedy], "; "))

		if remedy != "" {
			p.write("to get it   ", remedy)
		}
	}

	p.line("")

	for _, f := range c.findings {
		p.write(fmt.Sprintf("%s %-11s ", p.mark(f.State), f.Name), f.Text)
	}

	if wide {
		c.hookText(p)
	} else if len(c.hooks) > 0 {
		p.line("")
		p.write("", "doctor --wide shows how each hook is attached.")
	}

	if _, err := io.WriteString(out, p.String()); err != nil {
		return fmt.Errorf("write the checks: %w", err)
	}

	return nil
}

func (c *checkup) hookText(p *page) {
	if len(c.hooks) > 0 {
		p.line("")
	}

	for _, h := range c.hooks {
		is := stateOK
		if h.Lost != "" {
			is = stateGap
		}

		mode, reason := string(h.Tier), "no better mode: "
		if mode == "" {
			mode, reason = "not attached", "reason: "
		}

		p.write(fmt.Sprintf("%s %-11s ", p.mark(is), "hook"), h.Name+": "+mode)

		if h.Why != "" {
			p.write(strings.Repeat(" ", 16), reason+h.Why)
		}
	}
}

// page is text that is wrapped at spaces.
type page struct {
	strings.Builder
	columns int
	ascii   bool
}

func (p *page) mark(s state) string {
	if p.ascii {
		return marks[s].ascii
	}

	return marks[s].text
}

func (p *page) line(text string) { p.WriteString(text + "\n") }

// write wraps a text after the prefix of its first line.
func (p *page) write(prefix, text string) {
	width := utf8.RuneCountInString(prefix)
	lines := wrapped(phrase.Sanitize(text), p.columns-width)
	p.line(prefix + strings.Join(lines, "\n"+strings.Repeat(" ", width)))
}
