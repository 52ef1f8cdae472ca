// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/timearg"
)

func newList(stdout, stderr io.Writer) *cobra.Command {
	var f queryFlags
	cmd := &cobra.Command{
		Use:   "list [DIR|FILE|-]",
		Short: "List incidents of a recording or a kernel log, one per row",
		Example: `  sudo oomtrace list                     # /var/log/oomtrace
  sudo oomtrace list --since 1h -n shop
  sudo dmesg | oomtrace list -`,
		Long: `list prints one row for each incident: its ID, when, who was killed, where, at
which limit and why. "oomtrace show ID" prints all that is known of one.

It reads whatever "oomtrace report" reads; without an argument, /var/log/oomtrace.

` + timearg.Grammar,
		Args: func(_ *cobra.Command, args []string) error { return f.source.check("list", args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(stdout)
			if err != nil {
				return err
			}

			return f.read(cmd.Context(), args, o, stderr, func(source report.Source, o report.Options) (report.Result, error) {
				if f.output == "json" {
					return report.JSON(stdout, source, o)
				}

				return report.List(stdout, source, o)
			})
		},
	}
	f.add(cmd, "table", "json")

	return cmd
}

func newShow(stdout, stderr io.Writer) *cobra.Command {
	var f queryFlags
	cmd := &cobra.Command{
		Use:   "show ID [DIR|FILE|-]",
		Short: "Print all that is known of one incident",
		Example: `  sudo oomtrace show 1164701             # of /var/log/oomtrace
  oomtrace show 1164701 oom.json -o json | jq .`,
		Long: `show prints everything about an incident: the evidence of each cause, all advice,
each process, and what could not be known. ID is what headlines and
"oomtrace list" print, or any unique prefix of the full ID.

It reads whatever "oomtrace report" reads; without DIR or FILE, /var/log/oomtrace.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return usagef("show needs the ID of an incident, as oomtrace list prints it")
			}

			return f.source.check("show", args[1:])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.selected.id = args[0]

			o, err := f.options(stdout)
			if err != nil {
				return err
			}
			o.Full = true

			return f.read(cmd.Context(), args[1:], o, stderr, func(source report.Source, o report.Options) (report.Result, error) {
				if f.output == "json" {
					return report.JSON(stdout, source, o)
				}

				return report.Text(stdout, source, o)
			})
		},
	}
	f.addOfOne(cmd, "text", "json")

	return cmd
}
