// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"fmt"
	"strconv"
	"strings"
)

// header is "X invoked oom-killer: ...".
type header struct {
	comm  string
	gfp   *uint32
	flags []string
	order *int
	// nodemask is there from 4.9 to 4.20: "(null)" if there was no policy.
	nodemask string
}

// triggerTask is the line of dump_stack about the task that runs.
type triggerTask struct{ tid int }

// summary is "oom-kill:constraint=..." of 5.0 and later.
type summary struct {
	constraint     string
	nodemask, mems string
	oomMemcg       string
	global         bool
	// tail is what follows task_memcg=, up to ",pid=": a path, and a name, both of
	// which may hold ",task=".
	tail     string
	pid, uid int
}

// chosen is "Kill process N (x) score S or sacrifice child" of 5.0 and earlier.
type chosen struct {
	pid  int
	comm string
}

// kill is "Killed process N (x) ...".
type kill struct {
	pid                                 int
	comm                                string
	totalVM, anon, file, shmem, pgtable *uint64 // bytes
	uid                                 *uint32
	adj                                 *int
	shares                              bool // its memory
	// unproven is a kill behind the line that announces a group, of a process that
	// nothing else shows to be of it: at is its line.
	unproven bool
	at       record
	message  string
}

// kernelLine takes in a line of the kernel; false: it is not of the OOM killer.
func (p *Parser) kernelLine(s *stream, rec record, text string) bool {
	if text == "" {
		return false
	}
	switch {
	case strings.Contains(text, " invoked oom-killer: "):
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
		if strings.HasPrefix(text, "Out of memory and no killable") || strings.HasPrefix(text, "Memory cgroup out of memory and no killable") {
			r := p.belongsToEnd(s, rec)
			r.noKillable = true
			p.advance(r, rec, r.at)
			return true
		}
	case strings.Contains(text, " page allocation failure"):
		// It writes a Mem-Info of its own.
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

// bodyLine takes in what is of no report unless one is open.
func (p *Parser) bodyLine(s *stream, rec record, text string) bool {
	r := s.open
	switch {
	case strings.HasPrefix(text, "CPU: "):
		return p.taskLine(s, rec, text)
	case strings.HasPrefix(text, "Hardware name: "), strings.Contains(text, " cpuset=") && strings.Contains(text, " mems_allowed="),
		strings.HasPrefix(text, "COMPACTION is disabled"):
		return r.at <= inTask
	case strings.HasPrefix(text, "Call Trace:"), strings.HasPrefix(text, "Call trace:"):
		if r.at <= inTask && r.task != nil {
			p.advance(r, rec, inTrace)
			return true
		}
		return false
	case r.at == inTrace && !r.traced && p.frameLine(r, rec, text):
		return true
	case r.inStats && p.statLine(r, rec, text):
		return true
	}
	if p.memInfoLine(s, rec, text) || p.tasksLine(s, rec, text) {
		return true
	}
	if r.at > inTrace && outOfOrder(text) {
		p.closeReport(s)
	}
	return false
}

// outOfOrder tells lines of a report's middle that did not find their place: the
// head that they belong to is missing.
func outOfOrder(text string) bool {
	_, _, stat := statOf(text)
	return stat || strings.HasPrefix(text, "Node ") || strings.HasPrefix(text, "active_anon:")
}

func (p *Parser) headerLine(s *stream, rec record) bool {
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
			h.gfp = pointer(uint32(n))
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
	p.advance(r, rec, inHeader)
	return true
}

// near tells that two lines may be of one event.
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
func (p *Parser) taskLine(s *stream, rec record, text string) bool {
	r := s.open
	word, ok := after(rec, text, " PID: ")
	_, named, found := strings.Cut(text, " Comm: ")
	if !ok || !found {
		return false
	}
	tid, err := strconv.Atoi(word)
	if err != nil || r.header == nil || r.at >= inTask {
		return false // of another stack
	}
	// The name is followed by "Not tainted", "Tainted: G  OE", "Kdump: loaded".
	rest, same := strings.CutPrefix(named, r.header.comm+" ")
	_, rest, found = strings.Cut(rest, "ainted")
	if !same || !found {
		return false // another task's stack got in between
	}
	r.task = &triggerTask{tid: tid}
	if release, _, found := strings.Cut(afterTaint(rest), " "); found {
		r.release = release
	}
	p.advance(r, rec, inTask)
	return true
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// afterTaint skips the flags to the release, which begins with a digit.
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

// frameLine reads a line of the stack: "func+0x1/0x2", with its address in old
// kernels. Those with a question mark were not on the way.
func (p *Parser) frameLine(r *report, rec record, text string) bool {
	if strings.HasPrefix(text, "[<") {
		_, rest, found := strings.Cut(text, ">]")
		if !found {
			return false
		}
		text = strings.TrimLeft(rest, " ")
	}
	switch text {
	case "<TASK>", "<IRQ>", "</IRQ>", "<EOI>":
		p.advance(r, rec, inTrace)
		return true
	case "</TASK>":
		p.advance(r, rec, inTrace)
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
	p.advance(r, rec, inTrace)
	return true
}

// summaryLine reads "oom-kill:constraint=C,nodemask=N,cpuset=S,mems_allowed=M,
// oom_memcg=P|global_oom,task_memcg=P,task=comm,pid=N,uid=N".
func (p *Parser) summaryLine(s *stream, rec record, text string) bool {
	var sum summary
	body, uid, found := cutLast(text, ",uid=")
	if found && !rec.torn {
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
	head = strings.TrimPrefix(head, "oom-kill:constraint=")
	var rest string
	if sum.constraint, rest, found = strings.Cut(head, ",nodemask="); !found {
		return true // cut before it says anything
	}
	sum.nodemask, rest, _ = strings.Cut(rest, ",cpuset=")
	_, rest, found = strings.Cut(rest, ",mems_allowed=")
	if !found {
		rest = ""
	}
	if mems, after, ok := strings.Cut(rest, ",oom_memcg="); ok {
		// Only what another key ends is whole.
		if path, tail, ok := strings.Cut(after, ",task_memcg="); ok {
			sum.mems, sum.oomMemcg, rest = mems, path, tail
		} else {
			rest = ""
		}
	} else if mems, after, ok := strings.Cut(rest, ",global_oom"); ok {
		sum.mems, sum.global = mems, true
		if rest, ok = strings.CutPrefix(after, ",task_memcg="); !ok {
			rest = ""
		}
	} else {
		rest = ""
	}
	if sum.pid != 0 {
		sum.tail = rest
	}
	r := s.open
	switch {
	case r == nil || r.at >= inSummary || r.settled():
		r = p.begin(s, rec)
	case r.ofAnother(&sum):
		// Whose tasks these are is open.
		r.columns, r.tasks = nil, nil
		clear(r.pids)
		r = p.begin(s, rec)
	case r.contradicts(&sum):
		r = p.begin(s, rec)
	}
	r.summary = &sum
	p.advance(r, rec, inSummary)
	return true
}

// ofAnother tells that a summary is of another cgroup, or not of a cgroup.
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

// ofMemcg tells that there are lines that only a cgroup's limit has.
func (r *report) ofMemcg() bool {
	return r.limits.any() || len(r.stats) > 0 || r.limits.limitOf != ""
}

// contradicts tells that a summary does not go with what is there.
func (r *report) contradicts(sum *summary) bool {
	if sum.pid != 0 && r.columns != nil && r.tasksCut == 0 {
		_, known := r.pids[sum.pid]
		return !known
	}
	// Nothing but a beginning: the middle is missing, and maybe a whole decision.
	return r.columns == nil && !r.ofMemcg() && r.memInfo == nil
}

// chosenOf is the pid that the report announces to be killed, 0: none.
func (r *report) chosenOf() int {
	switch {
	case r.summary != nil:
		return r.summary.pid
	case r.chosen != nil:
		return r.chosen.pid
	}
	return 0
}

// killLine reads the lines about victims.
func (p *Parser) killLine(s *stream, rec record, text string) bool {
	message := text
	for _, verb := range []string{"Killed process ", "Kill process ", "OOM victim "} {
		prefix, rest, found := strings.Cut(text, verb)
		if !found || prefix != "" && !strings.HasPrefix(prefix, "Memory cgroup out of memory") && !strings.HasPrefix(prefix, "Out of memory") {
			continue
		}
		message = prefix
		switch verb {
		case "Killed process ":
			return p.killedLine(s, rec, message, rest)
		case "Kill process ":
			return p.chosenLine(s, rec, message, rest)
		default:
			return p.exitingLine(s, rec, message, rest)
		}
	}
	return false
}

func (r *report) saw(message string) {
	r.isMemcg = r.isMemcg || strings.HasPrefix(message, "Memory cgroup")
	r.isNode = r.isNode || strings.HasPrefix(message, "Out of memory")
}

// fits tells that a kill's message is not of another kind than the report.
func (r *report) fits(message string) bool {
	memcg := r.ofMemcg() || r.isMemcg || r.summary != nil && r.summary.oomMemcg != ""
	node := r.memInfo != nil || r.isNode || r.summary != nil && r.summary.global
	switch {
	case strings.HasPrefix(message, "Memory cgroup"):
		return !node
	case strings.HasPrefix(message, "Out of memory"):
		return !memcg
	}
	return true
}

func (p *Parser) chosenLine(s *stream, rec record, message, rest string) bool {
	if pid, comm, tail, ok := pidAndComm(rest, ") sharing same memory"); ok && strings.Trim(tail, " ") == "" {
		// It is sent SIGKILL too (before 4.9 only it is told).
		if r := s.open; r != nil && r.at == inKills && len(r.kills) < maxVictims {
			r.kills = append(r.kills, kill{pid: pid, comm: comm, shares: true})
			p.advance(r, rec, inKills)
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
		bad = false // 5.0 has both
	}
	if bad {
		r = p.begin(s, rec)
	}
	r.chosen = &chosen{pid, comm}
	r.saw(message)
	p.advance(r, rec, inSummary)
	return true
}

func (p *Parser) killedLine(s *stream, rec record, message, rest string) bool {
	k, ok := parseKill(rec, rest)
	if !ok {
		return false
	}
	r := s.open
	if r == nil || !r.fits(message) || !r.expects(&k) {
		r = p.begin(s, rec)
	}
	for i, earlier := range r.kills {
		if earlier.pid != k.pid {
			continue
		}
		// The chosen one of a group is printed twice, the second time among the
		// members, which come in one go: so those before it are members.
		if i == 0 && r.chosenFirst {
			r.saw(message)
			for j := range r.kills {
				r.kills[j].unproven = false
			}
		}
		p.advance(r, rec, inKills)
		return true
	}
	k.at, k.message, k.unproven = rec, message, r.group != "" && !r.inTable(k.pid)
	if !k.unproven {
		r.saw(message)
	}
	if len(r.kills) == 0 {
		r.killTime = rec
	}
	if len(r.kills) < maxVictims {
		r.kills = append(r.kills, k)
	} else {
		r.killsCut++
	}
	p.advance(r, rec, inKills)
	return true
}

// expects tells whether a kill is of this report.
func (r *report) expects(k *kill) bool {
	for _, earlier := range r.kills {
		if earlier.pid == k.pid {
			return true
		}
	}
	switch {
	case r.group != "":
		// All members are in the table of the limiter's tasks, if it is there.
		return r.inTable(k.pid) || r.columns == nil || r.tasksCut > 0
	case len(r.kills) > 0 || r.noKillable:
		return false
	case r.summary != nil && r.summary.pid != 0:
		// A thread's id stands for a process whose leader is gone.
		return r.summary.pid == k.pid || r.inTable(k.pid) && r.tasks[r.pids[k.pid]].tgid == r.summary.pid
	case r.chosen != nil:
		// It, or a child of it.
		return true
	}
	return false
}

// inTable tells that the report shows a process to be one of the limiter's.
func (r *report) inTable(pid int) bool {
	_, ok := r.pids[pid]
	return ok
}

// parseKill reads "N (comm)[, UID N,] total-vm:NkB, anon-rss:NkB, file-rss:NkB[,
// shmem-rss:NkB][, UID:N pgtables:NkB oom_score_adj:N]".
func parseKill(rec record, s string) (kill, bool) {
	suffix := ") total-vm:"
	if !strings.Contains(s, suffix) {
		suffix = "), UID " // of RHEL 7 and 8
	}
	if !strings.Contains(s, suffix) {
		suffix = ")"
	}
	pid, comm, rest, ok := pidAndComm(s, suffix)
	if !ok || suffix == ")" && strings.Trim(rest, " ,") != "" {
		return kill{}, false
	}
	k := kill{pid: pid, comm: comm}
	rest = strings.TrimPrefix(suffix, ")") + rest
	size := func(key string) *uint64 {
		word, ok := after(rec, rest, key)
		if !ok {
			return nil
		}
		if n, ok := kib(word); ok {
			return &n
		}
		return nil
	}
	k.totalVM, k.anon, k.file, k.shmem = size("total-vm:"), size("anon-rss:"), size("file-rss:"), size("shmem-rss:")
	k.pgtable = size("pgtables:")
	for _, key := range []string{"UID:", "UID "} {
		if word, ok := after(rec, rest, key); ok && k.uid == nil {
			if n, err := strconv.ParseUint(word, 10, 32); err == nil {
				k.uid = pointer(uint32(n))
			}
		}
	}
	if word, ok := after(rec, rest, "oom_score_adj:"); ok {
		if n, err := strconv.Atoi(word); err == nil {
			k.adj = &n
		}
	}
	return k, true
}

// exitingLine reads "OOM victim N (x) is already exiting. Skip killing the task".
func (p *Parser) exitingLine(s *stream, rec record, message, rest string) bool {
	pid, comm, _, ok := pidAndComm(rest, ") is already exiting")
	if !ok {
		return false
	}
	k := kill{pid: pid, comm: comm}
	r := s.open
	if r == nil || !r.fits(message) || !r.expects(&k) || r.group != "" && !r.inTable(pid) {
		r = p.begin(s, rec)
	}
	r.saw(message)
	if len(r.exiting) < maxVictims {
		r.exiting = append(r.exiting, k)
	}
	p.advance(r, rec, inKills)
	return true
}

// groupLine reads "Tasks in P are going to be killed due to memory.oom.group set".
func (p *Parser) groupLine(s *stream, rec record, text string) bool {
	path, _, found := cutLast(strings.TrimPrefix(text, "Tasks in "), " are going to be killed due to memory.oom.group set")
	if !found || !strings.HasPrefix(path, "/") {
		return false
	}
	r := s.open
	ours := r != nil && r.group == "" && r.at >= inSummary && !r.noKillable
	if ours && r.summary != nil && r.summary.oomMemcg != "" {
		ours = within(path, r.summary.oomMemcg)
	}
	if ours && r.summary == nil && r.chosen == nil {
		// Of a kill alone, if it is told again among the members.
		ours = len(r.kills) == 1 && len(r.exiting) == 0
		if ours {
			r.kills[0].unproven = true
		}
	}
	if !ours {
		r = p.begin(s, rec)
	}
	r.group, r.groupLine, r.chosenFirst = path, rec, len(r.kills) == 1
	p.advance(r, rec, inKills)
	return true
}

// within tells that a cgroup is another, or below it.
func within(path, top string) bool {
	return path == top || top == "/" || strings.HasPrefix(path, top+"/")
}

// belongsToEnd gives the report that ends without a kill.
func (p *Parser) belongsToEnd(s *stream, rec record) *report {
	if r := s.open; r != nil && !r.settled() && r.at < inSummary {
		return r
	}
	return p.begin(s, rec)
}

func (p *Parser) panicLine(s *stream, rec record, text string) bool {
	why := strings.TrimPrefix(text, "Kernel panic - not syncing: ")
	deadlocked := strings.HasPrefix(why, "System is deadlocked on memory")
	if !deadlocked && !strings.HasPrefix(why, "Out of memory") && !strings.HasPrefix(why, "out of memory") {
		return false
	}
	r := s.open
	if r == nil || !(deadlocked && r.noKillable) {
		r = p.belongsToEnd(s, rec)
	}
	r.panicked = why
	r.noKillable = r.noKillable || strings.Contains(why, "no killable processes")
	p.advance(r, rec, max(r.at, inKills))
	return true
}

func (p *Parser) reaperLine(rec record, text string) bool {
	rest, reaped := strings.CutPrefix(text, "oom_reaper: reaped process ")
	suffix := "), now"
	if !reaped {
		if rest, reaped = strings.CutPrefix(text, "oom_reaper: unable to reap pid:"); !reaped {
			return false
		}
		suffix = ")"
	}
	pid, comm, left, ok := pidAndComm(rest, suffix)
	if !ok {
		return false
	}
	r := p.withVictim(rec, pid)
	if r == nil || len(r.reaped) >= 8 {
		return true
	}
	when := ""
	if r.killTime.uptime && rec.uptime && rec.uptimeNS >= r.killTime.uptimeNS {
		when = fmt.Sprintf(" %d ms after the kill", (rec.uptimeNS-r.killTime.uptimeNS)/1e6)
	}
	if suffix == ")" {
		r.reaped = append(r.reaped, fmt.Sprintf("the OOM reaper could not take the memory of %s[%d] back%s", comm, pid, when))
		return true
	}
	r.reaped = append(r.reaped, fmt.Sprintf("the OOM reaper took the memory of %s[%d] back%s; left:%s", comm, pid, when, left))
	return true
}

// gapLine reads how many lines are missing, from the kernel's rate limit and from
// systemd-journald.
func (p *Parser) gapLine(s *stream, text string) bool {
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
func (p *Parser) hole(n uint64) {
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
func (p *Parser) missed(n int) {
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
