// SPDX-License-Identifier: Apache-2.0

package main

import (
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

	"github.com/oomtrace/oomtrace/internal/report"
)

type reportFlags struct {
	output       string
	html         string
	id           string
	since, until string
	summary      bool
	wide         bool
	utc          bool
	maxIncidents int
}

var reportOutputs = []string{"text", "json"}

func (f *reportFlags) add(flags *pflag.FlagSet) {
	flags.StringVarP(&f.output, "output", "o", "text", "`format`: "+strings.Join(reportOutputs, ", "))
	flags.StringVar(&f.html, "html", "", "write one self-contained HTML `file` instead; - is stdout")
	flags.StringVar(&f.id, "id", "", "only the incident with this `id`")
	flags.StringVar(&f.since, "since", "", "only incidents since this `time`: 10m ago, 2026-08-20 14:03, or RFC 3339")
	flags.StringVar(&f.until, "until", "", "only incidents until this `time`")
	flags.BoolVar(&f.summary, "summary", false, "only the summary: by workload, cause and time")
	flags.BoolVarP(&f.wide, "wide", "w", false, "leave nothing out: whole ids and paths, every victim, zeros")
	flags.BoolVar(&f.utc, "utc", false, "show times in UTC (JSON always does)")
	flags.IntVar(&f.maxIncidents, "max-incidents", report.DefaultIncidents, "how `many` incidents HTML shows in detail")
}

func (f *reportFlags) options(stdout io.Writer) (report.Options, error) {
	o := report.Options{ID: f.id, SummaryOnly: f.summary, MaxIncidents: f.maxIncidents, Location: time.Local, Now: time.Now()}
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
	var err error
	if o.Since, err = moment("since", f.since, o.Now, o.Location); err != nil {
		return o, err
	}
	if o.Until, err = moment("until", f.until, o.Now, o.Location); err != nil {
		return o, err
	}
	if !o.Since.IsZero() && !o.Until.IsZero() && o.Until.Before(o.Since) {
		return o, usagef("--until is before --since")
	}
	if o.Width, o.Color = terminal(stdout); f.wide {
		o.Width = 0
	}
	return o, nil
}

// moment reads a time as people write it; empty is none.
func moment(flag, s string, now time.Time, loc *time.Location) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	ago := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(s), "ago"))
	if d, err := time.ParseDuration(strings.ReplaceAll(ago, " ", "")); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, loc); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef(`--%s %q: write "10m ago", "2026-08-20 14:03" or RFC 3339`, flag, s)
}

func newReport(stdout, stderr io.Writer) *cobra.Command {
	f := reportFlags{}
	cmd := &cobra.Command{
		Use:   "report FILE",
		Short: "Tell of recorded incidents: text, one HTML file, or a summary of many",
		Long: `  oomtrace report oom.json                      # what -o json has written
  oomtrace report oom.json --html report.html   # one file, for a browser or paper
  oomtrace report oom.json --since "2h ago" --summary
  oomtrace report oom.json --id 5f0c2c1e-17 --wide

report tells of each incident who limited, who triggered, who died and who
killed, what was before, why, and what to do; and of many, how often it hit whom,
by cause and time. It needs no privileges. - reads from stdin.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("report needs the file of a recording, or - for stdin")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runReport(args[0], &f, stdout, stderr) },
	}
	f.add(cmd.Flags())
	return cmd
}

func runReport(from string, f *reportFlags, stdout, stderr io.Writer) error {
	o, err := f.options(stdout)
	if err != nil {
		return err
	}
	source, end, err := openRecording(from)
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
			fmt.Fprintf(stderr, "oomtrace: %s: %d incidents, %d in detail\n", f.html, r.Incidents, r.Detailed)
		}
	case f.output == "json":
		if _, err = report.JSON(stdout, source, o); err == nil {
			for _, remark := range source.Remarks() {
				fmt.Fprintf(stderr, "oomtrace: %s\n", remark)
			}
		}
	default:
		_, err = report.Text(stdout, source, o)
	}
	return err
}

func openRecording(from string) (report.Source, func(), error) {
	if from == "-" {
		return report.NewLines(os.Stdin), func() {}, nil
	}
	file, err := os.Open(from)
	if err != nil {
		return nil, nil, fmt.Errorf("open the recording: %w", err)
	}
	return report.NewLines(file), func() { file.Close() }, nil
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
