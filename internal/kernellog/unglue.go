// SPDX-License-Identifier: Apache-2.0

package kernellog

import "strings"

// newlines are what shippers write for a newline before the kernel's own time.
var newlines = strings.NewReplacer("#012[", " [", `\n[`, " [")

// unglue splits a record whose newlines were lost: messages of a report follow each other, each
// behind the kernel's own time.
func unglue(rec record) []record {
	const stamp = " ["

	text := newlines.Replace(rec.text)
	if !rec.uptime || strings.Count(text, stamp) < 2 {
		return []record{rec}
	}

	var all []record
	one, rest := rec, text

	for from := 0; ; {
		i := strings.Index(rest[from:], stamp)
		if i < 0 {
			break
		}
		at := from + i
		from = at + len(stamp) // a row of the task table has brackets, too

		inner, after, found := strings.Cut(rest[from:], "] ")
		ns, timed := seconds(strings.TrimSpace(inner))

		if !found || !timed || !strings.Contains(inner, ".") || !startsMessage(after) {
			continue
		}

		if ns < one.uptimeNS || ns-one.uptimeNS > uint64(longestPause) {
			break
		}

		one.text, one.torn, one.width = rest[:at], false, 0
		all = append(all, one)

		one.uptimeNS, rest, from = ns, after, 0
	}

	one.text, one.torn = rest, rec.torn

	if len(all) < 2 {
		return []record{rec}
	}

	return append(all, one)
}
