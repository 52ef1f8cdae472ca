// SPDX-License-Identifier: Apache-2.0

package kernellog

import (
	"slices"
	"strings"
)

const (
	// maxHeld bounds the lines that wait for a neighbour. A report has its first certain line
	// among its first three.
	maxHeld = 32
	// longestWait is after how many further lines of the log they are read without one.
	longestWait = 256
)

// longestName is the length of a task's name (include/linux/sched.h: TASK_COMM_LEN, with its
// zero).
const longestName = 15

// heldLine is a line whose message has no known start yet.
type heldLine struct {
	record
	text string
	message
	// before is what stands before a certain message, or before a prefix of a known format.
	before string
	// stamped is true if such a prefix follows.
	stamped bool
	// known and rest are how the line is read if it starts with a prefix of a known format.
	known *record
	rest  string
}

// open takes in the text of a line behind which no known format shows where the kernel's
// message starts.
func (d *decoder) open(r record, text string) []record {
	h := heldLine{record: r, text: text, message: find(text)}
	if h.certain() && strings.Trim(text[:h.at], " \t") == "" {
		d.prefixes = nil // this log has none
		indent := &prefix{parts: []part{{isText, text[:h.at]}}}

		return append(d.release(indent), d.finish(r, text[h.at:]))
	}

	if p, one, rest, ok := d.learnt(&h); ok {
		return append(d.release(p), d.finish(one, rest))
	}

	h.before, h.stamped = d.split(&h)

	switch {
	case h.before != "" && (h.clear() || d.confirms(&h)):
		p := newPrefix(h.before, h.stamped)
		if one, rest, ok := d.behind(p, &h); ok {
			d.learn(p)
			return append(d.release(p), d.finish(one, rest))
		}
	case h.kind == isNone && len(d.held) == 0:
		return []record{d.finish(r, text)}
	}

	return d.hold(h)
}

// hold lets a line wait. If too many do, it returns them all.
func (d *decoder) hold(h heldLine) []record {
	d.held = append(d.held, h)
	if len(d.held) >= maxHeld {
		return d.release(nil)
	}

	return nil
}

// split returns what of a line's text is foreign: what stands before a prefix of a known
// format, else before the message. It is empty if neither is found.
func (d *decoder) split(h *heldLine) (before string, stamped bool) {
	limit := min(len(h.text), maxPrefix)
	if h.kind != isNone {
		limit = min(limit, h.at)
	}

	for i := 1; i < limit; i++ {
		if isAlnum(h.text[i-1]) || isBlank(h.text[i]) || strings.IndexByte(".-/", h.text[i-1]) >= 0 {
			continue
		}

		r := h.record
		if rest, seen, ok := d.strip(&r, h.text[i:], behind); ok && seen&fromKernel != 0 && h.startsIn(&r, rest) {
			return h.text[:i], true
		}
	}

	if h.certain() && h.at <= maxPrefix {
		return h.text[:h.at], false
	}

	return "", false
}

// kernelTag is how every syslog marks the lines of the kernel.
const kernelTag = "kernel: "

// tagged returns where the kernel's tag before the message ends, 0 if there is none.
func (h *heldLine) tagged() int {
	i := strings.Index(h.text[:min(h.at, maxPrefix)], kernelTag)
	if i < 0 || i > 0 && isAlnum(h.text[i-1]) || i+len(kernelTag) >= len(h.text) {
		return 0
	}

	return i + len(kernelTag)
}

// startsIn reports whether rest, which stands behind a known prefix, can be the message of
// the line.
func (h *heldLine) startsIn(r *record, rest string) bool {
	switch {
	case r.program != "":
		return true
	case h.certain():
		return find(rest).kind == h.kind && strings.Trim(rest[:find(rest).at], " \t") == ""
	case h.named:
		return strings.HasSuffix(h.text, rest) && find(rest).at > 0 && find(rest).at <= maxComm
	}

	return false
}

