// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/timearg"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

type reportFlags struct {
	output       string
	html         string
	selected     selectionFlags
	filter       filter
	source       sourceFlags
	summary      bool
	wide         bool
	utc          bool
	maxIncidents int
}

var reportOutputs = []string{"text", "json"}

func (f *reportFlags) add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.output, "output", "o", "text", "`format`: "+strings.Join(reportOutputs, ", "))
	flags.Var((*word)(&f.html), "html", "write one self-contained HTML `file` instead; - is stdout")
	f.selected.add(flags)
	f.filter.add(flags)
	f.source.add(flags)
	flags.BoolVar(&f.summary, "summary", false, "only the summary: by workload, cause and time")
	flags.BoolVarP(&f.wide, "wide", "w", false, "leave nothing out: whole ids and paths, every victim, zeros")
	flags.BoolVar(&f.utc, "utc", false, "show times in UTC (JSON always does)")
	flags.IntVar(&f.maxIncidents, "max-incidents", report.DefaultIncidents, "how `many` incidents HTML shows in detail")
}

func (f *reportFlags) options(stdout io.Writer) (report.Options, error) {
	o := report.Options{
		SummaryOnly: f.summary, MaxIncidents: f.maxIncidents, Location: time.Local, Now: time.Now(), Enrich: explained(),
	}
	if f.utc {
		o.Location = time.UTC
	}

	switch {
	case !slices.Contains(reportOutputs, f.output):
		return o, usagef("--output %q: it is one of %s", f.output, strings.Join(reportOutputs, ", "))
	case f.html != "" && f.output != "text":
		return o, usagef("--html and --output exclude each other")
	case f.summary && (f.html != "" || f.output != "text"):
		return o, usagef("--summary is for text only: HTML begins with it")
	case f.maxIncidents < 1:
		return o, usagef("--max-incidents %d: it is at least 1", f.maxIncidents)
	}

	selected, err := f.selected.selection(o.Now.In(o.Location))
	if err != nil {
		return o, err
	}

	o.ID, o.Since, o.Until = selected.ID, selected.Since, selected.Until
	if err := f.filter.check(); err != nil {
		return o, err
	}

	if f.filter.active() {
		o.Match = f.filter.incident
	}

	if o.Width, o.Color = terminal(stdout); f.wide {
		o.Width = 0
	}

	return o, nil
}

func newReport(stdout, stderr io.Writer) *cobra.Command {
	f := reportFlags{}
	cmd := &cobra.Command{
		Use:   "report [DIR|FILE|-]",
		Short: "Tell of recorded incidents, or of a kernel's log: text, one HTML file, a summary",
		Long: `  sudo oomtrace report /var/log/oomtrace             # a recording
  oomtrace report oom.json --html report.html        # of -o json; for a browser or paper
  sudo oomtrace report /var/log/oomtrace --since "2h ago" --summary
  sudo oomtrace report /var/log/oomtrace -n shop --pod checkout-7d9f
  oomtrace report oom.json --id 5f0c2c1e-17 --wide
  sudo dmesg | oomtrace report --kernel-log -        # nothing was running? the log has to do

report tells of each incident who limited, who triggered, who died and who
killed, what was before, why, and what to do; and of many, how often it hit whom,
by cause and time. A kernel's log tells less: what it cannot tell is named. - reads
from stdin.

` + timearg.Grammar,
		Args: func(_ *cobra.Command, args []string) error { return f.source.check(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			return runReport(cmd.Context(), args, &f, stdout, stderr)
		},
	}
	f.add(cmd.Flags())

	return cmd
}

func runReport(ctx context.Context, args []string, f *reportFlags, stdout, stderr io.Writer) error {
	o, err := f.options(stdout)
	if err != nil {
		return err
	}

	source, end, err := f.source.open(ctx, args, o.Location, stderr)
	if err != nil {
		return err
	}
	defer end()

	switch {
	case f.html == "-":
		_, err = report.HTML(stdout, source, o)
	case f.html != "":
		var r report.Result

		err = writeFile(f.html, func(w io.Writer) (err error) {
			r, err = report.HTML(w, source, o)
			return err
		})
		if err == nil {
			fmt.Fprintf(stderr, "oomtrace: %s: %s, %d in detail\n", f.html, phrase.Plural(r.Incidents, "incident"), r.Detailed)
		}
	case f.output == "json":
		var r report.Result

		r, err = report.JSON(stdout, source, o)
		for _, remark := range r.Remarks {
			fmt.Fprintf(stderr, "oomtrace: %s\n", remark)
		}
	default:
		_, err = report.Text(stdout, source, o)
	}

	return err
}

// explained gives incidents their causes, where the recording does not have them,
// and a kernel's log never has.
func explained() func(*events.Incident) {
	var journal diagnose.Journal

	return func(inc *events.Incident) {
		if len(inc.Causes) == 0 {
			inc.Causes = diagnose.Diagnose(inc, journal.Before(inc))
		}

		journal.Add(inc)
	}
}

// writeFile puts a whole file in the place of the old one, or leaves that alone.
// It is for its owner only: names of processes and paths are in it.
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
		return fmt.Errorf("make %s: %w", name, err)
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
