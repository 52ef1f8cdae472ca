// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
)

// section is a part of an OOM report. The kernel writes the sections of a report in the
// order of the constants below, while it holds oom_lock (mm/oom_kill.c: oom_kill_process
// calls dump_header, then __oom_kill_process). Any of them may be missing: a kernel prints
// either the memcg's or the node's memory, some depend on sysctls (vm.oom_dump_tasks,
// kernel.panic_on_oom) or on the version, and logs lose lines.
//
// The parser rests on this order: a line of an earlier section than the report's last one
// belongs to another report.
type section int

const (
	// "X invoked oom-killer: gfp_mask=..." (dump_header)
	inHeader section = iota + 1
	// "CPU: 0 PID: 1 Comm: X ...", of the trigger (lib/dump_stack.c)
	inTask
	// "Call Trace:" and its frames
	inTrace
	// "memory: usage 1kB, limit 2kB, failcnt 3", of a memcg
	// (mm/memcontrol.c: mem_cgroup_print_oom_meminfo); "Task in P killed as a result of
	// limit of L" before 5.0
	inLimits
	// "Memory cgroup stats for P:", and its counters
	inStats
	// "Mem-Info:", of the node (mm/show_mem.c)
	inMemInfo
	// "Unreclaimable slab info:" (mm/slab_common.c: dump_unreclaimable_slab)
	inSlab
	// "[ pid ] uid tgid ...", and a row for each process (dump_tasks)
	inTasks
	// "oom-kill:constraint=..." from 5.0 on (dump_oom_summary, dump_oom_victim); "Kill
	// process N (x) score S or sacrifice child" up to 5.0
	inSummary
	// "Killed process N (x) ...", "Tasks in P are going to be killed ..." and a line for
	// each of them, "OOM victim N (x) is already exiting". This section also ends a report
	// without a kill: "... no killable processes", "Kernel panic".
	inKills
)

const (
	// longestPause bounds the time between two lines of a report. A slow console delays
	// the writer by some tenths of a second at each line; another report comes later.
	longestPause = time.Second
	// longestHold is how late the announced kill may come. Its writer may be preempted,
	// and no other invocation can start while it holds oom_lock.
	longestHold = time.Minute
	// maxAside bounds the foreign lines within a report, for logs without times.
	maxAside   = 400
	maxStreams = 64
	maxDone    = 64
	maxTasks   = 4096
	maxVictims = 4096
	maxZones   = 1024
	maxSlabs   = 256
	maxFrames  = 128
	maxStats   = 64
	maxNotes   = 16
)

// streamKey identifies a writer: the lines of one task are in order.
type streamKey struct{ host, boot, caller string }

type stream struct {
	open *report
	// sysrq is the last "Manual OOM execution".
	sysrq record
	// suppressed counts the reports that the kernel's rate limit left out.
	suppressed int
	lastLine   int
}

// report holds the lines of one OOM invocation.
type report struct {
	first, last record
	at          section
	aside       int // foreign lines since the last line of this report
	notes       []string

	header  *header
	task    *triggerTask
	release string // of the kernel
	stack   stack

	limits  limits
	stats   []memcgStats
	inStats bool

	protected *protection

	memInfo *memInfo
	slabs   []events.SlabCache

	tabled   bool // the head of the task table is in the log
	columns  []string
	tasks    []taskRow
	tasksCut int
	pids     map[int]int // pid and tgid of a row to its index in tasks

	summary     *summary
	summaryLine int
	chosen      *chosen // before 5.1: Kill process N (x) score S or sacrifice child

	killTime record // the first kill
	kills    []kill
	killsCut int
	// killsUnknown is true if the log has kills whose process is cut off.
	killsUnknown bool
	// statsCut is true if the log has statistics of cgroups whose values are cut off.
	statsCut    bool
	grouped     bool   // a kill by memory.oom.group
	group       string // its cgroup, "" if the log does not name it
	groupLine   record
	lastProven  record // the last line about the report's own kills
	chosenFirst bool   // the first kill was before the line that announces the group
	exiting     []kill // already exiting: no signal
	noKillable  bool
	panicked    string
	sysrqAsked  bool
	reaped      []string
	suppressed  int
	missing     int  // lines in between
	isMemcg     bool // by the message of a kill
	isNode      bool // the same
	// allocatingTask is true if vm.oom_kill_allocating_task made the choice.
	allocatingTask bool
	// unsettled is the count of unsettled reports while this is one of them, else nil.
	unsettled *int
	// edges are the values that stand at the end of a line, until cutWidth is known: the
	// column at which lines are cut, 0 if none is.
	edges    []edge
	cutWidth int
	user     bool             // of a killer in user space
	sequel   *sequel          // what followed a kill, until that is found
	joined   bool             // the kill of the sequel was found
	made     *events.Incident // set when the report is closed; from the start if user
}