// clear reports whether what stands before the message is a label of some log, by its own
// words: without another line that has it, too.
func (h *heldLine) clear() bool {
	if (h.stamped || strings.HasSuffix(h.before, kernelTag)) && h.kind != isNone {
		return proseWords(h.before) <= 1 && !strings.ContainsAny(h.before, "\"'`")
	}

	return isLabel(h.before)
}

// confirms reports whether a line that is held has the same prefix as h before another kind
// of message.
func (d *decoder) confirms(h *heldLine) bool {
	p := newPrefix(h.before, h.stamped)

	return slices.ContainsFunc(d.held, func(other heldLine) bool {
		if other.kind == h.kind || other.kind == isNone || other.stamped != h.stamped {
			return false
		}

		if other.certain() || other.before != "" {
			return p.matches(other.before)
		}

		n, ok := p.match(other.text)

		return ok && n < other.at && other.at-n <= longestName
	})
}

// learnt looks for a learnt prefix that a line has.
func (d *decoder) learnt(h *heldLine) (p *prefix, r record, rest string, ok bool) {
	for i, p := range d.prefixes {
		if r, rest, ok := d.behind(p, h); ok {
			d.prefixes = slices.Insert(slices.Delete(d.prefixes, i, i+1), 0, p)
			return p, r, rest, true
		}
	}

	return nil, r, "", false
}

// learn remembers a prefix, instead of the one that was not used for the longest time.
func (d *decoder) learn(p *prefix) {
	d.prefixes = slices.Insert(d.prefixes[:min(len(d.prefixes), maxPrefixes-1)], 0, p)
}

// behind reads a line behind a prefix.
func (d *decoder) behind(p *prefix, h *heldLine) (r record, rest string, ok bool) {
	n, ok := p.match(h.text)
	if !ok || h.certain() && h.at < n || h.named && h.at <= n {
		return r, "", false
	}

	unquoted := p.unquote(h.text[n:])
	r = h.record

	rest, seen, ok := d.strip(&r, unquoted, behind)
	if ok && h.named && (!find(rest).named || find(rest).at == 0) { // it was the name that looks like a prefix
		r, rest, seen = h.record, unquoted, 0
	}

	if !ok || p.stamped && seen&fromKernel == 0 {
		return r, "", false
	}

	if !p.stamped && h.certain() && strings.Trim(h.text[n:h.at], " \t") != "" && seen&fromKernel == 0 {
		return r, "", false
	}

	if p.source != "" {
		r.caller = p.source + " " + r.caller
	}

	return r, rest, true
}

// release returns the held lines, read with the prefix that was found, or each by itself.
// Those of another source than the prefix wait on.
func (d *decoder) release(p *prefix) []record {
	held := d.held
	d.held = nil

	var out []record

	for _, h := range held {
		if p != nil {
			if r, rest, ok := d.behind(p, &h); ok {
				out = append(out, d.finish(r, rest))
				continue
			}

			if p.source != "" {
				d.held = append(d.held, h)
				continue
			}
		}

		if r, ok := d.alone(&h); ok {
			out = append(out, r)
		}
	}

	return out
}

// alone reads a held line that no other line explains. What starts the line and is as short
// as a name is taken for one.
func (d *decoder) alone(h *heldLine) (record, bool) {
	if _, r, rest, ok := d.learnt(h); ok {
		return d.finish(r, rest), true
	}

	trimmed := strings.TrimLeft(h.text, " \t")

	switch {
	case h.known != nil:
		return d.finish(*h.known, h.rest), true
	case h.named && !h.dated && h.at-(len(h.text)-len(trimmed)) <= longestName:
		return d.finish(h.record, trimmed), true
	case h.named && h.at > longestName && h.tagged() > 0 && h.at-h.tagged() <= longestName:
		return d.finish(h.record, h.text[h.tagged():]), true
	case looksLikeKill(h.text):
		h.unread, h.record.text = true, h.text
		return h.record, true
	}

	return d.finish(h.record, h.text), true
}
