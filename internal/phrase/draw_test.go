// SPDX-License-Identifier: Apache-2.0

package phrase

import "testing"

func TestBarsAreDrawnByEighths(t *testing.T) {
	for share, want := range map[float64]string{-1: "", 0: "", 0.5: "██", 0.53: "██▏", 1: "████", 7: "████"} {
		if got := Bar(share, 4); got != want {
			t.Errorf("%v: got %q, want %q", share, got, want)
		}
	}

	if got := Bar(1, -1); got != "" {
		t.Errorf("got %q in less than no columns, want nothing", got)
	}
}

func TestASCIIKeepsColumns(t *testing.T) {
	for text, want := range map[string]string{
		"12 µs ×3 → a…b": "12 us x3 > a~b", "█▌▏": "#=-", "\x1b[31mred\x1b[0m\n": "\x1b[31mred\x1b[0m\n", "né": "n?", "日本": "????",
	} {
		if got := ASCII(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}

	for r := range plainRunes {
		if got := Width(string(r)); got != 1 {
			t.Errorf("%q takes %d columns, want 1, as its replacement does", r, got)
		}
	}
}
