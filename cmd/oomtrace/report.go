// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oomtrace/oomtrace/internal/diagnose"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
	"github.com/oomtrace/oomtrace/internal/report"
	"github.com/oomtrace/oomtrace/internal/timearg"
)

type reportFlags struct {
	formatFlags
	html         string
	selected     selectionFlags
	filter       filter
	source       sourceFlags
	summary      bool
	maxIncidents int
}

func (f *reportFlags) add(cmd *cobra.Command) {
	addFlags(cmd, headingOutput, func(flags *pflag.FlagSet) {
		f.formatFlags.add(flags, "text", "json")
		flags.Var(newText(&f.html, "file"), "html", "write a self-contained HTML file instead; - is stdout")
		flags.BoolVar(&f.summary, "summary", false, "print only the summary by workload, cause and time")
		flags.IntVar(&f.maxIncidents, "max-incidents", report.DefaultIncidents,
			"`number` of incidents to show in detail in HTML")
	})
	addFlags(cmd, headingFilters, f.selected.add)
	addFlags(cmd, headingFilters, f.filter.add)
	addFlags(cmd, headingSources, f.source.add)
}

func (f *reportFlags) options(stdout io.Writer) (report.Options, error) {
	text := f.textOptions(stdout)
	history := &history{}
	o := report.Options{
		SummaryOnly: f.summary, MaxIncidents: f.maxIncidents, Now: time.Now(), Enrich: history.explain, Observe: history.journal.Add,
		Width: text.Width, Color: text.Color, Location: text.Location,
	}

	switch {
	case f.html != "" && f.output != "text":
		return o, usagef("--html cannot be combined with --output")
	case f.summary && (f.html != "" || f.output != "text"):
		return o, usagef("--summary cannot be combined with --html or --output json")
	case f.maxIncidents < 1:
		return o, usagef("--max-incidents %d: must be at least 1", f.maxIncidents)
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

	return o, nil
}

func newReport(stdout, stderr io.Writer) *cobra.Command {
	f := reportFlags{}
	cmd := &cobra.Command{
		Use:   "report [DIR|FILE|-]",
		Short: "Report on incidents from a recording or a kernel log",
		Example: `  sudo oomtrace report /var/log/oomtrace        # a recording
  oomtrace report oom.json --html report.html   # made by -o json; for a browser
  sudo oomtrace report /var/log/oomtrace --since "2h ago" --summary
  sudo oomtrace report /var/log/oomtrace -n shop --pod checkout-7d9f
  oomtrace report oom.json --id 5f0c2c1e-17 --wide
  sudo dmesg | oomtrace report -                # if no tracer was running
  oomtrace report /var/log/kern.log.2.gz        # any log, compressed or not`,
		Long: `report explains each incident: whose limit was hit, which allocation triggered
it, which process died, who sent the signal, what preceded it, why it happened
and what to do about it. It sums up many incidents by workload, cause and time.
A kernel log has less information: values that it lacks are listed as unknown.

It finds out what FILE is: a recording, a kernel log in any format and behind
any prefix, or a file of systemd's journal; compressed or not. DIR is a
recording, the records of pstore, a journal, or /var/log. - reads from stdin.

` + timearg.Grammar,
		Args: func(_ *cobra.Command, args []string) error { return f.source.check(args) },
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
			fmt.Fprintf(stderr, "oomtrace: %s: %s, %d in detail\n",
				f.html, phrase.Plural(r.Incidents, "incident"), r.Detailed)
		}
	case f.output == "json":
		var r report.Result

		r, err = report.JSON(stdout, source, o)
		for _, text := range r.Warnings {
			warnings(stderr)(text)
		}
	default:
		_, err = report.Text(stdout, source, o)
	}

	return err
}

// history explains incidents by themselves and by those before them.
type history struct{ journal diagnose.Journal }

// explain adds the causes to an incident that has none: one of an older recording, or of a kernel
// log; and the OOM kill that it followed from.
func (h *history) explain(inc *events.Incident) {
	if inc.Follows == nil {
		inc.Follows = h.journal.Follows(inc)
	}

	if len(inc.Causes) == 0 {
		inc.Causes = h.journal.Diagnose(inc)
	}
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
