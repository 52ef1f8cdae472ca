// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"flag"
	"regexp"
	"slices"
)

// Selection is the pattern of -run, as package testing reads it: alternatives between |,
// and in each a regular expression for each level of subtests. One boot runs all selected
// cases, so they must be known before the subtests run.
type Selection [][]*regexp.Regexp

// Selected returns the selection of this test run.
func Selected() Selection { return parseSelection(flag.Lookup("test.run").Value.String()) }

func parseSelection(pattern string) (s Selection) {
	depth, start := 0, 0
	levels := []*regexp.Regexp{}
	cut := func(end int) { levels = append(levels, regexp.MustCompile(pattern[start:end])); start = end + 1 }

	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '\\':
			i++
		case c == '[' || c == '(':
			depth++
		case c == ']' || c == ')':
			depth--
		case depth == 0 && c == '/':
			cut(i)
		case depth == 0 && c == '|':
			cut(i)

			s, levels = append(s, levels), nil
		}
	}

	cut(len(pattern))

	return append(s, levels)
}

// Has reports whether a subtest, or one below it, is selected.
func (s Selection) Has(path ...string) bool {
	return slices.ContainsFunc(s, func(levels []*regexp.Regexp) bool {
		for i, level := range levels[:min(len(levels), len(path))] {
			if !level.MatchString(path[i]) {
				return false
			}
		}

		return true
	})
}

// Level returns the pattern of a level of subtests in the first alternative; "" is any.
func (s Selection) Level(n int) string {
	if len(s[0]) <= n {
		return ""
	}

	return s[0][n].String()
}