func (r *report) note(text string) {
	if len(r.notes) < maxNotes && !slices.Contains(r.notes, text) {
		r.notes = append(r.notes, text)
	}
}

// settled reports whether only kills can follow, which the prefilter passes.
func (r *report) settled() bool {
	return r.at >= inKills || r.noKillable || r.user
}

// take takes in one line. It returns whether the line is about a kill.
func (p *parser) take(rec record) bool {
	if rec.program != "" {
		return p.userLine(rec)
	}
	s := p.stream(rec)

	s.lastLine = rec.line
	if s.open != nil {
		p.closeIfLate(s, rec)
	}

	if p.ofKernel(s, markCut(rec)) || mayBeUser(rec) && p.userLine(rec) {
		return true
	}

	if s.open == nil {
		return false
	}
	// A foreign line.
	r := s.open
	r.aside++
	r.inStats = false

	r.stack.whole = r.stack.whole || r.at == inTrace // a line that is no frame ends the stack
	if r.aside > maxAside && !r.settled() {
		p.closeReport(s)
	}

	return false
}

// ofKernel takes in a line of the kernel. It returns whether the line is the OOM killer's.
func (p *parser) ofKernel(s *stream, rec record) bool {
	if !p.kernelLine(s, rec, strings.TrimLeft(rec.text, " \t")) {
		return false
	}

	if s.open != nil {
		s.open.cutAt(rec)
	}

	return true
}

// closeIfLate ends the open report if a line comes too late for it.
func (p *parser) closeIfLate(s *stream, rec record) {
	last := s.open.last

	longest := longestPause
	if s.open.announces(rec.text) {
		longest = longestHold
	}
	late := false

	switch {
	case rec.uptime && last.uptime:
		late = rec.uptimeNS > last.uptimeNS+uint64(longest) || last.uptimeNS > rec.uptimeNS+uint64(longestPause)
	case !rec.wall.IsZero() && !last.wall.IsZero():
		d := rec.wall.Sub(last.wall)
		late = d > longest || d < -longestPause
	}

	if late {
		p.closeReport(s)
	}
}

// announces reports whether a line is about the kill that the report has announced.
func (r *report) announces(text string) bool {
	if r.at != inSummary || r.chosenOf() == 0 {
		return false
	}

	_, rest, found := strings.Cut(text, "Killed process ")
	if !found {
		_, rest, found = strings.Cut(text, "OOM victim ")
	}
	digits, _, _ := strings.Cut(rest, " (")

	return found && digits == strconv.Itoa(r.chosenOf())
}

// The kernel's rate limit of its reports (mm/oom_kill.c: oom_kill_process, since 3.11). A kill
// beyond it has no report, only its own line.
const (
	reportsPerInterval = 10
	reportInterval     = 5 * time.Second
)

// rateLimited reports whether a kill at this line can be without a report by the rate limit.
func (p *parser) rateLimited(rec record) bool {
	if p.starts < reportsPerInterval {
		return false
	}

	oldest := p.started[p.starts%reportsPerInterval]
	switch {
	case oldest.uptime && rec.uptime:
		return rec.uptimeNS < oldest.uptimeNS+uint64(reportInterval)
	case !oldest.wall.IsZero() && !rec.wall.IsZero():
		return rec.wall.Sub(oldest.wall) <= reportInterval
	}

	return true
}

// isReported reports whether the log has more of the report than its choice and its kills.
func (r *report) isReported() bool {
	return r.header != nil || r.ofMemcg() || r.memInfo != nil || r.summary != nil || r.hasRows()
}

func (p *parser) stream(rec record) *stream {
	key := streamKey{rec.host, rec.boot, rec.caller}

	s := p.streams[key]
	if s == nil {
		if len(p.streams) >= maxStreams {
			oldest := slices.MinFunc(slices.Collect(maps.Keys(p.streams)), func(a, b streamKey) int {
				return cmp.Compare(p.streams[a].lastLine, p.streams[b].lastLine)
			})
			p.closeReport(p.streams[oldest])
			delete(p.streams, oldest)
		}
		s = &stream{}
		p.streams[key] = s
	}

	return s
}

