// SPDX-License-Identifier: Apache-2.0

// Package docs holds the documentation. Its tests check that links lead somewhere, that
// every page can be found, that output is shown as the goldens have it, and that README
// keeps what people look for first.
package docs

import (
	"strings"
	"unicode"
)

// Anchor returns what a heading can be linked by on GitHub.
func Anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}

		return -1
	}, title)
}
