// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Sanitize makes a string safe for a terminal. Runes that events.Printable refuses
// become escapes: control characters and bytes that are not UTF-8 as \x1b, other
// runes as \u202e or \U000e0001. Backslashes are kept, because names of systemd units
// contain them; so the result cannot be parsed back, but sanitizing it again changes
// nothing.
func Sanitize(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder

	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1, r < utf8.RuneSelf && !events.Printable(r):
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case events.Printable(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}

	return b.String()
}

func isPlain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}

	return true
}