// begin opens a report. It closes the open one first.
func (p *parser) begin(s *stream, rec record) *report {
	if s.open != nil {
		p.closeReport(s)
	}
	s.open = &report{first: rec, last: rec, pids: map[int]int{}, suppressed: s.suppressed}
	s.suppressed = 0
	s.open.unsettled = &p.unsettled
	p.unsettled++

	p.started[p.starts%reportsPerInterval] = rec
	p.starts++

	return s.open
}

// closeReport ends the stream's report, if it has one.
func (p *parser) closeReport(s *stream) {
	r := s.open
	if r == nil {
		return
	}
	s.open = nil

	r.dropEdges(p.wrapWidth)
	alone := r.split()
	r.settle()

	for len(alone) > 0 && alone[0].first.line < r.first.line {
		p.finish(alone[0])
		alone = alone[1:]
	}

	p.finish(r)

	for _, other := range alone {
		p.finish(other)
	}
}

// finish builds the incident of a closed report.
func (p *parser) finish(r *report) {
	r.made = p.builder.incident(r)
	// Free what is large.
	r.columns, r.tasks, r.pids, r.stack, r.stats, r.memInfo, r.slabs = nil, nil, nil, stack{}, nil, nil, nil
	if !p.repeats(r) {
		p.done = append(p.done, r)
	}
}

// split removes the kills that nothing shows to be of the report's group, and returns each
// as a report of its own.
func (r *report) split() (alone []*report) {
	r.kills = slices.DeleteFunc(r.kills, func(k kill) bool {
		if k.unproven {
			k.unproven = false
			one := &report{first: k.at, last: k.at, at: inKills, killTime: k.at, kills: []kill{k}}
			one.saw(k.message)
			alone = append(alone, one)

			return true
		}

		return false
	})

	if len(alone) == 0 {
		return nil
	}

	r.last = r.lastProven
	if r.grouped && alone[0].first.line < r.groupLine.line { // all that was before it
		r.first, r.chosenFirst, r.isMemcg, r.isNode, r.allocatingTask = r.groupLine, false, false, false, false
	}

	if r.grouped {
		r.note("more processes were killed right after the group, possibly for another reason")
	}

	return alone
}

// reportAt returns the report that a line of a section belongs to: the open one if it is
// not beyond that section, else a new one, whose beginning is missing.
func (p *parser) reportAt(s *stream, rec record, at section) *report {
	r := s.open
	if r == nil || r.at > at || r.settled() {
		r = p.begin(s, rec)
	}

	r.advance(rec, at)

	return r
}

// advance takes a line of a section as the report's last.
func (r *report) advance(rec record, at section) {
	if r.at == inTrace && at > inTrace {
		r.stack.whole = true
	}

	r.at, r.last, r.aside = at, rec, 0
	if at != inStats {
		r.inStats = false
	}

	if r.settled() {
		r.settle()
	}
}

// settle takes the report off the count of unsettled ones.
func (r *report) settle() {
	if r.unsettled != nil {
		*r.unsettled--
		r.unsettled = nil
	}
}

// emitDone emits closed reports, all but the newest: the line of the OOM reaper may still
// come for those.
func (p *parser) emitDone(all bool) error {
	for len(p.done) > 0 && (all || len(p.done) > maxDone) {
		r := p.done[0]
		isIncident := p.resolve(r)

		p.done = p.done[1:]

		if !isIncident {
			continue
		}

		if r.sequel != nil {
			r.made = r.alone()
		}

		if r.user {
			p.builder.seal(r, r.made)
		}
		inc := r.made
		inc.Notes = append(inc.Notes, r.reaped...)

		p.stats.Incidents++
		if err := p.emit(inc); err != nil {
			return err
		}
	}

	if all {
		p.done = nil
	}

	return nil
}

// sameBoot reports whether a line is of the same boot of the same host as the report.
func (r *report) sameBoot(rec record) bool {
	return r.first.host == rec.host && r.first.boot == rec.boot
}

// withVictim returns the newest report with a victim, nil if there is none.
func (p *parser) withVictim(rec record, pid int) *report {
	return p.newest(func(r *report) bool {
		return r.sameBoot(rec) && slices.ContainsFunc(r.kills, func(k kill) bool { return k.pid == pid })
	})
}

// newest returns the newest report that matches, an open one before all others; nil if there is none.
func (p *parser) newest(match func(*report) bool) *report {
	var found *report

	for _, s := range p.streams {
		if r := s.open; r != nil && match(r) && (found == nil || r.last.line > found.last.line) {
			found = r
		}
	}

	if found != nil {
		return found
	}

	for _, r := range slices.Backward(p.done) {
		if match(r) {
			return r
		}
	}

	return nil
}
