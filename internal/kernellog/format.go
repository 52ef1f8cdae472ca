// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"iter"
	"strconv"
	"strings"
	"time"
)

// record is one line without its prefixes.
type record struct {
	text string
	line int // from 1 on
	// torn means that the end of the text is missing.
	torn bool
	// width is the number of runes of the whole line, 0 for a part of one.
	width int

	wall     time.Time // zero: the prefix has no date
	uptimeNS uint64
	uptime   bool // uptimeNS is known
	host     string
	boot     string // boot id
	// caller distinguishes the writers of a host: the caller of printk as CONFIG_PRINTK_CALLER
	// shows it (T123 is a task, C1 a CPU), and the source that a prefix names.
	caller string
	// program and pid are those of a line from user space; empty for the kernel.
	program string
	pid     int
	bare    bool // without a prefix of a known format
	dated   bool // behind nothing but a date, as many programs write it
	kmsg    bool // in the format of /dev/kmsg, numbered by seq
	seq     uint64
	missing uint64 // how many numbered records are missing before this one
	// unread is true if the line looks like a kill, and the start of its message was not found.
	unread bool
}

// missingBefore returns how many records of /dev/kmsg, which are numbered, are missing
// between the last line and this one.
func (r record) missingBefore(last record) uint64 {
	if !r.kmsg || !last.kmsg || last.line != r.line-1 || last.host != r.host || r.seq <= last.seq {
		return 0
	}

	return r.seq - last.seq - 1
}

// parts splits a record of several lines. The kernel prints Mem-Info and the statistics of
// a memcg as one record each.
func (r record) parts() iter.Seq[record] {
	return func(yield func(record) bool) {
		text := r.text
		if r.program == "" && strings.Contains(text, "#012") {
			text = strings.ReplaceAll(text, "#012", "\n") // rsyslog's escape
		}

		if !strings.Contains(text, "\n") || hasName(text) {
			yield(r)
			return
		}

		parts := strings.Split(text, "\n")
		for i, part := range parts {
			one := r

			one.text, one.torn, one.width = part, r.torn && i == len(parts)-1, 0
			if !yield(one) {
				return
			}
		}
	}
}

// hasName reports whether a line contains the name of a task. It may contain a newline, so
// such a line is not split.
func hasName(text string) bool {
	return strings.Contains(text, invokedWords) || strings.Contains(text, "OOM victim ") ||
		strings.Contains(text, "ll process ") || strings.Contains(text, "lled process ") ||
		strings.HasPrefix(text, "[") || strings.HasPrefix(text, "CPU: ") ||
		strings.HasPrefix(text, "oom-kill:") || strings.HasPrefix(text, "oom_reaper: ")
}

// The kinds of prefixes. They nest: the log of a container may contain syslog lines, which
// contain the kernel's own times. Each kind is stripped at most once.
const (
	isContainer = 1 << iota
	isSyslog
	isKmsg
	isUptime
	isCaller
	isLevel
	isPrintk // the kernel's own time, behind another one
	// behind is set where a prefix does not start the line, but follows something unknown. It
	// must be longer than the name of a task then, which may look like a prefix.
	behind

	// fromKernel are the kinds behind which the kernel's message, or that of a known program,
	// starts. Behind another kind, or none, it is looked for.
	fromKernel = isSyslog | isKmsg | isUptime | isLevel
)

// decoder turns lines into records. Lines whose format is not known are held, a few at a
// time, until their neighbours show where their messages start.
type decoder struct {
	location *time.Location // of times without a zone
	now      time.Time      // for times without a year
	last     record         // lines without a prefix continue it

	// dates is true if dates stand right before the messages of this log, without a host.
	dates       bool
	prefixes    []*prefix // of the log, as far as they are learnt; the last used comes first
	held        []heldLine
	messagePath string // of the last message in a JSON object
	objects     objects
	entry       entry
	// tail is what ends the lines of this log, and is not of the kernel: blanks of a terminal
	// or a table.
	tail bool
}

