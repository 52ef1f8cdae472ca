// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// suggestDistance is how many edits a suggestion is away at most.
const suggestDistance = 2

// unknownCommand is the error about a name that is no command, with those that may be meant.
func unknownCommand(root *cobra.Command, name string) error {
	root.SuggestionsMinimumDistance = suggestDistance

	return usagef("unknown command %q%s", name, didYouMean("", root.SuggestionsFor(name)))
}

// suggestFlag adds the flags that may be meant to the error about one that does not exist.
func suggestFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || len(unknown.GetSpecifiedName()) < 2 { // a shorthand
		return err
	}

	nearest, distance := []string(nil), suggestDistance

	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		n := edits(unknown.GetSpecifiedName(), f.Name)
		if f.Hidden || n > distance {
			return
		}

		if n < distance {
			nearest, distance = nil, n
		}

		nearest = append(nearest, f.Name)
	})

	return fmt.Errorf("%w%s", err, didYouMean("--", nearest))
}

func didYouMean(prefix string, names []string) string {
	if len(names) == 0 {
		return ""
	}

	return " (did you mean " + prefix + strings.Join(names, " or "+prefix) + "?)"
}

// edits is the Levenshtein distance of two names: how many characters must be inserted, removed or
// replaced.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}

	for i := range len(a) {
		above := row[0] // of the row before, to the left
		row[0] = i + 1

		for j := range len(b) {
			cost := above
			if a[i] != b[j] {
				cost++
			}

			above = row[j+1]
			row[j+1] = min(cost, above+1, row[j]+1)
		}
	}

	return row[len(b)]
}
