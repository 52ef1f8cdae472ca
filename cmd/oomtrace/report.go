// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/timearg"
)

type reportFlags struct {
	queryFlags
	html         string
	perfetto     string
	full         bool
	summary      bool
	maxIncidents int
	raw          bool
}

func (f *reportFlags) add(cmd *cobra.Command) {
	f.queryFlags.add(cmd, "text", "json")
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		flags.Var(newText(&f.html, "path"), "html", "write a self-contained HTML file instead; - is stdout")
		flags.BoolVar(&f.full, "full", false, "print all that is known of each incident, however many there are")
		flags.Var(newText(&f.perfetto, "path"), "perfetto",
			"write a trace for ui.perfetto.dev instead: kills, stalls and counters; - is stdout")
		flags.BoolVar(&f.summary, "summary", false, "print only the summary by workload, cause and time")
		flags.IntVar(&f.maxIncidents, "max-incidents", report.DefaultIncidents,
			"how many incidents to show in detail in HTML")
		metavar(flags, "n", "max-incidents")
		flags.BoolVar(&f.raw, "raw", false, "add the JSON of each incident to the HTML")
	})
}

func (f *reportFlags) options(stdout io.Writer) (report.Options, error) {
	switch {
	case f.html != "" && f.output != "text":
		return report.Options{}, usagef("--html cannot be combined with --output")
	case f.perfetto != "" && (f.html != "" || f.output != "text" || f.summary):
		return report.Options{}, usagef("--perfetto cannot be combined with --html, --output or --summary")
	case f.summary && (f.html != "" || f.output != "text"):
		return report.Options{}, usagef("--summary cannot be combined with --html or --output json")
	case f.raw && f.html == "":
		return report.Options{}, usagef("--raw needs --html: -o json is the whole event")
	case f.maxIncidents < 1:
		return report.Options{}, usagef("--max-incidents %d: must be at least 1", f.maxIncidents)
	}

	o, err := f.queryFlags.options(stdout)
	o.SummaryOnly, o.Full, o.MaxIncidents, o.Raw = f.summary, f.full, f.maxIncidents, f.raw

	return o, err
}

func newReport(stdout, stderr io.Writer) *cobra.Command {
	f := reportFlags{}
	cmd := &cobra.Command{
		Use:   "report [DIR|FILE|-]",
		Short: "Report on incidents from a recording or a kernel log",
		Example: `  sudo oomtrace report                          # /var/log/oomtrace
  oomtrace report oom.json --html report.html   # made by -o json; for a browser
  sudo oomtrace report --since 2h --summary
  sudo oomtrace report /srv/oomtrace -n shop --pod checkout-7d9f
  sudo oomtrace report --perfetto out.pftrace
  oomtrace report oom.json --id 1164701 --wide
  sudo dmesg | oomtrace report -                # if no tracer was running
  oomtrace report /var/log/kern.log.2.gz        # any log, compressed or not`,
		Long: `report explains each incident: whose limit was hit, which allocation triggered
it, which process died, who sent the signal, what preceded it, why it happened
and what to do about it. It sums up many incidents by workload, cause and time.
A kernel log has less information: values that it lacks are listed as unknown.

It finds out what FILE is: a recording, a kernel log in any format and behind
any prefix, or a file of systemd's journal; compressed or not. DIR is a
recording, the records of pstore, a journal, or /var/log. - reads from stdin.
Without an argument it is /var/log/oomtrace, if that exists.

` + timearg.Grammar,
		Args: func(_ *cobra.Command, args []string) error { return f.source.check("report", args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReport(cmd.Context(), args, &f, stdout, stderr)
		},
	}
	f.add(cmd)

	return cmd
}

func runReport(ctx context.Context, args []string, f *reportFlags, stdout, stderr io.Writer) error {
	o, err := f.options(stdout)
	if err != nil {
		return err
	}

	return f.read(ctx, args, o, stderr, func(source report.Source, o report.Options) (report.Result, error) {
		switch {
		case f.perfetto != "":
			return writePerfetto(f.perfetto, source, o, stdout, stderr)
		case f.html == "-":
			return report.HTML(stdout, source, o)
		case f.html != "":
			return writeHTML(f.html, source, o, stderr)
		case f.output == "json":
			return report.JSON(stdout, source, o)
		}

		return report.Text(stdout, source, o)
	})
}

func writeHTML(name string, source report.Source, o report.Options, stderr io.Writer) (r report.Result, err error) {
	err = writeFile(name, func(w io.Writer) (err error) {
		r, err = report.HTML(w, source, o)
		return err
	})
	if err == nil {
		fmt.Fprintf(stderr, "oomtrace: %s: %s, %d in detail\n", name, phrase.Plural(r.Incidents, "incident"), r.Detailed)
	}

	return r, err
}

// writePerfetto writes a trace to a file, or to stdout.
func writePerfetto(name string, source report.Source, o report.Options, stdout, stderr io.Writer) (r report.Result, err error) {
	write := func(w io.Writer) (err error) {
		r, err = report.Perfetto(w, source, o)
		return err
	}

	if name == "-" {
		if _, isTerminal := terminal(stdout); isTerminal {
			return r, usagef("--perfetto - writes binary data: redirect stdout to a file")
		}

		err = write(stdout)
	} else {
		err = writeFile(name, write)
	}

	if err != nil {
		return r, err
	}

	for _, text := range r.Warnings {
		warnings(stderr)(text)
	}

	if name != "-" {
		fmt.Fprintf(stderr, "oomtrace: %s: %s: open it at https://ui.perfetto.dev\n", name, phrase.Plural(r.Incidents, "incident"))
	}

	return r, err
}

// writeFile replaces a file as a whole, or leaves it as it was. Only the owner can read
// it, since a report contains names of processes and paths.
func writeFile(name string, write func(io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() { // a pipe or a device
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}

		return errors.Join(write(file), file.Close())
	}

	file, err := os.CreateTemp(filepath.Dir(name), ".oomtrace-report-*")
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}

	err = write(file)
	if err == nil {
		err = file.Close()
	} else {
		file.Close()
	}

	if err == nil {
		err = os.Rename(file.Name(), name)
	}

	if err != nil {
		os.Remove(file.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}

	return nil
}
