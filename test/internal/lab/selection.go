// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"
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

// Select returns which of the subtests of t are selected. It fails t if none is: package
// testing passes a test of which -run selects no subtest.
func Select(t testing.TB, names ...string) []string {
	t.Helper()

	selected := Selected().below(t.Name(), names)
	if len(selected) == 0 {
		t.Fatalf("-run selects nothing in %s; there are: %s", t.Name(), strings.Join(names, ", "))
	}

	return selected
}

// below returns the selected ones of the subtests of a test, which is itself one at any
// level.
func (s Selection) below(test string, names []string) (selected []string) {
	for _, name := range names {
		if s.Has(strings.Split(test+"/"+name, "/")...) {
			selected = append(selected, name)
		}
	}

	return selected
}
