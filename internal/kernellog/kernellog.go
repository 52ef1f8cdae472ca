// SPDX-License-Identifier: Apache-2.0

// Package kernellog reads incidents from kernel logs. The reports of the OOM killer
// (mm/oom_kill.c, mm/memcontrol.c, mm/show_mem.c; Linux 2.6.32 to 7.x) become the same
// incidents that a live trace emits, with tier kernel_log. Lines of killers in user space
// (systemd-oomd, oomd, earlyoom, nohang, Talos, the kubelet's evictions) become incidents
// of scope user, and what systemd and the kubelet logged after a kill belongs to it.
//
// Data flows one way, line by line:
//
//	line ─> prefilter ─> decoder (format.go) ─> record ─> report ─> builder ─> events.Incident
//
// A report holds the lines of one OOM invocation in one stream: of a host, and of one task
// or CPU if printk names it. The kernel writes the sections of a report in a fixed order
// (section, in report.go) and one report at a time. A line that is out of order, that
// contradicts the open report (another cgroup, a cgroup's limit instead of the node), or that
// comes late therefore starts a report of its own. Lines missing from a log, and what stands
// at the end of cut ones, cost fields; they do not mix two reports, as far as the remaining
// lines can be distinguished.
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
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Options supply what a log does not contain. The zero value works.
type Options struct {
	// BootTime is when uptime was zero. If it is zero, incidents of logs that only have
	// uptimes are timed from the Unix epoch on, with "time" in unknown.
	BootTime time.Time
	// BootID and Node are those of incidents whose lines name none.
	BootID, Node string
	// Location is the time zone of times without one; nil is time.Local.
	Location *time.Location
	// Now determines the year of times that have none: the latest that is not after Now.
	// Zero is the time of the call.
	Now time.Time
	// PageSizeBytes is the kernel's page size if the log does not show it; 0 is 4096.
	PageSizeBytes int
}

// Stats counts what was read.
type Stats struct {
	Lines     int // with the elements of a list in JSON that end on one line
	Blank     int // of Lines, those without a text
	CutLines  int // or elements, longer than MaxLineBytes: the rest was not read
	Incidents int
	// Missed counts the lines that the log reports as lost: by the rate limit of the
	// kernel's OOM reports, and by a reader of the kernel's buffer that was too slow.
	Missed int
	// Unread counts the lines that have the kernel's words about a kill and were not
	// understood. FirstUnread is the first of them, at most 512 bytes, and FirstUnreadLine its
	// number.
	Unread          int
	FirstUnread     string
	FirstUnreadLine int
	// Quoted counts the lines in which another program has these words: it may quote the
	// kernel, or pass on its log. They are not read as kills. FirstQuotedLine is the number of
	// the first.
	Quoted, FirstQuotedLine int
	// NewestFirst is true if the times within the kernel's reports descend, as log stores print
	// them: most of such a report is not found.
	NewestFirst bool
}

// MaxLineBytes bounds a line, or an element of a list in JSON that is on one line; the rest is not
// read. The kernel's own lines end at 1024 bytes, an entry of the journal in JSON has some kilobytes.
const MaxLineBytes = 128 << 10

// parser takes the lines of a log, in order. It holds the open report of each stream, and
// a bounded number of closed ones.
type parser struct {
	emit  func(*events.Incident) error
	stats Stats

	decoder decoder
	builder builder
	streams map[streamKey]*stream
	// unsettled is how many open reports wait for more than kills.
	unsettled int
	// mayWrap is true if the lines are of a file, in which long ones may be wrapped. held is a
	// line that may continue on the next, and wrapWidth the width at which one did.
	mayWrap   bool
	held      *wrapped
	wrapWidth int
	// started are the first lines of the last reports, in a ring, and starts is how many began.
	started [reportsPerInterval]record
	starts  int
	// done are closed reports that were not emitted yet, in order.
	done []*report
	user userState
	// order is that of the times of the kernel's messages.
	order timeOrder
}

// newParser returns a parser that passes each incident to emit, in the order of their last
// lines. Errors of emit are returned by line and close; no text is an error.
func newParser(opt Options, emit func(*events.Incident) error) *parser {
	return &parser{decoder: newDecoder(opt), builder: newBuilder(opt), emit: emit, streams: map[streamKey]*stream{}}
}

// line takes in a line, with or without its newline, and keeps no reference to text. torn
// means that the end of the line is missing.
func (p *parser) line(text []byte, torn bool) error {
	p.stats.Lines++

	text = bytes.TrimLeft(bytes.TrimRight(text, "\r\n\x00"), "\x00")
	if len(bytes.TrimSpace(text)) == 0 {
		p.stats.Blank++
	}

	if len(text) > MaxLineBytes {
		p.stats.CutLines++
		text, torn = text[:MaxLineBytes], true
	}

	if p.decoder.entry.open || startsEntry(text) {
		complete, ok := p.decoder.takeEntry(string(text))
		if err := p.entry(complete); err != nil || ok {
			return err
		}
	}

	elements, isJSON := p.decoder.collect(text)
	p.countCut()

	if !isJSON {
		return p.text(text, torn)
	}

	return p.elements(elements)
}

// countCut counts the elements of a list that were too long.
func (p *parser) countCut() {
	p.stats.CutLines += p.decoder.objects.cut
	p.decoder.objects.cut = 0
}

// elements takes in JSON objects that end on one line. Each but the first counts as a line: they
// have an order.
func (p *parser) elements(list []string) error {
	for i, text := range list {
		if i > 0 {
			p.stats.Lines++
		}

		if err := p.text([]byte(text), false); err != nil {
			return err
		}
	}

	return nil
}