func newDecoder(opt Options) decoder {
	if opt.Location == nil {
		opt.Location = time.Local
	}

	if opt.Now.IsZero() {
		opt.Now = time.Now()
	}

	return decoder{location: opt.Location, now: opt.Now}
}

// decode strips the prefixes off a line. It returns no record for a line that means nothing
// by itself, and for one that is held; it returns those that were held when they are
// understood.
// width is that of the line, 0 if it was made of several.
func (d *decoder) decode(line string, number, width int, torn bool) (records []record) {
	r := record{line: number, width: width, torn: torn, bare: true}

	if len(d.held) > 0 && number > d.held[0].line+longestWait {
		records = d.release(nil)
	}

	whole := d.clean(line)

	text, seen, ok := d.strip(&r, whole, 0)
	switch {
	case !ok && strings.HasPrefix(whole, "{") && looksLikeKill(whole): // under no key of a message
		r.unread, r.text = true, whole
		return append(records, r)
	case !ok:
		return records
	case seen&fromKernel != 0 && isShortHeader(whole):
		blank := record{line: number, width: width, torn: torn, bare: true}
		return append(records, d.hold(heldLine{record: blank, text: whole, message: find(whole), known: &r, rest: text})...)
	case r.program != "" || seen&fromKernel != 0:
		return append(append(records, d.release(nil)...), d.finish(r, text))
	case isBlank(firstOf(text)) && d.last.kmsg && d.last.line == r.line-1:
		d.last.line = r.line
		return records // the dictionary of a /dev/kmsg record
	}

	return append(records, d.open(r, text)...)
}

// isShortHeader reports whether a line is the first one of a report, and what precedes its
// words is no longer than a name: what looks like a prefix may be a part of it.
func isShortHeader(text string) bool {
	at := strings.Index(text[:min(len(text), longestName+len(headerWords))], headerWords)
	return at >= 0
}

func firstOf(text string) byte {
	if text == "" {
		return 0
	}

	return text[0]
}

// clean removes what terminals, editors and transports add to a line.
func (d *decoder) clean(text string) string {
	text = strings.TrimPrefix(text, "\ufeff")
	if strings.HasPrefix(strings.TrimLeft(text, " "), "\x1b[") {
		text = stripColors(text)
	}

	if i := strings.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:] // a serial console restarts lines
	}

	text = strings.TrimPrefix(text, "\x1e") // journalctl -o json-seq
	if after, found := strings.CutPrefix(text, "data: {"); found {
		text = "{" + after // journalctl -o json-sse
	}

	return text
}

// strip strips the prefixes of known formats. It is not ok if the line has no message.
func (d *decoder) strip(r *record, text string, seen int) (rest string, kinds int, ok bool) {
	for range 8 {
		from := text
		if seen&^behind == 0 {
			from = strings.TrimLeft(text, " \t") // an indented prefix
		}

		rest, kind, ok := d.step(r, from, seen)
		if !ok {
			return "", seen, false
		}

		if kind == 0 {
			break
		}
		seen |= kind

		text = rest
		r.bare = r.bare && kind&^isContainer == 0

		if r.program != "" {
			break
		}
	}

	return text, seen, true
}

// finish completes a record whose message is known.
func (d *decoder) finish(r record, text string) record {
	if r.bare && r.caller == "" && r.wall.IsZero() && d.last.line == r.line-1 && d.last.program == "" {
		// A message of several lines, or a log without times: it continues the last line.
		r.wall, r.uptimeNS, r.uptime, r.host, r.boot, r.caller =
			d.last.wall, d.last.uptimeNS, d.last.uptime, d.last.host, d.last.boot, d.last.caller
	}

	r.text = d.trim(text)
	r.missing = r.missingBefore(d.last)
	d.last = r

	return r
}

