// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestHelpStartsWithUsageAndFitsATerminal(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)

	for _, columns := range []int{60, 80, 120} {
		for _, cmd := range append(root.Commands(), root) {
			text := helpText(cmd, columns)

			if !strings.HasPrefix(text, "Usage:\n  "+cmd.CommandPath()) {
				t.Errorf("%s: got %.40q, want the usage first", cmd.Name(), text)
			}

			if cmd.HasExample() && strings.Index(text, "\n\nExamples:\n") != strings.Index(text, "\n\n") {
				t.Errorf("%s: got %.200q, want examples after the usage", cmd.Name(), text)
			}

			for line := range strings.Lines(text) {
				// Examples and tables are as wide as they are, up to 80 columns.
				if width := len(strings.TrimRight(line, "\n")); width > max(columns, helpColumns) {
					t.Errorf("%s: got %d columns, want at most %d: %s", cmd.Name(), width, columns, line)
				}
			}
		}
	}
}

func TestHelpReflowsParagraphsAlone(t *testing.T) {
	const text = "one two\nthree:\n  a  table   of this width\n\nfour"
	const want = "one\ntwo\nthree:\n  a  table   of this width\n\nfour"

	if got := reflowed(text, 6); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Each command is in a group: otherwise the help lacks it.
func TestHelpListsEveryCommand(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)
	text := helpText(root, helpColumns)

	for _, cmd := range root.Commands() {
		listed := regexp.MustCompile(`(?m)^  ` + cmd.Name() + ` `).MatchString(text)
		if listed != !cmd.Hidden {
			t.Errorf("%s: got listed %v, want %v", cmd.Name(), listed, !cmd.Hidden)
		}
	}
}

func TestHelpHasEveryFlagOnce(t *testing.T) {
	root := newRoot(io.Discard, io.Discard)

	for _, cmd := range append(root.Commands(), root) {
		text := helpText(cmd, helpColumns)
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
	if got := flagHelp(flags.Lookup("format"), helpColumns); got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	got := flagHelp(flags.Lookup("units-of-the-node"), helpColumns)
	want = `      --units-of-the-node units
                           all units, of which there are so many that the line
                           is too long
`

	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
