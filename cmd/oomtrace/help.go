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

// printHelp writes the help of a command: usage, examples, text, commands and flags under
// headings, as wide as the terminal.
func printHelp(cmd *cobra.Command, _ []string) {
	out := cmd.OutOrStdout()
	columns := helpColumns

	if w, ok := out.(*writer); ok {
		columns, _ = terminal(w.out)
	}

	io.WriteString(out, helpText(cmd, min(max(columns, leastHelpColumns), mostHelpColumns))) // run reports the error of its writer
}

func helpText(cmd *cobra.Command, columns int) string {
	var b strings.Builder

	b.WriteString("Usage:\n")

	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}

	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", cmd.CommandPath())
	}

	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}

	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}

	fmt.Fprintf(&b, "\n%s\n", reflowed(strings.TrimSpace(text), columns))

	for _, group := range cmd.Groups() {
		fmt.Fprintf(&b, "\n%s:\n", group.Title)
		listCommands(&b, cmd, group.ID, columns)
	}

	if len(cmd.Groups()) == 0 && cmd.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		listCommands(&b, cmd, "", columns)
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
			b.WriteString(flagHelp(f, columns))
		}
	}

	return b.String()
}

// listCommands lists the commands of a group.
func listCommands(b *strings.Builder, cmd *cobra.Command, group string, columns int) {
	for _, sub := range cmd.Commands() {
		if sub.GroupID != group || !sub.IsAvailableCommand() && sub.Name() != "help" {
			continue
		}

		indent := strings.Repeat(" ", sub.NamePadding()+3)
		lines := wrapped(sub.Short, columns-len(indent))
		fmt.Fprintf(b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), strings.Join(lines, "\n"+indent))
	}
}

// reflowed wraps the paragraphs of a text. Indented lines, as of tables, stay as they are.
func reflowed(text string, columns int) string {
	var lines []string
	paragraph := ""

	flush := func() {
		if paragraph != "" {
			lines = append(lines, wrapped(paragraph, columns)...)
		}
		paragraph = ""
	}

	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && line[0] != ' ' {
			paragraph += line + " "
			continue
		}

		flush()

		lines = append(lines, line)
	}

	flush()

	return strings.Join(lines, "\n")
}

const (
	// helpColumns is how wide the help is where there is no terminal.
	helpColumns      = 80
	leastHelpColumns = 60 // for descriptions beside flagColumn
	mostHelpColumns  = 120
	// flagColumn is where the description of a flag starts. It follows on a line of its
	// own where the flag is longer than that.
	flagColumn = 27
)

// metavar sets what the help shows for the value of flags: a type, where pflag has none.
func metavar(flags *pflag.FlagSet, name string, of ...string) {
	for _, flag := range of {
		f := flags.Lookup(flag)
		f.Value = namedValue{f.Value, name}
	}
}

type namedValue struct {
	pflag.Value
	name string
}

func (v namedValue) Type() string { return v.name }

// flagHelp describes one flag: its name, the type or the values that it takes, what it
// does and its default.
func flagHelp(f *pflag.Flag, columns int) string {
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

	b.WriteString(strings.Join(wrapped(description, columns-flagColumn), "\n"+indent) + "\n")

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