// trim removes blanks and escaped line ends behind a message. A row of the task table ends
// with a name, which may end with blanks: they count unless the lines before end so, too.
func (d *decoder) trim(text string) string {
	trimmed := strings.TrimRight(text, " \t\r\x00")
	trimmed = strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(trimmed, "#012"), "#015"), " \t")

	if strings.HasPrefix(strings.TrimLeft(text, " "), "[") && !d.tail {
		return text
	}
	d.tail = len(trimmed) < len(text)

	return trimmed
}

// step strips one prefix. kind is 0 if there is none.
func (d *decoder) step(r *record, text string, seen int) (rest string, kind int, ok bool) {
	if text == "" {
		return text, 0, true
	}
	// The text of a user space program is not decoded further, except for the logs of
	// containers.
	switch c := text[0]; {
	case c == '{' && seen&isKmsg == 0 && (seen&^behind == 0 || strings.HasPrefix(text, `{"`)):
		return d.json(r, strings.TrimRight(text, ","))
	case c == '<' && seen&(isLevel|behind) == 0:
		if facility, rest, ok := level(text); ok {
			if facility != 0 && seen&isSyslog == 0 {
				// Syslog of a program, or what it wrote to /dev/kmsg.
				if inner, ok := d.syslog(r, rest); ok {
					return inner, isLevel | isSyslog, true
				}
				r.program, rest = programTag(r, rest)
			}

			return rest, isLevel, true
		}
	case c == '[':
		return d.bracket(r, text, seen)
	case c >= '0' && c <= '9':
		if seen&^(isContainer|behind) == 0 {
			if rest, ok := kmsgRecord(r, text, seen&behind != 0); ok {
				return rest, isKmsg | isUptime, true
			}
		}
	case c == '@':
		if t, rest, ok := tai64n(text); ok && seen&isContainer == 0 {
			r.wall, r.dated = t, true
			return rest, isContainer, true
		}
	}

	if seen&(isSyslog|isKmsg|isUptime) == 0 {
		if rest, ok := levelWords(text); ok && seen&behind == 0 {
			return rest, isLevel, true
		}

		if rest, ok := d.cri(r, text); ok && seen&isContainer == 0 {
			return rest, isContainer, true
		}

		if rest, ok := d.syslog(r, text); ok {
			return rest, isSyslog, true
		}

		if t, rest, ok := d.dateAlone(text); ok && seen&isContainer == 0 {
			r.wall, r.dated = t, true
			return rest, isContainer, true
		}
	}

	return text, 0, true
}

// bracket reads a prefix in square brackets: an uptime, a date of dmesg -T, a caller. A row
// of the task table starts with brackets too, and is not one.
func (d *decoder) bracket(r *record, text string, seen int) (rest string, kind int, ok bool) {
	inner, rest, found := strings.Cut(text[1:], "]")
	if !found || rest != "" && strings.IndexByte(" \t[:", rest[0]) < 0 {
		return text, 0, true
	}

	after := strings.TrimPrefix(rest, " ")
	if strings.HasPrefix(after, headerWords) {
		return text, 0, true // a name
	}

	trimmed := strings.TrimSpace(inner)
	if ns, ok := seconds(trimmed); ok && seen&isUptime != 0 && seen&isPrintk == 0 && hasPrintkWidth(inner) {
		r.uptimeNS, r.uptime = ns, true
		return after, isPrintk, true
	}

	if seen&isUptime == 0 {
		// dmesg -d and journalctl -o short-delta add "<    0.000012>".
		number, _, _ := strings.Cut(trimmed, " ")
		if ns, ok := seconds(number); ok && (seen&behind == 0 || hasPrintkWidth(inner)) {
			r.uptimeNS, r.uptime = ns, true
			// journalctl -o short-monotonic
			if seen&isSyslog == 0 {
				if inner, ok := hostAndTag(r, after, true); ok {
					return inner, isUptime | isSyslog, true
				}
			}

			return after, isUptime, true
		}
	}

	if seen&(isUptime|isSyslog|behind) == 0 && relative(trimmed) {
		return after, isUptime, true
	}

	if seen&(isUptime|isSyslog) == 0 {
		if t, ok := d.dmesgDate(trimmed); ok {
			r.wall = t
			return strings.TrimPrefix(strings.TrimPrefix(rest, ":"), " "), isUptime, true
		}
	}

	if seen&isCaller == 0 && len(trimmed) > 1 && (trimmed[0] == 'T' || trimmed[0] == 'C') && isDigits(trimmed[1:]) {
		r.caller = trimmed
		return after, isCaller, true
	}

	if trimmed == "talos" && seen&(isSyslog|behind) == 0 {
		r.program = trimmed
		return after, isSyslog, true
	}

	return text, 0, true
}

