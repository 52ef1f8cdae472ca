// SPDX-License-Identifier: Apache-2.0

// Package kernellog reads kernel logs afterwards: what the OOM killer wrote of
// its decisions (mm/oom_kill.c, mm/memcontrol.c, mm/show_mem.c; Linux 3.10 to
// 7.x) becomes the same incidents that a live trace gives, of tier kernel_log.
// Lines of killers in user space (systemd-oomd, oomd, earlyoom, nohang, Talos,
// the kubelet's evictions) become incidents of scope user.
//
// It goes one way, line by line:
//
//	line ─> prefilter ─> decode (carrier.go) ─> record ─> report ─> events.Incident
//
// A report is what one stream of lines (of a host, and of one task or CPU where
// printk names it) says of one decision. The kernel writes its parts in a fixed
// order, and has one decision at a time; so a part that is out of order, that
// contradicts what is there already (another cgroup, a victim that is not among
// the tasks), or that comes late, does not belong to the report that is open: it
// begins one of its own. Holes in a log therefore cost fields, and do not mix two
// decisions, as far as what is left can tell them apart.
package kernellog

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Options tell what a log does not say of itself. The zero value works.
type Options struct {
	// BootTime is when uptime was zero. If it is zero, incidents of logs that have
	// uptimes only are timed from the Unix epoch on, and name "time" in unknown.
	BootTime time.Time
	// BootID and Node are those of incidents whose lines name none.
	BootID, Node string
	// Location is the time zone of times without one; nil is time.Local.
	Location *time.Location
	// Now picks the year of times that have none: the latest that is not after Now.
	// Zero is the time of New.
	Now time.Time
	// PageSizeBytes is the kernel's page size where the log does not show it; 0
	// takes 4096.
	PageSizeBytes int
}

// Stats count what was read.
type Stats struct {
	Lines     int // in all
	CutLines  int // longer than MaxLineBytes: the rest was not read
	Incidents int
	// Missed is how many lines the log itself tells that it lost: the rate limit of
	// the kernel's OOM reports, and what a reader of the kernel's buffer was too
	// slow for.
	Missed int
}

// MaxLineBytes bounds a line; what is beyond is not read. The kernel's own lines
// end at 1024 bytes, an entry of the journal in JSON has some kilobytes.
const MaxLineBytes = 128 << 10

// Parser takes the lines of a log, in order. It holds one report for each stream
// that is in the middle of one, and a few that are done. It is not safe for
// concurrent use.
type parser struct {
	give  func(*events.Incident) error
	stats Stats

	decoder decoder
	builder builder
	streams map[streamKey]*stream
	// unsettled is how many open reports wait for more than kills.
	unsettled int
	// done are closed reports that are not given out yet, in order.
	done []*report
	user userState
}

// New makes a parser that gives each incident to give, in the order of their ends.
// An error of give ends the reading and comes back from Line and Close.
func newParser(opt Options, give func(*events.Incident) error) *parser {
	return &parser{decoder: newDecoder(opt), builder: newBuilder(opt), give: give, streams: map[streamKey]*stream{}}
}

// line takes in a line; torn tells that its end is missing.
func (p *parser) line(text []byte, torn bool) error {
	p.stats.Lines++

	text = bytes.TrimRight(text, "\r\n\x00")
	if len(text) > MaxLineBytes {
		p.stats.CutLines++
		text, torn = text[:MaxLineBytes], true
	}

	if p.unsettled == 0 && !relevant(text) {
		return nil
	}

	r, ok := p.decoder.decode(string(text), p.stats.Lines, torn)
	if !ok {
		return nil
	}

	if missing := r.missingBefore(p.decoder.last); missing > 0 {
		p.hole(missing)
	}

	p.decoder.last = r
	for part := range r.parts() {
		p.take(part)
	}

	return p.giveOut(false)
}

// Close ends the log: what is open is given out as far as it came.
func (p *parser) close() error {
	open := slices.Collect(maps.Values(p.streams))
	slices.SortFunc(open, func(a, b *stream) int { return cmp.Compare(a.lastLine, b.lastLine) })

	for _, s := range open {
		p.closeReport(s)
	}

	return p.giveOut(true)
}

// Read reads a whole log, of any length and with lines of any length, in bounded
// memory. It ends with the first error of r or give.
//
// A last line without a newline may be torn: its last word is not believed.
func Read(r io.Reader, opt Options, give func(*events.Incident) error) (Stats, error) {
	p := newParser(opt, give)
	err := p.read(r)

	return p.stats, err
}

func (p *parser) read(r io.Reader) error {
	in := bufio.NewReaderSize(r, MaxLineBytes+1)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err == nil:
			if err := p.line(line, false); err != nil {
				return err
			}

			continue
		case errors.Is(err, bufio.ErrBufferFull):
			if err := p.line(line, true); err != nil {
				return err
			}

			if err := skipLine(in); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the log after line %d: %w", p.stats.Lines, err)
			}

			continue
		case !errors.Is(err, io.EOF):
			return errors.Join(fmt.Errorf("read the log after line %d: %w", p.stats.Lines, err), p.close())
		}

		if len(line) > 0 {
			if err := p.line(line, true); err != nil {
				return err
			}
		}

		return p.close()
	}
}

// skipLine reads on to the end of a line that was too long.
func skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
