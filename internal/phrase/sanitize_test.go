// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"testing"
	"unicode/utf8"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestSanitize(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"tmux: server", "tmux: server"},
		{`dev-disk\x2duuid.swap`, `dev-disk\x2duuid.swap`},
		{"a\x1b[31m\n\t\x00\x7f", `a\x1b[31m\x0a\x09\x00\x7f`},
		{"\u0085\u009b", `\u0085\u009b`},
		{"\xff\xc3", `\xff\xc3`},
		{"\u202egpj", `\u202egpj`},
		{"a\u200bb\u00adc\ufeff", `a\u200bb\u00adc\ufeff`},
		{"e\u0301", `e\u0301`},
		{"a\u00a0b\u3000\u3164", `a\u00a0b\u3000\u3164`},
		{"\U000e0041", `\U000e0041`},
		{"\ufffd", "\ufffd"},
		{"Größe 日本 …·µ", "Größe 日本 …·µ"},
	}
	for _, tt := range tests {
		if got := Sanitize(tt.in); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("\x1b[2J\xff\u202e日本")
	f.Fuzz(func(t *testing.T, s string) {
		safe := Sanitize(s)
		if !utf8.ValidString(safe) {
			t.Errorf("%q: got %q, want UTF-8", s, safe)
		}

		for _, r := range safe {
			if !events.Printable(r) {
				t.Errorf("%q: got %U in %q, want printable runes", s, r, safe)
			}
		}

		if again := Sanitize(safe); again != safe {
			t.Errorf("%q: got %q from its result, want %q", s, again, safe)
		}
	})
}