// hasPrintkWidth reports whether s has the width of the kernel's own times, "%5lu.%06lu"
// (kernel/printk/printk.c: print_time): with its brackets, and a blank, such a time fills a
// name.
func hasPrintkWidth(s string) bool {
	_, frac, _ := strings.Cut(s, ".")
	return len(s) >= len("12345.123456") && (len(frac) == 6 || strings.HasPrefix(frac[min(len(frac), 6):], " "))
}

// relative reports whether s is a time of dmesg -H, which is to the minute or since the
// previous line: "Nov25 02:21", "+0.000012". They are not used.
func relative(s string) bool {
	if after, found := strings.CutPrefix(s, "+"); found {
		_, ok := seconds(after)
		return ok
	}

	return len(s) == 11 && months[s[:3]] != 0 && s[5] == ' ' && s[8] == ':'
}

// level reads the "<4>" of a serial console and of RFC 3164. Facility 0 is the kernel.
func level(text string) (facility int, rest string, ok bool) {
	end := strings.IndexByte(text, '>')
	if end < 2 || end > 4 {
		return 0, "", false
	}

	n, err := strconv.Atoi(text[1:end])
	if err != nil || n < 0 || n > 191 {
		return 0, "", false
	}

	return n >> 3, text[end+1:], true
}

// levelWords reads the "kern  :warn  : " of dmesg -x, and "kern: warning: ".
func levelWords(text string) (rest string, ok bool) {
	facility, rest, found := strings.Cut(text, ":")
	if !found || len(facility) > 8 {
		return "", false
	}

	word, rest, found := strings.Cut(rest, ":")
	if !found || len(word) > 9 {
		return "", false
	}

	switch strings.TrimSpace(facility) {
	case "kern", "user", "daemon", "syslog":
	default:
		return "", false
	}

	switch strings.TrimSpace(word) {
	case "emerg", "alert", "crit", "err", "error", "warn", "warning", "notice", "info", "debug":
		return strings.TrimPrefix(rest, " "), true
	}

	return "", false
}