// text takes in a line, or an object that was written over several lines.
func (p *parser) text(text []byte, torn bool) error {
	if p.held == nil && !p.matters(text) {
		return nil
	}

	if p.mayWrap {
		return p.unwrap(string(text), torn)
	}

	return p.whole(string(text), p.stats.Lines, utf8.RuneCount(text), torn)
}

// whole takes in a line that is not continued on the next one. number is its own, and width is how
// wide it is, 0 if it was made of several.
func (p *parser) whole(text string, number, width int, torn bool) error {
	return p.records(p.decoder.decode(text, number, width, torn))
}

// entry takes in an entry of the journal that was written on several lines; nil is none.
func (p *parser) entry(o *object) error {
	if o == nil || !p.matters([]byte(o.message)) {
		return nil
	}

	return p.records(p.decoder.decodeEntry(o, p.stats.Lines))
}

// records takes in what a line became.
func (p *parser) records(records []record) error {
	for _, r := range records {
		if r.missing > 0 {
			p.gap(r.missing)
		}

		p.order.add(r)
		p.stats.NewestFirst = p.order.descends()

		for part := range r.parts() {
			for _, one := range unglue(part) {
				if r.unread || !p.take(one) && looksLikeKill(one.text) {
					p.unread(one)
				}
			}
		}

		if err := p.emitDone(false); err != nil {
			return err
		}
	}

	return nil
}

// unread counts a line that looks like a kill and was not understood, or is another program's.
func (p *parser) unread(r record) {
	if r.program != "" {
		if p.stats.Quoted == 0 {
			p.stats.FirstQuotedLine = r.line
		}

		p.stats.Quoted++

		return
	}

	if p.stats.Unread == 0 {
		p.stats.FirstUnread, p.stats.FirstUnreadLine = r.text[:min(len(r.text), 512)], r.line
	}

	p.stats.Unread++
}

// close ends the log: open reports are emitted as far as they were read.
func (p *parser) close() error {
	if list := p.decoder.objects; list.inside() {
		p.stats.CutLines++
		p.decoder.objects = objects{}

		if err := p.text(list.text, true); err != nil { // it may be about a kill
			return err
		}
	}

	if err := p.release(); err != nil {
		return err
	}

	if err := p.entry(p.decoder.entry.end()); err != nil {
		return err
	}

	if err := p.records(p.decoder.release(nil)); err != nil {
		return err
	}

	return p.closeReports(func(*report) bool { return true })
}

// closeReports closes the open reports that match, and emits all closed ones.
func (p *parser) closeReports(match func(*report) bool) error {
	open := slices.DeleteFunc(slices.Collect(maps.Values(p.streams)), func(s *stream) bool { return s.open == nil || !match(s.open) })
	slices.SortFunc(open, func(a, b *stream) int { return cmp.Compare(a.lastLine, b.lastLine) })

	for _, s := range open {
		p.closeReport(s)
	}

	return p.emitDone(true)
}

// Read reads a whole log, of any length and with lines of any length, in bounded memory,
// and passes its incidents to emit in the order of their last lines. It returns the first
// error of r or emit. A log without incidents is no error.
//
// A last line without a newline may be torn: its last word is not used.
func Read(r io.Reader, opt Options, emit func(*events.Incident) error) (Stats, error) {
	p := newParser(opt, emit)
	p.mayWrap = true
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
			if err := p.longLine(in, line); err != nil {
				return err
			}

			continue
		case !errors.Is(err, io.EOF):
			return p.failed(err)
		}

		if len(line) > 0 {
			if err := p.line(line, true); err != nil {
				return err
			}
		}

		return p.close()
	}
}

// longLine takes in a line of which only the start is in memory: the elements of a list in JSON,
// however long that is, and of any other line the start.
func (p *parser) longLine(in *bufio.Reader, part []byte) error {
	list := &p.decoder.objects
	if p.decoder.entry.open || !list.inside() && !list.beginsLong(part) {
		if err := p.line(part, true); err != nil {
			return err
		}

		return p.skipLine(in)
	}

	for {
		ends := bytes.HasSuffix(part, []byte("\n"))
		p.stats.Lines++

		complete, ok := list.addPart(bytes.TrimRight(part, "\r\n"))

		p.countCut()

		if err := p.elements(complete); err != nil {
			return err
		}

		switch {
		case !ok || ends && list.quoted:
			return p.cutList(in, part, len(complete) == 0)
		case ends:
			return nil
		}

		var err error

		part, err = in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(part) == 0 {
			return nil
		}

		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return p.failed(err)
		}
	}
}

// cutList gives up a list that is no JSON, in this part of its line. What is new in it is read as
// text: it may be about a kill.
func (p *parser) cutList(in *bufio.Reader, part []byte, isNew bool) error {
	p.stats.CutLines++
	p.decoder.objects = objects{}

	ends := bytes.HasSuffix(part, []byte("\n"))

	if isNew {
		if err := p.text(bytes.TrimRight(part, "\r\n"), true); err != nil {
			return err
		}
	}

	if ends {
		return nil
	}

	return p.skipLine(in)
}

// skipLine discards the rest of a line that is too long.
func (p *parser) skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')

		switch {
		case err == nil || errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return p.failed(err)
		}
	}
}

// failed ends a log that cannot be read on, and returns why.
func (p *parser) failed(err error) error {
	return errors.Join(fmt.Errorf("read the log after line %d: %w", p.stats.Lines, err), p.close())
}
