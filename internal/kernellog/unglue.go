// SPDX-License-Identifier: Apache-2.0

package kernellog

import "strings"

// unglue splits a record whose newlines were lost: messages of a report follow each other, each
// behind the kernel's own time.
func unglue(rec record) []record {
	const stamp = " ["

	if !rec.uptime || strings.Count(rec.text, stamp) < 2 {
		return []record{rec}
	}

	var all []record
	one, rest := rec, rec.text

	for at := strings.Index(rest, stamp); at >= 0; at = strings.Index(rest, stamp) {
		inner, after, found := strings.Cut(rest[at+len(stamp):], "] ")
		ns, timed := seconds(strings.TrimSpace(inner))

		if !found || !timed || !strings.Contains(inner, ".") || !startsMessage(after) {
			break
		}

		if ns < one.uptimeNS || ns-one.uptimeNS > uint64(longestPause) {
			break
		}

		one.text, one.torn, one.width = rest[:at], false, 0
		all = append(all, one)

		one.uptimeNS, rest = ns, after
	}

	one.text, one.torn = rest, rec.torn

	if len(all) < 2 {
		return []record{rec}
	}

	return append(all, one)
}
