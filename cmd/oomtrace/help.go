// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Headings of the flags in the help, in this order. Flags without one are general.
const (
	headingOutput    = "Output"
	headingFilters   = "Filters"
	headingEvents    = "Events"
	headingSources   = "Sources"
	headingRecording = "Recording"
	headingTuning    = "Tuning"
	headingGeneral   = "General"
)

var headings = []string{
	headingOutput, headingFilters, headingEvents, headingSources, headingRecording, headingTuning, headingGeneral,
}

const headingAnnotation = "heading"

// addFlags adds flags to a command, and puts them under a heading of its help.
func addFlags(cmd *cobra.Command, heading string, add func(*pflag.FlagSet)) {
	group := pflag.NewFlagSet(heading, pflag.ContinueOnError)
	group.SortFlags = false
	add(group)
	group.VisitAll(func(f *pflag.Flag) { f.Annotations = map[string][]string{headingAnnotation: {heading}} })

	cmd.Flags().SortFlags = false
	cmd.Flags().AddFlagSet(group)
}

func headingOf(f *pflag.Flag) string {
	if h := f.Annotations[headingAnnotation]; len(h) > 0 {
		return h[0]
	}

	return headingGeneral
}

// printHelp writes the help of a command: examples first, and flags under headings, in at
// most 80 columns.
func printHelp(cmd *cobra.Command, _ []string) {
	io.WriteString(cmd.OutOrStdout(), helpText(cmd)) // run reports the error of its writer
}

func helpText(cmd *cobra.Command) string {
	var b strings.Builder
	if cmd.HasExample() {
		fmt.Fprintf(&b, "Examples:\n%s\n\n", cmd.Example)
	}

	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}

	fmt.Fprintf(&b, "%s\n\nUsage:\n", strings.TrimSpace(text))

	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}

	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n\nCommands:\n", cmd.CommandPath())

		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}

	for _, heading := range headings {
		var flags []*pflag.Flag

		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && headingOf(f) == heading {
				flags = append(flags, f)
			}
		})

		if len(flags) == 0 {
			continue
		}

		fmt.Fprintf(&b, "\n%s:\n", heading)

		for _, f := range flags {
			b.WriteString(flagHelp(f))
		}
	}

	return b.String()
}

const (
	// helpColumns is how wide text is wrapped that does not depend on the terminal.
	helpColumns = 80
	// flagColumn is where the description of a flag starts. It follows on a line of its
	// own where the flag is longer than that.
	flagColumn = 27
)

// flagHelp describes one flag: its name, the type or the values that it takes, what it
// does and its default.
func flagHelp(f *pflag.Flag) string {
	name := "      --" + f.Name
	if f.Shorthand != "" {
		name = fmt.Sprintf("  -%s, --%s", f.Shorthand, f.Name)
	}

	value, description := pflag.UnquoteUsage(f)
	if value != "" && f.NoOptDefVal == "" {
		name += " " + value
	}

	if !slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) {
		description += fmt.Sprintf(" (default %s)", strings.TrimSuffix(f.DefValue, "0m0s")) // of a duration
	}

	var b strings.Builder
	indent := strings.Repeat(" ", flagColumn)

	if len(name)+2 > flagColumn {
		b.WriteString(name + "\n" + indent)
	} else {
		fmt.Fprintf(&b, "%-*s", flagColumn, name)
	}

	b.WriteString(strings.Join(wrapped(description, helpColumns-flagColumn), "\n"+indent) + "\n")

	return b.String()
}

// wrapped breaks a text at spaces into lines of at most width bytes. A longer word has a
// line of its own.
func wrapped(text string, width int) []string {
	var lines []string
	line := ""

	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}

		if line != "" {
			line += " "
		}
		line += word
	}

	return append(lines, line)
}
