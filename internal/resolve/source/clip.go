// SPDX-License-Identifier: Apache-2.0

package source

import "unicode/utf8"

// Ellipsis ends text that was cut.
const Ellipsis = "…"

// Clip cuts text to so many bytes, at the start of a rune, and ends it with Ellipsis.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}

	end := limit - len(Ellipsis)
	for end > 0 && end > limit-len(Ellipsis)-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}

	// A copy, so that the whole text is not kept in memory.
	return string(append([]byte(s[:end]), Ellipsis...))
}
