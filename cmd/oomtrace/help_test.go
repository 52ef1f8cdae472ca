// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestHelpStartsWithExamplesAndFitsATerminal(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)

	for _, cmd := range append(root.Commands(), root) {
		text := helpText(cmd)

		if cmd.HasExample() && !strings.HasPrefix(text, "Examples:\n") {
			t.Errorf("%s: got %.40q, want examples first", cmd.Name(), text)
		}

		for line := range strings.Lines(text) {
			if width := len(strings.TrimRight(line, "\n")); width > helpColumns {
				t.Errorf("%s: got %d columns, want at most %d: %s", cmd.Name(), width, helpColumns, line)
			}
		}
	}
}

func TestHelpHasEveryFlagOnce(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)

	for _, cmd := range append(root.Commands(), root) {
		text := helpText(cmd)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			want := 1
			if f.Hidden {
				want = 0
			}

			// A flag's line starts with its name, or with the shorthand before it.
			line := regexp.MustCompile(`(?m)^  (-., |    )--` + f.Name + `( |$)`)
			if got := len(line.FindAllString(text, -1)); got != want {
				t.Errorf("%s: got --%s in %d lines, want %d", cmd.Name(), f.Name, got, want)
			}
		})
	}
}

// A long flag has its description on the next line, a short one on its own.
func TestFlagHelp(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	var format, units string
	flags.VarP(newChoice(&format, "text", "json"), "format", "f", "how to print")
	flags.StringVar(&units, "units-of-the-node", "",
		"all `units`, of which there are so many that the line is too long")

	want := "  -f, --format text|json   how to print (default text)\n"
	if got := flagHelp(flags.Lookup("format")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	got := flagHelp(flags.Lookup("units-of-the-node"))
	want = `      --units-of-the-node units
                           all units, of which there are so many that the line
                           is too long
`

	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestChoicesAreCompleted(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)

	cmd, _, err := root.Find([]string{"report"})
	if err != nil {
		t.Fatal(err)
	}

	complete, ok := cmd.GetFlagCompletionFunc("output")
	if !ok {
		t.Fatal("got no completion of report --output, want its formats")
	}

	if got, _ := complete(cmd, nil, ""); !slices.Equal(got, []string{"text", "json"}) {
		t.Errorf("got %q, want text and json", got)
	}
}