// kmsgRecord reads "prio,seq,microseconds,flags[,caller=T1];text"
// (Documentation/ABI/testing/dev-kmsg). Other than printable ASCII is written as \xNN.
// The extended netconsole may put the kernel's release before it
// (Documentation/networking/netconsole.rst). strict demands more than fits into a name.
func kmsgRecord(r *record, text string, strict bool) (rest string, ok bool) {
	head, body, found := strings.Cut(text, ";")
	if !found || len(head) > 128 || strict && len(head) < 16 {
		return "", false
	}

	fields := strings.Split(head, ",")
	if len(fields) > 3 && strings.Contains(fields[0], ".") {
		fields = fields[1:]
	}

	if len(fields) < 3 {
		return "", false
	}
	prio, err1 := strconv.ParseUint(fields[0], 10, 32)
	seq, err2 := strconv.ParseUint(fields[1], 10, 64)

	us, err3 := strconv.ParseUint(fields[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || us > 1<<53 {
		return "", false
	}

	for _, f := range fields[3:] {
		if caller, ok := strings.CutPrefix(f, "caller="); ok {
			r.caller = caller
		}
	}
	r.kmsg, r.seq, r.uptimeNS, r.uptime = true, seq, us*1000, true

	body = unescape(body)
	if prio>>3 != 0 { // written by a program, as systemd does during early boot
		r.program, body = programTag(r, body)
	}

	return body, true
}

// unescape turns \xNN back into its byte.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder

	for {
		before, after, found := strings.Cut(s, `\x`)
		b.WriteString(before)

		if !found {
			return b.String()
		}

		if len(after) >= 2 {
			if c, err := strconv.ParseUint(after[:2], 16, 8); err == nil {
				b.WriteByte(byte(c))
				s = after[2:]

				continue
			}
		}

		b.WriteString(`\x`)
		s = after
	}
}

// programTag reads "name[pid]: ". A program without a name is "?".
func programTag(r *record, text string) (program, rest string) {
	tag, rest, found := strings.Cut(text, ": ")
	if !found || strings.Contains(tag, " ") || tag == "" {
		return "?", text
	}
	program, r.pid = splitTag(tag)

	return program, rest
}

func splitTag(tag string) (name string, pid int) {
	name, number, found := strings.Cut(tag, "[")
	if found {
		pid, _ = strconv.Atoi(strings.TrimSuffix(number, "]"))
	}

	return name, pid
}

// hostAndTag reads "host tag[pid]: text", or "tag: text". If strict, the tag must be the
// kernel's or have a pid, because the text itself may look like a tag.
func hostAndTag(r *record, text string, strict bool) (rest string, ok bool) {
	first, after, found := strings.Cut(text, " ")
	if !found || first == "" || first[0] == '[' {
		return "", false
	}

	host, tag := first, ""
	if strings.HasSuffix(first, ":") {
		if strict {
			return "", false
		}
		host, tag, rest = "", first, after
	} else {
		if facility, behind, found := strings.Cut(after, " "); found && isFacility(facility) {
			after = behind // BusyBox: host kern.warn kernel: text
		} else if isFacility(first) {
			host = "" // OpenWrt: kern.warn kernel: text
		}

		tag, rest, found = strings.Cut(after, " ")
		if !found {
			tag, rest = after, ""
		}

		if !strings.HasSuffix(tag, ":") {
			// Tags such as "(systemd)[1]:" have no spaces either.
			return "", false
		}
	}

	tag = strings.TrimSuffix(tag, ":")
	if tag == "" || strict && tag != "kernel" && !strings.HasSuffix(tag, "]") {
		return "", false
	}

	if host != "" {
		r.host = host
	}

	if name, pid := splitTag(tag); name != "kernel" {
		r.program, r.pid = name, pid
	}

	return rest, true
}

// isFacility reports whether a word is "kern.warn" or the like.
func isFacility(word string) bool {
	facility, severity, found := strings.Cut(word, ".")

	return found && severities[severity] && facility != "" && len(facility) <= 8 &&
		strings.Trim(facility, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// cri reads the "2026-11-25T02:21:31.1Z stdout F text" of a container runtime.
func (d *decoder) cri(r *record, text string) (rest string, ok bool) {
	if len(text) < 20 || text[4] != '-' || text[10] != 'T' {
		return "", false
	}
	stamp, rest, _ := strings.Cut(text, " ")
	stream, rest, _ := strings.Cut(rest, " ")

	tag, rest, found := strings.Cut(rest, " ")
	if !found || stream != "stdout" && stream != "stderr" {
		return "", false
	}

	tag, _, _ = strings.Cut(tag, ":")
	if tag != "F" && tag != "P" {
		return "", false
	}

	t, ok := d.isoTime(stamp)
	if !ok {
		return "", false
	}
	r.wall, r.torn = t, r.torn || tag == "P"

	return rest, true
}

// stripColors removes the colours of dmesg --color=always.
func stripColors(s string) string {
	var b strings.Builder

	for {
		before, after, found := strings.Cut(s, "\x1b[")
		b.WriteString(before)

		if !found {
			return b.String()
		}

		end := strings.IndexFunc(after, func(c rune) bool { return c >= '@' && c <= '~' })
		if end < 0 {
			return b.String()
		}
		s = after[end+1:]
	}
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}

	return s != ""
}
